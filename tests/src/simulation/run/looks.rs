//! Listings of backends and of forges, and commits that are read: what Sidestage learns of the world, late, twice or not at all.

use planner::event::Event;
use planner::identity::{ProjectName, Sha, Time};
use planner::resource::{Backend, Failure};

use super::{Errand, Look, Sim};

impl Sim {
    pub(super) fn plan_look(&mut self, backend: Backend, millis: u64) {
        let number = self.world.number();
        self.looks.insert(backend, Look::Planned(number));
        self.errand(millis, Errand::Look { backend, number });
    }

    /// The core wants to know soon. A listing that has begun already does not count.
    pub(super) fn look_soon(&mut self, backend: Backend) {
        match self.looks.get(&backend) {
            Some(Look::Planned(_)) | None => self.plan_look(backend, 100),
            Some(_) => drop(self.looks.insert(backend, Look::Again)),
        }
    }

    /// A listing is as of its beginning, and arrives later, if it arrives.
    pub(super) fn look(&mut self, backend: Backend) {
        self.looks.insert(backend, Look::UnderWay);
        let began = self.core.begin_listing(self.world.now);
        self.oracle.begins(began);
        let answers = self.world.answers(backend) && (self.calm || !self.world.rng.chance(self.world.faults / 4));
        let seen = if answers {
            Ok(self.world.list(backend))
        } else {
            Err(Failure::transient(format!("{backend:?} is away")))
        };
        let millis = self.world.span(5, if self.calm { 50 } else { 3_000 });
        self.errand(millis, Errand::Listing { life: self.life, backend, began, seen });
    }

    /// A forge's list, true as of now, arrives in the order in which it was asked for. Some are lost; some say nothing.
    pub(super) fn poll(&mut self, project: ProjectName, again: bool) {
        if !self.settings.policy.projects.contains_key(&project) {
            // Nobody asks a forge that is not configured; if its project comes back, asking begins anew.
            self.polled.remove(&project);
            return;
        }
        let lost = !self.calm && self.world.rng.chance(100);
        if !lost {
            let away = !self.calm && self.world.rng.chance(60);
            let event = if away {
                Event::NoRefs { project: project.clone(), why: "the forge is away".into() }
            } else {
                let requested = self.core.requested(self.world.now).remove(&project).unwrap_or_default();
                Event::Refs { heads: self.forge.heads(&project, &requested), project: project.clone() }
            };
            let delay = self.world.span(1, if self.calm { 500 } else { 5_000 });
            let at = Time(self.world.now.0 + delay);
            let last = self.last_refs.entry(project.clone()).or_default();
            *last = Time(last.0 + 1).max(at);
            let millis = last.0 - self.world.now.0;
            let twice = !self.calm && self.world.rng.chance(50);
            if twice {
                self.send(millis, event.clone());
            }
            self.send(millis, event);
        }
        if again {
            let millis = self.world.span(60_000, 400_000);
            self.errand(millis, Errand::Poll { project, again });
        }
    }

    /// A hint that a project has changed: it is asked soon.
    pub fn hint(&mut self, project: &ProjectName) {
        let millis = self.world.span(1, 3_000);
        self.errand(millis, Errand::Poll { project: project.clone(), again: false });
    }

    pub(super) fn read(&mut self, project: ProjectName, sha: Sha) {
        let source = match self.forge.commits.get(&sha) {
            _ if !self.calm && self.world.rng.chance(50) => Err(Failure::transient("the forge hung up")),
            Some(commit) => Ok(commit.source.clone()),
            None => Err(Failure::permanent("no such commit")),
        };
        let millis = self.world.span(10, 4_000);
        self.send(millis, Event::Read { project, sha, source });
    }
}
