//! The host that a request is for. hyper lets missing, repeated, contradictory and malformed ones in, so it is judged here.

use http::header::HOST;
use http::{HeaderMap, Uri};

/// Why a request has no authority that we would follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("the request names no host")]
    Missing,
    #[error("the request names a host more than once")]
    Repeated,
    #[error("the request's target and its Host header differ")]
    Contradictory,
    #[error("the request's host is not a host name")]
    Malformed,
}

/// The one host of a request: lower case, without port and trailing dot.
pub(crate) fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, Unclear> {
    let mut lines = headers.get_all(HOST).iter();
    let line = lines.next().ok_or(Unclear::Missing)?;
    if lines.next().is_some() {
        return Err(Unclear::Repeated);
    }
    let (host, port) = split(line.as_bytes())?;
    if let Some(authority) = uri.authority() {
        let target = split(authority.as_str().as_bytes())?;
        if target != (host.clone(), port) {
            return Err(Unclear::Contradictory);
        }
    }
    Ok(host)
}

/// `Name.Example.:80` is (`name.example`, 80). Addresses are no host names here: no environment is at one.
fn split(authority: &[u8]) -> Result<(String, Option<u16>), Unclear> {
    let text = std::str::from_utf8(authority).map_err(|_| Unclear::Malformed)?;
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = match port {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Unclear::Malformed)?)
        }
        Some(_) => return Err(Unclear::Malformed),
        None => None,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if is_host_name(&host) { Ok((host, port)) } else { Err(Unclear::Malformed) }
}

fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    let numeric = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    host.len() <= 253 && host.split('.').all(label) && !host.rsplit('.').next().is_none_or(numeric)
}
