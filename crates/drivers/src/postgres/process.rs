//! Which processes belong to a server's data.

use std::fs;
use std::path::Path;

/// The server whose data this is: the process of the pid file, if it works in that folder.
pub(super) fn running(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    // A negative number marks a single-user backend, which is no server.
    let pid = text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
    works_in(pid, &data.canonicalize().ok()?).then_some(pid)
}

/// All processes that work in the folder: a server and its backends.
pub(super) fn workers(data: &Path) -> Vec<i32> {
    let Ok(data) = data.canonicalize() else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| works_in(*pid, &data)).collect()
}

fn works_in(pid: i32, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}
