//! The log of one ensure: a build's output, or what a job printed, as lines in a file that people can follow.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::{Veil, Veiled};

/// Appends lines to a file, up to a limit, without the values of secrets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: Option<File>,
    left: u64,
    veiled: Veiled,
}

/// The most that one log may hold, in bytes.
const LIMIT: u64 = 20 << 20;

impl Log {
    /// Starts the file anew.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        Ok(Log::new(Some(file), LIMIT))
    }

    /// Goes on behind what the file holds already.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let left = LIMIT.saturating_sub(file.metadata()?.len());
        Ok(Log::new(Some(file), left))
    }

    /// A log that nobody reads.
    #[must_use]
    pub fn none() -> Log {
        Log::new(None, 0)
    }

    fn new(file: Option<File>, left: u64) -> Log {
        Log { inner: Arc::new(Mutex::new(Inner { file, left, veiled: Veil::default().stream() })) }
    }

    /// The same log, in which nobody reads what this hides.
    #[must_use]
    pub fn behind(self, veil: &Veil) -> Log {
        if let Ok(mut inner) = self.inner.lock() {
            inner.veiled = veil.stream();
        }
        self
    }

    /// Appends text. A full disk or a full log loses lines, never the work that they tell of.
    pub fn write(&self, text: &str) {
        let Ok(mut inner) = self.inner.lock() else { return };
        let text = inner.veiled.push(text);
        inner.append(&text);
    }

    /// Appends what was held back since it may have become the value of a secret. To be called at the end.
    pub fn end(&self) {
        let Ok(mut inner) = self.inner.lock() else { return };
        let text = inner.veiled.rest();
        inner.append(&text);
    }

    /// Appends one line.
    pub fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }
}

impl Inner {
    fn append(&mut self, text: &str) {
        let size = text.len() as u64;
        let fits = size <= self.left;
        let cut = !fits && self.left > 0;
        self.left = if fits { self.left - size } else { 0 };
        if let Some(file) = &mut self.file {
            if fits {
                let _ = file.write_all(text.as_bytes());
            } else if cut {
                let _ = file.write_all(b"\n[log cut at 20 MB]\n");
            }
        }
    }
}

/// A log that nobody ended is whole all the same.
impl Drop for Inner {
    fn drop(&mut self) {
        let text = self.veiled.rest();
        self.append(&text);
    }
}
