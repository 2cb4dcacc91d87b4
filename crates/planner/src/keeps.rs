//! What of an instance's own files is still needed: logs and commits that somebody may yet ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::Core;
use crate::facts::version_name;
use crate::identity::{ProjectName, Sha};
use crate::plan::BACKENDS;
use crate::resource::Owner;

/// Whose logs and which commits are needed. Everything else of ours on the disk may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeps {
    /// Environments that are remembered, and whatever still exists.
    pub owners: BTreeSet<Owner>,
    /// What is known of each project that is in the configuration, or of which something is remembered.
    pub projects: BTreeMap<ProjectName, Kept>,
}

/// What is needed of one project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its commits.
    pub commits: BTreeSet<Sha>,
    /// The trees of those that were read; images are built of trees.
    pub trees: BTreeSet<Sha>,
}

impl Core {
    /// What is still needed. None before every backend and every forge has answered: what is unknown is not unneeded.
    #[must_use]
    pub fn keeps(&self) -> Option<Keeps> {
        let (facts, inventory) = (self.facts(), self.inventory());
        if !self.ledger().has_heard_all() || !BACKENDS.iter().all(|of| inventory.known.contains(of)) {
            return None;
        }
        let mut keeps = Keeps::default();
        keeps.owners.extend(facts.envs.keys().cloned().map(Owner::Env));
        keeps.owners.extend(inventory.seen.keys().map(|id| id.owner.clone()));
        let versions = facts.baselines.values().flat_map(|row| row.versions.keys().map(move |number| (row, *number)));
        keeps.owners.extend(versions.map(|(row, number)| Owner::Baseline(version_name(&row.name, number))));
        for project in self.policy().projects.keys() {
            keeps.projects.entry(project.clone()).or_default();
        }
        for row in facts.envs.values() {
            keeps.projects.entry(row.of.project.clone()).or_default().commits.insert(row.of.sha);
        }
        for row in facts.refs.values() {
            let shas = row.commits.iter().map(|listed| listed.sha);
            keeps.projects.entry(row.project.clone()).or_default().commits.extend(shas);
        }
        for ((project, sha), source) in &facts.sources {
            let kept = keeps.projects.entry(project.clone()).or_default();
            kept.commits.insert(*sha);
            kept.trees.insert(source.tree);
        }
        Some(keeps)
    }
}
