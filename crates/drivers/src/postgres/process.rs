//! Which processes belong to a server's data, and what they said last.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
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

/// What the server wrote last, since it was started.
pub(super) fn last_words(log: &Path, begun: u64) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(log)
        && file.seek(SeekFrom::Start(begun)).is_ok()
    {
        let _ = file.read_to_string(&mut text);
    }
    last_line(&text)
}

/// The line that tells why: the last fatal one, or the last.
pub(super) fn last_line(text: &str) -> String {
    let told = |line: &&str| line.contains("FATAL:") || line.contains("error:");
    let line = text.lines().rev().find(told).or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()));
    line.unwrap_or("it said nothing").trim().to_owned()
}
