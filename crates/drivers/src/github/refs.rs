//! Branches and tags.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::event::Head;
use planner::identity::{Ref, Sha};
use planner::resource::Failure;
use serde_json::json;
use tokio::time::Instant;

use super::GitHub;
use super::forge::GitHubForge;
use super::listing::node;
use super::query::{self, WithRefs};
use super::repository::Repository;
use crate::git::unknown;

/// As long as GitHub tells of no push they are listed this often.
const STALE: Duration = Duration::from_secs(600);
/// Pages of a hundred that are read at most.
const PAGES: usize = 100;

/// Refs of one repository as they were listed last.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pushed: Option<String>,
    at: Instant,
    refs: Vec<(Ref, Sha)>,
}

/// Those that are watched or asked for.
pub(super) async fn heads(
    github: &GitHub,
    forge: &GitHubForge,
    repository: &Repository,
    also: &BTreeSet<Ref>,
    pushed: Option<String>,
) -> Result<Vec<Head>, Failure> {
    let watched = &forge.watched.refs;
    if watched.is_empty() && also.is_empty() {
        return Ok(Vec::new());
    }
    let fresh = |known: &Known| known.pushed == pushed && known.at.elapsed() < STALE;
    let all = match forge.refs().filter(fresh) {
        Some(known) => known.refs,
        None => {
            let refs = list(github, repository).await?;
            forge.keep_refs(Known { pushed, at: Instant::now(), refs: refs.clone() });
            refs
        }
    };
    let wanted = all.into_iter().filter(|(name, _)| {
        also.contains(name) || matches!(name, Ref::Branch(short) | Ref::Tag(short) if watched.is_match(short))
    });
    Ok(wanted.map(|(name, sha)| head(name, sha)).collect())
}

/// The branch or tag that a person means.
pub(super) async fn find(github: &GitHub, forge: &GitHubForge, name: &str) -> Result<Head, Failure> {
    let repository = forge.repository().await?;
    let all = list(github, &repository).await?;
    let found = |wanted: &dyn Fn(&Ref, &Sha) -> bool| -> Vec<Head> {
        all.iter().filter(|(name, sha)| wanted(name, sha)).map(|(name, sha)| head(name.clone(), *sha)).collect()
    };
    if let Ok(wanted) = name.parse::<Ref>()
        && let Some(head) = found(&|name, _| *name == wanted).pop()
    {
        return Ok(head);
    }
    if let Ok(wanted) = name.parse::<Sha>() {
        let tips = found(&|_, sha| *sha == wanted);
        let none = || Failure::permanent(format!("no branch or tag points to the commit {wanted}; push a tag to it"));
        return tips.into_iter().min_by_key(|head| !matches!(head.name, Ref::Branch(_))).ok_or_else(none);
    }
    let mut named = found(&|known, _| matches!(known, Ref::Branch(short) | Ref::Tag(short) if short == name));
    match (named.pop(), named.pop()) {
        (Some(head), None) => Ok(head),
        (Some(_), Some(_)) => {
            Err(Failure::permanent(format!("{name} is both a branch and a tag: write branch/{name} or tag/{name}")))
        }
        (None, _) => {
            let names: Vec<String> = found(&|_, _| true).into_iter().map(|head| head.title).collect();
            Err(Failure::permanent(unknown(name, &names)))
        }
    }
}

fn head(name: Ref, sha: Sha) -> Head {
    let title = match &name {
        Ref::Branch(short) | Ref::Tag(short) => short.clone(),
        Ref::Pull(number) => format!("pull request {number}"),
    };
    Head { name, sha, foreign: false, title, pull: None }
}

/// All of them, or an error.
async fn list(github: &GitHub, repository: &Repository) -> Result<Vec<(Ref, Sha)>, Failure> {
    let mut refs = Vec::new();
    for (prefix, kind) in [("refs/heads/", Ref::Branch as fn(String) -> Ref), ("refs/tags/", Ref::Tag)] {
        let (mut after, mut listed): (Option<String>, usize) = (None, 0);
        for page in 1.. {
            let variables = json!({ "id": repository.node, "prefix": prefix, "after": after });
            let with: WithRefs = node(github, repository.who, query::REFS, variables).await?;
            let Some(some) = with.refs else { break };
            listed += some.nodes.len();
            refs.extend(some.nodes.iter().filter_map(|of| Some((kind(of.name.clone()), of.commit()?))));
            after = some.page_info.next().map(str::to_owned);
            if after.is_none() && listed == some.total_count {
                break;
            }
            if after.is_none() || page == PAGES {
                return Err(Failure::transient(format!(
                    "GitHub lists {listed} of {} refs of {}; asked again",
                    some.total_count,
                    repository.full()
                )));
            }
        }
    }
    Ok(refs)
}
