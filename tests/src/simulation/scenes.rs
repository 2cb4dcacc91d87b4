//! Scenes that a roll of the dice hardly ever plays: each sets up one rule and looks whether it held.

mod baselines;
mod operator;
mod schedule;
mod sleep;

use planner::command::Command;
use planner::identity::{ProjectName, Ref, Sha, Time, Trust};
use planner::manifest::Manifest;
use planner::policy::StageMode;
use planner::resource::Kind;
use planner::view::State;

use super::forge::Branch;
use super::oracle::commits;
use super::run::Sim;
use super::settings::Settings;
use super::world::{Fate, World};

/// A scene, by name; its argument is a seed for the times that things take.
pub type Scene = (&'static str, fn(u64) -> Result<(), String>);

/// All scenes.
pub const SCENES: [Scene; 25] = [
    ("a place passes on to the newest commit of the same ref", place_passes_on),
    ("the newest runnable commit is wanted, whatever was pushed since", newest_runnable),
    ("what was held back stays held when others come", held_stays_held),
    ("a removed commit stays removed", removed_stays_removed),
    ("a revoked approval is none", revoked_is_revoked),
    ("an approval that was not used in time is none", approval_expires),
    ("what went for a higher trust comes back when that falls", trust_falls_back),
    ("a pin outlasts a rise in trust", pin_outlasts_a_rise),
    ("what loses its data while it comes up begins again, held or not", coming_up_begins_again),
    ("a project that was taken out runs on until a person confirms", operator::taken_out_runs_on),
    ("a project that comes back has lost nothing", operator::taken_out_comes_back),
    ("what a tag has left behind lives on, and begins no more", operator::left_behind_lives_on),
    ("old images stay: the last three, and what was merged", operator::old_images_stay),
    ("an image by CI is waited for, and no longer than it may", operator::image_is_waited_for),
    ("a secret that is not set blocks, and one that changes makes stale", operator::secrets_block_and_grow_stale),
    ("what wakes has its companions", sleep::wakes_with_companions),
    ("versions of a baseline follow each other, and go when unused", baselines::versions_follow_each_other),
    ("a baseline is made while the engine is away", baselines::made_without_engine),
    ("a doubtful refresh is kept back", baselines::doubtful_is_kept_back),
    ("a lost store finds its versions again", baselines::lost_store_finds_versions),
    ("data that are not there block", baselines::missing_data_block),
    ("foreign code gets the baseline set aside for it", baselines::forks_get_their_own),
    ("data are carried on, and not after a rewrite", baselines::data_are_carried_on),
    ("a clone made ahead is claimed, and the next is made", baselines::spares_are_refilled),
    ("the clock refreshes, once for all that was missed", schedule::the_clock_refreshes),
];

/// Plays all scenes, some times each.
///
/// # Errors
/// Scene, seed, and what did not hold.
pub fn play_scenes(times: u64) -> Result<(), String> {
    for (name, scene) in SCENES {
        for seed in 0..times {
            let played = std::panic::catch_unwind(|| scene(seed)).unwrap_or_else(|_| Err("panicked".into()));
            played.map_err(|what| format!("scene '{name}' ({seed}): {what}"))?;
        }
    }
    Ok(())
}

/// It says where its data come from.
fn names_data(manifest: &Manifest) -> bool {
    let other = |name: &Option<String>| name.as_deref().is_some_and(|name| name != "default");
    manifest.carry || other(&manifest.database) || other(&manifest.objects)
}

struct Stage {
    sim: Sim,
    project: ProjectName,
}

impl Stage {
    fn new(seed: u64, change: impl FnOnce(&mut Settings)) -> Result<Stage, String> {
        let mut settings = Settings::calm(&["shop"]);
        change(&mut settings);
        let mut sim = Sim::with(settings, World::new(seed, Time(1_790_000_000_000)), false);
        sim.calm = true;
        let mut stage = Stage { sim, project: "shop".parse().expect("a valid name") };
        stage.run(10)?;
        Ok(stage)
    }

    fn run(&mut self, seconds: u64) -> Result<(), String> {
        self.millis(seconds * 1_000)
    }

    fn millis(&mut self, millis: u64) -> Result<(), String> {
        let end = Time(self.sim.world.now.0 + millis);
        self.sim.run_until(end).map_err(|violation| violation.what)
    }

    fn push(&mut self, number: u64, fate: Fate) -> Sha {
        let sha = self.commit(fate);
        self.point(number, sha, false);
        sha
    }

    fn push_foreign(&mut self, number: u64) -> Sha {
        let sha = self.commit(Fate::Good);
        self.point(number, sha, true);
        sha
    }

    /// A commit with a tree of its own, so that no build is shared.
    fn commit(&mut self, fate: Fate) -> Sha {
        let sha = loop {
            let sha = self.sim.forge.commit(&mut self.sim.world.rng, 0);
            let commit = &self.sim.forge.commits[&sha];
            let trees = self.sim.forge.commits.values().filter(|one| one.source.tree == commit.source.tree).count();
            let plain = commit.source.manifest.as_ref().is_ok_and(|one| {
                one.build.image.is_none() && one.env.is_empty() && one.apps.is_empty() && !names_data(one)
            });
            if trees == 1 && plain {
                break sha;
            }
        };
        if let Some(commit) = self.sim.forge.commits.get_mut(&sha) {
            commit.fate = fate;
        }
        let project = self.project.clone();
        self.sim.introduce(&project, sha);
        sha
    }

    /// A pull request points to this commit from now on.
    fn point(&mut self, number: u64, sha: Sha, foreign: bool) {
        let project = self.project.clone();
        if let Some(repository) = self.sim.forge.repositories.get_mut(&project) {
            let new = || Branch { open: true, foreign, watched: true, pushed: Vec::new() };
            repository.refs.entry(Ref::Pull(number)).or_insert_with(new).pushed.push(sha);
        }
        self.sim.hint(&project);
    }

    fn ask(&mut self, command: impl FnOnce(ProjectName) -> Command) {
        let command = command(self.project.clone());
        self.sim.ask(command);
    }

    fn close(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let project = self.project.clone();
        for number in numbers {
            let refs = self.sim.forge.repositories.get_mut(&project).map(|repository| &mut repository.refs);
            if let Some(branch) = refs.and_then(|refs| refs.get_mut(&Ref::Pull(number))) {
                branch.open = false;
            }
        }
        self.sim.hint(&project);
    }

    fn state(&self, sha: Sha) -> Option<State> {
        commits(&self.sim.view).find(|commit| commit.sha == sha).map(|commit| commit.state)
    }

    fn expect(&self, what: &str, sha: Sha, states: &[State]) -> Result<(), String> {
        match self.state(sha) {
            Some(state) if states.contains(&state) => Ok(()),
            other => Err(format!("{what} is {other:?}, and should be one of {states:?}")),
        }
    }
}

/// Two places, both taken, a third ref waits. The commit that builds in one of them is replaced by a push: the place stays
/// with its ref.
fn place_passes_on(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| settings.policy.limits.environments = 2)?;
    let second = stage.push(2, Fate::Good);
    stage.run(200)?;
    stage.expect("the second ref's commit", second, &[State::Ready])?;
    let first = stage.push(1, Fate::Good);
    stage.run(7)?;
    let third = stage.push(3, Fate::Good);
    stage.run(7)?;
    stage.expect("the third ref's commit", third, &[State::Queued])?;
    if stage.state(first) == Some(State::Ready) {
        return Ok(());
    }
    let newer = stage.push(1, Fate::Good);
    stage.run(8)?;
    stage.expect("the third ref's commit after a push to the first", third, &[State::Queued])?;
    stage.expect("the pushed commit", newer, &[State::Building, State::Starting, State::Queued, State::Ready])?;
    stage.run(300)?;
    stage.expect("the pushed commit in the end", newer, &[State::Ready])?;
    stage.expect("the third ref's commit in the end", third, &[State::Queued])
}

/// Staged on request only. What a lost store left of a head that has never been ready is taken up again; a push that nobody
/// asks for does not cost it.
fn newest_runnable(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| {
        settings.policy.projects.values_mut().for_each(|project| project.stage = StageMode::OnRequest);
    })?;
    let old = stage.push(1, Fate::MuteWeb);
    stage.run(8)?;
    let project = stage.project.clone();
    stage.sim.ask(Command::Stage { project, sha: old });
    for _ in 0..3_000 {
        stage.millis(100)?;
        let web = |id: &planner::resource::ResourceId| id.kind == Kind::Container && id.name == "web";
        if stage.sim.world.things.keys().any(web) {
            break;
        }
    }
    stage.sim.die(true);
    stage.run(30)?;
    let alive = [State::Starting, State::Building, State::Failed, State::Waking];
    stage.expect("the commit that was taken up", old, &alive)?;
    stage.push(1, Fate::Good);
    stage.run(60)?;
    stage.expect("the commit that was taken up, after a push that nobody asked for", old, &alive)
}

/// Four of six close at once and are held. When others come, four are no longer more than half, and still held.
fn held_stays_held(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| {
        settings.policy.limits.environments = 20;
        settings.policy.limits.awake = 20;
    })?;
    let shas: Vec<Sha> = (1..=6).map(|number| stage.push(number, Fate::Good)).collect();
    stage.run(900)?;
    stage.close(1..=4);
    stage.run(60)?;
    for number in 7..=12 {
        stage.push(number, Fate::Good);
    }
    stage.run(600)?;
    let held = commits(&stage.sim.view).filter(|commit| commit.held && shas[..4].contains(&commit.sha)).count();
    if held != 4 {
        return Err(format!("{held} of 4 are held"));
    }
    let kept = stage.sim.world.things.keys().filter(|id| id.kind == Kind::Container && id.name == "web").count();
    if kept < 12 { Err(format!("{kept} web processes of 12 are left")) } else { Ok(()) }
}

/// Pushed, staged by itself, removed by a person: it does not come back by itself.
fn removed_stays_removed(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.push(1, Fate::Good);
    stage.run(200)?;
    let project = stage.project.clone();
    stage.sim.ask(Command::Remove { project, sha });
    stage.run(200)?;
    stage.expect("the removed commit", sha, &[State::Removed])?;
    stage.sim.die(false);
    stage.run(200)?;
    stage.expect("the removed commit after a restart", sha, &[State::Removed])
}

/// Approved, up, revoked; staging alone does not bring it back.
fn revoked_is_revoked(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.push_foreign(1);
    stage.run(10)?;
    stage.expect("the foreign commit", sha, &[State::Blocked])?;
    stage.ask(|project| Command::Approve { project, sha });
    stage.run(200)?;
    stage.expect("the approved commit", sha, &[State::Ready])?;
    stage.ask(|project| Command::Revoke { project, sha });
    stage.run(200)?;
    stage.ask(|project| Command::Stage { project, sha });
    stage.run(200)?;
    stage.expect("the commit whose approval was revoked", sha, &[State::Blocked])
}

/// Approved while all places are taken; when one is free more than a week later the approval is no good any more.
fn approval_expires(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| settings.policy.limits.environments = 1)?;
    let own = stage.push(1, Fate::Good);
    stage.run(200)?;
    stage.ask(|project| Command::Pin { project, sha: own });
    let foreign = stage.push_foreign(2);
    stage.run(10)?;
    stage.ask(|project| Command::Approve { project, sha: foreign });
    stage.run(60)?;
    stage.expect("the approved commit", foreign, &[State::Queued])?;
    stage.sim.world.now = Time(stage.sim.world.now.0 + 8 * 86_400_000);
    stage.run(60)?;
    stage.ask(|project| Command::Remove { project, sha: own });
    stage.run(300)?;
    stage.expect("the commit whose approval has expired", foreign, &[State::Blocked])
}

/// A foreign commit is approved and up; the project takes it over in a ref of its own, and drops that ref again.
fn trust_falls_back(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.push(2, Fate::Good);
    let sha = stage.push_foreign(1);
    stage.run(10)?;
    stage.ask(|project| Command::Approve { project, sha });
    stage.run(200)?;
    stage.expect("the approved commit", sha, &[State::Ready])?;
    stage.point(2, sha, false);
    stage.run(300)?;
    let trusted =
        commits(&stage.sim.view).any(|one| one.sha == sha && one.trust == Trust::Trusted && one.state == State::Ready);
    if !trusted {
        return Err("the project's own ref does not serve the commit as trusted".into());
    }
    stage.close([2]);
    stage.run(300)?;
    stage.expect("the commit that is foreign again, and approved", sha, &[State::Ready])
}

/// A foreign commit is approved, up and pinned; the project takes it over in a ref of its own.
fn pin_outlasts_a_rise(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    stage.push(2, Fate::Good);
    let sha = stage.push_foreign(1);
    stage.run(10)?;
    stage.ask(|project| Command::Approve { project, sha });
    stage.run(200)?;
    stage.ask(|project| Command::Pin { project, sha });
    stage.run(10)?;
    stage.point(2, sha, false);
    stage.run(10)?;
    stage.ask(|project| Command::Stage { project, sha });
    stage.run(300)?;
    let mut shown = commits(&stage.sim.view).filter(|one| one.sha == sha);
    if shown.all(|one| one.trust == Trust::Trusted && one.pinned) {
        return Ok(());
    }
    Err("a commit that was pinned as approved code is not pinned as trusted code".into())
}

/// Four come up, all that there are, and all lose their buckets: nothing was lost that anybody had. Then all four close
/// and are held, and one more bucket is deleted: what is held begins again, and is held still.
fn coming_up_begins_again(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |settings| {
        settings.policy.limits.builds = 4;
        settings.policy.projects.values_mut().for_each(|project| project.stage = StageMode::Automatic);
    })?;
    let shas: Vec<Sha> = (1..=4).map(|number| stage.push(number, Fate::BadBuild)).collect();
    for sha in shas {
        // The builds take their time, whatever becomes of them.
        stage.ask(|project| Command::Stage { project, sha });
    }
    stage.run(300)?;
    let bucket = |id: &&planner::resource::ResourceId| id.kind == Kind::Bucket;
    let buckets: Vec<_> = stage.sim.world.things.keys().filter(bucket).cloned().collect();
    buckets.iter().for_each(|id| stage.sim.delete(id));
    for _ in 0..400 {
        stage.millis(500)?;
        let held = commits(&stage.sim.view).filter(|one| one.held).count();
        if held > 0 {
            return Err(format!("{held} of those that came up are held for want of data that nobody had"));
        }
    }
    let again = commits(&stage.sim.view).filter(|one| one.generation == 2).count();
    if again < buckets.len() {
        return Err(format!("{again} of {} begin again", buckets.len()));
    }
    stage.close(1..=4);
    stage.run(100)?;
    let Some(id) = stage.sim.world.things.keys().find(bucket).cloned() else { return Err("no bucket is left".into()) };
    stage.sim.delete(&id);
    stage.run(200)?;
    let again = commits(&stage.sim.view).filter(|one| one.held && one.generation == 3).count();
    if again == 1 { Ok(()) } else { Err(format!("{again} of those that are held have begun again")) }
}
