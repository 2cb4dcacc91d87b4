//! Plays one seed: the executor of the core in small, with the world, the forges and the people around it.

mod looks;
mod memory;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use planner::core::Core;
use planner::event::{Began, Event, RequestId, Step};
use planner::facts::Table;
use planner::identity::{InstanceKey, ProjectName, Time};
use planner::policy::Policy;
use planner::resource::{Action, Backend, Failure, Observed, ResourceId};
use planner::tables::Tables;
use planner::view::View;

use super::forge::Forge;
use super::oracle::Oracle;
use super::settings::Settings;
use super::world::{BACKENDS, Due, World};

/// How often a backend is listed, in milliseconds.
const LISTING: u64 = 30_000;

/// The same while nothing happens that nobody asked for.
const CALM_LISTING: u64 = 50_000;

/// How often, per thousand steps, the rows are compared with what is shown.
const MEMORY: u64 = 20;

/// What a story came to.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which rule was broken by what.
    pub what: String,
    /// The last lines of the story, or all if it was traced.
    pub trace: Vec<String>,
}

/// Something that the runner does at its time.
#[derive(Debug)]
pub enum Errand {
    /// A backend begins to be listed, unless that has been planned anew since.
    Look { backend: Backend, number: u64 },
    /// A listing arrives.
    Listing { life: u32, backend: Backend, began: Began, seen: Result<BTreeMap<ResourceId, Observed>, Failure> },
    /// A forge is asked, as it is from time to time, or because of a hint.
    Poll { project: ProjectName, again: bool },
    /// Something arrives, if Sidestage has not died since it was sent.
    Arrives { life: u32, event: Box<Event> },
    /// Somebody or something acts.
    Act,
}

/// Where the listing of a backend stands: one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Planned(u64),
    UnderWay,
    /// Under way, and wanted again right after.
    Again,
}

/// One story.
pub struct Sim {
    /// The seed's settings.
    pub settings: Settings,
    /// The secret of names.
    pub key: InstanceKey,
    /// Engine, PostgreSQL, objects.
    pub world: World,
    /// Repositories.
    pub forge: Forge,
    /// The judge.
    pub oracle: Oracle,
    /// What is served now.
    pub tables: Arc<Tables>,
    /// What is shown now.
    pub view: Arc<View>,
    /// Faults and people are over.
    pub calm: bool,
    /// Steps so far.
    pub steps: u32,
    /// Calls started so far.
    pub calls: u32,
    /// Every call started so far.
    pub journal: Vec<Action>,
    /// When the last call was started.
    pub last_call: Time,
    /// Sidestage's lives so far.
    pub life: u32,
    /// Things done by people and the outside so far.
    pub acts: u32,
    /// How far the clock jumps at the next act.
    pub jump: u64,
    core: Core,
    rows: BTreeMap<(Table, String), String>,
    wake_at: Option<Time>,
    inbox: Vec<Event>,
    errands: BTreeMap<u64, Errand>,
    requests: u64,
    last_refs: BTreeMap<ProjectName, Time>,
    /// Projects whose forge is asked from time to time.
    polled: BTreeSet<ProjectName>,
    /// The configuration that the core knows.
    known: Policy,
    looks: BTreeMap<Backend, Look>,
    trace: Vec<String>,
    tracing: bool,
}

impl Sim {
    /// A story at its beginning.
    pub fn new(seed: u64, tracing: bool) -> Sim {
        let mut world = World::new(seed, Time(1_790_000_000_000));
        let settings = Settings::of(seed, &mut world.rng);
        Self::with(settings, world, tracing)
    }

    /// A story with these settings.
    pub fn with(settings: Settings, mut world: World, tracing: bool) -> Sim {
        let key = InstanceKey::new([7; 32]);
        world.faults = settings.faults;
        let known = settings.policy.clone();
        let core = Core::restore(key.clone(), settings.policy.clone(), &[]).expect("an empty store is fine");
        let mut sim = Sim {
            oracle: Oracle::new(key.clone(), settings.policy.clone()),
            settings,
            key,
            forge: Forge::default(),
            tables: Arc::default(),
            view: Arc::default(),
            calm: false,
            steps: 0,
            calls: 0,
            journal: Vec::new(),
            last_call: world.now,
            life: 0,
            acts: 0,
            jump: 0,
            core,
            rows: BTreeMap::new(),
            wake_at: None,
            inbox: Vec::new(),
            errands: BTreeMap::new(),
            requests: 0,
            last_refs: BTreeMap::new(),
            polled: BTreeSet::new(),
            known,
            looks: BTreeMap::new(),
            trace: Vec::new(),
            tracing,
            world,
        };
        for project in sim.settings.policy.projects.keys().cloned().collect::<Vec<_>>() {
            sim.forge.repositories.entry(project.clone()).or_default();
        }
        sim.begin_life();
        sim
    }

    /// Something happens in so many milliseconds.
    pub fn errand(&mut self, millis: u64, errand: Errand) {
        let number = self.world.number();
        self.errands.insert(number, errand);
        self.world.later(millis, Due::Errand(number));
    }

    fn begin_life(&mut self) {
        for (index, backend) in BACKENDS.into_iter().enumerate() {
            self.plan_look(backend, 10 * (index as u64 + 1));
        }
        for project in self.settings.policy.projects.keys().cloned().collect::<Vec<_>>() {
            let millis = self.world.span(5, 2_000);
            self.polled.insert(project.clone());
            self.errand(millis, Errand::Poll { project, again: true });
        }
    }

    /// Sidestage dies and is started again: rows stay, all else is lost; without its store the rows too.
    pub fn die(&mut self, with_store: bool) {
        self.say(|| format!("--- Sidestage dies{}", if with_store { " with its store" } else { "" }));
        if with_store {
            self.rows.clear();
        }
        self.life += 1;
        self.world.forget_callers();
        self.inbox.clear();
        self.oracle.crash(with_store.then_some(self.world.now));
        self.known = self.settings.policy.clone();
        self.oracle.configure(&self.known);
        self.core = self.restored();
        self.tables = Arc::default();
        self.wake_at = None;
        // Listings and polls of the old life arrive nowhere; those of the new one are begun.
        self.errands.retain(|_, errand| matches!(errand, Errand::Act));
        self.begin_life();
    }

    /// Something arrives at the core after a while.
    pub fn send(&mut self, millis: u64, event: Event) {
        self.errand(millis, Errand::Arrives { life: self.life, event: Box::new(event) });
    }

    /// The operator has written another configuration; Sidestage reads it a little later.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.settings.policy);
        let millis = self.world.span(1, 300);
        self.send(millis, Event::Policy(Box::new(self.settings.policy.clone())));
        for project in self.settings.policy.projects.keys().cloned().collect::<Vec<_>>() {
            if self.polled.insert(project.clone()) {
                let millis = self.world.span(300, 2_000);
                self.errand(millis, Errand::Poll { project, again: true });
            }
        }
    }

    /// A number for a person's request.
    pub fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Plays on until the clock stands there.
    pub fn run_until(&mut self, end: Time) -> Result<(), Violation> {
        while self.world.now < end {
            let wake = self.wake_at.unwrap_or(end).max(self.world.now).min(end);
            match self.world.pop(wake) {
                Some(due) => {
                    self.say_due(&due);
                    if let Some(Due::Errand(number)) = self.take_due(due)
                        && let Some(errand) = self.errands.remove(&number)
                    {
                        self.run_errand(errand)?;
                    }
                    let lag = match (self.world.steady, self.calm) {
                        (true, _) => 0,
                        (_, true) => 100,
                        _ if self.world.rng.chance(700) => 0,
                        _ => self.world.rng.below(400),
                    };
                    let soon = self.world.next_at().is_some_and(|at| at.0 <= self.world.now.0 + lag);
                    let waits_for_more = soon && lag > 0;
                    if !self.inbox.is_empty() && !waits_for_more {
                        self.step()?;
                    }
                }
                None => {
                    self.world.now = wake;
                    if self.wake_at.is_some_and(|at| at <= wake) || !self.inbox.is_empty() {
                        self.step()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_due(&mut self, due: Due) -> Option<Due> {
        let due = self.world.happen(due)?;
        if let Due::Reply { life, call, result } = due {
            if life == self.life {
                let twice = !self.calm && self.world.rng.chance(20);
                if twice {
                    self.inbox.push(Event::Returned { call, result: (*result).clone() });
                }
                self.inbox.push(Event::Returned { call, result: *result });
            }
            return None;
        }
        Some(due)
    }

    fn run_errand(&mut self, errand: Errand) -> Result<(), Violation> {
        match errand {
            Errand::Look { backend, number } => {
                if self.looks.get(&backend) == Some(&Look::Planned(number)) {
                    self.look(backend);
                }
            }
            Errand::Listing { life, backend, began, seen } => {
                if life == self.life {
                    self.inbox.push(Event::Listed { backend, began, seen });
                    let soon = self.looks.get(&backend) == Some(&Look::Again);
                    let usual = match (self.world.steady, self.calm) {
                        (true, _) => LISTING,
                        (_, true) => CALM_LISTING,
                        _ => self.world.rng.between(5_000, 2 * LISTING),
                    };
                    self.plan_look(backend, if soon { 100 } else { usual });
                }
            }
            Errand::Poll { project, again } => self.poll(project, again),
            Errand::Arrives { life, event } => {
                if life == self.life {
                    self.inbox.push(*event);
                }
            }
            Errand::Act => {
                self.world.now = Time(self.world.now.0 + std::mem::take(&mut self.jump));
                self.acts += 1;
                self.act();
            }
        }
        Ok(())
    }

    /// One step of the core and all that follows from it, cut off by a death at any point.
    fn step(&mut self) -> Result<(), Violation> {
        let now = self.world.now;
        let mut events = std::mem::take(&mut self.inbox);
        if !self.calm && events.len() > 1 && self.world.rng.chance(300) {
            shuffle(&mut events, &mut self.world.rng);
        }
        let dies = !self.calm && self.world.rng.chance(self.settings.deaths);
        let point = if dies { self.world.rng.below(6) } else { 99 };
        let memory = (point == 0).then(|| self.oracle.clone());
        self.steps += 1;
        for event in &events {
            self.say(|| format!("  <- {}", telling::brief(event)));
        }
        self.oracle.hear(now, &events, &self.world);
        self.learn(&events);
        if let Some(policy) = events.iter().rev().find_map(policy_of) {
            self.known = policy.clone();
        }
        let step = self.core.step(now, events);
        self.wake_at = step.wake_at;
        self.say_step(&step);
        self.oracle.judge(now, &step, &self.world).map_err(|what| self.violation(what))?;
        if let Some(memory) = memory {
            // Died before the commit: nothing of this step ever happened.
            self.oracle = memory;
            self.die(false);
            return Ok(());
        }
        self.persist(&step);
        if self.world.rng.chance(MEMORY) {
            self.judge_memory(now, &step)?;
        }
        if point == 1 {
            self.die(false);
            return Ok(());
        }
        self.follow(step, point);
        Ok(())
    }

    fn follow(&mut self, step: Step, point: u64) {
        if let Some((tables, view)) = step.publish {
            self.tables = tables;
            self.view = view;
        }
        for (index, (call, action)) in step.start.into_iter().enumerate() {
            if point < 6 && index as u64 + 2 > point {
                self.die(false);
                return;
            }
            self.calls += 1;
            self.journal.push(action.clone());
            self.last_call = self.world.now;
            self.world.call(self.life, call, action);
        }
        if point < 6 {
            self.die(false);
            return;
        }
        for call in step.cancel {
            self.world.cancel(call, self.life);
        }
        for backend in step.look {
            self.look_soon(backend);
        }
        for (project, sha) in step.read {
            self.read(project, sha);
        }
    }

    /// When the core wants to be stepped next.
    pub fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }
}

fn policy_of(event: &Event) -> Option<&Policy> {
    match event {
        Event::Policy(policy) => Some(policy),
        _ => None,
    }
}

/// Events change places, but lists of one project and of one backend keep their order, as the executor keeps it.
fn shuffle(events: &mut [Event], rng: &mut super::rng::Rng) {
    for at in (1..events.len()).rev() {
        let to = rng.below(at as u64 + 1) as usize;
        let ordered = |event: &Event| {
            matches!(event, Event::Refs { .. } | Event::NoRefs { .. } | Event::Listed { .. } | Event::Policy(_))
        };
        if !ordered(&events[at]) && !ordered(&events[to]) {
            events.swap(at, to);
        }
    }
}
