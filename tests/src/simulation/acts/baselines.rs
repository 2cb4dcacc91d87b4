//! What an admin does about baselines, and what becomes of the dumps that they are made from.

use std::path::PathBuf;

use planner::command::{BaselineAct, Command, Creation};
use planner::facts::Recipe;
use planner::spec::DatabaseFrom;

use crate::simulation::run::Sim;
use crate::simulation::world::Dump;

/// The dump of a baseline.
pub fn dump(name: &str) -> PathBuf {
    PathBuf::from(format!("/srv/{name}.dump"))
}

/// A baseline that is made from its dump.
pub fn creation(name: &str) -> Command {
    let recipe = Recipe { database: DatabaseFrom::File(dump(name)), ..Recipe::empty() };
    let creation = Creation { recipe, every: None, max_shrink: 50 };
    Command::Baseline { name: name.to_owned(), act: BaselineAct::Create(Box::new(creation)) }
}

impl Sim {
    /// An admin does something about a baseline.
    pub(super) fn baseline(&mut self) {
        let rng = &mut self.world.rng;
        let name = if rng.chance(700) { "big" } else { "default" };
        let number = u32::try_from(rng.between(1, 4)).unwrap_or(1);
        let which = rng.weighted(&[40, 45, 12, 8, 5]);
        let dumps =
            [(10, 1_000, false), (10, 900, false), (11, 300, false), (9, 1_000, false), (0, 1, false), (10, 500, true)];
        let (tables, bytes, bad) = dumps[rng.weighted(&[50, 20, 8, 8, 6, 8])];
        self.world.dumps.insert(dump(name), Dump { tables, bytes, bad });
        let act = match which {
            0 => {
                self.ask(creation(name));
                return;
            }
            1 => BaselineAct::Refresh,
            2 => BaselineAct::Use(number),
            3 => BaselineAct::Remove(Some(number)),
            _ => BaselineAct::Remove(None),
        };
        self.ask(Command::Baseline { name: name.to_owned(), act });
    }

    /// What a person who resets something chooses, if anything.
    pub(super) fn some_baseline(&mut self) -> Option<String> {
        let rng = &mut self.world.rng;
        let chosen = ["big", "big@1", "big@2", "default@2", "empty", "default"];
        if rng.chance(400) { rng.pick(&chosen).map(str::to_owned) } else { None }
    }
}
