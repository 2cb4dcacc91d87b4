//! Blobs as objects of a bucket of the operator's: `<instance>/<env>/<generation>/<32 hex digits>`, and
//! `<instance>/baselines/<name>/<version>/<32 hex digits>`. Nothing outside `<instance>/` is ever asked for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, Semaphore};
use tokio_util::io::ReaderStream;

use super::super::checksum::{Digests, Sum};
use super::super::trouble::Trouble;
use super::super::upstream::{self, Behind, Pages, Upstream};
use super::probe::{MARKER, PROBE};
use super::sending::Sending;
use super::{Piece, Pieces, is_random};

/// Requests for one thing that are under way at once.
const AT_ONCE: usize = 8;
/// Objects that one request deletes: S3's own limit.
const MANY: usize = 1000;
/// How much of an object is passed on at once.
const CHUNK: usize = 128 << 10;

/// One instance's part of a bucket.
#[derive(Debug, Clone)]
pub(in super::super) struct Bucket {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// `<instance>/`.
    pub(super) prefix: String,
    /// One for each large upload.
    pub(super) permits: Arc<Semaphore>,
    /// Something could not be removed.
    pub(super) untidy: Arc<Notify>,
}

/// What blobs are called: somebody's folder, and a random name in it.
fn is_name(text: &str) -> bool {
    text.rsplit_once('/').is_some_and(|(whose, random)| !whose.is_empty() && is_random(random))
}

impl Bucket {
    /// Opens an instance's part of a bucket, if everything that will be asked for is allowed there and it is this
    /// store's. `held` says that the store has blobs there.
    pub(in super::super) async fn open(
        settings: &Upstream,
        instance: &str,
        id: &str,
        held: bool,
    ) -> Result<Bucket, Trouble> {
        let file = Some(settings.credentials_file.as_path());
        let client = upstream::connect(settings.endpoint.as_deref(), &settings.region, file);
        let client = client.map_err(|why| Trouble::Refused(why.to_string()))?;
        let bucket = Bucket {
            client,
            bucket: settings.bucket.clone(),
            prefix: format!("{instance}/"),
            permits: super::sending::permits(),
            untidy: Arc::default(),
        };
        bucket.probe(settings).await?;
        bucket.claim(id, held).await?;
        Ok(bucket)
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) async fn put(&self, name: &str, body: impl Into<ByteStream>) -> io::Result<()> {
        let put = self.client.put_object().bucket(&self.bucket).key(self.key(name)).body(body.into());
        put.send().await.map(drop).map_err(|why| Behind::error("write", &why))
    }

    pub(super) async fn read(&self, name: &str, range: Range<u64>) -> io::Result<Pieces> {
        let length = range.end - range.start;
        if length == 0 {
            // No range can name no bytes.
            return Ok(Box::pin(stream::empty()));
        }
        let get = self.client.get_object().bucket(&self.bucket).key(self.key(name));
        let answer = match get.range(format!("bytes={}-{}", range.start, range.end - 1)).send().await {
            Err(why) if why.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, "a blob is missing on the S3 server"));
            }
            answer => answer.map_err(|why| Behind::error("read", &why))?,
        };
        if answer.content_length.and_then(|length| u64::try_from(length).ok()) != Some(length) {
            let text = format!("it sends {:?} bytes of {length}", answer.content_length);
            return Err(Behind::because("read", text));
        }
        Ok(Box::pin(ReaderStream::with_capacity(answer.body.into_async_read(), CHUNK)))
    }

    /// Puts blobs together into one. The server does it by itself where it can and nobody looks at the bytes.
    pub(super) async fn join(
        &self,
        name: &str,
        pieces: &[Piece],
        mut digests: Option<Digests>,
    ) -> io::Result<Option<Sum>> {
        if digests.is_none() && pieces.iter().all(|piece| piece.size > 0) {
            match self.join_there(name, pieces).await {
                Ok(()) => return Ok(None),
                Err(why) => tracing::info!(%why, "the S3 server puts no parts together; sending them anew"),
            }
        }
        let mut sending = Sending::new(self, name, Some(pieces.iter().map(|piece| piece.size).sum()));
        for piece in pieces {
            let mut source = self.read(&piece.name, 0..piece.size).await?;
            while let Some(data) = source.next().await {
                let data = data.map_err(|why| Behind::because("read", why))?;
                if let Some(digests) = &mut digests {
                    digests.update(&data);
                }
                sending.write(&data).await?;
            }
        }
        sending.finish().await?;
        Ok(digests.and_then(|digests| digests.finish().checksum))
    }

    async fn join_there(&self, name: &str, pieces: &[Piece]) -> io::Result<()> {
        let upload = self.begin(name).await?;
        let (bucket, id) = (self, upload.as_str());
        let copies = (1..).zip(pieces).map(|(number, piece): (i32, &Piece)| async move {
            let source = format!("{}/{}", bucket.bucket, bucket.key(&piece.name));
            let copy = bucket.client.upload_part_copy().bucket(&bucket.bucket).key(bucket.key(name));
            let copy = copy.upload_id(id).part_number(number).copy_source(source).send().await;
            let copied = copy.map_err(|why| Behind::error("copy", &why))?;
            let etag = copied.copy_part_result.and_then(|result| result.e_tag);
            Ok::<_, io::Error>(CompletedPart::builder().part_number(number).set_e_tag(etag).build())
        });
        let parts: io::Result<Vec<CompletedPart>> =
            stream::iter(copies.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await;
        let done = match parts {
            Ok(parts) => self.complete(name, id, parts).await,
            Err(why) => Err(why),
        };
        if done.is_err() {
            // What this leaves, a sweep finds.
            let _ = self.abort(name, id).await;
        }
        done
    }

    pub(super) async fn begin(&self, name: &str) -> io::Result<String> {
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(self.key(name)).send().await;
        let begun = begun.map_err(|why| Behind::error("write", &why))?;
        begun.upload_id.ok_or_else(|| Behind::because("write", "it begins an upload without an id"))
    }

    pub(super) async fn complete(&self, name: &str, upload: &str, parts: Vec<CompletedPart>) -> io::Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(self.key(name));
        let completed = complete.upload_id(upload).multipart_upload(parts).send().await;
        completed.map(drop).map_err(|why| Behind::error("write", &why))
    }

    /// Gives an upload up, also one that is not there any more.
    pub(super) async fn abort(&self, name: &str, upload: &str) -> io::Result<()> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.key(name)).upload_id(upload);
        match abort.send().await {
            Err(why) if upstream::status(&why) != Some(404) => Err(Behind::error("give up an upload", &why)),
            _ => Ok(()),
        }
    }

    pub(super) async fn remove(&self, names: &[String]) -> io::Result<()> {
        let mut failed = Ok(());
        for names in names.chunks(MANY) {
            if names.len() > 1 && self.remove_together(names).await.is_ok() {
                continue;
            }
            // One, or more on a server that does not delete many at once.
            let removals: Vec<_> = names.iter().map(|name| self.remove_one(name)).collect();
            let removed: Vec<io::Result<()>> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
            failed = removed.into_iter().collect::<io::Result<()>>().and(failed);
        }
        failed
    }

    async fn remove_together(&self, names: &[String]) -> io::Result<()> {
        let ids = names.iter().map(|name| ObjectIdentifier::builder().key(self.key(name)).build());
        let ids = ids.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let delete = Delete::builder().set_objects(Some(ids)).quiet(true).build().map_err(io::Error::other)?;
        let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
        let answer = answer.map_err(|why| Behind::error("delete", &why))?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => Err(Behind::because("delete", error.code().unwrap_or("an error without a code"))),
        }
    }

    async fn remove_one(&self, name: &str) -> io::Result<()> {
        let removed = self.client.delete_object().bucket(&self.bucket).key(self.key(name)).send().await;
        match removed {
            Err(why) if upstream::status(&why) != Some(404) => Err(Behind::error("delete", &why)),
            _ => Ok(()),
        }
    }

    pub(super) fn pages(&self) -> Pages {
        upstream::pages(&self.client, &self.bucket, &self.prefix)
    }

    /// Blobs of one page of a listing; none behind the last.
    pub(super) async fn next_names(&self, pages: &mut Pages) -> io::Result<Option<Vec<String>>> {
        let Some(page) = pages.next().await else { return Ok(None) };
        let page = page.map_err(|why| Behind::error("list", &why))?;
        Ok(Some(page.contents().iter().filter_map(|object| self.name_of(object.key())).collect()))
    }

    /// What of a listing is a blob of ours, whatever else the server lists.
    fn name_of(&self, key: Option<&str>) -> Option<String> {
        key?.strip_prefix(&self.prefix).filter(|name| is_name(name)).map(str::to_owned)
    }

    /// Uploads under way: blob and id.
    pub(super) async fn uploads(&self) -> io::Result<Vec<(String, String)>> {
        let (mut found, mut key, mut id) = (Vec::new(), None, None);
        loop {
            let list = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&self.prefix);
            let page = match list.set_key_marker(key).set_upload_id_marker(id).send().await {
                // The operator's own rule has to end them there.
                Err(why) if upstream::status(&why) == Some(501) => return Ok(found),
                page => page.map_err(|why| Behind::error("list the uploads", &why))?,
            };
            for upload in page.uploads() {
                let ours = upload.key() == Some(self.key(PROBE).as_str());
                let name = if ours { Some(PROBE.to_owned()) } else { self.name_of(upload.key()) };
                found.extend(name.zip(upload.upload_id().map(str::to_owned)));
            }
            (key, id) = (page.next_key_marker.clone(), page.next_upload_id_marker.clone());
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(found);
            }
        }
    }

    /// Makes this part of the bucket that of the store `id`, unless it is another's: an index that was lost knows none of
    /// the blobs there, and would sweep them all away.
    async fn claim(&self, id: &str, held: bool) -> Result<(), Trouble> {
        let (bucket, key) = (&self.bucket, self.key(MARKER));
        let found = match self.client.get_object().bucket(bucket).key(&key).send().await {
            Ok(answer) => {
                let body = answer.body.collect().await.map_err(|why| Behind::because("read", why))?;
                Some(String::from_utf8_lossy(&body.into_bytes()).trim().to_owned())
            }
            Err(why) if why.as_service_error().is_some_and(GetObjectError::is_no_such_key) => None,
            Err(why) => return Err(Behind::error("read", &why).into()),
        };
        match found {
            Some(found) if found == id => Ok(()),
            Some(_) => Err(Trouble::Refused(format!(
                "{bucket}/{} holds the blobs of another index than this one: put that index.sqlite back, or delete everything under that prefix",
                self.prefix
            ))),
            None if held => Err(Trouble::Refused(format!(
                "{bucket}/{key} is not there, so this is not the bucket in which the objects of this store are: name that one in [objects], or move them here"
            ))),
            None => Ok(self.put(MARKER, id.as_bytes().to_vec()).await?),
        }
    }
}
