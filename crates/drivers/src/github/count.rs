//! What GitHub was asked so far: for whoever watches the limits.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;
use serde_json::Value;

/// Counters that only grow.
#[derive(Debug, Default)]
pub(super) struct Count {
    reads: AtomicU64,
    writes: AtomicU64,
    queries: AtomicU64,
    points: AtomicU64,
}

/// Requests since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// REST requests that change nothing.
    pub reads: u64,
    /// REST requests that change something.
    pub writes: u64,
    /// GraphQL queries.
    pub queries: u64,
    /// What GitHub said that these cost, in points of its limit.
    pub points: u64,
}

impl Count {
    pub(super) fn request(&self, method: &Method, graph: bool) {
        let counter = match (graph, *method == Method::GET) {
            (true, _) => &self.queries,
            (false, true) => &self.reads,
            (false, false) => &self.writes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn points(&self, data: &Value) {
        let cost = data.pointer("/rateLimit/cost").and_then(Value::as_u64).unwrap_or(1);
        self.points.fetch_add(cost, Ordering::Relaxed);
    }

    pub(super) fn asked(&self) -> Asked {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Asked {
            reads: read(&self.reads),
            writes: read(&self.writes),
            queries: read(&self.queries),
            points: read(&self.points),
        }
    }
}
