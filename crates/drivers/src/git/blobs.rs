//! Objects out of mirrors, one after another, from one `git cat-file` at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::mirror::Mirror;
use super::tree::Entry;

/// Hands out the objects of entries. Quick when asked mirror by mirror.
pub(super) struct Blobs {
    /// By the number that entries carry.
    mirrors: Vec<Arc<Mirror>>,
    open: Option<Open>,
    end: End,
}

/// The conversation with a `git cat-file --batch` of one mirror.
struct Open {
    mirror: usize,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

/// Ends the process from which objects come, now or when it would be started. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct End {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ended: bool,
    process: Option<Child>,
}

impl State {
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.kill();
    }
}

impl End {
    /// Nothing is handed out from now on.
    pub(super) fn now(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        state.kill();
    }
}

impl Blobs {
    /// From these mirrors; entries name them by their place.
    pub(super) fn new(mirrors: Vec<Arc<Mirror>>) -> Blobs {
        Blobs { mirrors, open: None, end: End::default() }
    }

    /// What ends it from elsewhere.
    pub(super) fn end(&self) -> End {
        self.end.clone()
    }

    /// Asks for an object; all of it must be read, then [`Blobs::finish`] called.
    pub(super) fn read(&mut self, entry: &Entry) -> io::Result<impl Read> {
        let open = self.open(entry.mirror)?;
        writeln!(open.ask, "{}", entry.object)?;
        let mut head = String::new();
        open.answer.read_line(&mut head)?;
        if head.trim_end() != format!("{} blob {}", entry.object, entry.size) {
            return Err(io::Error::other(format!("git does not hand out the object {}", entry.object)));
        }
        Ok((&mut open.answer).take(entry.size))
    }

    /// The newline behind an object. It is elsewhere if the object was shorter than its size.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut newline = [0];
        if let Some(open) = &mut self.open {
            open.answer.read_exact(&mut newline)?;
        }
        if newline == *b"\n" { Ok(()) } else { Err(io::Error::other("git handed out an object of another size")) }
    }

    /// A whole object.
    pub(super) fn whole(&mut self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(entry)?.read_to_end(&mut bytes)?;
        self.finish()?;
        Ok(bytes)
    }

    fn open(&mut self, mirror: usize) -> io::Result<&mut Open> {
        let open = match self.open.take().filter(|open| open.mirror == mirror) {
            Some(open) => open,
            None => self.start(mirror)?,
        };
        Ok(self.open.insert(open))
    }

    fn start(&self, mirror: usize) -> io::Result<Open> {
        let from = self.mirrors.get(mirror).ok_or_else(|| io::Error::other("an object of no repository"))?;
        let mut state = self.end.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.kill();
        if state.ended {
            return Err(io::Error::other("nobody reads on"));
        }
        let mut command = from.git.command(&from.folder, &["cat-file", "--batch"]);
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let pipes = (process.stdin.take(), process.stdout.take());
        state.process = Some(process);
        let (Some(ask), Some(answer)) = pipes else { return Err(io::Error::other("git has no pipes")) };
        Ok(Open { mirror, ask, answer: BufReader::with_capacity(64 << 10, answer) })
    }
}
