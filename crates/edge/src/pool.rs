//! Connections to upstreams. They belong to a container and its generation, not to an address: when a route no longer
//! has the upstream, its connections are dropped, and a reused address gets new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use planner::tables::{Door, Route, Tables, Upstream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::body::Outgoing;
use crate::patience::Patience;
use crate::visits::Asking;

/// More idle connections than this to one upstream are closed at once.
const IDLE_PER_UPSTREAM: usize = 64;

/// After an answer hyper needs a moment until the connection can be used again; longer than this means that the
/// upstream answered before it had read the request.
const SETTLE: Duration = Duration::from_secs(1);

/// Idle connections by upstream, the one used last first.
#[derive(Debug)]
pub(crate) struct Pool {
    patience: Patience,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: BTreeSet<Upstream>,
    idle: BTreeMap<Upstream, Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Outgoing>,
    ended: CancellationToken,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        Arc::new(Pool { patience, inner: Mutex::default() })
    }

    /// Keeps only connections to upstreams that a route has, and closes those that have idled too long.
    pub(crate) fn keep(&self, tables: &Tables, also: Upstream) {
        let open = tables.routes.values().filter_map(|route| match route {
            Route::Env(route) => match &route.door {
                Door::Open(upstream) => Some(upstream.clone()),
                _ => None,
            },
            _ => None,
        });
        let live: BTreeSet<Upstream> = open.chain([also]).collect();
        let mut inner = self.lock();
        inner.idle.retain(|upstream, _| live.contains(upstream));
        inner.live = live;
    }

    /// Closes what has idled too long.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let fresh = |idle: &Idle| now - idle.since < self.patience.pooled && !idle.sender.is_closed();
        self.lock().idle.retain(|_, idle| {
            idle.retain(fresh);
            !idle.is_empty()
        });
    }

    /// A connection that is open and idle, if there is one.
    pub(crate) fn take(self: &Arc<Self>, upstream: &Upstream) -> Option<Lease> {
        let mut inner = self.lock();
        let idle = inner.idle.get_mut(upstream)?;
        while let Some(Idle { sender, ended, since }) = idle.pop() {
            if since.elapsed() < self.patience.pooled && sender.is_ready() {
                return Some(self.lease(upstream, sender, ended));
            }
        }
        None
    }

    /// A new connection.
    pub(crate) async fn connect(self: &Arc<Self>, upstream: &Upstream) -> io::Result<Lease> {
        let stream = timeout(self.patience.connect, TcpStream::connect(upstream.address)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to an upstream ended");
            }
            drop(end);
        });
        Ok(self.lease(upstream, sender, ended))
    }

    fn lease(self: &Arc<Self>, upstream: &Upstream, sender: SendRequest<Outgoing>, ended: CancellationToken) -> Lease {
        Lease { sender, ended, upstream: upstream.clone(), pool: Arc::clone(self), asking: None }
    }

    fn put(&self, upstream: Upstream, sender: SendRequest<Outgoing>, ended: CancellationToken) {
        let mut inner = self.lock();
        if !inner.live.contains(&upstream) {
            return;
        }
        let idle = inner.idle.entry(upstream).or_default();
        if idle.len() < IDLE_PER_UPSTREAM {
            idle.push(Idle { sender, ended, since: Instant::now() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Dropped, it is closed; given back, the next request may have it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Outgoing>,
    /// Cancelled when the connection is over.
    pub(crate) ended: CancellationToken,
    upstream: Upstream,
    pool: Arc<Pool>,
    asking: Option<Asking>,
}

impl Lease {
    /// The request that it is used for is answered when it is given back or dropped.
    pub(crate) fn holding(self, asking: Asking) -> Lease {
        Lease { asking: Some(asking), ..self }
    }

    /// The answer has been read in full.
    pub(crate) fn give_back(self) {
        let Lease { mut sender, ended, upstream, pool, asking } = self;
        drop(asking);
        if sender.is_ready() {
            pool.put(upstream, sender, ended);
        } else if !sender.is_closed() {
            tokio::spawn(async move {
                if matches!(timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                    pool.put(upstream, sender, ended);
                }
            });
        }
    }
}
