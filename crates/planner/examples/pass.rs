//! How long one pass over many settled environments takes: `cargo run --release -p planner --example pass -- 1000`.
//! Prints milliseconds: the median, then the slowest, of steps that each got a full listing of every backend.

#![allow(clippy::disallowed_methods)] // It measures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use planner::core::Core;
use planner::event::{Event, Head, Source, Step};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time};
use planner::manifest::Manifest;
use planner::policy::{Lifetime, Limits, Policy, ProjectPolicy, StageMode};
use planner::resource::{Action, Backend, Kind, Observed, Outputs, Phase, Resource, ResourceId, Run};

const BACKENDS: [Backend; 3] = [Backend::Engine, Backend::Postgres, Backend::Objects];

/// A world in which every call succeeds at once.
struct World {
    core: Core,
    now: Time,
    things: BTreeMap<ResourceId, Observed>,
    project: ProjectName,
}

fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1000);
    let mut world = World::new(count);
    world.settle(vec![world.refs(0)]);
    world.settle(vec![world.refs(count)]);
    let running =
        world.things.iter().filter(|(id, seen)| id.kind == Kind::Container && seen.run == Run::Running).count();
    assert_eq!(running, count, "every environment serves");

    let mut times: Vec<Duration> = (0..101).map(|_| world.quiet_pass()).collect();
    times.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{:.3} {:.3}", millis(times[times.len() / 2]), millis(times[times.len() - 1]));
}

impl World {
    fn new(count: usize) -> World {
        let project: ProjectName = "shop".parse().unwrap_or_else(|error| panic!("{error}"));
        let policy = policy(&project, count);
        let core = Core::restore(InstanceKey::new([7; 32]), policy, &[]).unwrap_or_else(|error| panic!("{error}"));
        World { core, now: Time(1_700_000_000_000), things: BTreeMap::new(), project }
    }

    /// The forge's listing: so many branches with a commit of their own.
    fn refs(&self, count: usize) -> Event {
        let heads = (0..count).map(|number| {
            let title = format!("feature-{number}");
            Head { name: Ref::Branch(title.clone()), sha: sha(number), foreign: false, title, pull: None }
        });
        Event::Refs { project: self.project.clone(), heads: heads.collect() }
    }

    /// Full listings of everything.
    fn listings(&mut self) -> Vec<Event> {
        let began = self.core.begin_listing(self.now);
        let of = |backend| self.things.iter().filter(move |(id, _)| id.backend == backend);
        BACKENDS
            .map(|backend| Event::Listed {
                backend,
                began,
                seen: Ok(of(backend).map(|(k, v)| (k.clone(), v.clone())).collect()),
            })
            .into()
    }

    /// Steps until nothing is left to do.
    fn settle(&mut self, mut events: Vec<Event>) {
        events.extend(self.listings());
        for _ in 0..100_000 {
            self.now = self.now.after(Duration::from_secs(1));
            let step = self.core.step(self.now, std::mem::take(&mut events));
            if step.start.is_empty() && step.read.is_empty() {
                return;
            }
            events = self.obey(step);
            if !step_is_only_calls(&events) {
                continue;
            }
            events.extend(self.listings());
        }
        panic!("it does not settle");
    }

    fn obey(&mut self, step: Step) -> Vec<Event> {
        let mut events = Vec::new();
        for (project, sha) in step.read {
            let manifest = Ok(Arc::new(Manifest::default()));
            let source =
                Source { tree: sha, subject: "A change".into(), author: "Ada".into(), ancestors: Vec::new(), manifest };
            events.push(Event::Read { project, sha, source: Ok(source) });
        }
        for (call, action) in step.start {
            let result = match action {
                Action::Ensure(resource) => {
                    let made = made(&resource);
                    self.things.insert(resource.id.clone(), made.clone());
                    Some(made)
                }
                Action::Rest(id, run) => {
                    if let Some(thing) = self.things.get_mut(&id) {
                        thing.run = thing.run.min(run);
                    }
                    None
                }
                Action::Remove(id, _) => {
                    self.things.remove(&id);
                    None
                }
            };
            events.push(Event::Returned { call, result: Ok(result) });
        }
        events
    }

    /// One pass in which nothing is to be done, with everything listed anew.
    fn quiet_pass(&mut self) -> Duration {
        self.now = self.now.after(Duration::from_secs(30));
        let events = self.listings();
        let begun = Instant::now();
        let step = self.core.step(self.now, events);
        let took = begun.elapsed();
        assert!(step.start.is_empty(), "something was to be done: {:?}", step.start.first());
        took
    }
}

/// Listings come with the results of calls, not with commits that were read.
fn step_is_only_calls(events: &[Event]) -> bool {
    events.iter().all(|event| matches!(event, Event::Returned { .. }))
}

fn made(resource: &Resource) -> Observed {
    let is_job = resource.id.kind == Kind::Job;
    let outputs = Outputs {
        id: Some(resource.id.to_string()),
        address: Some([10, 210, 0, 2].into()),
        baseline: Some("default@1".into()),
        commit: resource.spec.of().map(|of| (of.project.clone(), of.sha, of.trust)),
        secrets: None,
        oom: 0,
        ..Outputs::default()
    };
    let stands_on = resource.needs.iter().filter(|need| matches!(need.kind, Kind::Network | Kind::Image));
    Observed {
        fingerprint: resource.fingerprint.clone(),
        phase: if is_job { Phase::Exited { code: 0, oom: false } } else { Phase::Whole },
        run: if is_job { Run::Stopped } else { resource.run },
        uses: stands_on.cloned().collect(),
        outputs,
    }
}

fn policy(project: &ProjectName, count: usize) -> Policy {
    let shop = ProjectPolicy {
        stage: StageMode::Automatic,
        forks: false,
        keep: 1,
        public: true,
        alias_proxy: false,
        suffix: String::new(),
        baselines: BTreeSet::from(["default".to_owned()]),
        fork_baseline: "empty".into(),
        images: BTreeSet::new(),
        secrets: BTreeMap::new(),
        image_wait: Duration::from_secs(1800),
        source: planner::policy::SourceSettings::default(),
        forge: planner::policy::ForgeSettings::default(),
    };
    Policy {
        domain: "staging.example.org".into(),
        scheme: "https".into(),
        port: None,
        console_url: None,
        projects: BTreeMap::from([(project.clone(), shop)]),
        limits: Limits {
            environments: count,
            awake: count,
            stopped: count,
            builds: count,
            cpu: 1000,
            memory: 512 << 20,
            pids: 256,
            disk: 2 << 30,
            connections: 20,
            database: None,
            objects: None,
            suspend_trusted: false,
        },
        lifetime: Lifetime { idle: Duration::MAX, sleep: Duration::MAX, ttl: Duration::MAX },
        addresses: vec![[203, 0, 113, 7].into()],
        extensions: BTreeSet::new(),
        spares: Default::default(),
        objects_public: true,
    }
}

fn sha(number: usize) -> Sha {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    Sha::from_bytes(bytes)
}
