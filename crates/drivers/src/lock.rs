//! A lock between processes, held by one of them.

use std::fs::File;
use std::io;
use std::path::Path;

/// The lock on a file, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, making the file where it is absent; none if another process holds it.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn take(path: &Path) -> io::Result<Option<Lock>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(why)) => Err(why),
        }
    }
}

impl Drop for Lock {
    /// Closing would not do: a child process between its fork and its exec still has the file, and the lock with it.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
