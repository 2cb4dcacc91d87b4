//! What the fake GitHub remembers: accounts, repositories, pull requests, and what was written on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What the App is told of, unless it was made to be told of others.
const EVENTS: [&str; 6] = ["pull_request", "push", "issue_comment", "check_run", "repository", "delete"];

/// The account types of GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person.
    User,
    /// An app's or Dependabot's account.
    Bot,
    /// Owns repositories, has members and teams.
    Organization,
}

/// Somebody who can own, push or write.
#[derive(Debug, Clone)]
pub struct Account {
    /// For good.
    pub id: u64,
    /// May change.
    pub login: String,
    /// What it is.
    pub kind: Kind,
}

/// A repository, with a bare git repository of its own.
#[derive(Debug, Clone)]
pub struct Repo {
    /// For good.
    pub id: u64,
    /// An account.
    pub owner: u64,
    /// May change.
    pub name: String,
    /// Only for those with a role.
    pub private: bool,
    /// Read only.
    pub archived: bool,
    /// What it was forked from.
    pub fork_of: Option<u64>,
    /// Role names by account: `admin`, `maintain`, `write`, `triage`, `read`.
    pub roles: BTreeMap<u64, String>,
    /// Whether the App is installed on it.
    pub installed: bool,
    /// By number.
    pub pulls: BTreeMap<u64, Pull>,
    /// The next number of a pull request.
    pub next: u64,
    /// As they were created, with `id`, `number` and `author`.
    pub comments: Vec<Comment>,
    /// As they were created, with what GitHub adds.
    pub deployments: Vec<Deployment>,
    /// As they were created or changed.
    pub checks: Vec<Check>,
    /// As they were created.
    pub statuses: Vec<Status>,
    /// Names, with their protection rules.
    pub environments: BTreeMap<String, Vec<Value>>,
    /// Where its git objects are.
    pub git: PathBuf,
}

/// A pull request.
#[derive(Debug, Clone)]
pub struct Pull {
    /// In its repository.
    pub number: u64,
    /// Everywhere.
    pub id: u64,
    /// Anybody's text.
    pub title: String,
    /// The account that opened it.
    pub author: u64,
    /// None: it was deleted.
    pub head_repo: Option<u64>,
    /// The branch there.
    pub head_ref: String,
    /// 40 hex digits.
    pub head_sha: String,
    /// The branch that it is to go into.
    pub base_ref: String,
    /// 40 hex digits.
    pub base_sha: String,
    /// Not ready for review.
    pub draft: bool,
    /// Not closed.
    pub open: bool,
    /// Closed by merging.
    pub merged: bool,
    /// Names.
    pub labels: BTreeSet<String>,
    /// When it was opened.
    pub created: i64,
    /// When anything of it changed.
    pub updated: i64,
}

/// A comment on a pull request.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Everywhere.
    pub id: u64,
    /// Of the pull request.
    pub number: u64,
    /// The account.
    pub author: u64,
    /// Markdown.
    pub body: String,
    /// Seconds.
    pub created: i64,
    /// Seconds.
    pub updated: i64,
    /// What people reacted with: account and content.
    pub reactions: Vec<(u64, String)>,
}

/// A deployment, as it was asked for.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Everywhere.
    pub id: u64,
    /// Who asked.
    pub creator: u64,
    /// 40 hex digits.
    pub sha: String,
    /// What was sent.
    pub sent: Value,
    /// Seconds.
    pub created: i64,
    /// As they were sent, the oldest first, each with its id and seconds.
    pub statuses: Vec<(u64, i64, Value)>,
}

/// A check run, as it was sent last.
#[derive(Debug, Clone)]
pub struct Check {
    /// Everywhere.
    pub id: u64,
    /// All that was sent, later values over earlier ones.
    pub sent: Value,
    /// Made by another app than ours, such as CI.
    pub foreign: bool,
    /// Seconds.
    pub created: i64,
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct Status {
    /// Everywhere.
    pub id: u64,
    /// 40 hex digits.
    pub sha: String,
    /// What was sent.
    pub sent: Value,
    /// The account.
    pub creator: u64,
    /// Seconds.
    pub created: i64,
}

/// A token that opens the API.
#[derive(Debug, Clone)]
pub struct Token {
    /// Whose.
    pub of: Bearer,
    /// Seconds; none of a personal one.
    pub until: Option<i64>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// Nobody in particular.
    Anonymous,
    /// An account by its personal token.
    Account(u64),
    /// The App, by a signed statement of its own.
    App,
    /// The App's installation: repositories that the token was limited to, and its permissions.
    Installation {
        /// Empty: all of the installation.
        repositories: BTreeSet<u64>,
        /// Names and levels.
        permissions: BTreeMap<String, String>,
    },
}

/// The one App of this GitHub.
#[derive(Debug, Clone)]
pub struct App {
    /// Its number.
    pub id: u64,
    /// Its name in URLs; its account is `<slug>[bot]`.
    pub slug: String,
    /// The account that writes.
    pub bot: u64,
    /// PEM.
    pub key: String,
    /// PKCS#1, for checking what the App signs.
    pub public: Vec<u8>,
    /// For signatures of webhooks.
    pub secret: String,
    /// Its one installation.
    pub installation: u64,
    /// Names and levels.
    pub permissions: BTreeMap<String, String>,
    /// What it is told of.
    pub events: BTreeSet<String>,
    /// Codes of the manifest flow that were not redeemed.
    pub codes: BTreeMap<String, Value>,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// `http://127.0.0.1:port`.
    pub base: String,
    /// Where repositories are.
    pub folder: PathBuf,
    /// By id.
    pub accounts: BTreeMap<u64, Account>,
    /// Members of organisations' teams, by `org/slug`.
    pub teams: BTreeMap<String, BTreeSet<u64>>,
    /// By id.
    pub repos: BTreeMap<u64, Repo>,
    /// Names that repositories had before.
    pub moved: BTreeMap<String, u64>,
    /// By text.
    pub tokens: BTreeMap<String, Token>,
    /// The App.
    pub app: App,
    last: u64,
}

impl World {
    /// Nobody and nothing, but an App.
    #[must_use]
    pub fn new(base: String, folder: PathBuf, key: String, public: Vec<u8>) -> World {
        let bot = Account { id: 49_699_333, login: "sidestage-test[bot]".to_owned(), kind: Kind::Bot };
        let permissions = [
            ("metadata", "read"),
            ("contents", "read"),
            ("pull_requests", "write"),
            ("issues", "write"),
            ("deployments", "write"),
            ("checks", "write"),
            ("statuses", "read"),
            ("members", "read"),
        ];
        let app = App {
            id: 1001,
            slug: "sidestage-test".to_owned(),
            bot: bot.id,
            key,
            public,
            secret: "a secret of this test".to_owned(),
            installation: 77,
            permissions: permissions.map(|(name, level)| (name.to_owned(), level.to_owned())).into(),
            events: EVENTS.map(str::to_owned).into(),
            codes: BTreeMap::new(),
        };
        World {
            base,
            folder,
            accounts: BTreeMap::from([(bot.id, bot)]),
            teams: BTreeMap::new(),
            repos: BTreeMap::new(),
            moved: BTreeMap::new(),
            tokens: BTreeMap::new(),
            app,
            last: 5000,
        }
    }

    /// A number that nothing else has.
    pub fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Seconds since the epoch, by this GitHub's clock.
    #[must_use]
    pub fn now(&self) -> i64 {
        let real = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO).as_secs();
        i64::try_from(real).unwrap_or_default()
    }

    /// The account of that login; made if there is none.
    pub fn account(&mut self, login: &str) -> u64 {
        if let Some(known) = self.accounts.values().find(|account| account.login.eq_ignore_ascii_case(login)) {
            return known.id;
        }
        let kind = if login.ends_with("[bot]") { Kind::Bot } else { Kind::User };
        let id = self.next_id();
        self.accounts.insert(id, Account { id, login: login.to_owned(), kind });
        id
    }

    /// The account of that login, if there is one.
    #[must_use]
    pub fn find(&self, login: &str) -> Option<&Account> {
        self.accounts.values().find(|account| account.login.eq_ignore_ascii_case(login))
    }

    /// `owner/name`.
    #[must_use]
    pub fn full_name(&self, repo: &Repo) -> String {
        format!("{}/{}", self.accounts[&repo.owner].login, repo.name)
    }

    /// The repository of that `owner/name`, which may have another name by now.
    #[must_use]
    pub fn repo(&self, full_name: &str) -> Option<&Repo> {
        let named = |repo: &&Repo| self.full_name(repo).eq_ignore_ascii_case(full_name);
        let moved = || self.repos.get(self.moved.get(&full_name.to_lowercase())?);
        self.repos.values().find(named).or_else(moved)
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// When there is none.
    pub fn repo_mut(&mut self, full_name: &str) -> &mut Repo {
        let id = self.repo(full_name).unwrap_or_else(|| panic!("no repository {full_name}")).id;
        self.repos.get_mut(&id).expect("it was found")
    }

    /// What somebody may do in a repository: `admin`, …, `read` or `none`.
    #[must_use]
    pub fn role(&self, repo: &Repo, account: u64) -> String {
        if repo.owner == account {
            return "admin".to_owned();
        }
        let public = if repo.private { "none" } else { "read" };
        repo.roles.get(&account).cloned().unwrap_or_else(|| public.to_owned())
    }

    /// Whether the bearer may know of the repository.
    #[must_use]
    pub fn sees(&self, bearer: &Bearer, repo: &Repo) -> bool {
        match bearer {
            Bearer::Anonymous | Bearer::App => !repo.private,
            Bearer::Account(account) => self.role(repo, *account) != "none",
            Bearer::Installation { repositories, .. } => {
                let limited = repositories.is_empty() || repositories.contains(&repo.id);
                !repo.private || repo.installed && limited
            }
        }
    }

    /// The account in whose name the bearer writes.
    #[must_use]
    pub fn writer(&self, bearer: &Bearer) -> Option<u64> {
        match bearer {
            Bearer::Account(account) => Some(*account),
            Bearer::App | Bearer::Installation { .. } => Some(self.app.bot),
            Bearer::Anonymous => None,
        }
    }
}

/// A moment as GitHub writes it.
#[must_use]
pub fn timestamp(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).unwrap_or_default()
}
