//! Outside things: what should exist, what was seen, and the three verbs that act on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::{EnvId, ProjectName, Sha, Trust};
use crate::spec::Spec;

/// What acts on a kind of outside thing. A second engine or a cluster would be another variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The container engine: networks, images, volumes, jobs, containers.
    Engine,
    /// PostgreSQL: databases with their roles.
    Postgres,
    /// The object store: buckets.
    Objects,
}

/// Whom a resource belongs to, and with whom it goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// One environment.
    Env(EnvId),
    /// Shared by environments of one project and one trust: images of trusted code.
    Project(ProjectName, Trust),
    /// A baseline's version, such as `default@1`.
    Baseline(String),
    /// The installation itself.
    Instance,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Env(env) => write!(f, "{env}"),
            Owner::Project(project, trust) => write!(f, "{project}:{trust}"),
            Owner::Baseline(version) => write!(f, "baseline:{version}"),
            Owner::Instance => f.write_str("instance"),
        }
    }
}

/// The kinds of outside things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A network of one generation.
    Network,
    /// An image, built or pulled.
    Image,
    /// A database and the role that owns it.
    Database,
    /// A bucket's generation: its objects and its credentials. The bucket's name outlives generations.
    Bucket,
    /// A container that runs once and exits: the release command.
    Job,
    /// A container that stays: web process, worker, companion.
    Container,
    /// A companion's data: a bounded volume of one generation.
    Volume,
}

impl Kind {
    /// The word used in labels, logs and pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Network => "network",
            Kind::Image => "image",
            Kind::Database => "database",
            Kind::Bucket => "bucket",
            Kind::Job => "job",
            Kind::Container => "container",
            Kind::Volume => "volume",
        }
    }
}

/// Identity of one outside thing. `name` tells things of one kind and generation apart: `web`, `worker`,
/// `release`, for images `<tree12>-<recipe12>` (trusted) or the recipe (foreign), of a volume the service; else `main`. Shared things have generation 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// Who acts on it.
    pub backend: Backend,
    /// With whom it goes.
    pub owner: Owner,
    /// The environment's generation that it belongs to.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// Which one of its kind.
    pub name: String,
}

impl ResourceId {
    /// The database of a baseline's version that all others are clones of.
    #[must_use]
    pub fn template(version: &str) -> ResourceId {
        ResourceId::of_baseline(version, Backend::Postgres, Kind::Database, "main".to_owned())
    }

    /// The objects of a baseline's version.
    #[must_use]
    pub fn snapshot(version: &str) -> ResourceId {
        ResourceId::of_baseline(version, Backend::Objects, Kind::Bucket, "main".to_owned())
    }

    /// A clone made ahead; `name` is `spare-<n>`, unique within the version.
    #[must_use]
    pub fn spare(version: &str, name: String) -> ResourceId {
        ResourceId::of_baseline(version, Backend::Postgres, Kind::Database, name)
    }

    fn of_baseline(version: &str, backend: Backend, kind: Kind, name: String) -> ResourceId {
        ResourceId { backend, owner: Owner::Baseline(version.to_owned()), generation: 0, kind, name }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.owner, self.generation, self.kind.as_str(), self.name)
    }
}

/// One thing that should exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its identity.
    pub id: ResourceId,
    /// What it is made of. Names secrets, never holds them: plans are printed.
    pub spec: Spec,
    /// The most that it may run. Only `Running` is enforced upwards.
    pub run: Run,
    /// What must be there, complete, before it is ensured; their outputs are inputs of `ensure`.
    pub needs: Vec<ResourceId>,
    /// How long one `ensure` may take.
    pub deadline: Duration,
    /// What the commit and people asked for; a difference to what is seen is drift.
    pub fingerprint: Fingerprint,
}

/// How far a container runs; wanted and observed; never in the fingerprint. Things other than containers are `Running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// Created, or exited; costs no memory.
    Stopped,
    /// Frozen; keeps its memory.
    Paused,
    /// Runs.
    Running,
}

/// 16 hex digits of a hash of intent: sha, manifest, image, generation, baseline version. Secrets are not in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

/// How complete an outside thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Half made: `ensure` completes it, `remove` clears it.
    Partial,
    /// Complete. A container that has been created, or a job that runs, is whole; whether it runs is `run`.
    Whole,
    /// A job or container that ended by itself.
    Exited {
        /// Its exit code.
        code: i64,
        /// The kernel ended it, or a child of it, at its memory limit.
        oom: bool,
    },
    /// Cut off by the engine's death or ours: a job that never said how it ended.
    Lost,
    /// On its way out.
    Removing,
}

/// What a listing, or a call that succeeded, says of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The intent that it was made for, as labelled or recorded.
    pub fingerprint: Fingerprint,
    /// How complete it is.
    pub phase: Phase,
    /// How far it runs.
    pub run: Run,
    /// What it cannot outlive or do without (a container: its network and image). Those go after it.
    pub uses: Vec<ResourceId>,
    /// What it tells its dependants and routes.
    pub outputs: Outputs,
}

/// Facts about a thing that only its backend knows. All optional; which are set depends on the kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// Containers: the engine's id. Images: the content digest (`sha256:…`). Networks: the engine's id.
    pub id: Option<String>,
    /// Containers that run: the address in their network.
    pub address: Option<IpAddr>,
    /// Networks: the addresses that its containers can have.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Databases and buckets: the baseline version that they were made from.
    pub baseline: Option<String>,
    /// Databases and buckets, of environments and of baselines, where it is cheap to know: bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Buckets: bytes beyond those of its baseline.
    #[serde(default)]
    pub added: Option<u64>,
    /// Databases: what was stopped of them, since they hold more than they may.
    #[serde(default)]
    pub suspended: Option<Suspended>,
    /// Databases: tables that hold rows of the application's.
    #[serde(default)]
    pub tables: Option<u64>,
    /// Buckets: objects.
    #[serde(default)]
    pub objects: Option<u64>,
    /// Environment-owned things whose backend records it: the commit, for adoption after a lost store.
    pub commit: Option<(ProjectName, Sha, Trust)>,
    /// Containers: [`crate::secrets::digest`] of the secrets that it was created with; none if it got none.
    #[serde(default)]
    pub secrets: Option<String>,
    /// Containers: how often the kernel has ended a process of it at its limit of memory, while it ran on or not.
    #[serde(default)]
    pub oom: u32,
}

/// What a backend stops of a thing that holds more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suspended {
    /// Writes, unless a session says that it means to write.
    Writes,
    /// Everything: nobody gets in.
    Closed,
}

/// What exists. A backend that is not known keeps what was seen last, and nothing is planned there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Backends whose last listing succeeded.
    pub known: BTreeSet<Backend>,
    /// Everything of ours that was seen, and only ours.
    pub seen: BTreeMap<ResourceId, Observed>,
}

impl Inventory {
    /// Everything seen of one owner.
    pub fn of<'a>(&'a self, owner: &Owner) -> impl Iterator<Item = (&'a ResourceId, &'a Observed)> + use<'a> {
        let first = |backend| ResourceId {
            backend,
            owner: owner.clone(),
            generation: 0,
            kind: Kind::Network,
            name: String::new(),
        };
        let from = [Backend::Engine, Backend::Postgres, Backend::Objects].map(first);
        from.into_iter().flat_map(move |first| {
            let ours = (first.backend, first.owner.clone());
            self.seen.range(first..).take_while(move |(id, _)| id.backend == ours.0 && id.owner == ours.1)
        })
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Make it exist, complete and running as its spec says. Again: adopts what is under way.
    Ensure(Box<Resource>),
    /// Lower it to at most this. Never raises.
    Rest(ResourceId, Run),
    /// Make it be gone. Absent is success.
    Remove(ResourceId, Reason),
}

impl Action {
    /// What it acts on.
    #[must_use]
    pub fn id(&self) -> &ResourceId {
        match self {
            Action::Ensure(resource) => &resource.id,
            Action::Rest(id, _) | Action::Remove(id, _) => id,
        }
    }
}

/// Why something is removed. Every removal has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// No open ref wants the commit any more.
    Closed,
    /// Its time since the last visit is up.
    Expired,
    /// Newer commits of its refs took its place.
    Superseded,
    /// A person removed it.
    Person,
    /// Its approval was revoked.
    Revoked,
    /// Another trust of the same commit serves now, or trust fell.
    Trust,
    /// A newer generation is ready.
    Replaced,
    /// Unvisited for longest beyond `limits.stopped`: containers, jobs and network only.
    Cold,
    /// It differs from what is wanted: containers and jobs only.
    Drift,
    /// A shared thing that nobody wants.
    Unwanted,
    /// Its data vanished from outside; the next generation begins.
    Vanished,
    /// Its project was taken out of the configuration, and a person has confirmed.
    TakenOut,
    /// Ours by name, and no fact knows it.
    Orphan,
}

/// Why a call to a backend did not succeed. `text` is one line for people: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// Trying again may help: backs off with jitter.
    #[error("{text}")]
    Transient {
        /// One line.
        text: String,
    },
    /// Only a new fact (push, `stage`, new configuration) can help.
    #[error("{text}")]
    Permanent {
        /// One line.
        text: String,
    },
    /// Not there yet, and no failure: an image that CI has not pushed. Asked again every few seconds, until its time is up.
    #[error("{text}")]
    Waiting {
        /// One line: `waiting for ghcr.io/acme/shop:sha-0a1b2c3`.
        text: String,
    },
    /// Cut by us: superseded, removed, or shutting down.
    #[error("cancelled")]
    Cancelled,
}

impl Failure {
    /// A failure that waiting may cure.
    pub fn transient(text: impl Into<String>) -> Self {
        Failure::Transient { text: text.into() }
    }

    /// No failure yet: what is waited for.
    pub fn waiting(text: impl Into<String>) -> Self {
        Failure::Waiting { text: text.into() }
    }

    /// The same failure in other words.
    #[must_use]
    pub fn map(self, words: impl FnOnce(String) -> String) -> Self {
        match self {
            Failure::Transient { text } => Failure::Transient { text: words(text) },
            Failure::Permanent { text } => Failure::Permanent { text: words(text) },
            Failure::Waiting { text } => Failure::Waiting { text: words(text) },
            Failure::Cancelled => Failure::Cancelled,
        }
    }

    /// A failure that only a new fact cures.
    pub fn permanent(text: impl Into<String>) -> Self {
        Failure::Permanent { text: text.into() }
    }
}
