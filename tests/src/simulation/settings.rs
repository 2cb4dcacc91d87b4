//! What a seed plays: the operator's policy and how hostile the world is. Some seeds aim at one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::identity::ProjectName;
use planner::policy::{Lifetime, Limits, Policy, ProjectPolicy, Spares, StageMode};
use planner::secrets::{SecretClass, Versions};

use super::rng::Rng;

/// What a seed aims at: by it the odds of what happens are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// A bit of everything.
    General,
    /// Few places, many pushes.
    Quota,
    /// Own and foreign refs with the same heads, approvals, revocations.
    Trust,
    /// Sidestage dies again and again.
    Crashes,
    /// Things are deleted and drift outside, backends are away.
    Outside,
    /// Many refs close at once.
    Guard,
    /// Visits, days, waking.
    Sleep,
    /// Nothing fails; people do much.
    Calm,
}

/// The order in which seeds take their aims.
pub const AIMS: [Aim; 8] =
    [Aim::General, Aim::Quota, Aim::Trust, Aim::Crashes, Aim::Outside, Aim::Guard, Aim::Sleep, Aim::Calm];

/// A seed's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it aims at.
    pub aim: Aim,
    /// What the operator decided.
    pub policy: Policy,
    /// All projects, those too that are taken out of the configuration for a while.
    pub all: BTreeMap<ProjectName, ProjectPolicy>,
    /// Faulty calls per thousand.
    pub faults: u64,
    /// Bad commits per thousand.
    pub bad: u64,
    /// Deaths per thousand steps.
    pub deaths: u64,
    /// How many things people and the outside do.
    pub acts: u32,
}

impl Settings {
    /// By the seed alone.
    pub fn of(seed: u64, rng: &mut Rng) -> Settings {
        let aim = AIMS[(seed % 8) as usize];
        let faults = match aim {
            Aim::Calm => 0,
            Aim::Crashes | Aim::Outside => rng.between(50, 250),
            _ => [0, 60, 150][rng.below(3) as usize],
        };
        let deaths = match aim {
            Aim::Calm => 0,
            Aim::Crashes => 60,
            _ => [0, 5, 20][rng.below(3) as usize],
        };
        let policy = policy(aim, rng);
        Settings {
            aim,
            all: policy.projects.clone(),
            policy,
            faults,
            bad: [0, 150, 350][rng.below(3) as usize],
            deaths,
            acts: u32::try_from(rng.between(10, 28)).unwrap_or(20),
        }
    }
}

impl Settings {
    /// Nothing fails and nobody acts by chance: projects `shop` and, if wanted, `docs`; everything has room.
    pub fn calm(projects: &[&str]) -> Settings {
        let mut rng = Rng::new(0);
        let policy = policy(Aim::Calm, &mut rng);
        let all = BTreeMap::new();
        let mut settings = Settings { aim: Aim::Calm, policy, all, faults: 0, bad: 0, deaths: 0, acts: 0 };
        let policy = &mut settings.policy;
        policy.projects.clear();
        for name in projects {
            let mut project = project(0, Aim::Calm, &mut rng);
            project.stage = StageMode::Automatic;
            project.forks = true;
            project.secrets.clear();
            project.keep = 1;
            project.baselines.insert("big".to_owned());
            project.fork_baseline = "empty".to_owned();
            project.alias_proxy = false;
            project.suffix = if policy.projects.is_empty() { String::new() } else { (*name).to_owned() };
            policy.projects.insert(name.parse().expect("a valid name"), project);
        }
        settings.all = policy.projects.clone();
        policy.limits.environments = 10;
        policy.limits.awake = 10;
        policy.limits.stopped = 10;
        policy.limits.builds = 1;
        settings
    }
}

fn policy(aim: Aim, rng: &mut Rng) -> Policy {
    let count = if aim == Aim::General || rng.chance(200) { rng.between(1, 3) } else { 1 };
    let mut projects = BTreeMap::new();
    for number in 0..count {
        let name: ProjectName = ["shop", "ofn", "docs"][number as usize].parse().expect("a valid name");
        projects.insert(name, project(number, aim, rng));
    }
    let environments = match aim {
        Aim::Quota => rng.between(1, 3),
        Aim::Guard => 12,
        _ => rng.between(2, 10),
    };
    let awake = rng.between(1, 5) as usize;
    Policy {
        domain: "staging.test".into(),
        scheme: "http".into(),
        port: None,
        console_url: Some("http://console.test".into()),
        projects,
        limits: Limits {
            environments: environments as usize,
            awake,
            stopped: rng.between(1, 8) as usize,
            builds: rng.between(1, 2) as usize,
            cpu: 1000,
            memory: 512 << 20,
            pids: 256,
            disk: 2 << 30,
            connections: 20,
            database: None,
            objects: None,
            suspend_trusted: false,
        },
        lifetime: Lifetime {
            idle: Duration::from_secs(15 * 60),
            sleep: Duration::from_secs(2 * 3600),
            ttl: Duration::from_secs(5 * 86_400),
        },
        addresses: vec!["127.0.0.1".parse().expect("an address")],
        extensions: BTreeSet::new(),
        spares: Spares { count: rng.below(3) as u32, disk: 1_500 },
        objects_public: true,
    }
}

/// Some manifests name the secret `TOKEN`; whether it is set, for whom, and to what, differs.
pub fn secrets(rng: &mut Rng) -> BTreeMap<SecretClass, Versions> {
    let mut secrets = BTreeMap::new();
    for (class, odds) in [(SecretClass::Trusted, 800), (SecretClass::Foreign, 600)] {
        if rng.chance(odds) {
            let version = format!("v{}", rng.below(3));
            secrets.insert(class, Versions::from([("TOKEN".to_owned(), version)]));
        }
    }
    secrets
}

/// `big` is an admin's to make; most projects may name it.
fn baselines(rng: &mut Rng) -> BTreeSet<String> {
    let mut baselines = BTreeSet::from(["default".to_owned()]);
    if rng.chance(850) {
        baselines.insert("big".to_owned());
    }
    baselines
}

fn project(number: u64, aim: Aim, rng: &mut Rng) -> ProjectPolicy {
    let on_request = rng.chance(if aim == Aim::Trust { 500 } else { 250 });
    ProjectPolicy {
        stage: if on_request { StageMode::OnRequest } else { StageMode::Automatic },
        forks: aim == Aim::Trust || rng.chance(800),
        keep: rng.between(1, 3) as usize,
        public: true,
        alias_proxy: rng.chance(300),
        suffix: ["", "ofn", "docs"][number as usize].into(),
        baselines: baselines(rng),
        fork_baseline: if rng.chance(300) { "big".into() } else { "empty".into() },
        images: BTreeSet::from(["redis:7".to_owned()]),
        secrets: secrets(rng),
        image_wait: Duration::from_secs(1800),
        source: planner::policy::SourceSettings::default(),
        forge: planner::policy::ForgeSettings::default(),
    }
}
