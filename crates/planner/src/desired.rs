//! What should exist, from facts and from what failed for good. Looks at nothing outside.

use std::collections::{BTreeMap, BTreeSet};

use crate::blueprint::{Blueprint, Blueprints};
use crate::decide::kept_images;
use crate::facts::{BaselineRow, EMPTY, EnvRow, Facts, parse_version};
use crate::identity::{EnvId, Time};
use crate::ledger::Ledger;
use crate::policy::Policy;
use crate::resource::{Kind, Owner, Reason, Resource, ResourceId, Run};
use crate::sleep::{Level, Levels, levels};

/// One thing that is wanted.
#[derive(Debug, Clone)]
pub struct Want<'a> {
    /// What it is.
    pub part: &'a Resource,
    /// The most that it may run. Only Running is enforced upwards.
    pub run: Run,
    /// Its generation has been ready.
    pub ready: bool,
    /// Its release is over: containers wait for network, image and data only, so that waking goes side by side.
    pub released: bool,
    /// Its generation's data was complete once, and is never made again.
    pub filled: bool,
    /// Who comes first when slots are short.
    pub rank: Time,
}

impl Want<'_> {
    /// Whether this need is to be waited for.
    #[must_use]
    pub fn waits_for(&self, need: &ResourceId) -> bool {
        !self.released || !matches!(need.kind, Kind::Container | Kind::Job)
    }

    /// The resource as it is ensured now.
    #[must_use]
    pub fn resource(&self) -> Resource {
        let needs = self.part.needs.iter().filter(|need| self.waits_for(need)).cloned().collect();
        Resource { run: self.run, needs, ..self.part.clone() }
    }
}

/// What becomes of everything of one environment that is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it goes.
    Gone(Reason),
    /// These generations live.
    Live {
        /// The one that serves.
        serving: Option<u32>,
        /// The one that was begun last.
        begun: u32,
        /// The last one of an earlier life, and why it went.
        past: Option<(u32, Reason)>,
        /// Why generations in between are of no use.
        cause: Option<Reason>,
    },
}

/// What should exist.
#[derive(Debug, Default)]
pub struct Desired<'a> {
    /// What is wanted.
    pub want: BTreeMap<&'a ResourceId, Want<'a>>,
    /// What becomes of the rest, by environment. Environments that are not in it are unknown.
    pub fates: BTreeMap<&'a EnvId, Fate>,
    /// Whose orphaned things go.
    pub condemned: Vec<&'a Owner>,
    /// Shared images that are kept though nobody wants them.
    pub kept: BTreeSet<&'a ResourceId>,
    /// How far those that serve run.
    pub levels: Levels,
    /// Baselines, whose versions are kept as they say.
    pub baselines: Option<&'a BTreeMap<String, BaselineRow>>,
}

/// What should exist now.
#[must_use]
pub fn desired<'a>(
    facts: &'a Facts,
    blueprints: &'a Blueprints,
    ledger: &Ledger,
    policy: &Policy,
    now: Time,
) -> Desired<'a> {
    let mut desired = Desired { levels: levels(facts, policy, now), ..Desired::default() };
    desired.condemned = facts.condemned.keys().collect();
    desired.kept = kept_images(facts, now);
    desired.baselines = Some(&facts.baselines);
    desired.want_baselines(blueprints);
    for (id, row) in &facts.envs {
        if let Some(gone) = row.gone {
            desired.fates.insert(id, Fate::Gone(gone.reason));
        } else if let Some(begun) = row.begun.as_ref().filter(|_| blueprints.are_drawn(id, row)) {
            let past = row.past.map(|past| (past.generation, past.reason));
            desired
                .fates
                .insert(id, Fate::Live { serving: row.serving(), begun: begun.generation, past, cause: begun.cause });
            desired.want_env(id, row, blueprints, ledger);
        }
    }
    desired
}

impl<'a> Desired<'a> {
    /// Every version that is not dropped, and clones made ahead. They run for nobody, so they come last.
    fn want_baselines(&mut self, blueprints: &'a Blueprints) {
        let (run, ready, released) = (Run::Running, false, false);
        for version in blueprints.versions() {
            for part in &version.parts {
                self.put(Want { part, run, ready, released, filled: version.sealed, rank: version.asked });
            }
        }
        for part in blueprints.spares() {
            self.put(Want { part, run, ready, released, filled: false, rank: Time(u64::MAX) });
        }
    }

    /// Why something of a baseline that is not wanted goes: its version was dropped, or it is a clone made ahead of one
    /// that is not current. What no row knows is an orphan.
    fn why_not_baseline(&self, id: &ResourceId, version: &str) -> Option<Reason> {
        let (name, number) = parse_version(version)?;
        let spare = id.name != ResourceId::template(version).name;
        if version == EMPTY {
            return spare.then_some(Reason::Unwanted);
        }
        let row = self.baselines?.get(name).filter(|row| number <= row.highest)?;
        (spare || !row.versions.contains_key(&number)).then_some(Reason::Unwanted)
    }

    fn want_env(&mut self, id: &'a EnvId, row: &'a EnvRow, blueprints: &'a Blueprints, ledger: &Ledger) {
        let level = self.levels.of.get(id).copied();
        if let (Some(generation), Some(level)) = (row.serving(), level)
            && let Ok(blueprint) = blueprints.get(id, generation)
        {
            let visited = crate::sleep::last_sign(row);
            self.want_serving(blueprint, level, visited);
        }
        if let (Some(generation), Some(begun)) = (row.coming(), &row.begun)
            && let Ok(blueprint) = blueprints.get(id, generation)
        {
            let failed = failed_for_good(blueprint, ledger);
            for part in &blueprint.parts {
                let process = matches!(part.id.kind, Kind::Container | Kind::Job);
                // A generation that failed for good keeps data, image and logs; its containers stop, so that it holds no memory.
                let run = if failed && process { Run::Stopped } else { Run::Running };
                let (filled, released) = (begun.filled, begun.released);
                if !released || part.id.kind != Kind::Job {
                    self.put(Want { part, run, ready: false, released, filled, rank: begun.asked });
                }
            }
        }
    }

    /// A generation that has been ready: its release is done, its data is never made again.
    fn want_serving(&mut self, blueprint: &'a Blueprint, level: Level, visited: Time) {
        for part in &blueprint.parts {
            let wanted = match part.id.kind {
                Kind::Job => false,
                Kind::Container | Kind::Network => level > Level::Cold,
                Kind::Image | Kind::Database | Kind::Bucket | Kind::Volume => true,
            };
            let run = match level {
                Level::Awake => Run::Running,
                Level::Dozing => Run::Paused,
                Level::Asleep | Level::Cold => Run::Stopped,
            };
            let run = if part.id.kind == Kind::Container { run } else { Run::Running };
            if wanted {
                self.put(Want { part, run, ready: true, released: true, filled: true, rank: visited });
            }
        }
    }

    /// Things shared by several go by whoever comes first.
    fn put(&mut self, want: Want<'a>) {
        let rank = want.rank;
        let held = self.want.entry(&want.part.id).or_insert(want);
        held.rank = held.rank.min(rank);
    }

    /// Whether a lost store left it of an earlier generation that may have served. It is kept until the next one is ready,
    /// but no door leads to it, so it need not run.
    #[must_use]
    pub fn is_left_behind(&self, id: &ResourceId) -> bool {
        let Owner::Env(env) = &id.owner else { return false };
        let live =
            self.fates.get(env).is_some_and(|fate| matches!(fate, Fate::Live { begun, .. } if id.generation < *begun));
        live && self.why_not(id).is_none()
    }

    /// Why something that is not wanted goes; none if it is to be left alone.
    #[must_use]
    pub fn why_not(&self, id: &ResourceId) -> Option<Reason> {
        let env = match &id.owner {
            Owner::Env(env) => env,
            Owner::Project(..) => return Some(Reason::Unwanted).filter(|_| !self.kept.contains(id)),
            Owner::Baseline(version) => return self.why_not_baseline(id, version),
            Owner::Instance => return None,
        };
        match self.fates.get(env)? {
            Fate::Gone(reason) => Some(*reason),
            Fate::Live { .. } if id.kind == Kind::Image => Some(Reason::Unwanted),
            Fate::Live { past: Some((last, reason)), .. } if id.generation <= *last => Some(*reason),
            Fate::Live { begun, .. } if id.generation > *begun => None,
            Fate::Live { serving: Some(serving), .. } if id.generation < *serving => Some(Reason::Replaced),
            Fate::Live { serving: Some(serving), .. } if id.generation == *serving => match id.kind {
                Kind::Job => Some(Reason::Unwanted),
                Kind::Container | Kind::Network => Some(Reason::Cold),
                _ => None,
            },
            // Of no use any more; what a lost store left may have served, and goes when the next one is ready.
            Fate::Live { begun, cause, .. } if id.generation < *begun => *cause,
            Fate::Live { .. } => matches!(id.kind, Kind::Container | Kind::Job).then_some(Reason::Unwanted),
        }
    }
}

/// Whether something of a generation that has never been ready can only be helped by a new fact.
#[must_use]
pub fn failed_for_good(blueprint: &Blueprint, ledger: &Ledger) -> bool {
    first_failure(blueprint, ledger).is_some_and(|failed| failed.permanent)
}

/// What is wrong with a generation: what failed for good, else what failed last.
#[must_use]
pub fn first_failure<'a>(blueprint: &Blueprint, ledger: &'a Ledger) -> Option<&'a crate::ledger::Failed> {
    let failures = blueprint.parts.iter().filter_map(|part| ledger.failure(&part.id, &part.fingerprint));
    failures.max_by_key(|failed| (failed.permanent, failed.at))
}
