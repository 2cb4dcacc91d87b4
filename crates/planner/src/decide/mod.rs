//! What is decided once, looking at the world, and must not be forgotten: ready, gone, admitted, begun, held.
//!
//! Rules are tried in their order, and the first that has something to say speaks; the caller asks again until none has.
//! So every rule sees the outcome of the ones before it, and each is a plain function of what is known.

mod admit;
mod adopt;
pub(crate) mod baselines;
mod begin;
mod carry;
mod forget;
mod gone;
mod images;
mod orphan;
mod ready;

use std::collections::{BTreeMap, BTreeSet};

use crate::blueprint::{Blueprints, allowed};
use crate::event::Source;
use crate::facts::{EnvRow, Fact, Facts};
use crate::identity::{EnvId, Time};
use crate::ledger::Ledger;
use crate::plan::BACKENDS;
use crate::policy::Policy;
use crate::resource::{Inventory, Observed, Owner, ResourceId};
use crate::spec::Origin;
use crate::standing::{Commit, Standing};

pub use forget::REMEMBERED;
pub use images::kept_images;
pub use orphan::{KEPT, orphans};

/// Everything that decisions look at.
#[derive(Debug)]
pub struct Eyes<'a> {
    /// What holds for each commit.
    pub standing: Standing<'a>,
    /// What generations consist of.
    pub blueprints: &'a Blueprints,
    /// What exists.
    pub inventory: &'a Inventory,
    /// What we tried.
    pub ledger: &'a Ledger,
    /// Environments that are wanted, with or without a place.
    pub wanted: BTreeSet<&'a EnvId>,
    /// Those of them that wait for a place.
    pub waiting: BTreeSet<&'a EnvId>,
}

/// One round of decisions; none if there is nothing left to decide.
#[must_use]
pub fn decide(eyes: &Eyes<'_>) -> Vec<Fact> {
    let rules: [fn(&Eyes<'_>) -> Vec<Fact>; 10] = [
        baselines::baselines,
        adopt::adopt,
        ready::filled,
        ready::ready,
        images::images,
        gone::gone,
        admit::displace,
        begin::begin,
        orphan::condemn,
        forget::forget,
    ];
    rules.iter().map(|rule| rule(eyes)).find(|facts| !facts.is_empty()).unwrap_or_default()
}

impl<'a> Eyes<'a> {
    /// Opens them.
    #[must_use]
    pub fn new(
        standing: Standing<'a>,
        blueprints: &'a Blueprints,
        inventory: &'a Inventory,
        ledger: &'a Ledger,
    ) -> Eyes<'a> {
        let wanted = standing.wanted(None);
        let waiting = BTreeSet::new();
        let mut eyes = Eyes { standing, blueprints, inventory, ledger, wanted, waiting };
        eyes.waiting = eyes.waiting_for_a_place();
        if !eyes.waiting.is_empty() {
            // While somebody waits, everybody keeps one.
            eyes.wanted = eyes.standing.wanted(Some(1));
            eyes.waiting = eyes.waiting_for_a_place();
        }
        eyes
    }

    pub(crate) fn facts(&self) -> &'a Facts {
        self.standing.facts
    }

    fn policy(&self) -> &'a Policy {
        self.standing.policy
    }

    fn now(&self) -> Time {
        self.standing.now
    }

    /// Every backend has answered, so what was not seen is not there.
    pub(crate) fn sees_all(&self) -> bool {
        BACKENDS.iter().all(|backend| self.inventory.known.contains(backend))
    }

    /// Everything seen of one environment.
    fn seen_of(&self, env: &EnvId) -> impl Iterator<Item = (&'a ResourceId, &'a Observed)> + use<'a> {
        self.inventory.of(&Owner::Env(env.clone()))
    }

    /// The commit of an environment.
    fn commit_of(&self, of: &Origin) -> Option<&Commit<'a>> {
        self.standing.commit(&of.project, &of.sha)
    }

    /// What the commit is made of, if it can be made.
    ///
    /// # Errors
    /// Why not, and whether that is for people of the repository (failed) or of the installation (blocked) to change.
    pub fn buildable(&self, of: &Origin) -> Result<&'a Source, Obstacle> {
        let key = (of.project.clone(), of.sha);
        let Some(source) = self.facts().sources.get(&key) else {
            let reading = self.ledger.reads.get(&key);
            return Err(match reading.and_then(|reading| reading.failure.as_ref()) {
                Some(crate::resource::Failure::Permanent { text }) => Obstacle::Failed(text.clone()),
                Some(failure) => Obstacle::Unread(failure.to_string()),
                None => Obstacle::Unread("the commit is being read".to_owned()),
            });
        };
        let manifest = source.manifest.as_ref().map_err(|error| Obstacle::Failed(error.clone()))?;
        let project = self.policy().projects.get(&of.project);
        let project = project.filter(|_| !self.facts().taken_out.contains(&of.project));
        let project = project.ok_or_else(|| Obstacle::Blocked("the project is not in the configuration".to_owned()))?;
        allowed(manifest, self.policy(), project, of).map_err(Obstacle::Blocked)?;
        Ok(source)
    }
}

impl<'a> Eyes<'a> {
    /// What the commit is made of, if a generation of it can begin: it can be made, and what it starts from is there.
    ///
    /// # Errors
    /// As [`Eyes::buildable`].
    pub fn startable(&self, of: &Origin, chosen: Option<&str>) -> Result<&'a Source, Obstacle> {
        let source = self.buildable(of)?;
        self.versions(of, source, chosen).map_err(Obstacle::Blocked)?;
        Ok(source)
    }
}

/// Why a commit cannot be made into an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// It has not been read yet.
    Unread(String),
    /// Something is wrong with the commit.
    Failed(String),
    /// The operator does not allow it.
    Blocked(String),
}

/// Rows being changed by one rule.
#[derive(Debug, Default)]
struct Draft(BTreeMap<EnvId, EnvRow>);

impl Draft {
    fn edit(&mut self, id: &EnvId, row: &EnvRow) -> &mut EnvRow {
        self.0.entry(id.clone()).or_insert_with(|| row.clone())
    }

    fn facts(self, eyes: &Eyes<'_>) -> Vec<Fact> {
        let changed = self.0.into_iter().filter(|(id, row)| eyes.facts().envs.get(id) != Some(row));
        changed.map(|(_, row)| Fact::Env(Box::new(row))).collect()
    }
}
