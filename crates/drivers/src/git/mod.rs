//! The git forge: a bare repository on this machine as the place where commits come from.
//!
//! Every branch but the bases is a ref, until its tip is reachable from a base; `refs/pull/<n>/head` is a pull request
//! from a fork. Commits are fetched one by one, by sha, into a mirror of our own, and everything is read from there:
//! what git verified is what is built. Nothing of a repository is ever checked out or run.

mod context;
mod dockerignore;
mod mirror;
mod run;
mod tree;
mod watch;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use planner::event::{Head, Source};
use planner::identity::{Ref, Sha};
use planner::resource::Failure;

pub use context::Context;
pub use dockerignore::Dockerignore;

use crate::Forge;
use mirror::{Mirror, QUICK};
use run::{Error, clean};

/// How long at least between two looks at the files of a repository's refs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looking takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 50;

/// One project's repository.
#[derive(Debug)]
pub struct GitForge {
    mirror: Mirror,
    bases: Vec<String>,
    refs: GlobSet,
    /// What the refs' files looked like when they were listed last.
    listed: AtomicU64,
}

/// A ref as the repository has it.
struct Listed {
    full: String,
    /// The commit, behind an annotated tag too.
    sha: Sha,
    subject: String,
}

impl Listed {
    /// Reads a line of [`GitForge::list`]; none if it is no ref to a commit.
    fn read(line: &[u8]) -> Option<Result<Listed, Error>> {
        let fields: Vec<&[u8]> = line.splitn(6, |byte| *byte == 0).collect();
        let text = |at: usize| std::str::from_utf8(fields.get(at)?).ok();
        // A name that is no text cannot be shown, typed or stored.
        let full = text(0)?.to_owned();
        let sha = match (text(1)?, text(3)?) {
            ("commit", _) => text(2)?,
            (_, "commit") => text(4)?,
            _ => return None,
        };
        let subject = clean(&String::from_utf8_lossy(fields.get(5)?), 200);
        // Were they passed over, all refs of such a repository would seem closed.
        let sha = sha.parse().map_err(|_| Error::Refused("it names commits by SHA-256, which is not supported".into()));
        Some(sha.map(|sha| Listed { full, sha, subject }))
    }
}

impl GitForge {
    /// The forge of the repository at `source`, with its mirror in the folder `mirror` (made when first needed).
    /// `bases` are branches that are not staged themselves; what they reach is closed. `refs` are globs: the tags and
    /// bases that are staged all the same.
    ///
    /// # Errors
    /// One line about a glob or a path that cannot be used.
    pub fn new(source: PathBuf, mirror: PathBuf, bases: Vec<String>, refs: &[String]) -> Result<GitForge, String> {
        if !source.is_absolute() || !mirror.is_absolute() {
            return Err(format!("git = {source:?} must be an absolute path"));
        }
        let mut globs = GlobSetBuilder::new();
        for glob in refs {
            let glob = GlobBuilder::new(glob).literal_separator(true).build();
            globs.add(
                glob.map_err(|error| format!("refs: {error}; write names such as \"main\" or globs such as \"v*\""))?,
            );
        }
        let refs = globs.build().map_err(|error| format!("refs: {error}"))?;
        Ok(GitForge { mirror: Mirror::new(mirror, source), bases, refs, listed: AtomicU64::new(0) })
    }

    /// Opens the source of a build: `folder` of the commit's tree and the Dockerfile's path in there, both as the
    /// manifest has them. Fetches the commit if the mirror lost it.
    ///
    /// # Errors
    /// Permanent: a Dockerfile or folder that is not there, a tree that must not be used. Transient: git does not answer.
    pub async fn context(&self, sha: &Sha, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
        self.mirror.fetch(sha).await?;
        self.mirror.context(sha, folder, dockerfile).await
    }

    /// Lets the mirror go of every commit that is not among these. One that is asked for again is fetched again.
    ///
    /// # Errors
    /// Transient: git did not do it.
    pub async fn forget_all_but(&self, known: &BTreeSet<Sha>) -> Result<(), Failure> {
        self.mirror.forget_all_but(known).await
    }

    /// Returns soon after the refs have changed since [`Forge::heads`] looked last. A reason to look, nothing more.
    pub async fn changed(&self) {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let begun = Instant::now();
            if self.look().await != self.listed.load(Ordering::Relaxed) {
                return;
            }
            pause = LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE);
        }
    }

    /// What the refs' files look like now; 0 if nobody could look.
    async fn look(&self) -> u64 {
        let source = self.mirror.source();
        tokio::task::spawn_blocking(move || watch::look(&source)).await.unwrap_or_default()
    }

    /// All refs that point to commits.
    async fn list(&self) -> Result<Vec<Listed>, Error> {
        const FORMAT: &str = "--format=%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)%00%(contents:subject)";
        let source = self.mirror.source();
        let args = ["for-each-ref", FORMAT, "refs/heads", "refs/tags", "refs/pull"];
        let lines = self.mirror.git.run(&source, &args, QUICK).await?;
        lines.split(|byte| *byte == b'\n').filter_map(Listed::read).collect()
    }

    /// Full names of branches and pull requests whose tips no base reaches.
    async fn unmerged(&self, all: &[Listed]) -> Result<HashSet<String>, Error> {
        let tip = |base: &String| all.iter().find(|listed| listed.full.strip_prefix("refs/heads/") == Some(base));
        let merged = self.bases.iter().filter_map(tip).map(|base| format!("--no-merged={}", base.sha));
        let mut args = vec!["for-each-ref".to_owned(), "--format=%(refname)".to_owned()];
        args.extend(merged);
        args.extend(["refs/heads".to_owned(), "refs/pull".to_owned()]);
        let lines = self.mirror.git.run(&self.mirror.source(), &args, QUICK).await?;
        Ok(lines.split(|byte| *byte == b'\n').filter_map(|line| String::from_utf8(line.to_vec()).ok()).collect())
    }

    /// The ref as the planner knows it, if it is one that is staged.
    fn head(&self, listed: &Listed, unmerged: &HashSet<String>) -> Option<Head> {
        let sha = listed.sha;
        let open = || unmerged.contains(&listed.full);
        if let Some(branch) = listed.full.strip_prefix("refs/heads/") {
            let wanted = if self.bases.iter().any(|base| base == branch) { self.refs.is_match(branch) } else { open() };
            let name = Ref::Branch(branch.to_owned());
            return wanted.then(|| Head { name, sha, foreign: false, title: branch.to_owned() });
        }
        if let Some(tag) = listed.full.strip_prefix("refs/tags/") {
            let name = Ref::Tag(tag.to_owned());
            return self.refs.is_match(tag).then(|| Head { name, sha, foreign: false, title: tag.to_owned() });
        }
        let text = listed.full.strip_prefix("refs/pull/")?.strip_suffix("/head")?;
        // `07` would be a second name of 7.
        let number: u64 = text.parse().ok().filter(|number: &u64| number.to_string() == text)?;
        open().then(|| Head { name: Ref::Pull(number), sha, foreign: true, title: listed.subject.clone() })
    }
}

#[async_trait]
impl Forge for GitForge {
    async fn heads(&self) -> Result<Vec<Head>, Failure> {
        self.mirror.prepare().await?;
        // Before listing: what changes meanwhile is a reason to look again.
        self.listed.store(self.look().await, Ordering::Relaxed);
        let list = async {
            let all = self.list().await?;
            let unmerged = self.unmerged(&all).await?;
            Ok(all.iter().filter_map(|listed| self.head(listed, &unmerged)).collect())
        };
        list.await.map_err(|error| self.mirror.unanswered(&error))
    }

    async fn read(&self, sha: &Sha) -> Result<Source, Failure> {
        self.mirror.fetch(sha).await?;
        self.mirror.describe(sha).await
    }
}
