//! How large databases of environments are. The server looks at every file of them, so it is asked once a minute at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{PgConnection, Row};
use tokio::sync::Mutex;

const EVERY: Duration = Duration::from_secs(60);

/// What the last look said.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    last: Mutex<Option<(Instant, BTreeMap<String, u64>)>>,
}

impl Sizes {
    /// Bytes by name of the database. One that the server does not measure for us has none.
    pub(super) async fn all(&self, registry: &mut PgConnection) -> BTreeMap<String, u64> {
        let mut last = self.last.lock().await;
        if let Some((at, sizes)) = last.as_ref()
            && at.elapsed() < EVERY
        {
            return sizes.clone();
        }
        let sizes = measured(registry).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "how large databases are is not known");
            BTreeMap::new()
        });
        *last = Some((Instant::now(), sizes.clone()));
        sizes
    }
}

async fn measured(registry: &mut PgConnection) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT r.name, pg_database_size(d.oid) FROM databases r JOIN pg_database d ON d.datname = r.name WHERE r.complete",
    )
    .fetch_all(registry)
    .await?;
    let size = |row| {
        let bytes: Option<i64> = sqlx::postgres::PgRow::try_get(row, 1).ok()?;
        Some((row.try_get(0).ok()?, u64::try_from(bytes?).ok()?))
    };
    Ok(rows.iter().filter_map(size).collect())
}
