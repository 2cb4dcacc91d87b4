//! What the time of a round went into, step by step.

use std::time::{Duration, Instant};

use super::median;

/// The steps of one round, each with the time since the one before it.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    last: Instant,
    took: Vec<(&'static str, Duration)>,
}

impl Phases {
    /// The round begins now.
    pub(crate) fn begin() -> Phases {
        Phases { last: Instant::now(), took: Vec::new() }
    }

    /// This step has just ended.
    pub(crate) fn end(&mut self, step: &'static str) {
        self.took.push((step, self.last.elapsed()));
        self.last = Instant::now();
    }
}

/// Medians and minima of all rounds but the first, which warms up.
pub(crate) fn print(whose: &str, rounds: &[Phases]) {
    let counted = rounds.get(1..).unwrap_or_default();
    let Some(first) = counted.first() else { return };
    for (place, (step, _)) in first.took.iter().enumerate() {
        let times: Vec<Duration> = counted.iter().filter_map(|round| Some(round.took.get(place)?.1)).collect();
        let least = times.iter().min().map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
        eprintln!("xtask: {whose:<8} {step:<24} median {:>7.1} ms, least {least:>7.1} ms", median(times));
    }
}
