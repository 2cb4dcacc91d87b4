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
}
