//! The git forge: a bare repository on this machine as the place where commits come from.
//!
//! Every branch but the bases is a ref, until its tip is reachable from a base; `refs/pull/<n>/head` is a pull request
//! from a fork. Any other branch or tag is a ref while somebody asks for it. Commits are fetched one by one, by sha, into a mirror of our own, and everything is read from there:
//! what git verified is what is built. Nothing of a repository is ever checked out or run.

mod blobs;
mod context;
mod dockerignore;
mod lfs;
mod mirror;
mod modules;
mod refs;
mod run;
mod stream;
mod tree;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use planner::command::Role;
use planner::event::{Head, Source};
use planner::forge::{Checks, Person, Report};
use planner::identity::{Ref, Sha};
use planner::policy::SourceSettings;
use planner::resource::Failure;
use planner::spec::Origin;

pub use context::Context;
pub use dockerignore::Dockerignore;

use crate::Forge;
use mirror::Mirror;
pub(crate) use refs::unknown;
pub(crate) use run::clean;

/// How long at least between two looks at the files of a repository's refs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looking takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 50;

/// One project's repository.
#[derive(Debug)]
pub struct GitForge {
    mirror: Arc<Mirror>,
    bases: Vec<String>,
    refs: GlobSet,
    extras: SourceSettings,
    /// Mirrors of submodules' repositories, by these.
    modules: Mutex<BTreeMap<PathBuf, Arc<Mirror>>>,
    /// What the refs' files looked like when they were listed last.
    listed: AtomicU64,
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
        let forge = GitForge::over(Mirror::new(mirror, Some(source)));
        Ok(GitForge { bases, refs, ..forge })
    }

    /// The mirror of a repository that another forge hands out: what was fetched is read from it, and nothing listed.
    pub(crate) fn mirror(mirror: PathBuf) -> GitForge {
        GitForge::over(Mirror::new(mirror, None))
    }

    fn over(mirror: Mirror) -> GitForge {
        GitForge {
            mirror: Arc::new(mirror),
            bases: Vec::new(),
            refs: GlobSet::empty(),
            extras: SourceSettings::default(),
            modules: Mutex::default(),
            listed: AtomicU64::new(0),
        }
    }

    /// Whether the commit is in the mirror.
    pub(crate) async fn has(&self, sha: &Sha) -> bool {
        self.mirror.has(sha).await
    }

    /// Fetches one commit into the mirror; see [`Mirror::fetch_from`].
    pub(crate) async fn fetch_from(&self, sha: &Sha, url: &str, token: &str) -> Result<(), Failure> {
        self.mirror.fetch_from(sha, url, token).await
    }

    /// The same forge, whose builds get this beyond the commit's own files.
    #[must_use]
    pub fn with(mut self, extras: SourceSettings) -> GitForge {
        self.extras = extras;
        self
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
}

#[async_trait]
impl Forge for GitForge {
    async fn heads(&self, also: &BTreeSet<Ref>) -> Result<Vec<Head>, Failure> {
        self.mirror.prepare().await?;
        // Before listing: what changes meanwhile is a reason to look again.
        self.listed.store(self.look().await, Ordering::Relaxed);
        let list = async {
            let all = self.list().await?;
            let unmerged = self.unmerged(&all).await?;
            Ok(all.iter().filter_map(|listed| self.head(listed, &unmerged, also)).collect())
        };
        list.await.map_err(|error| self.mirror.unanswered(&error))
    }

    async fn changed(&self) {
        GitForge::changed(self).await;
    }

    async fn find(&self, name: &str) -> Result<Head, Failure> {
        self.mirror.prepare().await?;
        let all = self.list().await.map_err(|error| self.mirror.unanswered(&error))?;
        self.pick(&all, name).await
    }

    async fn read(&self, sha: &Sha) -> Result<Source, Failure> {
        self.mirror.fetch(sha).await?;
        self.mirror.describe(sha).await
    }

    async fn context(&self, of: &Origin, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
        GitForge::context(self, of, folder, dockerfile).await
    }

    async fn forget_all_but(&self, known: &BTreeSet<Sha>) -> Result<(), Failure> {
        GitForge::forget_all_but(self, known).await
    }

    /// A repository knows no people.
    async fn role(&self, _: &Person) -> Result<Option<Role>, Failure> {
        Ok(None)
    }

    /// A repository has no checks: none ever says anything.
    async fn checks(&self, shas: &BTreeSet<Sha>) -> Result<BTreeMap<Sha, Checks>, Failure> {
        Ok(shas.iter().map(|sha| (*sha, Checks::new())).collect())
    }

    async fn report(&self, _: &Report) -> Result<u64, Failure> {
        Err(Failure::permanent("a git repository shows no reports"))
    }
}
