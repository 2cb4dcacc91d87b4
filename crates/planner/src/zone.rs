//! What the DNS answers: every name that has a route, and nothing else.

use std::collections::BTreeMap;

use crate::identity::Time;
use crate::policy::Policy;
use crate::tables::{Route, Zone};

/// The zone for these routes; its serial grows past the last one's whenever it differs.
#[must_use]
pub fn zone(routes: &BTreeMap<String, Route>, policy: &Policy, last: &Zone, now: Time) -> Zone {
    let below = format!(".{}", policy.domain);
    let names = routes.keys().filter_map(|host| host.strip_suffix(&below)).map(str::to_owned);
    let mut zone = Zone {
        origin: policy.domain.clone(),
        names: names.collect(),
        addresses: policy.addresses.clone(),
        serial: last.serial,
    };
    if zone != *last {
        // Seconds since the epoch, so that it grows across restarts too.
        let seconds = u32::try_from(now.0 / 1000).unwrap_or(u32::MAX);
        zone.serial = seconds.max(last.serial.saturating_add(1));
    }
    zone
}
