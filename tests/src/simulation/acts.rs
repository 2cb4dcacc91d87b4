//! What people do, and what befalls the world from outside.

pub mod baselines;

use std::time::Duration;

use planner::command::{Actor, Command, Role};
use planner::event::Event;
use planner::identity::{EnvId, ProjectName, Ref, Sha, Time, Trust};
use planner::resource::{Kind, Owner, Phase, ResourceId, Run};

use super::forge::Branch;
use super::run::{Errand, Sim};
use super::settings::Aim;
use super::world::{BACKENDS, Fate};

/// Data of baselines is left to scenes: without it nothing that names it begins.
fn may_vanish(id: &ResourceId) -> bool {
    !matches!(id.owner, Owner::Baseline(_)) || id.name != "main"
}

/// What may happen, with its weight in a general seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Push,
    PushOld,
    Open,
    ShareHead,
    Close,
    CloseMany,
    Reopen,
    Command,
    Request,
    Reload,
    Baseline,
    Visit,
    VisitAll,
    Delete,
    Drift,
    Exit,
    EngineRestarts,
    BackendAway,
    Dies,
    LosesStore,
}

const ACTS: [(Act, u64); 20] = [
    (Act::Push, 160),
    (Act::PushOld, 30),
    (Act::Open, 90),
    (Act::ShareHead, 30),
    (Act::Close, 50),
    (Act::CloseMany, 6),
    (Act::Reopen, 50),
    (Act::Command, 200),
    (Act::Request, 25),
    (Act::Reload, 20),
    (Act::Baseline, 90),
    (Act::Visit, 120),
    (Act::VisitAll, 20),
    (Act::Delete, 20),
    (Act::Drift, 12),
    (Act::Exit, 12),
    (Act::EngineRestarts, 8),
    (Act::BackendAway, 20),
    (Act::Dies, 15),
    (Act::LosesStore, 3),
];

fn weight(act: Act, general: u64, aim: Aim) -> u64 {
    let outside = matches!(
        act,
        Act::Delete | Act::Drift | Act::Exit | Act::EngineRestarts | Act::BackendAway | Act::Dies | Act::LosesStore
    );
    match (aim, act) {
        (Aim::Calm, _) if outside => 0,
        (Aim::Outside, Act::Delete | Act::Drift | Act::Exit) => general * 5,
        (Aim::Outside, Act::EngineRestarts | Act::BackendAway) => general * 3,
        (Aim::Crashes, Act::Dies | Act::LosesStore) => general * 4,
        (Aim::Trust, Act::ShareHead) => general * 4,
        (Aim::Guard, Act::CloseMany | Act::Open) => general * 4,
        (Aim::Quota, Act::Push | Act::Open) => general * 2,
        (Aim::Sleep, Act::Visit | Act::VisitAll) => general * 2,
        _ => general,
    }
}

impl Sim {
    /// The first refs of each project, before Sidestage has seen any.
    pub fn found(&mut self) {
        for project in self.projects() {
            for _ in 0..self.world.rng.between(0, 3) {
                self.open(&project);
            }
        }
    }

    /// One act, drawn by the seed, and when the next one comes.
    pub fn act(&mut self) {
        let aim = self.settings.aim;
        let weights: Vec<u64> = ACTS.iter().map(|(act, general)| weight(*act, *general, aim)).collect();
        let act = ACTS[self.world.rng.weighted(&weights)].0;
        self.say(|| format!("*** {act:?}"));
        if let Some(project) = self.world.rng.pick(&self.projects()) {
            self.perform(act, &project);
        }
        self.plan_next();
    }

    fn plan_next(&mut self) {
        if self.acts >= self.settings.acts {
            return;
        }
        let rng = &mut self.world.rng;
        let long = if self.settings.aim == Aim::Sleep { 30 } else { 10 };
        let gap = match rng.weighted(&[30, 35, 20, long, long / 3]) {
            0 => rng.between(50, 3_000),
            1 => rng.between(3_000, 60_000),
            2 => rng.between(60_000, 600_000),
            3 => rng.between(600_000, 4 * 3_600_000),
            _ => rng.between(86_400_000 / 2, 6 * 86_400_000),
        };
        // Long gaps are mostly slept through by the whole machine, as a suspended one does: the clock jumps.
        let played = gap.min(45_000);
        self.jump = gap - played;
        self.errand(played, Errand::Act);
    }

    fn projects(&self) -> Vec<ProjectName> {
        self.settings.all.keys().cloned().collect()
    }

    fn perform(&mut self, act: Act, project: &ProjectName) {
        match act {
            Act::Push => self.push(project),
            Act::PushOld => self.push_old(project),
            Act::Open => self.open(project),
            Act::ShareHead => self.share_head(project),
            Act::Close => self.set_open(project, false, 1),
            Act::CloseMany => self.set_open(project, false, 9),
            Act::Reopen => self.set_open(project, true, 1),
            Act::Command => self.command(project),
            Act::Request => self.request_ref(project),
            Act::Reload => self.reload(project),
            Act::Baseline => self.baseline(),
            Act::Visit => self.visit(1),
            Act::VisitAll => self.visit(20),
            Act::Delete => {
                if let Some(id) = self.some_thing(may_vanish) {
                    self.delete(&id);
                }
            }
            Act::Drift => self.drift(),
            Act::Exit => self.exit(),
            Act::EngineRestarts => self.restart_engine(),
            Act::BackendAway => self.away(),
            Act::Dies => self.die(false),
            Act::LosesStore => self.die(true),
        }
        if matches!(
            act,
            Act::Push | Act::PushOld | Act::Open | Act::ShareHead | Act::Close | Act::CloseMany | Act::Reopen
        ) && self.world.rng.chance(850)
        {
            self.hint(project);
        }
    }

    /// A new commit exists in a project.
    fn write_commit(&mut self, project: &ProjectName) -> Sha {
        let sha = self.forge.commit(&mut self.world.rng, self.settings.bad);
        self.introduce(project, sha);
        sha
    }

    /// The world and the judge learn of a commit.
    pub fn introduce(&mut self, project: &ProjectName, sha: Sha) {
        let fate = self.forge.commits.get(&sha).map_or(Fate::Good, |commit| commit.fate);
        let key = (project.clone(), sha);
        let manifest = self.forge.commits.get(&sha).and_then(|commit| commit.source.manifest.as_ref().ok());
        let by_ci = manifest.is_some_and(|manifest| manifest.build.image.is_some());
        if by_ci && fate != Fate::NoImage && !self.world.pushed.contains_key(&key) {
            let millis = self.world.span(1_000, 25 * 60_000);
            self.world.pushed.insert(key.clone(), Time(self.world.now.0 + millis));
        }
        self.world.fates.insert(key, fate);
        self.oracle.know(project, &sha);
    }

    /// Any commit, perhaps one that another project has too.
    fn some_commit(&mut self, project: &ProjectName) -> Sha {
        let known: Vec<Sha> = self.forge.commits.keys().copied().collect();
        match self.world.rng.pick(&known) {
            Some(sha) if self.world.rng.chance(40) => {
                self.introduce(project, sha);
                sha
            }
            _ => self.write_commit(project),
        }
    }

    fn pick_ref(&mut self, project: &ProjectName, wanted: impl Fn(&Branch) -> bool) -> Option<Ref> {
        let repository = self.forge.repositories.get(project)?;
        let names: Vec<Ref> =
            repository.refs.iter().filter(|(_, branch)| wanted(branch)).map(|(name, _)| name.clone()).collect();
        self.world.rng.pick(&names)
    }

    fn branch(&mut self, project: &ProjectName, name: &Ref) -> Option<&mut Branch> {
        self.forge.repositories.get_mut(project)?.refs.get_mut(name)
    }

    fn push(&mut self, project: &ProjectName) {
        let Some(name) = self.pick_ref(project, |branch| branch.open) else { return self.open(project) };
        let sha = self.some_commit(project);
        let parent = self.branch(project, &name).and_then(|branch| branch.pushed.last().copied());
        // Some pushes rewrite what was there.
        if let Some(parent) = parent.filter(|_| self.world.rng.chance(800)) {
            self.forge.follow(&sha, &parent);
        }
        if let Some(branch) = self.branch(project, &name) {
            branch.pushed.push(sha);
        }
    }

    fn push_old(&mut self, project: &ProjectName) {
        let Some(name) = self.pick_ref(project, |branch| branch.open && branch.pushed.len() > 1) else { return };
        let pushed = self.branch(project, &name).map(|branch| branch.pushed.clone()).unwrap_or_default();
        let Some(sha) = self.world.rng.pick(&pushed) else { return };
        if let Some(branch) = self.branch(project, &name) {
            branch.pushed.push(sha);
        }
    }

    fn open(&mut self, project: &ProjectName) {
        let count = self.forge.repositories.get(project).map_or(0, |repository| repository.refs.len());
        let most = if self.settings.aim == Aim::Guard { 9 } else { 5 };
        if count >= most {
            return;
        }
        let sha = self.some_commit(project);
        self.open_at(project, sha);
    }

    fn open_at(&mut self, project: &ProjectName, sha: Sha) {
        let number = self.forge.repositories.get(project).map_or(0, |repository| repository.refs.len()) as u64 + 1;
        let foreign = self.world.rng.chance(if self.settings.aim == Aim::Trust { 550 } else { 300 });
        let name = match self.world.rng.below(5) {
            0 if !foreign => Ref::Branch(format!("feature/{number}")),
            1 if !foreign => Ref::Tag(format!("v{number}")),
            _ => Ref::Pull(number),
        };
        if let Some(repository) = self.forge.repositories.get_mut(project) {
            repository.refs.insert(name, Branch { open: true, foreign, watched: true, pushed: vec![sha] });
        }
    }

    /// One commit under two refs, perhaps one of them foreign.
    fn share_head(&mut self, project: &ProjectName) {
        let Some(from) = self.pick_ref(project, |branch| branch.open) else { return };
        let Some(sha) = self.branch(project, &from).and_then(|branch| branch.pushed.last().copied()) else { return };
        let to = self.pick_ref(project, |branch| branch.open && branch.pushed.last() != Some(&sha));
        match to {
            Some(to) if self.world.rng.chance(600) => {
                if let Some(branch) = self.branch(project, &to) {
                    branch.pushed.push(sha);
                }
            }
            _ => self.open_at(project, sha),
        }
    }

    fn set_open(&mut self, project: &ProjectName, open: bool, count: usize) {
        for _ in 0..count {
            let Some(name) = self.pick_ref(project, |branch| branch.open != open) else { return };
            if let Some(branch) = self.branch(project, &name) {
                branch.open = open;
            }
        }
    }

    /// A person asks for a branch or tag that nobody watches: a new one, or one that was asked for before.
    fn request_ref(&mut self, project: &ProjectName) {
        let known = self.pick_ref(project, |branch| !branch.watched && branch.open);
        let name = match known {
            Some(name) if self.world.rng.chance(500) => name,
            _ => {
                let sha = self.some_commit(project);
                let Some(repository) = self.forge.repositories.get_mut(project) else { return };
                let number = repository.refs.len() + 1;
                if number > 8 {
                    return;
                }
                let branch = Branch { open: true, foreign: false, watched: false, pushed: vec![sha] };
                let name = Ref::Tag(format!("v{number}"));
                repository.refs.insert(name.clone(), branch);
                name
            }
        };
        self.stage_ref(project, &name);
    }

    /// Looks a ref up at its forge, and asks for what it points to.
    pub fn stage_ref(&mut self, project: &ProjectName, name: &Ref) {
        let Some(head) = self.forge.head(project, name) else { return };
        let command = Command::Stage { project: project.clone(), sha: head.sha };
        self.send(1, Event::Found { project: project.clone(), head });
        self.ask(command);
    }

    /// The operator changes something: limits, or whether the project is configured at all.
    fn reload(&mut self, project: &ProjectName) {
        let number = self.world.rng.below(8) as usize;
        let secrets = super::settings::secrets(&mut self.world.rng);
        if let Some(one) = self.settings.all.get_mut(project).filter(|_| number > 5) {
            one.secrets = secrets;
        }
        let settings = self.settings.all.clone();
        self.reconfigure(|policy| match number {
            0 => policy.limits.environments = (policy.limits.environments + 3) % 10 + 1,
            1 => policy.limits.awake = policy.limits.awake % 5 + 1,
            2 => policy.limits.stopped = policy.limits.stopped % 8 + 1,
            3 | 4 if policy.projects.remove(project).is_some() => {}
            _ => policy.projects = settings,
        });
        self.say(|| format!("*** reload {number}"));
    }

    /// A commit that people talk about: mostly a head, sometimes an older one, seldom one that nobody knows.
    fn subject(&mut self, project: &ProjectName) -> Option<Sha> {
        let name = self.pick_ref(project, |_| true)?;
        let pushed = self.branch(project, &name).map(|branch| branch.pushed.clone())?;
        if self.world.rng.chance(700) { pushed.last().copied() } else { self.world.rng.pick(&pushed) }
    }

    fn command(&mut self, project: &ProjectName) {
        let Some(sha) = self.subject(project) else { return };
        let project = project.clone();
        let trusting = self.settings.aim == Aim::Trust;
        let command = match self.world.rng.weighted(&[
            60,
            if trusting { 100 } else { 50 },
            15,
            8,
            10,
            6,
            22,
            8,
            10,
            12,
            18,
            6,
            8,
        ]) {
            0 => Command::Stage { project, sha },
            1 => Command::Approve { project, sha },
            2 => Command::Revoke { project, sha },
            3 => Command::Extend { project, sha, by: Duration::from_secs(3 * 86_400) },
            4 => Command::Pin { project, sha },
            5 => Command::Unpin { project, sha },
            6 => Command::Reset { project, sha, baseline: self.some_baseline() },
            7 => Command::Rebuild { project, sha },
            8 => Command::Sleep { project, sha },
            9 => Command::Wake { project, sha },
            10 => Command::Remove { project, sha },
            11 => Command::Announce { project, sha },
            _ => {
                let confirm = self.world.rng.chance(500);
                Command::Gc { confirm }
            }
        };
        self.ask(command);
    }

    /// A person asks for something, with every right.
    pub fn ask(&mut self, command: Command) {
        let request = self.request();
        let actor = Actor { name: "ada".into(), role: Role::Admin };
        self.say(|| format!("*** asks {}: {command:?}", request.0));
        let millis = self.world.span(1, 500);
        self.send(millis, Event::Asked { request, actor, command });
    }

    /// Environments that a visitor could know of.
    fn envs(&self) -> Vec<EnvId> {
        let mut envs = Vec::new();
        for (project, repository) in &self.forge.repositories {
            for sha in repository.refs.values().flat_map(|branch| branch.pushed.iter().rev().take(3)) {
                envs.push(self.key.env(project, sha, Trust::Trusted));
                envs.push(self.key.env(project, sha, Trust::Approved));
            }
        }
        envs
    }

    fn visit(&mut self, count: usize) {
        let envs = self.envs();
        let now = self.world.now;
        let mut visits = Vec::new();
        for _ in 0..count {
            let Some(env) = self.world.rng.pick(&envs) else { return };
            if count == 1 && self.world.rng.chance(500) {
                return self.send(1, Event::Knock(env));
            }
            visits.push((env, Time(now.0 - self.world.rng.below(9_000))));
        }
        let twice = self.world.rng.chance(50);
        if twice {
            self.send(2, Event::Visits(visits.clone()));
        }
        self.send(1, Event::Visits(visits));
    }

    fn some_thing(&mut self, wanted: impl Fn(&ResourceId) -> bool) -> Option<ResourceId> {
        let ids: Vec<ResourceId> = self.world.things.keys().filter(|id| wanted(id)).cloned().collect();
        self.world.rng.pick(&ids)
    }

    /// Somebody deletes one of our things behind our back.
    pub fn delete(&mut self, id: &ResourceId) {
        self.say(|| format!("*** somebody deletes {id}"));
        if let (Owner::Env(env), Kind::Database | Kind::Bucket | Kind::Volume) = (&id.owner, id.kind) {
            self.oracle.robbed.insert((env.clone(), id.generation));
        }
        if matches!(id.kind, Kind::Network | Kind::Volume) {
            // The engine lets a network or a volume go only without its containers.
            let things = self.world.things.iter();
            let users: Vec<ResourceId> =
                things.filter(|(_, thing)| thing.observed.uses.contains(id)).map(|(one, _)| one.clone()).collect();
            users.iter().for_each(|user| self.world.erase(user));
        }
        self.world.erase(id);
    }

    /// Something is no longer what we made.
    fn drift(&mut self) {
        let Some(id) = self.some_thing(|_| true) else { return };
        if let Some(thing) = self.world.things.get_mut(&id) {
            thing.observed.fingerprint.0 = "drifted".into();
        }
        self.say(|| format!("*** {id} drifts"));
    }

    fn exit(&mut self) {
        let running: Vec<ResourceId> = self
            .world
            .things
            .iter()
            .filter(|(id, thing)| id.kind == Kind::Container && thing.observed.run == Run::Running)
            .map(|(id, _)| id.clone())
            .collect();
        let Some(id) = self.world.rng.pick(&running) else { return };
        if self.world.rng.chance(200) {
            // A process of it dies for want of memory, and the container runs on.
            if let Some(thing) = self.world.things.get_mut(&id) {
                thing.observed.outputs.oom += 1;
            }
            return;
        }
        let oom = self.world.rng.chance(400);
        let code = if oom { 137 } else { 3 };
        self.world.lower(&id, Run::Stopped, Some(Phase::Exited { code, oom }));
        self.world.wake_waiters(&id);
        self.say(|| format!("*** {id} exits by itself"));
    }

    fn restart_engine(&mut self) {
        let ids: Vec<ResourceId> = self.world.things.keys().cloned().collect();
        for id in ids {
            let observed = &self.world.things[&id].observed;
            let (running, whole) = (observed.run != Run::Stopped, observed.phase == Phase::Whole);
            match id.kind {
                Kind::Job if whole => self.world.lower(&id, Run::Stopped, Some(Phase::Lost)),
                Kind::Container if running => {
                    let phase =
                        if self.world.rng.chance(500) { Some(Phase::Exited { code: 137, oom: false }) } else { None };
                    self.world.lower(&id, Run::Stopped, phase);
                }
                _ => continue,
            }
            self.world.wake_waiters(&id);
        }
    }

    fn away(&mut self) {
        let Some(backend) = self.world.rng.pick(&BACKENDS) else { return };
        let until = Time(self.world.now.0 + self.world.rng.between(5_000, 900_000));
        self.world.down.insert(backend, until);
        self.say(|| format!("*** {backend:?} is away until {}", until.0));
    }
}
