//! GitHub, and its Enterprise Server, behind [`Forge`](crate::Forge).
//!
//! [`GitHub`] is the connection: one App or one token, for all projects. [`GitHubForge`] is one project's repository.
//! `client` asks and honours limits; `listing` turns one query for many repositories into heads; `webhook` judges
//! deliveries; `role` says what people may; `comment`, `deployment` and `check` show reports; `source` fetches commits
//! by git; `connect` makes an App, `inspect` says what a connection lacks.
//!
//! Repositories, people and Apps are known by number: names move, and are given to others.

mod budget;
mod check;
mod checks;
mod client;
mod comment;
pub mod connect;
mod count;
mod deployment;
mod forge;
mod gather;
mod inspect;
mod listing;
mod query;
mod refs;
mod repository;
mod role;
mod source;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use http::HeaderMap;
use planner::event::Head;
use planner::identity::{ProjectName, Ref};
use planner::resource::Failure;

pub use count::Asked;
pub use forge::GitHubForge;
pub use inspect::Finding;
pub use role::Approvers;

use crate::{Delivery, Refusal};
use client::Client;

/// Where everybody's GitHub is.
pub const PUBLIC: &str = "https://github.com";
/// The longest body of a webhook that GitHub sends, in bytes.
pub const LONGEST_DELIVERY: usize = 25 << 20;

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How we show who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a GitHub App.
    App {
        /// Its number.
        id: u64,
        /// Its private key, RSA in PEM.
        key: Hidden,
    },
    /// As the account of a personal token.
    Token(Hidden),
    /// As nobody: before there is an App.
    Nobody,
}

/// One connection to GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Scheme and host: [`PUBLIC`], or that of an Enterprise Server.
    pub url: String,
    /// Who we are.
    pub access: Access,
    /// Secrets of the webhook: the one that holds, and another while they are being exchanged. None: no webhooks.
    pub webhook_secrets: Vec<Hidden>,
    /// The instance's name: everything that we show carries it, and nothing of another is touched.
    pub instance: String,
}

/// One project's repository, and what is watched there.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The project.
    pub project: ProjectName,
    /// `owner/name`, as the operator wrote it.
    pub repository: String,
    /// Bases whose pull requests are watched.
    pub bases: Vec<String>,
    /// Branches and tags that are watched themselves.
    pub refs: GlobSet,
    /// Who approves.
    pub approvers: Approvers,
    /// Bots whose branches are the project's own, by login.
    pub bots: BTreeSet<String>,
    /// Whether labels are a reason for anything.
    pub labels: bool,
    /// Files whose change alone is no reason to stage; none if there are no such.
    pub skip_paths: Option<GlobSet>,
    /// Whether statuses and check runs are waited for.
    pub waits: bool,
    /// Where the mirror is, or will be.
    pub mirror: PathBuf,
}

/// The connection: one for all projects.
pub struct GitHub {
    client: Client,
    settings: Settings,
    forges: RwLock<BTreeMap<ProjectName, Weak<GitHubForge>>>,
    budgets: budget::Budgets,
    /// Projects that wait for the next listing.
    gathering: gather::Gathering,
    /// The number of the token's account, once it was asked for.
    account: tokio::sync::Mutex<Option<u64>>,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

/// Globs as `refs` and `skip.paths` have them.
///
/// # Errors
/// One line about the first that is none.
pub fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut globs = GlobSetBuilder::new();
    for glob in patterns {
        let glob = GlobBuilder::new(glob).literal_separator(true).build();
        globs.add(glob.map_err(|error| format!("{error}; write names such as \"main\" or globs such as \"docs/**\""))?);
    }
    globs.build().map_err(|error| error.to_string())
}

impl GitHub {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// One line about the URL or the key.
    pub fn new(settings: Settings) -> Result<Arc<GitHub>, String> {
        let client = Client::new(&settings.url, &settings.access)?;
        let (forges, budgets) = (RwLock::default(), budget::Budgets::default());
        let (account, gathering) = (tokio::sync::Mutex::default(), gather::Gathering::default());
        Ok(Arc::new(GitHub { client, settings, forges, budgets, gathering, account }))
    }

    /// The forge of one project. The last one made for a project is the one that webhooks mean.
    #[must_use]
    pub fn forge(self: &Arc<GitHub>, watched: Watched) -> Arc<GitHubForge> {
        let project = watched.project.clone();
        let forge = Arc::new(GitHubForge::new(self.clone(), watched));
        let mut forges = self.forges.write().unwrap_or_else(PoisonError::into_inner);
        forges.insert(project, Arc::downgrade(&forge));
        forge
    }

    /// What several projects' refs are, in as few queries as possible; with the refs that people asked for beside those
    /// that are watched. Each project is answered by itself: what fails of one says nothing of another.
    pub async fn heads(
        &self,
        asked: &BTreeMap<ProjectName, BTreeSet<Ref>>,
    ) -> BTreeMap<ProjectName, Result<Vec<Head>, Failure>> {
        let forges = self.forges();
        let forges: Vec<_> = asked.iter().filter_map(|(name, also)| Some((forges.get(name)?.clone(), also))).collect();
        listing::heads(self, &forges).await
    }

    /// Judges a delivery of a webhook: the signature over the raw bytes first.
    ///
    /// # Errors
    /// Not signed by one of the secrets, or not what GitHub's documentation says.
    pub fn accept(&self, headers: &HeaderMap, body: &[u8]) -> Result<Delivery, Refusal> {
        let targets: Vec<_> = self.forges().values().map(|forge| forge.target()).collect();
        webhook::accept(headers, body, &self.settings.webhook_secrets, &self.settings.instance, &targets)
    }

    /// What was asked since the start.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.client.count.asked()
    }

    /// Whether webhooks can come in: polling is only what makes up for lost ones then.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !self.settings.webhook_secrets.is_empty()
    }

    fn forges(&self) -> BTreeMap<ProjectName, Arc<GitHubForge>> {
        let forges = self.forges.read().unwrap_or_else(PoisonError::into_inner);
        forges.iter().filter_map(|(name, forge)| Some((name.clone(), forge.upgrade()?))).collect()
    }
}
