//! `sidestage.toml`: what the operator decides. Every field is documented in `deploy/sidestage.example.toml`.

mod difference;
mod front;
mod github;
mod objects;
mod secret_file;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, bail};
use drivers::Quota;
use drivers::postgres::UpstreamSettings;
use planner::facts::EMPTY_NAME;
use planner::manifest::Manifest;
use planner::policy::{ForgeSettings, Lifetime, Limits, Policy, ProjectPolicy, Spares};

pub use front::Certificate;
pub use secret_file::{read_lines, read_password, read_secrets};
use tables::{Access, Alias, Forks};
pub use tables::{Config, Database, Engine, GitHubTable, Listen, Network, Project, Registry};

/// Whether the files with secrets that the configuration names can be used.
///
/// # Errors
/// One line: project, file, line, what is wrong and what to do. Never a value.
pub fn check_secrets(config: &Config) -> anyhow::Result<()> {
    if let Some(upstream) = config.objects_upstream() {
        drivers::objects::check_credentials(&upstream.credentials_file).context("[objects] credentials_file")?;
    }
    config.check_github()?;
    crate::vault::Files::read(config).map(drop)
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// One line: file, line, key, what is wrong and what to do.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}: name another with --config", path.display()))?;
        let mut config = Config::parse(&text).with_context(|| format!("{}", path.display()))?;
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Parses and checks the text of a configuration.
    ///
    /// # Errors
    /// As [`Config::read`], without the file.
    pub fn parse(text: &str) -> anyhow::Result<Config> {
        let mut config: Config = toml::from_str(text).map_err(|error| {
            let (line, key) = error.span().map_or((0, String::new()), |span| place(text, span.start));
            anyhow::anyhow!("line {line}{key}: {}", error.message().replace('\n', " "))
        })?;
        config.check()?;
        (config.text, config.started) = (text.to_owned(), text.to_owned());
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
        self.check_front()?;
        self.github.check()?;
        self.database.check()?;
        self.check_objects()?;
        if self.limits.pids < 16 || self.limits.connections == 0 || self.limits.disk < 16 << 20 {
            bail!("[limits]: pids must be at least 16, connections at least 1, disk at least 16m");
        }
        let mut hosts = BTreeSet::new();
        for registry in &self.registry {
            registry.check()?;
            if !hosts.insert(&registry.host) {
                bail!("[[registry]] {}: the host stands twice", registry.host);
            }
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

    /// How much environments may add to their baselines' objects.
    #[must_use]
    pub fn objects_quota(&self) -> Quota {
        self.quota(self.limits.objects)
    }

    /// How much their databases may hold.
    #[must_use]
    pub fn database_quota(&self) -> Quota {
        self.quota(self.limits.database)
    }

    fn quota(&self, foreign: Option<u64>) -> Quota {
        Quota { trusted: foreign.filter(|_| self.limits.suspend_trusted), foreign }
    }

    /// Connections to databases that may be open at once: what is awake may have its share, and as much again is about to
    /// be, or not yet gone.
    #[must_use]
    pub fn database_connections(&self) -> usize {
        self.limits.awake.saturating_add(self.limits.builds).saturating_mul(self.limits.connections as usize * 2)
    }

    /// Base URL of the console.
    #[must_use]
    pub fn console_url(&self) -> String {
        self.console.url.clone().unwrap_or_else(|| format!("http://localhost:{}", self.listen.console.port()))
    }

    /// The part that the planner reads. Which secrets are set is for whoever keeps them to add.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let own_port = if self.scheme() == "https" { 443 } else { 80 };
        Policy {
            domain: self.domain.clone(),
            scheme: self.scheme().to_owned(),
            port: Some(self.port()).filter(|port| *port != own_port),
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
                pids: self.limits.pids,
                disk: self.limits.disk,
                connections: self.limits.connections,
                database: self.limits.database,
                objects: self.limits.objects,
                suspend_trusted: self.limits.suspend_trusted,
            },
            lifetime: Lifetime { idle: self.lifetime.idle, sleep: self.lifetime.sleep, ttl: self.lifetime.ttl },
            addresses: self.addresses.clone(),
            extensions: self.database.extensions.clone(),
            spares: Spares { count: self.database.spares, disk: self.database.spare_disk },
            objects_public: self.objects.public,
        }
    }
}

impl Database {
    fn check(&self) -> anyhow::Result<()> {
        let Some(url) = &self.url else {
            if self.password_file.is_some() {
                bail!("[database] password_file: it is for a server of yours: name that in url");
            }
            return Ok(());
        };
        // Never the URL itself: it may hold what should not be in it.
        UpstreamSettings::check(url).map_err(|why| anyhow::anyhow!("[database] url: {why}"))?;
        if let Some(path) = self.password_file.as_ref().filter(|path| !path.is_absolute()) {
            bail!("[database] password_file: {} must be an absolute path", path.display());
        }
        for (key, there) in [
            ("bin_dir", self.bin_dir.is_some()),
            ("storage", self.storage.is_some()),
            ("durable", self.durable.is_some()),
        ] {
            if there {
                bail!("[database] {key}: it is for a server that Sidestage runs itself: take out {key}, or url");
            }
        }
        Ok(())
    }
}

impl Registry {
    fn check(&self) -> anyhow::Result<()> {
        let host = &self.host;
        let fits = (1..=255).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:".contains(&b));
        if !fits {
            bail!("[[registry]]: host {host:?} must be a host such as \"ghcr.io\", without scheme and path");
        }
        if self.user.is_empty() || !self.password_file.is_absolute() {
            bail!("[[registry]] {host}: user must not be empty, and password_file must be an absolute path");
        }
        Ok(())
    }
}

impl Project {
    /// Whether the same is read of its repository.
    #[must_use]
    pub fn reads_like(&self, other: &Project) -> bool {
        let read = |project: &Project| {
            let Project { git, github, branches, refs, source, approvers, bots, skip, wait_for, .. } = project.clone();
            (git, github, branches, refs, source, approvers, bots, skip, wait_for)
        };
        read(self) == read(other)
    }

    fn check(&self) -> anyhow::Result<()> {
        let name = &self.name;
        if let Some(git) = self.git.as_ref().filter(|git| !git.is_absolute()) {
            bail!("[[project]] {name}: git = {git:?} must be an absolute path of a bare repository");
        }
        self.check_github()?;
        if let Some(path) = self.secrets.as_ref().filter(|path| !path.is_absolute()) {
            bail!("[[project]] {name}: secrets = {path:?} must be an absolute path");
        }
        if self.keep == 0 {
            bail!("[[project]] {name}: keep must be at least 1");
        }
        if self.suffix.len() > 9 || !self.suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("[[project]] {name}: suffix {:?} must be at most 9 of a-z and 0-9", self.suffix);
        }
        let wrong = self.baselines.iter().find(|name| !Manifest::is_baseline_name(name));
        if let Some(wrong) = wrong {
            bail!(
                "[[project]] {name}: baselines: {wrong:?} is no name of a baseline: a-z, 0-9 and single inner hyphens"
            );
        }
        let forks = &self.fork_baseline;
        if forks != EMPTY_NAME && !Manifest::is_baseline_name(forks) {
            bail!(
                "[[project]] {name}: fork_baseline: {forks:?} is no name of a baseline; \"empty\" gives nothing away"
            );
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
            fork_baseline: self.fork_baseline.clone(),
            images: self.images.clone(),
            secrets: BTreeMap::new(),
            image_wait: self.image_wait,
            source: self.source,
            forge: ForgeSettings {
                pulls: self.github.is_some(),
                wait_for: self.wait_for.clone(),
                skip_drafts: self.skip.drafts,
                skip_bots: self.skip.bots,
                skip_labels: self.skip.labels.clone(),
                report: self.report.clone(),
            },
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
