//! What a commit's tree holds, judged before a byte of it is used: names, depth, number, sizes, where links lead.

use std::collections::{BTreeMap, BTreeSet};

use planner::resource::Failure;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::dockerignore::Dockerignore;
use super::lfs::Pointer;
use super::run::{self, Error, clean};

/// Folders above a file, and the file.
const DEEPEST: usize = 64;
/// Bytes of a path.
const LONGEST_PATH: usize = 1024;
/// Files, links and submodules.
const MOST_ENTRIES: usize = 50_000;
/// Bytes of all files.
const LARGEST: u64 = 512 << 20;
/// Bytes of one file.
const LARGEST_FILE: u64 = 100 << 20;
/// Bytes of one link's target.
const LONGEST_TARGET: u64 = 1024;
/// Links followed on the way to one target, as the kernel does it.
const MOST_HOPS: usize = 40;

/// A line of a tree's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Name of the object, for `git cat-file`.
    pub(super) object: String,
    /// Bytes; 0 if it is no file or link.
    pub(super) size: u64,
    /// Path within the listed tree, as git has it.
    pub(super) path: Vec<u8>,
    /// Which mirror has the object, by its place in the list of the context's.
    pub(super) mirror: usize,
}

/// What a line of a listing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File { executable: bool },
    Link,
    Folder,
    Submodule,
}

impl Entry {
    /// Reads `<mode> <type> <object> <size>\t<path>`, as `git ls-tree -l -z` prints it.
    pub(super) fn read(line: &[u8]) -> Option<Entry> {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mut fields = std::str::from_utf8(&line[..tab]).ok()?.split_ascii_whitespace();
        let kind = match fields.next()? {
            "100755" => Kind::File { executable: true },
            mode if mode.starts_with("100") => Kind::File { executable: false },
            "120000" => Kind::Link,
            "040000" => Kind::Folder,
            "160000" => Kind::Submodule,
            _ => return None,
        };
        let object = fields.nth(1)?.to_owned();
        let size = fields.next()?.parse().unwrap_or(0);
        Some(Entry { kind, object, size, path: line[tab + 1..].to_vec(), mirror: 0 })
    }
}

/// A folder of a commit, and where it stands in the context.
#[derive(Debug)]
pub(super) struct Place {
    /// Its mirror, by its place in the list of the context's.
    pub(super) mirror: usize,
    /// Path in the context with a slash behind; empty for all of it.
    pub(super) at: String,
}

/// The files and links to send, in git's order, and what else is known about them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) entries: Vec<(String, Entry)>,
    /// Where submodules stand: folders, be they filled or not.
    pub(super) modules: Vec<String>,
    /// What the files are instead, where they are pointers.
    pub(super) pointers: BTreeMap<String, Pointer>,
    /// Lines about what was left out.
    pub(super) notes: Vec<String>,
    bytes: u64,
}

impl Tree {
    /// Adds the listing of a whole folder from a running `git ls-tree -r -l -z`. Returns its submodules: path in the
    /// context, and commit.
    pub(super) async fn read(
        &mut self,
        child: &mut Child,
        place: &Place,
        ignore: &mut Dockerignore,
    ) -> Result<Vec<(String, String)>, Failure> {
        let lost = |error: Error| Failure::transient(format!("the commit's files cannot be listed: {error}"));
        let mut modules = Vec::new();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        if let Some(stdout) = stdout {
            let mut lines = BufReader::new(stdout);
            let mut line = Vec::new();
            while lines.read_until(0, &mut line).await.map_err(|error| lost(error.into()))? > 0 {
                modules.extend(self.add(line.strip_suffix(b"\0").unwrap_or(&line), place, ignore)?);
                line.clear();
            }
        }
        let complaint = run::read(stderr, 4096).await.map_err(lost)?;
        run::ended(child, &complaint).await.map_err(lost)?;
        Ok(modules)
    }

    fn add(
        &mut self,
        line: &[u8],
        place: &Place,
        ignore: &mut Dockerignore,
    ) -> Result<Option<(String, String)>, Failure> {
        let refuse = |path: &[u8], why: &str| {
            let path = clean(&String::from_utf8_lossy(path).escape_debug().to_string(), 200);
            Err(Failure::permanent(format!("the commit holds \"{path}\", {why}")))
        };
        let Some(mut entry) = Entry::read(line) else {
            return refuse(line, "which is no line of a tree");
        };
        entry.mirror = place.mirror;
        entry.path.splice(..0, place.at.bytes());
        let shown = String::from_utf8_lossy(&entry.path);
        let is_module = matches!(entry.kind, Kind::Submodule | Kind::Folder);
        if ignore.excludes(&shown) && !(is_module && ignore.may_keep_below(&shown)) {
            return Ok(None);
        }
        let path = match check_path(&entry.path) {
            Ok(path) => path.to_owned(),
            Err(why) => return refuse(&entry.path, why),
        };
        if self.entries.len() + self.modules.len() >= MOST_ENTRIES {
            return Err(Failure::permanent(format!(
                "the commit has more than {MOST_ENTRIES} files; name in .dockerignore what the image does not need"
            )));
        }
        if is_module {
            self.modules.push(path.clone());
            return Ok(Some((path, entry.object)));
        }
        let most = if entry.kind == Kind::Link { LONGEST_TARGET } else { LARGEST_FILE };
        if entry.size > most {
            return refuse(
                &entry.path,
                &format!("which has {} bytes of at most {most}; name it in .dockerignore", entry.size),
            );
        }
        self.count(entry.size)?;
        self.entries.push((path, entry));
        Ok(None)
    }

    fn count(&mut self, bytes: u64) -> Result<(), Failure> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > LARGEST {
            return Err(Failure::permanent(format!(
                "the commit's files have more than {LARGEST} bytes; name in .dockerignore what the image does not need"
            )));
        }
        Ok(())
    }

    /// From now on this file is what the pointer says.
    pub(super) fn resolve(&mut self, path: &str, pointer: &Pointer) -> Result<(), Failure> {
        self.count(pointer.size)?;
        self.pointers.insert(path.to_owned(), pointer.clone());
        Ok(())
    }

    /// Refuses two things in one place: a name twice, or a file with files below it.
    pub(super) fn check_places(&self) -> Result<(), Failure> {
        let mut places = BTreeSet::new();
        let twice = |path: &str| {
            Err(Failure::permanent(format!("the commit holds {path:?} twice; such a tree cannot be used")))
        };
        for path in self.entries.iter().map(|(path, _)| path).chain(&self.modules) {
            if !places.insert(path.as_str()) {
                return twice(path);
            }
        }
        for module in &self.modules {
            places.remove(module.as_str());
        }
        for path in self.entries.iter().map(|(path, _)| path).chain(&self.modules) {
            if let Some(folder) = folders(path).find(|folder| places.contains(folder)) {
                return twice(folder);
            }
        }
        Ok(())
    }

    /// Leaves out the links that lead out of the tree; `targets` holds every link's target by its path.
    pub(super) fn keep_inner_links(&mut self, targets: &BTreeMap<String, Vec<u8>>) {
        let notes = &mut self.notes;
        self.entries.retain(|(path, entry)| {
            let stays = entry.kind != Kind::Link || stays_inside(path, targets);
            if !stays {
                let target = targets.get(path).map(|target| String::from_utf8_lossy(target)).unwrap_or_default();
                notes.push(format!(
                    "left out: {path} is a link that leads out of the repository, to {:?}",
                    clean(&target, 200)
                ));
            }
            stays
        });
    }
}

/// The folders above a path, the outermost first.
pub(super) fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// The path as text, or why it may not be used.
fn check_path(path: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "whose name is not UTF-8; rename it")?;
    if text.len() > LONGEST_PATH {
        return Err("whose path has more than 1024 bytes; shorten it");
    }
    if text.chars().any(char::is_control) {
        return Err("whose name holds a control character; rename it");
    }
    let mut parts = 0;
    for part in text.split('/') {
        parts += 1;
        match part {
            "" | "." | ".." => return Err("which is no path within a tree"),
            part if part.eq_ignore_ascii_case(".git") => return Err("which would be a repository of its own"),
            _ => {}
        }
    }
    if parts > DEEPEST { Err("which lies more than 64 folders deep") } else { Ok(text) }
}

/// Whether following a link, and every link on its way, never leaves the tree.
fn stays_inside(link: &str, targets: &BTreeMap<String, Vec<u8>>) -> bool {
    let mut place: Vec<&str> = link.split('/').collect();
    let mut ahead: Vec<&str> = Vec::new();
    let mut hops = 0;
    loop {
        if let Some(target) = targets.get(&place.join("/")) {
            hops += 1;
            let Ok(target) = std::str::from_utf8(target) else { return false };
            if hops > MOST_HOPS || target.is_empty() || target.starts_with('/') || target.chars().any(char::is_control)
            {
                return false;
            }
            place.pop();
            ahead.extend(target.split('/').rev());
        }
        match ahead.pop() {
            None => return true,
            Some("" | ".") => {}
            Some("..") if place.pop().is_none() => return false,
            Some("..") => {}
            Some(part) => place.push(part),
        }
    }
}
