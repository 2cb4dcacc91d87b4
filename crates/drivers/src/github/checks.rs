//! What CI says of commits.

use std::collections::{BTreeMap, BTreeSet};

use planner::forge::{Check, Checks};
use planner::identity::Sha;
use planner::resource::Failure;
use serde_json::json;

use super::forge::GitHubForge;
use super::listing::node;
use super::query::{self, Context, WithCommit};

pub(super) async fn of(forge: &GitHubForge, shas: &BTreeSet<Sha>) -> Result<BTreeMap<Sha, Checks>, Failure> {
    let repository = forge.repository().await?;
    let mut all = BTreeMap::new();
    for sha in shas {
        let variables = json!({ "id": repository.node, "sha": sha });
        let with: WithCommit = node(&forge.github, repository.who, query::CHECKS, variables).await?;
        let Some(commit) = with.object else {
            return Err(Failure::transient(format!("GitHub does not know the commit {sha}")));
        };
        let mut checks = Checks::new();
        // A workflow that nobody let begin has no run yet: it counts by its own name.
        for suite in commit.check_suites.into_iter().flat_map(|suites| suites.nodes) {
            let awaiting = suite.conclusion.as_deref() == Some("ACTION_REQUIRED") || suite.status == "WAITING";
            if let Some(run) = suite.workflow_run.filter(|_| awaiting) {
                checks.insert(run.workflow.name, Check::Awaiting);
            }
        }
        if let Some(rollup) = commit.status_check_rollup {
            if rollup.contexts.page_info.has_next() {
                tracing::warn!(%sha, "more than 100 checks: the others are not looked at");
            }
            for context in rollup.contexts.nodes {
                let (name, check) = read(context);
                // Of several with one name all must be green.
                let worst = checks.get(&name).map_or(check, |other| rank(*other).max(rank(check)).1);
                checks.insert(name, worst);
            }
        }
        all.insert(*sha, checks);
    }
    Ok(all)
}

fn read(context: Context) -> (String, Check) {
    match context {
        Context::CheckRun { name, status, conclusion } => {
            let check = match (status.as_str(), conclusion.as_deref()) {
                ("COMPLETED", Some("SUCCESS" | "NEUTRAL" | "SKIPPED")) => Check::Green,
                ("COMPLETED", Some("ACTION_REQUIRED")) | ("WAITING", _) => Check::Awaiting,
                ("COMPLETED", _) => Check::Red,
                _ => Check::Pending,
            };
            (name, check)
        }
        Context::StatusContext { context, state } => {
            let check = match state.as_str() {
                "SUCCESS" => Check::Green,
                "PENDING" | "EXPECTED" => Check::Pending,
                _ => Check::Red,
            };
            (context, check)
        }
    }
}

fn rank(check: Check) -> (u8, Check) {
    let rank = match check {
        Check::Green => 0,
        Check::Pending => 1,
        Check::Awaiting => 2,
        Check::Red => 3,
    };
    (rank, check)
}
