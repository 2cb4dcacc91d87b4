//! The blueprints of all generations that are wanted, each drawn once.

use std::collections::BTreeMap;

use super::{Blueprint, baseline, blueprint};
use crate::facts::{Begun, EnvRow};
use crate::identity::{EnvId, Time};
use crate::resource::Resource;
use crate::standing::Standing;

/// The blueprints of all generations that are wanted. They follow from facts that never change for a generation, so
/// each is drawn once.
#[derive(Debug, Default)]
pub struct Blueprints {
    drawn: BTreeMap<EnvId, Vec<Drawn>>,
    versions: Vec<DrawnVersion>,
    spares: Vec<Resource>,
}

/// Template and snapshot of a baseline's version.
#[derive(Debug)]
pub struct DrawnVersion {
    /// They are complete, and never made again.
    pub sealed: bool,
    /// When it was asked for.
    pub asked: Time,
    /// What it consists of.
    pub parts: Vec<Resource>,
}

#[derive(Debug)]
struct Drawn {
    generation: u32,
    blueprint: Result<Blueprint, String>,
}

impl Blueprints {
    /// Draws what is missing and drops what is not wanted any more.
    pub fn refresh(&mut self, standing: &Standing<'_>) {
        let facts = standing.facts;
        let versions = facts.baselines.values().flat_map(|row| row.versions.iter().map(move |one| (row, one)));
        let drawn = versions.map(|(row, (number, version))| DrawnVersion {
            sealed: version.sealed.is_some(),
            asked: version.asked,
            parts: baseline::parts(row, *number, version),
        });
        self.versions = drawn.collect();
        self.spares = baseline::spares(facts, standing.policy);
        self.drawn.retain(|env, _| facts.envs.get(env).is_some_and(EnvRow::is_live));
        for (id, row) in facts.envs.iter().filter(|(_, row)| row.is_live()) {
            let ready = row.ready.as_ref().map(|ready| &ready.begun);
            let begun: Vec<&Begun> = ready.into_iter().chain(&row.begun).collect();
            let drawn = self.drawn.entry(id.clone()).or_default();
            drawn.retain(|drawn| begun.iter().any(|begun| begun.generation == drawn.generation));
            for begun in begun {
                if drawn.iter().any(|drawn| drawn.generation == begun.generation) {
                    continue;
                }
                if let Some(source) = facts.sources.get(&(row.of.project.clone(), row.of.sha)) {
                    let address = standing.address(&row.of);
                    let blueprint = blueprint(facts, standing.policy, &row.of, begun, source, &address);
                    drawn.push(Drawn { generation: begun.generation, blueprint });
                }
            }
        }
    }

    /// Versions of baselines, current or not.
    #[must_use]
    pub fn versions(&self) -> &[DrawnVersion] {
        &self.versions
    }

    /// Clones that are made ahead.
    #[must_use]
    pub fn spares(&self) -> &[Resource] {
        &self.spares
    }

    /// Whether all wanted generations of a live environment could be drawn. If not, everything of it is left alone.
    #[must_use]
    pub fn are_drawn(&self, env: &EnvId, row: &EnvRow) -> bool {
        let generations = row.serving().into_iter().chain(row.coming());
        generations.into_iter().all(|generation| self.get(env, generation).is_ok())
    }

    /// What this generation consists of; the error is why it cannot be made.
    ///
    /// # Errors
    /// What the policy refuses now, or that the commit has not been read.
    pub fn get(&self, env: &EnvId, generation: u32) -> Result<&Blueprint, &str> {
        let drawn = self.drawn.get(env).and_then(|all| all.iter().find(|drawn| drawn.generation == generation));
        drawn.map_or(Err("the commit has not been read"), |drawn| drawn.blueprint.as_ref().map_err(String::as_str))
    }
}
