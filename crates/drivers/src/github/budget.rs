//! How much may be written: GitHub blocks whoever creates content too fast, so each installation has a budget below that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use planner::resource::Failure;
use tokio::time::{Instant, sleep_until};

use super::client::As;

/// Between two writes.
const APART: Duration = Duration::from_secs(1);
/// Most writes within a time.
const MOST: [(usize, Duration); 2] = [(80, Duration::from_secs(60)), (450, Duration::from_secs(3600))];

/// Writes by who makes them.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<BTreeMap<As, Arc<tokio::sync::Mutex<VecDeque<Instant>>>>>);

impl Budgets {
    /// Waits for a write's turn, a few seconds at most.
    ///
    /// # Errors
    /// Transient: the budget of a minute or an hour is used up, with the time until there is room again.
    pub(super) async fn turn(&self, who: As) -> Result<(), Failure> {
        let budget = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(who).or_default().clone();
        let mut writes = budget.lock().await;
        let now = Instant::now();
        while writes.front().is_some_and(|first| now.duration_since(*first) > MOST[1].1) {
            writes.pop_front();
        }
        for (most, span) in MOST {
            if let Some(first) = writes.len().checked_sub(most).and_then(|at| writes.get(at)) {
                let left = span.saturating_sub(now.duration_since(*first));
                if !left.is_zero() {
                    return Err(Failure::transient(format!(
                        "{most} writes to GitHub within {} min are enough; the next in {} s",
                        span.as_secs() / 60,
                        left.as_secs() + 1
                    )));
                }
            }
        }
        if let Some(last) = writes.back() {
            // Held meanwhile, so that the next one stands behind this one.
            sleep_until(*last + APART).await;
        }
        writes.push_back(Instant::now());
        Ok(())
    }
}
