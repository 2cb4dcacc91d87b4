//! Last requests and open streams by environment. The loop takes a snapshot of them and decides who may sleep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use planner::identity::{EnvId, Time};

/// Last requests and open streams by environment; the loop takes a snapshot every 10 s.
#[derive(Debug)]
pub struct Visits {
    seen: Mutex<BTreeMap<EnvId, Seen>>,
    now: fn() -> Time,
}

impl Default for Visits {
    fn default() -> Self {
        Visits::new(now)
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Time,
    open: usize,
}

impl Visits {
    /// None yet, by this clock.
    #[must_use]
    pub fn new(now: fn() -> Time) -> Self {
        Visits { seen: Mutex::default(), now }
    }

    /// What was visited since the last snapshot: the last request's time, or `now` while a request or stream is open.
    pub fn snapshot(&self, now: Time) -> Vec<(EnvId, Time)> {
        let mut seen = self.lock();
        let snapshot =
            seen.iter().map(|(env, seen)| (env.clone(), if seen.open > 0 { now } else { seen.last })).collect();
        seen.retain(|_, seen| seen.open > 0);
        snapshot
    }

    /// A request or stream to this environment begins; it is open until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>, env: &EnvId) -> Visit {
        let now = (self.now)();
        let mut seen = self.lock();
        let entry = seen.entry(env.clone()).or_insert(Seen { last: now, open: 0 });
        entry.last = now;
        entry.open += 1;
        Visit { env: env.clone(), visits: Arc::clone(self) }
    }

    /// How many requests and streams are open to this environment.
    #[must_use]
    pub fn open(&self, env: &EnvId) -> usize {
        self.lock().get(env).map_or(0, |seen| seen.open)
    }

    /// A panic elsewhere must not stop the counting: what is behind the lock is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EnvId, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open request or stream. Dropping it is the end of the visit.
#[derive(Debug)]
pub struct Visit {
    env: EnvId,
    visits: Arc<Visits>,
}

impl Visit {
    /// Whom it goes to.
    pub(crate) fn env(&self) -> &EnvId {
        &self.env
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(seen) = self.visits.lock().get_mut(&self.env) {
            seen.open = seen.open.saturating_sub(1);
            seen.last = (self.visits.now)();
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
