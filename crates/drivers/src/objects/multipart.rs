//! Uploads in parts. Parts are blobs of their own; completing puts them together into the object's one blob.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::access::{not_offered, opened, own_source};
use super::blobs::{Fresh, Piece, random_name};
use super::checksum::{Claims, Digested, Digests, Sum, announced, claimed, etag_of_parts, kind, report, sum_of_parts};
use super::condition::{Conditions, guard, source_conditions, timestamp};
use super::generations::Generation;
use super::index::{Guard, Object, now};
use super::meta::{Meta, content_headers, refuse_unkept};
use super::service::{Service, to_the_end};
use super::trouble::Trouble;
use super::uploads::{Part as Stored, Upload};
use super::writing::claims;

/// Every part but the last has at least so many bytes: S3's own limit.
const SMALLEST: u64 = 5 << 20;

fn valid_number(number: i32) -> S3Result<i32> {
    if (1..=10_000).contains(&number) {
        return Ok(number);
    }
    Err(S3Error::with_message(S3ErrorCode::InvalidArgument, format!("parts are numbered 1 to 10000, not {number}")))
}

impl Service {
    pub(super) async fn upload_of(&self, generation: &Generation, key: &str, id: &str) -> S3Result<Upload> {
        let found = self.index.upload(generation.id, key.as_bytes(), id).await?;
        found.ok_or_else(|| S3Error::new(S3ErrorCode::NoSuchUpload))
    }

    pub(super) async fn begin_parts(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let generation = opened(&request)?;
        refuse_unkept!(request.input)?;
        let input = &mut request.input;
        let mut meta = content_headers!(input)?;
        if let Some(algorithm) = &input.checksum_algorithm {
            Digests::new(Some(algorithm.as_str()))?;
            // This one cannot be made of its parts' checksums.
            let whole = algorithm.as_str() == "CRC64NVME"
                || input.checksum_type.as_ref().is_some_and(|kind| kind.as_str() == ChecksumType::FULL_OBJECT);
            meta.checksum_wanted = Some((algorithm.as_str().to_owned(), whole));
        }
        let id = random_name().map_err(Trouble::Io)?;
        let upload = Upload { id: id.clone(), key: input.key.as_bytes().to_vec(), begun: now(), meta };
        if !self.index.begin_upload(generation.id, &upload).await? {
            return Err(S3ErrorCode::InvalidAccessKeyId.into());
        }
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(std::mem::take(&mut input.bucket)),
            key: Some(std::mem::take(&mut input.key)),
            upload_id: Some(id),
            checksum_algorithm: input.checksum_algorithm.take(),
            checksum_type: input.checksum_type.take(),
            ..Default::default()
        }))
    }

    pub(super) async fn part(&self, mut request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let generation = opened(&request)?;
        let number = valid_number(request.input.part_number)?;
        if request.input.sse_customer_key.is_some() {
            return Err(not_offered("encryption with a customer's key"));
        }
        let upload = self.upload_of(&generation, &request.input.key, &request.input.upload_id).await?;
        let mut claims = claims!(request);
        if claims.checksum.is_none() {
            claims.checksum = upload.meta.checksum_wanted.map(|(algorithm, _)| (algorithm, None));
        }
        let body = request.input.body.take();
        let (fresh, digested) = self.receive(&generation, body, &claims, request.trailing_headers.take()).await?;
        let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(digested.etag())), ..Default::default() };
        report!(output, &digested.checksum);
        self.store_part(generation.id, upload.id, number, fresh, digested).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn part_copy(
        &self,
        mut request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let generation = opened(&request)?;
        let input = &mut request.input;
        let number = valid_number(input.part_number)?;
        let upload = self.upload_of(&generation, &input.key, &input.upload_id).await?;
        let source = own_source(&generation, &input.copy_source)?;
        let conditions = source_conditions!(input);
        let range = match input.copy_source_range.as_deref() {
            Some(text) => Some(Range::parse(text).map_err(|_| S3Error::new(S3ErrorCode::InvalidArgument))?),
            None => None,
        };
        let (conditions, blobs) = (&conditions, &self.blobs);
        let stream = self
            .with_blob(generation.id, &source, |object| async move {
                conditions.check_source(&object)?;
                let bytes = match range {
                    Some(range) => range.check(object.size)?,
                    None => 0..object.size,
                };
                Ok(blobs.read(&object.blob, bytes).await)
            })
            .await?;
        let algorithm = upload.meta.checksum_wanted.map(|(algorithm, _)| (algorithm, None));
        let claims = Claims { checksum: algorithm, ..Claims::default() };
        let (fresh, digested) = self.receive(&generation, Some(StreamingBlob::wrap(stream)), &claims, None).await?;
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(digested.etag())),
            last_modified: Some(timestamp(now())),
            ..Default::default()
        };
        report!(result, &digested.checksum);
        self.store_part(generation.id, upload.id, number, fresh, digested).await?;
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
    }

    async fn store_part(
        &self,
        generation: i64,
        upload: String,
        number: i32,
        fresh: Fresh,
        digested: Digested,
    ) -> S3Result {
        let part = Stored {
            number,
            blob: fresh.name().to_owned(),
            size: digested.length,
            etag: digested.etag(),
            modified: now(),
            checksum: digested.checksum,
        };
        let service = self.clone();
        to_the_end(async move {
            let put = service.index.put_part(generation, &upload, &part).await;
            service.settle(put, fresh, S3ErrorCode::NoSuchUpload).await
        })
        .await
    }

    pub(super) async fn complete_parts(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let generation = opened(&request)?;
        let input = &mut request.input;
        let guard = guard(input.if_match.take(), input.if_none_match.as_ref())?;
        let upload = self.upload_of(&generation, &input.key, &input.upload_id).await?;
        let stored = self.index.parts(&upload.id, 0, 10_000).await?;
        let chosen = choose(stored, input.multipart_upload.take())?;
        let claim = claimed!(input);
        let service = self.clone();
        let (etag, checksum) = to_the_end(async move {
            service.join(&generation, upload, chosen, &guard, claim.map(|(_, value)| value)).await
        })
        .await?;
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(std::mem::take(&mut input.bucket)),
            key: Some(std::mem::take(&mut input.key)),
            e_tag: Some(ETag::Strong(etag)),
            checksum_type: checksum.as_ref().map(kind),
            ..Default::default()
        };
        report!(output, &checksum);
        Ok(S3Response::new(output))
    }

    /// Puts parts together into the object that they are.
    async fn join(
        &self,
        generation: &Generation,
        upload: Upload,
        parts: Vec<Stored>,
        guard: &Guard,
        claim: Option<String>,
    ) -> S3Result<(String, Option<Sum>)> {
        let etag = etag_of_parts(parts.iter().map(|part| part.etag.as_str()));
        let wanted = upload.meta.checksum_wanted.clone();
        let whole = wanted.as_ref().filter(|(_, whole)| *whole).map(|(algorithm, _)| Digests::new(Some(algorithm)));
        let pieces = parts.iter().map(|part| Piece { name: part.blob.clone(), size: part.size }).collect();
        self.blobs.room()?;
        let joined = self.blobs.join(&generation.folder(), pieces, whole.transpose()?).await;
        let (fresh, sum) = joined.map_err(Trouble::Io)?;
        let checksum = match wanted {
            Some((algorithm, false)) => {
                let sums: Vec<Option<Sum>> = parts.iter().map(|part| part.checksum.clone()).collect();
                sum_of_parts(&algorithm, &sums)
            }
            _ => sum,
        };
        if let (Some(claim), Some(sum)) = (claim, &checksum)
            && claim != sum.value
        {
            return Err(S3ErrorCode::BadDigest.into());
        }
        let sizes: Vec<u64> = parts.iter().map(|part| part.size).collect();
        let object = Object {
            blob: fresh.name().to_owned(),
            size: sizes.iter().sum(),
            etag: etag.clone(),
            modified: now(),
            meta: Meta { checksum: checksum.clone(), checksum_wanted: None, parts: sizes, ..upload.meta.clone() },
        };
        let put = self.index.complete_upload(generation.id, &upload, &object, guard).await;
        self.settle(put, fresh, S3ErrorCode::NoSuchUpload).await?;
        Ok((etag, checksum))
    }

    pub(super) async fn abort_parts(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let generation = opened(&request)?;
        let upload = self.upload_of(&generation, &request.input.key, &request.input.upload_id).await?;
        let service = self.clone();
        to_the_end(async move {
            let freed = service.index.abort_upload(generation.id, &upload.id).await?;
            service.blobs.unlink(freed.unwrap_or_default()).await;
            Ok(())
        })
        .await?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// The parts that the client names, if they are those that it sent.
fn choose(stored: Vec<Stored>, asked: Option<CompletedMultipartUpload>) -> S3Result<Vec<Stored>> {
    let asked = asked.and_then(|asked| asked.parts).unwrap_or_default();
    if asked.is_empty() {
        return Err(S3Error::with_message(S3ErrorCode::MalformedXML, "name at least one part"));
    }
    let mut stored = stored.into_iter();
    let mut chosen: Vec<Stored> = Vec::with_capacity(asked.len());
    for wanted in asked {
        let number = wanted.part_number.unwrap_or_default();
        if chosen.last().is_some_and(|last| last.number >= number) {
            return Err(S3ErrorCode::InvalidPartOrder.into());
        }
        let part = stored.find(|part| part.number >= number).filter(|part| part.number == number);
        let etag = wanted.e_tag.as_ref().map(ETag::value);
        match part {
            Some(part) if etag.is_none_or(|etag| etag == part.etag) => chosen.push(part),
            _ => {
                let text = format!("part {number} was not uploaded, or with another ETag");
                return Err(S3Error::with_message(S3ErrorCode::InvalidPart, text));
            }
        }
    }
    match chosen.split_last() {
        Some((_, rest)) if rest.iter().any(|part| part.size < SMALLEST) => Err(S3ErrorCode::EntityTooSmall.into()),
        _ => Ok(chosen),
    }
}
