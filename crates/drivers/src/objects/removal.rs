//! Tidies up in the background: empties condemned generations, in batches, going on where it was after a restart, and
//! gives up uploads that nobody completes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::blobs::Blobs;
use super::generations::State;
use super::index::{Index, now};
use super::trouble::Trouble;

/// Rows per transaction: other writers wait for one batch at most.
const BATCH: i64 = 200;
/// Uploads are given up when they are so old, in milliseconds: a day.
const UPLOAD_LIFE: i64 = 24 * 60 * 60 * 1000;
/// How often to look for old uploads.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs until `stop`: sweeps once, then tidies up, whenever told and every hour.
pub(super) async fn run(index: Index, blobs: Blobs, wake: Arc<Notify>, stop: CancellationToken) {
    let work = async {
        match blobs.sweep(&index).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed blobs that an earlier end left behind"),
            Err(trouble) => tracing::warn!(%trouble, "cannot look for stale blobs"),
        }
        loop {
            match tidy(&index, &blobs).await {
                // An hour without being told is as good a reason.
                Ok(()) => drop(tokio::time::timeout(LOOK, wake.notified()).await),
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot tidy up buckets; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    // Cut between a batch's rows and its blobs, the next start's sweep finds the blobs.
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

async fn tidy(index: &Index, blobs: &Blobs) -> Result<(), Trouble> {
    for (generation, upload) in index.uploads_begun_before(now() - UPLOAD_LIFE).await? {
        blobs.unlink(index.abort_upload(generation, &upload).await?.unwrap_or_default()).await;
    }
    for generation in index.generations(None).await? {
        if generation.state == State::Removing {
            while index.remove_batch(generation.id, blobs).await? {}
            index.forget_generation(generation.id).await?;
            tracing::info!(env = %generation.env, generation = generation.number, "bucket emptied");
        }
    }
    Ok(())
}

impl Index {
    async fn uploads_begun_before(&self, time: i64) -> Result<Vec<(i64, String)>, Trouble> {
        let old = sqlx::query_as("SELECT generation, id FROM uploads WHERE begun < ?").bind(time);
        Ok(old.fetch_all(&self.read).await?)
    }

    /// Removes some of a generation's objects or parts. False when none are left.
    async fn remove_batch(&self, generation: i64, blobs: &Blobs) -> Result<bool, Trouble> {
        let mut tx = self.begin().await?;
        let mut freed: Vec<(String,)> = sqlx::query_as(
            "DELETE FROM objects WHERE generation = ?1
             AND key IN (SELECT key FROM objects WHERE generation = ?1 ORDER BY key LIMIT ?2) RETURNING blob",
        )
        .bind(generation)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        if freed.is_empty() {
            freed = sqlx::query_as(
                "DELETE FROM parts WHERE (upload, number) IN
                 (SELECT upload, number FROM parts JOIN uploads ON uploads.id = parts.upload
                  WHERE uploads.generation = ? LIMIT ?) RETURNING blob",
            )
            .bind(generation)
            .bind(BATCH)
            .fetch_all(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        let some = !freed.is_empty();
        blobs.unlink(freed.into_iter().map(|(blob,)| blob)).await;
        Ok(some)
    }

    /// The last step of a removal.
    async fn forget_generation(&self, generation: i64) -> Result<(), Trouble> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM uploads WHERE generation = ?").bind(generation).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM generations WHERE id = ? AND state = 'removing'")
            .bind(generation)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
