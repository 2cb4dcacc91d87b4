//! The container engine behind [`Driver`]: networks, images, jobs and containers, over its API on a unix socket.
//!
//! Everything here is found again by labels and names alone; nothing is remembered that a listing cannot tell.
//! A container or network is ours only with `sidestage.kind` and our instance (see [`labels`]), an image by its tag.

mod body;
mod build;
mod buildkit;
mod classic;
mod container;
mod context;
mod creation;
mod disk;
mod dockerfile;
mod events;
mod frontend;
mod health;
mod image;
mod job;
mod labels;
mod leftovers;
mod listing;
mod network;
mod oneoff;
mod output;
mod pulled;
mod registry;
mod rules;
mod service;
mod session;
mod steps;
mod subnets;
mod user;
mod volume;
mod written;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::errors::Error;
use ipnet::Ipv4Net;
use planner::identity::InstanceKey;
use planner::injected::Endpoints;
use planner::resource::{Failure, Kind, Observed, Resource, ResourceId, Run};
use planner::spec::Spec;

use crate::{Driver, Listing, Log, Scope, Secrets};

pub use build::Contexts;
pub use events::Touched;
pub use oneoff::{End, Ends, OneOff, Piece, Size};
pub use registry::Registry;
pub use service::{ServiceBridge, remove_service_bridge, service_bridge};

/// What the operator decides about the engine.
#[derive(Clone)]
pub struct Settings {
    /// Where services are, for the variables of containers.
    pub endpoints: Endpoints,
    /// The address on which database, inner edge and DNS listen for environments: see [`service_bridge`].
    pub services: Ipv4Addr,
    /// What networks take their /28 from.
    pub pool: Ipv4Net,
    /// Runs foreign code under the engine's default runtime. Otherwise foreign code is refused.
    pub runc_for_forks: bool,
    /// How long a container may take to obey SIGTERM before it is killed.
    pub stop_timeout: Duration,
    /// Processes per container.
    pub pids: i64,
    /// Bytes that a container may write to its own disk.
    pub disk: u64,
    /// Bytes of memory for each step of a build; the engine's client takes at most 2 GiB - 1.
    pub build_memory: u64,
    /// Processes of each step of a build of foreign code.
    pub build_pids: i64,
    /// Bytes that an image may have, its base included.
    pub image_size: u64,
    /// Bytes of the cache that the engine's BuildKit may keep, whoever filled it; 0 leaves it to the engine's own rules.
    pub build_cache: u64,
    /// Accounts at registries.
    pub registries: Vec<Registry>,
    /// Opens the source of a build.
    pub contexts: Contexts,
    /// Where the data of companions lies, a file each. The engine must see the same path.
    pub disks: PathBuf,
    /// Values of projects' secrets.
    pub secrets: Secrets,
}

impl Settings {
    /// The defaults of the configuration, for what is not told.
    #[must_use]
    pub fn new(endpoints: Endpoints, services: Ipv4Addr, contexts: Contexts) -> Settings {
        Settings {
            endpoints,
            services,
            pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 210, 0, 0), 16),
            runc_for_forks: false,
            stop_timeout: Duration::from_secs(10),
            pids: 256,
            disk: 2 << 30,
            build_memory: (2 << 30) - 1,
            build_pids: 512,
            image_size: 10_000_000_000,
            build_cache: 10_000_000_000,
            registries: Vec::new(),
            contexts,
            disks: "/var/lib/sidestage/disks".into(),
            secrets: Secrets::default(),
        }
    }
}

/// The container engine. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    socket: PathBuf,
    key: InstanceKey,
    instance: String,
    settings: Settings,
    client: tokio::sync::OnceCell<bollard::Docker>,
    /// Held while a subnet is chosen and taken.
    subnets: tokio::sync::Mutex<subnets::Cursor>,
    /// Builds hold it for reading; clearing away what builds left needs it for writing.
    builds: Arc<tokio::sync::RwLock<()>>,
    /// How containers ended, by engine's id: what cannot change until they are started again.
    ended: Mutex<HashMap<String, listing::Ended>>,
    /// Containers that ended because we stopped them.
    rested: Mutex<HashSet<String>>,
    /// Deaths by memory that the engine told of, by its id of the container: what a listing does not tell.
    deaths: Mutex<HashMap<String, events::Deaths>>,
    /// Containers that were stopped for what they wrote, and why.
    full: Mutex<HashMap<ResourceId, String>>,
    /// Names of the one-off containers of this process.
    oneoffs: Mutex<HashSet<String>>,
    /// What an earlier run left half built has been cleared away.
    tidied: AtomicBool,
    /// Users of foreign images, by image id.
    users: Mutex<HashMap<String, user::User>>,
    /// Frontends of Dockerfiles that could not be had, since when and why.
    no_frontends: Mutex<HashMap<String, (Instant, String)>>,
}

/// How long one ordinary request to the engine may take.
const REQUEST: Duration = Duration::from_secs(120);

impl Docker {
    /// The engine behind this socket. Does not connect yet: an engine that is away is a failure of each call.
    #[must_use]
    pub fn connect(socket: impl Into<PathBuf>, key: InstanceKey, settings: Settings) -> Docker {
        let instance = key.instance();
        Docker {
            inner: Arc::new(Inner {
                socket: socket.into(),
                instance,
                key,
                settings,
                client: tokio::sync::OnceCell::new(),
                subnets: tokio::sync::Mutex::default(),
                builds: Arc::default(),
                ended: Mutex::default(),
                rested: Mutex::default(),
                deaths: Mutex::default(),
                full: Mutex::default(),
                oneoffs: Mutex::default(),
                tidied: AtomicBool::new(false),
                users: Mutex::default(),
                no_frontends: Mutex::default(),
            }),
        }
    }

    /// The client, connected and speaking a version that the engine knows.
    async fn engine(&self) -> Result<&bollard::Docker, Failure> {
        let connect = || async {
            let socket = self.inner.socket.to_string_lossy();
            let version = bollard::API_DEFAULT_VERSION;
            bollard::Docker::connect_with_unix(&socket, REQUEST.as_secs(), version)?.negotiate_version().await
        };
        self.inner.client.get_or_try_init(connect).await.map_err(|error| self.fail("connecting", &error))
    }

    /// One line for what went wrong while `doing`. Whatever the engine did not answer is worth another try.
    fn fail(&self, doing: &str, error: &Error) -> Failure {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                let text = format!("{doing}: {}", one_line(message));
                if *status_code == 400 { Failure::permanent(text) } else { Failure::transient(text) }
            }
            Error::DockerStreamError { error } | Error::DockerContainerWaitError { error, .. } => {
                Failure::transient(format!("{doing}: {}", one_line(error)))
            }
            Error::JsonDataError { message, .. } => {
                Failure::transient(format!("{doing}: the container engine's answer makes no sense: {message}"))
            }
            other => {
                tracing::debug!(%other, doing, "the engine did not answer");
                let socket = self.inner.socket.display();
                Failure::transient(format!("the container engine at {socket} does not answer: is docker running?"))
            }
        }
    }

    /// The values of projects' secrets that it gives to containers.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.inner.settings.secrets
    }

    fn settings(&self) -> &Settings {
        &self.inner.settings
    }
}

/// The engine's messages are sometimes several lines long; ours are one.
fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The engine says that there is no such thing.
fn is_absent(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        // Two removals that walk one chain of layers overtake each other; the engine calls that an error of its own.
        Error::DockerResponseServerError { message, .. } => message.contains("unrecognized image ID"),
        _ => false,
    }
}

/// The engine says that another call, or the thing's present state, is in the way.
fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

/// Locks a cache; one that a panic left half written is still only a cache.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits no longer than the deadline of what is ensured.
async fn within<T>(
    deadline: Duration,
    what: &ResourceId,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(|_| Err(Failure::transient(format!("{what} was not done within {}", spoken(deadline)))))
}

/// A duration for people: `90 s`, `10 min`.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        secs if secs % 60 == 0 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

#[async_trait]
impl Driver for Docker {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let seen = self.list(scope).await?;
        if !self.inner.tidied.swap(true, Ordering::Relaxed)
            && let Err(failure) = self.tidy().await
        {
            tracing::warn!(%failure, "could not clear away what builds of an earlier run left");
        }
        Ok(seen)
    }

    async fn ensure(&self, resource: &Resource, needs: &Listing, log: &Log) -> Result<Observed, Failure> {
        match &resource.spec {
            Spec::Network(of) => within(resource.deadline, &resource.id, self.ensure_network(resource, of)).await,
            Spec::Image(build) => self.ensure_image(resource, build, log).await,
            Spec::Pulled(pulled) => {
                within(resource.deadline, &resource.id, self.ensure_pulled(resource, pulled, log)).await
            }
            Spec::Volume { of, size } => {
                let work = self.ensure_volume(resource, of, *size);
                within(resource.deadline, &resource.id, work).await
            }
            Spec::Job(container) => Box::pin(self.ensure_job(resource, container, needs, log)).await,
            Spec::Container(container) => {
                let work = Box::pin(self.ensure_container(resource, container, needs, log));
                within(resource.deadline, &resource.id, work).await
            }
            Spec::Database { .. }
            | Spec::Bucket { .. }
            | Spec::Template { .. }
            | Spec::Snapshot(_)
            | Spec::Spare { .. } => {
                Err(Failure::permanent(format!("{} is nothing that a container engine holds", resource.id)))
            }
        }
    }

    async fn rest(&self, id: &ResourceId, run: Run) -> Result<(), Failure> {
        match id.kind {
            Kind::Container | Kind::Job => self.rest_container(id, run).await,
            _ => Ok(()),
        }
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        match id.kind {
            Kind::Container | Kind::Job => self.remove_container(id).await,
            Kind::Network => self.remove_network(id).await,
            Kind::Image => self.remove_image(id).await,
            Kind::Volume => self.remove_volume(id).await,
            Kind::Database | Kind::Bucket => Ok(()),
        }
    }
}
