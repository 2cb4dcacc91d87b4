//! The seeds: ten thousand of them in a row, and by name those that ever failed.

use super::runner::{attempt, play_all, tell};

/// How many seeds a test run plays.
const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn replay_with(seed: u64) -> String {
    format!("SIDESTAGE_SEED={seed} cargo test -p tests --lib simulation::seeds::replay")
}

#[test]
fn ten_thousand_seeds_leak_nothing_and_route_nowhere_wrong() {
    let first = number("SIDESTAGE_FIRST").unwrap_or(0);
    let count = number("SIDESTAGE_SEEDS").unwrap_or(SEEDS);
    let outcome = play_all(first..first + count, 40);
    println!("{count} seeds: {:?}", outcome.tally);
    let lines: Vec<String> = outcome
        .failures
        .iter()
        .map(|(seed, what)| format!("seed {seed}: {what}\n  replay with: {}", replay_with(*seed)))
        .collect();
    assert!(lines.is_empty(), "{} seeds failed:\n{}", lines.len(), lines.join("\n"));
    // A world in which nothing ever runs would break no rule either.
    assert!(outcome.tally.woken > count / 2, "hardly anything lives: {:?}", outcome.tally);
}

#[test]
fn scenes_hold() {
    super::scenes::play_scenes(20).unwrap();
}

/// Plays the seed in `SIDESTAGE_SEED` and prints its story.
#[test]
fn replay() {
    let Some(seed) = number("SIDESTAGE_SEED") else { return };
    println!("{}", tell(seed).join("\n"));
    if let Err(what) = attempt(seed) {
        panic!("seed {seed}: {what}");
    }
}
