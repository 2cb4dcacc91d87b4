//! A PostgreSQL of Sidestage's own, from installed binaries. It runs detached and survives Sidestage: a later
//! Sidestage takes it up again by its pid file.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::process::{Child, Command};

use super::error::ServerError;
use super::installed::{Account, Installed};
use super::process::{last_line, last_words, running, workers};
use super::settings::{ADMIN, ServerSettings};
use super::storage::Storage;
use super::template::PRELOADED;
use super::tools::{Tools, reach};

/// How long a start may take; after a crash it goes through its log first.
const START: Duration = Duration::from_secs(120);
/// How long a stop may take before it becomes an immediate one.
const STOP: Duration = Duration::from_secs(20);
/// The size at which the server's log begins again, in bytes.
const LOG_LIMIT: u64 = 16 << 20;

/// The managed server. Dropping this leaves it running.
#[derive(Debug)]
pub struct Server {
    settings: ServerSettings,
    account: Account,
    installed: Installed,
    /// Whether it ran before we came.
    found: bool,
    /// Cleared by `stop`, so that `keep` does not work against it.
    wanted: AtomicBool,
    /// Only one start or stop at a time.
    gate: tokio::sync::Mutex<()>,
}

impl Server {
    /// Takes up the running server, or starts it, making its data first if there is none. It answers when this returns.
    ///
    /// # Errors
    /// What is missing or in the way.
    pub async fn start(settings: ServerSettings) -> Result<Server, ServerError> {
        let account = Account::find(&settings.user)?;
        let made_by = fs::read_to_string(settings.data().join("PG_VERSION")).ok();
        let wanted = made_by.and_then(|text| text.trim().parse().ok());
        let installed = Installed::find(settings.bin_dir.as_deref(), wanted)?;
        let found = running(&settings.data()).is_some();
        let (wanted, gate) = (AtomicBool::new(true), tokio::sync::Mutex::new(()));
        let server = Server { settings, account, installed, found, wanted, gate };
        server.revive().await?;
        Ok(server)
    }

    /// Whether it ran already when [`Server::start`] took it up: containers may be using it.
    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }

    /// Starts the server if it does not run, also after `stop`. True if it had to.
    ///
    /// # Errors
    /// What is missing or in the way.
    pub async fn revive(&self) -> Result<bool, ServerError> {
        let _gate = self.gate.lock().await;
        self.wanted.store(true, Ordering::Relaxed);
        self.prepare()?;
        let changed = self.write_files()?;
        if let Some(pid) = self.pid() {
            if !changed {
                self.await_answer(None).await?;
                return Ok(false);
            }
            tracing::info!(pid, "restarting PostgreSQL: its settings have changed");
            self.halt().await;
        }
        self.make_data().await?;
        self.spawn().await?;
        Ok(true)
    }

    /// Looks after the server for ever: starts it again whenever it has died, and bounds its log.
    pub async fn keep(&self) {
        let mut pause = Duration::from_secs(1);
        loop {
            tokio::time::sleep(pause).await;
            pause = Duration::from_secs(1);
            if let Ok(log) = OpenOptions::new().write(true).open(self.settings.log())
                && log.metadata().is_ok_and(|meta| meta.len() > LOG_LIMIT)
            {
                let _ = log.set_len(0);
            }
            if self.wanted.load(Ordering::Relaxed) && self.pid().is_none() {
                match self.revive().await {
                    Ok(true) => tracing::warn!("PostgreSQL had stopped and was started again"),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%error, "PostgreSQL has stopped and cannot be started");
                        pause = Duration::from_secs(15);
                    }
                }
            }
        }
    }

    /// The process, if it runs. A process that has its number by chance is not it.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        running(&self.settings.data())
    }

    /// Where environments reach it.
    #[must_use]
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// The folder of its programs, `psql` and `pg_dump` among them.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.installed.bin
    }

    /// How Sidestage itself connects: as superuser, over the socket, to this database. What it writes down waits for the
    /// disk, and with it everything that was written before.
    pub(crate) fn admin(&self, database: &str) -> PgConnectOptions {
        let commit = if self.settings.durable { "on" } else { "off" };
        PgConnectOptions::new_without_pgpass()
            .socket(self.settings.socket())
            .port(self.settings.port)
            .username(ADMIN)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .application_name("sidestage")
            .options([("synchronous_commit", commit)])
    }

    /// Its programs, for whoever loads data.
    pub(crate) fn tools(&self) -> Tools {
        Tools {
            bin: self.installed.bin.clone(),
            account: self.account.clone(),
            home: self.settings.home.clone(),
            reach: reach(&self.settings.address.to_string(), self.settings.port),
            encryption: Vec::new(),
        }
    }

    /// Stops the server, connections and all. `revive` starts it again.
    pub async fn stop(&self) {
        let _gate = self.gate.lock().await;
        self.wanted.store(false, Ordering::Relaxed);
        self.halt().await;
    }

    /// Stops the server and deletes all that it had.
    ///
    /// # Errors
    /// When something in its folder cannot be deleted.
    pub async fn destroy(&self) -> Result<(), ServerError> {
        self.stop().await;
        erase(&self.settings, &self.account.name)
    }

    async fn halt(&self) {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            let Some(pid) = self.pid() else { return };
            let _ = kill(Pid::from_raw(pid), signal);
            let since = Instant::now();
            while self.pid() == Some(pid) && since.elapsed() < STOP {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The folders, with owner and mode.
    fn prepare(&self) -> Result<(), ServerError> {
        let home = &self.settings.home;
        let socket = self.settings.socket().join(format!(".s.PGSQL.{}.lock", self.settings.port));
        // 108 bytes with the closing zero, on every system that we know.
        if socket.as_os_str().len() > 107 {
            return Err(ServerError::TooLong { path: socket });
        }
        self.own_folder(home)?;
        for above in home.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let meta = fs::metadata(above).map_err(|source| ServerError::Io { path: above.to_owned(), source })?;
            if meta.mode() & 0o001 == 0 && meta.uid() != self.account.uid.as_raw() {
                return Err(ServerError::Closed { folder: above.to_owned(), user: self.account.name.clone() });
            }
        }
        self.own_folder(&self.settings.socket())?;
        match self.settings.storage() {
            Some(storage) => storage.mount(self.account.uid, self.account.gid)?,
            None => Storage::needless(home)?,
        }
        Ok(())
    }

    /// Makes a folder that only the server's user and root can enter.
    fn own_folder(&self, path: &Path) -> Result<(), ServerError> {
        let failed = |source| ServerError::Io { path: path.to_owned(), source };
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        if self.account.switch {
            chown(path, Some(self.account.uid), Some(self.account.gid)).map_err(|error| failed(error.into()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)
    }

    /// Writes the files that the server reads. True if one differs from what was there.
    fn write_files(&self) -> Result<bool, ServerError> {
        let mut changed = false;
        for (path, content) in self.settings.files(&self.account.name, &self.preloaded()) {
            let failed = |source| ServerError::Io { path: path.clone(), source };
            if fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
                continue;
            }
            changed = true;
            let mut file = tempfile::NamedTempFile::new_in(&self.settings.home).map_err(failed)?;
            io::Write::write_all(&mut file, content.as_bytes()).map_err(failed)?;
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(failed)?;
            file.persist(&path).map_err(|error| failed(error.error))?;
        }
        Ok(changed)
    }

    /// Libraries of extensions on offer that work only when loaded at the start. One that is not there would keep the
    /// server from starting, and is told of when somebody asks for it.
    fn preloaded(&self) -> Vec<&'static str> {
        let offered = PRELOADED.into_iter().filter(|name| self.settings.extensions.contains(*name));
        offered.filter(|name| self.installed.has_library(name)).collect()
    }

    /// `initdb`, once. Half-made data is never taken for data: it gets its name last.
    async fn make_data(&self) -> Result<(), ServerError> {
        let data = self.settings.data();
        if data.join("PG_VERSION").exists() {
            return Ok(());
        }
        let half = self.settings.home.join("data.new");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Io { path, source }
        };
        if half.exists() {
            fs::remove_dir_all(&half).map_err(failed(&half))?;
        }
        let output = self
            .command("initdb")
            .args(["--username", ADMIN, "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"])
            .args(["--auth-local=peer", "--auth-host=scram-sha-256"])
            .args((!self.settings.durable).then_some("--no-sync"))
            .arg("--pgdata")
            .arg(&half)
            .output()
            .await
            .map_err(failed(&self.installed.bin.join("initdb")))?;
        let _ = fs::write(self.settings.log(), [&output.stdout[..], &output.stderr[..]].concat());
        if !output.status.success() {
            let said = last_line(&String::from_utf8_lossy(&output.stderr));
            return Err(ServerError::Failed { program: "initdb", said, log: self.settings.log() });
        }
        fs::rename(&half, &data).map_err(failed(&data))
    }

    /// Starts the process and waits until it answers. One that does not answer is ended.
    async fn spawn(&self) -> Result<(), ServerError> {
        let failed = |path: PathBuf| move |source| ServerError::Io { path, source };
        self.look_at_port()?;
        self.await_orphans().await;
        let path = self.settings.log();
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(failed(path.clone()))?;
        let begun = log.metadata().map_err(failed(path.clone()))?.len();
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.settings.data())
            .arg(format!("--config-file={}", self.settings.configuration().display()))
            .stdout(Stdio::from(log.try_clone().map_err(failed(path.clone()))?))
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(failed(self.installed.bin.join("postgres")))?;
        let answered = self.await_answer(Some((&mut child, begun))).await;
        if answered.is_err()
            && let Some(pid) = child.id()
        {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGQUIT);
        }
        answered
    }

    /// A program of PostgreSQL's, as the server's user, apart from our terminal, environment and standard input.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.installed.bin.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.settings.home)
            .stdin(Stdio::null())
            .process_group(0);
        if self.account.switch {
            command.uid(self.account.uid.as_raw()).gid(self.account.gid.as_raw());
        }
        command
    }

    /// Waits until the server answers, or says why it will not.
    async fn await_answer(&self, mut child: Option<(&mut Child, u64)>) -> Result<(), ServerError> {
        let since = Instant::now();
        loop {
            let said = match tokio::time::timeout(START, self.ping()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no reply".to_owned(),
            };
            if let Some((child, begun)) = &mut child
                && !matches!(child.try_wait(), Ok(None))
            {
                let log = self.settings.log();
                return Err(ServerError::Failed { program: "postgres", said: last_words(&log, *begun), log });
            }
            if since.elapsed() > START {
                return Err(ServerError::Silent { home: self.settings.home.clone(), patience: START, said });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ping(&self) -> Result<(), sqlx::Error> {
        let connection: PgConnection = self.admin("postgres").connect().await?;
        connection.close().await
    }

    /// PostgreSQL's own words for a taken port name nobody.
    fn look_at_port(&self) -> Result<(), ServerError> {
        let (address, port) = (self.settings.address, self.settings.port);
        match TcpListener::bind((address, port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = listeners::get_process_by_port(port, listeners::Protocol::TCP)
                    .map_or_else(|_| "another process".to_owned(), |p| format!("{} (pid {})", p.name, p.pid));
                Err(ServerError::PortTaken { address, port, holder })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(ServerError::NoAddress { address }),
            _ => Ok(()),
        }
    }

    /// Backends outlive a killed postmaster by moments, and PostgreSQL refuses to start beside them. Once there are none, a
    /// pid file whose number now belongs to another process of the same user is the one thing that it cannot tell.
    async fn await_orphans(&self) {
        let data = self.settings.data();
        let since = Instant::now();
        while !workers(&data).is_empty() {
            if since.elapsed() > STOP {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = fs::remove_file(data.join("postmaster.pid"));
    }
}

/// Stops whatever server runs in `home` and deletes it, without a handle: for a clean-up after a crash.
///
/// # Errors
/// When something in the folder cannot be deleted.
pub async fn destroy_at(settings: ServerSettings) -> Result<(), ServerError> {
    let account = Account::find(&settings.user)?;
    let installed = Installed { bin: PathBuf::new(), major: 0 };
    let gate = tokio::sync::Mutex::new(());
    Server { settings, account, installed, found: true, wanted: AtomicBool::new(false), gate }.destroy().await
}

/// Deletes what is ours in the folder, and the folder if nothing else is in it.
fn erase(settings: &ServerSettings, account: &str) -> Result<(), ServerError> {
    if let Some(storage) = settings.storage() {
        // The file is the operator's; what the server had in it goes.
        let inside = storage.tablespace();
        gone(&inside, fs::remove_dir_all(&inside))?;
        storage.unmount()?;
    }
    let half = settings.home.join("data.new");
    for folder in [settings.data(), half, settings.socket()] {
        gone(&folder, fs::remove_dir_all(&folder))?;
    }
    let files = settings.files(account, &[]).map(|(path, _)| path);
    for file in files.iter().chain([&settings.log()]) {
        gone(file, fs::remove_file(file))?;
    }
    gone(&settings.home, fs::remove_dir(&settings.home))
}

fn gone(path: &Path, result: io::Result<()>) -> Result<(), ServerError> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ServerError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
