//! The index: which keys there are, in order, and which blob holds each one's bytes. SQLite, one writer.
//!
//! Rows stand in layers (`layers`); what a generation has under a key is the uppermost row of its chain. A blob may be
//! named by several rows and is freed with the last one, which the transaction that drops a row finds out.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use super::layers::{Seen, chain, count, unnamed};
use super::meta::Meta;
use super::together::{Change, Together};
use super::trouble::Trouble;
use crate::Quota;

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

/// Blob, size, ETag, modified, meta. Without a blob it is a marker of what is deleted.
pub(super) type ObjectRow = (Option<String>, i64, String, i64, String);

impl Object {
    /// None for a marker.
    pub(super) fn from_row((blob, size, etag, modified, meta): ObjectRow) -> Result<Option<Object>, Trouble> {
        let Some(blob) = blob else { return Ok(None) };
        Ok(Some(Object { blob, size: size.unsigned_abs(), etag, modified, meta: serde_json::from_str(&meta)? }))
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
    /// It would take more than this environment may: so many bytes. Nothing has changed.
    Full(u64),
}

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) read: SqlitePool,
    /// One connection: whoever holds it is the writer.
    pub(super) write: SqlitePool,
    /// How much environments may add to their baselines.
    pub(super) quota: Quota,
    together: Arc<Together>,
}

impl Index {
    /// Opens or creates it. `instance` is whose it is; somebody else's is refused.
    pub(super) async fn open(file: &Path, instance: &str, quota: Quota) -> Result<Index, Trouble> {
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
        let index = Index { read, write, quota, together: Arc::default() };
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
        sqlx::query("INSERT INTO store (instance, id) VALUES (?, lower(hex(randomblob(16))))")
            .bind(instance)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Which store this is, among all of the instance.
    pub(super) async fn store_id(&self) -> Result<String, Trouble> {
        let (id,): (String,) = sqlx::query_as("SELECT id FROM store").fetch_one(&self.read).await?;
        Ok(id)
    }

    /// Any blob that a row names.
    pub(super) async fn some_blob(&self) -> Result<Option<String>, Trouble> {
        let found: Option<(String,)> = sqlx::query_as(
            "SELECT * FROM (SELECT blob FROM objects WHERE blob IS NOT NULL LIMIT 1)
             UNION ALL SELECT * FROM (SELECT blob FROM parts LIMIT 1) LIMIT 1",
        )
        .fetch_optional(&self.read)
        .await?;
        Ok(found.map(|(blob,)| blob))
    }

    pub(super) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction of the one writer.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, Trouble> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// What a generation has under a key.
    pub(super) async fn get(&self, generation: i64, key: &[u8]) -> Result<Option<Object>, Trouble> {
        let row: Option<ObjectRow> = sqlx::query_as(chain!(
            "SELECT blob, size, etag, modified, meta FROM chain CROSS JOIN objects USING (layer)
             WHERE key = ?2 ORDER BY depth LIMIT 1"
        ))
        .bind(generation)
        .bind(key)
        .fetch_optional(&self.read)
        .await?;
        Ok(row.map(Object::from_row).transpose()?.flatten())
    }

    /// Puts an object in the place of whatever is there.
    pub(super) async fn put(&self, generation: i64, key: &[u8], object: Object, guard: Guard) -> Result<Put, Trouble> {
        let (index, key) = (self.clone(), key.to_vec());
        self.change(Box::new(move |tx| {
            Box::pin(async move { index.put_in(tx, generation, &key, &object, &guard).await })
        }))
        .await
    }

    /// As [`Index::put`], of bytes that an object has already: `Missing` when no row names them any more.
    pub(super) async fn put_copy(
        &self,
        generation: i64,
        key: &[u8],
        object: Object,
        guard: Guard,
    ) -> Result<Put, Trouble> {
        let (index, key) = (self.clone(), key.to_vec());
        self.change(Box::new(move |tx| {
            Box::pin(async move {
                if !unnamed(tx, vec![object.blob.clone()]).await?.is_empty() {
                    return Ok(Put::Missing);
                }
                index.put_in(tx, generation, &key, &object, &guard).await
            })
        }))
        .await
    }

    async fn change(&self, change: Change) -> Result<Put, Trouble> {
        self.together.change(&self.write, change).await
    }

    /// [`Index::put`] within a transaction, which the caller commits only when it is `Done`.
    pub(super) async fn put_in(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        generation: i64,
        key: &[u8],
        object: &Object,
        guard: &Guard,
    ) -> Result<Put, Trouble> {
        let Some(layer) = open_layer(tx, generation).await? else { return Ok(Put::Closed) };
        let seen = Seen::of(tx, generation, key).await?;
        match (guard, &seen) {
            (Guard::Absent, Some(_)) => return Ok(Put::Refused),
            (Guard::Is(_), None) => return Ok(Put::Missing),
            (Guard::Is(Some(wanted)), Some(seen)) if *wanted != seen.etag => return Ok(Put::Refused),
            _ => {}
        }
        let size = i64::try_from(object.size).unwrap_or(i64::MAX);
        let replaced = take(tx, layer, key).await?;
        insert(tx, layer, key, object).await?;
        let (seen_size, seen_own) = seen.as_ref().map_or((0, 0), |seen| (seen.size, seen.own_size()));
        count(tx, generation, i64::from(seen.is_none()), size - seen_size, size - seen_own).await?;
        if size > seen_own
            && let Some(limit) = self.quota.exceeded(tx, generation).await?
        {
            return Ok(Put::Full(limit));
        }
        Ok(Put::Done(unnamed(tx, replaced.into_iter().collect()).await?))
    }

    /// Deletes keys, absent ones too; where a layer below holds one, a marker hides it. Returns the blobs that no row names
    /// any more.
    pub(super) async fn delete(&self, generation: i64, keys: Vec<Vec<u8>>) -> Result<Put, Trouble> {
        self.change(Box::new(move |tx| Box::pin(delete_in(tx, generation, keys)))).await
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

/// Names a blob in a layer, where nothing stands under this key.
pub(super) async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    layer: i64,
    key: &[u8],
    object: &Object,
) -> Result<(), Trouble> {
    sqlx::query("INSERT INTO objects (layer, key, blob, size, etag, modified, meta) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(layer)
        .bind(key)
        .bind(&object.blob)
        .bind(i64::try_from(object.size).unwrap_or(i64::MAX))
        .bind(&object.etag)
        .bind(object.modified)
        .bind(serde_json::to_string(&object.meta)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The layer that a generation's clients write to; none when they may not any more. Asked within the transaction that
/// writes, since a request may have been let in long before it has arrived in full.
pub(super) async fn open_layer(tx: &mut Transaction<'static, Sqlite>, generation: i64) -> Result<Option<i64>, Trouble> {
    let found: Option<(i64,)> = sqlx::query_as("SELECT layer FROM generations WHERE id = ? AND state = 'whole'")
        .bind(generation)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.map(|(layer,)| layer))
}

/// Drops a row of one layer, be it an object or a marker. Returns the blob that it named.
async fn take(tx: &mut Transaction<'static, Sqlite>, layer: i64, key: &[u8]) -> Result<Option<String>, Trouble> {
    let row: Option<(Option<String>,)> =
        sqlx::query_as("DELETE FROM objects WHERE layer = ? AND key = ? RETURNING blob")
            .bind(layer)
            .bind(key)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(row.and_then(|(blob,)| blob))
}

/// [`Index::delete`] within a transaction.
async fn delete_in(tx: &mut Transaction<'static, Sqlite>, generation: i64, keys: Vec<Vec<u8>>) -> Result<Put, Trouble> {
    let Some(layer) = open_layer(tx, generation).await? else { return Ok(Put::Closed) };
    let mut freed = Vec::new();
    for key in keys {
        let Some(seen) = Seen::of(tx, generation, &key).await? else { continue };
        freed.extend(take(tx, layer, &key).await?);
        if Seen::of(tx, generation, &key).await?.is_some() {
            sqlx::query("INSERT INTO objects (layer, key, size, etag, modified, meta) VALUES (?, ?, 0, '', ?, '')")
                .bind(layer)
                .bind(key)
                .bind(now())
                .execute(&mut **tx)
                .await?;
        }
        count(tx, generation, -1, -seen.size, -seen.own_size()).await?;
    }
    Ok(Put::Done(unnamed(tx, freed).await?))
}
