//! The product as one value: events in, effects out. No clock, no runtime.

use crate::event::{Began, Event, Step};
use crate::facts::Row;
use crate::identity::{InstanceKey, Time};
use crate::policy::Policy;
use crate::view::View;

/// Facts, inventory, ledger and calls under way, and the rules that turn events into effects.
#[derive(Debug)]
pub struct Core {
    key: InstanceKey,
    policy: Policy,
}

impl Core {
    /// From the rows of the store (none on a first start or after its loss). Starts nothing until every backend was listed.
    ///
    /// # Errors
    /// A row that does not parse: table, key and why.
    pub fn restore(key: InstanceKey, policy: Policy, rows: &[Row]) -> Result<Core, String> {
        let _ = rows;
        Ok(Core { key, policy })
    }

    /// To be called when a listing begins; the value goes into [`Event::Listed`].
    pub fn begin_listing(&mut self, now: Time) -> Began {
        Began { at: now, ticket: 0 }
    }

    /// Applies the events, decides, and says what to do: persist, publish, start, in this order.
    pub fn step(&mut self, now: Time, events: Vec<Event>) -> Step {
        let _ = (now, events, &self.key, &self.policy);
        Step::default()
    }

    /// What people see now.
    #[must_use]
    pub fn view(&self) -> View {
        View::default()
    }
}
