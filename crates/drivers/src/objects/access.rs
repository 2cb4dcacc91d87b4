//! Who may do what: the signature says which generation is meant, and a list says which operations there are. Without a
//! signature, objects below the public prefixes of a bucket may be read, and nothing else.
//!
//! Nothing else grants anything. Operations find the generation in the request's extensions, put there by
//! [`S3Access::check`], and every row that they touch carries it; a bucket's name in a path or a copy source is only
//! compared with it.

use std::collections::HashSet;
use std::sync::Arc;

use http::Uri;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::CopySource;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::generations::{Generation, Keyring};

/// The operations that there are. Whatever is not here is refused before its input is read.
const OFFERED: [&str; 25] = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjects",
    "GetBucketLocation",
    "GetObject",
    "GetObjectAcl",
    "GetObjectTagging",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjects",
    "ListObjectsV2",
    "ListParts",
    "PostObject",
    "PutObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "UploadPart",
    "UploadPartCopy",
];

/// The answer to what is not offered.
pub(super) fn not_offered(what: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("{what}: not offered by this object store"))
}

fn denied(text: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::AccessDenied, text)
}

/// Signatures and permissions, both from the keyring.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) keyring: Arc<Keyring>,
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self.keyring.secret(access_key).ok_or_else(|| S3Error::new(S3ErrorCode::InvalidAccessKeyId))?;
        Ok(SecretKey::from(secret))
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = cx.credentials() else {
            let generation = self.public(cx)?;
            cx.extensions_mut().insert(generation);
            return Ok(());
        };
        let generation =
            self.keyring.find(&credentials.access_key).ok_or_else(|| S3Error::new(S3ErrorCode::InvalidAccessKeyId))?;
        if let Some(bucket) = cx.s3_path().get_bucket_name() {
            own_bucket(&generation, bucket)?;
        }
        let operation = cx.s3_op().name();
        if !OFFERED.contains(&operation) {
            return Err(not_offered(operation));
        }
        all_signed(cx)?;
        cx.extensions_mut().insert(generation);
        Ok(())
    }
}

impl Access {
    /// Whose object may be read without a signature. What is refused does not tell what exists.
    fn public(&self, cx: &S3AccessContext<'_>) -> S3Result<Arc<Generation>> {
        let reads = matches!(cx.s3_op().name(), "GetObject" | "HeadObject");
        let object = cx.s3_path().as_object().filter(|_| reads);
        let found = object.and_then(|(bucket, key)| self.keyring.public(bucket, key));
        let generation = found.ok_or_else(|| {
            denied(
                "requests must be signed, by an access key with its secret or as a presigned URL: this is not public",
            )
        })?;
        // Whoever makes up a link must not decide what a browser takes the object for.
        if query_names(cx.uri()).any(|name| name.starts_with("response-")) {
            return Err(denied("only signed requests can set headers of the answer"));
        }
        Ok(generation)
    }
}

/// The generation that a request opened, by its signature or as its public part.
pub(super) fn opened<T>(request: &S3Request<T>) -> S3Result<Arc<Generation>> {
    request.extensions.get::<Arc<Generation>>().cloned().ok_or_else(|| denied("requests must be signed"))
}

fn own_bucket(generation: &Generation, bucket: &str) -> S3Result<()> {
    if bucket == generation.bucket() {
        Ok(())
    } else {
        Err(denied("this access key opens one bucket, and not this one"))
    }
}

/// The key of a copy's source, as it is used, once its bucket is known to be the caller's own.
pub(super) fn own_source(generation: &Generation, source: &CopySource) -> S3Result<String> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => {
            own_bucket(generation, bucket)?;
            if version_id.as_deref().is_some_and(|version| version != "null") {
                return Err(not_offered("versions of objects"));
            }
            Ok(key.to_string())
        }
        _ => Err(denied("this access key opens one bucket, and not this one")),
    }
}

/// Whoever holds a presigned URL must not be able to add to it: a copy source in a header that was not signed would
/// turn the right to write one key into the right to read them all.
fn all_signed(cx: &S3AccessContext<'_>) -> S3Result<()> {
    // A form's signature covers its policy, and its policy all of its fields; of headers, none.
    let signed = match cx.s3_op().name() {
        "PostObject" => Some(HashSet::new()),
        _ => signed_headers(cx.uri(), cx.headers())?,
    };
    let Some(signed) = signed else { return Ok(()) };
    let unsigned = cx
        .headers()
        .keys()
        .map(HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && *name != "x-amz-content-sha256" && !signed.contains(*name));
    match unsigned {
        Some(name) => Err(S3Error::with_message(
            S3ErrorCode::AccessDenied,
            format!("the header {name} was not signed; sign all headers that begin with x-amz-"),
        )),
        None => Ok(()),
    }
}

/// Names under a version 4 signature; none in version 2, which signs every such header by itself.
fn signed_headers(uri: &Uri, headers: &HeaderMap) -> S3Result<Option<HashSet<String>>> {
    let in_header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let list = match in_header {
        Some(text) => text.split([',', ' ']).find_map(|part| part.strip_prefix("SignedHeaders=").map(str::to_owned)),
        None if query_value(uri, "Signature").is_some() => return Ok(None),
        None => query_value(uri, "X-Amz-SignedHeaders"),
    };
    let list = list.ok_or_else(|| denied("the signature does not say which headers it covers"))?;
    Ok(Some(list.split(';').map(|name| name.trim().to_ascii_lowercase()).collect()))
}

/// The ways in which a request is signed. More than one is a trick.
pub(super) fn signatures(uri: &Uri, headers: &HeaderMap) -> usize {
    headers.get_all(AUTHORIZATION).iter().count()
        + ["X-Amz-Signature", "Signature"].iter().filter(|name| query_value(uri, name).is_some()).count()
}

fn query_names(uri: &Uri) -> impl Iterator<Item = String> {
    let names = uri.query().unwrap_or_default().split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.map(|name| percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase())
}

/// One parameter of the query, name and value decoded.
pub(super) fn query_value(uri: &Uri, name: &str) -> Option<String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    uri.query()?.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(found) == name).then(|| decode(value))
    })
}
