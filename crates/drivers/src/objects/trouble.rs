//! What can go wrong below the protocol, and how it reads above.

use std::io;

use planner::resource::Failure;
use s3s::{S3Error, S3ErrorCode};

use super::upstream::Behind;

/// The disk or the index failed. Nothing that a client did.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A blob could not be read or written.
    #[error("the object store cannot read or write: {0}")]
    Io(#[from] io::Error),
    /// The index could not be read or written.
    #[error("the object store cannot use its index: {0}")]
    Sql(#[from] sqlx::Error),
    /// The index could not be brought up to date.
    #[error("the object store's index cannot be migrated: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row does not parse.
    #[error("the object store's index holds a row that does not parse: {0}")]
    Row(String),
    /// The folder must not be used.
    #[error("{0}")]
    Refused(String),
}

impl From<serde_json::Error> for Trouble {
    fn from(why: serde_json::Error) -> Self {
        Trouble::Row(why.to_string())
    }
}

impl From<planner::identity::Invalid> for Trouble {
    fn from(why: planner::identity::Invalid) -> Self {
        Trouble::Row(why.to_string())
    }
}

impl From<Trouble> for S3Error {
    fn from(trouble: Trouble) -> Self {
        // The client learns that it is not its fault; what exactly, the log does.
        tracing::error!(%trouble, "object store");
        if let Trouble::Io(why) = &trouble
            && Behind::is(why)
        {
            let text = "the S3 server behind the object store does not do what it is asked; see Sidestage's log";
            return S3Error::with_message(S3ErrorCode::ServiceUnavailable, text);
        }
        S3Error::with_message(S3ErrorCode::InternalError, "the object store cannot read or write; see Sidestage's log")
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Failure::transient(trouble.to_string())
    }
}
