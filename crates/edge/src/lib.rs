//! Serves visitors: proxy and DNS for the tables it was last given. Knows nothing of Docker or GitHub.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use planner::identity::{EnvId, Time};
use planner::tables::Tables;
use tokio::sync::{mpsc, watch};

/// The doors between the edge and the loop.
#[derive(Debug, Clone)]
pub struct Doors {
    /// The tables to serve, swapped as a whole.
    pub tables: watch::Receiver<Arc<Tables>>,
    /// Somebody waits for this environment to wake. Full means that enough is waiting already.
    pub knock: mpsc::Sender<EnvId>,
    /// Where visits are counted.
    pub visits: Arc<Visits>,
    /// The object store's listener on loopback.
    pub objects: SocketAddr,
}

/// Last requests and open streams by environment; the loop takes a snapshot every 10 s.
#[derive(Debug, Default)]
pub struct Visits {
    seen: Mutex<BTreeMap<EnvId, (Time, usize)>>,
}

impl Visits {
    /// What was visited since the last snapshot: the last request's time, or `now` while a request or stream is open.
    pub fn snapshot(&self, now: Time) -> Vec<(EnvId, Time)> {
        let Ok(mut seen) = self.seen.lock() else { return Vec::new() };
        let snapshot =
            seen.iter().map(|(env, (last, open))| (env.clone(), if *open > 0 { now } else { *last })).collect();
        seen.retain(|_, (_, open)| *open > 0);
        snapshot
    }
}
