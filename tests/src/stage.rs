//! A whole Sidestage on loopback for one test, with a repository of its own. Closing it fails on leftovers.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use console::Ask;
use drivers::{Listing, Scope};
use planner::identity::Sha;
use planner::view::{CommitView, State, View};
use sidestage::config::Config;
use sidestage::demo::repository::{Files, Repository};
use sidestage::demo::visitor::{Answer, Visitor};
use sidestage::instance::Instance;
use tokio::sync::oneshot;

use crate::cli::{Ran, run};

/// The most that anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Sidestage with one project, `shop`.
pub(crate) struct Stage {
    instance: Option<Instance>,
    config: Config,
    pub(crate) repository: Repository,
    pub(crate) visitor: Visitor,
    _folder: tempfile::TempDir,
}

/// A port that nothing listens on, given out once in this process. It lies below those that the kernel draws for
/// connections, so none of these takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let at = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(at).unwrap();
        let address = ("127.0.0.1", port);
        if std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// A folder for an instance, a repository with these files on `main`, and a configuration with these lines of its front and
/// these further ones of the project's table (and tables behind it). Nothing runs yet.
pub(crate) async fn workshop(files: Files<'_>, front: &str, project: &str) -> (tempfile::TempDir, Repository, Config) {
    let folder = tempfile::Builder::new().prefix("sidestage-test-").tempdir_in("/var/tmp").unwrap();
    // PostgreSQL runs as another user, below this folder.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let repository = Repository::create(folder.path(), files).await.unwrap();
    let config = config(folder.path(), &repository, front, project);
    (folder, repository, config)
}

impl Stage {
    /// Starts with these files on `main` and these further lines of the project's table (and tables behind it).
    pub(crate) async fn open(files: Files<'_>, project: &str) -> Stage {
        Stage::with(files, "", project).await
    }

    /// The same behind TLS, with a certificate of its own making.
    pub(crate) async fn secure(files: Files<'_>, project: &str) -> Stage {
        Stage::with(files, "tls = \"self-signed\"", project).await
    }

    async fn with(files: Files<'_>, front: &str, project: &str) -> Stage {
        let (folder, repository, config) = workshop(files, front, project).await;
        Stage::begin(folder, repository, config).await
    }

    /// Starts what a [`workshop`] has made.
    pub(crate) async fn begin(folder: tempfile::TempDir, repository: Repository, config: Config) -> Stage {
        let visitor = Visitor { edge: config.listen.http, dns: config.dns().unwrap() };
        let instance = Instance::start(config.clone()).await.unwrap_or_else(|error| panic!("{error:#}"));
        let stage = Stage { instance: Some(instance), config, repository, visitor, _folder: folder };
        stage.look().await;
        stage
    }

    pub(crate) fn instance(&self) -> &Instance {
        self.instance.as_ref().expect("it runs")
    }

    /// Stops Sidestage, as for an upgrade: environments go on.
    pub(crate) async fn stop(&mut self) -> Config {
        let instance = self.instance.take().expect("it runs");
        instance.stop().await;
        instance.config().clone()
    }

    /// Starts it again.
    pub(crate) async fn start(&mut self, config: Config) {
        let instance = Instance::start(config).await.unwrap_or_else(|error| panic!("{error:#}"));
        self.instance = Some(instance);
        self.look().await;
    }

    /// Has the repository looked at, and waits until what it holds has been decided about.
    pub(crate) async fn look(&self) {
        let (reply, looked) = oneshot::channel();
        self.instance().doors().ask.send(Ask::Look("shop".to_owned(), reply)).await.unwrap();
        looked.await.unwrap().unwrap();
    }

    /// Everything there is, by the engine's ids: what was made anew has another one.
    pub(crate) async fn world(&self) -> Listing {
        let mut world = Listing::new();
        for driver in self.instance().drivers().values() {
            world.extend(driver.inventory(&Scope::All).await.unwrap());
        }
        world
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.instance().doors().view.borrow().clone()
    }

    pub(crate) fn commit(&self, sha: &Sha) -> Option<CommitView> {
        let view = self.view();
        let mut commits = view.projects.iter().flat_map(|project| &project.refs).flat_map(|found| &found.commits);
        commits.find(|commit| commit.sha == *sha).cloned()
    }

    /// Waits until the commit is in one of these states.
    pub(crate) async fn reaches(&self, sha: &Sha, states: &[State]) -> CommitView {
        self.until(&format!("{sha} {states:?}"), || self.commit(sha).filter(|commit| states.contains(&commit.state)))
            .await
    }

    /// Waits for a condition on the view.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        let mut changes = self.instance().doors().view;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}\n{:#?}", self.view());
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.changed()).await;
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.visitor.get(url).await.unwrap()
    }

    /// Its configuration as text, to be changed and read anew.
    pub(crate) fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let file = self.config.file.as_ref().unwrap();
        let text = change(std::fs::read_to_string(file).unwrap());
        std::fs::write(file, text).unwrap();
    }

    /// What the command line does with these words, and with this on its standard input.
    pub(crate) async fn type_in(&self, words: &str, input: &str) -> Ran {
        run(&self.instance().control_socket(), words, None, Some(input)).await
    }

    /// Removes everything; fails if anything of the instance is left on the machine.
    pub(crate) async fn close(mut self) {
        let instance = self.instance.take().expect("it runs");
        let config = instance.config().clone();
        instance.destroy().await.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!config.state_dir.exists(), "the state directory is left");
    }
}

/// A test that failed leaves nothing either.
impl Drop for Stage {
    fn drop(&mut self) {
        let removed = async {
            match self.instance.take() {
                Some(instance) => instance.destroy().await,
                None => remove_leftovers(&self.config).await,
            }
        };
        if self.config.state_dir.exists()
            && let Err(error) = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removed))
        {
            eprintln!("{error:#}");
        }
    }
}

/// Removes what an instance left. One that is just ending still holds its folder for a moment.
async fn remove_leftovers(config: &Config) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match Instance::remove_leftovers(config).await {
            Err(_) if begun.elapsed() < Duration::from_secs(20) => tokio::time::sleep(Duration::from_millis(200)).await,
            ended => return ended,
        }
    }
}

fn config(folder: &std::path::Path, repository: &Repository, front: &str, project: &str) -> Config {
    let (http, https, console, dns) = (free_port(), free_port(), free_port(), free_port());
    let https = if front.is_empty() { String::new() } else { format!("https = \"127.0.0.1:{https}\"") };
    let text = format!(
        r#"
domain = "staging.test"
state_dir = "{state}"
addresses = ["127.0.0.1"]
[listen]
http = "127.0.0.1:{http}"
{https}
console = "127.0.0.1:{console}"
dns = "127.0.0.1:{dns}"
[front]
dns = "authoritative"
{front}
[engine]
runc_for_forks = true
[database]
durable = false
extensions = ["pg_stat_statements"]
[[project]]
name = "shop"
git = "{git}"
access = "public"
{project}
"#,
        state = folder.join("state").display(),
        git = repository.bare().display(),
    );
    let file = folder.join("sidestage.toml");
    std::fs::write(&file, text).unwrap();
    Config::read(&file).unwrap_or_else(|error| panic!("{error:#}"))
}
