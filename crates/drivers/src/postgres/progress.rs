//! How far a long load is: bytes, and the time that is left, in the log.

use std::time::{Duration, Instant};

use crate::Log;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(5);
/// No word about the time left before so much of it has passed: it would be a guess.
const ENOUGH: Duration = Duration::from_secs(3);

/// Of one load.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    said: Instant,
    done: u64,
    total: Option<u64>,
}

impl Progress {
    /// Of so many bytes, if that is known.
    pub(super) fn of(total: Option<u64>) -> Progress {
        let now = Instant::now();
        Progress { begun: now, said: now, done: 0, total }
    }

    /// So many bytes are done by now. Tells the log, now and then.
    pub(super) fn at(&mut self, done: u64, log: &Log) {
        self.done = done;
        let now = Instant::now();
        if now.duration_since(self.said) >= PAUSE {
            self.said = now;
            log.line(&self.line(now.duration_since(self.begun)));
        }
    }

    fn line(&self, passed: Duration) -> String {
        let done = shown(self.done);
        let Some(total) = self.total.filter(|total| *total >= self.done && self.done > 0) else {
            return format!("restored {done}");
        };
        let mut line = format!("restored {done} of {}", shown(total));
        if passed >= ENOUGH {
            let left = passed.as_secs_f64() * (total - self.done) as f64 / self.done as f64;
            line.push_str(&format!(", {} left", time(left)));
        }
        line
    }
}

/// Bytes as people say them: `1.2 GB`.
pub(super) fn shown(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{} s", s.ceil()),
        s if s < 5400.0 => format!("{} min", (s / 60.0).ceil()),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_done_and_what_is_left() {
        let mut progress = Progress::of(Some(4_000_000_000));
        progress.done = 1_200_000_000;
        assert_eq!(progress.line(Duration::from_secs(51)), "restored 1.2 GB of 4.0 GB, 2 min left");
        assert_eq!(progress.line(Duration::from_secs(1)), "restored 1.2 GB of 4.0 GB");
        progress.total = None;
        assert_eq!(progress.line(Duration::from_secs(51)), "restored 1.2 GB");
    }
}
