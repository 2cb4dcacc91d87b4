//! Empties condemned generations in the background, in batches, going on where it was after a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::blobs::Blobs;
use super::generations::State;
use super::index::Index;
use super::trouble::Trouble;

/// Rows per transaction: other writers wait for one batch at most.
const BATCH: i64 = 200;
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs until `stop`: sweeps once, then empties what is condemned, whenever told.
pub(super) async fn run(index: Index, blobs: Blobs, wake: Arc<Notify>, stop: CancellationToken) {
    let work = async {
        match blobs.sweep(&index).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed blobs that an earlier end left behind"),
            Err(trouble) => tracing::warn!(%trouble, "cannot look for stale blobs"),
        }
        loop {
            match empty_condemned(&index, &blobs).await {
                Ok(()) => wake.notified().await,
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot empty a bucket; trying again");
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

async fn empty_condemned(index: &Index, blobs: &Blobs) -> Result<(), Trouble> {
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
