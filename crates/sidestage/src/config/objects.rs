//! Whether what `[objects]` says fits together.

use anyhow::bail;
use drivers::objects::Upstream;

use super::Config;

/// What servers that know no regions call theirs.
const REGION: &str = "us-east-1";

impl Config {
    /// The bucket in which blobs live; none: files below `state_dir`.
    #[must_use]
    pub fn objects_upstream(&self) -> Option<Upstream> {
        let objects = &self.objects;
        Some(Upstream {
            endpoint: objects.endpoint.clone(),
            region: objects.region.clone().unwrap_or_else(|| REGION.to_owned()),
            bucket: objects.bucket.clone()?,
            credentials_file: objects.credentials_file.clone()?,
        })
    }

    pub(super) fn check_objects(&self) -> anyhow::Result<()> {
        let objects = &self.objects;
        let Some(bucket) = &objects.bucket else {
            let given = [
                ("endpoint", objects.endpoint.is_some()),
                ("region", objects.region.is_some()),
                ("credentials_file", objects.credentials_file.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => bail!("[objects]: {key} needs bucket: the bucket of yours in which objects live"),
                None => Ok(()),
            };
        };
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(fits) {
            bail!("[objects]: bucket {bucket:?} is no name of a bucket: 3 to 63 of a-z, 0-9, '-' and '.'");
        }
        match &objects.credentials_file {
            None => bail!("[objects]: bucket needs credentials_file: access_key_id and secret_access_key, mode 0600"),
            Some(file) if !file.is_absolute() => {
                bail!("[objects]: credentials_file = {} must be an absolute path", file.display())
            }
            Some(_) => {}
        }
        match &objects.endpoint {
            None if objects.region.is_none() => {
                bail!("[objects]: bucket needs endpoint, or for Amazon's own S3 region")
            }
            Some(endpoint) => {
                let host = ["https://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
                if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
                    bail!("[objects]: endpoint {endpoint:?} must be scheme and host, such as https://s3.example.org");
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}
