//! What is to be made, started or replaced.

use super::lane::Queue;
use super::{Lane, Plan, Sight};
use crate::blueprint::is_data;
use crate::desired::Want;
use crate::resource::{Action, Backend, Kind, Observed, Owner, Phase, Reason, ResourceId, Run};
use crate::spec::Spec;

/// All backends: data of environments is made only while every one of them is known.
pub const BACKENDS: [Backend; 3] = [Backend::Engine, Backend::Postgres, Backend::Objects];

/// What a wanted thing lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Nothing,
    /// It is to be made or started.
    Ensure,
    /// It is to be lowered.
    Rest,
    /// It is in the way of what is wanted.
    Replace(Reason),
}

impl Sight<'_> {
    /// Everything wanted that is missing, incomplete, down or different.
    pub(super) fn ensure(self, plan: &mut Plan, queue: &mut Queue) {
        for (id, want) in &self.desired.want {
            match self.lack(id, want) {
                Lack::Nothing => {}
                Lack::Rest => self.rest(id, want.run, plan, queue),
                Lack::Replace(reason) => self.remove(id, reason, plan, queue),
                Lack::Ensure => match self.obstacle(id, want, plan) {
                    None => queue.push(lane(want), want.rank, Action::Ensure(Box::new(want.resource()))),
                    Some(why) => plan.waiting.push(((*id).clone(), why)),
                },
            }
        }
    }

    fn lack(self, id: &ResourceId, want: &Want<'_>) -> Lack {
        let Some(observed) = self.inventory.seen.get(id) else {
            // Paused or stopped is an upper bound: what is absent runs even less.
            return if want.run == Run::Running { Lack::Ensure } else { Lack::Nothing };
        };
        let process = matches!(id.kind, Kind::Container | Kind::Job);
        let other = process && observed.fingerprint != want.part.fingerprint;
        match observed.phase {
            Phase::Removing => in_the_way(id),
            // Of no use to the commits that come.
            _ if is_spare(want) && observed.fingerprint != want.part.fingerprint => Lack::Replace(Reason::Unwanted),
            _ if other => Lack::Replace(Reason::Drift),
            _ if observed.run > want.run => Lack::Rest,
            _ if want.run < Run::Running => Lack::Nothing,
            Phase::Partial => Lack::Ensure,
            _ if id.kind == Kind::Job => self.job_lacks(id, want, observed.phase),
            _ if id.kind == Kind::Container => self.container_lacks(id, want, observed),
            _ => Lack::Nothing,
        }
    }

    /// A job is done when its container exited with 0. One cut off runs again; one that failed stays for its logs.
    fn job_lacks(self, id: &ResourceId, want: &Want<'_>, phase: Phase) -> Lack {
        match phase {
            Phase::Exited { code: 0, .. } => Lack::Nothing,
            Phase::Exited { .. } => {
                let failed = self.ledger.failure(id, &want.part.fingerprint).is_some_and(|failed| failed.permanent);
                if failed { Lack::Nothing } else { Lack::Replace(Reason::Drift) }
            }
            _ => Lack::Ensure,
        }
    }

    /// The engine does not know 'ready': until a generation has been ready its containers are confirmed by an ensure of
    /// this process.
    fn container_lacks(self, id: &ResourceId, want: &Want<'_>, observed: &Observed) -> Lack {
        let up = observed.run == Run::Running && observed.phase == Phase::Whole;
        let counts = want.ready || self.ledger.is_confirmed(id, observed);
        if up && counts { Lack::Nothing } else { Lack::Ensure }
    }

    /// Why it cannot be ensured now.
    fn obstacle(self, id: &ResourceId, want: &Want<'_>, plan: &mut Plan) -> Option<String> {
        if self.ledger.call_for(id).is_some() {
            return Some("under way".to_owned());
        }
        if self.ledger.is_unsure(id) {
            return Some("the last call's outcome is not known yet".to_owned());
        }
        if let Some(failed) = self.ledger.failure(id, &want.part.fingerprint) {
            // What served once is started again for ever, slower.
            if failed.permanent && !(want.ready && id.kind == Kind::Container) {
                return Some(failed.text.clone());
            }
            if failed.next > self.now {
                plan.wake_by(failed.next);
                return Some(if failed.waiting {
                    failed.text.clone()
                } else {
                    format!("{}; tried again soon", failed.text)
                });
            }
        }
        if is_data(id.kind) && want.filled {
            return Some("its data is gone, and is never made again under the same generation".to_owned());
        }
        let needs = want.part.needs.iter().filter(|need| want.waits_for(need));
        let backends = needs.clone().map(|need| need.backend).chain([id.backend]);
        // Baselines are nobody's: no container uses them.
        let of_env = is_data(id.kind) && matches!(id.owner, Owner::Env(_));
        let every = of_env.then_some(BACKENDS).into_iter().flatten();
        if let Some(silent) = backends.chain(every).find(|backend| !self.inventory.known.contains(backend)) {
            return Some(format!("{} does not answer", backend_name(silent)));
        }
        // What served once starts beside its companions, but one that is not there yet comes first.
        let absent = |need: &&ResourceId| need.kind == Kind::Container && self.is_to_come(need);
        needs
            .clone()
            .find(|need| !self.is_met(need))
            .or(want.part.needs.iter().find(absent))
            .map(|need| format!("waits for {} {}", need.kind.as_str(), need.name))
    }

    /// Absent, and nothing went wrong with making it.
    fn is_to_come(self, id: &ResourceId) -> bool {
        let failed =
            self.desired.want.get(id).is_none_or(|want| self.ledger.failure(id, &want.part.fingerprint).is_some());
        !failed && !self.inventory.seen.contains_key(id)
    }

    fn is_met(self, need: &ResourceId) -> bool {
        let Some(observed) = self.inventory.seen.get(need).filter(|_| !self.ledger.is_busy(need)) else { return false };
        match need.kind {
            Kind::Job => matches!(observed.phase, Phase::Exited { code: 0, .. }),
            Kind::Container => self.ledger.is_confirmed(need, observed),
            _ => observed.phase == Phase::Whole,
        }
    }
}

/// What is on its way out must be gone before it can be made again.
fn in_the_way(id: &ResourceId) -> Lack {
    match id.kind {
        Kind::Container | Kind::Job => Lack::Replace(Reason::Drift),
        Kind::Network => Lack::Replace(Reason::Cold),
        Kind::Image => Lack::Replace(Reason::Unwanted),
        // Data that goes is never called back.
        Kind::Database | Kind::Bucket | Kind::Volume => Lack::Nothing,
    }
}

/// A clone made ahead.
fn is_spare(want: &Want<'_>) -> bool {
    matches!(want.part.spec, Spec::Spare { .. })
}

fn lane(want: &Want<'_>) -> Lane {
    match want.part.id.kind {
        // What CI has built need not wait behind what is built here.
        Kind::Image if matches!(want.part.spec, Spec::Pulled(_)) => Lane::Start,
        Kind::Image => Lane::Build,
        Kind::Job => Lane::Job,
        Kind::Database if is_spare(want) => Lane::Spare,
        Kind::Database | Kind::Bucket if want.part.spec.of().is_none() => Lane::Data,
        _ if want.ready => Lane::Wake,
        _ => Lane::Start,
    }
}

/// What people call a backend.
#[must_use]
pub fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Engine => "the container engine",
        Backend::Postgres => "PostgreSQL",
        Backend::Objects => "the object store",
    }
}
