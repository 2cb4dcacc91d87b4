//! Filling a snapshot: from a folder, or from a bucket of an S3 server. What is there already from an attempt that was cut
//! off is not copied again.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::operation::get_object::GetObjectError;
use futures_util::{Stream, StreamExt, stream};
use planner::resource::Failure;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::ObjectStore;
use super::blobs::{Blobs, Fresh};
use super::checksum::Digests;
use super::index::{Index, Object};
use super::meta::Meta;
use super::quota::human;
use super::snapshots::Snapshot;
use super::trouble::Trouble;
use super::upstream;
use crate::Log;

/// Objects that are copied at once.
const AT_ONCE: usize = 8;
/// Objects that become durable, and rows, together.
const BATCH: usize = 200;
/// S3's own limit, in bytes.
const LONGEST_KEY: usize = 1024;

/// An object that is copied, but in no row yet.
type Copied = (Vec<u8>, Object, Fresh);

/// One snapshot that is being filled.
pub(super) struct Filling<'a> {
    index: &'a Index,
    blobs: &'a Blobs,
    snapshot: &'a Snapshot,
    log: &'a Log,
}

/// A file that becomes an object.
struct Source {
    path: PathBuf,
    key: String,
    size: u64,
    /// Milliseconds since the Unix epoch.
    modified: i64,
}

impl<'a> Filling<'a> {
    pub(super) fn new(store: &'a ObjectStore, snapshot: &'a Snapshot, log: &'a Log) -> Filling<'a> {
        Filling { index: &store.index, blobs: &store.blobs, snapshot, log }
    }

    /// Every file below a folder; its path there is its key.
    pub(super) async fn take_folder(&self, folder: &Path) -> Result<(), Failure> {
        let (root, log) = (folder.to_owned(), self.log.clone());
        let files = tokio::task::spawn_blocking(move || walk(&root, &log)).await.map_err(|_| Failure::Cancelled)??;
        let total = files.iter().map(|file| file.size).sum();
        self.log.line(&format!("{} files, {}", files.len(), human(total)));
        let progress = Progress::new(self.log, total);
        let copies = stream::iter(files).map(|file| self.file(file, &progress)).buffered(AT_ONCE);
        self.gather(copies).await
    }

    async fn file(&self, file: Source, progress: &Progress<'_>) -> Result<Option<Copied>, Failure> {
        if self.has(&file.key, file.size, file.modified).await? {
            progress.add(file.size);
            return Ok(None);
        }
        let unreadable = |why| Failure::permanent(format!("cannot read {}: {why}", file.path.display()));
        let reader = tokio::fs::File::open(&file.path).await.map_err(unreadable)?;
        let meta = Meta { content_type: content_type(&file.key), ..Meta::default() };
        let copied = self.take_in(reader, file.key.into_bytes(), file.modified, meta, progress).await?;
        Ok(Some(copied))
    }

    /// Every object of a bucket whose key begins with `prefix`, which is cut off.
    pub(super) async fn take_bucket(&self, client: &Client, bucket: &str, prefix: &str) -> Result<(), Failure> {
        let (mut count, mut total) = (0u64, 0);
        let mut pages = upstream::pages(client, bucket, prefix);
        while let Some(page) = pages.next().await {
            for object in page.map_err(|why| upstream::failure("list", bucket, DisplayErrorContext(&why)))?.contents() {
                (count, total) = (count + 1, total + size_of(object));
            }
        }
        self.log.line(&format!("{count} objects, {}", human(total)));
        let progress = Progress::new(self.log, total);
        let mut pages = upstream::pages(client, bucket, prefix);
        while let Some(page) = pages.next().await {
            let page = page.map_err(|why| upstream::failure("list", bucket, DisplayErrorContext(&why)))?;
            let progress = &progress;
            let copies = stream::iter(page.contents.unwrap_or_default())
                .map(|object| self.object(client, bucket, prefix, object, progress))
                .buffered(AT_ONCE);
            self.gather(copies).await?;
        }
        Ok(())
    }

    async fn object(
        &self,
        client: &Client,
        bucket: &str,
        prefix: &str,
        listed: aws_sdk_s3::types::Object,
        progress: &Progress<'_>,
    ) -> Result<Option<Copied>, Failure> {
        let whole = listed.key.clone().unwrap_or_default();
        let Some(key) = whole.strip_prefix(prefix).filter(|key| !key.is_empty()) else { return Ok(None) };
        let modified = listed.last_modified.and_then(|date| date.to_millis().ok()).unwrap_or_default();
        if self.has(key, size_of(&listed), modified).await? {
            progress.add(size_of(&listed));
            return Ok(None);
        }
        let answer = client.get_object().bucket(bucket).key(&whole).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) if why.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                self.log.line(&format!("{whole} was deleted meanwhile"));
                return Ok(None);
            }
            Err(why) => return Err(upstream::failure("read", &format!("{bucket}/{whole}"), DisplayErrorContext(&why))),
        };
        let meta = Meta {
            content_type: answer.content_type,
            content_encoding: answer.content_encoding,
            content_language: answer.content_language,
            content_disposition: answer.content_disposition,
            cache_control: answer.cache_control,
            expires: answer.expires_string,
            user: answer.metadata.unwrap_or_default().into_iter().collect(),
            ..Meta::default()
        };
        let expected = answer.content_length.and_then(|length| u64::try_from(length).ok());
        let reader = answer.body.into_async_read();
        let copied = self.take_in(reader, key.as_bytes().to_vec(), modified, meta, progress).await?;
        if expected.is_some_and(|expected| expected != copied.1.size) {
            return Err(Failure::transient(format!("{bucket}/{whole} broke off in the middle")));
        }
        Ok(Some(copied))
    }

    async fn has(&self, key: &str, size: u64, modified: i64) -> Result<bool, Failure> {
        if key.len() > LONGEST_KEY {
            let text = format!("{key} is longer than {LONGEST_KEY} bytes, which no key may be");
            return Err(Failure::permanent(text));
        }
        Ok(self.index.layer_has(self.snapshot.layer, key.as_bytes(), size, modified).await?)
    }

    /// Copies bytes into a blob. It is not durable before [`Filling::gather`] has made it so.
    async fn take_in(
        &self,
        mut reader: impl AsyncRead + Unpin,
        key: Vec<u8>,
        modified: i64,
        meta: Meta,
        progress: &Progress<'_>,
    ) -> Result<Copied, Failure> {
        self.blobs.room().map_err(|why| Failure::transient(why.to_string()))?;
        let mut digests = Digests::new(None).map_err(|why| Failure::permanent(why.to_string()))?;
        let mut blob = self.blobs.create(&self.snapshot.folder()).await.map_err(Trouble::Io)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = reader.read(&mut buffer).await;
            let read = read.map_err(|why| Failure::transient(format!("the source broke off: {why}")))?;
            if read == 0 {
                break;
            }
            digests.update(&buffer[..read]);
            blob.write(&buffer[..read]).await.map_err(Trouble::Io)?;
            progress.add(read as u64);
        }
        let fresh = blob.finish().await.map_err(Trouble::Io)?;
        let digested = digests.finish();
        let object =
            Object { blob: fresh.name().to_owned(), size: digested.length, etag: digested.etag(), modified, meta };
        Ok((key, object, fresh))
    }

    /// Makes copies durable and then rows, so many at a time.
    async fn gather(&self, copies: impl Stream<Item = Result<Option<Copied>, Failure>>) -> Result<(), Failure> {
        let mut batches = std::pin::pin!(copies.ready_chunks(BATCH));
        let mut gathered = Vec::new();
        while let Some(batch) = batches.next().await {
            for copied in batch {
                gathered.extend(copied?);
            }
            if gathered.len() >= BATCH {
                self.settle(std::mem::take(&mut gathered)).await?;
            }
        }
        self.settle(gathered).await
    }

    async fn settle(&self, copies: Vec<Copied>) -> Result<(), Failure> {
        if copies.is_empty() {
            return Ok(());
        }
        self.blobs.sync().await.map_err(Trouble::Io)?;
        let (index, blobs, id) = (self.index.clone(), self.blobs.clone(), self.snapshot.id);
        // To the end, also when nobody waits any more: rows and blobs would part.
        let settling = tokio::spawn(async move {
            let (rows, fresh): (Vec<_>, Vec<_>) =
                copies.into_iter().map(|(key, object, fresh)| ((key, object), fresh)).unzip();
            let added = index.add_to_snapshot(id, &rows).await;
            // Whether a transaction that failed is in the index after all, only the next start's sweep can say.
            if !matches!(added, Ok(None)) {
                fresh.into_iter().for_each(Fresh::keep);
            }
            let freed = added?;
            let open = freed.is_some();
            blobs.unlink(freed.unwrap_or_default()).await;
            Ok::<_, Trouble>(open)
        });
        match settling.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Failure::transient("the snapshot was removed meanwhile")),
            Ok(Err(trouble)) => Err(trouble.into()),
            Err(_) => Err(Failure::Cancelled),
        }
    }
}

fn size_of(object: &aws_sdk_s3::types::Object) -> u64 {
    object.size.unwrap_or_default().unsigned_abs()
}

/// As browsers and upload tools guess it, by the name's ending.
fn content_type(key: &str) -> Option<String> {
    mime_guess::from_path(key).first().map(|found| found.to_string())
}

/// All files below a folder, in the order of their keys. Symbolic links are left out: where they lead, nobody has said.
fn walk(root: &Path, log: &Log) -> Result<Vec<Source>, Failure> {
    let unreadable = |path: &Path, why: std::io::Error| {
        Failure::permanent(format!("cannot read {}: {why}; it is the folder of a baseline's objects", path.display()))
    };
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|why| unreadable(&folder, why))? {
            let entry = entry.map_err(|why| unreadable(&folder, why))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|why| unreadable(&folder, why))?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let data = entry.metadata().map_err(|why| unreadable(&path, why))?;
                let below = path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned);
                let key = below.ok_or_else(|| {
                    Failure::permanent(format!("{} has a name that is not UTF-8, as keys are", path.display()))
                })?;
                files.push(Source { key, size: data.len(), modified: modified(&data), path });
            } else {
                log.line(&format!("left out: {}, which is no file", path.display()));
            }
        }
    }
    files.sort_by(|one, other| one.key.as_bytes().cmp(other.key.as_bytes()));
    Ok(files)
}

fn modified(data: &Metadata) -> i64 {
    let since = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default()
}

/// How far it is: a line every few seconds.
struct Progress<'a> {
    log: &'a Log,
    begun: Instant,
    total: u64,
    done: AtomicU64,
    /// Milliseconds after the beginning, of the last line.
    told: Arc<AtomicU64>,
}

const TELL: u64 = 2000;

impl<'a> Progress<'a> {
    fn new(log: &'a Log, total: u64) -> Progress<'a> {
        Progress { log, begun: Instant::now(), total, done: AtomicU64::new(0), told: Arc::default() }
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if passed - self.told.load(Ordering::Relaxed).min(passed) >= TELL {
            self.told.store(passed, Ordering::Relaxed);
            let left = self.total.saturating_sub(done) as f64 / done.max(1) as f64 * passed as f64;
            let left = Duration::from_secs_f64(left / 1000.0);
            self.log.line(&format!("copied {} of {}, {} left", human(done), human(self.total), spell(left)));
        }
    }
}

fn spell(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
