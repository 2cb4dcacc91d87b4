//! The doors between the edge and the loop.

use std::net::SocketAddr;
use std::sync::Arc;

use planner::identity::EnvId;
use planner::tables::Tables;
use tokio::sync::{mpsc, watch};

use crate::visits::Visits;

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

impl Doors {
    /// The newest tables.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.borrow())
    }
}
