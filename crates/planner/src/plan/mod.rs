//! The difference between what should exist and what does, in lanes, so that everybody's place in the queue is a value.

mod ensure;
mod lane;
mod lower;

use crate::desired::Desired;
use crate::event::CallId;
use crate::identity::Time;
use crate::ledger::Ledger;
use crate::policy::Policy;
use crate::resource::{Action, Inventory, ResourceId};

pub use ensure::{BACKENDS, backend_name};
pub use lane::Lane;

/// What to do now, and what waits for what.
#[derive(Debug, Default)]
pub struct Plan {
    /// Calls to make.
    pub start: Vec<(Action, Lane)>,
    /// Calls to cut: builds, and waiting for a job.
    pub cancel: Vec<CallId>,
    /// What is not done yet, and why.
    pub waiting: Vec<(ResourceId, String)>,
    /// When something can be done that cannot be done now, if nothing happens before.
    pub wake_at: Option<Time>,
}

impl Plan {
    /// Something becomes possible, or is over, at that time.
    fn wake_by(&mut self, at: Time) {
        self.wake_at = Some(self.wake_at.map_or(at, |wake_at| wake_at.min(at)));
    }
}

/// Everything that a plan looks at.
#[derive(Debug, Clone, Copy)]
struct Sight<'a> {
    desired: &'a Desired<'a>,
    inventory: &'a Inventory,
    ledger: &'a Ledger,
    now: Time,
}

/// What to do now: removals, rests and ensures that nothing forbids, as many as the lanes take.
#[must_use]
pub fn plan(desired: &Desired<'_>, inventory: &Inventory, ledger: &Ledger, policy: &Policy, now: Time) -> Plan {
    let sight = Sight { desired, inventory, ledger, now };
    let mut plan = Plan::default();
    let mut queue = lane::Queue::default();
    sight.lower(&mut plan, &mut queue);
    sight.ensure(&mut plan, &mut queue);
    sight.cancel(&mut plan);
    queue.fill(ledger, policy, &mut plan);
    if let Some(deadline) = ledger.next_deadline() {
        plan.wake_by(deadline);
    }
    if let Some(next) = desired.levels.next {
        plan.wake_by(next);
    }
    plan
}

impl Sight<'_> {
    /// Builds and waiting for jobs that nobody wants any more are cut; every other call runs to its end.
    fn cancel(self, plan: &mut Plan) {
        for (call, under_way) in &self.ledger.calls {
            let id = under_way.action.id();
            let can = matches!(under_way.lane, Lane::Build | Lane::Job | Lane::Data) && !under_way.cancelled;
            let wanted = self.desired.want.get(id).is_some_and(|want| want.run == want.part.run);
            if can && !wanted {
                plan.cancel.push(*call);
            }
        }
    }
}
