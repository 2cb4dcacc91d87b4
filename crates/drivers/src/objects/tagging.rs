//! Tags and access control lists of objects. Tags are kept; lists are told and taken as the only one there is: the
//! environment has full control, and the signature decides. Frameworks ask for both when they copy.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::access::opened;
use super::browsing::owner;
use super::index::{Guard, Put};
use super::reading::only_version;
use super::service::{Service, to_the_end};
use super::writing::done;

/// S3's own limits: tags of an object, and bytes of their names and values.
const MOST: usize = 10;
const LONGEST: (usize, usize) = (128 * 4, 256 * 4);

type Tags = BTreeMap<String, String>;

fn checked(tags: Vec<(String, String)>) -> S3Result<Tags> {
    let count = tags.len();
    let tags: Tags = tags.into_iter().collect();
    let fits = |(name, value): (&String, &String)| (1..=LONGEST.0).contains(&name.len()) && value.len() <= LONGEST.1;
    if tags.len() != count || count > MOST || !tags.iter().all(fits) {
        let text = format!(
            "an object has at most {MOST} tags, with different names of 1 to 128 characters and values up to 256"
        );
        return Err(S3Error::with_message(S3ErrorCode::InvalidTag, text));
    }
    Ok(tags)
}

/// The tags of a header, which are written as a query.
pub(super) fn parse(header: &str) -> S3Result<Tags> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = header.split('&').filter(|pair| !pair.is_empty());
    checked(
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect(),
    )
}

impl Service {
    pub(super) async fn get_tags(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let generation = opened(&request)?;
        only_version(request.input.version_id.as_deref())?;
        let object = self.find(generation.id, &request.input.key).await?;
        let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
        let tag_set = object.meta.tags.into_iter().map(tag).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    pub(super) async fn put_tags(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let generation = opened(&request)?;
        let input = request.input;
        only_version(input.version_id.as_deref())?;
        let pair = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        let tags = checked(input.tagging.tag_set.into_iter().map(pair).collect())?;
        self.set_tags(generation.id, input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn drop_tags(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let generation = opened(&request)?;
        only_version(request.input.version_id.as_deref())?;
        self.set_tags(generation.id, request.input.key, Tags::new()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
    }

    /// The same object with other tags; if it is replaced meanwhile, they are the new one's.
    async fn set_tags(&self, generation: i64, key: String, tags: Tags) -> S3Result {
        let service = self.clone();
        to_the_end(async move {
            loop {
                let mut object = service.find(generation, &key).await?;
                object.meta.tags.clone_from(&tags);
                let same = Guard::Is(Some(object.etag.clone()));
                match service.index.put_copy(generation, key.as_bytes(), object, same).await? {
                    Put::Missing | Put::Refused => {}
                    put => {
                        service.blobs.unlink(done(put, S3ErrorCode::NoSuchKey)?).await;
                        return Ok(());
                    }
                }
            }
        })
        .await
    }

    pub(super) async fn get_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let generation = opened(&request)?;
        only_version(request.input.version_id.as_deref())?;
        self.find(generation.id, &request.input.key).await?;
        let owner = owner(&generation);
        let grantee = Grantee {
            display_name: owner.display_name.clone(),
            email_address: None,
            id: owner.id.clone(),
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        };
        let permission = Some(Permission::from_static(Permission::FULL_CONTROL));
        let grants = Some(vec![Grant { grantee: Some(grantee), permission }]);
        Ok(S3Response::new(GetObjectAclOutput { grants, owner: Some(owner), ..Default::default() }))
    }

    /// Accepted without effect, as the same header of an upload is: what is public, the manifest says.
    pub(super) async fn put_acl(
        &self,
        request: S3Request<PutObjectAclInput>,
    ) -> S3Result<S3Response<PutObjectAclOutput>> {
        let generation = opened(&request)?;
        only_version(request.input.version_id.as_deref())?;
        self.find(generation.id, &request.input.key).await?;
        Ok(S3Response::new(PutObjectAclOutput::default()))
    }
}
