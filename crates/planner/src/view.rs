//! What people see: the console's page, `sidestage ls`, the API and `report` show this and nothing else.

use serde::{Deserialize, Serialize};

use crate::identity::{EnvId, ProjectName, Ref, Sha, Time, Trust};

/// States of an environment, one list everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum State {
    Unstaged,
    Blocked,
    Queued,
    Building,
    Starting,
    Ready,
    Dozing,
    Asleep,
    Waking,
    Failed,
    Superseded,
    Expired,
    Removing,
    Removed,
}

impl State {
    /// The word used everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unstaged => "unstaged",
            State::Blocked => "blocked",
            State::Queued => "queued",
            State::Building => "building",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Dozing => "dozing",
            State::Asleep => "asleep",
            State::Waking => "waking",
            State::Failed => "failed",
            State::Superseded => "superseded",
            State::Expired => "expired",
            State::Removing => "removing",
            State::Removed => "removed",
        }
    }

    /// Nothing more will happen by itself.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Queued | State::Building | State::Starting | State::Waking | State::Removing)
    }
}

/// Everything that is shown, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// When.
    pub at: Time,
    /// The domain, with the port if it is not the scheme's own.
    pub domain: String,
    /// Projects by name.
    pub projects: Vec<ProjectView>,
    /// Places taken and places there are.
    pub places: (usize, usize),
    /// Baselines by name.
    #[serde(default)]
    pub baselines: Vec<BaselineView>,
    /// Lines about the installation: a backend or forge that does not answer, removals that are held, orphans. Each says what to do.
    pub warnings: Vec<String>,
}

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectView {
    /// Its name.
    pub name: ProjectName,
    /// Open refs, the most recently pushed first, then closed ones that still have an environment.
    pub refs: Vec<RefView>,
}

/// One ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefView {
    /// Which.
    pub name: Ref,
    /// Whether it is open.
    pub open: bool,
    /// Title of the pull request, or the ref's short name.
    pub title: String,
    /// Whether its code comes from outside the project.
    pub foreign: bool,
    /// The alias, `http(s)://pr-7.<domain>`.
    pub alias_url: String,
    /// Its commits, the newest first; at least its head.
    pub commits: Vec<CommitView>,
}

/// One commit of a ref, and the environment that it has or would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitView {
    /// The commit.
    pub sha: Sha,
    /// First line of its message.
    pub subject: String,
    /// Its author's name.
    pub author: String,
    /// The trust that holds.
    pub trust: Trust,
    /// The environment's id.
    pub env: EnvId,
    /// The canonical URL. It always answers.
    pub url: String,
    /// The state.
    pub state: State,
    /// One line: why this state, always set for blocked, queued, failed, superseded, expired, removed.
    pub reason: Option<String>,
    /// Since when.
    pub since: Time,
    /// The generation begun last; 0 if none.
    pub generation: u32,
    /// What becomes of the generation that comes up beside the one that serves (reset, rebuild): under way, or failed, and then
    /// the one that serves goes on. None when there is none such.
    #[serde(default)]
    pub next: Option<State>,
    /// When it was asked for, and how long it took to be ready the first time (ms).
    pub asked: Option<Time>,
    /// Milliseconds from asked to ready of the current generation.
    pub took: Option<u64>,
    /// Kept until unpinned.
    pub pinned: bool,
    /// Last visit.
    pub visited: Option<Time>,
    /// When it will be removed if nobody visits.
    pub expires: Option<Time>,
    /// Whether its removal is held back by the guard.
    pub held: bool,
    /// Names of containers and jobs whose logs can be read, `build` among them once there is one.
    pub logs: Vec<String>,
    /// Links of the manifest: name, path, note.
    pub links: Vec<(String, String, Option<String>)>,
    /// Secrets of the project changed since its processes were created: they apply at the next start.
    #[serde(default)]
    pub stale: bool,
    /// Whether an approval would let it run: false of foreign code where `forks = "never"`.
    #[serde(default)]
    pub approvable: bool,
    /// Further applications with hosts of their own: name and URL.
    #[serde(default)]
    pub apps: Vec<(String, String)>,
    /// Names of `[command.*]`.
    #[serde(default)]
    pub commands: Vec<String>,
    /// Names and schedules of `[cron.*]`.
    #[serde(default)]
    pub cron: Vec<(String, String)>,
    /// Containers that `run -p` may name: `web`, processes, applications.
    #[serde(default)]
    pub processes: Vec<String>,
    /// Where its data came from and what they measure; none if it has none.
    #[serde(default)]
    pub data: Option<DataView>,
}

/// The data of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataView {
    /// In words: `shop@3`, `empty`, `carried on from 1a2b3c4`.
    pub from: String,
    /// Since when.
    pub at: Time,
    /// Bytes of its database, where that is known.
    pub database: Option<u64>,
    /// Bytes of its objects, where that is known.
    pub objects: Option<u64>,
    /// One line when it holds more than the operator allows.
    pub over: Option<String>,
}

/// One baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineView {
    /// Its name.
    pub name: String,
    /// The version that new generations start from, such as `shop@3`; none until one is complete.
    pub current: Option<String>,
    /// What the next refresh reads its database from; none if nobody knows.
    pub database: Option<String>,
    /// And its objects.
    pub objects: Option<String>,
    /// The script that masks its database.
    pub mask: Option<String>,
    /// Extensions made before it is sealed.
    pub extensions: Vec<String>,
    /// When it is refreshed by itself: five fields, in UTC.
    pub every: Option<String>,
    /// When that is next.
    pub due: Option<Time>,
    /// Why the last refresh by the schedule could not begin.
    pub trouble: Option<String>,
    /// By how much a refresh may shrink before it is kept back, in percent.
    pub max_shrink: u8,
    /// Projects whose manifests may name it, or whose foreign code gets it.
    pub projects: Vec<ProjectName>,
    /// Its versions, the newest first.
    pub versions: Vec<VersionView>,
}

/// How far a version of a baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum VersionState {
    Making,
    /// It could not be made.
    Failed,
    /// Complete, and kept back: `use` takes it all the same.
    Kept,
    /// Complete, and not the current one.
    Ready,
    Current,
    /// Complete once, and its data cannot be found.
    Lost,
}

impl VersionState {
    /// The word used everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VersionState::Making => "making",
            VersionState::Failed => "failed",
            VersionState::Kept => "kept",
            VersionState::Ready => "ready",
            VersionState::Current => "current",
            VersionState::Lost => "lost",
        }
    }
}

/// One version of a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Such as `shop@3`.
    pub version: String,
    /// Its number.
    pub number: u32,
    /// How far it is.
    pub state: VersionState,
    /// One line: why.
    pub reason: Option<String>,
    /// Who asked for it; none if the schedule did.
    pub by: Option<String>,
    /// When it was asked for.
    pub asked: Option<Time>,
    /// When it was complete.
    pub sealed: Option<Time>,
    /// Bytes of its database.
    pub database: Option<u64>,
    /// Tables of its database.
    pub tables: Option<u64>,
    /// Bytes of its objects.
    pub objects: Option<u64>,
    /// How many objects.
    pub count: Option<u64>,
    /// Environments that start from it, by name.
    pub users: Vec<String>,
    /// Clones made ahead: how many there are, and how many are wanted.
    pub spares: (usize, usize),
    /// Names of its logs.
    pub logs: Vec<String>,
}
