//! Death by memory, told as such: with the limit, how often, and what to write into the manifest.

use super::Report;
use crate::blueprint::Blueprint;
use crate::ledger::Failed;
use crate::resource::{Kind, Resource};
use crate::spec::Spec;
use crate::units::show_size;

impl Report<'_, '_> {
    /// Why something failed, in words.
    pub(super) fn words(&self, blueprint: &Blueprint, failed: &Failed) -> String {
        let part = blueprint.parts.iter().find(|part| part.id == failed.id).filter(|_| failed.killed);
        let said = part.and_then(|part| {
            let (limit, more) = self.limits(part)?;
            let name = &part.id.name;
            Some(format!("{name} was killed at its limit of {limit}, {}; {more}", times(failed.attempts)))
        });
        said.unwrap_or_else(|| failed.text.clone())
    }

    /// A container that runs on may have lost a process of its own: nothing else tells.
    pub(super) fn short_of_memory(&self, blueprint: &Blueprint) -> Option<String> {
        blueprint.of(Kind::Container).find_map(|part| {
            let killed = self.eyes.ledger.failure(&part.id, &part.fingerprint).filter(|failed| failed.killed);
            if let Some(failed) = killed {
                return Some(self.words(blueprint, failed));
            }
            let count = self.eyes.inventory.seen.get(&part.id)?.outputs.oom;
            let (limit, more) = self.limits(part).filter(|_| count > 0)?;
            let name = &part.id.name;
            Some(format!("{name}: the kernel ended a process of it at its limit of {limit}, {}; {more}", times(count)))
        })
    }

    /// A container's limit of memory, and how to get more.
    fn limits(&self, part: &Resource) -> Option<(String, String)> {
        let (Spec::Container(container) | Spec::Job(container)) = &part.spec else { return None };
        let (memory, most) = (container.memory, self.eyes.standing.policy.limits.memory);
        let more = memory.saturating_mul(2);
        let hint = if more <= most {
            format!("set memory = \"{}\"", show_size(more))
        } else if memory < most {
            format!("set memory = \"{}\"", show_size(most))
        } else {
            "that is the operator's limit (`memory` of [limits])".to_owned()
        };
        Some((megabytes(memory), hint))
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
