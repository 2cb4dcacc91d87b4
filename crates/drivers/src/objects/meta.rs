//! What an object remembers beside its bytes: content headers, the user's metadata, its checksum, its parts.

use std::collections::BTreeMap;

use s3s::dto::{Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::{Deserialize, Serialize};

use super::checksum::Sum;

/// Stored as JSON beside the key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    /// As an HTTP date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<String>,
    /// `x-amz-meta-…`, without that prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) user: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Sum>,
    /// Of an upload under way: which checksum its parts have, and whether the object's is one of all its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checksum_wanted: Option<(String, bool)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    /// Sizes of the parts that it was uploaded in; empty when in one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<u64>,
}

/// The most that names and values of the user's metadata may have together, in bytes.
const USER_LIMIT: usize = 2 << 10;

impl Meta {
    /// Takes the user's metadata in.
    pub(super) fn with_user(mut self, user: Option<s3s::dto::Metadata>) -> S3Result<Meta> {
        self.user = user.unwrap_or_default().into_iter().collect();
        let size: usize = self.user.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > USER_LIMIT {
            return Err(S3Error::with_message(
                S3ErrorCode::MetadataTooLarge,
                format!("the metadata has {size} bytes, at most {USER_LIMIT} are kept"),
            ));
        }
        Ok(self)
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::parse(TimestampFormat::HttpDate, self.expires.as_deref()?).ok()
    }
}

/// The date in the form that is stored.
pub(super) fn http_date(date: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    date.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

/// The content encoding less `aws-chunked`, which is how the request travelled and no property of the object.
pub(super) fn lasting_encoding(encoding: Option<&str>) -> Option<String> {
    let lasting: Vec<&str> = encoding?
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!lasting.is_empty()).then(|| lasting.join(","))
}

/// The content headers of an input that carries them, as [`Meta`].
macro_rules! content_headers {
    ($input:expr) => {
        $crate::objects::meta::Meta {
            content_type: $input.content_type.take(),
            content_encoding: $crate::objects::meta::lasting_encoding($input.content_encoding.as_deref()),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.as_ref().and_then($crate::objects::meta::http_date),
            tags: $crate::objects::tagging::parse($input.tagging.as_deref().unwrap_or_default())?,
            ..Default::default()
        }
        .with_user($input.metadata.take())
    };
}
pub(super) use content_headers;

/// Refuses what would be lost silently. `x-amz-acl`, storage class and encryption at rest change nothing that a client
/// could read back as an object's content, and are accepted without effect.
macro_rules! refuse_unkept {
    ($input:expr) => {{
        let lost = [
            (
                $input.sse_customer_key.is_some(),
                "encryption with a customer's key (x-amz-server-side-encryption-customer-key)",
            ),
            ($input.object_lock_mode.is_some(), "object lock (x-amz-object-lock-mode)"),
            ($input.object_lock_legal_hold_status.is_some(), "legal hold (x-amz-object-lock-legal-hold)"),
            ($input.website_redirect_location.is_some(), "website redirects (x-amz-website-redirect-location)"),
        ];
        match lost.into_iter().find(|(asked, _)| *asked) {
            Some((_, what)) => Err($crate::objects::access::not_offered(what)),
            None => Ok(()),
        }
    }};
}
pub(super) use refuse_unkept;
