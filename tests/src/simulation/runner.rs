//! Plays many seeds on every core.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::run::Violation;
use super::story::{Tally, play};

/// What a range of seeds came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of the seeds that went well.
    pub tally: Tally,
    /// Seeds that broke a rule, and which, in order.
    pub failures: Vec<(u64, String)>,
}

/// Plays these seeds; stops early once so many have failed.
pub fn play_all(seeds: Range<u64>, enough: usize) -> Outcome {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let worker = || {
        let mut outcome = Outcome::default();
        while failed.load(Ordering::Relaxed) < enough as u64 {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            match attempt(seed) {
                Ok(tally) => outcome.tally.add(tally),
                Err(what) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    outcome.failures.push((seed, what));
                }
            }
        }
        outcome
    };
    let mut all = Outcome::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let one = worker.join().expect("a worker catches the panics of its seeds");
            all.tally.add(one.tally);
            all.failures.extend(one.failures);
        }
    });
    all.failures.sort();
    all
}

/// Plays one seed.
///
/// # Errors
/// The rule that it broke, in one line.
pub fn attempt(seed: u64) -> Result<Tally, String> {
    match std::panic::catch_unwind(|| play(seed, false)) {
        Ok(Ok(tally)) => Ok(tally),
        Ok(Err(Violation { what, .. })) => Err(what),
        Err(_) => Err("panicked".to_owned()),
    }
}

/// Plays one seed and tells its story line by line.
pub fn tell(seed: u64) -> Vec<String> {
    match play(seed, true) {
        Ok(tally) => vec![format!("seed {seed} broke no rule: {tally:?}")],
        Err(violation) => violation.trace,
    }
}
