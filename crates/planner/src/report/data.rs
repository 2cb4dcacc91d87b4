//! Where an environment's data came from, what they measure, and who waits while they are copied.

use super::Report;
use crate::facts::{Begun, EnvRow, shown_version};
use crate::identity::{EnvId, Trust};
use crate::resource::{Action, Backend, Kind, Outputs, Owner, ResourceId, Suspended};
use crate::spec::{DataFrom, DatabaseFrom, ObjectsFrom, Spec};
use crate::units::round_size;
use crate::view::DataView;

impl Report<'_, '_> {
    /// The data of the generation that serves, else of the one that comes up.
    pub(crate) fn data(&self, env: &EnvId, row: &EnvRow) -> Option<DataView> {
        let ready = row.ready.as_ref().filter(|_| row.serving().is_some()).map(|ready| &ready.begun);
        let begun = ready.or(row.begun.as_ref())?;
        let drawn = self.eyes.blueprints.get(env, begun.generation).ok()?;
        let held = |kind| {
            let part = drawn.of(kind).next()?;
            Some(&self.eyes.inventory.seen.get(&part.id)?.outputs)
        };
        let has = |kind| drawn.of(kind).next().is_some();
        let (database, objects) = (has(Kind::Database), has(Kind::Bucket));
        let from = origin(begun, database, objects)?;
        let (database, objects) = (held(Kind::Database), held(Kind::Bucket));
        let limits = &self.eyes.standing.policy.limits;
        let over = [
            database.and_then(|held| database_over(held, limits.database)),
            objects.and_then(|held| objects_over(held, limits.objects, limits.suspends(row.of.trust))),
        ];
        let over = over.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"));
        let bytes = |held: Option<&Outputs>| held.and_then(|held| held.bytes);
        Some(DataView { from, at: begun.at, database: bytes(database), objects: bytes(objects), over })
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

/// That it is over its limit, what was stopped therefore, and what to do.
fn database_over(held: &Outputs, limit: Option<u64>) -> Option<String> {
    let over = beyond("database", held.bytes, limit);
    let Some(suspended) = held.suspended else { return over };
    let over = over.unwrap_or_else(|| "its database is over its limit, or lets nobody measure it".to_owned());
    let stopped = match suspended {
        Suspended::Writes => {
            "its writes are suspended: make room with `sidestage psql`, which may write (DROP, TRUNCATE, or DELETE and \
             VACUUM FULL), or reset it"
        }
        Suspended::Closed => "code from outside gets no further than twice its limit, so it is closed: reset it",
    };
    Some(format!("{over}; {stopped}"))
}

fn objects_over(held: &Outputs, limit: Option<u64>, suspended: bool) -> Option<String> {
    let stopped = if suspended { "; its writes are suspended: delete some, or reset it" } else { "" };
    beyond("objects", held.added, limit).map(|over| format!("{over}{stopped}"))
}

/// That it holds more than it may, if it does.
fn beyond(what: &str, held: Option<u64>, limit: Option<u64>) -> Option<String> {
    let (held, limit) = (held?, limit?);
    let allowed = format!("that `[limits] {what}` allows");
    (held > limit).then(|| format!("its {what}: {} of {} {allowed}", round_size(held), round_size(limit)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_limit_says_what_was_stopped_and_what_to_do() {
        let said = |bytes, suspended| {
            let held = Outputs { bytes, suspended, ..Outputs::default() };
            database_over(&held, Some(1 << 30)).unwrap_or_default()
        };
        assert_eq!(said(Some(1 << 30), None), "");
        assert_eq!(said(Some(3 << 29), None), "its database: 1.5 GB of 1.0 GB that `[limits] database` allows");
        let writes = said(Some(3 << 29), Some(Suspended::Writes));
        assert!(
            writes.starts_with("its database: 1.5 GB of 1.0 GB") && writes.contains("; its writes are suspended: make")
        );
        let closed = said(Some(3 << 30), Some(Suspended::Closed));
        assert!(closed.starts_with("its database: 3.0 GB of 1.0 GB") && closed.ends_with("so it is closed: reset it"));
        assert!(
            said(None, Some(Suspended::Closed))
                .starts_with("its database is over its limit, or lets nobody measure it; ")
        );
        // What its baseline holds does not count.
        let objects = |suspended| {
            let held = Outputs { bytes: Some(7 << 30), added: Some(3 << 29), ..Outputs::default() };
            objects_over(&held, Some(1 << 30), suspended).unwrap_or_default()
        };
        assert_eq!(objects(false), "its objects: 1.5 GB of 1.0 GB that `[limits] objects` allows");
        assert!(objects(true).ends_with("allows; its writes are suspended: delete some, or reset it"));
    }
}
