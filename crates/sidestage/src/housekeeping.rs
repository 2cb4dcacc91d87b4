//! Deletes our own files that nobody needs any more: logs of what is forgotten, commits in mirrors, mirrors of projects.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drivers::Forge;
use planner::identity::{ProjectName, Sha, Trust};
use planner::keeps::Keeps;
use planner::resource::Owner;
use tracing::warn;

use crate::state_dir::{StateDir, log_folder};

/// How often.
pub(crate) const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How long after the start, which has better things to do.
pub(crate) const FIRST: Duration = Duration::from_secs(600);
/// What was written within this time is left alone: it may belong to what came up since `keeps` was asked for.
const RECENT: Duration = Duration::from_secs(3600);

/// Deletes what `keeps` does not name. What cannot be deleted is told in the log and tried again the next time.
pub async fn sweep(dir: &StateDir, forges: &BTreeMap<ProjectName, Arc<dyn Forge>>, keeps: &Keeps) {
    tell(&dir.logs(), sweep_logs(&dir.logs(), keeps));
    tell(&dir.mirrors(), sweep_mirrors(&dir.mirrors(), keeps));
    for (project, forge) in forges {
        let commits = keeps.projects.get(project).map(|kept| &kept.commits);
        if let Some(commits) = commits
            && let Err(failure) = forge.forget_all_but(commits).await
        {
            warn!(%project, %failure, "housekeeping");
        }
    }
}

fn tell(folder: &Path, swept: io::Result<()>) {
    if let Err(error) = swept {
        warn!(%error, folder = %folder.display(), "housekeeping cannot delete what is not needed");
    }
}

fn sweep_logs(logs: &Path, keeps: &Keeps) -> io::Result<()> {
    // Images are shared: their logs stand below the project, and go when no commit with that tree is known any more.
    let mut shared: BTreeMap<String, &BTreeSet<Sha>> = BTreeMap::new();
    for (project, kept) in &keeps.projects {
        for trust in [Trust::Trusted, Trust::Approved] {
            shared.insert(log_folder(&Owner::Project(project.clone(), trust)), &kept.trees);
        }
    }
    let owned: BTreeSet<String> = keeps.owners.iter().map(log_folder).collect();
    sweep_folder(logs, |name| owned.contains(name) || shared.contains_key(name))?;
    for (folder, trees) in &shared {
        let known: BTreeSet<String> =
            trees.iter().map(|tree| format!("0-image-{}-", &tree.to_string()[..12])).collect();
        sweep_folder(&logs.join(folder), |name| known.iter().any(|known| name.starts_with(known)))?;
    }
    Ok(())
}

fn sweep_mirrors(mirrors: &Path, keeps: &Keeps) -> io::Result<()> {
    // Beside a mirror stands which repository of GitHub's it is of.
    let both = |project| [format!("{project}.git"), format!("{project}.github")];
    let kept: BTreeSet<String> = keeps.projects.keys().flat_map(both).collect();
    sweep_folder(mirrors, |name| kept.contains(name))
}

/// Deletes what stands in the folder, is not kept, and was not written lately.
fn sweep_folder(folder: &Path, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if is_kept(&entry.file_name().to_string_lossy()) || is_recent(&entry.path())? {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether it, or something directly in it, was written lately.
fn is_recent(path: &Path) -> io::Result<bool> {
    let is_old = |path: &Path| {
        let age = SystemTime::now().duration_since(std::fs::symlink_metadata(path)?.modified()?);
        // A time that lies ahead is no reason to delete anything.
        io::Result::Ok(age.is_ok_and(|age| age >= RECENT))
    };
    if !is_old(path)? {
        return Ok(true);
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            if !is_old(&entry?.path())? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
