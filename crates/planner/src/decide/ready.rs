//! When a generation's data is complete, and when the generation is ready.

use super::{Draft, Eyes};
use crate::facts::{Fact, Ready};
use crate::resource::{Kind, Phase, ResourceId};

impl Eyes<'_> {
    /// It is there, complete, and nothing that we do to it is under way.
    pub(super) fn is_whole(&self, id: &ResourceId) -> bool {
        let seen = self.inventory.seen.get(id).is_some_and(|observed| observed.phase == Phase::Whole);
        seen && self.inventory.known.contains(&id.backend) && !self.ledger.is_busy(id)
    }
}

/// Data is made once. From the moment that all of it was seen complete, and before anything uses it, what is missing is lost.
pub(super) fn filled(eyes: &Eyes<'_>) -> Vec<Fact> {
    let mut draft = Draft::default();
    for (id, row) in &eyes.facts().envs {
        let Some(generation) = row.coming() else { continue };
        let empty = row.begun.as_ref().is_some_and(|begun| !begun.filled);
        let Ok(blueprint) = eyes.blueprints.get(id, generation) else { continue };
        if empty && blueprint.data().all(|part| eyes.is_whole(&part.id)) {
            draft.edit(id, row).begun.iter_mut().for_each(|begun| begun.filled = true);
        }
    }
    draft.facts(eyes)
}

/// A generation is ready when each of its containers runs and was confirmed by an ensure of this process.
pub(super) fn ready(eyes: &Eyes<'_>) -> Vec<Fact> {
    let mut draft = Draft::default();
    for (id, row) in &eyes.facts().envs {
        let (Some(generation), Some(begun)) = (row.coming(), &row.begun) else { continue };
        let Ok(blueprint) = eyes.blueprints.get(id, generation) else { continue };
        let up = |id: &ResourceId| {
            let seen = eyes.inventory.seen.get(id);
            seen.is_some_and(|observed| eyes.ledger.is_confirmed(id, observed) && eyes.ledger.call_for(id).is_none())
        };
        if begun.filled && blueprint.web().is_some() && blueprint.of(Kind::Container).all(|part| up(&part.id)) {
            let now = eyes.now();
            let took = u64::try_from(now.since(begun.asked).as_millis()).ok();
            draft.edit(id, row).ready = Some(Ready { begun: begun.clone(), at: now, took });
        }
    }
    draft.facts(eyes)
}
