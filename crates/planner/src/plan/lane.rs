//! Lanes: how many calls of a kind there are at once. Four releases of ten minutes must not block all starts.

use std::collections::BTreeMap;

use super::Plan;
use crate::identity::Time;
use crate::ledger::Ledger;
use crate::policy::Policy;
use crate::resource::Action;

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
}

impl Lane {
    /// Calls at once.
    #[must_use]
    pub fn slots(self, policy: &Policy) -> usize {
        match self {
            Lane::Build => policy.limits.builds.max(1),
            Lane::Job => 2,
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
        for (lane, mut actions) in self.lanes {
            actions.sort_by(|(a, x), (b, y)| (a, x.id()).cmp(&(b, y.id())));
            if lane == Lane::Wake {
                actions.reverse();
            }
            let free = lane.slots(policy).saturating_sub(ledger.taken(lane));
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
