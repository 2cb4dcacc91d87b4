//! The object store: an S3 server inside the binary, and its [`Driver`](crate::Driver).
//!
//! An ordered index of keys in SQLite, and opaque blobs on disk or in a bucket of the operator's; keys are never paths, so `..`, `//` and `p` beside `p/q`
//! are plain names. The protocol is the crate s3s's. A bucket, `s3-<env>`, belongs to an environment; each generation of
//! it has objects and an access key of its own, and the access key of a request decides whose objects are meant.
//! A generation stands on its baseline's objects and keeps only what it changed itself, so that making one costs the same
//! whatever the baseline's size.
//!
//! | file | what |
//! | --- | --- |
//! | `door` | HTTP, refusals before S3 begins, CORS |
//! | `hosts`, `access` | which bucket, whose, and which operations there are |
//! | `service` | the operations; `reading`, `writing`, `multipart`, `browsing` and `tagging` do them |
//! | `index`, `layers`, `generations`, `snapshots`, `uploads`, `listing` | rows |
//! | `together` | many changes of rows, one wait for the disk |
//! | `blobs` | bytes, in a folder or in a bucket of the operator's |
//! | `quota` | how much is too much |
//! | `filling` | a baseline's objects, from a folder or an S3 server |
//! | `upstream` | S3 servers of the operator's, as a client |
//! | `removal` | emptying what was condemned, giving up old uploads |
//! | `driver` | buckets as resources |

mod access;
mod blobs;
mod browsing;
mod browsing_uploads;
mod checksum;
mod condition;
mod door;
mod driver;
mod filling;
mod generations;
mod hosts;
mod index;
mod layers;
mod listing;
mod meta;
mod multipart;
mod quota;
mod reading;
mod removal;
mod service;
mod snapshots;
mod tagging;
mod together;
mod trouble;
mod uploads;
mod upstream;
mod writing;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use planner::identity::{EnvId, InstanceKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use access::Access;
use blobs::{Blobs, Bucket};
use door::Door;
pub use driver::Objects;
use generations::Keyring;
pub use generations::Usage;
use hosts::Hosts;
use index::Index;
use removal::Remover;

use crate::{Lock, Quota};
pub use trouble::Trouble;
pub use upstream::{Upstream, check_credentials};

/// What an operator may set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How much environments may add to their baselines.
    pub quota: Quota,
    /// Bytes of the disk that are left free; none: a twentieth, at least 1 GiB.
    pub reserve: Option<u64>,
    /// Where blobs live; none: in files beside the index.
    pub upstream: Option<Upstream>,
}

/// The store. Dropping it ends its background work.
#[derive(Debug)]
pub struct ObjectStore {
    index: Index,
    blobs: Blobs,
    keyring: Arc<Keyring>,
    hosts: Hosts,
    remover: Remover,
    _stop: DropGuard,
    removing: Mutex<Option<JoinHandle<()>>>,
    /// One store per folder: a second one would sweep away what this one is writing.
    _lock: Lock,
}

impl ObjectStore {
    /// Opens or creates the store in `dir`, sweeps stale blobs and goes on with removals in the background.
    ///
    /// Secrets are derived from `key`. `domain` (no port) is path style, `s3-<env>.<domain>` virtual-host style.
    ///
    /// # Errors
    /// The folder is in use, belongs to another instance, or cannot be read and written.
    pub async fn open(dir: &Path, key: InstanceKey, domain: &str) -> Result<ObjectStore, Trouble> {
        ObjectStore::open_with(dir, key, domain, Settings::default()).await
    }

    /// As [`ObjectStore::open`], with settings of the operator's.
    ///
    /// # Errors
    /// As there.
    pub async fn open_with(
        dir: &Path,
        key: InstanceKey,
        domain: &str,
        settings: Settings,
    ) -> Result<ObjectStore, Trouble> {
        std::fs::create_dir_all(dir)?;
        let in_use = || Trouble::Refused(format!("the object store in {} is in use by another process", dir.display()));
        let lock = Lock::take(&dir.join("lock"))?.ok_or_else(in_use)?;
        let index = Index::open(&dir.join("index.sqlite"), &key.instance(), settings.quota).await?;
        let blobs = blobs(dir, &key.instance(), &index, settings).await?;
        let keyring = Arc::new(Keyring::new(key, index.generations(None).await?));
        let (wake, gone, stop) = (Arc::new(Notify::new()), Arc::new(watch::Sender::new(0)), CancellationToken::new());
        let remover = Remover { index: index.clone(), blobs: blobs.clone(), wake, gone };
        let removing = tokio::spawn(remover.clone().run(stop.clone()));
        Ok(ObjectStore {
            index,
            blobs,
            keyring,
            hosts: Hosts::new(domain),
            remover,
            _stop: stop.drop_guard(),
            removing: Mutex::new(Some(removing)),
            _lock: lock,
        })
    }

    /// Answers S3 requests until `shutdown`, then lets those under way finish. The listener belongs on loopback: the edge
    /// stands in front, and passes Host, path and query as they came, since the signature covers them.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let access = Access { keyring: self.keyring.clone() };
        let mut s3 = S3ServiceBuilder::new(service::Service { index: self.index.clone(), blobs: self.blobs.clone() });
        s3.set_auth(access.clone());
        s3.set_access(access);
        s3.set_host(self.hosts.clone());
        let mut config = S3Config::default();
        config.post_object_max_file_size = door::LARGEST_FORM;
        s3.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let door = Door::new(self.hosts.clone(), self.keyring.clone(), s3.build());
        Arc::new(door).serve(listener, shutdown).await;
    }

    /// What a generation of an environment's bucket holds; none when there is no such generation.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn usage(&self, env: &EnvId, generation: u32) -> Result<Option<Usage>, Trouble> {
        let all = self.index.generations(Some(env)).await?;
        Ok(all.into_iter().find(|found| found.number == generation).map(|found| found.usage))
    }

    /// Ends background work and closes the index. No server may be running.
    pub async fn close(&self) {
        let removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(removing) = removing {
            removing.abort();
            let _ = removing.await;
        }
        self.index.close().await;
    }
}

/// Where blobs live. What is there from before stays where it is, so the place cannot change while there is anything.
async fn blobs(dir: &Path, instance: &str, index: &Index, settings: Settings) -> Result<Blobs, Trouble> {
    let held = index.some_blob().await?.map(|name| name.contains('/'));
    match (settings.upstream, held) {
        (None, Some(true)) => Err(Trouble::Refused(format!(
            "the objects in {} are in a bucket of yours: name it in [objects] again, or remove every environment and baseline first",
            dir.display()
        ))),
        (Some(upstream), Some(false)) => Err(Trouble::Refused(format!(
            "[objects] names {upstream}, but {} holds objects already: take it out again, or remove every environment and baseline first",
            dir.display()
        ))),
        (None, _) => Ok(Blobs::in_folder(dir.join("blobs"), settings.reserve)?),
        (Some(upstream), held) => {
            let id = index.store_id().await?;
            Ok(Blobs::in_bucket(Bucket::open(&upstream, instance, &id, held.is_some()).await?))
        }
    }
}
