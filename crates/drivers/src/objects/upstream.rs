//! S3 servers of the operator's: where a baseline's objects are read from, and where blobs may live.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::list_objects_v2::{ListObjectsV2Error, ListObjectsV2Output};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use planner::resource::Failure;

/// How long a server may take to be reached.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to begin with an answer.
const TO_ANSWER: Duration = Duration::from_secs(60);

/// A bucket of the operator's, where blobs live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Scheme and host of the server; Amazon's own if none.
    pub endpoint: Option<String>,
    /// As the server calls it.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// Lines `access_key_id = …` and `secret_access_key = …`, mode 0600.
    pub credentials_file: PathBuf,
}

impl Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upstream { endpoint, bucket, region, .. } = self;
        match endpoint {
            Some(endpoint) => write!(f, "bucket {bucket} of {endpoint}"),
            None => write!(f, "bucket {bucket} of Amazon's region {region}"),
        }
    }
}

/// The server behind the store failed. Nothing that a client did, nor this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} on the S3 server of [objects]: {why}")]
pub(super) struct Behind {
    verb: &'static str,
    why: String,
}

impl Behind {
    pub(super) fn because(verb: &'static str, why: impl Display) -> io::Error {
        io::Error::other(Behind { verb, why: why.to_string() })
    }

    pub(super) fn error<E>(verb: &'static str, why: &SdkError<E>) -> io::Error
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        Behind::because(verb, reason(why))
    }

    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<Behind>)
    }
}

/// The HTTP status of an answer, if there was one.
pub(super) fn status<E>(why: &SdkError<E>) -> Option<u16> {
    why.raw_response().map(|response| response.status().as_u16())
}

/// Why a call failed, in one line.
pub(super) fn reason<E: ProvideErrorMetadata + Error + 'static>(why: &SdkError<E>) -> String {
    match (why.code(), status(why)) {
        (Some(code), _) => format!("{code}: {}", why.message().unwrap_or("without a reason")),
        // One that agrees is not understood, which is told below.
        (None, Some(status @ 300..)) if why.as_service_error().is_some() => format!("it answers {status}"),
        _ => {
            let (mut text, mut inner) = (why.to_string(), why.source());
            while let Some(cause) = inner {
                text = format!("{text}: {cause}");
                inner = cause.source();
            }
            text
        }
    }
}

/// Whether a file of credentials can be used.
///
/// # Errors
/// One line: file, what is wrong and what to do.
pub fn check_credentials(file: &Path) -> Result<(), Failure> {
    credentials(file).map(drop)
}

/// A client of one server. Nothing is asked of it yet.
///
/// # Errors
/// The file of credentials cannot be used.
pub(super) fn connect(
    endpoint: Option<&str>,
    region: &str,
    credentials_file: Option<&Path>,
) -> Result<Client, Failure> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region.to_owned()))
        .timeout_config(TimeoutConfig::builder().connect_timeout(TO_CONNECT).read_timeout(TO_ANSWER).build())
        // Many servers do not know the newer checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    config = match credentials_file {
        Some(file) => config.credentials_provider(credentials(file)?),
        None => config.allow_no_auth(),
    };
    Ok(Client::from_conf(config.build()))
}

/// Lines `access_key_id = …` and `secret_access_key = …`, as in the files of Amazon's tools.
fn credentials(file: &Path) -> Result<Credentials, Failure> {
    let named = |text: String| Failure::permanent(format!("{}: {text}", file.display()));
    let data = std::fs::metadata(file).map_err(|why| named(why.to_string()))?;
    if data.permissions().mode() & 0o077 != 0 {
        return Err(named("others may read it; it holds a secret: chmod 600".to_owned()));
    }
    let text = std::fs::read_to_string(file).map_err(|why| named(why.to_string()))?;
    let value = |name: &str| {
        text.lines().filter_map(|line| line.split_once('=')).find_map(|(found, value)| {
            let found = found.trim().to_ascii_lowercase();
            (found.strip_prefix("aws_").unwrap_or(&found) == name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    match (value("access_key_id"), value("secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Credentials::new(id, secret, value("session_token"), None, "file")),
        _ => Err(named("it must have the lines access_key_id = … and secret_access_key = …".to_owned())),
    }
}

/// The pages of a listing, one after the other.
pub(super) struct Pages {
    client: Client,
    bucket: String,
    prefix: String,
    /// None at the end.
    next: Option<Option<String>>,
}

/// All keys that begin with `prefix`.
pub(super) fn pages(client: &Client, bucket: &str, prefix: &str) -> Pages {
    Pages { client: client.clone(), bucket: bucket.to_owned(), prefix: prefix.to_owned(), next: Some(None) }
}

impl Pages {
    pub(super) async fn next(&mut self) -> Option<Result<ListObjectsV2Output, SdkError<ListObjectsV2Error>>> {
        let token = self.next.take()?;
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let page = request.set_continuation_token(token).send().await;
        if let Ok(page) = &page
            && page.is_truncated == Some(true)
            && page.next_continuation_token.is_some()
        {
            self.next = Some(page.next_continuation_token.clone());
        }
        Some(page)
    }
}

/// What a call that failed means to whoever waits for it. Refusals may be cured at the server, so that it is tried again.
pub(super) fn failure(verb: &str, what: &str, why: impl Display) -> Failure {
    Failure::transient(format!("cannot {verb} {what} on the S3 server: {why}"))
}
