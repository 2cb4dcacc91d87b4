//! Scenes of what the operator does (configurations, secrets) and of what outlives an environment.

use planner::command::Command;
use planner::event::Event;
use planner::identity::{Ref, Sha, Time, Trust};
use planner::manifest::Manifest;
use planner::policy::Policy;
use planner::resource::Kind;
use planner::secrets::{SecretClass, Versions};
use planner::view::State;

use super::Stage;
use crate::simulation::forge::Branch;
use crate::simulation::oracle::commits;
use crate::simulation::world::Fate;

impl Stage {
    fn take_out(&mut self) -> Result<(), String> {
        self.sim.reconfigure(|policy| policy.projects.clear());
        self.run(5)
    }

    fn put_back(&mut self) -> Result<(), String> {
        let all = self.sim.settings.all.clone();
        self.sim.reconfigure(|policy| policy.projects = all);
        self.run(30)
    }

    fn webs(&self) -> usize {
        self.sim.world.things.keys().filter(|id| id.kind == Kind::Container && id.name == "web").count()
    }

    fn images(&self) -> usize {
        self.sim.world.things.keys().filter(|id| id.kind == Kind::Image).count()
    }

    fn says(&self, sha: Sha, words: &str) -> Result<(), String> {
        let reason = commits(&self.sim.view).find(|one| one.sha == sha).and_then(|one| one.reason.clone());
        if reason.as_ref().is_some_and(|reason| reason.contains(words)) {
            return Ok(());
        }
        Err(format!("{} says {reason:?}, and nothing of '{words}'", sha.short()))
    }
}

/// One environment only, so that the guard against many removals has no say. A restart and days change nothing; visits wake.
pub(super) fn taken_out_runs_on(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.push(1, Fate::Good);
    stage.run(200)?;
    stage.take_out()?;
    stage.expect("what was taken out", sha, &[State::Ready])?;
    stage.says(sha, "taken out of the configuration")?;
    stage.sim.die(false);
    stage.sim.world.now = Time(stage.sim.world.now.0 + 8 * 86_400_000);
    stage.run(200)?;
    stage.expect("what was taken out, a week later", sha, &[State::Asleep])?;
    let env = stage.sim.key.env(&stage.project, &sha, Trust::Trusted);
    stage.sim.send(1, Event::Knock(env));
    stage.run(60)?;
    stage.expect("what was taken out, after a visit", sha, &[State::Ready])?;
    stage.ask(|project| Command::Reset { project, sha, baseline: None });
    stage.sim.ask(Command::Gc { confirm: false });
    stage.run(60)?;
    stage.expect("what was taken out, with nothing confirmed", sha, &[State::Ready])?;
    stage.sim.ask(Command::Gc { confirm: true });
    stage.run(300)?;
    match stage.sim.world.things.keys().next() {
        Some(id) => Err(format!("{id} is left of a project that a person let go")),
        None => Ok(()),
    }
}

/// Out for longer than anything lives, and back, twice; when it had been let go its return is as calm as its first sight.
pub(super) fn taken_out_comes_back(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.push(1, Fate::Good);
    stage.run(200)?;
    stage.take_out()?;
    stage.sim.world.now = Time(stage.sim.world.now.0 + 8 * 86_400_000);
    stage.put_back()?;
    stage.run(200)?;
    stage.expect("what came back", sha, &[State::Asleep, State::Ready, State::Dozing])?;
    if commits(&stage.sim.view).any(|one| one.held || one.generation > 1) {
        return Err("what came back is held still, or was made anew".into());
    }
    stage.take_out()?;
    stage.sim.ask(Command::Gc { confirm: true });
    stage.run(300)?;
    stage.put_back()?;
    stage.run(200)?;
    if stage.webs() > 0 {
        return Err("a project that had been let go stages itself when it comes back".into());
    }
    stage.ask(|project| Command::Stage { project, sha });
    stage.run(200)?;
    stage.expect("what was asked for again", sha, &[State::Ready])
}

/// A tag that nobody watches is asked for, moves, and is deleted.
pub(super) fn left_behind_lives_on(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let (project, name) = (stage.project.clone(), Ref::Tag("v5".to_owned()));
    let (old, new) = (stage.commit(Fate::Good), stage.commit(Fate::Good));
    let branch = Branch { open: true, foreign: false, watched: false, pushed: vec![old] };
    let tag = |stage: &mut Stage, change: fn(&mut Branch, Sha)| {
        let repository = stage.sim.forge.repositories.get_mut(&project);
        repository.and_then(|repository| repository.refs.get_mut(&name)).into_iter().for_each(|one| change(one, new));
        stage.sim.hint(&project);
    };
    stage.sim.forge.repositories.entry(project.clone()).or_default().refs.insert(name.clone(), branch);
    stage.sim.stage_ref(&project, &name);
    stage.run(1_000)?;
    stage.expect("the tag's commit", old, &[State::Ready, State::Dozing])?;
    tag(&mut stage, |branch, new| branch.pushed.push(new));
    stage.run(600)?;
    stage.says(old, &format!("tag v5 has moved to {}", new.short()))?;
    stage.expect("what the tag points to now", new, &[State::Unstaged])?;
    stage.ask(|project| Command::Reset { project, sha: old, baseline: None });
    stage.run(300)?;
    if commits(&stage.sim.view).any(|one| one.generation > 1) {
        return Err("what the tag has left begins again".into());
    }
    tag(&mut stage, |branch, _| branch.open = false);
    stage.run(600)?;
    stage.says(old, "tag v5 is gone")?;
    stage.expect("what the tag has left, after it was deleted", old, &[State::Ready, State::Dozing, State::Asleep])?;
    stage.sim.world.now = Time(stage.sim.world.now.0 + 6 * 86_400_000);
    stage.run(300)?;
    if stage.webs() > 0 { Err("what the tag has left outlives its time".into()) } else { Ok(()) }
}

/// Six commits of one pull request, one after the other; it closes; a fortnight passes.
pub(super) fn old_images_stay(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    for _ in 0..6 {
        stage.push(1, Fate::Good);
        stage.run(300)?;
        stage.sim.world.now = Time(stage.sim.world.now.0 + 2 * 86_400_000);
        stage.run(100)?;
    }
    let (webs, images) = (stage.webs(), stage.images());
    if (webs, images) != (1, 4) {
        return Err(format!("{images} images for {webs} environments; one in use and three old ones should be there"));
    }
    stage.close([1]);
    stage.run(300)?;
    // Others come and go within the fortnight: what was merged stays beside the last three.
    for _ in 0..3 {
        stage.push(2, Fate::Good);
        stage.run(300)?;
        stage.sim.world.now = Time(stage.sim.world.now.0 + 2 * 86_400_000);
        stage.run(100)?;
    }
    stage.close([2]);
    stage.run(300)?;
    if stage.images() != 4 {
        return Err(format!("{} images are kept of what was merged lately and three old ones", stage.images()));
    }
    stage.sim.world.now = Time(stage.sim.world.now.0 + 15 * 86_400_000);
    stage.run(300)?;
    if stage.images() == 3 { Ok(()) } else { Err(format!("{} images are kept after a fortnight", stage.images())) }
}

impl Stage {
    /// A commit with this manifest, not pushed yet.
    fn commit_with(&mut self, manifest: &str) -> Result<Sha, String> {
        let sha = self.commit(Fate::Good);
        let manifest = Manifest::parse(Some(manifest.as_bytes()))?;
        if let Some(commit) = self.sim.forge.commits.get_mut(&sha) {
            commit.source.manifest = Ok(manifest.into());
        }
        Ok(sha)
    }

    /// CI pushes the image of a commit in so many seconds; none is never.
    fn pushes_image(&mut self, sha: Sha, seconds: Option<u64>) {
        let key = (self.project.clone(), sha);
        match seconds {
            Some(seconds) => drop(self.sim.world.pushed.insert(key, Time(self.sim.world.now.0 + seconds * 1_000))),
            None => drop(self.sim.world.pushed.remove(&key)),
        }
    }
}

/// One that comes after ten minutes, and one that never does. A person, or CI, begins the wait anew.
pub(super) fn image_is_waited_for(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let text = "[build]\nimage = \"ghcr.io/acme/shop:sha-{short_sha}\"\n";
    let (late, never) = (stage.commit_with(text)?, stage.commit_with(text)?);
    stage.pushes_image(late, Some(600));
    stage.point(1, late, false);
    stage.point(2, never, false);
    stage.run(300)?;
    let reference = format!("waiting for ghcr.io/acme/shop:sha-{}", late.short());
    stage.expect("what waits for its image", late, &[State::Queued])?;
    stage.says(late, &reference)?;
    stage.run(600)?;
    stage.expect("what has its image", late, &[State::Ready])?;
    stage.run(800)?;
    stage.expect("what waits for an image that never comes", never, &[State::Queued])?;
    stage.run(400)?;
    stage.expect("what has waited for too long", never, &[State::Failed])?;
    stage.says(never, "it did not come within 30m")?;
    stage.pushes_image(never, Some(0));
    stage.run(100)?;
    stage.expect("what has waited for too long, whatever comes later", never, &[State::Failed])?;
    stage.ask(|project| Command::Announce { project, sha: never });
    stage.run(100)?;
    stage.expect("what was announced", never, &[State::Ready])
}

/// Not set, set, changed, slept and woken.
pub(super) fn secrets_block_and_grow_stale(seed: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, |_| ())?;
    let sha = stage.commit_with("[env]\nAPI_TOKEN = \"${TOKEN}\"\n")?;
    stage.point(2, sha, false);
    stage.run(100)?;
    stage.push(1, Fate::Good);
    stage.ask(|project| Command::Stage { project, sha });
    stage.run(100)?;
    stage.expect("what names a secret that is not set", sha, &[State::Blocked])?;
    stage.says(sha, "secret TOKEN is not set for trusted code of `shop`")?;
    let set = |stage: &mut Stage, version: &str| {
        let versions = Versions::from([("TOKEN".to_owned(), version.to_owned())]);
        stage.sim.reconfigure(move |policy: &mut Policy| {
            for project in policy.projects.values_mut() {
                project.secrets.insert(SecretClass::Trusted, versions.clone());
            }
        });
    };
    set(&mut stage, "one");
    stage.run(200)?;
    stage.expect("what names a secret that is set now", sha, &[State::Ready])?;
    let stale = |stage: &Stage| commits(&stage.sim.view).any(|one| one.sha == sha && one.stale);
    if stale(&stage) {
        return Err("what was created with the secrets of now is called stale".into());
    }
    set(&mut stage, "two");
    stage.run(60)?;
    if !stale(&stage) {
        return Err("what was created with another secret is not called stale".into());
    }
    stage.ask(|project| Command::Sleep { project, sha });
    stage.run(60)?;
    stage.ask(|project| Command::Wake { project, sha });
    stage.run(60)?;
    stage.expect("what was woken", sha, &[State::Ready])?;
    if stale(&stage) { Err("what was woken with the secrets of now is called stale".into()) } else { Ok(()) }
}
