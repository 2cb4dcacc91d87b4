//! Preconditions: `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.

use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::access::not_offered;
use super::index::{Guard, Object};

/// The conditions of a read, or of a copy's source.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) is: Option<ETagCondition>,
    pub(super) is_not: Option<ETagCondition>,
    pub(super) modified_since: Option<Timestamp>,
    pub(super) unmodified_since: Option<Timestamp>,
}

/// The conditions that a request sets for the source of a copy.
macro_rules! source_conditions {
    ($input:expr) => {
        Conditions {
            is: $input.copy_source_if_match.take(),
            is_not: $input.copy_source_if_none_match.take(),
            modified_since: $input.copy_source_if_modified_since.take(),
            unmodified_since: $input.copy_source_if_unmodified_since.take(),
        }
    };
}
pub(super) use source_conditions;

/// When an object was last modified, in whole seconds as HTTP tells it.
pub(super) fn modified(object: &Object) -> Timestamp {
    timestamp(object.modified / 1000 * 1000)
}

/// Milliseconds since the Unix epoch as a date.
pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_millis(milliseconds.unsigned_abs()))
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    condition.is_any() || condition.as_etag().is_some_and(|wanted| wanted.value() == etag)
}

impl Conditions {
    /// # Errors
    /// `PreconditionFailed`, or `NotModified` with the headers that a cache needs.
    pub(super) fn check(&self, object: &Object) -> S3Result<()> {
        let modified = modified(object);
        match (&self.is, &self.unmodified_since) {
            (Some(wanted), _) if !matches(wanted, &object.etag) => return Err(S3ErrorCode::PreconditionFailed.into()),
            (None, Some(since)) if modified > *since => return Err(S3ErrorCode::PreconditionFailed.into()),
            _ => {}
        }
        match (&self.is_not, &self.modified_since) {
            (Some(unwanted), _) if matches(unwanted, &object.etag) => Err(not_modified(object)),
            (None, Some(since)) if modified <= *since => Err(not_modified(object)),
            _ => Ok(()),
        }
    }

    /// As for the source of a copy, where every condition that fails is a failed precondition.
    pub(super) fn check_source(&self, object: &Object) -> S3Result<()> {
        self.check(object).map_err(|_| S3ErrorCode::PreconditionFailed.into())
    }
}

fn not_modified(object: &Object) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = http::HeaderMap::new();
    if let Ok(etag) = ETag::Strong(object.etag.clone()).to_http_header() {
        headers.insert(http::header::ETAG, etag);
    }
    if let Some(date) = super::meta::http_date(&modified(object)).and_then(|date| date.parse().ok()) {
        headers.insert(http::header::LAST_MODIFIED, date);
    }
    if let Some(control) = object.meta.cache_control.as_deref().and_then(|text| text.parse().ok()) {
        headers.insert(http::header::CACHE_CONTROL, control);
    }
    error.set_headers(headers);
    error
}

/// The condition of a write.
pub(super) fn guard(is: Option<ETagCondition>, is_not: Option<&ETagCondition>) -> S3Result<Guard> {
    match (is, is_not) {
        (None, None) => Ok(Guard::Always),
        (None, Some(unwanted)) if unwanted.is_any() => Ok(Guard::Absent),
        (Some(wanted), None) => Ok(Guard::Is(wanted.into_etag().map(ETag::into_value))),
        _ => Err(not_offered("writing with If-None-Match of an ETag, or with both conditions")),
    }
}
