//! Uploads in parts: their rows, from the first part to the object that they become.

use super::checksum::Sum;
use super::index::{Guard, Index, Object, Put, open_layer};
use super::meta::Meta;
use super::trouble::Trouble;

/// An upload under way.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) id: String,
    pub(super) key: Vec<u8>,
    /// Milliseconds since the Unix epoch.
    pub(super) begun: i64,
    pub(super) meta: Meta,
}

/// One part that has arrived.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) blob: String,
    pub(super) size: u64,
    pub(super) etag: String,
    /// Milliseconds since the Unix epoch.
    pub(super) modified: i64,
    pub(super) checksum: Option<Sum>,
}

type UploadRow = (String, Vec<u8>, i64, String);
type PartRow = (i32, String, i64, String, i64, Option<String>);

fn upload_from((id, key, begun, meta): UploadRow) -> Result<Upload, Trouble> {
    Ok(Upload { id, key, begun, meta: serde_json::from_str(&meta)? })
}

fn part_from((number, blob, size, etag, modified, checksum): PartRow) -> Result<Part, Trouble> {
    let checksum = checksum.as_deref().map(serde_json::from_str).transpose()?;
    Ok(Part { number, blob, size: size.unsigned_abs(), etag, modified, checksum })
}

impl Index {
    /// Begins an upload. False when the generation is on its way out.
    pub(super) async fn begin_upload(&self, generation: i64, upload: &Upload) -> Result<bool, Trouble> {
        let mut tx = self.begin().await?;
        if open_layer(&mut tx, generation).await?.is_none() {
            return Ok(false);
        }
        sqlx::query("INSERT INTO uploads (id, generation, key, begun, meta) VALUES (?, ?, ?, ?, ?)")
            .bind(&upload.id)
            .bind(generation)
            .bind(&upload.key)
            .bind(upload.begun)
            .bind(serde_json::to_string(&upload.meta)?)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The upload of this id, if it is of this generation and for this key: an id alone opens nothing.
    pub(super) async fn upload(&self, generation: i64, key: &[u8], id: &str) -> Result<Option<Upload>, Trouble> {
        let row: Option<UploadRow> =
            sqlx::query_as("SELECT id, key, begun, meta FROM uploads WHERE id = ? AND generation = ? AND key = ?")
                .bind(id)
                .bind(generation)
                .bind(key)
                .fetch_optional(&self.read)
                .await?;
        row.map(upload_from).transpose()
    }

    /// Uploads after `(key, id)` in that order whose key begins with `prefix`.
    pub(super) async fn uploads(
        &self,
        generation: i64,
        (after_key, after_id): (&[u8], &str),
        (from, below): (&[u8], &[u8]),
        limit: i64,
    ) -> Result<Vec<Upload>, Trouble> {
        let rows: Vec<UploadRow> = sqlx::query_as(
            "SELECT id, key, begun, meta FROM uploads
             WHERE generation = ? AND (key, id) > (?, ?) AND key >= ? AND key < ? ORDER BY key, id LIMIT ?",
        )
        .bind(generation)
        .bind(after_key)
        .bind(after_id)
        .bind(from)
        .bind(below)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(upload_from).collect()
    }

    /// Puts a part in the place of the one with its number.
    pub(super) async fn put_part(&self, generation: i64, upload: &str, part: &Part) -> Result<Put, Trouble> {
        let mut tx = self.begin().await?;
        if open_layer(&mut tx, generation).await?.is_none() {
            return Ok(Put::Closed);
        }
        let there: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM uploads WHERE id = ? AND generation = ?")
            .bind(upload)
            .bind(generation)
            .fetch_optional(&mut *tx)
            .await?;
        if there.is_none() {
            return Ok(Put::Missing);
        }
        let replaced: Option<(String,)> =
            sqlx::query_as("DELETE FROM parts WHERE upload = ? AND number = ? RETURNING blob")
                .bind(upload)
                .bind(part.number)
                .fetch_optional(&mut *tx)
                .await?;
        sqlx::query(
            "INSERT INTO parts (upload, number, blob, size, etag, modified, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(upload)
        .bind(part.number)
        .bind(&part.blob)
        .bind(i64::try_from(part.size).unwrap_or(i64::MAX))
        .bind(&part.etag)
        .bind(part.modified)
        .bind(part.checksum.as_ref().map(serde_json::to_string).transpose()?)
        .execute(&mut *tx)
        .await?;
        if let Some(limit) = self.quota.exceeded(&mut tx, generation).await? {
            return Ok(Put::Full(limit));
        }
        tx.commit().await?;
        Ok(Put::Done(replaced.into_iter().map(|(blob,)| blob).collect()))
    }

    /// Parts with a number above `after`, in order.
    pub(super) async fn parts(&self, upload: &str, after: i32, limit: i64) -> Result<Vec<Part>, Trouble> {
        let rows: Vec<PartRow> = sqlx::query_as(
            "SELECT number, blob, size, etag, modified, checksum FROM parts
             WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(upload)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.read)
        .await?;
        rows.into_iter().map(part_from).collect()
    }

    /// Turns an upload into an object: both, or neither.
    pub(super) async fn complete_upload(
        &self,
        generation: i64,
        upload: &Upload,
        object: &Object,
        guard: &Guard,
    ) -> Result<Put, Trouble> {
        let mut tx = self.begin().await?;
        let Some(mut freed) = drop_upload(&mut tx, generation, &upload.id).await? else { return Ok(Put::Missing) };
        let put = self.put_in(&mut tx, generation, &upload.key, object, guard).await?;
        let Put::Done(replaced) = put else { return Ok(put) };
        tx.commit().await?;
        freed.extend(replaced);
        Ok(Put::Done(freed))
    }

    /// Gives an upload up. None when there is none; else the blobs of its parts.
    pub(super) async fn abort_upload(&self, generation: i64, id: &str) -> Result<Option<Vec<String>>, Trouble> {
        let mut tx = self.begin().await?;
        let freed = drop_upload(&mut tx, generation, id).await?;
        tx.commit().await?;
        Ok(freed)
    }
}

/// Parts go first: the index counts their bytes by their upload's row.
async fn drop_upload(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    generation: i64,
    id: &str,
) -> Result<Option<Vec<String>>, Trouble> {
    let freed: Vec<(String,)> = sqlx::query_as(
        "DELETE FROM parts WHERE upload = (SELECT id FROM uploads WHERE id = ? AND generation = ?) RETURNING blob",
    )
    .bind(id)
    .bind(generation)
    .fetch_all(&mut **tx)
    .await?;
    let gone = sqlx::query("DELETE FROM uploads WHERE id = ? AND generation = ?")
        .bind(id)
        .bind(generation)
        .execute(&mut **tx)
        .await?;
    Ok((gone.rows_affected() > 0).then(|| freed.into_iter().map(|(blob,)| blob).collect()))
}
