//! What is over for thirty days is forgotten, name and page with it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Eyes;
use crate::facts::{EnvRow, Fact};
use crate::identity::{ProjectName, Sha};
use crate::resource::Owner;

/// How long names and pages of what was removed stay.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Rows that nobody needs any more.
pub(super) fn forget(eyes: &Eyes<'_>) -> Vec<Fact> {
    let (now, facts) = (eyes.now(), eyes.facts());
    let mut forgotten = Vec::new();
    let seen: BTreeSet<&Owner> = eyes.inventory.seen.keys().map(|id| &id.owner).collect();
    let is_seen = |owner: Owner| seen.contains(&owner);
    for row in facts.refs.values() {
        let closed = row.closed.is_some_and(|closed| now >= closed.after(REMEMBERED));
        if closed && !eyes.has_life(&row.project, row.commits.iter().map(|listed| &listed.sha)) {
            forgotten.push(Fact::NoRef(row.project.clone(), row.name.clone()));
        }
    }
    for (id, row) in &facts.envs {
        let over = row.gone.is_some_and(|gone| now >= gone.at.after(REMEMBERED));
        let unused = row.begun.is_none() && row.gone.is_none() && row.asked.is_none() && row.admitted.is_none();
        let listed = eyes.commit_of(&row.of).is_some_and(|commit| !commit.open.is_empty());
        // While a ref has the commit, its row is what keeps it from being staged again.
        if (over || unused) && !listed && eyes.sees_all() && !is_seen(Owner::Env(id.clone())) {
            forgotten.push(Fact::NoEnv(id.clone()));
        }
    }
    for name in &facts.taken_out {
        let refs = facts.refs.keys().any(|(project, _)| project == name);
        let envs = facts.envs.values().any(|row| row.of.project == *name);
        let images = facts.images.keys().any(|id| matches!(&id.owner, Owner::Project(project, _) if project == name));
        if !refs && !envs && !images {
            forgotten.push(Fact::NoProject(name.clone()));
        }
    }
    let unknown = |key: &(ProjectName, Sha)| eyes.standing.commit(&key.0, &key.1).is_none();
    let sources = facts.sources.keys().filter(|key| unknown(key));
    forgotten.extend(sources.map(|(project, sha)| Fact::NoSource(project.clone(), *sha)));
    let approvals = facts.approvals.values().filter(|approval| {
        unknown(&(approval.project.clone(), approval.sha)) && now >= approval.until.after(REMEMBERED)
    });
    forgotten.extend(approvals.map(|approval| Fact::NoApproval(approval.project.clone(), approval.sha)));
    forgotten
}

impl Eyes<'_> {
    fn has_life<'s>(&self, project: &ProjectName, mut shas: impl Iterator<Item = &'s Sha>) -> bool {
        shas.any(|sha| {
            let ids = self.facts().ids.get(&(project.clone(), *sha));
            let rows = ids.into_iter().flat_map(|ids| {
                [crate::identity::Trust::Trusted, crate::identity::Trust::Approved].map(|trust| ids.at(trust))
            });
            rows.filter_map(|id| self.facts().envs.get(id)).any(EnvRow::is_live)
        })
    }
}
