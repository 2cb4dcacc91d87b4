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
//! | `removal` | emptying what was condemned |
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
use std::future::Future;
use std::path::{Path, PathBuf};
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
use generations::Keyring;
pub use generations::Usage;
use hosts::Hosts;
use index::Index;
pub use trouble::Trouble;

/// What [`ObjectStore::open`] needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder; made when it is not there. Nobody else's business.
    pub dir: PathBuf,
    /// From which names and secrets are derived. A folder of another instance is refused.
    pub key: InstanceKey,
    /// `<domain>` is path style, `s3-<env>.<domain>` virtual-host style; other hosts are refused. No port.
    pub domain: String,
}

/// The store. Cheap to clone; the last clone's drop ends its background work.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
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
    /// Opens or creates the store, sweeps stale blobs and goes on with removals in the background.
    ///
    /// # Errors
    /// The folder is in use, belongs to another instance, or cannot be read and written.
    pub async fn open(settings: Settings) -> Result<ObjectStore, Trouble> {
        std::fs::create_dir_all(&settings.dir)?;
        let lock = lock(&settings.dir)?;
        let index = Index::open(&settings.dir.join("index.sqlite"), &settings.key.instance()).await?;
        let blobs = Blobs::new(settings.dir.join("blobs"))?;
        let keyring = Arc::new(Keyring::new(settings.key, index.generations(None).await?));
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let remover = tokio::spawn(removal::run(index.clone(), blobs.clone(), wake.clone(), stop.clone()));
        let inner = Inner {
            index,
            blobs,
            keyring,
            hosts: Hosts::new(&settings.domain),
            wake,
            _stop: stop.drop_guard(),
            remover: Mutex::new(Some(remover)),
            _lock: lock,
        };
        Ok(ObjectStore { inner: Arc::new(inner) })
    }

    /// Answers S3 requests until `shutdown`. The listener belongs on loopback: the edge stands in front, and passes Host,
    /// path and query as they came, since the signature covers them.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let access = Access { keyring: self.inner.keyring.clone() };
        let mut s3 = S3ServiceBuilder::new(service::Service {
            index: self.inner.index.clone(),
            blobs: self.inner.blobs.clone(),
        });
        s3.set_auth(access.clone());
        s3.set_access(access);
        s3.set_host(self.inner.hosts.clone());
        let door = Door { hosts: self.inner.hosts.clone(), keyring: self.inner.keyring.clone(), s3: s3.build() };
        Arc::new(door).serve(listener, shutdown).await;
    }

    /// What a generation of an environment's bucket holds; none when there is no such generation.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn usage(&self, env: &EnvId, generation: u32) -> Result<Option<Usage>, Trouble> {
        Ok(self.inner.index.generation(env, generation).await?.map(|generation| generation.usage))
    }

    /// Ends background work and lets go of the folder, once no server and no clone uses it any more.
    pub async fn close(self) {
        let remover = self.inner.remover.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(remover) = remover {
            remover.abort();
            let _ = remover.await;
        }
        self.inner.index.close().await;
    }

    fn index(&self) -> &Index {
        &self.inner.index
    }

    fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    fn wake_remover(&self) {
        self.inner.wake.notify_one();
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
