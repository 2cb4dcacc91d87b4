//! Blobs: the bytes of objects and parts, one file each, under random names. Never a path made from a key.
//!
//! A blob is on the disk, synced, before the index names it, and leaves the disk after the index has forgotten it. So a
//! death at any moment leaves at most a file that no row names; [`Blobs::sweep`] removes those.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::index::Index;
use super::quota::{Full, room};
use super::trouble::Trouble;

/// How much is read from a blob at once.
const CHUNK: usize = 128 << 10;

/// The folder of blobs: `<x>/<yy>/<29 more hex digits>` in two levels.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    root: PathBuf,
    /// Written by now, not in the index yet.
    fresh: Arc<Mutex<HashSet<String>>>,
    /// Bytes of the disk that are left free.
    reserve: Option<u64>,
}

/// 32 hex digits from the system's random source.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|why| io::Error::other(why.to_string()))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn is_name(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Blobs {
    pub(super) fn new(root: PathBuf, reserve: Option<u64>) -> io::Result<Blobs> {
        std::fs::create_dir_all(&root)?;
        Ok(Blobs { root, fresh: Arc::default(), reserve })
    }

    /// Whether there is room for more.
    pub(super) fn room(&self) -> Result<(), Full> {
        room(&self.root, self.reserve)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(&name[..1]).join(&name[1..3]).join(&name[3..])
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn claim(&self) -> io::Result<Fresh> {
        let blobs = self.clone();
        tokio::task::spawn_blocking(move || blobs.claim_blocking()).await.map_err(io::Error::other)?
    }

    fn claim_blocking(&self) -> io::Result<Fresh> {
        let name = random_name()?;
        let path = self.path(&name);
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            std::fs::create_dir_all(folder)?;
            sync_folder(&self.root)?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        self.fresh().insert(name.clone());
        Ok(Fresh { blobs: self.clone(), name, path, kept: false })
    }

    /// An empty blob to write to.
    pub(super) async fn create(&self) -> io::Result<(Fresh, File)> {
        let fresh = self.claim().await?;
        let file = File::options().write(true).create_new(true).open(&fresh.path).await?;
        Ok((fresh, file))
    }

    /// Makes everything that was written survive a power failure: cheaper than one by one when there is much.
    pub(super) async fn sync(&self) -> io::Result<()> {
        let root = std::fs::File::open(&self.root)?;
        let synced = tokio::task::spawn_blocking(move || nix::unistd::syncfs(root).map_err(io::Error::from));
        synced.await.map_err(io::Error::other)?
    }

    /// Opens a blob; reads stay whole even when it is unlinked meanwhile.
    pub(super) async fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name)).await
    }

    /// The bytes of `range`, in pieces.
    pub(super) async fn read(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<>> {
        let mut file = self.open(name).await?;
        if range.start > 0 {
            file.seek(io::SeekFrom::Start(range.start)).await?;
        }
        Ok(ReaderStream::with_capacity(file.take(range.end - range.start), CHUNK))
    }

    /// Removes blobs that the index has forgotten. A failure costs disk until the next start's sweep.
    pub(super) async fn unlink(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if let Err(why) = tokio::fs::remove_file(self.path(&name)).await
                && why.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(blob = name, %why, "cannot remove a blob; it is tried again at the next start");
            }
        }
    }

    /// Removes every blob that no row names. Returns how many.
    ///
    /// The order makes it safe beside writers: what was listed, is not fresh afterwards and is in no row after that
    /// has been left by the dead.
    pub(super) async fn sweep(&self, index: &Index) -> Result<usize, Trouble> {
        let mut removed = 0;
        for first in "0123456789abcdef".chars() {
            for folder in subfolders(&self.root.join(first.to_string())).await? {
                let listed = names_in(&folder, first).await?;
                let (Some(lowest), Some(highest)) = (listed.iter().min(), listed.iter().max()) else { continue };
                let fresh = self.fresh().clone();
                let known = index.blobs_between(lowest, highest).await?;
                let stale: Vec<String> =
                    listed.iter().filter(|name| !fresh.contains(*name) && !known.contains(*name)).cloned().collect();
                removed += stale.len();
                self.unlink(stale).await;
            }
        }
        Ok(removed)
    }
}

async fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_type().await?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

async fn names_in(folder: &Path, first: char) -> io::Result<Vec<String>> {
    let middle = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = format!("{first}{middle}{}", entry.file_name().to_string_lossy());
        if is_name(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// A blob that the index does not name yet. Dropped, it is removed, unless it was kept.
#[derive(Debug)]
pub(super) struct Fresh {
    blobs: Blobs,
    name: String,
    path: PathBuf,
    kept: bool,
}

impl Fresh {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the bytes and the name survive a power failure.
    pub(super) async fn seal(&self, mut file: File) -> io::Result<()> {
        file.flush().await?;
        file.sync_all().await?;
        self.sync_name().await
    }

    async fn sync_name(&self) -> io::Result<()> {
        let folder = self.path.parent().map(Path::to_owned).unwrap_or_default();
        File::open(folder).await?.sync_all().await
    }

    /// To be called when a row names it, or may name it.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
        self.blobs.fresh().remove(&self.name);
    }
}
