//! Things of ours that no fact knows.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Eyes;
use crate::facts::{Condemned, Fact};
use crate::identity::{EnvId, Trust};
use crate::resource::Owner;

/// How long an orphan is kept, stopped.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Owners of things that no fact knows. Judged only when every forge has been listed in full.
#[must_use]
pub fn orphans(eyes: &Eyes<'_>) -> BTreeSet<Owner> {
    if !eyes.ledger.has_heard_all() {
        return BTreeSet::new();
    }
    let blind = !eyes.sees_all();
    let versions = eyes.inventory.seen.keys().filter_map(|id| match &id.owner {
        // What is whole is taken up; the rest is half made, and nobody knows of what.
        Owner::Baseline(version) if !blind && !eyes.knows_version(version) => Some(id.owner.clone()),
        _ => None,
    });
    let versions: BTreeSet<Owner> = versions.collect();
    let owners: BTreeSet<&EnvId> = eyes
        .inventory
        .seen
        .keys()
        .filter_map(|id| match &id.owner {
            Owner::Env(env) => Some(env),
            _ => None,
        })
        .collect();
    let unknown: BTreeSet<&EnvId> = owners.into_iter().filter(|env| !eyes.is_known(env)).collect();
    if unknown.is_empty() {
        return versions;
    }
    let coming: BTreeSet<&EnvId> = eyes.to_be_taken_up().collect();
    let unknown = unknown.into_iter().filter(|env| !coming.contains(env)).map(|env| Owner::Env(env.clone()));
    unknown.chain(versions).collect()
}

/// Decides on orphans whose time is up. More than half of all environments, and more than three, are held back until a
/// person confirms: a lost store must not cost everything a day later.
pub(super) fn condemn(eyes: &Eyes<'_>) -> Vec<Fact> {
    let condemned = &eyes.facts().condemned;
    let over = |owner: &Owner| {
        let gone = eyes.sees_all() && eyes.inventory.of(owner).next().is_none();
        gone || match owner {
            Owner::Env(env) => eyes.is_known(env),
            Owner::Baseline(version) => eyes.knows_version(version),
            _ => false,
        }
    };
    let mut facts: Vec<Fact> = condemned.keys().filter(|owner| over(owner)).cloned().map(Fact::Pardoned).collect();
    let now = eyes.now();
    let due =
        |(owner, since): &(&Owner, &crate::identity::Time)| now >= since.after(KEPT) && !condemned.contains_key(*owner);
    let due: Vec<&Owner> = eyes.ledger.orphans.iter().filter(due).map(|(owner, _)| owner).collect();
    if !eyes.holds_orphans(due.len()) {
        facts.extend(due.into_iter().map(|owner| Fact::Condemned(Condemned { owner: owner.clone(), at: now })));
    }
    facts
}

impl<'a> Eyes<'a> {
    /// Some fact knows this environment: it lives, or went.
    pub(super) fn is_known(&self, env: &EnvId) -> bool {
        self.facts().envs.get(env).is_some_and(|row| row.begun.is_some() || row.gone.is_some())
    }

    /// Whether the guard holds back so many orphans.
    #[must_use]
    pub fn holds_orphans(&self, count: usize) -> bool {
        let live = self.facts().envs.values().filter(|row| row.is_live()).count();
        Self::is_too_many(count, live + self.ledger.orphans.len())
    }

    /// So many removals at once look like a mistake.
    #[must_use]
    pub fn is_too_many(count: usize, all: usize) -> bool {
        count > 3 && count * 2 > all
    }

    /// Environments that are about to be known: asked for, or to be taken up once their commit has been read.
    fn to_be_taken_up(&self) -> impl Iterator<Item = &'a EnvId> {
        self.standing.commits().filter_map(|commit| {
            let own = commit
                .open
                .iter()
                .any(|(of, listed)| !of.foreign && of.head().is_some_and(|head| head.sha == listed.sha));
            let unread = !self.facts().sources.contains_key(&(commit.project.clone(), commit.sha));
            let failed = self
                .ledger
                .reads
                .get(&(commit.project.clone(), commit.sha))
                .is_some_and(|reading| matches!(reading.failure, Some(crate::resource::Failure::Permanent { .. })));
            let blind = !self.sees_all();
            (own && ((unread && !failed) || blind)).then(|| commit.ids.at(Trust::Trusted))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_stands_at_more_than_three_and_more_than_half() {
        assert!(!Eyes::is_too_many(3, 3), "three may go at once");
        assert!(!Eyes::is_too_many(4, 8), "half may go at once");
        assert!(Eyes::is_too_many(4, 7));
    }
}
