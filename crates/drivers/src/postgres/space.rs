//! Room on the disk: what is new is refused before it takes the room of what runs.

use std::path::{Path, PathBuf};

use planner::resource::Failure;

use super::progress::shown;

/// What is never filled by something new, in bytes: whatever runs needs room too.
const FLOOR: u64 = 2_000_000_000;
/// The share of the file system that is never filled by something new: one in so many.
const SHARE: u64 = 20;

/// The file system that databases lie on. None of a server that is not on this machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    pub(super) folder: Option<PathBuf>,
}

impl Space {
    /// Refuses what is new when so many more bytes would leave too little.
    ///
    /// # Errors
    /// Transient, with what is free and what would have to be.
    pub(super) fn admit(&self, expected: u64, what: &str) -> Result<(), Failure> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // What cannot be measured is left to the server to refuse.
        let Some((free, all)) = free(folder) else { return Ok(()) };
        let kept = FLOOR.max(all / SHARE);
        let wanted = kept.saturating_add(expected);
        if free >= wanted {
            return Ok(());
        }
        Err(Failure::transient(format!(
            "the disk of the databases ({}) has {} free, and {what} would need {}, of which {} stay free for what runs: \
             remove environments or baselines, or make room",
            folder.display(),
            shown(free),
            shown(wanted),
            shown(kept)
        )))
    }
}

/// Bytes that are free, and all that there are.
pub(super) fn free(folder: &Path) -> Option<(u64, u64)> {
    let disk = nix::sys::statvfs::statvfs(folder).ok()?;
    let unit = disk.fragment_size();
    Some((disk.blocks_available().saturating_mul(unit), disk.blocks().saturating_mul(unit)))
}
