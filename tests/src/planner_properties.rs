//! Properties of the planner, whatever the world: it converges, is quiet at the goal, keeps projects apart, keeps order,
//! keeps serving, and removes only for a reason. proptest shrinks what breaks one to the least that does.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::command::Command;
use planner::identity::{ProjectName, Ref, Sha, Time, Trust};
use planner::resource::{Action, Kind, Phase, Reason, ResourceId, Run};
use planner::tables::{Door, Route};
use proptest::prelude::*;

use crate::simulation::forge::Branch;
use crate::simulation::run::{Sim, Violation};
use crate::simulation::settings::Settings;
use crate::simulation::world::{Fate, World};

/// What may befall a settled world, and to which of its things (counted round and round).
#[derive(Debug, Clone, Copy)]
enum Damage {
    Deleted(usize),
    Drifted(usize),
    Ended(usize),
    Lowered(usize, bool),
    HalfMade(usize),
    CutOff(usize),
    Dies,
    LosesStore,
}

fn damage() -> impl Strategy<Value = Damage> {
    let which = 0..40usize;
    prop_oneof![
        4 => which.clone().prop_map(Damage::Deleted),
        3 => which.clone().prop_map(Damage::Drifted),
        3 => which.clone().prop_map(Damage::Ended),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, paused)| Damage::Lowered(which, paused)),
        2 => which.clone().prop_map(Damage::HalfMade),
        2 => which.prop_map(Damage::CutOff),
        1 => Just(Damage::Dies),
        1 => Just(Damage::LosesStore),
    ]
}

fn few() -> ProptestConfig {
    // Failures are reproduced by the values that proptest prints; nothing is written beside the sources.
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn converges_from_any_world(seed in 0..1000u64, refs in 1..4usize, damages in prop::collection::vec(damage(), 0..8)) {
        let mut bench = Bench::new(seed, &["shop"]);
        bench.stage_refs("shop", refs);
        bench.run(300);
        for damage in damages {
            bench.suffer(damage);
        }
        let ended = bench.sim.finish();
        prop_assert!(ended.is_ok(), "{}", ended.err().map(|violation| violation.what).unwrap_or_default());
    }

    #[test]
    fn quiet_at_the_goal(seed in 0..1000u64, refs in 1..5usize, dies in any::<bool>()) {
        let mut bench = Bench::new(seed, &["shop"]);
        bench.stage_refs("shop", refs);
        bench.run(400);
        if dies {
            bench.sim.die(false);
            // Confirmations are lost with the process; asking once more is no change.
            bench.run(120);
        }
        let before = bench.sim.journal.len();
        bench.run(300);
        prop_assert_eq!(&bench.sim.journal[before..], &[][..]);
    }

    #[test]
    fn projects_do_not_touch_each_other(seed in 0..1000u64, shop in 1..4usize, docs in 1..4usize) {
        let calls = |projects: &[&str]| {
            let mut bench = Bench::new(seed, &["shop", "docs"]);
            for project in projects {
                let count = if *project == "shop" { shop } else { docs };
                bench.stage_refs(project, count);
            }
            bench.run(600);
            bench.sim.journal.iter().map(said).collect::<BTreeSet<String>>()
        };
        let union: BTreeSet<String> = calls(&["shop"]).union(&calls(&["docs"])).cloned().collect();
        prop_assert_eq!(calls(&["shop", "docs"]), union);
    }

    #[test]
    fn nothing_before_its_needs_and_nothing_under_a_dependent(seed in 0..1000u64, refs in 1..4usize) {
        let mut bench = Bench::new(seed, &["shop"]);
        bench.stage_refs("shop", refs);
        bench.run(400);
        bench.close_refs("shop");
        bench.sim.ask(Command::Gc { confirm: true });
        bench.run(400);
        let journal = &bench.sim.journal;
        let mut uses: BTreeMap<ResourceId, Vec<ResourceId>> = BTreeMap::new();
        let mut made = BTreeSet::new();
        let mut removed = BTreeSet::new();
        for action in journal {
            match action {
                Action::Ensure(resource) => {
                    for need in &resource.needs {
                        prop_assert!(made.contains(need), "{} before {need}", resource.id);
                    }
                    made.insert(resource.id.clone());
                    uses.insert(resource.id.clone(), resource.needs.clone());
                }
                Action::Remove(id, _) => {
                    let user = uses.iter().find(|(user, needs)| {
                        let process = matches!(user.kind, Kind::Container | Kind::Job);
                        process && needs.contains(id) && id.kind != Kind::Job && !removed.contains(*user)
                            && !matches!(id.kind, Kind::Container)
                    });
                    prop_assert!(user.is_none(), "{id} under {user:?}");
                    removed.insert(id.clone());
                }
                Action::Rest(..) => {}
            }
        }
        let left: Vec<_> = bench.sim.world.things.keys().filter(|id| id.kind != Kind::Image).collect();
        prop_assert!(left.is_empty(), "left, beside the last images: {left:?}");
    }

    #[test]
    fn serves_until_the_newer_is_healthy(seed in 0..1000u64, fate in 0..6usize, visited in any::<bool>()) {
        let fates = [Fate::Good, Fate::BadBuild, Fate::FlakyBuild(3), Fate::BadRelease, Fate::BadWeb, Fate::MuteWeb];
        let mut bench = Bench::new(seed, &["shop"]);
        let old = bench.stage_refs("shop", 1)[0];
        bench.run(300);
        prop_assert!(bench.is_open(old), "the first commit serves");
        let new = bench.push("shop", 1, Some(fates[fate]));
        for _ in 0..1200 {
            bench.slice(Duration::from_millis(500));
            prop_assert!(bench.is_open(old) || bench.is_open(new), "nothing serves");
            if visited {
                bench.visit(old);
            }
        }
        let works = matches!(fates[fate], Fate::Good | Fate::FlakyBuild(_));
        prop_assert_eq!(bench.is_open(new), works);
        prop_assert_eq!(bench.alias_of("pr-1"), Some(if works { new } else { old }));
    }

    #[test]
    fn removes_only_for_a_reason(seed in 0..1000u64, refs in 1..5usize, deaths in 0..3usize, away in 0..3usize) {
        let mut bench = Bench::new(seed, &["shop"]);
        bench.stage_refs("shop", refs);
        bench.run(400);
        for _ in 0..deaths {
            bench.sim.die(false);
            bench.run(20);
        }
        let backend = crate::simulation::world::BACKENDS[away];
        let until = bench.sim.world.now.after(Duration::from_secs(120));
        bench.sim.world.down.insert(backend, until);
        bench.run(240);
        let removals: Vec<&Action> = bench
            .sim
            .journal
            .iter()
            // The release job has done its work once its generation is ready.
            .filter(|action| matches!(action, Action::Remove(id, reason) if id.kind != Kind::Job || *reason != Reason::Unwanted))
            .collect();
        prop_assert!(removals.is_empty(), "{removals:?}");
    }
}

fn said(action: &Action) -> String {
    match action {
        Action::Ensure(resource) => format!("ensure {} {}", resource.id, resource.fingerprint.0),
        Action::Rest(id, run) => format!("rest {id} {run:?}"),
        Action::Remove(id, reason) => format!("remove {id} {reason:?}"),
    }
}

/// A calm world with some projects.
struct Bench {
    sim: Sim,
}

impl Bench {
    fn new(seed: u64, projects: &[&str]) -> Bench {
        let mut sim = Sim::with(Settings::calm(projects), World::new(seed, Time(1_790_000_000_000)), false);
        sim.calm = true;
        let mut bench = Bench { sim };
        bench.run(10);
        bench
    }

    fn run(&mut self, seconds: u64) {
        self.slice(Duration::from_secs(seconds));
    }

    fn slice(&mut self, time: Duration) {
        let end = self.sim.world.now.after(time);
        if let Err(Violation { what, .. }) = self.sim.run_until(end) {
            panic!("{what}");
        }
    }

    /// Opens so many pull requests of the project's own, and asks for their heads.
    fn stage_refs(&mut self, project: &str, count: usize) -> Vec<Sha> {
        let shas: Vec<Sha> = (1..=count).map(|number| self.push(project, number as u64, None)).collect();
        self.run(8);
        for sha in &shas {
            let project: ProjectName = project.parse().unwrap();
            self.sim.ask(Command::Stage { project, sha: *sha });
        }
        shas
    }

    fn push(&mut self, project: &str, number: u64, fate: Option<Fate>) -> Sha {
        let project: ProjectName = project.parse().unwrap();
        // Each project has commits of its own, the same ones whatever else is played.
        let mut rng = crate::simulation::rng::Rng::new(number + if project.as_str() == "shop" { 0 } else { 1000 });
        let sha = self.sim.forge.commit(&mut rng, 0);
        let own = crate::simulation::forge::numbered_sha(project.as_str().as_bytes()[0], self.pushed(&project) + 1);
        let commit = self.sim.forge.commits.remove(&sha).unwrap();
        self.sim.forge.commits.insert(own, commit);
        let commit = self.sim.forge.commits.get_mut(&own).unwrap();
        commit.source.tree = own;
        commit.source.subject = format!("Change {own}");
        commit.fate = fate.unwrap_or(Fate::Good);
        if fate.is_some() {
            let text = "[release]\ncommand = [\"bin/migrate\"]\n";
            commit.source.manifest = planner::manifest::Manifest::parse(Some(text.as_bytes())).map(std::sync::Arc::new);
        }
        self.sim.introduce(&project, own);
        let refs = &mut self.sim.forge.repositories.get_mut(&project).unwrap().refs;
        let new = || Branch { open: true, foreign: false, watched: true, pushed: Vec::new() };
        refs.entry(Ref::Pull(number)).or_insert_with(new).pushed.push(own);
        self.sim.hint(&project);
        own
    }

    fn pushed(&self, project: &ProjectName) -> u32 {
        let refs = &self.sim.forge.repositories[project].refs;
        refs.values().map(|branch| branch.pushed.len() as u32).sum()
    }

    fn close_refs(&mut self, project: &str) {
        let project: ProjectName = project.parse().unwrap();
        let refs = &mut self.sim.forge.repositories.get_mut(&project).unwrap().refs;
        refs.values_mut().for_each(|branch| branch.open = false);
        self.sim.hint(&project);
        self.run(60);
    }

    fn is_open(&self, sha: Sha) -> bool {
        let route = self.sim.tables.routes.get(&format!("{sha}.staging.test"));
        matches!(route, Some(Route::Env(one)) if matches!(one.door, Door::Open(_)))
    }

    fn alias_of(&self, label: &str) -> Option<Sha> {
        match self.sim.tables.routes.get(&format!("{label}.staging.test"))? {
            Route::Alias { to, .. } => to.split('.').next()?.parse().ok(),
            _ => None,
        }
    }

    fn visit(&mut self, sha: Sha) {
        let env = self.sim.key.env(&"shop".parse().unwrap(), &sha, Trust::Trusted);
        let now = self.sim.world.now;
        self.sim.send(1, planner::event::Event::Visits(vec![(env, now)]));
    }

    fn suffer(&mut self, damage: Damage) {
        let ids: Vec<ResourceId> = self.sim.world.things.keys().cloned().collect();
        let at = |which: usize| ids.get(which % ids.len().max(1)).cloned();
        let container = |id: &ResourceId| id.kind == Kind::Container;
        match damage {
            Damage::Dies => self.sim.die(false),
            Damage::LosesStore => self.sim.die(true),
            Damage::Deleted(which) => {
                if let Some(id) = at(which) {
                    self.sim.delete(&id);
                }
            }
            Damage::Drifted(which) => {
                if let Some(thing) = at(which).and_then(|id| self.sim.world.things.get_mut(&id)) {
                    thing.observed.fingerprint.0 = "drifted".into();
                }
            }
            Damage::Ended(which) => {
                if let Some(id) = at(which).filter(container) {
                    self.sim.world.lower(&id, Run::Stopped, Some(Phase::Exited { code: 3, oom: false }));
                    self.sim.world.wake_waiters(&id);
                }
            }
            Damage::Lowered(which, paused) => {
                if let Some(id) = at(which).filter(container) {
                    self.sim.world.lower(&id, if paused { Run::Paused } else { Run::Stopped }, None);
                    self.sim.world.wake_waiters(&id);
                }
            }
            Damage::HalfMade(which) => {
                let half = at(which).filter(|id| id.kind == Kind::Network);
                if let Some(thing) = half.and_then(|id| self.sim.world.things.get_mut(&id)) {
                    thing.observed.phase = Phase::Partial;
                }
            }
            Damage::CutOff(which) => {
                let job = at(which).filter(|id| id.kind == Kind::Job);
                if let Some(thing) = job.and_then(|id| self.sim.world.things.get_mut(&id)) {
                    thing.observed.phase = Phase::Lost;
                }
            }
        }
    }
}
