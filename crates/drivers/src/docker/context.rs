//! The context of a build on its way to the engine: the tar of the source with our version of the Dockerfile.

use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use crate::git::Context;

/// Name under which our version of the Dockerfile travels.
pub(super) const DOCKERFILE: &str = ".sidestage.Dockerfile";

/// The engine deletes from the context, before any COPY, what this file names and it needs itself.
const IGNORE: &str = ".dockerignore\n.sidestage.Dockerfile\n";

/// Folder of a tar for BuildKit that holds the context, beside the Dockerfile. Only the classic builder can be told to
/// forget a file of the context.
pub(super) const FOLDER: &str = "context";

/// Which builder a tar is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// The context, and in it what the classic builder takes out again.
    Classic,
    /// The Dockerfile, and the context in [`FOLDER`].
    BuildKit,
}

/// Copies the context into the request's body with our Dockerfile in it. Runs on a thread of its own.
pub(super) fn feed(
    context: Context,
    dockerfile: &str,
    layout: Layout,
    out: &Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let feed = Feed { out, buffer: Vec::with_capacity(Feed::CHUNK) };
    let copied = copy(context.tar, dockerfile, layout, feed);
    if let Err(error) = &copied {
        // Aborts the request: half a context must never become an image.
        let _ = out.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }
    copied
}

fn copy(source: Box<dyn Read + Send>, dockerfile: &str, layout: Layout, out: Feed<'_>) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let folder = match layout {
        Layout::Classic => Path::new(""),
        Layout::BuildKit => Path::new(FOLDER),
    };
    if layout == Layout::BuildKit {
        append(&mut tar, DOCKERFILE, dockerfile)?;
        // There even if nothing is in it.
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, folder, io::empty())?;
    }
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        let ours = path == Path::new(".dockerignore") || path == Path::new(DOCKERFILE);
        if kind.is_pax_global_extensions() || (ours && layout == Layout::Classic) {
            continue;
        }
        let path = folder.join(path);
        let mut header = entry.header().clone();
        if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name()?) {
            let target = if kind.is_hard_link() { folder.join(target) } else { target.into_owned() };
            tar.append_link(&mut header, &path, target)?;
        } else {
            header.set_size(entry.size());
            tar.append_data(&mut header, &path, &mut entry)?;
        }
    }
    // What went wrong while the source was read shows at its very end.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if layout == Layout::Classic {
        append(&mut tar, DOCKERFILE, dockerfile)?;
        append(&mut tar, ".dockerignore", IGNORE)?;
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<Feed<'_>>, name: &str, content: &str) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content.as_bytes())
}

/// Hands what is written to the request's body in chunks.
struct Feed<'a> {
    out: &'a Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Feed<'_> {
    const CHUNK: usize = 64 << 10;
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(Self::CHUNK));
        self.out.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
