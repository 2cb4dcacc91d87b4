//! One blob on its way to a bucket: in one request if it is small, else in parts, of which a few are in memory at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::super::upstream::Behind;
use super::bucket::Bucket;

/// Bytes of a part. As many parts as there may be take what one request may bring ten times over.
const PART: usize = 8 << 20;
/// Parts under way beside the one that is gathered.
const AT_ONCE: usize = 1;
/// Parts that an upload may have, with some to spare.
const MOST_PARTS: u64 = 9_000;
/// Uploads of more than [`FREE`] bytes at once: what bounds the memory that all take.
const UPLOADS: usize = 32;
const FREE: usize = 512 << 10;
/// How long an upload waits for others to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Permits for large uploads.
pub(super) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(UPLOADS))
}

/// Dropped before its end, it leaves nothing.
pub(super) struct Sending {
    bucket: Bucket,
    name: String,
    part: usize,
    gathered: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
    /// Its id, once it is sent in parts.
    upload: Option<String>,
    under_way: VecDeque<JoinHandle<io::Result<CompletedPart>>>,
    parts: Vec<CompletedPart>,
    begun: i32,
}

impl Sending {
    /// `total` bytes, if it is known that there may be more than one request brings.
    pub(super) fn new(bucket: &Bucket, name: &str, total: Option<u64>) -> Sending {
        let needed = total.and_then(|total| usize::try_from(total / MOST_PARTS).ok()).unwrap_or_default();
        Sending {
            bucket: bucket.clone(),
            name: name.to_owned(),
            part: needed.max(PART),
            gathered: Vec::new(),
            permit: None,
            upload: None,
            under_way: VecDeque::new(),
            parts: Vec::new(),
            begun: 0,
        }
    }

    pub(super) async fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            if self.gathered.len() == self.part {
                self.send_part().await?;
            }
            let (now, later) = data.split_at(data.len().min(self.part - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            data = later;
            if self.gathered.len() > FREE && self.permit.is_none() {
                let permit = tokio::time::timeout(PATIENCE, self.bucket.permits.clone().acquire_owned()).await;
                let permit = permit.map_err(|_| Behind::because("write", "too many uploads at once"))?;
                self.permit = Some(permit.map_err(io::Error::other)?);
            }
        }
        Ok(())
    }

    async fn send_part(&mut self) -> io::Result<()> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => self.upload.insert(self.bucket.begin(&self.name).await?).clone(),
        };
        while self.under_way.len() >= AT_ONCE {
            self.arrive().await?;
        }
        self.begun += 1;
        let (bucket, name, number) = (self.bucket.clone(), self.name.clone(), self.begun);
        let body = ByteStream::from(std::mem::take(&mut self.gathered));
        self.under_way.push_back(tokio::spawn(async move {
            let part = bucket.client.upload_part().bucket(&bucket.bucket).key(bucket.key(&name)).upload_id(upload);
            let sent = part.part_number(number).body(body).send().await.map_err(|why| Behind::error("write", &why))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        }));
        Ok(())
    }

    async fn arrive(&mut self) -> io::Result<()> {
        if let Some(part) = self.under_way.front_mut() {
            let arrived = part.await;
            self.under_way.pop_front();
            self.parts.push(arrived.map_err(io::Error::other)??);
        }
        Ok(())
    }

    /// Sends what is left. Afterwards the blob is whole and safe.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if self.upload.is_none() {
            return self.bucket.put(&self.name, std::mem::take(&mut self.gathered)).await;
        }
        if !self.gathered.is_empty() {
            self.send_part().await?;
        }
        while !self.under_way.is_empty() {
            self.arrive().await?;
        }
        let parts = std::mem::take(&mut self.parts);
        self.bucket.complete(&self.name, self.upload.as_deref().unwrap_or_default(), parts).await?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) = (self.upload.take(), Handle::try_current()) else { return };
        let (bucket, name, under_way) = (self.bucket.clone(), self.name.clone(), std::mem::take(&mut self.under_way));
        runtime.spawn(async move {
            // A part that arrives after its upload was given up would stay.
            for part in under_way {
                let _ = part.await;
            }
            if let Err(why) = bucket.abort(&name, &upload).await {
                tracing::warn!(%why, "cannot give up an upload; it is tried again later");
                bucket.untidy.notify_one();
            }
        });
    }
}
