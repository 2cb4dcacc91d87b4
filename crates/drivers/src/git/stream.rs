//! Writes a context as a tar while it is being read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::blobs::{Blobs, End};
use super::tree::{Kind, Tree, folders};

/// What a tar is written from.
pub(super) struct Source {
    pub(super) tree: Tree,
    /// Where links lead, by their paths.
    pub(super) targets: BTreeMap<String, Vec<u8>>,
    /// Stores of LFS objects, by the number of the mirror.
    pub(super) stores: Vec<PathBuf>,
    pub(super) blobs: Blobs,
}

/// Starts the writer. All files bear the time, seconds since the Unix epoch.
pub(super) fn start(source: Source, time: u64) -> io::Result<Box<dyn Read + Send>> {
    let (reader, writer) = io::pipe()?;
    let end = source.blobs.end();
    let worker = std::thread::spawn(move || write(writer, source, time));
    Ok(Box::new(Stream { pipe: Some(reader), worker: Some(worker), end }))
}

/// Writes the tar. Folders come before what they hold, so that the engine does not make them as it likes.
fn write(out: PipeWriter, source: Source, time: u64) -> io::Result<()> {
    let Source { tree, targets, stores, mut blobs } = source;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, out));
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        header
    };
    let mut made = BTreeSet::new();
    // A submodule's folder is there as in a clone, be it filled or not.
    let modules: Vec<String> = tree.modules.iter().map(|module| format!("{module}/")).collect();
    let paths = modules.iter().map(|module| (module, None));
    for (path, entry) in paths.chain(tree.entries.iter().map(|(path, entry)| (path, Some(entry)))) {
        for folder in folders(path) {
            if made.insert(folder) {
                tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), format!("{folder}/"), io::empty())?;
            }
        }
        let Some(entry) = entry else { continue };
        if let Some(target) = targets.get(path) {
            let target = std::str::from_utf8(target).map_err(io::Error::other)?;
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            // As it is, where the header has room; only longer ones go through the crate, which tidies short ones up.
            match header.set_link_name_literal(target) {
                Ok(()) => tar.append_data(&mut header, path, io::empty())?,
                Err(_) => tar.append_link(&mut header, path, target)?,
            }
            continue;
        }
        let mode = if entry.kind == (Kind::File { executable: true }) { 0o755 } else { 0o644 };
        if let (Some(pointer), Some(store)) = (tree.pointers.get(path), stores.get(entry.mirror)) {
            let content = pointer.open(store)?;
            tar.append_data(&mut header(tar::EntryType::Regular, mode, pointer.size), path, content)?;
            continue;
        }
        let content = blobs.read(entry)?;
        tar.append_data(&mut header(tar::EntryType::Regular, mode, entry.size), path, content)?;
        blobs.finish()?;
    }
    tar.into_inner()?.flush()
}

/// The reading end of a tar that is being written. Its end is one only if the writer got to its own.
struct Stream {
    pipe: Option<PipeReader>,
    worker: Option<JoinHandle<io::Result<()>>>,
    end: End,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let broken = || io::Error::other("the context could not be read to its end");
        let count = self.pipe.as_mut().ok_or_else(broken)?.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(worker) = self.worker.take()
            && let Err(error) = worker.join().unwrap_or_else(|_| Err(broken()))
        {
            self.pipe = None;
            return Err(error);
        }
        Ok(count)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Either way the writer stops: its reader is gone, and what it reads from too.
        self.pipe = None;
        self.end.now();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
