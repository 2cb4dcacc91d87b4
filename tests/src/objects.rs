//! The object store, met by real clients on loopback: boto3 with its defaults, rclone, s3cmd.
#![allow(clippy::unwrap_used)]

mod behind;
mod clients;
mod cut_off;
pub(crate) mod durability;
mod faults;
mod large_removals;
mod many_keys;
mod model;
mod quota;
mod resources;
mod sdk;
pub(crate) mod second;
mod snapshots;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::objects::{ObjectStore, Objects, Settings, Upstream};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::{EnvId, InstanceKey, Sha, Trust};
use planner::names;
use planner::resource::{Backend, Fingerprint, Kind, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::{DataFrom, ObjectsFrom, Origin, Spec};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DOMAIN: &str = "staging.test";

fn key() -> InstanceKey {
    InstanceKey::new([7; 32])
}

fn origin(n: u8) -> Origin {
    Origin { project: "shop".parse().unwrap(), sha: Sha::from_bytes([n; 20]), trust: Trust::Trusted }
}

fn env(n: u8) -> EnvId {
    let of = origin(n);
    key().env(&of.project, &of.sha, of.trust)
}

/// The bucket of environment `n`, in this generation.
fn bucket(n: u8, generation: u32) -> Resource {
    Resource {
        id: ResourceId {
            backend: Backend::Objects,
            owner: Owner::Env(env(n)),
            generation,
            kind: Kind::Bucket,
            name: "main".to_owned(),
        },
        spec: Spec::Bucket { of: origin(n), from: DataFrom::Baseline("default@1".to_owned()), public: Vec::new() },
        run: Run::Running,
        needs: Vec::new(),
        deadline: Duration::from_secs(60),
        fingerprint: Fingerprint(format!("{n:08}{generation:08}")),
    }
}

/// The objects of a baseline's version.
fn snapshot(version: &str, from: ObjectsFrom) -> Resource {
    Resource {
        id: ResourceId::snapshot(version),
        spec: Spec::Snapshot(from),
        run: Run::Running,
        needs: Vec::new(),
        deadline: Duration::from_secs(60),
        fingerprint: Fingerprint(format!("{version:0>16}")),
    }
}

/// A store in a folder, and what an application needs to use it.
struct Place {
    dir: PathBuf,
    domain: String,
    address: SocketAddr,
    store: Arc<ObjectStore>,
    driver: Objects,
    stop: CancellationToken,
    server: JoinHandle<()>,
    upstream: Option<Upstream>,
}

impl Place {
    async fn open(dir: &Path, domain: &str) -> Place {
        Place::open_with(dir, domain, Settings::default()).await
    }

    async fn open_with(dir: &Path, domain: &str, settings: Settings) -> Place {
        let upstream = settings.upstream.clone();
        let store = Arc::new(ObjectStore::open_with(dir, key(), domain, settings).await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (serving, until) = (store.clone(), stop.clone());
        let server = tokio::spawn(async move { serving.serve(listener, until).await });
        let driver = Objects::new(store.clone());
        Place { dir: dir.to_owned(), domain: domain.to_owned(), address, store, driver, stop, server, upstream }
    }

    /// A store of its own for one test, with the first generation of environments 1 and 2.
    async fn fresh() -> (TempDir, Place) {
        Place::fresh_with(Settings::default()).await
    }

    async fn fresh_with(settings: Settings) -> (TempDir, Place) {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open_with(dir.path(), DOMAIN, settings).await;
        place.ensure(&bucket(1, 1)).await;
        place.ensure(&bucket(2, 1)).await;
        (dir, place)
    }

    async fn close(self) {
        self.stop.cancel();
        self.server.await.unwrap();
        self.store.close().await;
    }

    async fn ensure(&self, resource: &Resource) -> Observed {
        self.driver.ensure(resource, &Listing::new(), &Log::none()).await.unwrap()
    }

    async fn listing(&self) -> Listing {
        self.driver.inventory(&Scope::All).await.unwrap()
    }

    /// The variables that an application of this generation gets, and those of environment 2 for comparison.
    fn variables(&self, n: u8, generation: u32) -> Vec<(String, String)> {
        let (id, secret) = names::bucket_keys(&key(), &env(n), generation);
        let (other_id, other_secret) = names::bucket_keys(&key(), &env(2), 1);
        let pairs = [
            ("AWS_ENDPOINT_URL_S3", format!("http://{}:{}", self.domain, self.address.port())),
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "staging".to_owned()),
            ("AWS_DEFAULT_REGION", "staging".to_owned()),
            ("S3_BUCKET", names::bucket(&env(n))),
            ("OTHER_BUCKET", names::bucket(&env(2))),
            ("OTHER_ACCESS_KEY_ID", other_id),
            ("OTHER_SECRET_ACCESS_KEY", other_secret),
            ("OWN_SHA", origin(n).sha.to_string()),
            ("OTHER_SHA", origin(2).sha.to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Runs one case of `client.py` as environment 1, generation 1.
    async fn client(&self, case: &str) -> String {
        self.client_as(1, 1, case, &[]).await
    }

    async fn client_as(&self, n: u8, generation: u32, case: &str, more: &[(&str, &str)]) -> String {
        let mut variables = self.variables(n, generation);
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        clients::python(case, &variables).await
    }

    /// Blobs, wherever they are, and their sizes.
    async fn blobs(&self) -> Vec<(String, u64)> {
        let Some(upstream) = &self.upstream else {
            let files = files(&self.dir.join("blobs")).into_iter();
            return files
                .map(|file| (file.display().to_string(), file.metadata().map_or(0, |meta| meta.len())))
                .collect();
        };
        let mut all = second::objects(upstream).await;
        all.retain(|(name, _)| !name.ends_with("/store"));
        all
    }
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Waits until something holds, for a minute at most.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs a case against a store of its own, and leaves no blob of a deleted object behind.
async fn case(name: &str, settings: Settings) {
    let (_dir, place) = Place::fresh_with(settings).await;
    place.client(name).await;
    let dir = place.dir.clone();
    // A copy is a second row for the same bytes.
    let named = "SELECT coalesce(sum(size), 0) FROM
                 (SELECT blob, size FROM objects UNION SELECT blob, size FROM parts)";
    let known = durability::rows(&dir, named).await;
    // In a bucket, what was cut off goes in the background.
    until(&format!("{name}: as many bytes are kept as the index knows of, {known}"), async || {
        place.blobs().await.iter().map(|(_, size)| *size as i64).sum::<i64>() == known
    })
    .await;
    place.close().await;
}

macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                case(stringify!($name), Settings::default()).await;
            }
        )*

        /// The same with a server of somebody else's behind it.
        mod in_a_bucket {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::case(stringify!($name), super::second::settings().await).await;
                }
            )*
        }
    };
}

// Each is `case_<name>` of a file in `objects/`.
cases! {
    objects
    ranges_and_conditions
    keys
    listing
    copy
    multipart
    presigned
    trailing_checksums
    signatures
    bucket_and_what_is_not_offered
    strangers
    cors
    readers_see_whole_objects
    tags_lists_and_forms
}
