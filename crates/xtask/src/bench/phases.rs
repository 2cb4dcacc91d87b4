//! What the time of a round went into, step by step. Steps of ours overlap, so each is told by when it was over.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::median;

const DAY: u64 = 24 * 60 * 60;

/// When each step of one round was over, since the round began.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    begun: Instant,
    began: SystemTime,
    over: Vec<(String, Duration)>,
}

impl Phases {
    /// The round begins now.
    pub(crate) fn begin() -> Phases {
        Phases { begun: Instant::now(), began: SystemTime::now(), over: Vec::new() }
    }

    /// This step is over now.
    pub(crate) fn end(&mut self, step: &str) {
        self.over.push((step.to_owned(), self.begun.elapsed()));
    }

    /// Adds what the controller's log says was ensured in this round: `2026-01-31T12:00:00.123456Z  INFO ensured id=…/network/main`.
    pub(crate) fn read(&mut self, log: &str) {
        for line in log.lines().rev() {
            let mut words = line.split_whitespace();
            let Some(at) = words.next().and_then(|word| self.since(word)) else { continue };
            if at > self.begun.elapsed() {
                // What is "later today" was yesterday, or before the round.
                return;
            }
            if words.nth(1) == Some("ensured")
                && let Some(id) = words.next().and_then(|word| word.strip_prefix("id="))
            {
                self.over.push((id.split('/').skip(2).collect::<Vec<_>>().join(" "), at));
            }
        }
    }

    /// How long after the round's begin this moment of the log was; of one before it, most of a day.
    fn since(&self, moment: &str) -> Option<Duration> {
        let mut parts = moment.strip_suffix('Z')?.split_once('T')?.1.split(':');
        let mut part = || parts.next()?.parse::<f64>().ok();
        let of_day = part()? * 3600.0 + part()? * 60.0 + part()?;
        let began = self.began.duration_since(UNIX_EPOCH).ok()?;
        let began = (began - Duration::from_secs(began.as_secs() / DAY * DAY)).as_secs_f64();
        Some(Duration::from_secs_f64((of_day - began).rem_euclid(DAY as f64)))
    }
}

/// Medians and minima of all rounds but the first, which warms up.
pub(crate) fn print(whose: &str, rounds: &[Phases]) {
    let counted = rounds.get(1..).unwrap_or_default();
    let Some(first) = counted.first() else { return };
    let of = |step: &str| -> Vec<Duration> {
        let all = counted.iter().flat_map(|round| &round.over);
        all.filter(|(name, _)| name == step).map(|(_, at)| *at).collect()
    };
    let mut steps: Vec<(f64, &str)> = first.over.iter().map(|(step, _)| (median(of(step)), step.as_str())).collect();
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (after, step) in steps {
        let least = of(step).into_iter().min().map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        eprintln!("xtask: {whose:<8} {step:<24} over after {after:>7.1} ms, at best {least:>7.1} ms");
    }
}
