//! Engine, PostgreSQL and object store as plain maps with a clock of their own: what exists, and what will happen to it.
//!
//! The world knows nothing of the core. It takes calls, lets them land whole, half, late or never, and answers or does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use planner::event::CallId;
use planner::identity::{EnvId, ProjectName, Sha, Time};
use planner::resource::{Backend, Failure, Fingerprint, Kind, Observed, Outputs, Owner, Phase, ResourceId, Run};

use super::calls::Call;
use super::rng::Rng;

/// All backends, in the order in which they are listed.
pub const BACKENDS: [Backend; 3] = [Backend::Engine, Backend::Postgres, Backend::Objects];

/// How a commit's code behaves, decided when it is written and never known to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Builds, releases, serves.
    Good,
    /// Its Dockerfile fails.
    BadBuild,
    /// Its build fails this often, then works.
    FlakyBuild(u32),
    /// Its release command exits with 1.
    BadRelease,
    /// Its manifest is wrong.
    BadManifest,
    /// Its web process exits at once.
    BadWeb,
    /// Its web process never answers.
    MuteWeb,
    /// CI never pushes its image.
    NoImage,
    /// Its further application never answers.
    MuteApp,
}

impl Fate {
    /// Whether a process of this name never answers.
    pub fn is_mute(self, name: &str) -> bool {
        matches!((self, name), (Fate::MuteWeb, "web") | (Fate::MuteApp, "api"))
    }
}

/// A dump that baselines are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dump {
    /// Tables in it.
    pub tables: u64,
    /// Bytes that it comes to.
    pub bytes: u64,
    /// It cannot be loaded.
    pub bad: bool,
}

/// One outside thing.
#[derive(Debug, Clone)]
pub struct Thing {
    /// What a listing says of it.
    pub observed: Observed,
    /// Tells this one from an earlier or later one of the same name. Never reused.
    pub born: u64,
    /// Times started; a timer of an earlier start means nothing.
    pub starts: u32,
    /// Containers: answers since its last start.
    pub healthy: bool,
    /// Whose code it runs.
    pub code: Option<(ProjectName, Sha)>,
}

/// What will happen in the world by itself.
#[derive(Debug, Clone)]
pub enum Due {
    /// A call reaches its backend.
    Land(u64),
    /// A call's answer reaches Sidestage.
    Reply { life: u32, call: CallId, result: Box<Result<Option<Observed>, Failure>> },
    /// A job's process ends.
    JobEnds { id: ResourceId, born: u64, starts: u32 },
    /// A container's process has come up, or has not.
    Settles { id: ResourceId, born: u64, starts: u32 },
    /// A removal that takes its time is over.
    Vanishes { id: ResourceId, born: u64 },
    /// Not the world's: something of the runner's, by number.
    Errand(u64),
}

/// What a container was, kept after its end: the judge of routes needs it.
#[derive(Debug, Clone)]
pub struct Life {
    /// Which thing it was.
    pub id: ResourceId,
    /// When it was started last.
    pub since: Time,
    /// When it ceased to run last, if it does not run.
    pub down: Option<Time>,
    /// Where it listens.
    pub address: Option<IpAddr>,
}

/// Everything outside.
#[derive(Debug)]
pub struct World {
    /// The clock.
    pub now: Time,
    /// The source of all chance.
    pub rng: Rng,
    /// What exists.
    pub things: BTreeMap<ResourceId, Thing>,
    /// Every container that ever ran, by the engine's id.
    pub lives: BTreeMap<String, Life>,
    /// Generations whose web process has answered at least once.
    pub answered: BTreeMap<EnvId, BTreeSet<u32>>,
    /// Containers that have answered at least once.
    pub healthy: BTreeSet<ResourceId>,
    /// What was complete at least once: (thing, birth) of data; jobs that exited 0.
    pub completed: BTreeSet<(ResourceId, u64)>,
    /// Backends that do not answer, and until when.
    pub down: BTreeMap<Backend, Time>,
    /// How code behaves.
    pub fates: BTreeMap<(ProjectName, Sha), Fate>,
    /// When CI pushes the image of a commit that has one.
    pub pushed: BTreeMap<(ProjectName, Sha), Time>,
    /// What dumps hold now, by their file.
    pub dumps: BTreeMap<PathBuf, Dump>,
    /// Calls that have not landed or wait.
    pub calls: BTreeMap<u64, Call>,
    /// Faults per thousand calls; 0 at the end of a story.
    pub faults: u64,
    /// Everything takes the shortest time that it may take, so that a story reads the same whatever else is drawn.
    pub steady: bool,
    queue: BTreeMap<(Time, u64), Due>,
    numbers: u64,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, now: Time) -> World {
        World {
            now,
            rng: Rng::new(seed),
            things: BTreeMap::new(),
            lives: BTreeMap::new(),
            answered: BTreeMap::new(),
            healthy: BTreeSet::new(),
            completed: BTreeSet::new(),
            down: BTreeMap::new(),
            fates: BTreeMap::new(),
            pushed: BTreeMap::new(),
            dumps: BTreeMap::new(),
            calls: BTreeMap::new(),
            faults: 0,
            steady: false,
            queue: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// A number never given before.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// How long something takes, in milliseconds.
    pub fn span(&mut self, low: u64, high: u64) -> u64 {
        if self.steady { low } else { self.rng.between(low, high) }
    }

    /// Something will happen in so many milliseconds.
    pub fn later(&mut self, millis: u64, due: Due) {
        let at = Time(self.now.0 + millis);
        let number = self.number();
        self.queue.insert((at, number), due);
    }

    /// When the next thing happens, if anything will.
    pub fn next_at(&self) -> Option<Time> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Whether anything is under way outside: a call, a process that comes up, an answer.
    pub fn is_busy(&self) -> bool {
        !self.calls.is_empty() || self.queue.values().any(|due| !matches!(due, Due::Errand(_)))
    }

    /// The next thing that is due by `until`; the clock moves on to it.
    pub fn pop(&mut self, until: Time) -> Option<Due> {
        let key = *self.queue.keys().next()?;
        if key.0 > until {
            return None;
        }
        self.now = self.now.max(key.0);
        self.queue.remove(&key)
    }

    /// Whether a backend answers now.
    pub fn answers(&self, backend: Backend) -> bool {
        self.down.get(&backend).is_none_or(|until| *until <= self.now)
    }

    /// A listing as of now.
    pub fn list(&self, backend: Backend) -> BTreeMap<ResourceId, Observed> {
        let ours = self.things.iter().filter(|(id, _)| id.backend == backend);
        ours.map(|(id, thing)| (id.clone(), thing.observed.clone())).collect()
    }

    /// Puts a new thing into the world.
    pub fn create(&mut self, id: &ResourceId, fingerprint: Fingerprint, phase: Phase, uses: Vec<ResourceId>) -> u64 {
        let born = self.number();
        let outputs = Outputs { id: Some(format!("{}-{born}", id.kind.as_str())), ..Outputs::default() };
        let process = matches!(id.kind, Kind::Container | Kind::Job);
        let run = if process { Run::Stopped } else { Run::Running };
        let observed = Observed { fingerprint, phase, run, uses, outputs };
        self.things.insert(id.clone(), Thing { observed, born, starts: 0, healthy: false, code: None });
        born
    }

    /// Starts the process of a container or job; it ends or comes up later.
    pub fn ignite(&mut self, id: &ResourceId) {
        let host = self.rng.between(2, 9) as u8;
        let wait = if id.kind == Kind::Job { self.span(1_000, 40_000) } else { self.span(300, 6_000) };
        let Some(thing) = self.things.get_mut(id) else { return };
        thing.starts += 1;
        thing.healthy = false;
        thing.observed.phase = Phase::Whole;
        thing.observed.run = Run::Running;
        // Few addresses, so that they are used again soon: a route must never rely on the address alone.
        let address = IpAddr::V4(Ipv4Addr::new(10, 210, 0, host));
        let (born, starts) = (thing.born, thing.starts);
        if id.kind == Kind::Job {
            return self.later(wait, Due::JobEnds { id: id.clone(), born, starts });
        }
        thing.observed.outputs.address = Some(address);
        let name = thing.observed.outputs.id.clone().unwrap_or_default();
        let life = Life { id: id.clone(), since: self.now, down: None, address: Some(address) };
        self.lives.insert(name, life);
        self.later(wait, Due::Settles { id: id.clone(), born, starts });
    }

    /// Lowers a container; `phase` says how it ended if it ended by itself.
    pub fn lower(&mut self, id: &ResourceId, run: Run, phase: Option<Phase>) {
        let now = self.now;
        let Some(thing) = self.things.get_mut(id) else { return };
        thing.observed.run = thing.observed.run.min(run);
        if let Some(phase) = phase {
            thing.observed.phase = phase;
        }
        if run == Run::Stopped {
            thing.healthy = false;
            thing.observed.outputs.address = None;
        }
        if let Some(life) = thing.observed.outputs.id.as_ref().and_then(|name| self.lives.get_mut(name)) {
            life.down = Some(life.down.unwrap_or(now));
        }
    }

    /// Thaws a paused container, which is as healthy as it was.
    pub fn thaw(&mut self, id: &ResourceId) {
        let Some(thing) = self.things.get_mut(id) else { return };
        thing.observed.run = Run::Running;
        if let Some(life) = thing.observed.outputs.id.as_ref().and_then(|name| self.lives.get_mut(name)) {
            life.down = None;
        }
    }

    /// The thing is gone at once.
    pub fn erase(&mut self, id: &ResourceId) {
        self.lower(id, Run::Stopped, None);
        self.things.remove(id);
        self.wake_waiters(id);
    }

    /// What an outside thing does by itself. Errands are given back.
    pub fn happen(&mut self, due: Due) -> Option<Due> {
        match due {
            Due::Land(number) => self.land(number),
            Due::JobEnds { id, born, starts } => self.job_ends(&id, born, starts),
            Due::Settles { id, born, starts } => self.settles(&id, born, starts),
            Due::Vanishes { id, born } => {
                if self.things.get(&id).is_some_and(|thing| thing.born == born) {
                    self.erase(&id);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn fate(&self, code: Option<&(ProjectName, Sha)>) -> Fate {
        code.and_then(|code| self.fates.get(code)).copied().unwrap_or(Fate::Good)
    }

    fn is_that(&self, id: &ResourceId, born: u64, starts: u32) -> bool {
        self.things
            .get(id)
            .is_some_and(|thing| thing.born == born && thing.starts == starts && thing.observed.phase == Phase::Whole)
    }

    fn job_ends(&mut self, id: &ResourceId, born: u64, starts: u32) {
        if !self.is_that(id, born, starts) {
            return;
        }
        let fate = self.fate(self.things[id].code.as_ref());
        let code = i64::from(fate == Fate::BadRelease);
        if code == 0 {
            self.completed.insert((id.clone(), born));
        }
        self.lower(id, Run::Stopped, Some(Phase::Exited { code, oom: false }));
        self.wake_waiters(id);
    }

    fn settles(&mut self, id: &ResourceId, born: u64, starts: u32) {
        if !self.is_that(id, born, starts) || self.things[id].observed.run == Run::Stopped {
            return;
        }
        let fate = self.fate(self.things[id].code.as_ref());
        let web = id.name == "web";
        if web && fate == Fate::BadWeb {
            self.lower(id, Run::Stopped, Some(Phase::Exited { code: 1, oom: false }));
        } else if !fate.is_mute(&id.name) {
            self.become_healthy(id);
        }
        self.wake_waiters(id);
    }

    fn become_healthy(&mut self, id: &ResourceId) {
        if let (Owner::Env(env), "web") = (&id.owner, id.name.as_str()) {
            self.answered.entry(env.clone()).or_default().insert(id.generation);
        }
        self.healthy.insert(id.clone());
        let Some(thing) = self.things.get_mut(id) else { return };
        thing.healthy = true;
    }

    /// A build's outcome by the commit's fate.
    pub fn build_outcome(&mut self, code: &(ProjectName, Sha)) -> Result<(), Failure> {
        match self.fates.get_mut(code) {
            Some(Fate::BadBuild) => Err(Failure::permanent("step 3 of the Dockerfile failed: exit code 2")),
            Some(Fate::FlakyBuild(left)) if *left > 0 => {
                *left -= 1;
                Err(Failure::transient("the registry did not answer"))
            }
            _ => Ok(()),
        }
    }
}
