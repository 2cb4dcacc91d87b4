//! Listings of uploads under way, and of their parts.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::access::{not_offered, opened};
use super::browsing::{Spelling, owner};
use super::checksum::report;
use super::condition::timestamp;
use super::listing::above;
use super::service::{Service, page_size};

impl Service {
    pub(super) async fn browse_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let generation = opened(&request)?;
        let input = request.input;
        let upload = self.upload_of(&generation, &input.key, &input.upload_id).await?;
        let limit = page_size(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or_default();
        let mut parts = self.index.parts(&upload.id, after, limit as i64 + 1).await?;
        let more = parts.len() > limit;
        parts.truncate(limit);
        let next = parts.last().filter(|_| more).map(|part| part.number);
        let entry = |stored: super::uploads::Part| {
            let mut part = Part {
                e_tag: Some(ETag::Strong(stored.etag)),
                last_modified: Some(timestamp(stored.modified)),
                part_number: Some(stored.number),
                size: i64::try_from(stored.size).ok(),
                ..Default::default()
            };
            report!(part, &stored.checksum);
            part
        };
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts.into_iter().map(entry).collect()),
            is_truncated: Some(more),
            next_part_number_marker: next,
            part_number_marker: Some(after),
            max_parts: i32::try_from(limit).ok(),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            owner: Some(owner(&generation)),
            checksum_algorithm: upload.meta.checksum_wanted.map(|(algorithm, _)| algorithm.into()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        }))
    }

    pub(super) async fn browse_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let generation = opened(&request)?;
        let input = request.input;
        if input.delimiter.as_deref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(not_offered("listing uploads with a delimiter"));
        }
        let (spelling, limit) = (Spelling::of(input.encoding_type.as_ref())?, page_size(input.max_uploads)?);
        let prefix = input.prefix.unwrap_or_default();
        let (key, id) = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        // Without an id, uploads of the marker's own key are left out too; ids are hex digits, which "~" follows.
        let after_id = if id.is_empty() && !key.is_empty() { "~" } else { id.as_str() };
        let (from, below) = (prefix.as_bytes(), above(prefix.as_bytes()));
        let mut uploads =
            self.index.uploads(generation.id, (key.as_bytes(), after_id), (from, &below), limit as i64 + 1).await?;
        let more = uploads.len() > limit;
        uploads.truncate(limit);
        let last = uploads.last().filter(|_| more);
        let (next_key, next_id) =
            (last.map(|upload| spelling.write_key(&upload.key)), last.map(|upload| upload.id.clone()));
        let owner = owner(&generation);
        let entry = |upload: super::uploads::Upload| MultipartUpload {
            initiated: Some(timestamp(upload.begun)),
            key: Some(spelling.write_key(&upload.key)),
            owner: Some(owner.clone()),
            upload_id: Some(upload.id),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(uploads.into_iter().map(entry).collect()),
            is_truncated: Some(more),
            next_key_marker: next_key,
            next_upload_id_marker: next_id,
            bucket: Some(input.bucket),
            prefix: Some(spelling.write(&prefix)),
            key_marker: Some(spelling.write(&key)),
            upload_id_marker: Some(id),
            max_uploads: i32::try_from(limit).ok(),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }
}
