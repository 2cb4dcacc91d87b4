//! What becomes of a manifest in the core: hosts, one readiness, secrets that block, unblock and go stale.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::core::Core;
use planner::event::{Event, Head, Source, Step};
use planner::identity::{ProjectName, Ref, Sha, Time};
use planner::manifest::Manifest;
use planner::plan::BACKENDS;
use planner::policy::Policy;
use planner::resource::{Action, Kind, Observed, Outputs, Phase, Resource, ResourceId, Run};
use planner::secrets::{self, SecretClass, Versions};
use planner::spec::Spec;
use planner::tables::{Door, Route, Tables};
use planner::view::{CommitView, State};

use super::blueprints::policy;
use super::{key, parse};

/// A core whose every call succeeds at once, but the starts of what is `slow`.
struct World {
    core: Core,
    now: Time,
    things: BTreeMap<ResourceId, Observed>,
    manifest: Manifest,
    slow: Option<&'static str>,
    tables: Arc<Tables>,
}

const HOST: &str = "abababababababababababababababababababab";

impl World {
    fn new(text: &str, policy: Policy) -> World {
        let core = Core::restore(key(7), policy, &[]).unwrap();
        let now = Time(1_700_000_000_000);
        let manifest = parse(text).unwrap();
        World { core, now, things: BTreeMap::new(), manifest, slow: None, tables: Arc::default() }
    }

    fn project() -> ProjectName {
        "shop".parse().unwrap()
    }

    fn push(&mut self, foreign: bool) {
        let head = Head {
            name: Ref::Pull(7),
            sha: Sha::from_bytes([0xab; 20]),
            foreign,
            title: "A change".into(),
            pull: None,
        };
        // The first sight stages nothing.
        self.settle(Event::Refs { project: World::project(), heads: Vec::new() });
        self.settle(Event::Refs { project: World::project(), heads: vec![head] });
    }

    fn settle(&mut self, event: Event) {
        let (mut events, mut quiet) = (vec![event], 0);
        for _ in 0..500 {
            self.now = self.now.after(Duration::from_secs(1));
            events.extend(self.listings());
            let step = self.core.step(self.now, std::mem::take(&mut events));
            if let Some((tables, _)) = &step.publish {
                self.tables = tables.clone();
            }
            quiet = if step.start.is_empty() && step.read.is_empty() { quiet + 1 } else { 0 };
            events = self.obey(step);
            // What failed is tried again after some seconds.
            if quiet > 30 {
                return;
            }
        }
        panic!("it does not settle");
    }

    fn listings(&mut self) -> Vec<Event> {
        let began = self.core.begin_listing(self.now);
        let of = |backend| self.things.iter().filter(move |(id, _)| id.backend == backend);
        BACKENDS
            .map(|backend| {
                let seen = of(backend).map(|(id, seen)| (id.clone(), seen.clone())).collect();
                Event::Listed { backend, began, seen: Ok(seen) }
            })
            .into()
    }

    fn obey(&mut self, step: Step) -> Vec<Event> {
        let mut events = Vec::new();
        for (project, sha) in step.read {
            let manifest = Ok(Arc::new(self.manifest.clone()));
            let source =
                Source { tree: sha, subject: "A change".into(), author: "Ada".into(), ancestors: Vec::new(), manifest };
            events.push(Event::Read { project, sha, source: Ok(source) });
        }
        for (call, action) in step.start {
            let made = match action {
                Action::Ensure(resource) if self.slow == Some(&resource.id.name) => continue,
                Action::Ensure(resource) => {
                    let made = made(&resource);
                    self.things.insert(resource.id.clone(), made.clone());
                    Some(made)
                }
                Action::Rest(id, run) => {
                    self.things.get_mut(&id).unwrap().run = run;
                    None
                }
                Action::Remove(id, _) => {
                    self.things.remove(&id);
                    None
                }
            };
            events.push(Event::Returned { call, result: Ok(made) });
        }
        events
    }

    fn shown(&self) -> CommitView {
        self.core.view().projects[0].refs[0].commits[0].clone()
    }

    fn door(&self, label: &str) -> &Door {
        match &self.tables.routes[&format!("{label}.staging.test")] {
            Route::Env(route) => &route.door,
            other => panic!("{label} is {other:?}"),
        }
    }
}

fn made(resource: &Resource) -> Observed {
    let job = resource.id.kind == Kind::Job;
    let mut outputs = Outputs { id: Some(resource.id.to_string()), ..Outputs::default() };
    if let Spec::Container(container) = &resource.spec {
        // An address that tells the port apart from those of others.
        outputs.address = Some([10, 210, 0, 2].into());
        outputs.secrets = secrets::digest(&container.secrets);
    }
    Observed {
        fingerprint: resource.fingerprint.clone(),
        phase: if job { Phase::Exited { code: 0, oom: false } } else { Phase::Whole },
        run: if job { Run::Stopped } else { resource.run },
        uses: Vec::new(),
        outputs,
    }
}

fn with_secrets(class: SecretClass, versions: &[(&str, &str)]) -> Policy {
    let mut policy = policy();
    let versions: Versions = versions.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    policy.projects.get_mut(&World::project()).unwrap().secrets.insert(class, versions);
    policy
}

#[test]
fn all_applications_open_together_each_on_its_host() {
    let text = "[app.api]\nport = 4000\n[app.docs]\nport = 5000\n[command.seed]\ncommand = [\"x\"]\n\
                [cron.close]\nschedule = \"* * * * *\"\ncommand = [\"x\"]\n[process.worker]\ncommand = [\"x\"]";
    let mut world = World::new(text, policy());
    world.slow = Some("docs");
    world.push(false);
    let hosts = [HOST.to_owned(), format!("{HOST}--api"), format!("{HOST}--docs")];
    assert_eq!(world.shown().state, State::Starting);
    for host in &hosts {
        assert_eq!(*world.door(host), Door::Shut, "{host}: one of them is not up yet");
    }
    world.slow = None;
    // The call that hangs is lost after its time.
    world.now = world.now.after(Duration::from_secs(600));
    world.settle(Event::Visits(Vec::new()));
    assert_eq!(world.shown().state, State::Ready);
    let ports = hosts.iter().map(|host| match world.door(host) {
        Door::Open(upstream) => upstream.address.port(),
        other => panic!("{host}: {other:?}"),
    });
    assert_eq!(ports.collect::<Vec<_>>(), [8080, 4000, 5000]);

    for (alias, to) in [("pr-7", &hosts[0]), ("pr-7--api", &hosts[1]), ("pr-7--docs", &hosts[2])] {
        let route = &world.tables.routes[&format!("{alias}.staging.test")];
        assert_eq!(*route, Route::Alias { to: format!("{to}.staging.test"), proxy: false });
        assert!(world.tables.zone.names.contains(&alias.to_owned()) && world.tables.zone.names.contains(to));
    }
    let shown = world.shown();
    assert_eq!(shown.apps[0], ("api".to_owned(), format!("https://{HOST}--api.staging.test")));
    assert_eq!(shown.commands, ["seed"]);
    assert_eq!(shown.cron, [("close".to_owned(), "* * * * *".to_owned())]);
    assert_eq!(shown.processes, ["web", "worker", "api", "docs"]);
}

#[test]
fn a_missing_secret_blocks_until_it_is_set_and_a_changed_one_is_stale() {
    let mut world = World::new("[env]\nA = \"${TOKEN}\"", policy());
    world.push(false);
    let shown = world.shown();
    assert_eq!(shown.state, State::Blocked);
    assert_eq!(
        shown.reason.unwrap(),
        "secret TOKEN is not set for trusted code of `shop`; set it with `sidestage secret set shop TOKEN --for trusted`"
    );
    assert!(world.things.is_empty());

    world.settle(Event::Policy(Box::new(with_secrets(SecretClass::Trusted, &[("TOKEN", "v1")]))));
    assert_eq!((world.shown().state, world.shown().stale), (State::Ready, false));

    world.settle(Event::Policy(Box::new(with_secrets(SecretClass::Trusted, &[("TOKEN", "v2")]))));
    let shown = world.shown();
    assert_eq!((shown.state, shown.stale, shown.generation), (State::Ready, true, 1), "it runs on, and says so");
    // Taken away, it still does not disturb what runs.
    world.settle(Event::Policy(Box::new(policy())));
    assert_eq!((world.shown().state, world.shown().stale), (State::Ready, true));
}

#[test]
fn foreign_code_is_approvable_only_where_the_operator_lets_it() {
    for forks in [true, false] {
        let mut policy = policy();
        policy.projects.get_mut(&World::project()).unwrap().forks = forks;
        let mut world = World::new("", policy);
        world.push(true);
        let shown = world.shown();
        assert_eq!((shown.state, shown.approvable), (State::Blocked, forks));
    }
}
