//! How many connections there may be: in all, and of one address, so that nobody takes everybody's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::proxy::Side;

/// Connections of visitors at a time.
const OUTER: Most = Most { all: 8192, each: 2048 };

/// Connections of environments at a time. Each is one address, and has no crowd behind it.
const INNER: Most = Most { all: 8192, each: 256 };

#[derive(Debug, Clone, Copy)]
struct Most {
    all: usize,
    each: usize,
}

/// Counts connections by address.
#[derive(Debug)]
pub(crate) struct Places {
    most: Most,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: BTreeMap<IpAddr, usize>,
}

impl Places {
    pub(crate) fn new(side: Side) -> Arc<Self> {
        let most = if side == Side::Outer { OUTER } else { INNER };
        Arc::new(Places { most, taken: Mutex::default() })
    }

    /// A place for one more connection of this address, until it is dropped. None when there is none left.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let all = taken.all;
        let each = taken.each.entry(address).or_default();
        if all >= self.most.all || *each >= self.most.each {
            if *each == 0 {
                taken.each.remove(&address);
            }
            return None;
        }
        *each += 1;
        taken.all += 1;
        Some(Place { address, places: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    address: IpAddr,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(each) = taken.each.get_mut(&self.address) {
            *each -= 1;
            if *each == 0 {
                taken.each.remove(&self.address);
            }
        }
    }
}
