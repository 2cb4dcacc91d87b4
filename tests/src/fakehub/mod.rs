//! A GitHub for tests: stateful, over real HTTP, with real git behind it, and judged by what GitHub publishes of itself.
//!
//! `acts` is what people do there, `world` what it remembers, `shapes` how that looks, `server` takes requests in (`rest`,
//! `graphql`, `git`, `page`), `webhooks` go out, `faults` is what goes wrong on request. Whatever is said in either direction
//! goes through `oracle`; what is wrong with it is kept, and ends the test that drops the hub.
//!
//! It proves shapes and our own behaviour, not GitHub's.
// Values of JSON are made on the spot and given away.
#![allow(clippy::needless_pass_by_value)]

mod acts;
mod faults;
mod git;
mod graphql;
pub mod oracle;
mod page;
mod pulls;
mod rest;
mod server;
mod shapes;
pub(crate) mod signed;
mod webhooks;
mod world;
mod writes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use acts::Opening;
pub use faults::{Fault, Post, Trouble};
pub use git::take;
pub use webhooks::{Delivery, Target};
pub use world::{Bearer, Deployment, World};

/// One request that was answered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// Below the API's root.
    pub path: String,
    /// Points of GraphQL; 0 for REST.
    pub points: u64,
}

impl Request {
    /// Whether it was meant to change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.method != "GET" && !self.path.contains("graphql") && !self.path.contains("access_tokens")
    }
}

/// The state behind the server.
pub(crate) struct Inner {
    pub(crate) world: World,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) post: Post,
    pub(crate) target: Option<Target>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) waiting: Vec<Delivery>,
    pub(crate) requests: Vec<Request>,
    pub(crate) problems: Vec<String>,
    pub(crate) shown: BTreeSet<String>,
    pub(crate) under_way: UnderWay,
    pub(crate) me: Weak<Mutex<Inner>>,
}

/// Webhooks that were sent and not answered.
pub(crate) type UnderWay = watch::Sender<usize>;

/// A running GitHub. Dropping it ends it, and the test if anything was wrong with a message.
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
    folder: Option<tempfile::TempDir>,
}

impl Hub {
    /// Starts on a free port of loopback, with its repositories in a temporary folder.
    ///
    /// # Panics
    /// When the machine lacks git, openssl or GitHub's schemas.
    pub async fn start() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let folder = tempfile::Builder::new().prefix("fakehub-").tempdir_in("/var/tmp").expect("a folder");
        let path = folder.path().to_owned();
        let mut hub = Hub::serve(listener, &path);
        hub.folder = Some(folder);
        hub
    }

    /// Serves on a bound listener, with its repositories in this folder.
    ///
    /// # Panics
    /// As [`Hub::start`].
    #[must_use]
    pub fn serve(listener: TcpListener, folder: &Path) -> Hub {
        oracle::oracle();
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (key, public) = signed::key();
        let world = World::new(base, folder.to_owned(), key, public);
        let inner = Arc::new_cyclic(|me| {
            Mutex::new(Inner {
                world,
                troubles: Vec::new(),
                post: Post::default(),
                target: None,
                deliveries: Vec::new(),
                waiting: Vec::new(),
                requests: Vec::new(),
                problems: Vec::new(),
                shown: BTreeSet::new(),
                under_way: watch::channel(0).0,
                me: me.clone(),
            })
        });
        let server = tokio::spawn(server::serve(listener, inner.clone()));
        Hub { inner, server, folder: None }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("the hub is whole")
    }

    /// Where it is: what `[github] url` says.
    #[must_use]
    pub fn url(&self) -> String {
        self.lock().world.base.clone()
    }

    /// Looks at the world.
    pub fn world<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.lock().world)
    }

    /// Changes the world, without telling anybody.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.lock().world)
    }

    /// Everything that was asked since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// From now on this goes wrong, so many times, where `METHOD /path` contains `of`.
    pub fn trouble(&self, fault: Fault, of: &str, times: u32) {
        self.lock().troubles.push(Trouble { fault, of: of.to_owned(), times });
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.lock().troubles.clear();
    }

    /// What becomes of webhooks from now on.
    pub fn post(&self, post: Post) {
        self.lock().post = post;
    }

    /// Lets webhooks go that were held.
    pub fn release(&self) {
        self.lock().release();
    }

    /// Webhooks go there.
    pub fn send_to(&self, target: Target) {
        self.lock().target = Some(target);
    }

    /// What was wrong with messages so far. What is read is not held against the test.
    pub fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().problems)
    }

    /// Everything by which anybody was let in so far, as it stood in a header `Authorization`.
    pub fn shown(&self) -> BTreeSet<String> {
        self.lock().shown.clone()
    }

    /// What was delivered, with what was answered.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    /// The folder of a repository's git objects.
    #[must_use]
    pub fn git_of(&self, full_name: &str) -> PathBuf {
        self.world(|world| world.repo(full_name).unwrap_or_else(|| panic!("no repository {full_name}")).git.clone())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.abort();
        let problems = self.take_problems();
        if !problems.is_empty() {
            eprintln!("messages that GitHub would not send or accept:\n{}", problems.join("\n"));
            assert!(std::thread::panicking(), "{} messages are not as GitHub publishes them", problems.len());
        }
    }
}
