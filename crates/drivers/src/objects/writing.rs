//! PUT, copy and delete of objects.

use futures_util::StreamExt;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders};

use super::access::{not_offered, opened, own_source};
use super::blobs::Fresh;
use super::checksum::{Claims, Digested, Digests, Sum, announced, claimed, kind, report};
use super::condition::{Conditions, guard, source_conditions, timestamp};
use super::generations::Generation;
use super::index::{Guard, Object, Put, now};
use super::meta::{content_headers, refuse_unkept};
use super::quota::over_quota;
use super::reading::only_version;
use super::service::{Service, to_the_end};
use super::tagging;
use super::trouble::Trouble;

/// After so many bytes the disk is looked at again.
const LOOK: u64 = 64 << 20;

/// The most that one request may upload: S3's own limit.
const LARGEST: u64 = 5 << 30;

/// What a request says of the bytes of its body.
macro_rules! claims {
    ($request:expr) => {
        Claims {
            md5: $request.input.content_md5.take(),
            length: $request.input.content_length.and_then(|length| u64::try_from(length).ok()),
            checksum: claimed!($request.input)
                .map(|(algorithm, value)| (algorithm, Some(value)))
                .or_else(|| announced(&$request.headers).map(|algorithm| (algorithm, None))),
        }
    };
}
pub(super) use claims;

/// What the outcome of a change of the index means to the client.
pub(super) fn done(put: Put, missing: S3ErrorCode) -> S3Result<Vec<String>> {
    match put {
        Put::Done(freed) => Ok(freed),
        Put::Refused => Err(S3ErrorCode::PreconditionFailed.into()),
        Put::Missing => Err(missing.into()),
        Put::Closed => Err(S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, "the bucket is being removed")),
        Put::Full(limit) => Err(over_quota(limit)),
    }
}

impl Service {
    /// Takes a body in, as a blob that nothing names yet.
    pub(super) async fn receive(
        &self,
        generation: &Generation,
        body: Option<StreamingBlob>,
        claims: &Claims,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<(Fresh, Digested)> {
        let mut digests = Digests::new(claims.checksum.as_ref().map(|(algorithm, _)| algorithm.as_str()))?;
        self.blobs.room()?;
        let mut blob = self.blobs.create(&generation.folder()).await.map_err(Trouble::Io)?;
        let (mut body, mut length, mut unlooked) = (body, 0, 0);
        while let Some(chunk) = next_chunk(body.as_mut()).await? {
            length += chunk.len() as u64;
            if length > LARGEST {
                return Err(S3ErrorCode::EntityTooLarge.into());
            }
            if length - unlooked > LOOK {
                unlooked = length;
                self.blobs.room()?;
            }
            digests.update(&chunk);
            blob.write(&chunk).await.map_err(Trouble::Io)?;
        }
        let digested = digests.finish();
        digested.check(claims, trailers.and_then(|trailers| trailers.take()).as_ref())?;
        let fresh = blob.seal().await.map_err(Trouble::Io)?;
        Ok((fresh, digested))
    }

    /// Lets the index name a blob in the place of another object's.
    pub(super) async fn store(
        &self,
        generation: i64,
        key: String,
        object: Object,
        fresh: Fresh,
        guard: Guard,
    ) -> S3Result {
        let service = self.clone();
        to_the_end(async move {
            let put = service.index.put(generation, key.as_bytes(), object, guard).await;
            service.settle(put, fresh, S3ErrorCode::NoSuchKey).await
        })
        .await
    }

    /// Ends what [`Index::put`](super::index::Index::put) began: the new blob stays or goes, replaced ones go.
    pub(super) async fn settle(&self, put: Result<Put, Trouble>, fresh: Fresh, missing: S3ErrorCode) -> S3Result {
        match put {
            // Whether a transaction that failed is in the index after all, only the next start's sweep can say.
            Err(trouble) => {
                fresh.keep();
                Err(trouble.into())
            }
            Ok(put) => {
                let freed = done(put, missing)?;
                fresh.keep();
                self.blobs.unlink(freed).await;
                Ok(())
            }
        }
    }

    pub(super) async fn put(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let generation = opened(&request)?;
        refuse_unkept!(request.input)?;
        if request.input.write_offset_bytes.is_some() {
            return Err(not_offered("appending to an object"));
        }
        let claims = claims!(request);
        let input = &mut request.input;
        let guard = guard(input.if_match.take(), input.if_none_match.as_ref())?;
        let mut meta = content_headers!(input)?;
        let trailers = request.trailing_headers.take();
        let (fresh, digested) = self.receive(&generation, input.body.take(), &claims, trailers).await?;
        meta.checksum = digested.checksum.clone();
        let mut output = PutObjectOutput { e_tag: Some(ETag::Strong(digested.etag())), ..Default::default() };
        output.checksum_type = meta.checksum.as_ref().map(kind);
        report!(output, &meta.checksum);
        let object = Object {
            blob: fresh.name().to_owned(),
            size: digested.length,
            etag: digested.etag(),
            modified: now(),
            meta,
        };
        self.store(generation.id, std::mem::take(&mut input.key), object, fresh, guard).await?;
        Ok(S3Response::new(output))
    }

    pub(super) async fn copy(&self, mut request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let generation = opened(&request)?;
        refuse_unkept!(request.input)?;
        let input = &mut request.input;
        let source = own_source(&generation, &input.copy_source)?;
        let conditions = source_conditions!(input);
        let replace =
            input.metadata_directive.as_ref().is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        if source == input.key && !replace && input.tagging_directive.is_none() {
            let text = "copying an object onto itself needs x-amz-metadata-directive: REPLACE";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
        let key = std::mem::take(&mut input.key);
        let headers = if replace { Some(content_headers!(input)?) } else { None };
        let replace = |directive: &TaggingDirective| directive.as_str() == TaggingDirective::REPLACE;
        let replaces_tags = input.tagging_directive.as_ref().is_some_and(replace);
        let tags = tagging::parse(input.tagging.as_deref().unwrap_or_default())?;
        loop {
            let mut object = self.find(generation.id, &source).await?;
            conditions.check_source(&object)?;
            if let Some(headers) = &headers {
                let kept = std::mem::replace(&mut object.meta, headers.clone());
                object.meta.checksum = kept.checksum;
                object.meta.parts = kept.parts;
                object.meta.tags = kept.tags;
            }
            if replaces_tags {
                object.meta.tags.clone_from(&tags);
            }
            object.modified = now();
            let result = copied(&object.etag, object.modified, object.meta.checksum.as_ref());
            // The same bytes under another key. Replaced in between, there is another version to be copied.
            if self.store_copy(generation.id, key.clone(), object).await? {
                return Ok(S3Response::new(CopyObjectOutput {
                    copy_object_result: Some(result),
                    ..Default::default()
                }));
            }
        }
    }

    /// False when the object's bytes are gone.
    async fn store_copy(&self, generation: i64, key: String, object: Object) -> S3Result<bool> {
        let service = self.clone();
        to_the_end(async move {
            match service.index.put_copy(generation, key.as_bytes(), object, Guard::Always).await? {
                Put::Missing => Ok(false),
                put => {
                    service.blobs.unlink(done(put, S3ErrorCode::NoSuchKey)?).await;
                    Ok(true)
                }
            }
        })
        .await
    }

    pub(super) async fn delete(
        &self,
        mut request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let generation = opened(&request)?;
        let input = &mut request.input;
        only_version(input.version_id.as_deref())?;
        if input.if_match.is_some() || input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(not_offered("deleting under a condition"));
        }
        self.discard(generation.id, vec![std::mem::take(&mut input.key)]).await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) async fn delete_many(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let generation = opened(&request)?;
        let Delete { objects, quiet } = request.input.delete;
        if objects.len() > 1000 {
            return Err(S3Error::with_message(S3ErrorCode::MalformedXML, "at most 1000 keys are deleted at once"));
        }
        for object in &objects {
            only_version(object.version_id.as_deref())?;
            if object.e_tag.is_some() || object.size.is_some() || object.last_modified_time.is_some() {
                return Err(not_offered("deleting under a condition"));
            }
        }
        let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
        self.discard(generation.id, keys.clone()).await?;
        let deleted = keys.into_iter().map(|key| DeletedObject { key: Some(key), ..Default::default() }).collect();
        let deleted = (!quiet.unwrap_or(false)).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn discard(&self, generation: i64, keys: Vec<String>) -> S3Result {
        let service = self.clone();
        to_the_end(async move {
            let keys = keys.into_iter().map(String::into_bytes).collect();
            let freed = done(service.index.delete(generation, keys).await?, S3ErrorCode::NoSuchKey)?;
            service.blobs.unlink(freed).await;
            Ok(())
        })
        .await
    }
}

fn copied(etag: &str, modified: i64, checksum: Option<&Sum>) -> CopyObjectResult {
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(etag.to_owned())),
        last_modified: Some(timestamp(modified)),
        checksum_type: checksum.map(kind),
        ..Default::default()
    };
    report!(result, checksum);
    result
}

async fn next_chunk(body: Option<&mut StreamingBlob>) -> S3Result<Option<bytes::Bytes>> {
    let Some(body) = body else { return Ok(None) };
    match body.next().await {
        None => Ok(None),
        Some(Ok(chunk)) => Ok(Some(chunk)),
        // A connection that broke, a chunk that is not signed, a length that is not kept. Nobody may be left to read this.
        Some(Err(why)) => match why.downcast::<S3Error>() {
            Ok(error) => Err(*error),
            Err(why) => Err(S3Error::with_message(S3ErrorCode::IncompleteBody, format!("the body broke off: {why}"))),
        },
    }
}
