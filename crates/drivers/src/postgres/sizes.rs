//! How large databases of environments are. The server looks at every file of them, so it is asked once in a while only.

use std::collections::BTreeMap;
use std::time::Instant;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tokio::sync::Mutex;

use super::Postgres;

/// What a look says of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Bytes.
    Bytes(u64),
    /// Its owner lets nobody measure it.
    Denied,
}

impl Size {
    pub(super) fn bytes(self) -> Option<u64> {
        match self {
            Size::Bytes(bytes) => Some(bytes),
            Size::Denied => None,
        }
    }
}

/// By name of the database.
pub(super) type Sizes = BTreeMap<String, Size>;

/// What the last look said, and when that was.
pub(super) type Last = Mutex<Option<(Instant, Sizes)>>;

impl Postgres {
    /// How large all of them are. After a new look, those over their quota are suspended, and others no longer.
    pub(super) async fn sizes(&self, registry: &mut PgConnection) -> Sizes {
        let mut last = self.sizes.lock().await;
        if let Some((at, sizes)) = last.as_ref()
            && at.elapsed() < self.allowance.measured
        {
            return sizes.clone();
        }
        let sizes = measured(registry).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "how large databases are is not known");
            Sizes::new()
        });
        if let Err(error) = self.enforce(registry, &sizes).await {
            tracing::warn!(%error, "who is over the quota of databases could not be settled");
        }
        *last = Some((Instant::now(), sizes.clone()));
        sizes
    }
}

async fn measured(registry: &mut PgConnection) -> Result<Sizes, sqlx::Error> {
    // No superuser measures only what it may connect to, which an owner may have forbidden.
    let rows = sqlx::query(
        "SELECT name, allowed, CASE WHEN allowed THEN pg_database_size(oid) END FROM ( \
         SELECT r.name, d.oid, has_database_privilege(d.oid, 'CONNECT') \
         OR pg_has_role('pg_read_all_stats', 'USAGE') AS allowed \
         FROM databases r JOIN pg_database d ON d.datname = r.name WHERE r.complete) of_environments",
    )
    .fetch_all(registry)
    .await?;
    let size = |row: &PgRow| {
        let (name, allowed, bytes): (String, bool, Option<i64>) =
            (row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?);
        Some((name, if allowed { Size::Bytes(u64::try_from(bytes?).ok()?) } else { Size::Denied }))
    };
    Ok(rows.iter().filter_map(size).collect())
}
