//! Scenes of refreshes by the clock.

use std::time::Duration;

use planner::command::{BaselineAct, Command, Creation};
use planner::facts::Recipe;
use planner::resource::Backend;
use planner::spec::DatabaseFrom;
use planner::view::{BaselineView, VersionState};

use super::Stage;
use crate::simulation::acts::baselines::dump;
use crate::simulation::world::Dump;

const HOUR: u64 = 3_600;
const GOOD: Dump = Dump { tables: 10, bytes: 1_000, bad: false };

impl Stage {
    fn of_the_hour(&self) -> Result<&BaselineView, String> {
        let found = self.sim.view.baselines.iter().find(|baseline| baseline.name == "hourly");
        found.ok_or_else(|| "there is no baseline `hourly`".to_owned())
    }

    /// An hour passes, the first minutes of the next one included; this version is in that state then, and was asked for by
    /// the clock.
    fn hour(&mut self, number: u32, state: VersionState, trouble: Option<&str>) -> Result<(), String> {
        self.run(HOUR)?;
        let now = self.sim.world.now;
        let baseline = self.of_the_hour()?;
        let newest = baseline.versions.first().map(|version| (version.number, version.state, version.by.clone()));
        if newest != Some((number, state, None)) {
            return Err(format!("the newest version is {newest:?}, and should be {number}, {state:?}, by the clock"));
        }
        if baseline.trouble.as_deref() != trouble {
            return Err(format!("hourly@{number}: the trouble is {:?}, and should be {trouble:?}", baseline.trouble));
        }
        match baseline.due {
            Some(due) if due > now && due <= now.after(Duration::from_secs(HOUR)) && due.0 % (HOUR * 1_000) == 0 => {
                Ok(())
            }
            due => Err(format!("the next refresh is due {due:?}, at {now:?}")),
        }
    }
}

/// The clock refreshes at the full hour: what is doubtful is kept back, hours that nobody was there are made up by one
/// refresh, and one that is still being made is not begun again.
pub(super) fn the_clock_refreshes(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let dumped = |stage: &mut Stage, dumped: Dump| {
        stage.sim.world.dumps.insert(dump("hourly"), dumped);
    };
    dumped(&mut stage, GOOD);
    let recipe = Recipe { database: DatabaseFrom::File(dump("hourly")), ..Recipe::empty() };
    let creation = Creation { recipe, every: Some("0 * * * *".to_owned()), max_shrink: 50 };
    let act = BaselineAct::Create(Box::new(creation));
    stage.sim.ask(Command::Baseline { name: "hourly".to_owned(), act });
    // To a few minutes past the full hour, when the first refresh is done.
    let past = stage.sim.world.now.0 / 1_000 % HOUR;
    stage.run(HOUR - past + 300)?;
    let first = stage.of_the_hour()?.versions.len();
    if first != 2 {
        return Err(format!("{first} versions after the first full hour, and should be 2"));
    }
    stage.hour(3, VersionState::Current, None)?;
    dumped(&mut stage, Dump { tables: 9, ..GOOD });
    stage.hour(4, VersionState::Kept, None)?;
    dumped(&mut stage, GOOD);
    stage.hour(5, VersionState::Current, None)?;

    // The machine was asleep for a night.
    stage.sim.world.now = stage.sim.world.now.after(Duration::from_secs(8 * HOUR));
    stage.hour(7, VersionState::Current, None)?;

    // The server is away over two full hours: what is being made goes on being made.
    let back = stage.sim.world.now.after(Duration::from_secs(2 * HOUR - 240));
    stage.sim.world.down.insert(Backend::Postgres, back);
    stage.hour(8, VersionState::Making, None)?;
    stage.hour(8, VersionState::Current, Some("the one before was not done yet"))?;
    stage.hour(9, VersionState::Current, None)?;

    stage.sim.die(false);
    stage.hour(10, VersionState::Current, None)?;
    stage.sim.ask(Command::Baseline { name: "hourly".to_owned(), act: BaselineAct::Remove(None) });
    stage.run(2 * HOUR)?;
    match stage.of_the_hour() {
        Ok(left) => Err(format!("{left:?} is left of what was removed")),
        Err(_) => Ok(()),
    }
}
