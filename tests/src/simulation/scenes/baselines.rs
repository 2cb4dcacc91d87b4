//! Scenes of baselines: made, kept back, chosen, lost; data carried on.

use std::sync::Arc;
use std::time::Duration;

use planner::command::{BaselineAct, Command};
use planner::identity::{Sha, Trust};
use planner::manifest::Manifest;
use planner::resource::{Backend, Kind, ResourceId};
use planner::view::{State, VersionState};

use super::Stage;
use crate::simulation::acts::baselines::{creation, dump};
use crate::simulation::oracle::commits;
use crate::simulation::world::{Dump, Fate};

const GOOD: Dump = Dump { tables: 10, bytes: 1_000, bad: false };
const BIG: &str = "[database]\nbaseline = \"big\"\n[objects]\nbaseline = \"big\"\n";
const CARRIES: &str = "[database]\ncarry = true\n";

impl Stage {
    fn dump(&mut self, dumped: Dump) {
        self.sim.world.dumps.insert(dump("big"), dumped);
    }

    /// The baseline `big` exists, complete.
    fn make_big(&mut self) -> Result<(), String> {
        self.dump(GOOD);
        self.sim.ask(creation("big"));
        self.run(120)?;
        self.is("big", 1, VersionState::Current)
    }

    fn refresh(&mut self, dumped: Dump) -> Result<(), String> {
        self.dump(dumped);
        self.act(BaselineAct::Refresh)
    }

    fn act(&mut self, act: BaselineAct) -> Result<(), String> {
        self.sim.ask(Command::Baseline { name: "big".to_owned(), act });
        self.run(120)
    }

    fn is(&self, name: &str, number: u32, state: VersionState) -> Result<(), String> {
        let versions = self.sim.view.baselines.iter().filter(|one| one.name == name).flat_map(|one| &one.versions);
        let found = versions.clone().find(|one| one.number == number).map(|one| (one.state, one.reason.clone()));
        match found {
            Some((found, _)) if found == state => Ok(()),
            other => Err(format!("{name}@{number} is {other:?}, and should be {state:?}")),
        }
    }

    fn is_gone(&self, version: &str) -> Result<(), String> {
        match self.sim.world.things.keys().find(|id| id.owner == ResourceId::template(version).owner) {
            Some(id) => Err(format!("{id} is left of a version that nobody needs")),
            None => Ok(()),
        }
    }

    fn push_with(&mut self, number: u64, manifest: &str, foreign: bool) -> Sha {
        let sha = self.commit(Fate::Good);
        let manifest = Manifest::parse(Some(manifest.as_bytes())).expect("a manifest");
        if let Some(commit) = self.sim.forge.commits.get_mut(&sha) {
            commit.source.manifest = Ok(Arc::new(manifest));
        }
        self.point(number, sha, foreign);
        sha
    }

    /// Where the data of a commit came from, as it is shown.
    fn from(&self, sha: Sha) -> Option<String> {
        let shown = commits(&self.sim.view).find(|one| one.sha == sha);
        shown.and_then(|one| one.data.as_ref()).map(|data| data.from.clone())
    }

    fn comes_from(&self, sha: Sha, expected: &str) -> Result<(), String> {
        self.expect("the commit", sha, &[State::Ready])?;
        match self.from(sha) {
            Some(from) if from == expected => Ok(()),
            other => Err(format!("{} comes from {other:?}, and should come from {expected}", sha.short())),
        }
    }
}

/// While the engine does not answer nothing begins, but baselines are made: no container uses them.
pub(super) fn made_without_engine(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let end = stage.sim.world.now.after(Duration::from_secs(3_600));
    stage.sim.world.down.insert(Backend::Engine, end);
    stage.run(120)?;
    stage.make_big()
}

/// A refresh goes on beside what is used; old versions go when nobody needs them any more, and not before.
pub(super) fn versions_follow_each_other(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.make_big()?;
    let first = stage.push_with(1, BIG, false);
    stage.run(200)?;
    stage.comes_from(first, "big@1")?;
    for _ in 0..3 {
        stage.refresh(GOOD)?;
    }
    stage.is("big", 4, VersionState::Current)?;
    stage.is("big", 3, VersionState::Ready)?;
    stage.is("big", 1, VersionState::Ready)?;
    stage.is_gone("big@2")?;
    stage.ask(|project| Command::Reset { project, sha: first, baseline: None });
    stage.run(300)?;
    stage.comes_from(first, "big@4")?;
    stage.is_gone("big@1")?;
    stage.act(BaselineAct::Remove(None))?;
    stage.is("big", 4, VersionState::Current)?;
    stage.ask(|project| Command::Remove { project, sha: first });
    stage.run(120)?;
    stage.act(BaselineAct::Remove(None))?;
    stage.is_gone("big@4")?;
    stage.make_big().err().map(|_| ()).ok_or("a number was used twice")?;
    stage.is("big", 5, VersionState::Current)
}

/// What reads nothing, loses tables or shrinks is kept back, says so, and is taken only by a person.
pub(super) fn doubtful_is_kept_back(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.make_big()?;
    let doubtful = [Dump { tables: 0, bytes: 1, bad: false }, Dump { tables: 9, ..GOOD }, Dump { bytes: 400, ..GOOD }];
    for (place, dumped) in doubtful.into_iter().enumerate() {
        stage.refresh(dumped)?;
        stage.is("big", 1, VersionState::Current)?;
        let number = u32::try_from(place).unwrap_or(0) + 2;
        stage.is("big", number, VersionState::Kept)?;
    }
    stage.refresh(Dump { bad: true, ..GOOD })?;
    stage.is("big", 5, VersionState::Failed)?;
    stage.is_gone("big@4")?;
    stage.refresh(Dump { bytes: 400, ..GOOD })?;
    stage.is("big", 6, VersionState::Kept)?;
    stage.act(BaselineAct::Use(6))?;
    stage.is("big", 6, VersionState::Current)?;
    stage.act(BaselineAct::Use(1))?;
    stage.is("big", 1, VersionState::Current)
}

/// What a lost store has left is found again: the highest whole version is the current one, what is used stays, and what
/// is half made goes.
pub(super) fn lost_store_finds_versions(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.make_big()?;
    let first = stage.push_with(1, BIG, false);
    stage.run(200)?;
    stage.refresh(GOOD)?;
    stage.sim.ask(Command::Baseline { name: "big".to_owned(), act: BaselineAct::Refresh });
    stage.millis(700)?;
    stage.sim.die(true);
    let half = ResourceId::template("big@3");
    stage.sim.world.calls.clear();
    stage.sim.world.erase(&half);
    stage.sim.world.create(
        &half,
        planner::resource::Fingerprint::default(),
        planner::resource::Phase::Partial,
        Vec::new(),
    );
    stage.run(200)?;
    stage.is("big", 2, VersionState::Current)?;
    stage.is("big", 1, VersionState::Ready)?;
    stage.comes_from(first, "big@1")?;
    stage.sim.ask(Command::Gc { confirm: true });
    stage.run(120)?;
    stage.is_gone("big@3")?;
    let second = stage.push_with(2, BIG, false);
    stage.ask(|project| Command::Stage { project, sha: second });
    stage.run(200)?;
    stage.comes_from(second, "big@2")
}

/// A baseline that is not there yet blocks, and says so; a version whose data are gone is not begun with.
pub(super) fn missing_data_block(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.push_with(1, BIG, false);
    stage.run(120)?;
    stage.expect("a commit without its baseline", sha, &[State::Blocked])?;
    stage.make_big()?;
    stage.run(200)?;
    stage.comes_from(sha, "big@1")?;
    stage.sim.delete(&ResourceId::template("big@1"));
    stage.run(120)?;
    stage.is("big", 1, VersionState::Lost)?;
    let other = stage.push_with(2, BIG, false);
    stage.run(200)?;
    stage.expect("a commit whose baseline is lost", other, &[State::Blocked])?;
    stage.refresh(GOOD)?;
    stage.run(200)?;
    stage.comes_from(other, "big@2")
}

/// Foreign code gets what the operator has set aside for it, whatever it names and whoever resets it.
pub(super) fn forks_get_their_own(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.make_big()?;
    let sha = stage.push_with(1, BIG, true);
    stage.run(10)?;
    stage.ask(|project| Command::Approve { project, sha });
    stage.run(200)?;
    stage.comes_from(sha, "empty")?;
    stage.ask(|project| Command::Reset { project, sha, baseline: Some("big".to_owned()) });
    stage.run(200)?;
    stage.comes_from(sha, "empty")
}

/// Data are carried on across pushes; a rewrite and a reset start from the baseline. While they are copied nobody is let
/// in, and afterwards everybody.
pub(super) fn data_are_carried_on(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| {
        settings.policy.projects.values_mut().for_each(|project| project.keep = 2);
        settings.all = settings.policy.projects.clone();
    })?;
    let first = stage.push_with(1, CARRIES, false);
    stage.run(200)?;
    stage.comes_from(first, "empty")?;
    let follow = |stage: &mut Stage, before: Sha| {
        let sha = stage.commit(Fate::Good);
        let manifest = Arc::new(Manifest::parse(Some(CARRIES.as_bytes())).expect("a manifest"));
        if let Some(commit) = stage.sim.forge.commits.get_mut(&sha) {
            (commit.source.manifest, commit.source.ancestors) = (Ok(manifest), Vec::new());
        }
        stage.sim.forge.follow(&sha, &before);
        stage.point(1, sha, false);
        sha
    };
    let second = follow(&mut stage, first);
    stage.run(200)?;
    stage.comes_from(second, &format!("carried on from {}", first.short()))?;
    stage.expect("what was copied", first, &[State::Ready])?;
    let third = follow(&mut stage, second);
    stage.run(200)?;
    stage.comes_from(third, &format!("carried on from {}", second.short()))?;
    let rewritten = follow(&mut stage, first);
    stage.run(200)?;
    stage.comes_from(rewritten, "empty")?;
    stage.ask(|project| Command::Reset { project, sha: rewritten, baseline: None });
    stage.run(200)?;
    stage.comes_from(rewritten, "empty")
}

/// A clone made ahead is claimed, and the next one is made.
pub(super) fn spares_are_refilled(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| settings.policy.spares.count = 1)?;
    let first = stage.push_with(1, BIG, false);
    stage.make_big()?;
    stage.run(300)?;
    stage.comes_from(first, "big@1")?;
    let spare = ResourceId::spare("big@1", "spare-1".to_owned());
    let born = stage.sim.world.things.get(&spare).map(|thing| thing.born).ok_or("no clone was made ahead")?;
    let second = stage.push_with(2, BIG, false);
    stage.run(300)?;
    stage.comes_from(second, "big@1")?;
    let next = stage.sim.world.things.get(&spare).map(|thing| thing.born).ok_or("no clone was made after a claim")?;
    if next == born {
        return Err("the clone made ahead was not claimed".to_owned());
    }
    stage.sim.reconfigure(|policy| policy.spares.disk = 10);
    stage.run(120)?;
    if stage.sim.world.things.contains_key(&spare) {
        return Err("a clone stays that does not fit its disk".to_owned());
    }
    let database = stage.sim.world.things.keys().filter(|id| id.kind == Kind::Database).count();
    let env = stage.sim.key.env(&stage.project, &second, Trust::Trusted);
    if database == 3 { Ok(()) } else { Err(format!("{database} databases are there beside {env}")) }
}
