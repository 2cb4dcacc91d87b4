//! Listings of the backends: one at a time each, again when something changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drivers::{Driver, Scope};
use planner::core::Core;
use planner::event::Event;
use planner::resource::{Backend, Failure};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::now;
use crate::controller::Input;

/// A listing that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// What is being listed, and what has to be listed again.
pub struct Listings {
    drivers: BTreeMap<Backend, Arc<dyn Driver>>,
    input: UnboundedSender<Input>,
    under_way: BTreeSet<Backend>,
    again: BTreeSet<Backend>,
}

impl std::fmt::Debug for Listings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listings").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl Listings {
    /// Nothing under way yet.
    #[must_use]
    pub fn new(drivers: BTreeMap<Backend, Arc<dyn Driver>>, input: UnboundedSender<Input>) -> Listings {
        Listings { drivers, input, under_way: BTreeSet::new(), again: BTreeSet::new() }
    }

    /// Lists every backend.
    pub fn all(&mut self, core: &mut Core) {
        let backends: Vec<Backend> = self.drivers.keys().copied().collect();
        for backend in backends {
            self.dirty(backend, core);
        }
    }

    /// Lists one backend now, or again once the listing under way has returned: that one began before the change.
    pub fn dirty(&mut self, backend: Backend, core: &mut Core) {
        let Some(driver) = self.drivers.get(&backend).cloned() else { return };
        if !self.under_way.insert(backend) {
            self.again.insert(backend);
            return;
        }
        let began = core.begin_listing(now());
        let input = self.input.clone();
        tokio::spawn(async move {
            let seen = tokio::time::timeout(DEADLINE, driver.inventory(&Scope::All))
                .await
                .unwrap_or_else(|_| Err(Failure::transient(format!("{backend:?}: no listing within 30 s"))));
            let _ = input.send(Input::Event(Event::Listed { backend, began, seen }));
        });
    }

    /// A listing returned.
    pub fn returned(&mut self, backend: Backend, core: &mut Core) {
        self.under_way.remove(&backend);
        if self.again.remove(&backend) {
            self.dirty(backend, core);
        }
    }
}
