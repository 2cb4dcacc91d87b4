//! The index: which keys there are, in order, and which blob holds each one's bytes. SQLite, one writer.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use super::meta::Meta;
use super::trouble::Trouble;

/// How many readers look at once.
const READERS: u32 = 4;

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An object without its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) blob: String,
    pub(super) size: u64,
    pub(super) etag: String,
    /// Milliseconds since the Unix epoch.
    pub(super) modified: i64,
    pub(super) meta: Meta,
}

pub(super) type ObjectRow = (String, i64, String, i64, String);

impl Object {
    pub(super) fn from_row((blob, size, etag, modified, meta): ObjectRow) -> Result<Object, Trouble> {
        Ok(Object { blob, size: size.unsigned_abs(), etag, modified, meta: serde_json::from_str(&meta)? })
    }
}

/// What must hold of the object in place before it is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    /// Anything.
    Always,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match`: this ETag, or any when none.
    Is(Option<String>),
}

/// How a change of the index ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Done; these blobs are named by no row any more.
    Done(Vec<String>),
    /// The guard did not hold; nothing has changed.
    Refused,
    /// The guard asks for an object that is not there; nothing has changed.
    Missing,
    /// The generation is on its way out; nothing has changed.
    Closed,
}

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) read: SqlitePool,
    /// One connection: whoever holds it is the writer.
    pub(super) write: SqlitePool,
}

impl Index {
    /// Opens or creates it. `instance` is whose it is; somebody else's is refused.
    pub(super) async fn open(file: &Path, instance: &str) -> Result<Index, Trouble> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged stays, and a blob is unlinked only after its row is gone for good.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let write = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("src/objects/migrations").run(&write).await?;
        let read = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        let index = Index { read, write };
        index.belongs_to(instance, file).await?;
        Ok(index)
    }

    async fn belongs_to(&self, instance: &str, file: &Path) -> Result<(), Trouble> {
        let mut tx = self.write.begin_with("BEGIN IMMEDIATE").await?;
        let found: Option<(String,)> = sqlx::query_as("SELECT instance FROM store").fetch_optional(&mut *tx).await?;
        match found {
            Some((found,)) if found == instance => return Ok(()),
            Some((found,)) => {
                return Err(Trouble::Refused(format!(
                    "{} belongs to instance {found}, this is {instance}: put the instance key back, or move the folder away",
                    file.display()
                )));
            }
            None => {}
        }
        sqlx::query("INSERT INTO store (instance) VALUES (?)").bind(instance).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction of the one writer.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Trouble> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(super) async fn get(&self, generation: i64, key: &[u8]) -> Result<Option<Object>, Trouble> {
        let row: Option<ObjectRow> =
            sqlx::query_as("SELECT blob, size, etag, modified, meta FROM objects WHERE generation = ? AND key = ?")
                .bind(generation)
                .bind(key)
                .fetch_optional(&self.read)
                .await?;
        row.map(Object::from_row).transpose()
    }

    /// Puts an object in the place of whatever is there.
    pub(super) async fn put(
        &self,
        generation: i64,
        key: &[u8],
        object: &Object,
        guard: &Guard,
    ) -> Result<Put, Trouble> {
        let mut tx = self.begin().await?;
        let put = put_in(&mut tx, generation, key, object, guard).await?;
        if matches!(put, Put::Done(_)) {
            tx.commit().await?;
        }
        Ok(put)
    }

    /// Deletes keys, absent ones too. Returns the blobs that no row names any more.
    pub(super) async fn delete(&self, generation: i64, keys: &[&[u8]]) -> Result<Vec<String>, Trouble> {
        let mut tx = self.begin().await?;
        let mut blobs = Vec::new();
        for key in keys {
            blobs.extend(take(&mut tx, generation, key).await?);
        }
        tx.commit().await?;
        Ok(blobs)
    }

    /// Every blob from `lowest` to `highest` that a row names.
    pub(super) async fn blobs_between(&self, lowest: &str, highest: &str) -> Result<HashSet<String>, Trouble> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT blob FROM objects WHERE blob BETWEEN ?1 AND ?2 UNION SELECT blob FROM parts WHERE blob BETWEEN ?1 AND ?2",
        )
        .bind(lowest)
        .bind(highest)
        .fetch_all(&self.read)
        .await?;
        Ok(rows.into_iter().map(|(blob,)| blob).collect())
    }
}

/// [`Index::put`] within a transaction, which the caller commits only when it is `Done`.
pub(super) async fn put_in(
    tx: &mut Transaction<'static, Sqlite>,
    generation: i64,
    key: &[u8],
    object: &Object,
    guard: &Guard,
) -> Result<Put, Trouble> {
    if !is_whole(tx, generation).await? {
        return Ok(Put::Closed);
    }
    let there: Option<(String,)> = sqlx::query_as("SELECT etag FROM objects WHERE generation = ? AND key = ?")
        .bind(generation)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?;
    match (guard, there) {
        (Guard::Absent, Some(_)) => return Ok(Put::Refused),
        (Guard::Is(_), None) => return Ok(Put::Missing),
        (Guard::Is(Some(wanted)), Some((etag,))) if *wanted != etag => return Ok(Put::Refused),
        _ => {}
    }
    let replaced = take(tx, generation, key).await?;
    sqlx::query("INSERT INTO objects (generation, key, blob, size, etag, modified, meta) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(generation)
        .bind(key)
        .bind(&object.blob)
        .bind(i64::try_from(object.size).unwrap_or(i64::MAX))
        .bind(&object.etag)
        .bind(object.modified)
        .bind(serde_json::to_string(&object.meta)?)
        .execute(&mut **tx)
        .await?;
    Ok(Put::Done(replaced.into_iter().collect()))
}

/// Whether clients may still write to a generation. Asked within the transaction that writes, since a request may have
/// been let in long before it has arrived in full.
pub(super) async fn is_whole(tx: &mut Transaction<'static, Sqlite>, generation: i64) -> Result<bool, Trouble> {
    let found: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM generations WHERE id = ? AND state = 'whole'")
        .bind(generation)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

async fn take(tx: &mut Transaction<'static, Sqlite>, generation: i64, key: &[u8]) -> Result<Option<String>, Trouble> {
    let row: Option<(String,)> = sqlx::query_as("DELETE FROM objects WHERE generation = ? AND key = ? RETURNING blob")
        .bind(generation)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(blob,)| blob))
}
