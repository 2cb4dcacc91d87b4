//! `.sidestage.toml`: what one environment is made of. It grants nothing.
//!
//! [`Manifest::parse`] accepts what can be done now and refuses everything else by key and line: a key that is known
//! but has not been built yet, a key that nobody knows, a wrong type, a value out of bounds, an unknown `${NAME}`.
//! What the operator decides (baselines, images, memory) is judged later, against the policy.

mod build;
mod read;
pub mod reference;
mod schedule;
mod section;
mod service;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::Health;
pub use schedule::{check as check_schedule, fires, next_fire};

/// The manifest's path in the commit.
pub const FILE: &str = ".sidestage.toml";

/// The most that a manifest may measure, in bytes.
pub const LONGEST: u64 = 64 << 10;

/// Processes, applications and companions together: the network of a generation has 13 addresses, and web, release and
/// what takes their place need some.
const MOST_CONTAINERS: usize = 10;
/// Links, writable folders, commands and whatever else comes in lists.
const MOST_ITEMS: usize = 20;

/// A manifest that parsed. Templates (`env`, commands, arguments, notes) are checked, and filled in later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Where the web process listens.
    pub port: u16,
    /// Command of the web process; none is the image's own.
    pub command: Option<Vec<String>>,
    /// How the web process is known to be up: a path, or its port.
    pub health: Health,
    /// How long the web process may take until then.
    pub start_timeout: Duration,
    /// Bytes of memory of the web process; none is the operator's default.
    pub memory: Option<u64>,
    /// Writable folders of all processes: absolute path to bytes.
    pub tmp: BTreeMap<String, u64>,
    /// Where the image comes from.
    pub build: BuildRecipe,
    /// Baseline of the database; none is no database.
    pub database: Option<String>,
    /// Start from the data, database and objects, of the previous ready commit of the same ref.
    pub carry: bool,
    /// Extensions of the database, made by the administrator.
    pub extensions: BTreeSet<String>,
    /// Baseline of the bucket; none is no bucket.
    pub objects: Option<String>,
    /// Prefixes of the bucket's keys that may be read without a signature.
    pub public: Vec<String>,
    /// What runs once before the first start of a generation.
    pub release: Option<Release>,
    /// More containers of the same image.
    pub processes: BTreeMap<String, Process>,
    /// Further applications, each with a host of its own.
    pub apps: BTreeMap<String, App>,
    /// Companions, reachable by these names.
    pub services: BTreeMap<String, Service>,
    /// What runs by the clock, while awake.
    pub crons: BTreeMap<String, Cron>,
    /// What people may run.
    pub commands: BTreeMap<String, Vec<String>>,
    /// Links to show, in the order of the file.
    pub links: Vec<Link>,
    /// Variables of all processes, as templates.
    pub env: BTreeMap<String, String>,
}

/// Where an image comes from: `[build]`. One that CI builds has a recipe too, since foreign code is always built here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildRecipe {
    /// The image that CI pushes, a template of `{sha} {short_sha} {pr} {branch}`; none is built here.
    pub image: Option<String>,
    /// Path of the Dockerfile within the context, without `..`.
    pub dockerfile: String,
    /// Folder of the tree, without `..`; `.` is all of it.
    pub context: String,
    /// Stage to build; none is the last.
    pub target: Option<String>,
    /// Build arguments, as templates of `STAGING_*` only.
    pub args: BTreeMap<String, String>,
    /// Names of secrets that a build of trusted code gets by mount.
    pub secrets: Vec<String>,
}

/// What runs once before the first start: `[release]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its command, not empty.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// One more container of the same image: `[process.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its command, not empty.
    pub command: Vec<String>,
    /// Bytes of memory; none is the operator's default.
    pub memory: Option<u64>,
}

/// A further application: `[app.NAME]`, with a host of its own, `<sha>--NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Where it listens, given as its `PORT`.
    pub port: u16,
    /// How it is known to be up: a path, or its port.
    pub health: Health,
    /// Its command; none is the image's own.
    pub command: Option<Vec<String>>,
    /// Bytes of memory; none is the operator's default.
    pub memory: Option<u64>,
    /// Where its image comes from; none is the image of the web process.
    pub build: Option<BuildRecipe>,
}

/// What runs by the clock: `[cron.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// Five fields, in UTC.
    pub schedule: String,
    /// Its command, not empty.
    pub command: Vec<String>,
}

/// A companion: `[service.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// An image of the operator's list.
    pub image: String,
    /// Its command; none is the image's own.
    pub command: Option<Vec<String>>,
    /// All the variables that it gets, as templates.
    pub env: BTreeMap<String, String>,
    /// Where it listens, if it is to be waited for.
    pub port: Option<u16>,
    /// How it is known to be up: a path, its port, or being alive.
    pub health: Health,
    /// Bytes of memory; none is the operator's default.
    pub memory: Option<u64>,
    /// Bytes of data that outlast its container, within a generation; none keeps nothing.
    #[serde(default)]
    pub data: Option<u64>,
}

/// A link to show: `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is called.
    pub name: String,
    /// Its path, with a leading slash.
    pub path: String,
    /// A line beside it, as a template of `env` entries that are made of random parts only.
    pub note: Option<String>,
}

impl Default for Manifest {
    fn default() -> Self {
        Manifest {
            port: 8080,
            command: None,
            health: Health::Port,
            start_timeout: Duration::from_secs(120),
            memory: None,
            tmp: BTreeMap::new(),
            build: BuildRecipe::default(),
            database: Some("default".to_owned()),
            carry: false,
            extensions: BTreeSet::new(),
            objects: Some("default".to_owned()),
            public: Vec::new(),
            release: None,
            processes: BTreeMap::new(),
            apps: BTreeMap::new(),
            services: BTreeMap::new(),
            crons: BTreeMap::new(),
            commands: BTreeMap::new(),
            links: Vec::new(),
            env: BTreeMap::new(),
        }
    }
}

impl Default for BuildRecipe {
    fn default() -> Self {
        BuildRecipe {
            image: None,
            dockerfile: "Dockerfile".to_owned(),
            context: ".".to_owned(),
            target: None,
            args: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }
}

impl Manifest {
    /// Whether this may name a baseline.
    #[must_use]
    pub fn is_baseline_name(name: &str) -> bool {
        read::is_name(name, 32)
    }

    /// Secrets of the project that its variables and commands name.
    #[must_use]
    pub fn named_secrets(&self) -> BTreeSet<&str> {
        let own = self.command.iter().flatten().chain(self.env.values());
        let release = self.release.iter().flat_map(|release| &release.command);
        let processes = self.processes.values().flat_map(|process| &process.command);
        let apps = self.apps.values().flat_map(|app| app.command.iter().flatten());
        let services = self.services.values();
        let services = services.flat_map(|service| service.env.values().chain(service.command.iter().flatten()));
        let crons = self.crons.values().flat_map(|cron| &cron.command);
        let commands = self.commands.values().flatten();
        crate::injected::secrets(
            own.chain(release).chain(processes).chain(apps).chain(services).chain(crons).chain(commands),
        )
    }

    /// Secrets that its builds get by mount.
    #[must_use]
    pub fn build_secrets(&self) -> BTreeSet<&str> {
        let apps = self.apps.values().filter_map(|app| app.build.as_ref());
        let recipes = std::iter::once(&self.build).chain(apps).filter(|recipe| recipe.image.is_none());
        recipes.flat_map(|recipe| recipe.secrets.iter().map(String::as_str)).collect()
    }

    /// Parses the bytes of `.sidestage.toml`; none means no file, all defaults.
    ///
    /// # Errors
    /// One line: what is wrong, at which key and line, and what to do.
    pub fn parse(bytes: Option<&[u8]>) -> Result<Manifest, String> {
        let Some(bytes) = bytes else { return Ok(Manifest::default()) };
        if bytes.len() as u64 > LONGEST {
            return Err(too_long(bytes.len() as u64));
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(format!("{FILE} line 1: it begins with a byte order mark; save it as UTF-8 without one"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            format!("{FILE} line {line}: it is not UTF-8; save it as UTF-8")
        })?;
        read::manifest(text)
    }
}

/// The error for a manifest of so many bytes, for whoever knows its length before its content.
#[must_use]
pub fn too_long(bytes: u64) -> String {
    format!("{FILE} has {bytes} bytes, and at most {LONGEST} are read; shorten it")
}
