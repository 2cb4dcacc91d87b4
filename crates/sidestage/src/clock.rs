//! The one clock of the process. A story moves it ahead, so that days pass without anybody waiting for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use planner::identity::Time;

static AHEAD: AtomicU64 = AtomicU64::new(0);

/// The system's time, and how far it was moved ahead.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(AHEAD.load(Ordering::Relaxed)))
}

/// Moves the clock of this process ahead.
pub fn advance(by: Duration) {
    AHEAD.fetch_add(u64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
}
