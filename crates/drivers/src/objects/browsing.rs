//! Listings as S3 tells them: version 1 and 2, paging, encoded keys.

use data_encoding::BASE64URL_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::access::opened;
use super::checksum::kind;
use super::condition::timestamp;
use super::generations::Generation;
use super::index::Object as Stored;
use super::listing::{Page, Query};
use super::service::{Service, page_size};

/// What stays as it is under `encoding-type=url`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How keys are written: as they are, or URL-encoded, which alone lets every key through XML.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    encoded: bool,
}

impl Spelling {
    pub(super) fn of(encoding: Option<&EncodingType>) -> S3Result<Spelling> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Spelling { encoded: false }),
            Some("url") => Ok(Spelling { encoded: true }),
            Some(other) => {
                let text = format!("encoding-type is url or left out, not {other}");
                Err(S3Error::with_message(S3ErrorCode::InvalidArgument, text))
            }
        }
    }

    pub(super) fn write(self, text: &str) -> String {
        if self.encoded { utf8_percent_encode(text, ENCODED).to_string() } else { text.to_owned() }
    }

    pub(super) fn write_key(self, key: &[u8]) -> String {
        self.write(&String::from_utf8_lossy(key))
    }
}

/// Who owns what is in a bucket: the environment.
pub(super) fn owner(generation: &Generation) -> Owner {
    Owner { display_name: Some(generation.env.to_string()), id: Some(generation.env.to_string()) }
}

fn contents(page: &Page, spelling: Spelling, owner: Option<&Owner>) -> Option<Vec<Object>> {
    let entry = |(key, stored): &(Vec<u8>, Stored)| Object {
        checksum_algorithm: stored.meta.checksum.as_ref().map(|sum| vec![sum.algorithm.clone().into()]),
        checksum_type: stored.meta.checksum.as_ref().map(kind),
        e_tag: Some(ETag::Strong(stored.etag.clone())),
        key: Some(spelling.write_key(key)),
        last_modified: Some(timestamp(stored.modified)),
        owner: owner.cloned(),
        restore_status: None,
        size: i64::try_from(stored.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
    };
    Some(page.objects.iter().map(entry).collect())
}

fn prefixes(page: &Page, spelling: Spelling) -> Option<Vec<CommonPrefix>> {
    let entry = |prefix: &Vec<u8>| CommonPrefix { prefix: Some(spelling.write_key(prefix)) };
    Some(page.prefixes.iter().map(entry).collect())
}

fn bytes(text: Option<&str>) -> Vec<u8> {
    text.unwrap_or_default().as_bytes().to_vec()
}

fn size(size: usize) -> Option<i32> {
    i32::try_from(size).ok()
}

impl Service {
    pub(super) async fn browse_v1(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let generation = opened(&request)?;
        let input = request.input;
        let (spelling, limit) = (Spelling::of(input.encoding_type.as_ref())?, page_size(input.max_keys)?);
        let query = Query {
            prefix: bytes(input.prefix.as_deref()),
            delimiter: bytes(input.delimiter.as_deref()),
            after: input.marker.as_deref().filter(|marker| !marker.is_empty()).map(|marker| marker.as_bytes().to_vec()),
            limit,
        };
        let page = self.index.page(generation.id, &query).await?;
        Ok(S3Response::new(ListObjectsOutput {
            contents: contents(&page, spelling, Some(&owner(&generation))),
            common_prefixes: prefixes(&page, spelling),
            is_truncated: Some(page.next.is_some()),
            next_marker: page.next.as_deref().map(|next| spelling.write_key(next)),
            max_keys: size(limit),
            name: Some(input.bucket),
            prefix: Some(spelling.write(&input.prefix.unwrap_or_default())),
            marker: Some(spelling.write(&input.marker.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| spelling.write(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) async fn browse_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let generation = opened(&request)?;
        let input = request.input;
        let (spelling, limit) = (Spelling::of(input.encoding_type.as_ref())?, page_size(input.max_keys)?);
        let start = input.start_after.as_deref().filter(|start| !start.is_empty()).map(str::as_bytes);
        let after = match input.continuation_token.as_deref() {
            Some(token) => Some(BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| foreign_token())?),
            None => start.map(<[u8]>::to_vec),
        };
        let query = Query {
            prefix: bytes(input.prefix.as_deref()),
            delimiter: bytes(input.delimiter.as_deref()),
            after,
            limit,
        };
        let page = self.index.page(generation.id, &query).await?;
        let owner = input.fetch_owner.unwrap_or(false).then(|| owner(&generation));
        Ok(S3Response::new(ListObjectsV2Output {
            contents: contents(&page, spelling, owner.as_ref()),
            common_prefixes: prefixes(&page, spelling),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(|next| BASE64URL_NOPAD.encode(next)),
            key_count: size(page.objects.len() + page.prefixes.len()),
            max_keys: size(limit),
            name: Some(input.bucket),
            prefix: Some(spelling.write(&input.prefix.unwrap_or_default())),
            continuation_token: input.continuation_token,
            start_after: input.start_after.map(|start| spelling.write(&start)),
            delimiter: input.delimiter.map(|delimiter| spelling.write(&delimiter)),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }
}

fn foreign_token() -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidArgument, "the continuation token is none of this store's")
}
