//! `sidestage.toml`: what the operator decides. Every field is documented in `deploy/sidestage.example.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use planner::identity::ProjectName;
use planner::policy::{Lifetime, Limits, Policy, ProjectPolicy, StageMode};
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
    front: Front,
    #[serde(default)]
    console: Console,
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
    limits: LimitsTable,
    #[serde(default)]
    lifetime: LifetimeTable,
    #[serde(default, rename = "github")]
    _github: Option<NotYet>,
    #[serde(default, rename = "objects")]
    _objects: Option<NotYet>,
    #[serde(default, rename = "registry")]
    _registry: Option<NotYet>,
}

/// Addresses to listen on; each is bound by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Visitors.
    pub http: SocketAddr,
    /// The authoritative DNS, UDP and TCP; none with `front.dns = "off"`.
    pub dns: Option<SocketAddr>,
    /// The console.
    pub console: SocketAddr,
    #[serde(rename = "https")]
    _https: Option<NotYet>,
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Listen {
            http: SocketAddr::new(loopback, 8080),
            dns: None,
            console: SocketAddr::new(loopback, 8081),
            _https: None,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Front {
    tls: Tls,
    dns: Dns,
    #[serde(rename = "trusted_proxies")]
    _trusted_proxies: Option<NotYet>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dns {
    Authoritative,
    #[default]
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tls {
    #[default]
    Off,
    /// TLS ends in front of us: URLs are https, we listen in clear.
    Proxy,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Console {
    url: Option<String>,
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
    /// A bare repository.
    pub git: PathBuf,
    /// Bases, whose pull requests are watched.
    #[serde(default = "main_branch")]
    pub branches: Vec<String>,
    /// Branches and tags staged like pull requests.
    #[serde(default)]
    pub refs: Vec<String>,
    #[serde(default = "on_request")]
    stage: StageMode,
    #[serde(default)]
    forks: Forks,
    #[serde(default = "two")]
    keep: usize,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    alias: Alias,
    #[serde(default)]
    suffix: String,
    #[serde(default = "default_baseline")]
    baselines: BTreeSet<String>,
    #[serde(default)]
    images: BTreeSet<String>,
    #[serde(default, rename = "github")]
    _github: Option<NotYet>,
    #[serde(default, rename = "wait_for")]
    _wait_for: Option<NotYet>,
    #[serde(default, rename = "approvers")]
    _approvers: Option<NotYet>,
    #[serde(default, rename = "fork_baseline")]
    _fork_baseline: Option<NotYet>,
    #[serde(default, rename = "secrets")]
    _secrets: Option<NotYet>,
    #[serde(default, rename = "source")]
    _source: Option<NotYet>,
    #[serde(default, rename = "image_wait")]
    _image_wait: Option<NotYet>,
    #[serde(default, rename = "egress")]
    _egress: Option<NotYet>,
    #[serde(default, rename = "skip")]
    _skip: Option<NotYet>,
    #[serde(default, rename = "report")]
    _report: Option<NotYet>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Forks {
    #[default]
    Never,
    Approve,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Access {
    #[default]
    Members,
    Link,
    Public,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Alias {
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
    /// Folder of PostgreSQL's programs; the newest installed one if none.
    pub bin_dir: Option<PathBuf>,
    /// False: nothing waits for the disk, and a loss of power loses every database.
    pub durable: bool,
    #[serde(rename = "url")]
    _url: Option<NotYet>,
    #[serde(rename = "extensions")]
    _extensions: Option<NotYet>,
}

impl Default for Database {
    fn default() -> Self {
        Database { bin_dir: None, durable: true, _url: None, _extensions: None }
    }
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
struct LimitsTable {
    environments: usize,
    awake: usize,
    stopped: usize,
    builds: usize,
    cpu: f64,
    #[serde(with = "units::size")]
    memory: u64,
    #[serde(rename = "connections")]
    _connections: Option<NotYet>,
    #[serde(rename = "pids")]
    _pids: Option<NotYet>,
    #[serde(rename = "disk")]
    _disk: Option<NotYet>,
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
            _connections: None,
            _pids: None,
            _disk: None,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LifetimeTable {
    #[serde(with = "units::lifetime")]
    idle: Duration,
    #[serde(with = "units::lifetime")]
    sleep: Duration,
    #[serde(with = "units::lifetime")]
    ttl: Duration,
}

impl Default for LifetimeTable {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        LifetimeTable { idle: minutes(15), sleep: minutes(120), ttl: minutes(5 * 24 * 60) }
    }
}

/// A key of the contract that this version does not know yet: an error that says so, never silently ignored.
#[derive(Debug, Clone)]
struct NotYet;

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
fn on_request() -> StageMode {
    StageMode::OnRequest
}
fn two() -> usize {
    2
}
fn default_baseline() -> BTreeSet<String> {
    BTreeSet::from(["default".to_owned()])
}
impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// One line: file, line, key, what is wrong and what to do.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}: name another with --config", path.display()))?;
        Config::parse(&text).with_context(|| format!("{}", path.display()))
    }

    /// Parses and checks the text of a configuration.
    ///
    /// # Errors
    /// As [`Config::read`], without the file.
    pub fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(text).map_err(|error| {
            let (line, key) = error.span().map_or((0, String::new()), |span| place(text, span.start));
            anyhow::anyhow!("line {line}{key}: {}", error.message().replace('\n', " "))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if self.domain.len() > 180 || !self.domain.split('.').all(label) || !self.domain.contains('.') {
            bail!("domain: {:?} is not a domain name in lower case, such as staging.example.org", self.domain);
        }
        if !self.state_dir.is_absolute() {
            bail!("state_dir: {} must be an absolute path", self.state_dir.display());
        }
        if self.limits.environments == 0 || self.limits.awake == 0 || self.limits.builds == 0 {
            bail!("[limits]: environments, awake and builds must be at least 1");
        }
        if !(0.01..=256.0).contains(&self.limits.cpu) {
            bail!("[limits] cpu: {} is not between 0.01 and 256", self.limits.cpu);
        }
        if self.front.dns == Dns::Authoritative && self.listen.dns.is_none() {
            bail!("[front] dns = \"authoritative\" needs an address: set [listen] dns, such as \"203.0.113.7:53\"");
        }
        let mut suffixes = BTreeMap::new();
        let mut names = BTreeSet::new();
        for project in &self.project {
            if !names.insert(&project.name) {
                bail!("[[project]] {}: the name stands twice", project.name);
            }
            if let Some(other) = suffixes.insert(&project.suffix, &project.name) {
                bail!(
                    "[[project]] {} and {other} have the same suffix {:?}: their hosts would collide",
                    project.name,
                    project.suffix
                );
            }
            project.check()?;
        }
        Ok(())
    }

    /// Where the DNS listens, if it does.
    #[must_use]
    pub fn dns(&self) -> Option<SocketAddr> {
        self.listen.dns.filter(|_| self.front.dns == Dns::Authoritative)
    }

    /// `http` or `https`: how visitors reach environments.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.front.tls == Tls::Proxy { "https" } else { "http" }
    }

    /// The port of the inner edge: that of visitors' URLs, so that a name means the same inside and outside.
    #[must_use]
    pub fn inner_port(&self) -> u16 {
        if self.front.tls == Tls::Proxy { 80 } else { self.listen.http.port() }
    }

    /// Base URL of the console.
    #[must_use]
    pub fn console_url(&self) -> String {
        self.console.url.clone().unwrap_or_else(|| format!("http://localhost:{}", self.listen.console.port()))
    }

    /// The part that the planner reads.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let own_port = if self.scheme() == "https" { 443 } else { 80 };
        let port = if self.front.tls == Tls::Proxy { own_port } else { self.listen.http.port() };
        Policy {
            domain: self.domain.clone(),
            scheme: self.scheme().to_owned(),
            port: Some(port).filter(|port| *port != own_port),
            console_url: Some(self.console_url()),
            projects: self.project.iter().map(|project| (project.name.clone(), project.policy())).collect(),
            limits: Limits {
                environments: self.limits.environments,
                awake: self.limits.awake,
                stopped: self.limits.stopped,
                builds: self.limits.builds,
                // Checked to lie between 0.01 and 256.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                cpu: (self.limits.cpu * 1000.0) as u32,
                memory: self.limits.memory,
            },
            lifetime: Lifetime { idle: self.lifetime.idle, sleep: self.lifetime.sleep, ttl: self.lifetime.ttl },
            addresses: self.addresses.clone(),
        }
    }
}

impl Project {
    fn check(&self) -> anyhow::Result<()> {
        let name = &self.name;
        if !self.git.is_absolute() {
            bail!("[[project]] {name}: git = {:?} must be an absolute path of a bare repository", self.git);
        }
        if self.keep == 0 {
            bail!("[[project]] {name}: keep must be at least 1");
        }
        if self.suffix.len() > 9 || !self.suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("[[project]] {name}: suffix {:?} must be at most 9 of a-z and 0-9", self.suffix);
        }
        if let Some(other) = self.baselines.iter().find(|baseline| *baseline != "default") {
            bail!("[[project]] {name}: baselines: {other:?}: not yet: this version knows \"default\" only");
        }
        if self.access == Access::Link {
            bail!("[[project]] {name}: access = \"link\": not yet: use \"public\" or \"members\"");
        }
        Ok(())
    }

    fn policy(&self) -> ProjectPolicy {
        ProjectPolicy {
            stage: self.stage,
            forks: self.forks == Forks::Approve,
            keep: self.keep,
            public: self.access == Access::Public,
            alias_proxy: self.alias == Alias::Proxy,
            suffix: self.suffix.clone(),
            baselines: self.baselines.clone(),
            images: self.images.clone(),
        }
    }
}

/// Line number, and the key that stands on that line, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let key = line.split_once('=').map_or(line.trim(), |(key, _)| key.trim());
    let shown = if key.is_empty() { String::new() } else { format!(", {key}") };
    (before.matches('\n').count() + 1, shown)
}
