//! Scenes of falling asleep and being woken.

use std::time::Duration;

use planner::event::Event;
use planner::identity::{Sha, Trust};
use planner::resource::{Kind, Run};
use planner::tables::{Door, Route};

use super::Stage;
use crate::simulation::world::Fate;

impl Stage {
    /// A commit whose application has a companion.
    fn push_accompanied(&mut self) -> Sha {
        loop {
            let sha = self.commit(Fate::Good);
            let manifest = self.sim.forge.commits[&sha].source.manifest.as_ref();
            if manifest.is_ok_and(|manifest| !manifest.services.is_empty()) {
                self.point(1, sha, false);
                return sha;
            }
        }
    }

    fn is_open(&self) -> bool {
        let mut routes = self.sim.tables.routes.values();
        routes.any(|route| matches!(route, Route::Env(route) if matches!(route.door, Door::Open(_))))
    }

    fn has_companion(&self) -> bool {
        let mut cache = self.sim.world.things.iter().filter(|(id, _)| id.kind == Kind::Container && id.name == "cache");
        cache.any(|(_, cache)| cache.observed.run == Run::Running && cache.healthy)
    }
}

/// From sleep, knocked for while it falls asleep or later; and from the cold, when all is gone.
pub(super) fn wakes_with_companions(seed: u64) -> Result<(), String> {
    let cold = seed.is_multiple_of(2);
    let mut stage = Stage::new(seed, |settings| {
        if cold {
            settings.policy.limits.stopped = 0;
        }
    })?;
    let sha = stage.push_accompanied();
    let env = stage.sim.key.env(&stage.project, &sha, Trust::Trusted);
    stage.run(200)?;
    let pauses: &[u64] = if cold { &[60_000] } else { &[0, 300, 1_000, 3_000, 60_000] };
    for &pause in pauses {
        let sleep = stage.sim.settings.policy.lifetime.sleep + Duration::from_secs(1);
        stage.sim.world.now = stage.sim.world.now.after(sleep);
        stage.millis(pause)?;
        stage.sim.send(1, Event::Knock(env.clone()));
        let mut opened = false;
        for _ in 0..1_200 {
            stage.millis(50)?;
            if stage.is_open() && !stage.has_companion() {
                return Err(format!("{} is open without its cache, {pause} ms asleep", sha.short()));
            }
            opened |= stage.is_open();
        }
        if !opened {
            return Err(format!("{} did not wake, {pause} ms asleep", sha.short()));
        }
    }
    Ok(())
}
