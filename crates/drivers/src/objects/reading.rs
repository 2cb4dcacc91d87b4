//! GET and HEAD of an object: conditions, ranges, bytes as a stream.

use std::io;
use std::ops::Range as Bytes;

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::access::{not_offered, opened};
use super::checksum::{kind, report};
use super::condition::{Conditions, modified};
use super::index::Object;
use super::service::Service;
use super::trouble::Trouble;

/// What part of an object is asked for.
struct Slice {
    bytes: Bytes<u64>,
    /// Set when it is not simply all of it.
    content_range: Option<String>,
    /// How many parts the object has, when one was asked for.
    parts: Option<i32>,
}

/// Fields that answers to GET and HEAD have in common.
macro_rules! describe {
    ($output:ident, $object:expr, $slice:expr, $checksum:expr) => {{
        let (object, slice): (Object, &Slice) = ($object, $slice);
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(slice.bytes.end - slice.bytes.start).ok(),
            content_range: slice.content_range.clone(),
            parts_count: slice.parts,
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(modified(&object)),
            expires: object.meta.expires_at(),
            content_type: Some(object.meta.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())),
            content_encoding: object.meta.content_encoding.clone(),
            content_language: object.meta.content_language.clone(),
            content_disposition: object.meta.content_disposition.clone(),
            cache_control: object.meta.cache_control.clone(),
            ..Default::default()
        };
        // A checksum of all bytes says nothing about some of them.
        if $checksum && slice.content_range.is_none() {
            output.checksum_type = object.meta.checksum.as_ref().map(kind);
            report!(output, &object.meta.checksum);
        }
        output.metadata = Some(object.meta.user.into_iter().collect());
        output
    }};
}

macro_rules! conditions {
    ($input:expr) => {
        Conditions {
            is: $input.if_match.take(),
            is_not: $input.if_none_match.take(),
            modified_since: $input.if_modified_since.take(),
            unmodified_since: $input.if_unmodified_since.take(),
        }
    };
}

/// # Errors
/// A version other than the only one is asked for.
pub(super) fn only_version(version: Option<&str>) -> S3Result<()> {
    if version.is_none_or(|version| version == "null") { Ok(()) } else { Err(not_offered("versions of objects")) }
}

fn slice(object: &Object, range: Option<Range>, part: Option<i32>) -> S3Result<Slice> {
    let whole = 0..object.size;
    let (bytes, parts) = match (range, part) {
        (None, None) => return Ok(Slice { bytes: whole, content_range: None, parts: None }),
        (Some(_), Some(_)) => {
            let text = "a range and a part number exclude each other";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
        (Some(range), None) if object.size > 0 => (range.check(object.size)?, None),
        (Some(_), None) => return Err(S3ErrorCode::InvalidRange.into()),
        (None, Some(number)) => {
            let bytes = part_of(object, number).ok_or_else(|| S3Error::new(S3ErrorCode::InvalidRange))?;
            let count = object.meta.parts.len();
            (bytes, (count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX)))
        }
    };
    // An empty part has no bytes that a range could name.
    let content_range =
        (bytes.end > bytes.start).then(|| format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, object.size));
    Ok(Slice { bytes, content_range, parts })
}

/// The bytes that came as this part. What came in one piece is its own first part.
fn part_of(object: &Object, number: i32) -> Option<Bytes<u64>> {
    let before = usize::try_from(number).ok()?.checked_sub(1)?;
    if object.meta.parts.is_empty() {
        return (before == 0).then_some(0..object.size);
    }
    let start: u64 = object.meta.parts.iter().take(before).sum();
    Some(start..start + object.meta.parts.get(before)?)
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

impl Service {
    /// The object under a key.
    ///
    /// # Errors
    /// `NoSuchKey`.
    pub(super) async fn find(&self, generation: i64, key: &str) -> S3Result<Object> {
        let found = self.index.get(generation, key.as_bytes()).await?;
        found.ok_or_else(|| S3Error::new(S3ErrorCode::NoSuchKey))
    }

    /// Finds an object and does something with its blob, once more if it was replaced in between.
    pub(super) async fn with_blob<T, F>(
        &self,
        generation: i64,
        key: &str,
        mut work: impl FnMut(Object) -> F + Send,
    ) -> S3Result<T>
    where
        F: Future<Output = S3Result<io::Result<T>>> + Send,
    {
        let mut object = self.find(generation, key).await?;
        loop {
            let blob = object.blob.clone();
            match work(object).await? {
                Ok(done) => return Ok(done),
                Err(why) if why.kind() == io::ErrorKind::NotFound => {
                    object = self.find(generation, key).await?;
                    if object.blob == blob {
                        return Err(Trouble::Io(why).into());
                    }
                }
                Err(why) => return Err(Trouble::Io(why).into()),
            }
        }
    }

    pub(super) async fn get(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let generation = opened(&request)?;
        let input = &mut request.input;
        only_version(input.version_id.as_deref())?;
        let (conditions, checksum) = (conditions!(input), wants_checksum(input.checksum_mode.as_ref()));
        let (range, part) = (input.range.take(), input.part_number);
        let (conditions, blobs) = (&conditions, &self.blobs);
        let output = self
            .with_blob(generation.id, &input.key, |object| async move {
                conditions.check(&object)?;
                let slice = slice(&object, range, part)?;
                let stream = match blobs.read(&object.blob, slice.bytes.clone()).await {
                    Ok(stream) => stream,
                    Err(why) => return Ok(Err(why)),
                };
                let tags = i32::try_from(object.meta.tags.len()).ok().filter(|count| *count > 0);
                let mut output = describe!(GetObjectOutput, object, &slice, checksum);
                output.tag_count = tags;
                output.body = Some(StreamingBlob::wrap(stream));
                Ok(Ok(output))
            })
            .await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn head(&self, mut request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let generation = opened(&request)?;
        let input = &mut request.input;
        only_version(input.version_id.as_deref())?;
        let object = self.find(generation.id, &input.key).await?;
        conditions!(input).check(&object)?;
        let slice = slice(&object, input.range.take(), input.part_number)?;
        let output = describe!(HeadObjectOutput, object, &slice, wants_checksum(input.checksum_mode.as_ref()));
        Ok(S3Response::new(output))
    }
}
