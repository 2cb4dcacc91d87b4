//! Why there is no database server, and what one that runs refuses, in one line each: what, where, what to do.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use planner::resource::Failure;

use super::storage::StorageError;

/// Why the database server is not there. One line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No binaries.
    #[error(
        "PostgreSQL is not installed (looked in {looked}): install it (Debian, Ubuntu: apt-get install postgresql), set [database] bin_dir, or name a server of yours in [database] url"
    )]
    NotInstalled {
        /// The places.
        looked: String,
    },
    /// Binaries that cannot isolate environments.
    #[error("PostgreSQL {major} in {} is too old: {oldest} or later is needed", bin.display())]
    TooOld {
        /// Their folder.
        bin: PathBuf,
        /// Their version.
        major: u32,
        /// The oldest that will do.
        oldest: u32,
    },
    /// The data folder was made by a version that is not installed.
    #[error(
        "the data was made by PostgreSQL {data}, and only {installed} is installed: install postgresql-{data}, or set [database] bin_dir to its binaries"
    )]
    OtherMajor {
        /// The data's major version.
        data: u32,
        /// The newest one installed.
        installed: u32,
    },
    /// Nobody to run it as.
    #[error(
        "there is no user {user} to run PostgreSQL as, and it refuses to run as root: install the package postgresql, or set [database] user"
    )]
    NoAccount {
        /// The missing one.
        user: String,
    },
    /// The server's user cannot get there.
    #[error("{} is closed to the user {user}, as whom PostgreSQL runs: choose another folder for it", folder.display())]
    Closed {
        /// The folder without permission.
        folder: PathBuf,
        /// The server's user.
        user: String,
    },
    /// Longer than a socket's path may be.
    #[error("{} is too long for a socket's path: choose a shorter folder", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else listens there.
    #[error("{address} port {port} is taken by {holder}: stop it, or set another port in [database]")]
    PortTaken {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// A process, as far as it can be told.
        holder: String,
    },
    /// No interface has the address.
    #[error("{address} is on no interface of this machine, so PostgreSQL cannot listen there")]
    NoAddress {
        /// The address.
        address: IpAddr,
    },
    /// It ran and gave up.
    #[error("{program} failed: {said} (log: {})", log.display())]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// Its last words.
        said: String,
        /// Where all of them are.
        log: PathBuf,
    },
    /// It runs and does not answer.
    #[error("PostgreSQL in {} does not answer after {} s: {said}", home.display(), patience.as_secs())]
    Silent {
        /// Its folder.
        home: PathBuf,
        /// How long was waited.
        patience: Duration,
        /// What connecting said.
        said: String,
    },
    /// A server of the operator's that cannot be used.
    #[error("[database] url ({server}): {said}")]
    Upstream {
        /// Host and port.
        server: String,
        /// What is in the way, and what to do.
        said: String,
    },
    /// Its storage is not there.
    #[error("[database] storage: {0}")]
    Storage(#[from] StorageError),
    /// The folder could not be prepared.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The server's own code for what it refused.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// One line for people. A server that is away comes back; a statement that it does not understand stays wrong.
#[allow(clippy::needless_pass_by_value)] // for map_err
pub(super) fn failure(error: sqlx::Error) -> Failure {
    let text = match &error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) => {
            format!("PostgreSQL does not answer: {error}")
        }
        sqlx::Error::Database(said) => format!("PostgreSQL: {}", said.message()),
        _ => format!("PostgreSQL: {error}"),
    };
    let text = text.replace('\n', " ");
    match code(&error) {
        Some(code) if code.starts_with("42") => Failure::permanent(text),
        _ => Failure::transient(text),
    }
}
