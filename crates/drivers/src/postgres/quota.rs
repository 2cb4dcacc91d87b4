//! What happens to databases that hold more than their quota. Beyond it, sessions of the role begin read-only. A session that
//! says otherwise (`SET default_transaction_read_only = off`) writes all the same: nothing else would make room again. So
//! foreign code is held by a second bound, at which its role may not log in any more.
//!
//! Both are properties of the role and survive whatever restarts. Sessions from before are ended, as told by the moment in
//! the database's row, which is written after what it is about.

use std::time::Duration;

use planner::identity::Trust;
use planner::names;
use planner::resource::{Phase, Suspended};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::registry::Entry;
use super::sizes::{Size, Sizes};
use super::{Postgres, registry, run};
use crate::Quota;

/// At how many times its quota a database of foreign code is closed.
const CLOSED_AT: u64 = 2;
/// Between two looks for sessions to be ended.
const PAUSE: Duration = Duration::from_millis(20);
/// Sessions of a role in the database of its own name, but for ours, which copy and only read.
const OF_ROLE: &str = "a.datname = $1 AND a.usename = $1 AND ($2 OR a.application_name <> 'sidestage')";

impl Postgres {
    /// Has every database that was measured as its size wants it.
    pub(super) async fn enforce(&self, registry: &mut PgConnection, sizes: &Sizes) -> Result<(), sqlx::Error> {
        for entry in registry::list(registry, None).await? {
            let name = names::database(&entry.env, entry.generation);
            let Some(size) = sizes.get(&name) else { continue };
            // Whoever copies or removes it holds it. The next look comes.
            if self.wanted(&entry, *size) == suspended(&entry) || !registry::try_lock(registry, &name).await? {
                continue;
            }
            let changed = self.adapt(registry, &name, *size).await;
            registry::unlock(registry, &name).await?;
            if let Err(error) = changed {
                tracing::warn!(%error, database = name, "its quota could not be enforced");
            }
        }
        end_older(registry).await
    }

    /// What its size wants; none: nothing.
    fn wanted(&self, entry: &Entry, size: Size) -> Option<Suspended> {
        let (_, _, trust) = entry.observed.outputs.commit.as_ref()?;
        level(self.allowance.database, *trust, size)
    }

    /// Of one whose name is held.
    async fn adapt(&self, registry: &mut PgConnection, name: &str, size: Size) -> Result<(), sqlx::Error> {
        let entry = registry::find(registry, name).await?.filter(|entry| entry.observed.phase == Phase::Whole);
        let Some(entry) = entry else { return Ok(()) };
        let wanted = self.wanted(&entry, size);
        let applied = apply(registry, name, wanted);
        match wanted {
            None => applied.await,
            // What a role has changed of itself and not committed would be in the way for as long as it likes.
            Some(level) => tokio::select! {
                applied = applied => applied,
                Err(error) = self.end_all(name, level) => Err(error),
            },
        }
    }

    /// Ends sessions of the role for as long as it is asked to.
    async fn end_all(&self, name: &str, level: Suspended) -> Result<(), sqlx::Error> {
        let sql = format!("SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE {OF_ROLE}");
        let mut connection = self.server.connect().await?;
        loop {
            let ended = sqlx::query(sqlx::AssertSqlSafe(sql.as_str())).bind(name).bind(level == Suspended::Closed);
            ended.execute(&mut connection).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What was done to it.
fn suspended(entry: &Entry) -> Option<Suspended> {
    entry.observed.outputs.suspended
}

fn level(quota: Quota, trust: Trust, size: Size) -> Option<Suspended> {
    let limit = quota.of(trust)?;
    match size {
        Size::Bytes(bytes) if trust.is_foreign() && bytes > limit.saturating_mul(CLOSED_AT) => Some(Suspended::Closed),
        Size::Bytes(bytes) => (bytes > limit).then_some(Suspended::Writes),
        Size::Denied => trust.is_foreign().then_some(Suspended::Closed),
    }
}

async fn apply(registry: &mut PgConnection, name: &str, level: Option<Suspended>) -> Result<(), sqlx::Error> {
    let login = if level == Some(Suspended::Closed) { "NOLOGIN" } else { "LOGIN" };
    let (setting, at) = match level {
        None => ("RESET default_transaction_read_only", "NULL"),
        Some(_) => ("SET default_transaction_read_only = on", "'infinity'"),
    };
    let mut transaction = registry.begin().await?;
    run(
        &mut transaction,
        format!(
            "SET LOCAL lock_timeout = '2s';
             ALTER ROLE \"{name}\" {login};
             ALTER ROLE \"{name}\" IN DATABASE \"{name}\" {setting};
             UPDATE databases SET suspended_at = {at} WHERE name = '{name}'"
        ),
    )
    .await?;
    transaction.commit().await
}

/// Ends sessions that began before their role was suspended.
async fn end_older(registry: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Whoever begins from here on has been told.
    run(registry, "UPDATE databases SET suspended_at = clock_timestamp() WHERE suspended_at = 'infinity'").await?;
    run(
        registry,
        "SELECT pg_terminate_backend(a.pid) FROM databases r JOIN pg_roles o ON o.rolname = r.name \
         JOIN pg_stat_activity a ON a.datname = r.name AND a.usename = r.name \
         WHERE r.complete AND a.backend_start < r.suspended_at \
         AND (NOT o.rolcanlogin OR a.application_name <> 'sidestage')",
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_code_has_a_second_bound_and_trusted_code_a_way_out() {
        let quota = Quota { trusted: Some(100), foreign: Some(10) };
        let of = |trust, bytes| level(quota, trust, Size::Bytes(bytes));
        assert_eq!(
            [10, 11, 20].map(|n| of(Trust::Approved, n)),
            [None, Some(Suspended::Writes), Some(Suspended::Writes)]
        );
        assert_eq!(of(Trust::Approved, 21), Some(Suspended::Closed));
        assert_eq!(
            [100, 101, 9_999].map(|n| of(Trust::Trusted, n)),
            [None, Some(Suspended::Writes), Some(Suspended::Writes)]
        );
        // Whoever lets nobody measure it.
        assert_eq!(level(quota, Trust::Approved, Size::Denied), Some(Suspended::Closed));
        assert_eq!(level(quota, Trust::Trusted, Size::Denied), None);
        let off = Quota { trusted: None, ..quota };
        assert_eq!(level(off, Trust::Trusted, Size::Bytes(u64::MAX)), None);
    }
}
