//! The log of one ensure: a build's output, or what a job printed, as lines in a file that people can follow.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Appends lines to a file, up to a limit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: Option<File>,
    left: u64,
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
        Ok(Log { inner: Arc::new(Mutex::new(Inner { file: Some(file), left: LIMIT })) })
    }

    /// Goes on behind what the file holds already.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append(path: &Path) -> io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let left = LIMIT.saturating_sub(file.metadata()?.len());
        Ok(Log { inner: Arc::new(Mutex::new(Inner { file: Some(file), left })) })
    }

    /// A log that nobody reads.
    #[must_use]
    pub fn none() -> Log {
        Log { inner: Arc::new(Mutex::new(Inner { file: None, left: 0 })) }
    }

    /// Appends text as it is. A full disk or a full log loses lines, never the work that they tell of.
    pub fn write(&self, text: &str) {
        let Ok(mut inner) = self.inner.lock() else { return };
        let size = text.len() as u64;
        let fits = size <= inner.left;
        let cut = !fits && inner.left > 0;
        inner.left = if fits { inner.left - size } else { 0 };
        if let Some(file) = &mut inner.file {
            if fits {
                let _ = file.write_all(text.as_bytes());
            } else if cut {
                let _ = file.write_all(b"\n[log cut at 20 MB]\n");
            }
        }
    }

    /// Appends one line.
    pub fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }
}
