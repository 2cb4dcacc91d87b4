//! What the managed server is told: where it listens, who may connect, how much it may take.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::storage::Storage;

/// The superuser that only Sidestage is, over the socket.
pub(crate) const ADMIN: &str = "sidestage";

/// How the managed server is set up. A difference to what a running server was started with restarts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// A folder of the server's own, outside of `state_dir`, since another user than Sidestage's works in it. It holds
    /// data, socket, log and settings, is made if absent, and every folder above it must let that user through.
    pub home: PathBuf,
    /// The folder of `postgres` and `initdb`. None: the newest of `/usr/lib/postgresql/*/bin` and `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Whose the server is when Sidestage is root; otherwise it is Sidestage's own user.
    pub user: String,
    /// Where environments reach it: the service address. It must be on an interface by then.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// Connections of all environments together: those awake or dozing, times the limit of each.
    pub max_connections: u32,
    /// Extensions that manifests may name. Those that the server has to load at its start are loaded, where installed.
    pub extensions: BTreeSet<String>,
    /// Whether what is written outlives a loss of power, but for the last second of environments. False loses all of it:
    /// for demo and tests.
    pub durable: bool,
    /// A file that `sidestage storage create` has made. Templates and their clones lie in there.
    pub storage: Option<PathBuf>,
}

impl ServerSettings {
    /// In `home`, for environments that reach it at `address`: port 5432, user `postgres`, 200 connections.
    #[must_use]
    pub fn new(home: PathBuf, address: IpAddr) -> ServerSettings {
        let user = "postgres".to_owned();
        let extensions = BTreeSet::new();
        ServerSettings {
            home,
            bin_dir: None,
            user,
            address,
            port: 5432,
            max_connections: 200,
            extensions,
            durable: true,
            storage: None,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The storage that is mounted while the server runs.
    pub(crate) fn storage(&self) -> Option<Storage> {
        let file = self.storage.clone()?;
        Some(Storage { file, mounted_at: self.home.join("storage") })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("run")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// Name and content of the files that the server reads, all in `home`.
    /// `preloaded`: libraries that are loaded at the start.
    pub(crate) fn files(&self, account: &str, preloaded: &[&str]) -> [(PathBuf, String); 3] {
        [
            (self.home.join("pg_hba.conf"), HBA.to_owned()),
            (self.home.join("pg_ident.conf"), format!("own root {ADMIN}\nown {} {ADMIN}\n", quoted(account))),
            (self.configuration(), self.server_file(preloaded)),
        ]
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.home.join("postgresql.conf")
    }

    fn server_file(&self, preloaded: &[&str]) -> String {
        let file = |name: &str| quoted_path(&self.home.join(name));
        // Connections that Sidestage keeps for itself, however many the environments take.
        let reserved = 16;
        format!(
            "\
# Written by Sidestage at every start.
data_directory = {data}
hba_file = {hba}
ident_file = {ident}
listen_addresses = '{address}'
port = {port}
unix_socket_directories = {socket}
max_connections = {connections}
superuser_reserved_connections = {reserved}
cluster_name = 'sidestage'
shared_preload_libraries = '{preloaded}'

password_encryption = 'scram-sha-256'
authentication_timeout = '10s'
# One environment's statements are nobody else's business, and a loop of errors must not fill the disk.
log_min_messages = fatal
log_min_error_statement = panic
log_statement = 'none'

# Nothing is replicated, so the log of changes stays small.
wal_level = minimal
max_wal_senders = 0
max_prepared_transactions = 0
max_wal_size = '512MB'
fsync = {durable}
full_page_writes = {durable}
# Environments' commits do not wait for the disk, so that none of them feels what others write. A loss of power takes
# their last second, never what came before it.
synchronous_commit = off
# Many small databases, few cores.
max_parallel_workers_per_gather = 0
jit = off
",
            data = quoted_path(&self.data()),
            hba = file("pg_hba.conf"),
            ident = file("pg_ident.conf"),
            address = self.address,
            port = self.port,
            preloaded = preloaded.join(","),
            socket = quoted_path(&self.socket()),
            durable = if self.durable { "on" } else { "off" },
            connections = self.max_connections.saturating_add(reserved),
        )
    }
}

/// An environment's role may connect to the database of its own name and to no other; the superuser never over the network.
const HBA: &str = "\
# Written by Sidestage at every start.
local all      sidestage     peer map=own
local all      all           reject
host  all      sidestage all reject
host  sameuser all       all scram-sha-256
";

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn quoted_path(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\\', "\\\\").replace('\'', "''"))
}
