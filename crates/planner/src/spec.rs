//! What resources are made of. Specs hold intent and names of secrets, never addresses, passwords or ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::{ProjectName, Sha, Trust};
use crate::resource::ResourceId;

/// The commit that something is made of: what its labels say, and what decides how it may run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The project.
    pub project: ProjectName,
    /// The commit.
    pub sha: Sha,
    /// At this trust.
    pub trust: Trust,
}

/// What one resource is made of, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spec {
    /// A network of one generation; foreign code's has no way out.
    Network(Origin),
    /// An image built from the commit's tree.
    Image(Build),
    /// An image that CI built and pushed. Of [`crate::resource::Kind::Image`], as a built one.
    Pulled(Pulled),
    /// A database and the role that owns it, both `sst_<env>_<g>`.
    Database {
        /// The commit.
        of: Origin,
        /// What it begins with.
        from: DataFrom,
        /// Extensions that the manifest names, made by the administrator.
        extensions: BTreeSet<String>,
    },
    /// A bucket generation: objects and credentials.
    Bucket {
        /// The commit.
        of: Origin,
        /// What it begins with.
        from: DataFrom,
        /// Prefixes of keys that may be read without a signature.
        public: Vec<String>,
    },
    /// The sealed database of a baseline's version, which environments' databases are clones of. Whole once it is sealed.
    Template {
        /// What is loaded into it.
        from: DatabaseFrom,
        /// A file of SQL that is run on the copy before it is sealed: it masks what nobody may see.
        mask: Option<PathBuf>,
        /// Extensions that its data need, made by the administrator.
        extensions: BTreeSet<String>,
    },
    /// The sealed objects of a baseline's version, which environments' buckets begin with. Whole once they are sealed.
    Snapshot(ObjectsFrom),
    /// A clone of a template made ahead. Making a database claims one that is whole; the spare is gone then.
    Spare {
        /// Extensions beyond the baseline's own, of the manifests that it is meant for.
        extensions: BTreeSet<String>,
    },
    /// A companion's bounded data, one for each generation and service, named as the service.
    Volume {
        /// The commit.
        of: Origin,
        /// Bytes.
        size: u64,
    },
    /// A container that runs once and must exit with 0.
    Job(Container),
    /// A container that stays.
    Container(Container),
}

impl Spec {
    /// The commit that it is made of; none of what belongs to a baseline.
    #[must_use]
    pub fn of(&self) -> Option<&Origin> {
        match self {
            Spec::Network(of) | Spec::Database { of, .. } | Spec::Bucket { of, .. } | Spec::Volume { of, .. } => {
                Some(of)
            }
            Spec::Image(build) => Some(&build.of),
            Spec::Pulled(pulled) => Some(&pulled.of),
            Spec::Job(container) | Spec::Container(container) => Some(&container.of),
            Spec::Template { .. } | Spec::Snapshot(_) | Spec::Spare { .. } => None,
        }
    }
}

/// What an environment's data begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataFrom {
    /// A version of a baseline, such as `default@1`.
    Baseline(String),
    /// The same part of another environment's generation, as it is when the copy is made. Trusted code of one project only.
    Carry {
        /// The part that is copied.
        from: ResourceId,
        /// The version that its data once began with.
        baseline: String,
    },
}

impl DataFrom {
    /// The version that the data began with, however often they were carried on since.
    #[must_use]
    pub fn baseline(&self) -> &str {
        match self {
            DataFrom::Baseline(baseline) | DataFrom::Carry { baseline, .. } => baseline,
        }
    }
}

/// Where the database of a baseline's version comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseFrom {
    /// Nowhere: no tables.
    Empty,
    /// A file of SQL, or a dump in any format of `pg_dump`; which one its content tells.
    File(PathBuf),
    /// A running server, which is only read.
    Server {
        /// `postgresql://user@host:port/database`, without a password.
        url: String,
        /// Holds the password, mode 0600.
        password_file: Option<PathBuf>,
    },
    /// The database of an environment of trusted code.
    Env(ResourceId),
}

/// Where the objects of a baseline's version come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectsFrom {
    /// Nowhere: no objects.
    Empty,
    /// A folder on this machine: paths below it are keys.
    Folder(PathBuf),
    /// A bucket of an S3 server, which is only read.
    Bucket {
        /// Base URL; none for Amazon's.
        endpoint: Option<String>,
        /// Its region.
        region: String,
        /// The bucket's name.
        bucket: String,
        /// Only keys that begin with it, which is cut off; empty for all.
        prefix: String,
        /// Holds `access_key_id` and `secret_access_key`, mode 0600; none for a bucket that everybody may read.
        credentials_file: Option<PathBuf>,
    },
    /// The bucket of an environment of trusted code.
    Env(ResourceId),
}

impl fmt::Display for DatabaseFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseFrom::Empty => f.write_str("no database"),
            DatabaseFrom::File(path) => write!(f, "{}", path.display()),
            DatabaseFrom::Server { url, .. } => f.write_str(url),
            DatabaseFrom::Env(id) => write!(f, "the database of environment {}", id.owner),
        }
    }
}

impl fmt::Display for ObjectsFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectsFrom::Empty => f.write_str("no objects"),
            ObjectsFrom::Folder(path) => write!(f, "{}", path.display()),
            ObjectsFrom::Bucket { endpoint, bucket, prefix, .. } => {
                let endpoint = endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
                write!(f, "s3://{bucket}/{prefix}{endpoint}")
            }
            ObjectsFrom::Env(id) => write!(f, "the objects of environment {}", id.owner),
        }
    }
}

/// How an image is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The commit whose tree is streamed to the engine.
    pub of: Origin,
    /// The image's reference: `sst-<instance>/<project>:<tree>-<recipe>`, foreign `:<env>-<recipe>`.
    pub tag: String,
    /// Path of the Dockerfile within the context.
    pub dockerfile: String,
    /// Folder of the tree that is streamed; `.` for all of it.
    pub context: String,
    /// Stage to build; the last one if none.
    pub target: Option<String>,
    /// Build arguments, interpolated already: `STAGING_*` only, never a secret.
    pub args: BTreeMap<String, String>,
    /// Names of the project's secrets that the build gets by mount. Trusted code only: foreign builds get none.
    pub secrets: Vec<String>,
    /// Build without the engine's layer cache (`rebuild`, and always for foreign code).
    pub no_cache: bool,
}

/// An image by CI: pulled, resolved to a digest, and then kept under a tag of our own. Owned by the environment, so
/// that it is listed and removed as one that we built. Foreign code is always built here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The commit.
    pub of: Origin,
    /// What to pull, filled in: `ghcr.io/acme/shop:sha-0a1b2c3`.
    pub reference: String,
    /// Our own tag: `sst-<instance>/<project>:<env>-<hash>`.
    pub tag: String,
    /// How long to wait for it to appear.
    pub wait: Duration,
}

/// Where a container's image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageSource {
    /// Built by us: the digest is in the outputs of this need.
    Built(ResourceId),
    /// A companion's image, from the operator's list, present or pulled by this reference.
    Named(String),
}

/// What a container is, beyond its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The commit; its trust decides the body.
    pub of: Origin,
    /// Its image.
    pub image: ImageSource,
    /// A companion: ordinary body at any trust, since the operator chose its image; no variables but its own.
    pub companion: bool,
    /// Arguments instead of the image's own command; templates as in `env`.
    pub command: Option<Vec<String>>,
    /// Variables as templates: `${NAME}` of what is injected at start, `${random:N}`. See [`crate::interpolate`].
    pub env: BTreeMap<String, String>,
    /// Variables known already, such as `PORT` and `STAGING_*`. A companion gets none of them, but its templates may name them.
    pub injected: BTreeMap<String, String>,
    /// The project's secrets that it gets, by name, each with its version: an opaque digest, never the value. Values are
    /// looked up at creation. Not in the fingerprint: a changed secret applies at the next start.
    pub secrets: BTreeMap<String, String>,
    /// Gets the variables of its generation's database.
    pub database: bool,
    /// Gets the variables of its generation's bucket.
    pub bucket: bool,
    /// Where it listens; none for workers and jobs.
    pub port: Option<u16>,
    /// How it is known to be up.
    pub health: Health,
    /// How long it may take until then; of a job, until its end.
    pub start_timeout: Duration,
    /// Bytes of memory, swap included.
    pub memory: u64,
    /// CPUs, in thousandths.
    pub cpu: u32,
    /// Writable folders, empty at each start: path to bytes.
    pub tmp: BTreeMap<String, u64>,
    /// A companion's volume, which is mounted where its image declares one, else at `/data`.
    pub data: Option<ResourceId>,
    /// Host names that stand in its hosts file with the service address: `data.internal`, the domain, its bucket, its own hosts.
    pub hosts: Vec<String>,
    /// The host that health requests carry: the environment's canonical one, with the scheme that visitors use.
    pub canonical: Option<Canonical>,
}

/// The canonical address of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canonical {
    /// `<sha>.<domain>`, no port.
    pub host: String,
    /// As in a Host header: with the port unless it is the scheme's own.
    pub authority: String,
    /// `http` or `https`.
    pub scheme: String,
}

/// When a container counts as up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// GET this path with the environment's Host: 2xx or 3xx.
    Path(String),
    /// The port accepts a connection.
    Port,
    /// Still alive after one second.
    Alive,
}
