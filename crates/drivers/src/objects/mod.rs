//! The object store: an S3 server inside the binary, and its [`Driver`](crate::Driver).
//!
//! An ordered index of keys in SQLite and opaque blobs on disk; keys are never paths, so `..`, `//` and `p` beside `p/q`
//! are plain names. The protocol is the crate s3s's. A bucket, `s3-<env>`, belongs to an environment; each generation of
//! it has objects and an access key of its own, and the access key of a request decides whose objects are meant.
//!
//! | file | what |
//! | --- | --- |
//! | `door` | HTTP, refusals before S3 begins, CORS |
//! | `hosts`, `access` | which bucket, whose, and which operations there are |
//! | `service` | the operations; `reading`, `writing`, `multipart` and `browsing` do them |
//! | `index`, `generations`, `uploads`, `listing` | rows |
//! | `blobs` | bytes |
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
mod generations;
mod hosts;
mod index;
mod listing;
mod meta;
mod multipart;
mod reading;
mod removal;
mod service;
mod trouble;
mod uploads;
mod writing;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use planner::identity::{EnvId, InstanceKey};
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use access::Access;
use blobs::Blobs;
use door::Door;
pub use driver::Objects;
use generations::Keyring;
pub use generations::Usage;
use hosts::Hosts;
use index::Index;
pub use trouble::Trouble;

/// The store. Dropping it ends its background work.
#[derive(Debug)]
pub struct ObjectStore {
    index: Index,
    blobs: Blobs,
    keyring: Arc<Keyring>,
    hosts: Hosts,
    wake: Arc<Notify>,
    _stop: DropGuard,
    remover: Mutex<Option<JoinHandle<()>>>,
    /// One store per folder: a second one would sweep away what this one is writing.
    _lock: File,
}

impl ObjectStore {
    /// Opens or creates the store in `dir`, sweeps stale blobs and goes on with removals in the background.
    ///
    /// Secrets are derived from `key`. `domain` (no port) is path style, `s3-<env>.<domain>` virtual-host style.
    ///
    /// # Errors
    /// The folder is in use, belongs to another instance, or cannot be read and written.
    pub async fn open(dir: &Path, key: InstanceKey, domain: &str) -> Result<ObjectStore, Trouble> {
        std::fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        let index = Index::open(&dir.join("index.sqlite"), &key.instance()).await?;
        let blobs = Blobs::new(dir.join("blobs"))?;
        let keyring = Arc::new(Keyring::new(key, index.generations(None).await?));
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let remover = tokio::spawn(removal::run(index.clone(), blobs.clone(), wake.clone(), stop.clone()));
        Ok(ObjectStore {
            index,
            blobs,
            keyring,
            hosts: Hosts::new(domain),
            wake,
            _stop: stop.drop_guard(),
            remover: Mutex::new(Some(remover)),
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
        let door = Door { hosts: self.hosts.clone(), keyring: self.keyring.clone(), s3: s3.build() };
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
        let remover = self.remover.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(remover) = remover {
            remover.abort();
            let _ = remover.await;
        }
        self.index.close().await;
    }
}

fn lock(dir: &Path) -> Result<File, Trouble> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Trouble::Refused(format!("the object store in {} is in use by another process", dir.display())))
        }
        Err(std::fs::TryLockError::Error(why)) => Err(why.into()),
    }
}
