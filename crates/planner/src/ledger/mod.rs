//! What we remember of our own attempts: calls under way, what they touched, what failed and when it is tried again.
//!
//! Only failures are stored. The rest may be lost: calls of a dead process are found by the next listing.

mod failure;
mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::blueprint::BRIEF;
use crate::event::{Began, CallId};
use crate::facts::Row;
use crate::identity::{ProjectName, Sha, Time};
use crate::plan::Lane;
use crate::resource::{
    Action, Backend, Failure, Fingerprint, Inventory, Kind, Observed, Owner, Phase, ResourceId, Run,
};
use crate::spec::{DataFrom, Spec};

pub use failure::{Failed, backoff};

/// How long after its deadline an ensure may still answer before it counts as lost.
pub const GRACE: Duration = Duration::from_secs(15);

/// A call under way.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it does.
    pub action: Action,
    /// Since when.
    pub since: Time,
    /// When it counts as lost.
    pub deadline: Time,
    /// Whose slot it takes.
    pub lane: Lane,
    /// It was asked to stop.
    pub cancelled: bool,
}

/// A call that failed or was lost: what became of its thing is not known until a later listing.
#[derive(Debug, Clone)]
struct Unsure {
    ticket: u64,
    /// What the thing needs, if it was to be made and may come up still.
    needs: Vec<ResourceId>,
    /// The slot that a lost start may still take.
    lane: Option<Lane>,
}

/// Reading one commit.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Since when it is under way.
    pub since: Option<Time>,
    /// Failures so far.
    pub attempts: u32,
    /// When it is tried again.
    pub next: Time,
    /// The last failure.
    pub failure: Option<Failure>,
}

/// Calls, failures and what was learnt from them.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Calls under way.
    pub calls: BTreeMap<CallId, Call>,
    under_way: BTreeMap<ResourceId, CallId>,
    failures: BTreeMap<(ResourceId, Fingerprint), Failed>,
    /// The ticket of what a call did last to a thing: listings that began before do not know of it.
    touched: BTreeMap<ResourceId, u64>,
    unsure: BTreeMap<ResourceId, Unsure>,
    /// Containers that an `ensure` of this process found up, by the engine's id, and since when.
    confirmed: BTreeMap<ResourceId, (Option<String>, Time)>,
    listed: BTreeMap<Backend, u64>,
    /// Why a backend's last listing failed.
    pub silent: BTreeMap<Backend, String>,
    /// Why a forge's last listing failed; none if it succeeded.
    pub forges: BTreeMap<ProjectName, Option<String>>,
    /// Since when a thing of ours is known by no fact.
    pub orphans: BTreeMap<Owner, Time>,
    /// A person has said that what the guard holds may go.
    pub orphans_confirmed: bool,
    /// Commits that are being read or could not be.
    pub reads: BTreeMap<(ProjectName, Sha), Reading>,
    /// Backends to look at again soon.
    pub look: BTreeSet<Backend>,
    /// Grows with every change that people could see.
    pub version: u64,
    ticket: u64,
    calls_made: u64,
    unsaved: Vec<Row>,
}

impl Ledger {
    /// Forges that are to be heard from now on, and those that are not any more.
    pub fn configure<'p>(&mut self, projects: impl Iterator<Item = &'p ProjectName>) {
        let mut before = std::mem::take(&mut self.forges);
        let unheard = || Some("it has not been listed yet".to_owned());
        self.forges = projects.map(|name| (name.clone(), before.remove(name).unwrap_or_else(unheard))).collect();
        self.version += 1;
    }

    /// Whether every forge has been listed, so that what no fact knows is known by nobody.
    #[must_use]
    pub fn has_heard_all(&self) -> bool {
        self.forges.values().all(Option::is_none)
    }

    /// A place in the order of calls and listings.
    fn next_ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// A listing begins.
    pub fn begin_listing(&mut self, now: Time) -> Began {
        Began { at: now, ticket: self.next_ticket() }
    }

    /// A call is made.
    pub fn start(&mut self, action: &Action, lane: Lane, now: Time) -> CallId {
        self.calls_made += 1;
        self.version += 1;
        let call = CallId(self.calls_made);
        let within = match action {
            // The driver gives up by itself at the deadline, and says what it knows.
            Action::Ensure(resource) => resource.deadline + GRACE,
            Action::Rest(..) | Action::Remove(..) => BRIEF,
        };
        let id = action.id().clone();
        let ticket = self.next_ticket();
        self.touched.insert(id.clone(), ticket);
        self.unsure.remove(&id);
        self.under_way.insert(id, call);
        let action = action.clone();
        self.calls.insert(call, Call { action, since: now, deadline: now.after(within), lane, cancelled: false });
        call
    }

    /// The call under way for a thing.
    #[must_use]
    pub fn call_for(&self, id: &ResourceId) -> Option<&Call> {
        self.calls.get(self.under_way.get(id)?)
    }

    /// Whether nothing may be done about the thing now: a call is under way, or its outcome is not known yet.
    #[must_use]
    pub fn is_busy(&self, id: &ResourceId) -> bool {
        self.under_way.contains_key(id) || self.unsure.contains_key(id)
    }

    /// Whether the outcome of the last call is not known yet.
    #[must_use]
    pub fn is_unsure(&self, id: &ResourceId) -> bool {
        self.unsure.contains_key(id)
    }

    /// Things that are being made, or may come up still, each with what it needs.
    pub fn coming(&self) -> impl Iterator<Item = (&ResourceId, &[ResourceId])> {
        let calls = self.calls.values().filter_map(|call| match &call.action {
            Action::Ensure(resource) => Some((&resource.id, resource.needs.as_slice())),
            _ => None,
        });
        calls.chain(self.unsure.iter().map(|(id, unsure)| (id, unsure.needs.as_slice())))
    }

    /// Slots of a lane that are taken. A lost start may still come up, so it keeps its slot until a listing answers for it.
    #[must_use]
    pub fn taken(&self, lane: Lane) -> usize {
        let calls = self.calls.values().filter(|call| call.lane == lane).count();
        calls + self.unsure.values().filter(|unsure| unsure.lane == Some(lane)).count()
    }

    /// Whether a container has been found up by this process, and still is the same.
    #[must_use]
    pub fn is_confirmed(&self, id: &ResourceId, observed: &Observed) -> bool {
        let same = self.confirmed.get(id).is_some_and(|(container, _)| *container == observed.outputs.id);
        same && observed.run == Run::Running && observed.phase == Phase::Whole && !self.is_unsure(id)
    }

    /// A call returned. Ones that count as lost already say nothing that the next listing does not.
    pub fn returned(
        &mut self,
        call: CallId,
        result: Result<Option<Observed>, Failure>,
        seen: &mut Inventory,
        now: Time,
    ) {
        let Some(Call { action, .. }) = self.calls.remove(&call) else { return };
        let id = action.id().clone();
        self.version += 1;
        self.under_way.remove(&id);
        let ticket = self.next_ticket();
        self.touched.insert(id.clone(), ticket);
        match (&action, result) {
            (Action::Ensure(resource), Ok(Some(observed))) => {
                if id.kind == Kind::Container {
                    let since = match self.confirmed.get(&id) {
                        Some((container, since)) if *container == observed.outputs.id => *since,
                        _ => now,
                    };
                    self.confirmed.insert(id.clone(), (observed.outputs.id.clone(), since));
                } else {
                    self.forget_failure(&resource.id, &resource.fingerprint);
                }
                // It may have claimed a clone made ahead: the next one is made as soon as that is known.
                if let Spec::Database { from: DataFrom::Baseline(version), .. } = &resource.spec {
                    let spares = seen.of(&Owner::Baseline(version.clone()));
                    let mut spares = spares.filter(|(id, _)| **id != ResourceId::template(version));
                    self.look.extend(spares.next().map(|_| id.backend));
                }
                seen.seen.insert(id, observed);
            }
            (Action::Rest(_, run), Ok(_)) => {
                self.forget_failure(&id, &failure::of_lowering());
                self.confirmed.remove(&id);
                if let Some(observed) = seen.seen.get_mut(&id) {
                    observed.run = observed.run.min(*run);
                }
            }
            (Action::Remove(..), Ok(_)) => {
                // Nothing is called gone before a listing has shown it gone.
                self.forget_failure(&id, &failure::of_lowering());
                self.lose(&action, None, seen);
            }
            (Action::Ensure(_), Ok(None)) => self.lose(&action, None, seen),
            // Nothing was done, so no listing has to tell what became of it.
            (Action::Ensure(resource), Err(Failure::Waiting { text })) => self.note_waiting(resource, &text, now),
            (Action::Ensure(resource), Err(failure)) => {
                self.note_failure(&id, &resource.fingerprint, &failure, now);
                self.lose(&action, None, seen);
            }
            (Action::Rest(..) | Action::Remove(..), Err(failure)) => {
                self.note_failure(&id, &failure::of_lowering(), &failure, now);
                self.lose(&action, None, seen);
            }
        }
    }

    /// Calls past their deadline count as lost: they may still land, and the next listing will tell.
    pub fn expire(&mut self, seen: &mut Inventory, now: Time) {
        let lost: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.deadline <= now).map(|(call, _)| *call).collect();
        for call in lost {
            let Some(Call { action, lane, since, .. }) = self.calls.remove(&call) else { continue };
            let id = action.id().clone();
            self.version += 1;
            self.under_way.remove(&id);
            let text = format!("{id}: no answer within {}", crate::units::show_duration(now.since(since)));
            let fingerprint = match &action {
                Action::Ensure(resource) => resource.fingerprint.clone(),
                Action::Rest(..) | Action::Remove(..) => failure::of_lowering(),
            };
            self.note_failure(&id, &fingerprint, &Failure::transient(text), now);
            self.lose(&action, (lane == Lane::Start).then_some(lane), seen);
        }
    }

    /// From now until a listing that begins later, nobody knows what this thing is.
    fn lose(&mut self, action: &Action, lane: Option<Lane>, seen: &mut Inventory) {
        let id = action.id();
        let (needs, lowering) = match action {
            Action::Ensure(resource) => (resource.needs.clone(), false),
            Action::Rest(..) | Action::Remove(..) => (Vec::new(), true),
        };
        let ticket = self.next_ticket();
        self.touched.insert(id.clone(), ticket);
        self.unsure.insert(id.clone(), Unsure { ticket, needs, lane });
        self.confirmed.remove(id);
        self.look.insert(id.backend);
        let Some(observed) = seen.seen.get_mut(id) else { return };
        if lowering {
            observed.phase = Phase::Removing;
        } else if id.kind == Kind::Container {
            observed.run = Run::Stopped;
        }
    }

    /// Whether this call is to be cut now: once is enough.
    pub fn cancel(&mut self, call: CallId) -> bool {
        let Some(call) = self.calls.get_mut(&call).filter(|call| !call.cancelled) else { return false };
        call.cancelled = true;
        true
    }

    /// When a call counts as lost next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.calls.values().map(|call| call.deadline).min()
    }

    /// How long a container has been up without a break, as far as this process knows.
    #[must_use]
    pub fn healthy_for(&self, id: &ResourceId, now: Time) -> Duration {
        self.confirmed.get(id).map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }
}
