//! Submodules: which repositories they come from, and which of those a project may have.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use planner::resource::Failure;

use super::mirror::{Blob, Mirror};
use super::run::{Error, clean};

/// The file that names them.
const FILE: &str = ".gitmodules";
/// Its longest, in bytes.
const LONGEST: u64 = 256 << 10;

/// Why a submodule's repository is not fetched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is of another owner.
    Foreign,
    /// It would be of the same owner, and there is none.
    Absent(PathBuf),
}

/// The folder that stands for the owner of a repository, which is named by its own folder, not by a `.git` in there: all that lie right in it are the same owner's.
pub(super) fn owner(repository: &Path) -> Option<PathBuf> {
    // At the root would lie the whole machine.
    repository.parent()?.canonicalize().ok().filter(|folder| folder.parent().is_some())
}

/// The rule: a submodule's repository must be of the same owner as the project's, so that a commit gets nothing that
/// its project's operator did not put beside it. `base` is the repository whose `.gitmodules` has the URL.
///
/// # Errors
/// Which part of the rule it breaks.
pub(super) fn of_same_owner(owner: &Path, base: &Path, url: &str) -> Result<PathBuf, Unfit> {
    let path = if url.starts_with("./") || url.starts_with("../") {
        base.join(url)
    } else if let Some(path) = url.strip_prefix("file://") {
        percent_decode_str(path).decode_utf8().map_err(|_| Unfit::Foreign)?.into_owned().into()
    } else {
        PathBuf::from(url)
    };
    let path =
        straightened(&path).filter(|path| path.parent().and_then(|p| p.canonicalize().ok()).as_deref() == Some(owner));
    let path = path.ok_or(Unfit::Foreign)?;
    // As git does it, a URL may leave the ending out.
    let with_ending = PathBuf::from(format!("{}.git", path.display()));
    let found = [&path, &with_ending].into_iter().find(|path| path.is_dir()).and_then(|path| path.canonicalize().ok());
    let found = found.ok_or(Unfit::Absent(path))?;
    if found.parent() == Some(owner) { Ok(found) } else { Err(Unfit::Foreign) }
}

/// The path without `.` and `..`, by its letters; none if it is not absolute.
fn straightened(path: &Path) -> Option<PathBuf> {
    let mut straight = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(straight.pop()),
            Component::CurDir => {}
            other => straight.push(other),
        }
    }
    (straight.is_absolute() && !path.to_string_lossy().contains(char::is_control)).then_some(straight)
}

impl Mirror {
    /// URLs of a fetched commit's submodules by their paths, as its `.gitmodules` has them. Git itself reads the file.
    ///
    /// # Errors
    /// Permanent: the file cannot be understood. Transient: git does not answer.
    pub(super) async fn modules(&self, commit: &str) -> Result<BTreeMap<String, String>, Failure> {
        let refuse = |why: String| Err(Failure::permanent(format!("{FILE} {why}")));
        match self.blob(commit, FILE, LONGEST).await? {
            Blob::Absent => return Ok(BTreeMap::new()),
            Blob::File(_) => {}
            Blob::TooLarge(bytes) => {
                return refuse(format!("has {bytes} bytes, and at most {LONGEST} are read; shorten it"));
            }
            Blob::Other(what) => return refuse(format!("is {what}; make it a regular file")),
        }
        let blob = format!("--blob={commit}:{FILE}");
        let listed = match self.ask(&["config", &blob, "--no-includes", "-z", "--list"]).await {
            Ok(listed) => listed,
            Err(Error::Refused(why)) => return refuse(format!("cannot be read: {why}")),
            Err(error) => return Err(Failure::transient(format!("{FILE} cannot be read: {error}"))),
        };
        Ok(by_path(&String::from_utf8_lossy(&listed)))
    }
}

/// Reads git's listing of the file: `submodule.<name>.<key>`, a newline, the value, a zero byte.
fn by_path(listed: &str) -> BTreeMap<String, String> {
    let mut named: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for (key, value) in listed.split('\0').filter_map(|line| line.split_once('\n')) {
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else { continue };
        let module = named.entry(name).or_default();
        match key {
            "path" => module.0 = Some(value.trim_end_matches('/')),
            "url" => module.1 = Some(value),
            _ => {}
        }
    }
    let both = named.into_values().filter_map(|(path, url)| Some((path?.to_owned(), url?.to_owned())));
    both.collect()
}

/// The line for a submodule that is not fetched. `project` is what the operator named.
pub(super) fn refusal(path: &str, url: &str, owner: Option<&Path>, why: &Unfit) -> Failure {
    let url = clean(url, 200);
    Failure::permanent(match (why, owner) {
        (Unfit::Foreign, Some(owner)) => format!(
            "the submodule {path} comes from {url:?}, which is not of the project's own owner: only repositories right in \
             {} are fetched",
            owner.display()
        ),
        (Unfit::Foreign, None) => format!(
            "the submodule {path} comes from {url:?}, and the project's own repository lies in no folder whose \
             repositories are one owner's"
        ),
        (Unfit::Absent(place), _) => format!(
            "the submodule {path} comes from {url:?}, and there is no repository {}: put it there, or correct {FILE}",
            place.display()
        ),
    })
}
