//! Blobs: the bytes of objects and parts, under random names. Never a path made from a key.
//!
//! They are files of a [`Folder`], or objects in a [`Bucket`] of the operator's. A blob is safe there before the index
//! names it, and goes after the index has forgotten it. So a death at any moment leaves at most a blob that no row names;
//! [`Blobs::sweep`] removes those.

mod bucket;
mod folder;
mod probe;
mod sending;

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::checksum::{Digests, Sum};
use super::index::Index;
use super::quota::{Full, room};
use super::trouble::Trouble;
pub(super) use bucket::Bucket;
use folder::Folder;
use sending::Sending;

/// How much is gathered before it is written to a file.
const BUFFER: usize = 256 << 10;

/// Bytes of a blob, in pieces.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>;

/// A blob that is one part of a greater one.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) size: u64,
}

/// Where blobs are.
#[derive(Debug)]
enum Home {
    Folder(Folder),
    Bucket(Bucket),
}

/// All blobs.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    home: Arc<Home>,
    /// Written by now, not in the index yet.
    fresh: Arc<Mutex<HashSet<String>>>,
    /// One could not be removed.
    untidy: Arc<Notify>,
}

/// 32 hex digits from the system's random source.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|why| io::Error::other(why.to_string()))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn is_random(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Blobs {
    pub(super) fn in_folder(root: PathBuf, reserve: Option<u64>) -> io::Result<Blobs> {
        Ok(Blobs::new(Home::Folder(Folder::new(root, reserve)?), Arc::default()))
    }

    pub(super) fn in_bucket(bucket: Bucket) -> Blobs {
        let untidy = bucket.untidy.clone();
        Blobs::new(Home::Bucket(bucket), untidy)
    }

    fn new(home: Home, untidy: Arc<Notify>) -> Blobs {
        Blobs { home: Arc::new(home), fresh: Arc::default(), untidy }
    }

    /// Whether there is room for more. How much fits into somebody else's bucket is not ours to know.
    pub(super) fn room(&self) -> Result<(), Full> {
        match &*self.home {
            Home::Folder(folder) => room(&folder.root, folder.reserve),
            Home::Bucket(_) => Ok(()),
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashSet<String>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, name: String) -> Fresh {
        self.fresh().insert(name.clone());
        Fresh { blobs: self.clone(), name, kept: false }
    }

    /// An empty blob to write to, of what `whose` names: `<env>/<generation>` or a baseline's version.
    pub(super) async fn create(&self, whose: &str) -> io::Result<Writer> {
        match &*self.home {
            Home::Folder(folder) => {
                let (fresh, file) = self.file(folder).await?;
                Ok(Writer { fresh, way: Way::File(BufWriter::with_capacity(BUFFER, file)) })
            }
            Home::Bucket(bucket) => {
                let fresh = self.claim(format!("{whose}/{}", random_name()?));
                let sending = Sending::new(bucket, &fresh.name, None);
                Ok(Writer { fresh, way: Way::Sending(sending) })
            }
        }
    }

    /// A new file. It is made to the end also when nobody waits any more, and removed then: one that is made after its name
    /// was given up would stay there.
    async fn file(&self, folder: &Folder) -> io::Result<(Fresh, File)> {
        let (fresh, folder) = (self.claim(folder.name().await?), folder.clone());
        let making = tokio::spawn(async move { folder.create(&fresh.name).await.map(|file| (fresh, file)) });
        making.await.map_err(io::Error::other)?
    }

    /// Makes everything that was written survive a power failure: cheaper than one by one when there is much.
    pub(super) async fn sync(&self) -> io::Result<()> {
        match &*self.home {
            Home::Folder(folder) => folder.sync().await,
            Home::Bucket(_) => Ok(()),
        }
    }

    /// The bytes of `range`, in pieces. Not found when it was removed meanwhile.
    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> io::Result<Pieces> {
        match &*self.home {
            Home::Folder(folder) => folder.read(name, range).await,
            Home::Bucket(bucket) => bucket.read(name, range).await,
        }
    }

    /// One blob with the bytes of all of these, and the checksum of them all if one is wanted.
    pub(super) async fn join(
        &self,
        whose: &str,
        pieces: Vec<Piece>,
        digests: Option<Digests>,
    ) -> io::Result<(Fresh, Option<Sum>)> {
        match &*self.home {
            Home::Folder(folder) => {
                let (fresh, file) = self.file(folder).await?;
                let sum = folder.join((&fresh.name, file), &pieces, digests).await?;
                Ok((fresh, sum))
            }
            Home::Bucket(bucket) => {
                let fresh = self.claim(format!("{whose}/{}", random_name()?));
                let sum = Box::pin(bucket.join(&fresh.name, &pieces, digests)).await?;
                Ok((fresh, sum))
            }
        }
    }

    /// Removes blobs that the index has forgotten. What fails is left to a later sweep.
    pub(super) async fn unlink(&self, names: impl IntoIterator<Item = String>) {
        let names: Vec<String> = names.into_iter().collect();
        if let Err(why) = self.remove(&names).await {
            tracing::warn!(%why, "cannot remove a blob; it is tried again later");
            self.untidy.notify_one();
        }
    }

    async fn remove(&self, names: &[String]) -> io::Result<()> {
        match &*self.home {
            Home::Folder(folder) => folder.remove(names).await,
            Home::Bucket(bucket) => bucket.remove(names).await,
        }
    }

    /// Waits until something could not be removed.
    pub(super) async fn untidy(&self) {
        self.untidy.notified().await;
    }

    /// Removes every blob that no row names. Returns how many.
    ///
    /// # Errors
    /// Some could not be removed, or not be looked for.
    pub(super) async fn sweep(&self, index: &Index) -> Result<usize, Trouble> {
        let (mut removed, mut all) = (0, Ok(()));
        match &*self.home {
            Home::Folder(folder) => {
                for folder in folder.folders().await? {
                    let stale = self.stale(index, folder::names_in(&folder).await?).await?;
                    removed += stale.len();
                    all = self.remove(&stale).await.and(all);
                }
            }
            Home::Bucket(bucket) => {
                let mut pages = bucket.pages();
                while let Some(page) = bucket.next_names(&mut pages).await? {
                    let stale = self.stale(index, page).await?;
                    removed += stale.len();
                    all = self.remove(&stale).await.and(all);
                }
                let uploads = bucket.uploads().await?;
                let fresh = self.fresh().clone();
                for (name, upload) in uploads.into_iter().filter(|(name, _)| !fresh.contains(name)) {
                    bucket.abort(&name, &upload).await?;
                    removed += 1;
                }
            }
        }
        Ok(all.map(|()| removed)?)
    }

    /// The order makes it safe beside writers: what was listed, is not fresh afterwards and is in no row after that
    /// has been left by the dead.
    async fn stale(&self, index: &Index, mut listed: Vec<String>) -> Result<Vec<String>, Trouble> {
        let (Some(lowest), Some(highest)) = (listed.iter().min(), listed.iter().max()) else { return Ok(listed) };
        let fresh = self.fresh().clone();
        let known = index.blobs_between(lowest, highest).await?;
        listed.retain(|name| !fresh.contains(name) && !known.contains(name));
        Ok(listed)
    }
}

/// A blob that is being written. Dropped, it is removed.
pub(super) struct Writer {
    fresh: Fresh,
    way: Way,
}

enum Way {
    File(BufWriter<File>),
    Sending(Sending),
}

impl Writer {
    pub(super) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.way {
            Way::File(file) => file.write_all(data).await,
            Way::Sending(sending) => sending.write(data).await,
        }
    }

    /// All is written, but survives a power failure only after [`Blobs::sync`].
    pub(super) async fn finish(self) -> io::Result<Fresh> {
        match self.way {
            Way::File(mut file) => file.flush().await.map(|()| self.fresh),
            Way::Sending(sending) => send(sending, self.fresh).await,
        }
    }

    /// Makes the bytes and the name survive a power failure.
    pub(super) async fn seal(self) -> io::Result<Fresh> {
        match self.way {
            Way::File(mut file) => {
                file.flush().await?;
                file.get_ref().sync_all().await?;
                if let Home::Folder(folder) = &*self.fresh.blobs.home {
                    folder.sync_name(&self.fresh.name).await?;
                }
                Ok(self.fresh)
            }
            Way::Sending(sending) => send(sending, self.fresh).await,
        }
    }
}

/// To the end also when nobody waits any more: what arrives at the server after the blob was removed would stay there.
async fn send(sending: Sending, fresh: Fresh) -> io::Result<Fresh> {
    let ending = tokio::spawn(async move { sending.finish().await.map(|()| fresh) });
    ending.await.map_err(io::Error::other)?
}

/// A blob that the index does not name yet. Dropped, it is removed, unless it was kept.
#[derive(Debug)]
pub(super) struct Fresh {
    blobs: Blobs,
    name: String,
    kept: bool,
}

impl Fresh {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// To be called when a row names it, or may name it.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let (name, blobs) = (std::mem::take(&mut self.name), self.blobs.clone());
        match &*self.blobs.home {
            Home::Folder(folder) if !self.kept => folder.remove_at_once(&name),
            Home::Bucket(_) if !self.kept => {
                // At the end of the process nobody is left to do it, and the next start's sweep finds it.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(async move {
                        blobs.unlink([name.clone()]).await;
                        blobs.fresh().remove(&name);
                    });
                    return;
                }
            }
            _ => {}
        }
        blobs.fresh().remove(&name);
    }
}
