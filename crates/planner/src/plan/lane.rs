//! Lanes: how many calls of a kind there are at once. Four releases of ten minutes must not block all starts.

use std::collections::BTreeMap;

use super::Plan;
use crate::identity::Time;
use crate::ledger::Ledger;
use crate::policy::Policy;
use crate::resource::{Action, Backend};

/// A lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Removals: never behind anything else.
    Remove,
    /// Pausing and stopping.
    Rest,
    /// What a visitor waits for.
    Wake,
    /// Networks, data and containers of a generation that comes up.
    Start,
    /// Release commands.
    Job,
    /// Builds.
    Build,
    /// Templates and snapshots of baselines: loading a dump may take hours.
    Data,
    /// Clones made ahead.
    Spare,
}

impl Lane {
    /// Calls at once.
    #[must_use]
    pub fn slots(self, policy: &Policy) -> usize {
        match self {
            Lane::Build => policy.limits.builds.max(1),
            Lane::Job | Lane::Data => 2,
            Lane::Spare => 1,
            Lane::Start | Lane::Rest | Lane::Remove => 4,
            Lane::Wake => 3 * policy.limits.awake.max(1),
        }
    }

    /// What it is called when people wait for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Remove => "removals",
            Lane::Rest => "rests",
            Lane::Wake => "wakes",
            Lane::Start => "starts",
            Lane::Job => "release commands",
            Lane::Build => "builds",
            Lane::Data => "baselines",
            Lane::Spare => "clones made ahead",
        }
    }
}

/// What could be done now, by lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<Lane, Vec<(Time, Action)>>,
}

impl Queue {
    pub(super) fn push(&mut self, lane: Lane, rank: Time, action: Action) {
        self.lanes.entry(lane).or_default().push((rank, action));
    }

    /// Gives out the free slots, the longest waiting first; visitors who came last are the ones that still wait.
    pub(super) fn fill(self, ledger: &Ledger, policy: &Policy, plan: &mut Plan) {
        let busy = self.lanes.iter().any(|(lane, actions)| actions.iter().any(|(_, action)| is_real(*lane, action)));
        let busy = busy || ledger.calls.values().any(|call| is_real(call.lane, &call.action));
        for (lane, mut actions) in self.lanes {
            actions.sort_by(|(a, x), (b, y)| (a, x.id()).cmp(&(b, y.id())));
            if lane == Lane::Wake {
                actions.reverse();
            }
            let free = lane.slots(policy).saturating_sub(ledger.taken(lane));
            if lane == Lane::Spare && busy {
                let wait = |(_, action): (Time, Action)| (action.id().clone(), "real work comes first".to_owned());
                plan.waiting.extend(actions.into_iter().map(wait));
                continue;
            }
            for (place, (_, action)) in actions.into_iter().enumerate() {
                if place < free {
                    plan.start.push((action, lane));
                } else {
                    let text = format!("{} before it; {} {} at once", place - free, lane.slots(policy), lane.as_str());
                    plan.waiting.push((action.id().clone(), text));
                }
            }
        }
    }
}

/// Work at the databases that somebody waits for: a clone made ahead never takes the disk from it.
fn is_real(lane: Lane, action: &Action) -> bool {
    let ensure = matches!(action, Action::Ensure(_)) && action.id().backend == Backend::Postgres;
    ensure && lane == Lane::Start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{InstanceKey, Sha, Trust};
    use crate::resource::{Kind, Owner, Reason, ResourceId};

    #[test]
    fn a_lane_takes_what_it_has_slots_for_and_says_who_waits() {
        let key = InstanceKey::new([1; 32]);
        let project = "shop".parse().unwrap_or_else(|_| unreachable!());
        let env = |number| Owner::Env(key.env(&project, &Sha::from_bytes([number; 20]), Trust::Trusted));
        let id = |number| ResourceId {
            backend: Backend::Objects,
            owner: env(number),
            generation: 1,
            kind: Kind::Bucket,
            name: "main".to_owned(),
        };
        let mut queue = Queue::default();
        for number in 0..7 {
            queue.push(Lane::Remove, Time(u64::from(number)), Action::Remove(id(number), Reason::Closed));
        }
        let mut plan = Plan::default();
        queue.fill(&Ledger::default(), &policy(), &mut plan);
        let started: Vec<&ResourceId> = plan.start.iter().map(|(action, _)| action.id()).collect();
        assert_eq!(started, [&id(0), &id(1), &id(2), &id(3)], "the longest waiting come first");
        assert_eq!(plan.waiting[2], (id(6), "2 before it; 4 removals at once".to_owned()));
    }

    fn policy() -> Policy {
        Policy {
            domain: "staging.test".into(),
            scheme: "http".into(),
            port: None,
            console_url: None,
            projects: BTreeMap::new(),
            limits: crate::policy::Limits {
                environments: 20,
                awake: 8,
                stopped: 50,
                builds: 1,
                cpu: 1000,
                memory: 1 << 29,
                pids: 256,
                disk: 1 << 31,
                connections: 20,
                database: None,
                objects: None,
                suspend_trusted: false,
            },
            lifetime: crate::policy::Lifetime {
                idle: std::time::Duration::from_secs(900),
                sleep: std::time::Duration::from_secs(7200),
                ttl: std::time::Duration::from_secs(432_000),
            },
            addresses: Vec::new(),
            extensions: std::collections::BTreeSet::new(),
            spares: crate::policy::Spares::default(),
            objects_public: true,
        }
    }
}
