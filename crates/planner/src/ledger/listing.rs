//! What a listing says, weighed against what calls have done since it began.

use std::collections::BTreeMap;

use super::Ledger;
use crate::event::Began;
use crate::identity::Time;
use crate::resource::{Backend, Failure, Inventory, Kind, Observed, Phase, ResourceId, Run};

impl Ledger {
    /// Takes over a listing. It is as of its beginning: what a call has touched since keeps the call's result.
    /// A backend that did not answer keeps its last listing.
    pub fn listed(
        &mut self,
        backend: Backend,
        began: Began,
        listing: Result<BTreeMap<ResourceId, Observed>, Failure>,
        inventory: &mut Inventory,
        now: Time,
    ) {
        let newer = self.listed.get(&backend).is_none_or(|last| *last < began.ticket);
        if !newer {
            return;
        }
        self.listed.insert(backend, began.ticket);
        let listing = match listing {
            Ok(listing) => listing,
            Err(failure) => {
                inventory.known.remove(&backend);
                self.silent.insert(backend, failure.to_string());
                self.version += 1;
                return;
            }
        };
        self.look.remove(&backend);
        if inventory.known.insert(backend) | self.silent.remove(&backend).is_some() {
            self.version += 1;
        }
        self.unsure.retain(|id, unsure| id.backend != backend || unsure.ticket > began.ticket);
        let under_way = &self.under_way;
        self.touched.retain(|id, ticket| id.backend != backend || *ticket > began.ticket || under_way.contains_key(id));
        let gone: Vec<ResourceId> = inventory
            .seen
            .keys()
            .filter(|id| id.backend == backend && !listing.contains_key(id) && !self.touched.contains_key(id))
            .cloned()
            .collect();
        for id in gone {
            self.version += 1;
            self.confirmed.remove(&id);
            inventory.seen.remove(&id);
        }
        for (id, observed) in listing {
            if id.backend == backend && !self.touched.contains_key(&id) {
                self.see(id, observed, inventory, now);
            }
        }
    }

    fn see(&mut self, id: ResourceId, observed: Observed, inventory: &mut Inventory, now: Time) {
        let before = inventory.seen.get(&id);
        if before == Some(&observed) {
            return;
        }
        self.version += 1;
        let ran = before.is_some_and(|before| before.run == Run::Running && before.phase == Phase::Whole);
        if let Phase::Exited { code, oom } = observed.phase {
            let ended = ended(&id, code, oom);
            let failed = id.kind == Kind::Job && code != 0;
            // A process that we saw running has ended by itself; a job's end is told by its container alone.
            if failed || (id.kind == Kind::Container && ran) {
                let known = self.failure(&id, &observed.fingerprint).is_some_and(|failed| failed.permanent);
                if !known || id.kind == Kind::Container {
                    self.note_failure(&id, &observed.fingerprint, &Failure::permanent(ended), now);
                    if oom {
                        self.note_killed(&id, &observed.fingerprint);
                    }
                }
            }
        }
        if observed.run != Run::Running || observed.phase != Phase::Whole {
            self.confirmed.remove(&id);
        }
        inventory.seen.insert(id, observed);
    }
}

/// One line about a process that ended.
fn ended(id: &ResourceId, code: i64, oom: bool) -> String {
    let name = &id.name;
    if oom {
        return format!("{name} was killed at its limit of memory; set `memory` in the manifest");
    }
    format!("{name} exited with {code}")
}
