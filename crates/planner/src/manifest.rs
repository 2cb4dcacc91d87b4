//! `.sidestage.toml`: what one environment is made of. It grants nothing.
//!
//! [`Manifest::parse`] accepts what can be done now and refuses everything else by key and line: a key that is known
//! but has not been built yet, a key that nobody knows, a wrong type, a value out of bounds, an unknown `${NAME}`.
//! What the operator decides (baselines, images, memory) is judged later, against the policy.

mod read;
mod section;
mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::Health;

/// The manifest's path in the commit.
pub const FILE: &str = ".sidestage.toml";

/// The most that a manifest may measure, in bytes.
pub const LONGEST: u64 = 64 << 10;

/// A manifest that parsed. Templates (`env`, commands, arguments, notes) are checked, and filled in later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How the image is built.
    pub build: BuildRecipe,
    /// Baseline of the database; none is no database.
    pub database: Option<String>,
    /// Baseline of the bucket; none is no bucket.
    pub objects: Option<String>,
    /// What runs once before the first start of a generation.
    pub release: Option<Release>,
    /// More containers of the same image.
    pub processes: BTreeMap<String, Process>,
    /// Companions, reachable by these names.
    pub services: BTreeMap<String, Service>,
    /// Links to show, in the order of the file.
    pub links: Vec<Link>,
    /// Variables of all processes, as templates.
    pub env: BTreeMap<String, String>,
}

/// How the image is built: `[build]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecipe {
    /// Path of the Dockerfile within the context, without `..`.
    pub dockerfile: String,
    /// Folder of the tree, without `..`; `.` is all of it.
    pub context: String,
    /// Stage to build; none is the last.
    pub target: Option<String>,
    /// Build arguments, as templates of `STAGING_*` only.
    pub args: BTreeMap<String, String>,
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
            objects: Some("default".to_owned()),
            release: None,
            processes: BTreeMap::new(),
            services: BTreeMap::new(),
            links: Vec::new(),
            env: BTreeMap::new(),
        }
    }
}

impl Default for BuildRecipe {
    fn default() -> Self {
        BuildRecipe {
            dockerfile: "Dockerfile".to_owned(),
            context: ".".to_owned(),
            target: None,
            args: BTreeMap::new(),
        }
    }
}

impl Manifest {
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
