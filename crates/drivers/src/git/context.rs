//! The source of a build: git's own objects written as a tar of our own. No checkout, no attributes, no hooks.
//!
//! Everything that can be refused is refused before the first byte; then the files stream from one `git cat-file`.
//! The same commit gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use planner::identity::Sha;
use planner::resource::Failure;

use super::dockerignore::Dockerignore;
use super::mirror::{Blob, Mirror};
use super::run::Error;
use super::tree::{Entry, Kind, Tree, folders};

/// The longest Dockerfile and the longest `.dockerignore`, in bytes.
const LONGEST: u64 = 256 << 10;
/// 1 January 1980: archives of some languages cannot hold an earlier time.
const EARLIEST: u64 = 315_532_800;

/// What an image is built from.
pub struct Context {
    /// The Dockerfile as the commit has it. The tar holds it too, unless `.dockerignore` names it.
    pub dockerfile: Vec<u8>,
    /// The context as a tar stream, `.dockerignore` applied. A failure on the way is an error of its end, so a reader
    /// that sees the end without one has all of it. Reading blocks.
    pub tar: Box<dyn Read + Send>,
    /// Lines for the build's log: what was left out, and why.
    pub notes: Vec<String>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl Mirror {
    /// Opens the source of a build of a fetched commit: `folder` of its tree, and the path of the Dockerfile in there.
    pub(super) async fn context(&self, sha: &Sha, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
        let tree = if folder == "." { sha.to_string() } else { format!("{sha}:{folder}") };
        if self.ask(&["ls-tree", "--full-tree", "--end-of-options", &tree]).await.is_err() {
            return Err(Failure::permanent(format!(
                "there is no folder {folder:?} in the commit: look at [build] context"
            )));
        }
        let text = self.dockerfile(&tree, dockerfile).await?;
        let mut ignore = self.dockerignore(&tree, dockerfile).await?;
        let failed = |error: Error| Failure::transient(format!("the commit {sha} cannot be read: {error}"));
        let listing = ["ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", &tree];
        let mut child = self.git.start(&self.folder, &listing).map_err(failed)?;
        let mut files = tokio::time::timeout(super::mirror::QUICK, Tree::read(&mut child, &mut ignore))
            .await
            .map_err(|_| failed(Error::Late(super::mirror::QUICK)))??;
        let time =
            self.ask(&["log", "-1", "--format=%ct", "--end-of-options", &sha.to_string()]).await.map_err(failed)?;
        let time = String::from_utf8_lossy(&time).trim().parse().unwrap_or(EARLIEST).max(EARLIEST);

        let mut blobs = self.blobs().map_err(|error| failed(error.into()))?;
        let read_links = move || {
            let targets = link_targets(&files, &mut blobs)?;
            files.keep_inner_links(&targets);
            Ok::<_, io::Error>((files, targets, blobs))
        };
        let links = tokio::task::spawn_blocking(read_links).await.map_err(io::Error::from).flatten();
        let (mut files, targets, mut blobs) = links.map_err(|error| failed(error.into()))?;

        let (reader, writer) = io::pipe().map_err(|error| failed(error.into()))?;
        let child = Arc::clone(&blobs.child);
        let notes = std::mem::take(&mut files.notes);
        let worker = std::thread::spawn(move || write(writer, &files.entries, &targets, &mut blobs, time));
        let tar = Box::new(Stream { pipe: Some(reader), worker: Some(worker), child });
        Ok(Context { dockerfile: text, tar, notes })
    }

    /// The text of the Dockerfile.
    async fn dockerfile(&self, tree: &str, path: &str) -> Result<Vec<u8>, Failure> {
        let refuse = |why: String| Err(Failure::permanent(why));
        match self.blob(tree, path, LONGEST).await? {
            Blob::File(bytes) => Ok(bytes),
            Blob::Absent => refuse(format!("no {path} in the commit: add one, or name it by [build] dockerfile")),
            Blob::TooLarge(bytes) => {
                refuse(format!("{path} has {bytes} bytes, and at most {LONGEST} are read; shorten it"))
            }
            Blob::Other(what) => refuse(format!("{path} is {what}; make it a regular file")),
        }
    }

    /// What the commit leaves out of the context: `<Dockerfile>.dockerignore` if there is one, else `.dockerignore`.
    async fn dockerignore(&self, tree: &str, dockerfile: &str) -> Result<Dockerignore, Failure> {
        for path in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            let text = match self.blob(tree, &path, LONGEST).await? {
                Blob::Absent => continue,
                Blob::File(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8; save it as UTF-8".to_owned()),
                Blob::TooLarge(bytes) => Err(format!("has {bytes} bytes, and at most {LONGEST} are read; shorten it")),
                Blob::Other(what) => Err(format!("is {what}; make it a regular file")),
            };
            let text = text.map_err(|why| Failure::permanent(format!("{path} {why}")))?;
            return Dockerignore::read(&text).map_err(|why| Failure::permanent(format!("{path} {why}")));
        }
        Ok(Dockerignore::default())
    }

    /// Starts a `git cat-file` that hands out one object after another.
    fn blobs(&self) -> io::Result<Blobs> {
        let mut command = self.git.command(&self.folder, &["cat-file", "--batch"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (Some(ask), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("git has no pipes"));
        };
        let child = Arc::new(Mutex::new(Process(child)));
        Ok(Blobs { ask, answer: BufReader::with_capacity(64 << 10, answer), child })
    }
}

/// A process that ends with the last who knows of it.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Objects from `git cat-file --batch`.
struct Blobs {
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    child: Arc<Mutex<Process>>,
}

impl Blobs {
    /// Asks for an object; all of it must be read, then [`Blobs::end`] called.
    fn read(&mut self, entry: &Entry) -> io::Result<impl Read> {
        writeln!(self.ask, "{}", entry.object)?;
        let mut head = String::new();
        self.answer.read_line(&mut head)?;
        if head.trim_end() != format!("{} blob {}", entry.object, entry.size) {
            return Err(io::Error::other(format!("git does not hand out the object {}", entry.object)));
        }
        Ok((&mut self.answer).take(entry.size))
    }

    /// The newline behind an object. It is elsewhere if the object was shorter than its size.
    fn end(&mut self) -> io::Result<()> {
        let mut newline = [0];
        self.answer.read_exact(&mut newline)?;
        if newline == *b"\n" { Ok(()) } else { Err(io::Error::other("git handed out an object of another size")) }
    }
}

/// Where the links of a tree lead, by their paths.
fn link_targets(files: &Tree, blobs: &mut Blobs) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let links = files.entries.iter().filter(|(_, entry)| entry.kind == Kind::Link);
    links
        .map(|(path, entry)| {
            let mut target = Vec::new();
            blobs.read(entry)?.read_to_end(&mut target)?;
            blobs.end()?;
            Ok((path.clone(), target))
        })
        .collect()
}

/// Writes the tar. Folders come before what they hold, so that the engine does not make them as it likes.
fn write(
    out: PipeWriter,
    entries: &[(String, Entry)],
    targets: &BTreeMap<String, Vec<u8>>,
    blobs: &mut Blobs,
    time: u64,
) -> io::Result<()> {
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
    for (path, entry) in entries {
        for folder in folders(path) {
            if made.insert(folder) {
                tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), format!("{folder}/"), io::empty())?;
            }
        }
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
        let content = blobs.read(entry)?;
        tar.append_data(&mut header(tar::EntryType::Regular, mode, entry.size), path, content)?;
        blobs.end()?;
    }
    tar.into_inner()?.flush()
}

/// The reading end of a tar that is being written. Its end is one only if the writer got to its own.
struct Stream {
    pipe: Option<PipeReader>,
    worker: Option<JoinHandle<io::Result<()>>>,
    child: Arc<Mutex<Process>>,
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
        if let Ok(mut child) = self.child.lock() {
            child.end();
        }
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}
