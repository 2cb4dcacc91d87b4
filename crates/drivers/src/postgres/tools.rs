//! PostgreSQL's own programs, run as the server's user: `psql`, `pg_dump`, `pg_restore`.

use std::path::PathBuf;
use std::process::Stdio;

use planner::resource::Failure;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::process::Command;

use super::installed::Account;

/// How long a connection whose client has gone may go on working.
const FORSAKEN: &str = "-c client_connection_check_interval=2s";

/// Where the programs are, and for which server.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(super) bin: PathBuf,
    pub(super) account: Account,
    /// A folder that the account may enter.
    pub(super) home: PathBuf,
    /// The server over the network, as environments reach it.
    pub(super) reach: PgConnectOptions,
    /// How programs encrypt what they say to it, as their variables.
    pub(super) encryption: Vec<(&'static str, String)>,
}

/// As whom to connect, and where to. No password in it is ever an argument.
#[derive(Debug, Clone)]
pub(super) struct Login {
    /// The database, and the role of the same name.
    pub(super) database: String,
    pub(super) password: String,
}

impl Tools {
    /// A program apart from our terminal, environment and standard input. It ends when its handle is dropped.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("PGAPPNAME", "sidestage")
            .env("PGCONNECT_TIMEOUT", "15")
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if self.account.switch {
            command.uid(self.account.uid.as_raw()).gid(self.account.gid.as_raw());
        }
        command
    }

    /// A program that works in a database of ours. Its environment, which other users cannot read, says which.
    pub(super) fn inside(&self, program: &str, login: &Login, options: &str) -> Command {
        let mut command = self.command(program);
        command
            .env("PGHOST", self.reach.get_host())
            .env("PGPORT", self.reach.get_port().to_string())
            .envs(self.encryption.iter().map(|(name, value)| (*name, value)))
            .env("PGUSER", &login.database)
            .env("PGDATABASE", &login.database)
            .env("PGPASSWORD", &login.password)
            .env("PGOPTIONS", format!("{FORSAKEN} {options}"));
        command
    }

    /// Starts it.
    ///
    /// # Errors
    /// Permanent: it is not installed.
    pub(super) fn spawn(&self, command: &mut Command) -> Result<tokio::process::Child, Failure> {
        command.spawn().map_err(|error| {
            let program = command.as_std().get_program().to_string_lossy().into_owned();
            Failure::permanent(format!("{program} cannot be run ({error}): is PostgreSQL's client installed with it?"))
        })
    }
}

impl Tools {
    /// A connection as this role, as environments make theirs.
    pub(super) fn login(&self, login: &Login) -> PgConnectOptions {
        let Login { database, password } = login;
        self.reach.clone().username(database).password(password).database(database)
    }
}

/// As environments reach a server on this machine.
pub(super) fn reach(host: &str, port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .ssl_mode(PgSslMode::Prefer)
        .application_name("sidestage")
        .options([("client_min_messages", "error")])
}
