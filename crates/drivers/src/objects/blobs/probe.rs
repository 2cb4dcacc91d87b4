//! What an S3 server must allow, asked by doing it.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::trouble::Trouble;
use super::super::upstream::{Upstream, reason, status};
use super::bucket::Bucket;

/// The object by which it is tried out. No blob is called so.
pub(super) const PROBE: &str = "probe";
/// The object that says whose blobs stand beside it.
pub(super) const MARKER: &str = "store";

/// What the server has refused.
#[derive(Default)]
struct Refused(Vec<&'static str>);

impl Refused {
    /// Whether it was done. That `action` is not allowed is noted; whatever else is wrong ends the search.
    fn note<T, E>(
        &mut self,
        action: &'static str,
        place: &str,
        answer: Result<T, SdkError<E>>,
    ) -> Result<Option<T>, Trouble>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let why = match answer {
            Ok(done) => return Ok(Some(done)),
            Err(why) => why,
        };
        match (why.code(), status(&why)) {
            // It has said whose credentials it does not believe; each action would be refused.
            (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "NoSuchBucket"), _) => {}
            (_, Some(403)) => {
                if !self.0.contains(&action) {
                    self.0.push(action);
                }
                return Ok(None);
            }
            // Of the object that could not be written.
            (Some("NoSuchKey"), _) if !self.0.is_empty() => return Ok(None),
            _ => {}
        }
        Err(Trouble::Refused(format!("[objects]: {place} cannot be used: {}", reason(&why))))
    }
}

impl Bucket {
    /// Does once, with an object of its own, whatever will be done to blobs.
    ///
    /// # Errors
    /// One line: what of it the server refuses.
    pub(super) async fn probe(&self, settings: &Upstream) -> Result<(), Trouble> {
        let place = settings.to_string();
        let (client, bucket, key) = (&self.client, &self.bucket, self.key(PROBE));
        let mut refused = Refused::default();
        let put = client.put_object().bucket(bucket).key(&key).body(PROBE.as_bytes().to_vec().into()).send().await;
        refused.note("s3:PutObject", &place, put)?;
        let got = client.get_object().bucket(bucket).key(&key).send().await;
        refused.note("s3:GetObject", &place, got)?;
        let listed = client.list_objects_v2().bucket(bucket).prefix(&self.prefix).max_keys(1).send().await;
        refused.note("s3:ListBucket", &place, listed)?;
        let begun = client.create_multipart_upload().bucket(bucket).key(&key).send().await;
        if let Some(upload) = refused.note("s3:PutObject", &place, begun)?.and_then(|begun| begun.upload_id) {
            let aborted = client.abort_multipart_upload().bucket(bucket).key(&key).upload_id(upload).send().await;
            refused.note("s3:AbortMultipartUpload", &place, aborted)?;
        }
        let uploads = client.list_multipart_uploads().bucket(bucket).prefix(&self.prefix).send().await;
        match uploads {
            Err(why) if status(&why) == Some(501) => {
                tracing::warn!("the S3 server lists no uploads: have it give up those that nobody completes by itself");
            }
            uploads => drop(refused.note("s3:ListBucketMultipartUploads", &place, uploads)?),
        }
        let deleted = client.delete_object().bucket(bucket).key(&key).send().await;
        refused.note("s3:DeleteObject", &place, deleted)?;
        if refused.0.is_empty() {
            return Ok(());
        }
        Err(Trouble::Refused(format!(
            "[objects]: {place} refuses {} under {}: allow it to the access key in {}",
            refused.0.join(", "),
            self.prefix,
            settings.credentials_file.display()
        )))
    }
}
