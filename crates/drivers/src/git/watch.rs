//! Notices that refs changed, by looking at the files that hold them: no hook, no daemon, any file system.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How deep below `refs` folders are looked into.
const DEEPEST: usize = 32;

/// A number that differs when any ref differs. What cannot be read counts as it stands: absent.
pub(super) fn look(repository: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in ["packed-refs", "HEAD", "reftable/tables.list"] {
        note(fs::metadata(repository.join(file)).ok().as_ref(), &mut hasher);
    }
    walk(&repository.join("refs"), DEEPEST, &mut hasher);
    hasher.finish()
}

/// Git replaces a ref's file when it changes, so the new one has another inode even within one tick of the clock.
fn note(found: Option<&Metadata>, hasher: &mut DefaultHasher) {
    found.map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())).hash(hasher);
}

fn walk(folder: &Path, deepest: usize, hasher: &mut DefaultHasher) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let meta = entry.metadata().ok();
        entry.file_name().hash(hasher);
        note(meta.as_ref(), hasher);
        if deepest > 0 && meta.is_some_and(|meta| meta.is_dir()) {
            walk(&entry.path(), deepest - 1, hasher);
        }
    }
}
