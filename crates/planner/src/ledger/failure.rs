//! What failed, why, and when it is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::facts::{Row, Table, parse};
use crate::fingerprint::digest;
use crate::identity::Time;
use crate::resource::{Failure, Fingerprint, Kind, Resource, ResourceId};
use crate::spec::Spec;

/// Starts of a container that may fail by its own fault before its generation, never ready yet, has failed for good.
const STARTS: u32 = 3;
/// After so much health earlier failures count no more.
const HEALTH: Duration = Duration::from_secs(5 * 60);
/// How long is waited for what says no time of its own.
const WAIT: Duration = Duration::from_secs(30 * 60);
const FIRST: u64 = 2_000;
const LONGEST: u64 = 300_000;

/// The failures of one thing for one intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The thing.
    pub id: ResourceId,
    /// The intent: another one starts afresh.
    pub fingerprint: Fingerprint,
    /// Failures in a row.
    pub attempts: u32,
    /// Those of them that were the thing's own fault, as of a container that exits at once.
    pub faults: u32,
    /// When the last one was.
    pub at: Time,
    /// When it is tried again.
    pub next: Time,
    /// The last reason, one line.
    pub text: String,
    /// Only a new fact can help.
    pub permanent: bool,
    /// What it is waited for was not there yet when it was asked for last: no failure.
    #[serde(default)]
    pub waiting: bool,
    /// Since when it is waited for, and how often it was asked for since.
    #[serde(default)]
    pub waits: Option<(Time, u32)>,
    /// It was the kernel that ended it, at its limit of memory.
    #[serde(default)]
    pub killed: bool,
}

impl Failed {
    /// Before the first failure.
    fn none(id: &ResourceId, fingerprint: &Fingerprint) -> Failed {
        let (id, fingerprint, text) = (id.clone(), fingerprint.clone(), String::new());
        let (at, next, waits) = (Time::default(), Time::default(), None);
        let (attempts, faults, permanent, waiting, killed) = (0, 0, false, false, false);
        Failed { id, fingerprint, attempts, faults, at, next, text, permanent, waiting, waits, killed }
    }
}

/// Failures to rest or remove are kept apart from those to ensure.
pub(super) fn of_lowering() -> Fingerprint {
    Fingerprint("lowering".to_owned())
}

/// How long to wait before the next attempt: doubled each time up to five minutes, give or take a quarter by a hash of
/// id and attempt, so that many do not come back at once.
#[must_use]
pub fn backoff(id: &str, attempts: u32) -> Duration {
    let base = (FIRST << attempts.saturating_sub(1).min(10)).min(LONGEST);
    let hash = digest(&[id, &attempts.to_string()], 4);
    let part = u64::from_str_radix(&hash, 16).unwrap_or(0) % 512;
    Duration::from_millis(base * 3 / 4 + base * part / 1024)
}

/// How long until something that was not there yet is asked for again: 5 to 15 seconds, by a hash of id and attempt.
#[must_use]
pub fn ask_again(id: &str, times: u32) -> Duration {
    let hash = digest(&[id, "waits", &times.to_string()], 4);
    Duration::from_millis(5_000 + u64::from_str_radix(&hash, 16).unwrap_or(0) % 10_000)
}

impl Ledger {
    /// Takes up a stored failure.
    ///
    /// # Errors
    /// Why the row does not parse.
    pub fn restore(&mut self, row: &Row) -> Result<(), String> {
        if let (Table::Failures, Some(value)) = (row.table, &row.value) {
            let failed: Failed = parse(row, value)?;
            self.failures.insert((failed.id.clone(), failed.fingerprint.clone()), failed);
        }
        Ok(())
    }

    /// What failed last about ensuring this intent.
    #[must_use]
    pub fn failure(&self, id: &ResourceId, fingerprint: &Fingerprint) -> Option<&Failed> {
        self.failures.get(&(id.clone(), fingerprint.clone()))
    }

    /// What failed last about resting or removing.
    #[must_use]
    pub fn lowering_failure(&self, id: &ResourceId) -> Option<&Failed> {
        self.failure(id, &of_lowering())
    }

    /// All failures.
    pub fn failures(&self) -> impl Iterator<Item = &Failed> {
        self.failures.values()
    }

    /// Remembers a failure of a call, or of a process that ended by itself.
    pub fn note_failure(&mut self, id: &ResourceId, fingerprint: &Fingerprint, failure: &Failure, now: Time) {
        let (text, own_fault) = match failure {
            Failure::Transient { text } | Failure::Waiting { text } => (text.clone(), false),
            Failure::Permanent { text } => (text.clone(), true),
            Failure::Cancelled => return,
        };
        let healthy = self.healthy_for(id, now) >= HEALTH;
        let before = self.failure(id, fingerprint).filter(|_| !healthy).cloned();
        let before = before.unwrap_or_else(|| Failed::none(id, fingerprint));
        let (attempts, faults) = (before.attempts + 1, before.faults + u32::from(own_fault));
        // A container may need something that is not up yet, so its own fault is believed the third time only.
        let permanent = own_fault && (id.kind != Kind::Container || faults >= STARTS);
        let next = now.after(backoff(&id.to_string(), attempts));
        let (waiting, killed) = (false, false);
        self.put_failure(Failed { attempts, faults, at: now, next, text, permanent, waiting, killed, ..before });
    }

    /// What it needs is not there yet: no attempt, no failure. Asked for again in a few seconds, until its time is up.
    pub(super) fn note_waiting(&mut self, resource: &Resource, text: &str, now: Time) {
        let (id, fingerprint) = (&resource.id, &resource.fingerprint);
        let before = self.failure(id, fingerprint).cloned().unwrap_or_else(|| Failed::none(id, fingerprint));
        let (since, times) = before.waits.unwrap_or((now, 0));
        let limit = match &resource.spec {
            Spec::Pulled(pulled) => pulled.wait,
            _ => WAIT,
        };
        let permanent = now >= since.after(limit);
        let over = format!("{text}: it did not come within {}", crate::units::show_duration(limit));
        let text = if permanent { over } else { text.to_owned() };
        let (waiting, waits, killed) = (!permanent, Some((since, times + 1)), false);
        let next = now.after(ask_again(&id.to_string(), times + 1));
        self.put_failure(Failed { at: now, next, text, permanent, waiting, waits, killed, ..before });
    }

    /// The process that has failed just now was ended by the kernel at its limit of memory.
    pub(super) fn note_killed(&mut self, id: &ResourceId, fingerprint: &Fingerprint) {
        if let Some(failed) = self.failure(id, fingerprint).cloned() {
            self.put_failure(Failed { killed: true, ..failed });
        }
    }

    fn put_failure(&mut self, failed: Failed) {
        self.version += 1;
        let key = (failed.id.clone(), failed.fingerprint.clone());
        let value = serde_json::to_string(&failed).ok();
        self.unsaved.push(Row { table: Table::Failures, key: row_key(&key), value });
        self.failures.insert(key, failed);
    }

    /// It worked.
    pub fn forget_failure(&mut self, id: &ResourceId, fingerprint: &Fingerprint) {
        let key = (id.clone(), fingerprint.clone());
        if self.failures.remove(&key).is_some() {
            self.version += 1;
            self.unsaved.push(Row { table: Table::Failures, key: row_key(&key), value: None });
        }
    }

    /// Forgets what does not matter any more, or what a person wants tried afresh.
    pub fn forget_failures(&mut self, mut matters: impl FnMut(&ResourceId) -> bool) {
        let idle: Vec<_> = self.failures.keys().filter(|(id, _)| !matters(id)).cloned().collect();
        idle.iter().for_each(|(id, fingerprint)| self.forget_failure(id, fingerprint));
    }

    /// Rows for the store.
    pub fn take_unsaved(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.unsaved)
    }
}

fn row_key((id, fingerprint): &(ResourceId, Fingerprint)) -> String {
    format!("{id} {}", fingerprint.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_stays_within_bounds() {
        for attempts in 1..40 {
            let wait = backoff("shop", attempts);
            let base = (2_000u64 << (attempts - 1).min(10)).min(300_000);
            assert!((base * 3 / 4..=base * 5 / 4).contains(&(wait.as_millis() as u64)), "{attempts}: {wait:?}");
        }
        assert_ne!(backoff("a", 3), backoff("b", 3), "many things do not come back at once");
    }
}
