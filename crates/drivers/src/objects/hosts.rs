//! Which bucket a Host header means: none on the domain itself (path style), `s3-<env>` below it.

use s3s::host::{S3Host, VirtualHost};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// The one domain that is served.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    domain: String,
}

/// What a Host header, or an origin, names: less port, final dot and letter case.
pub(super) fn bare(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl Hosts {
    pub(super) fn new(domain: &str) -> Hosts {
        Hosts { domain: bare(domain) }
    }

    /// The label in front of the domain, if the host is one label below it.
    pub(super) fn label(&self, authority: &str) -> Option<String> {
        let host = bare(authority);
        let label = host.strip_suffix(&self.domain)?.strip_suffix('.')?;
        (!label.is_empty() && !label.contains('.')).then(|| label.to_owned())
    }

    /// # Errors
    /// The host is neither the domain nor a bucket's.
    pub(super) fn bucket(&self, authority: &str) -> S3Result<Option<String>> {
        if bare(authority) == self.domain {
            return Ok(None);
        }
        match self.label(authority) {
            Some(label) if label.starts_with("s3-") => Ok(Some(label)),
            _ => Err(misdirected(format!(
                "this object store answers to {domain} and s3-<environment>.{domain}, not to {authority}",
                domain = self.domain
            ))),
        }
    }
}

/// A request that is not for this server.
pub(super) fn misdirected(text: String) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::InvalidRequest, text);
    error.set_status_code(http::StatusCode::MISDIRECTED_REQUEST);
    error
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let plain = VirtualHost::new(self.domain.as_str());
        Ok(match self.bucket(host)? {
            Some(bucket) => plain.with_bucket(bucket),
            None => plain,
        })
    }
}
