//! The tables of the file, with their defaults.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use planner::identity::ProjectName;
use planner::policy::{ReportSettings, SourceSettings, StageMode};
use planner::units;
use serde::{Deserialize, Deserializer};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The domain under which environments are served.
    pub domain: String,
    /// Everything of the instance.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// What the world reaches; in the zone.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Listeners.
    #[serde(default)]
    pub listen: Listen,
    #[serde(default)]
    pub(super) front: Front,
    #[serde(default)]
    pub(super) console: Console,
    /// Watched repositories.
    #[serde(default)]
    pub project: Vec<Project>,
    /// The container engine.
    #[serde(default)]
    pub engine: Engine,
    /// The database server.
    #[serde(default)]
    pub database: Database,
    /// Addresses inside.
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) lifetime: LifetimeTable,
    /// The connection to GitHub.
    #[serde(default)]
    pub github: GitHubTable,
    #[serde(default)]
    pub(super) objects: Objects,
    /// Registries that ask who pulls.
    #[serde(default)]
    pub registry: Vec<Registry>,
    /// The file that it was read from, if it was.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// What it was parsed from.
    #[serde(skip)]
    pub(super) text: String,
    /// What the instance was started with: what needs a restart is as this says.
    #[serde(skip)]
    pub(super) started: String,
}

/// Addresses to listen on; each is bound by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Visitors.
    pub http: SocketAddr,
    /// Visitors by https, where we end TLS ourselves; 127.0.0.1:8443 if none is given.
    pub https: Option<SocketAddr>,
    /// The authoritative DNS, UDP and TCP; none with `front.dns = "off"`.
    pub dns: Option<SocketAddr>,
    /// The console.
    pub console: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Listen {
            http: SocketAddr::new(loopback, 8080),
            https: None,
            dns: None,
            console: SocketAddr::new(loopback, 8081),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Front {
    pub(super) tls: Tls,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) dns: Dns,
    #[serde(rename = "trusted_proxies")]
    _trusted_proxies: Option<NotYet>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dns {
    Authoritative,
    #[default]
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tls {
    #[default]
    Off,
    /// TLS ends in front of us: URLs are https, we listen in clear.
    Proxy,
    /// A local authority of ours signs the certificate.
    SelfSigned,
    /// Certificate and key are the operator's.
    Files,
    Acme,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub(super) url: Option<String>,
    #[serde(rename = "members")]
    _members: Option<NotYet>,
    #[serde(rename = "invites")]
    _invites: Option<NotYet>,
    #[serde(rename = "oidc")]
    _oidc: Option<NotYet>,
}

/// One watched repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its identity for good.
    pub name: ProjectName,
    /// A bare repository on this machine; or:
    pub git: Option<PathBuf>,
    /// `owner/name` of a repository on GitHub.
    pub github: Option<String>,
    /// Bases, whose pull requests are watched.
    #[serde(default = "main_branch")]
    pub branches: Vec<String>,
    /// Branches and tags staged like pull requests.
    #[serde(default)]
    pub refs: Vec<String>,
    #[serde(default = "on_request")]
    pub(super) stage: StageMode,
    #[serde(default)]
    pub(super) forks: Forks,
    #[serde(default = "two")]
    pub(super) keep: usize,
    #[serde(default)]
    pub(super) access: Access,
    #[serde(default)]
    pub(super) alias: Alias,
    #[serde(default)]
    pub(super) suffix: String,
    #[serde(default = "default_baseline")]
    pub(super) baselines: BTreeSet<String>,
    #[serde(default)]
    pub(super) images: BTreeSet<String>,
    /// Secrets of its trusted code, `NAME=value`, mode 0600.
    pub secrets: Option<PathBuf>,
    /// What of a commit is fetched beside its own tree.
    #[serde(default)]
    pub source: SourceSettings,
    #[serde(default = "half_an_hour", with = "units::duration")]
    pub(super) image_wait: Duration,
    #[serde(default = "empty_baseline")]
    pub(super) fork_baseline: String,
    /// Statuses and check runs that must be green first.
    #[serde(default)]
    pub wait_for: Vec<String>,
    /// Who approves foreign code: see [`drivers::github::Approvers`].
    #[serde(default)]
    pub approvers: Option<String>,
    /// Bots whose branches are the project's own, by login.
    #[serde(default)]
    pub bots: BTreeSet<String>,
    /// What does not stage itself.
    #[serde(default)]
    pub skip: Skip,
    #[serde(default)]
    pub(super) report: ReportSettings,
    #[serde(default, rename = "egress")]
    _egress: Option<NotYet>,
}

/// `skip = { … }`: pull requests that do not stage themselves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Skip {
    /// Drafts.
    pub drafts: bool,
    /// Of bots that `bots` does not name.
    pub bots: bool,
    /// With one of these labels.
    pub labels: BTreeSet<String>,
    /// That change nothing but such files: globs.
    pub paths: Vec<String>,
}

impl Default for Skip {
    fn default() -> Self {
        Skip { drafts: false, bots: true, labels: BTreeSet::new(), paths: Vec::new() }
    }
}

/// The connection to GitHub. With neither App nor token, what `sidestage github connect` left in `state_dir` is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitHubTable {
    /// Scheme and host, of an Enterprise Server.
    pub url: String,
    /// The number of the GitHub App.
    pub app_id: Option<u64>,
    /// Its private key in PEM, mode 0600.
    pub private_key_file: Option<PathBuf>,
    /// The secret of its webhook, mode 0600; while it is exchanged the other one on a second line.
    pub webhook_secret_file: Option<PathBuf>,
    /// A personal token instead of an App, mode 0600.
    pub token_file: Option<PathBuf>,
}

impl Default for GitHubTable {
    fn default() -> Self {
        let url = drivers::github::PUBLIC.to_owned();
        GitHubTable { url, app_id: None, private_key_file: None, webhook_secret_file: None, token_file: None }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Forks {
    #[default]
    Never,
    Approve,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Access {
    #[default]
    Members,
    Link,
    Public,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Alias {
    #[default]
    Redirect,
    Proxy,
}

/// The container engine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Its socket.
    pub socket: PathBuf,
    /// Foreign code may run on the engine's ordinary runtime, which is no boundary against a determined attacker.
    pub runc_for_forks: bool,
    #[serde(rename = "foreign")]
    _foreign: Option<NotYet>,
}

impl Default for Engine {
    fn default() -> Self {
        Engine { socket: "/var/run/docker.sock".into(), runc_for_forks: false, _foreign: None }
    }
}

/// The database server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// A server of the operator's, instead of one that Sidestage runs itself.
    pub url: Option<String>,
    /// Its role's password, mode 0600: see [`super::read_password`].
    pub password_file: Option<PathBuf>,
    /// Folder of PostgreSQL's programs; the newest installed one if none.
    pub bin_dir: Option<PathBuf>,
    /// False: nothing waits for the disk, and a loss of power loses every database. True if none is said.
    pub durable: Option<bool>,
    /// Extensions that manifests may name.
    pub extensions: BTreeSet<String>,
    /// A file that `sidestage storage create` has made, for templates and their clones.
    pub storage: Option<PathBuf>,
    /// Clones made ahead of each baseline's current version.
    pub(super) spares: u32,
    /// Bytes that all of them may take together.
    #[serde(with = "units::size")]
    pub(super) spare_disk: u64,
}

impl Default for Database {
    fn default() -> Self {
        let planner::policy::Spares { count: spares, disk: spare_disk } = planner::policy::Spares::default();
        Database {
            url: None,
            password_file: None,
            bin_dir: None,
            durable: None,
            extensions: BTreeSet::new(),
            storage: None,
            spares,
            spare_disk,
        }
    }
}

/// The object store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Objects {
    /// Manifests may open prefixes of their buckets to everybody.
    pub(super) public: bool,
    pub(super) endpoint: Option<String>,
    /// The bucket of the operator's in which objects live; files below `state_dir` if none.
    pub(super) bucket: Option<String>,
    pub(super) region: Option<String>,
    pub(super) credentials_file: Option<PathBuf>,
}

impl Default for Objects {
    fn default() -> Self {
        Objects { public: true, endpoint: None, bucket: None, region: None, credentials_file: None }
    }
}

/// A registry, and who we are to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Such as `ghcr.io`, with the port if it has one of its own.
    pub host: String,
    /// The account.
    pub user: String,
    /// Its password or token, mode 0600: see [`super::read_password`].
    pub password_file: PathBuf,
}

/// Addresses inside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// The service address; the first free of 10.255.0.1 to 10.255.0.254 if none.
    pub services: Option<Ipv4Addr>,
    /// Networks of environments are cut from this, a /28 each.
    pub pool: Ipv4Net,
}

impl Default for Network {
    fn default() -> Self {
        Network { services: None, pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 210, 0, 0), 16) }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsTable {
    pub(super) environments: usize,
    pub(super) awake: usize,
    pub(super) stopped: usize,
    pub(super) builds: usize,
    pub(super) cpu: f64,
    #[serde(with = "units::size")]
    pub(super) memory: u64,
    pub(super) connections: u32,
    pub(super) pids: u32,
    #[serde(with = "units::size")]
    pub(super) disk: u64,
    #[serde(with = "units::some_size")]
    pub(super) database: Option<u64>,
    #[serde(with = "units::some_size")]
    pub(super) objects: Option<u64>,
    pub(super) suspend_trusted: bool,
}

impl Default for LimitsTable {
    fn default() -> Self {
        LimitsTable {
            environments: 20,
            awake: 8,
            stopped: 50,
            builds: 1,
            cpu: 1.0,
            memory: 512 << 20,
            connections: 20,
            pids: 256,
            disk: 2 << 30,
            database: None,
            objects: None,
            suspend_trusted: false,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LifetimeTable {
    #[serde(with = "units::lifetime")]
    pub(super) idle: Duration,
    #[serde(with = "units::lifetime")]
    pub(super) sleep: Duration,
    #[serde(with = "units::lifetime")]
    pub(super) ttl: Duration,
}

impl Default for LifetimeTable {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        LifetimeTable { idle: minutes(15), sleep: minutes(120), ttl: minutes(5 * 24 * 60) }
    }
}

/// A key of the contract that this version does not know yet: an error that says so, never silently ignored.
#[derive(Debug, Clone)]
pub(super) struct NotYet;

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("not yet: this version of Sidestage does not know this key; take it out"))
    }
}

fn default_state_dir() -> PathBuf {
    "/var/lib/sidestage".into()
}
fn main_branch() -> Vec<String> {
    vec!["main".to_owned()]
}
fn half_an_hour() -> Duration {
    Duration::from_secs(30 * 60)
}
fn on_request() -> StageMode {
    StageMode::OnRequest
}
fn two() -> usize {
    2
}
fn empty_baseline() -> String {
    planner::facts::EMPTY_NAME.to_owned()
}
fn default_baseline() -> BTreeSet<String> {
    BTreeSet::from(["default".to_owned()])
}
