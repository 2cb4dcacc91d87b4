//! What the core was told about the world: the last listings, and what returned since.

use std::collections::BTreeMap;

use planner::event::{Began, Event};
use planner::resource::{Action, Backend, Kind, Observed, Owner, Phase, ResourceId};

/// Listings and answers.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The last listing of each backend that succeeded in this life.
    pub listed: BTreeMap<Backend, (Began, BTreeMap<ResourceId, Observed>)>,
    /// Whether the last listing of a backend succeeded.
    pub known: BTreeMap<Backend, bool>,
    /// Ensures that returned well since their backend was listed, each with the listing that had begun last by then.
    pub returned: BTreeMap<ResourceId, (u64, Observed)>,
    /// The listing that began last. Several things happen within one millisecond, so the clock does not tell which was first.
    begun: u64,
}

impl Told {
    /// A listing begins: it knows of what has returned by now.
    pub fn begins(&mut self, began: Began) {
        self.begun = began.ticket;
    }

    /// The listing that began last.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Takes in what a listing says, or the return of the call that was about this action.
    pub fn hear(&mut self, event: &Event, about: Option<&Action>) {
        match event {
            Event::Listed { backend, began, seen: Ok(seen) } => {
                if self.listed.get(backend).is_some_and(|(last, _)| last >= began) {
                    return;
                }
                self.known.insert(*backend, true);
                self.returned.retain(|id, (begun, _)| id.backend != *backend || *begun >= began.ticket);
                self.listed.insert(*backend, (*began, seen.clone()));
            }
            Event::Listed { backend, .. } => {
                self.known.insert(*backend, false);
            }
            Event::Returned { result, .. } => match (about, result) {
                (Some(Action::Ensure(resource)), Ok(Some(observed))) => {
                    self.returned.insert(resource.id.clone(), (self.begun, observed.clone()));
                }
                (Some(Action::Remove(id, _)), _) => drop(self.returned.remove(id)),
                _ => {}
            },
            _ => {}
        }
    }

    /// Whether a listing or a return that the core got last says that the thing is complete.
    pub fn complete(&self, id: &ResourceId) -> bool {
        let listed = self.listed.get(&id.backend).and_then(|(_, seen)| seen.get(id));
        let returned = self.returned.get(id).map(|(_, observed)| observed);
        listed.into_iter().chain(returned).any(|observed| is_complete(id, observed))
    }

    /// Images of one owner that were listed last, or made since.
    pub fn images_of<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a ResourceId> {
        let listed = self.listed.values().flat_map(|(_, seen)| seen.keys());
        let made = self.returned.keys().filter(|id| !self.listed.values().any(|(_, seen)| seen.contains_key(*id)));
        listed.chain(made).filter(move |id| id.kind == Kind::Image && id.owner == *owner)
    }

    /// Whether the last listing shows the thing, or a return since.
    pub fn exists(&self, id: &ResourceId) -> bool {
        self.returned.contains_key(id) || self.listed.get(&id.backend).is_some_and(|(_, seen)| seen.contains_key(id))
    }

    /// What was said last of it.
    pub fn last(&self, id: &ResourceId) -> Option<&Observed> {
        let listed = self.listed.get(&id.backend).and_then(|(_, seen)| seen.get(id));
        self.returned.get(id).map(|(_, observed)| observed).or(listed)
    }
}

/// Complete enough that something may be built on it.
pub fn is_complete(id: &ResourceId, observed: &Observed) -> bool {
    match id.kind {
        Kind::Job => matches!(observed.phase, Phase::Exited { code: 0, .. }),
        _ => observed.phase == Phase::Whole,
    }
}
