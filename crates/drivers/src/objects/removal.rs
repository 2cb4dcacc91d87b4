//! Tidies up in the background: empties condemned generations and snapshots, in batches and by turns, going on where it was
//! after a restart; drops layers on which nothing stands any more; gives up uploads that nobody completes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::blobs::Blobs;
use super::generations::State;
use super::index::{Index, now};
use super::layers::unnamed;
use super::trouble::Trouble;

/// Parts per transaction: other writers wait for one batch at most.
const BATCH: i64 = 200;
/// Uploads are given up when they are so old, in milliseconds: a day.
const UPLOAD_LIFE: i64 = 24 * 60 * 60 * 1000;
/// How often to look for old uploads.
const LOOK: Duration = Duration::from_secs(60 * 60);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// How long at most, when stale blobs cannot be removed: each time, all are listed.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// What tidies up, and what it is told and tells.
#[derive(Debug, Clone)]
pub(super) struct Remover {
    pub(super) index: Index,
    pub(super) blobs: Blobs,
    /// There is something to do.
    pub(super) wake: Arc<Notify>,
    /// Counts what is gone.
    pub(super) gone: Arc<watch::Sender<u64>>,
}

impl Remover {
    /// Runs until `stop`: tidies up, whenever told and every hour. Beside that it sweeps once, which takes its time when
    /// there are many blobs, and again when one could not be removed.
    pub(super) async fn run(self, stop: CancellationToken) {
        let sweep = async {
            let mut pause = PAUSE;
            loop {
                match self.blobs.sweep(&self.index).await {
                    Ok(count) => {
                        if count > 0 {
                            tracing::info!(count, "removed blobs that an earlier end or a failure left behind");
                        }
                        pause = PAUSE;
                        self.blobs.untidy().await;
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(trouble) => {
                        tracing::warn!(%trouble, "cannot remove stale blobs; trying again");
                        tokio::time::sleep(pause).await;
                        pause = LONGEST_PAUSE.min(pause * 2);
                    }
                }
            }
        };
        let work = async {
            loop {
                match self.tidy().await {
                    // An hour without being told is as good a reason.
                    Ok(()) => drop(tokio::time::timeout(LOOK, self.wake.notified()).await),
                    Err(trouble) => {
                        tracing::warn!(%trouble, "cannot tidy up buckets; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        // Cut between a batch's rows and its blobs, the next start's sweep finds the blobs.
        tokio::select! {
            ((), ()) = async { tokio::join!(sweep, work) } => {}
            () = stop.cancelled() => {}
        }
    }

    async fn tidy(&self) -> Result<(), Trouble> {
        for (generation, upload) in self.index.uploads_begun_before(now() - UPLOAD_LIFE).await? {
            self.blobs.unlink(self.index.abort_upload(generation, &upload).await?.unwrap_or_default()).await;
        }
        // By turns: a large one does not keep a small one waiting.
        while self.generations().await? | self.snapshots().await? | self.layers().await? {}
        Ok(())
    }

    /// One batch of each condemned generation. False when there are none.
    async fn generations(&self) -> Result<bool, Trouble> {
        let mut some = false;
        for generation in self.index.generations(None).await? {
            if generation.state != State::Removing {
                continue;
            }
            some = true;
            if let Some(freed) = self.index.empty_layer(generation.layer).await? {
                self.blobs.unlink(freed).await;
            } else if let Some(freed) = self.index.drop_parts(generation.id).await? {
                self.blobs.unlink(freed).await;
            } else {
                self.index.forget_generation(generation.id).await?;
                self.gone.send_modify(|count| *count += 1);
                tracing::info!(env = %generation.env, generation = generation.number, "bucket emptied");
            }
        }
        Ok(some)
    }

    /// One batch of each condemned snapshot. False when there are none.
    async fn snapshots(&self) -> Result<bool, Trouble> {
        let mut some = false;
        for snapshot in self.index.snapshots(None).await? {
            if snapshot.state != State::Removing {
                continue;
            }
            some = true;
            if !self.index.stood_on(snapshot.layer).await?
                && let Some(freed) = self.index.empty_layer(snapshot.layer).await?
            {
                self.blobs.unlink(freed).await;
            } else {
                self.index.forget_snapshot(snapshot.id).await?;
                self.gone.send_modify(|count| *count += 1);
                tracing::info!(version = snapshot.version, "snapshot removed");
            }
        }
        Ok(some)
    }

    /// One batch of a layer that nobody needs, or that can be joined with another. False when there is none.
    async fn layers(&self) -> Result<bool, Trouble> {
        if let Some(layer) = self.index.orphaned_layer().await? {
            match self.index.empty_layer(layer).await? {
                Some(freed) => self.blobs.unlink(freed).await,
                None => self.index.forget_layer(layer).await?,
            }
            return Ok(true);
        }
        match self.index.join_layers().await? {
            Some(freed) => self.blobs.unlink(freed).await,
            None => return Ok(false),
        }
        Ok(true)
    }
}

impl Index {
    async fn uploads_begun_before(&self, time: i64) -> Result<Vec<(i64, String)>, Trouble> {
        let old = sqlx::query_as("SELECT generation, id FROM uploads WHERE begun < ?").bind(time);
        Ok(old.fetch_all(&self.read).await?)
    }

    /// Removes some parts of a generation's uploads. Returns their blobs; none when no parts are left.
    async fn drop_parts(&self, generation: i64) -> Result<Option<Vec<String>>, Trouble> {
        let mut tx = self.begin().await?;
        let rows: Vec<(String,)> = sqlx::query_as(
            "DELETE FROM parts WHERE (upload, number) IN
             (SELECT upload, number FROM parts JOIN uploads ON uploads.id = parts.upload
              WHERE uploads.generation = ? LIMIT ?) RETURNING blob",
        )
        .bind(generation)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let freed = unnamed(&mut tx, rows.into_iter().map(|(blob,)| blob).collect()).await?;
        tx.commit().await?;
        Ok(Some(freed))
    }

    /// The last step of a removal. The generation's own layer is empty by now, and goes as one that nothing stands on.
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
