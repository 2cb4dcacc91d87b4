//! How much is too much: for an environment by its quota, for everybody by the disk.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use s3s::{S3Error, S3ErrorCode};
use sqlx::{Sqlite, Transaction};

use super::trouble::Trouble;
use crate::Quota;

/// The least that is left free on the disk: this, or a twentieth of it.
const LEAST_FREE: u64 = 1 << 30;

impl Quota {
    /// The limit of a generation that holds more than it may.
    pub(super) async fn exceeded(
        self,
        tx: &mut Transaction<'static, Sqlite>,
        generation: i64,
    ) -> Result<Option<u64>, Trouble> {
        if self == Quota::default() {
            return Ok(None);
        }
        let (trust, own): (String, i64) = sqlx::query_as("SELECT trust, own FROM generations WHERE id = ?")
            .bind(generation)
            .fetch_one(&mut **tx)
            .await?;
        let limit = self.of(trust.parse()?);
        Ok(limit.filter(|limit| own.unsigned_abs() > *limit))
    }
}

/// A size for people.
pub(super) fn human(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

/// The answer to a write beyond the quota.
pub(super) fn over_quota(limit: u64) -> S3Error {
    full(
        "QuotaExceeded",
        format!(
            "this environment may add {} to its baseline's objects, and this write would exceed it; delete something, or ask the operator",
            human(limit)
        ),
    )
}

/// Refuses new bytes before the disk is full for everybody.
pub(super) fn room(folder: &Path, reserve: Option<u64>) -> Result<(), Full> {
    let found = statvfs(folder).map_err(io::Error::from).map_err(Full::Io)?;
    let (block, free, all) = (found.fragment_size(), found.blocks_available(), found.blocks());
    let (free, all) = (free * block, all * block);
    let reserve = reserve.unwrap_or_else(|| (all / 20).max(LEAST_FREE));
    if free < reserve { Err(Full::Disk { free, reserve }) } else { Ok(()) }
}

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub(super) enum Full {
    #[error("the object store cannot ask its disk: {0}")]
    Io(io::Error),
    #[error("the disk of the object store has {} left, of which {} are kept free: the operator has to make room", human(*.free), human(*.reserve))]
    Disk { free: u64, reserve: u64 },
}

impl From<Full> for S3Error {
    fn from(why: Full) -> Self {
        match why {
            Full::Io(why) => Trouble::Io(why).into(),
            Full::Disk { .. } => full("InsufficientStorage", why.to_string()),
        }
    }
}

fn full(code: &'static str, text: String) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, text);
    error.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
    error
}
