//! What the operator decides: the part of the configuration that the planner reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::ProjectName;
use crate::secrets::{SecretClass, Versions};

/// Everything that the operator decided, as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Lower case, no port, no trailing dot.
    pub domain: String,
    /// `http` or `https`: how visitors reach environments.
    pub scheme: String,
    /// The port of visitors' URLs, when it is not the scheme's own.
    pub port: Option<u16>,
    /// Base URL of the console, for links.
    pub console_url: Option<String>,
    /// Watched repositories.
    pub projects: BTreeMap<ProjectName, ProjectPolicy>,
    /// Limits of the machine.
    pub limits: Limits,
    /// Times.
    pub lifetime: Lifetime,
    /// What the zone answers.
    pub addresses: Vec<std::net::IpAddr>,
    /// Extensions of PostgreSQL that manifests may name.
    pub extensions: BTreeSet<String>,
    /// Clones of databases that are made ahead.
    pub spares: Spares,
    /// `[objects] public`: manifests may open prefixes of their buckets to everybody.
    pub objects_public: bool,
}

impl Policy {
    /// The last part of every host of a project; empty for none.
    #[must_use]
    pub fn suffix(&self, project: &ProjectName) -> &str {
        self.projects.get(project).map_or("", |project| &project.suffix)
    }

    /// As in a Host header: with the port unless it is the scheme's own.
    #[must_use]
    pub fn authority(&self, host: &str) -> String {
        self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The address of a host in full, as visitors type it.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("{}://{}", self.scheme, self.authority(host))
    }
}

/// Clones of databases that are made ahead, so that an environment's is there at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spares {
    /// For each baseline's current version; 0 makes none.
    pub count: u32,
    /// Bytes that all of them together may take: each counts as much as its template.
    pub disk: u64,
}

impl Default for Spares {
    fn default() -> Spares {
        Spares { count: 1, disk: 10 << 30 }
    }
}

/// When commits of a project are staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageMode {
    /// Never.
    Off,
    /// By the button, `/stage` or the CLI.
    #[serde(rename = "on request")]
    OnRequest,
    /// Every push after the first sight of a ref.
    Automatic,
}

/// One watched repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProjectPolicy {
    /// When commits are staged.
    pub stage: StageMode,
    /// `forks = "approve"`: foreign code may be approved. Otherwise it never runs.
    pub forks: bool,
    /// Newest ready commits kept per ref, at least 1.
    pub keep: usize,
    /// `access = "public"`: visitors need no sign-in.
    pub public: bool,
    /// `alias = "proxy"`.
    pub alias_proxy: bool,
    /// Last part of every host of the project, `--<suffix>`; empty for none.
    pub suffix: String,
    /// Baselines that manifests may name.
    pub baselines: BTreeSet<String>,
    /// The baseline that foreign code gets, whatever its manifest names.
    #[serde(default = "empty")]
    pub fork_baseline: String,
    /// Companions' images that manifests may name.
    pub images: BTreeSet<String>,
    /// Secrets that are set, by class: names and versions, never values.
    pub secrets: BTreeMap<SecretClass, Versions>,
    /// How long an image by CI is waited for.
    pub image_wait: Duration,
    /// What of a commit is fetched beside its own tree.
    pub source: SourceSettings,
    /// What matters of a forge with pull requests.
    #[serde(default)]
    pub forge: ForgeSettings,
}

/// What the operator decides about a forge with pull requests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForgeSettings {
    /// The project's commits come from such a forge.
    pub pulls: bool,
    /// Statuses and check runs that must be green first, by name.
    pub wait_for: Vec<String>,
    /// `skip.drafts`: pull requests that are drafts do not stage themselves.
    pub skip_drafts: bool,
    /// `skip.bots`: nor do those of bots.
    pub skip_bots: bool,
    /// `skip.labels`: nor do those with one of these labels.
    pub skip_labels: BTreeSet<String>,
    /// What is shown on the forge.
    pub report: ReportSettings,
}

impl Default for ForgeSettings {
    fn default() -> Self {
        ForgeSettings {
            pulls: false,
            wait_for: Vec::new(),
            skip_drafts: false,
            skip_bots: true,
            skip_labels: BTreeSet::new(),
            report: ReportSettings::default(),
        }
    }
}

/// `report = { … }`: which channels are used, each when something was staged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSettings {
    /// The sticky comment.
    pub comment: When,
    /// The deployment.
    pub deployment: When,
    /// The check.
    pub check: When,
    /// What deployments are deployments to.
    pub environment: String,
}

impl Default for ReportSettings {
    fn default() -> Self {
        let when = When::default();
        ReportSettings { comment: when, deployment: when, check: when, environment: "sidestage".to_owned() }
    }
}

/// When a channel is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum When {
    /// For commits that somebody staged, or that staged themselves.
    #[default]
    #[serde(rename = "when staged")]
    Staged,
    /// Not at all.
    #[serde(rename = "never")]
    Never,
}

fn empty() -> String {
    crate::facts::EMPTY_NAME.to_owned()
}

/// `source = { submodules = …, lfs = … }`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSettings {
    /// Submodules of the same forge and owner.
    pub submodules: bool,
    /// Objects of LFS.
    pub lfs: bool,
}

/// Limits of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Environments admitted at once.
    pub environments: usize,
    /// Environments that visits hold awake at once.
    pub awake: usize,
    /// Environments kept stopped, beyond which the longest unvisited go cold.
    pub stopped: usize,
    /// Builds at once.
    pub builds: usize,
    /// CPU per container, in thousandths.
    pub cpu: u32,
    /// Bytes of memory per container: the default, and the most a manifest may ask for.
    pub memory: u64,
    /// Processes per container.
    pub pids: u32,
    /// Bytes that a container may write, and the most that a companion's data may ask for.
    pub disk: u64,
    /// Connections of one environment's database.
    pub connections: u32,
    /// Bytes that one environment's database may hold; none is no bound.
    pub database: Option<u64>,
    /// Bytes that one environment's objects may hold; none is no bound.
    pub objects: Option<u64>,
    /// Whether trusted code's writes are suspended too when it is over them; foreign code's always are.
    pub suspend_trusted: bool,
}

/// Times after the last visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Awake to dozing.
    pub idle: Duration,
    /// Dozing to asleep.
    pub sleep: Duration,
    /// To expired.
    pub ttl: Duration,
}
