//! Where an environment's data came from, what they measure, and who waits while they are copied.

use super::Report;
use crate::facts::{Begun, EnvRow, shown_version};
use crate::identity::{EnvId, Trust};
use crate::resource::{Action, Backend, Kind, Owner, ResourceId};
use crate::spec::{DataFrom, DatabaseFrom, ObjectsFrom, Spec};
use crate::units::round_size;
use crate::view::DataView;

impl Report<'_, '_> {
    /// The data of the generation that serves, else of the one that comes up.
    pub(crate) fn data(&self, env: &EnvId, row: &EnvRow) -> Option<DataView> {
        let ready = row.ready.as_ref().filter(|_| row.serving().is_some()).map(|ready| &ready.begun);
        let begun = ready.or(row.begun.as_ref())?;
        let drawn = self.eyes.blueprints.get(env, begun.generation).ok()?;
        let bytes = |kind| {
            let part = drawn.of(kind).next()?;
            self.eyes.inventory.seen.get(&part.id)?.outputs.bytes
        };
        let has = |kind| drawn.of(kind).next().is_some();
        let (database, objects) = (has(Kind::Database), has(Kind::Bucket));
        let from = origin(begun, database, objects)?;
        let (database, objects) = (bytes(Kind::Database), bytes(Kind::Bucket));
        Some(DataView { from, at: begun.at, database, objects, over: self.over(row, database, objects) })
    }

    /// Why writes are to be suspended, or what is over the operator's limit.
    fn over(&self, row: &EnvRow, database: Option<u64>, objects: Option<u64>) -> Option<String> {
        let limits = &self.eyes.standing.policy.limits;
        // Databases are watched, and not stopped.
        let suspends = |what| what == "objects" && limits.suspends(row.of.trust);
        let over = [("database", database, limits.database), ("objects", objects, limits.objects)];
        over.into_iter().find_map(|(what, held, limit)| {
            let (held, limit) = (held?, limit?);
            let suspended = if suspends(what) { "; its writes are suspended" } else { "" };
            let line = format!(
                "its {what}: {} of {} that `[limits] {what}` allows{suspended}",
                round_size(held),
                round_size(limit)
            );
            (held > limit).then_some(line)
        })
    }

    /// Whether this generation's data are being copied, for another environment or for a baseline: its sessions end for
    /// that time, and its visitors are held.
    pub(crate) fn is_copied(&self, env: &EnvId, generation: u32) -> bool {
        let of_it = |id: &ResourceId| id.generation == generation && matches!(&id.owner, Owner::Env(of) if of == env);
        self.eyes.ledger.calls.values().any(|call| match &call.action {
            Action::Ensure(resource) => copied(&resource.spec).is_some_and(of_it),
            _ => false,
        })
    }
}

/// What is copied from an environment to make a thing. Objects are copied while they are used; databases are not.
fn copied(spec: &Spec) -> Option<&ResourceId> {
    match spec {
        Spec::Database { from: DataFrom::Carry { from, .. }, .. }
        | Spec::Bucket { from: DataFrom::Carry { from, .. }, .. }
        | Spec::Template { from: DatabaseFrom::Env(from), .. }
        | Spec::Snapshot(ObjectsFrom::Env(from)) => Some(from),
        _ => None,
    }
}

/// In words: `shop@3`, `shop@3, objects empty`, `carried on from 1a2b3c4`.
fn origin(begun: &Begun, database: bool, objects: bool) -> Option<String> {
    if let Some(carried) = &begun.carried {
        let all = (carried.database || !database) && (carried.objects || !objects);
        let part = match (all, carried.database) {
            (true, _) => String::new(),
            (false, true) => format!(", objects {}", shown_version(begun.objects())),
            (false, false) => format!(", database {}", shown_version(&begun.baseline)),
        };
        return Some(format!("carried on from {}{part}", carried.sha.short()));
    }
    let (of_database, of_objects) = (shown_version(&begun.baseline), shown_version(begun.objects()));
    match (database, objects) {
        (false, false) => None,
        (true, false) => Some(of_database.to_owned()),
        (false, true) => Some(of_objects.to_owned()),
        (true, true) if of_database == of_objects => Some(of_database.to_owned()),
        (true, true) => Some(format!("{of_database}, objects {of_objects}")),
    }
}

impl crate::policy::Limits {
    /// Whether writes of code of this trust are suspended while it is over its limits.
    #[must_use]
    pub fn suspends(&self, trust: Trust) -> bool {
        trust.is_foreign() || self.suspend_trusted
    }

    /// Bytes that a part's data may hold, if there is a bound.
    #[must_use]
    pub fn of(&self, backend: Backend) -> Option<u64> {
        match backend {
            Backend::Postgres => self.database,
            Backend::Objects => self.objects,
            Backend::Engine => None,
        }
    }
}
