//! Layers: where rows of objects stand. The top one of a generation is its own; below lie sealed ones, which never change
//! for those above and may be shared: a baseline's, or what a carried generation held when it was copied.
//!
//! So a bucket of any size is made by one row. A layer stays for as long as a generation, a snapshot or another layer
//! stands on it.

use sqlx::{Sqlite, Transaction};

use super::index::Index;
use super::trouble::Trouble;

/// A query over the layers of generation `?1`, as `chain (layer, depth)` with the top one at depth 0.
macro_rules! chain {
    ($query:literal) => {
        concat!(
            "WITH RECURSIVE chain (layer, depth) AS (
                 SELECT layer, 0 FROM generations WHERE id = ?1
                 UNION ALL
                 SELECT layers.base, depth + 1 FROM chain JOIN layers ON layers.id = chain.layer
                 WHERE layers.base IS NOT NULL
             ) ",
            $query
        )
    };
}
pub(super) use chain;

type Tx = Transaction<'static, Sqlite>;

/// Rows that are moved or dropped in one transaction: other writers wait for one batch at most.
const BATCH: i64 = 500;

/// What a generation has under a key before it is changed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) etag: String,
    pub(super) size: i64,
    /// Written by the environment, not by its baseline.
    own: bool,
}

impl Seen {
    pub(super) async fn of(tx: &mut Tx, generation: i64, key: &[u8]) -> Result<Option<Seen>, Trouble> {
        let row: Option<(Option<String>, String, i64, bool)> = sqlx::query_as(chain!(
            "SELECT blob, etag, size, coalesce(depth < (
                 SELECT depth FROM chain WHERE layer = (SELECT floor FROM generations WHERE id = ?1)
             ), TRUE)
             FROM chain CROSS JOIN objects USING (layer) WHERE key = ?2 ORDER BY depth LIMIT 1"
        ))
        .bind(generation)
        .bind(key)
        .fetch_optional(&mut **tx)
        .await?;
        Ok(row.filter(|(blob, ..)| blob.is_some()).map(|(_, etag, size, own)| Seen { etag, size, own }))
    }

    /// How much of what the environment has added goes with it.
    pub(super) fn own_size(&self) -> i64 {
        if self.own { self.size } else { 0 }
    }
}

/// Adds to what a generation is said to hold.
pub(super) async fn count(tx: &mut Tx, generation: i64, objects: i64, bytes: i64, own: i64) -> Result<(), Trouble> {
    sqlx::query("UPDATE generations SET objects = objects + ?, bytes = bytes + ?, own = own + ? WHERE id = ?")
        .bind(objects)
        .bind(bytes)
        .bind(own)
        .bind(generation)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Those of these blobs that no row names.
pub(super) async fn unnamed(tx: &mut Tx, blobs: Vec<String>) -> Result<Vec<String>, Trouble> {
    if blobs.is_empty() {
        return Ok(blobs);
    }
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT DISTINCT value FROM json_each(?) AS freed
         WHERE NOT EXISTS (SELECT 1 FROM objects WHERE blob = freed.value)
         AND NOT EXISTS (SELECT 1 FROM parts WHERE blob = freed.value)",
    )
    .bind(serde_json::to_string(&blobs)?)
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|(blob,)| blob).collect())
}

/// A new layer on top of `base`.
pub(super) async fn add(tx: &mut Tx, base: Option<i64>) -> Result<i64, Trouble> {
    Ok(sqlx::query("INSERT INTO layers (base) VALUES (?)").bind(base).execute(&mut **tx).await?.last_insert_rowid())
}

/// Seals what a generation holds by now, and gives the layer on which others can stand and see just that; none when there
/// was never anything. The generation goes on in a new layer above it.
pub(super) async fn freeze(tx: &mut Tx, generation: i64) -> Result<Option<i64>, Trouble> {
    let (top, base, used): (i64, Option<i64>, bool) = sqlx::query_as(
        "SELECT layers.id, base, EXISTS (SELECT 1 FROM objects WHERE objects.layer = layers.id)
         FROM generations JOIN layers ON layers.id = generations.layer WHERE generations.id = ?",
    )
    .bind(generation)
    .fetch_one(&mut **tx)
    .await?;
    if !used {
        return Ok(base);
    }
    let above = add(tx, Some(top)).await?;
    sqlx::query("UPDATE generations SET layer = ? WHERE id = ?")
        .bind(above)
        .bind(generation)
        .execute(&mut **tx)
        .await?;
    Ok(Some(top))
}

impl Index {
    /// Drops some rows of a layer. Returns the blobs that no row names any more; none when the layer was empty.
    pub(super) async fn empty_layer(&self, layer: i64) -> Result<Option<Vec<String>>, Trouble> {
        let mut tx = self.begin().await?;
        let rows: Vec<(Option<String>,)> = sqlx::query_as(
            "DELETE FROM objects WHERE layer = ?1
             AND key IN (SELECT key FROM objects WHERE layer = ?1 ORDER BY key LIMIT ?2) RETURNING blob",
        )
        .bind(layer)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let freed = unnamed(&mut tx, rows.into_iter().filter_map(|(blob,)| blob).collect()).await?;
        tx.commit().await?;
        Ok(Some(freed))
    }

    /// A layer on which nothing stands any more.
    pub(super) async fn orphaned_layer(&self) -> Result<Option<i64>, Trouble> {
        let found: Option<(i64,)> = sqlx::query_as(
            "SELECT id FROM layers WHERE NOT EXISTS (SELECT 1 FROM layers AS above WHERE above.base = layers.id)
             AND NOT EXISTS (SELECT 1 FROM generations WHERE layer = layers.id)
             AND NOT EXISTS (SELECT 1 FROM snapshots WHERE layer = layers.id) LIMIT 1",
        )
        .fetch_optional(&self.write)
        .await?;
        Ok(found.map(|(id,)| id))
    }

    /// Forgets an orphaned layer that is empty.
    pub(super) async fn forget_layer(&self, layer: i64) -> Result<(), Trouble> {
        sqlx::query("DELETE FROM layers WHERE id = ?").bind(layer).execute(&self.write).await?;
        Ok(())
    }

    /// Moves some rows of a sealed layer that only one other stands on up into that one, so that chains of carried
    /// generations do not grow for ever. What anybody sees stays the same at every step. Returns the blobs that no row names
    /// any more; none when there is nothing to be joined.
    pub(super) async fn join_layers(&self) -> Result<Option<Vec<String>>, Trouble> {
        let mut tx = self.begin().await?;
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT layers.id, min(above.id) FROM layers JOIN layers AS above ON above.base = layers.id
             WHERE NOT EXISTS (SELECT 1 FROM generations WHERE layer = layers.id)
             AND NOT EXISTS (SELECT 1 FROM generations WHERE floor = layers.id)
             AND NOT EXISTS (SELECT 1 FROM snapshots WHERE layer = layers.id)
             GROUP BY layers.id HAVING count(*) = 1 LIMIT 1",
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some((lower, upper)) = found else { return Ok(None) };
        let last: Option<(Vec<u8>,)> = sqlx::query_as(
            "SELECT max(key) FROM (SELECT key FROM objects WHERE layer = ? ORDER BY key LIMIT ?) HAVING count(*) > 0",
        )
        .bind(lower)
        .bind(BATCH)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((last,)) = last else {
            sqlx::query("UPDATE layers SET base = (SELECT base FROM layers WHERE id = ?1) WHERE id = ?2")
                .bind(lower)
                .bind(upper)
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM layers WHERE id = ?").bind(lower).execute(&mut *tx).await?;
            tx.commit().await?;
            return Ok(Some(Vec::new()));
        };
        let hidden: Vec<(Option<String>,)> = sqlx::query_as(
            "DELETE FROM objects WHERE layer = ?1 AND key <= ?2
             AND EXISTS (SELECT 1 FROM objects AS upper WHERE upper.layer = ?3 AND upper.key = objects.key) RETURNING blob",
        )
        .bind(lower)
        .bind(&last)
        .bind(upper)
        .fetch_all(&mut *tx)
        .await?;
        sqlx::query("UPDATE objects SET layer = ?3 WHERE layer = ?1 AND key <= ?2")
            .bind(lower)
            .bind(&last)
            .bind(upper)
            .execute(&mut *tx)
            .await?;
        let freed = unnamed(&mut tx, hidden.into_iter().filter_map(|(blob,)| blob).collect()).await?;
        tx.commit().await?;
        Ok(Some(freed))
    }
}
