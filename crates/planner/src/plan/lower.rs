//! What is to be removed or put to rest. Never behind a build, never before what uses it.

use super::lane::Queue;
use super::{Lane, Plan, Sight};
use crate::resource::{Action, Backend, Kind, Owner, Reason, ResourceId, Run};

impl Sight<'_> {
    /// Everything seen that is not wanted goes, or at least stops.
    pub(super) fn lower(self, plan: &mut Plan, queue: &mut Queue) {
        for (id, observed) in &self.inventory.seen {
            if self.desired.want.contains_key(id) {
                continue;
            }
            match self.why_not(id) {
                Some(reason) => self.remove(id, reason, plan, queue),
                // An orphan stops at once, whatever becomes of it.
                None if self.is_idle(id) && observed.run > Run::Stopped && runs(id) => {
                    self.rest(id, Run::Stopped, plan, queue);
                }
                None => {}
            }
        }
    }

    fn is_idle(self, id: &ResourceId) -> bool {
        self.ledger.orphans.contains_key(&id.owner) || self.desired.is_left_behind(id)
    }

    fn why_not(self, id: &ResourceId) -> Option<Reason> {
        if self.desired.condemned.contains(&&id.owner) {
            return Some(self.desired.why_not(id).unwrap_or(Reason::Orphan));
        }
        let reason = self.desired.why_not(id)?;
        // What a lost store leaves may be taken up again, and wants its image then.
        let shared = matches!(id.owner, Owner::Project(..));
        let settled = self.ledger.has_heard_all() && self.ledger.orphans.is_empty();
        (!shared || settled).then_some(reason)
    }

    /// Removes a thing as soon as nothing uses it.
    pub(super) fn remove(self, id: &ResourceId, reason: Reason, plan: &mut Plan, queue: &mut Queue) {
        if !self.may_lower(id, plan) {
            return;
        }
        // Networks and data go only while the engine is known: a container that nobody sees might still use them.
        let blind = id.kind != Kind::Container && !self.inventory.known.contains(&Backend::Engine);
        if blind || self.is_used(id) {
            plan.waiting.push((id.clone(), "goes when nothing uses it".to_owned()));
            return;
        }
        queue.push(Lane::Remove, self.now, Action::Remove(id.clone(), reason));
    }

    /// Lowers a container. Needs nothing: an orphan has no spec, and a missing image keeps nobody awake.
    pub(super) fn rest(self, id: &ResourceId, run: Run, plan: &mut Plan, queue: &mut Queue) {
        if self.may_lower(id, plan) {
            queue.push(Lane::Rest, self.now, Action::Rest(id.clone(), run));
        }
    }

    fn may_lower(self, id: &ResourceId, plan: &mut Plan) -> bool {
        if !self.inventory.known.contains(&id.backend) || self.ledger.is_busy(id) {
            return false;
        }
        match self.ledger.lowering_failure(id).filter(|failed| failed.next > self.now) {
            Some(failed) => {
                plan.wake_by(failed.next);
                plan.waiting.push((id.clone(), format!("{}; tried again soon", failed.text)));
                false
            }
            None => true,
        }
    }

    /// Whether anything seen, or any ensure under way, uses it. Processes of a generation use its network and data.
    fn is_used(self, id: &ResourceId) -> bool {
        let within = |user: &ResourceId| {
            !runs(id)
                && id.kind != Kind::Image
                && runs(user)
                && user.owner == id.owner
                && user.generation == id.generation
        };
        let seen = self
            .inventory
            .seen
            .iter()
            .any(|(user, observed)| user != id && (within(user) || observed.uses.contains(id)));
        seen || self.ledger.coming().any(|(user, needs)| user != id && (within(user) || needs.contains(id)))
    }
}

/// Containers and jobs: what has a process.
fn runs(id: &ResourceId) -> bool {
    matches!(id.kind, Kind::Container | Kind::Job)
}
