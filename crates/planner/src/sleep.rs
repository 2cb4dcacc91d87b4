//! How far each environment runs, by its last visit: awake, dozing, asleep, cold.

use std::collections::BTreeMap;

use crate::facts::{EnvRow, Facts};
use crate::identity::{EnvId, Time};
use crate::policy::Policy;

/// How far an environment that has been ready may run. Each is an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Image, data and objects only.
    Cold,
    /// Containers stopped.
    Asleep,
    /// Containers paused: back at once, but they keep their memory.
    Dozing,
    /// Containers run.
    Awake,
}

/// The levels, and when the next one changes by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of every environment that serves.
    pub of: BTreeMap<EnvId, Level>,
    /// When somebody falls asleep next.
    pub next: Option<Time>,
}

/// Derives all levels. Visits hold at most `limits.awake` awake, and as many dozing, since those keep their memory; of
/// the sleeping, the longest unvisited beyond `limits.stopped` are cold. The last visited come first.
#[must_use]
pub fn levels(facts: &Facts, policy: &Policy, now: Time) -> Levels {
    let mut serving: Vec<(&EnvId, Time, Level)> = Vec::new();
    let mut next: Option<Time> = None;
    for (id, row) in facts.envs.iter().filter(|(_, row)| row.serving().is_some()) {
        let last = last_sign(row);
        let ends =
            [(last.after(policy.lifetime.idle), Level::Awake), (last.after(policy.lifetime.sleep), Level::Dozing)];
        let slept = row.slept.is_some_and(|slept| slept >= last);
        let level = ends.iter().find(|(end, _)| now < *end && !slept);
        if let Some((end, _)) = level {
            next = Some(next.map_or(*end, |next| next.min(*end)));
        }
        serving.push((id, last, level.map_or(Level::Asleep, |(_, level)| *level)));
    }
    serving.sort_by_key(|(id, last, _)| (std::cmp::Reverse(*last), *id));
    let (mut awake, mut dozing, mut asleep) = (0, 0, 0);
    let of = serving.into_iter().map(|(id, _, level)| {
        let mut level = level;
        let full = |at: Level, count: &mut usize, most: usize| {
            *count += usize::from(level == at);
            level == at && *count > most
        };
        if full(Level::Awake, &mut awake, policy.limits.awake) || full(Level::Dozing, &mut dozing, policy.limits.awake)
        {
            level = Level::Asleep;
        }
        asleep += usize::from(level == Level::Asleep);
        let cold = level == Level::Asleep && asleep > policy.limits.stopped;
        (id.clone(), if cold { Level::Cold } else { level })
    });
    Levels { of: of.collect(), next }
}

/// The last visit, or having become ready.
#[must_use]
pub fn last_sign(row: &EnvRow) -> Time {
    row.visited.max(row.ready.as_ref().map(|ready| ready.at)).unwrap_or_default()
}
