//! Last requests and open streams by environment. The loop takes a snapshot of them and decides who may sleep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use planner::identity::{EnvId, Time};
use tokio::sync::watch;

/// Last requests and open streams by environment; the loop takes a snapshot every 10 s.
#[derive(Debug)]
pub struct Visits {
    seen: Mutex<BTreeMap<EnvId, Seen>>,
    /// Requests that are not answered yet, by the engine's id of the container that has them.
    unanswered: watch::Sender<BTreeMap<String, usize>>,
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
        Visits { seen: Mutex::default(), unanswered: watch::Sender::default(), now }
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

    /// A request goes to this container; it is answered when what is returned is dropped. A WebSocket is answered once it
    /// is open. Begin it before you look which container the route names, so that whoever changed the route sees it.
    pub(crate) fn ask(self: &Arc<Self>, container: &str) -> Asking {
        self.unanswered.send_modify(|asked| *asked.entry(container.to_owned()).or_default() += 1);
        Asking { container: container.to_owned(), visits: Arc::clone(self) }
    }

    /// Waits until this container, which no route names any more, has answered every request that it has.
    pub async fn answered(&self, container: &str) {
        // The other end lives as long as this does.
        let _ = self.unanswered.subscribe().wait_for(|asked| !asked.contains_key(container)).await;
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

/// A request that a container has. Dropping it says that it is answered.
#[derive(Debug)]
pub(crate) struct Asking {
    container: String,
    visits: Arc<Visits>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.visits.unanswered.send_modify(|asked| {
            let left = asked.get(&self.container).map_or(0, |count| count.saturating_sub(1));
            match left {
                0 => drop(asked.remove(&self.container)),
                left => drop(asked.insert(self.container.clone(), left)),
            }
        });
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
