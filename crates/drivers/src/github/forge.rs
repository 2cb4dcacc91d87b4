//! One project's repository on GitHub.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use planner::command::Role;
use planner::event::{Head, Source};
use planner::forge::{Checks, Content, Person, Report};
use planner::identity::{Ref, Sha};
use planner::resource::Failure;
use planner::spec::Origin;

use super::client::As;
use super::query::{PullRequest, Repo};
use super::repository::{self, Repository};
use super::webhook::Target;
use super::{GitHub, Watched, check, checks, comment, deployment, refs, role, source};
use crate::Forge;
use crate::git::{Context, GitForge};

/// One project's repository.
pub struct GitHubForge {
    pub(super) github: Arc<GitHub>,
    pub(super) watched: Watched,
    /// The mirror and what is read from it.
    pub(super) mirror: GitForge,
    state: Mutex<State>,
    pub(super) roles: role::Cache,
    /// One look-up at a time.
    finding: tokio::sync::Mutex<()>,
}

/// What was learnt, and is learnt again after a restart.
#[derive(Default)]
struct State {
    repository: Option<Repository>,
    details: BTreeMap<u64, Detail>,
    refs: Option<refs::Known>,
}

/// What is asked of a pull request only when it changed.
#[derive(Debug, Clone)]
pub(super) struct Detail {
    pub(super) of: (String, Sha, String),
    pub(super) labels: BTreeSet<String>,
    pub(super) skipped_paths: bool,
}

impl Detail {
    /// When it changed last, where its head is, and into what it is to go.
    pub(super) fn key(pull: &PullRequest) -> (String, Sha, String) {
        (pull.updated_at.clone(), pull.head_ref_oid, pull.base_ref_name.clone())
    }
}

impl std::fmt::Debug for GitHubForge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitHubForge").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl GitHubForge {
    pub(super) fn new(github: Arc<GitHub>, watched: Watched) -> GitHubForge {
        let mirror = GitForge::mirror(watched.mirror.clone());
        GitHubForge {
            github,
            watched,
            mirror,
            state: Mutex::default(),
            roles: role::Cache::default(),
            finding: tokio::sync::Mutex::default(),
        }
    }

    /// The connection that it is reached by.
    #[must_use]
    pub fn connection(&self) -> Arc<GitHub> {
        self.github.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which repository it is, looked up once.
    pub(super) async fn repository(&self) -> Result<Repository, Failure> {
        let _alone = self.finding.lock().await;
        let known = self.state().repository.clone();
        if let Some(repository) = known {
            return Ok(repository);
        }
        let found = repository::find(&self.github, self).await?;
        self.state().repository = Some(found.clone());
        Ok(found)
    }

    pub(super) fn forget_repository(&self) {
        self.state().repository = None;
    }

    /// Takes over what a listing says of the repository itself: it may have another name.
    pub(super) fn is_now(&self, listed: &Repo) {
        if let Some(repository) = &mut self.state().repository
            && let Some((owner, name)) = listed.name_with_owner.split_once('/')
        {
            (repository.owner, repository.name) = (owner.to_owned(), name.to_owned());
            repository.private = listed.is_private;
        }
    }

    pub(super) fn detail(&self, pull: &PullRequest) -> Option<Detail> {
        self.state().details.get(&pull.number).filter(|detail| detail.of == Detail::key(pull)).cloned()
    }

    pub(super) fn keep(&self, pull: &PullRequest, detail: Detail) {
        self.state().details.insert(pull.number, detail);
    }

    pub(super) fn keep_only(&self, pulls: &[PullRequest]) {
        let open: BTreeSet<u64> = pulls.iter().map(|pull| pull.number).collect();
        self.state().details.retain(|number, _| open.contains(number));
    }

    pub(super) fn refs(&self) -> Option<refs::Known> {
        self.state().refs.clone()
    }

    pub(super) fn keep_refs(&self, refs: refs::Known) {
        self.state().refs = Some(refs);
    }

    pub(super) fn target(&self) -> Target {
        let state = self.state();
        let (id, name) = match &state.repository {
            Some(repository) => (Some(repository.id), repository.full()),
            None => (None, self.watched.repository.clone()),
        };
        Target { project: self.watched.project.clone(), id, name, waits: self.watched.waits }
    }

    /// Waits for a write's turn.
    pub(super) async fn turn(&self, who: As) -> Result<(), Failure> {
        self.github.budgets.turn(who).await
    }
}

#[async_trait]
impl Forge for GitHubForge {
    async fn heads(&self, also: &BTreeSet<Ref>) -> Result<Vec<Head>, Failure> {
        self.github.clone().gathered(self.watched.project.clone(), also.clone()).await
    }

    /// Webhooks tell, and go another way.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    async fn find(&self, name: &str) -> Result<Head, Failure> {
        refs::find(&self.github, self, name).await
    }

    async fn read(&self, sha: &Sha) -> Result<Source, Failure> {
        source::fetch(self, sha).await?;
        self.mirror.read(sha).await
    }

    async fn context(&self, of: &Origin, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
        source::fetch(self, &of.sha).await?;
        self.mirror.context(of, folder, dockerfile).await
    }

    async fn forget_all_but(&self, known: &BTreeSet<Sha>) -> Result<(), Failure> {
        self.mirror.forget_all_but(known).await
    }

    async fn role(&self, person: &Person) -> Result<Option<Role>, Failure> {
        role::of(self, person).await
    }

    async fn checks(&self, shas: &BTreeSet<Sha>) -> Result<BTreeMap<Sha, Checks>, Failure> {
        checks::of(self, shas).await
    }

    async fn report(&self, report: &Report) -> Result<u64, Failure> {
        match &report.content {
            Content::Comment { body } => comment::show(self, report, body).await,
            Content::Deployment { .. } => deployment::show(self, report).await,
            Content::Check { .. } => check::show(self, report).await,
        }
    }
}
