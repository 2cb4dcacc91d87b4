//! Snapshots: the objects of a baseline's version, a layer that environments' generations stand on.
//!
//! While it is filled it is `partial`; sealing it is the last row written. What is in it never changes afterwards.

use planner::resource::ResourceId;

use super::generations::{State, Usage};
use super::index::{Index, Object, insert, now};
use super::layers::{add, freeze, unnamed};
use super::trouble::Trouble;

/// One snapshot.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) id: i64,
    /// The baseline's version, such as `shop@3`.
    pub(super) version: String,
    pub(super) fingerprint: String,
    pub(super) layer: i64,
    pub(super) state: State,
    pub(super) usage: Usage,
}

impl Snapshot {
    pub(super) fn resource(&self) -> ResourceId {
        ResourceId::snapshot(&self.version)
    }

    /// Where its blobs stand among all. No environment is called so.
    pub(super) fn folder(&self) -> String {
        format!("baselines/{}", self.version.replace('@', "/"))
    }
}

type Row = (i64, String, String, i64, String, i64, i64);

fn parse((id, version, fingerprint, layer, state, objects, bytes): Row) -> Result<Snapshot, Trouble> {
    let usage = Usage { objects: objects.unsigned_abs(), bytes: bytes.unsigned_abs(), own: 0 };
    Ok(Snapshot { id, version, fingerprint, layer, state: State::parse(&state)?, usage })
}

impl Index {
    /// All snapshots, or one version's. Asks the writer, so that what it says is not about to change.
    pub(super) async fn snapshots(&self, version: Option<&str>) -> Result<Vec<Snapshot>, Trouble> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, version, fingerprint, layer, state, objects, bytes FROM snapshots
             WHERE ?1 IS NULL OR version = ?1 ORDER BY id",
        )
        .bind(version)
        .fetch_all(&self.write)
        .await?;
        rows.into_iter().map(parse).collect()
    }

    pub(super) async fn snapshot(&self, version: &str) -> Result<Option<Snapshot>, Trouble> {
        Ok(self.snapshots(Some(version)).await?.pop())
    }

    /// Begins a snapshot without objects, `partial`. One that is there already stays as it is.
    pub(super) async fn begin_snapshot(&self, version: &str, fingerprint: &str) -> Result<(), Trouble> {
        let mut tx = self.begin().await?;
        let layer = add(&mut tx, None).await?;
        let made = sqlx::query(
            "INSERT INTO snapshots (version, fingerprint, layer, begun, state) VALUES (?, ?, ?, ?, 'partial')
             ON CONFLICT DO NOTHING",
        )
        .bind(version)
        .bind(fingerprint)
        .bind(layer)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() > 0 {
            tx.commit().await?;
        }
        Ok(())
    }

    /// Makes a snapshot of what a generation holds by now, sealed at once. False when that generation is gone.
    pub(super) async fn snapshot_of(&self, version: &str, fingerprint: &str, generation: i64) -> Result<bool, Trouble> {
        let mut tx = self.begin().await?;
        let Some((_, usage)) = super::generations::carried(&mut tx, generation).await? else { return Ok(false) };
        let layer = match freeze(&mut tx, generation).await? {
            Some(layer) => layer,
            None => add(&mut tx, None).await?,
        };
        sqlx::query(
            "INSERT INTO snapshots (version, fingerprint, layer, begun, state, objects, bytes)
             VALUES (?, ?, ?, ?, 'whole', ?, ?)",
        )
        .bind(version)
        .bind(fingerprint)
        .bind(layer)
        .bind(now())
        .bind(i64::try_from(usage.objects).unwrap_or(i64::MAX))
        .bind(i64::try_from(usage.bytes).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whether a layer has this object already, by size and date.
    pub(super) async fn layer_has(&self, layer: i64, key: &[u8], size: u64, modified: i64) -> Result<bool, Trouble> {
        let found: Option<(i64,)> =
            sqlx::query_as("SELECT 1 FROM objects WHERE layer = ? AND key = ? AND size = ? AND modified = ?")
                .bind(layer)
                .bind(key)
                .bind(i64::try_from(size).unwrap_or(i64::MAX))
                .bind(modified)
                .fetch_optional(&self.read)
                .await?;
        Ok(found.is_some())
    }

    /// Adds objects to a snapshot that is being filled. Returns blobs that no row names any more; none when it is not being
    /// filled any more, and then nothing has changed.
    pub(super) async fn add_to_snapshot(
        &self,
        id: i64,
        objects: &[(Vec<u8>, Object)],
    ) -> Result<Option<Vec<String>>, Trouble> {
        let mut tx = self.begin().await?;
        let found: Option<(i64,)> = sqlx::query_as("SELECT layer FROM snapshots WHERE id = ? AND state = 'partial'")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        let Some((layer,)) = found else { return Ok(None) };
        let (mut count, mut bytes, mut freed) = (0i64, 0i64, Vec::new());
        for (key, object) in objects {
            let replaced: Option<(String, i64)> =
                sqlx::query_as("DELETE FROM objects WHERE layer = ? AND key = ? RETURNING blob, size")
                    .bind(layer)
                    .bind(key)
                    .fetch_optional(&mut *tx)
                    .await?;
            insert(&mut tx, layer, key, object).await?;
            count += i64::from(replaced.is_none());
            bytes += i64::try_from(object.size).unwrap_or(i64::MAX) - replaced.as_ref().map_or(0, |(_, size)| *size);
            freed.extend(replaced.map(|(blob, _)| blob));
        }
        sqlx::query("UPDATE snapshots SET objects = objects + ?, bytes = bytes + ? WHERE id = ?")
            .bind(count)
            .bind(bytes)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        let freed = unnamed(&mut tx, freed).await?;
        tx.commit().await?;
        Ok(Some(freed))
    }

    /// The last step of making one. False when it is not being filled any more.
    pub(super) async fn seal_snapshot(&self, id: i64) -> Result<bool, Trouble> {
        let sealed = sqlx::query("UPDATE snapshots SET state = 'whole' WHERE id = ? AND state = 'partial'")
            .bind(id)
            .execute(&self.write)
            .await?;
        Ok(sealed.rows_affected() > 0)
    }

    /// Condemns a snapshot. Nothing begins with it any more; what stands on it stays as it is.
    pub(super) async fn condemn_snapshot(&self, version: &str) -> Result<(), Trouble> {
        sqlx::query("UPDATE snapshots SET state = 'removing' WHERE version = ?")
            .bind(version)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Whether other layers stand on this one.
    pub(super) async fn stood_on(&self, layer: i64) -> Result<bool, Trouble> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM layers WHERE base = ? LIMIT 1")
            .bind(layer)
            .fetch_optional(&self.write)
            .await?;
        Ok(found.is_some())
    }

    /// The last step of a removal. Its layer goes when nothing stands on it.
    pub(super) async fn forget_snapshot(&self, id: i64) -> Result<(), Trouble> {
        sqlx::query("DELETE FROM snapshots WHERE id = ? AND state = 'removing'").bind(id).execute(&self.write).await?;
        Ok(())
    }
}
