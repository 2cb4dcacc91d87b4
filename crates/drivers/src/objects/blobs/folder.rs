//! Blobs as files: `<x>/<yy>/<29 more hex digits>`, in two levels of folders.

use std::io::{self, Read, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::super::checksum::{Digests, Sum};
use super::{Piece, Pieces, is_random, random_name};

/// How much is read from a blob at once.
const CHUNK: usize = 128 << 10;

/// The folder of blobs.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    /// Bytes of the disk that are left free.
    pub(super) reserve: Option<u64>,
}

impl Folder {
    pub(super) fn new(root: PathBuf, reserve: Option<u64>) -> io::Result<Folder> {
        std::fs::create_dir_all(&root)?;
        Ok(Folder { root, reserve })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if !is_random(name) {
            let text = format!("{name:?} is no blob of a folder");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.root.join(&name[..1]).join(&name[1..3]).join(&name[3..]))
    }

    /// A name of a blob that is to be, whose folder is there.
    pub(super) async fn name(&self) -> io::Result<String> {
        let folder = self.clone();
        tokio::task::spawn_blocking(move || {
            let name = random_name()?;
            let path = folder.path(&name)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                std::fs::create_dir_all(parent)?;
                sync_folder(&folder.root)?;
                parent.parent().map_or(Ok(()), sync_folder)?;
            }
            Ok(name)
        })
        .await
        .map_err(io::Error::other)?
    }

    pub(super) async fn create(&self, name: &str) -> io::Result<File> {
        File::options().write(true).create_new(true).open(self.path(name)?).await
    }

    pub(super) async fn sync(&self) -> io::Result<()> {
        let root = std::fs::File::open(&self.root)?;
        let synced = tokio::task::spawn_blocking(move || nix::unistd::syncfs(root).map_err(io::Error::from));
        synced.await.map_err(io::Error::other)?
    }

    pub(super) async fn sync_name(&self, name: &str) -> io::Result<()> {
        let folder = self.path(name)?.parent().map(Path::to_owned).unwrap_or_default();
        File::open(folder).await?.sync_all().await
    }

    /// Opens a blob; reads stay whole even when it is unlinked meanwhile.
    async fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name)?).await
    }

    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> io::Result<Pieces> {
        let mut file = self.open(name).await?;
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start)).await?;
        }
        Ok(Box::pin(ReaderStream::with_capacity(file.take(range.end - range.start), CHUNK)))
    }

    /// Writes these one after the other into a new file, durably.
    pub(super) async fn join(
        &self,
        (name, target): (&str, File),
        pieces: &[Piece],
        mut digests: Option<Digests>,
    ) -> io::Result<Option<Sum>> {
        let mut sources = Vec::with_capacity(pieces.len());
        for piece in pieces {
            sources.push(self.open(&piece.name).await?.into_std().await);
        }
        let mut target = target.into_std().await;
        let copying = tokio::task::spawn_blocking(move || {
            for mut source in sources {
                match &mut digests {
                    // The kernel copies by itself, or only links extents, when nobody looks at the bytes.
                    None => io::copy(&mut source, &mut target).map(drop)?,
                    Some(digests) => copy_digesting(&mut source, &mut target, digests)?,
                }
            }
            target.sync_all()?;
            Ok::<_, io::Error>(digests.and_then(|digests| digests.finish().checksum))
        });
        let sum = copying.await.map_err(io::Error::other)??;
        self.sync_name(name).await?;
        Ok(sum)
    }

    /// Removes all that can be removed; the last error is that of one that cannot.
    pub(super) async fn remove(&self, names: &[String]) -> io::Result<()> {
        let mut failed = Ok(());
        for name in names {
            match tokio::fs::remove_file(self.path(name)?).await {
                Err(why) if why.kind() != io::ErrorKind::NotFound => failed = Err(why),
                _ => {}
            }
        }
        failed
    }

    pub(super) fn remove_at_once(&self, name: &str) {
        let _ = self.path(name).and_then(std::fs::remove_file);
    }

    /// Every folder that holds blobs.
    pub(super) async fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for first in "0123456789abcdef".chars() {
            let mut entries = match tokio::fs::read_dir(self.root.join(first.to_string())).await {
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            while let Some(entry) = entries.next_entry().await? {
                if entry.file_type().await?.is_dir() {
                    found.push(entry.path());
                }
            }
        }
        Ok(found)
    }
}

/// The blobs of one of [`Folder::folders`].
pub(super) async fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let last = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (first, middle) = (last(folder.parent()), last(Some(folder)));
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = format!("{first}{middle}{}", entry.file_name().to_string_lossy());
        if is_random(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn copy_digesting(source: &mut impl Read, target: &mut impl Write, digests: &mut Digests) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        digests.update(&buffer[..read]);
        target.write_all(&buffer[..read])?;
    }
}
