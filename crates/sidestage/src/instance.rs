//! A running Sidestage: everything wired together, from listeners to the loop.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use console::{Ask, Links};
use drivers::Secrets;
use edge::Visits;
use edge::proxy::Side;
use edge::tls::Tls;
use planner::command::{Actor, Role};
use planner::core::Core;
use planner::facts::Row;
use planner::identity::InstanceKey;
use planner::tables::Tables;
use planner::view::View;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::calls::Calls;
use crate::clock::now;
use crate::config::Config;
use crate::controller::{Controller, Ends, Parts};
use crate::databases::{Backing, Databases};
use crate::inside::Inside;
use crate::listings::Listings;
use crate::logs::Logs;
use crate::setup::Setup;
use crate::state_dir::{self, StateDir};
use crate::store::Store;
use crate::vault::{Files, Vault};
pub use crate::world::Drivers;
use crate::world::{DATABASE_PORT, Made, World};
use crate::{bind, certificate, notify};

/// A running Sidestage. Dropping it leaves tasks running until the runtime ends; stop it.
pub struct Instance {
    config: Config,
    dir: Arc<StateDir>,
    key: InstanceKey,
    world: World,
    doors: console::Doors,
    links: Links,
    tls: Option<Tls>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    inside: OnceLock<Arc<Inside>>,
}

/// Files with secrets, the certificate and bound listeners, before anything is started: what is wrong with them stops the
/// start while nothing has happened.
struct Sockets {
    files: Files,
    tls: Option<Tls>,
    visitors: Vec<TcpListener>,
    console: TcpListener,
    dns: Vec<UdpSocket>,
    dns_tcp: Vec<TcpListener>,
}

impl Instance {
    /// Starts everything: listeners, service address, database server, object store, loop, edge, console. A start that
    /// fails takes back what it made, and leaves what it found.
    ///
    /// # Errors
    /// The first thing that does not start: what, where, what to do.
    pub async fn start(config: Config) -> anyhow::Result<Instance> {
        let dir = Arc::new(StateDir::take(&config.state_dir)?);
        let key = dir.instance_key()?;
        let sockets = Sockets::bind(&config, &dir).await?;
        let secrets = Secrets::default();
        let mut made = Made::default();
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let started = match Box::pin(World::open(&config, &dir, &key, sockets.is_public(), &secrets, &mut made)).await {
            Ok(world) => Box::pin(Instance::run(config, dir, key, world, sockets, &shutdown, &tasks)).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            shutdown.cancel();
            tasks.close();
            tasks.wait().await;
            made.take_back().await;
        }
        started
    }

    /// The loop and what serves, over a world that is open.
    async fn run(
        config: Config,
        dir: Arc<StateDir>,
        key: InstanceKey,
        world: World,
        sockets: Sockets,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Instance> {
        let store = Store::open(&dir.store()).await.with_context(|| format!("the store {}", dir.store().display()))?;
        let rows = store.load().await.context("cannot read the store")?;
        let secrets = world.docker.secrets().clone();
        let mut vault = Vault::open(key.clone(), &rows, secrets).map_err(anyhow::Error::msg).context("the store")?;
        vault.take_files(sockets.files, &config);
        let (forges, tls) = (world.forges.clone(), sockets.tls.clone());
        let setup = Setup { config: config.clone(), vault, forges, dir: dir.clone(), tls };
        let core =
            Core::restore(key.clone(), setup.policy(), &rows).map_err(anyhow::Error::msg).context("the store")?;

        let (ask, asked) = mpsc::channel(64);
        let (knock, knocked) = mpsc::channel(256);
        let (tables, published) = watch::channel(Arc::new(Tables::default()));
        let (view, shown) = watch::channel(Arc::new(View::default()));
        let visits = Arc::new(Visits::new(now));
        let ends = Ends { ask: asked, knock: knocked, visits: visits.clone(), tables, view };

        let objects = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let edge = edge::Doors { tables: published, knock, visits, objects: objects.local_addr()? };
        let doors = console::Doors { view: shown, ask, now };
        let (shutdown, tasks) = (shutdown.clone(), tasks.clone());
        let (links, tls) = (Links::new(now), sockets.tls);
        let instance =
            Instance { links, config, dir, key, world, doors, tls, shutdown, tasks, inside: OnceLock::new() };
        instance.serve_objects(objects);
        instance.serve_databases().await?;
        instance.serve_edge(sockets.visitors, sockets.dns, sockets.dns_tcp, &edge).await?;
        instance.serve_console(sockets.console)?;
        instance.run_loop(core, rows, store, setup, ends);
        Ok(instance)
    }

    fn serve_objects(&self, listener: TcpListener) {
        let (store, shutdown) = (self.world.store.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { store.serve(listener, shutdown).await });
    }

    /// The way to a database server of the operator's. One of our own listens itself.
    async fn serve_databases(&self) -> anyhow::Result<()> {
        let Backing::Upstream(upstream) = self.world.databases.clone() else { return Ok(()) };
        let address = SocketAddr::from((self.world.services, DATABASE_PORT));
        let listener = bind::tcp(address, "the way to [database] url").await?;
        let (most, stop) = (self.config.database_connections(), self.shutdown.clone());
        self.tasks.spawn(async move { upstream.serve(listener, most, stop).await });
        Ok(())
    }

    /// Outer and inner edge, on the same ports, and the DNS for visitors and for foreign code.
    async fn serve_edge(
        &self,
        visitors: Vec<TcpListener>,
        mut dns: Vec<UdpSocket>,
        mut dns_tcp: Vec<TcpListener>,
        doors: &edge::Doors,
    ) -> anyhow::Result<()> {
        let services = IpAddr::from(self.world.services);
        let mut edges: Vec<_> = visitors.into_iter().map(|listener| (listener, Side::Outer)).collect();
        for port in self.config.inner_ports() {
            edges.push((bind::tcp(SocketAddr::new(services, port), "inner edge").await?, Side::Inner));
        }
        dns.push(bind::udp(SocketAddr::new(services, 53), "DNS of environments").await?);
        dns_tcp.push(bind::tcp(SocketAddr::new(services, 53), "DNS of environments").await?);
        for (listener, side) in edges {
            let (doors, tls, stop) = (doors.clone(), self.tls.clone(), self.shutdown.clone());
            self.tasks.spawn(edge::proxy::serve(listener, doors, side, tls, stop));
        }
        if let Some(tls) = self.tls.clone() {
            self.tasks.spawn(tls.keep(self.shutdown.clone()));
        }
        let answers = edge::dns::serve(dns, dns_tcp, doors.tables.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            if let Err(failure) = answers.await {
                error!(%failure, "the DNS broke");
            }
        });
        Ok(())
    }

    fn serve_console(&self, listener: TcpListener) -> anyhow::Result<()> {
        let settings = console::Settings {
            url: self.config.console_url(),
            instance: self.key.instance(),
            version: env!("CARGO_PKG_VERSION"),
            links: self.links.clone(),
        };
        let local = bind::unix(&self.control_socket())?;
        let hooks = notify::listen(&state_dir::notify_socket(&self.config.state_dir))?;
        let (doors, stop) = (self.doors.clone(), self.shutdown.clone());
        let people = console::serve(listener, settings.clone(), doors.clone(), stop.clone().cancelled_owned());
        let cli = console::serve_local(local, settings, doors.clone(), stop.clone().cancelled_owned());
        self.tasks.spawn(async move {
            let (people, cli) = tokio::join!(people, cli);
            for failure in [people, cli].into_iter().filter_map(Result::err) {
                error!(%failure, "the console broke");
            }
        });
        self.tasks.spawn(notify::serve(hooks, doors, stop));
        Ok(())
    }

    fn run_loop(&self, core: Core, rows: Vec<Row>, store: Store, setup: Setup, ends: Ends) {
        let mailbox = mpsc::unbounded_channel();
        let drivers = &self.world.drivers;
        let secrets = self.world.docker.secrets().clone();
        let calls = Calls::new(drivers.clone(), self.dir.clone(), secrets, ends.visits.clone());
        let logs = Logs::new(self.dir.clone(), self.world.docker.clone(), calls.writing());
        let inside = Inside::new(
            self.world.docker.clone(),
            ends.visits.clone(),
            self.doors.view.clone(),
            mailbox.0.clone(),
            self.dir.clone(),
            calls.writing(),
            (self.shutdown.clone(), self.tasks.clone()),
        );
        let _ = self.inside.set(inside.clone());
        let (clock, stop) = (inside.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = clock.keep_time() => {}
                () = stop.cancelled() => {}
            }
        });
        let databases = Databases {
            driver: self.world.postgres.clone(),
            key: self.key.clone(),
            address: SocketAddr::from((self.world.services, DATABASE_PORT)),
            bin_dir: self.world.databases.programs().to_owned(),
        };
        let controller = Controller::new(Parts {
            core,
            rows,
            store,
            calls,
            listings: Listings::new(drivers.clone(), mailbox.0.clone()),
            logs,
            setup,
            ends,
            inside,
            databases,
            engine: self.world.docker.clone(),
            mailbox,
        });
        self.tasks.spawn(controller.run(self.shutdown.clone()));
        let (backing, engine, stop) = (self.world.databases.clone(), self.world.docker.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = backing.keep() => {}
                () = engine.watch_disk() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// A fresh one-time link into the console.
    #[must_use]
    pub fn login_link(&self) -> String {
        let url = self.config.console_url();
        self.links.issue().map_or_else(|_| url.clone(), |token| format!("{url}/login?token={token}"))
    }

    /// Where the CLI reaches it.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        state_dir::control_socket(&self.config.state_dir)
    }

    /// What people have to trust to open environments without a warning: the certificate of our own authority, if it signs.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.tls.as_ref()?.published()
    }

    /// Reads the configuration, the files that it names and the certificate anew, and answers with what that changed.
    ///
    /// # Errors
    /// One line: what is wrong with it. Nothing has changed then.
    pub async fn reload(&self) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let actor = Actor { name: "SIGHUP".to_owned(), role: Role::Admin };
        let stopping = || "it is stopping".to_owned();
        self.doors.ask.send(Ask::Reload(actor, reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The way to the loop.
    #[must_use]
    pub fn doors(&self) -> console::Doors {
        self.doors.clone()
    }

    /// Runs the cron jobs of this minute since the Unix epoch, as the clock does.
    pub fn tick(&self, minute: u64) {
        if let Some(inside) = self.inside.get() {
            inside.tick(minute);
        }
    }

    /// The drivers, for looking.
    #[must_use]
    pub fn drivers(&self) -> &Drivers {
        &self.world.drivers
    }

    /// Stops serving and deciding. Containers and databases go on, and the next start takes them up.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Stops, and removes everything of this instance from the machine.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn destroy(self) -> anyhow::Result<()> {
        self.stop().await;
        let root = self.config.state_dir.clone();
        Box::pin(self.world.destroy(&self.key)).await?;
        remove_folders(&root)
    }

    /// Removes what an instance that was killed left behind, if it left anything.
    ///
    /// # Errors
    /// When another Sidestage still runs there, or something cannot be removed.
    pub async fn remove_leftovers(config: &Config) -> anyhow::Result<()> {
        if !config.state_dir.exists() {
            return remove_folders(&config.state_dir);
        }
        let dir = Arc::new(StateDir::take(&config.state_dir)?);
        let key = dir.instance_key()?;
        let mut made = Made::default();
        match Box::pin(World::open(config, &dir, &key, false, &Secrets::default(), &mut made)).await {
            Ok(world) => Box::pin(world.destroy(&key)).await?,
            Err(error) => {
                made.take_back().await;
                return Err(error);
            }
        }
        remove_folders(&config.state_dir)
    }
}

impl Sockets {
    async fn bind(config: &Config, dir: &StateDir) -> anyhow::Result<Sockets> {
        let mut sockets = Sockets {
            files: Files::read(config)?,
            tls: certificate::open(config, dir)?,
            visitors: vec![bind::tcp(config.listen.http, "[listen] http").await?],
            console: bind::tcp(config.listen.console, "[listen] console").await?,
            dns: Vec::new(),
            dns_tcp: Vec::new(),
        };
        if let Some(address) = config.https() {
            sockets.visitors.push(bind::tcp(address, "[listen] https").await?);
        }
        if let Some(address) = config.dns() {
            sockets.dns.push(bind::udp(address, "[listen] dns").await?);
            sockets.dns_tcp.push(bind::tcp(address, "[listen] dns").await?);
        }
        Ok(sockets)
    }

    /// Whether clients trust the certificate as they come.
    fn is_public(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_public)
    }
}

fn remove_folders(root: &Path) -> anyhow::Result<()> {
    remove_folder(&state_dir::services(root))?;
    remove_folder(root)
}

/// Removes a folder with all that it holds, if it is there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
