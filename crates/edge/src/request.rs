//! What is refused before anything else is looked at, and what of a request decides its way.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::body::{Body, Incoming};

use crate::authority::{self, Unclear};

/// A request that is not passed on to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Host(#[from] Unclear),
    #[error("the method is none that this server passes on")]
    Method,
    #[error("this server is no tunnel")]
    Connect,
    #[error("the request's target is not a path")]
    Target,
    #[error("the request is not HTTP/1.0 or HTTP/1.1")]
    Version,
    #[error("the request's framing is ambiguous")]
    Framing,
    #[error("an upgrade carries no body")]
    Upgrade,
}

impl Refused {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Refused::Method => StatusCode::NOT_IMPLEMENTED,
            Refused::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Refused::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// What of a request decides its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The one host, as it stands in the route table.
    pub(crate) host: String,
    /// Whether it wants to become a WebSocket.
    pub(crate) upgrade: bool,
    /// Whether the body came in chunks, its length unknown.
    pub(crate) chunked: bool,
}

/// Refuses what servers read differently, since what we and the application take for one request must be one request.
/// hyper has settled some of it before: of Content-Length with Transfer-Encoding it drops the former and closes
/// afterwards, equal lengths become one, bare line feeds and folded lines are gone when we write the head anew.
pub(crate) fn normalise(request: &http::Request<Incoming>) -> Result<Asked, Refused> {
    if !matches!(request.version(), Version::HTTP_10 | Version::HTTP_11) {
        return Err(Refused::Version);
    }
    method(request.method())?;
    let target = request.uri().path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if !target.starts_with('/') || request.uri().scheme_str().is_some_and(|scheme| !scheme.starts_with("http")) {
        return Err(Refused::Target);
    }
    let host = authority::host(request.uri(), request.headers())?;
    let chunked = framing(request.headers())?;
    let upgrade = is_websocket(request);
    if upgrade && !request.body().is_end_stream() {
        return Err(Refused::Upgrade);
    }
    Ok(Asked { host, upgrade, chunked })
}

/// Methods are case-sensitive and the list is closed: HTTP's own and WebDAV's.
fn method(method: &Method) -> Result<(), Refused> {
    const KNOWN: [&str; 18] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "QUERY",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "REPORT",
        "SEARCH",
        "MKCALENDAR",
    ];
    match method.as_str() {
        "CONNECT" | "TRACE" => Err(Refused::Connect),
        known if KNOWN.contains(&known) => Ok(()),
        _ => Err(Refused::Method),
    }
}

/// Whether the body is chunked; any other coding, and two statements about the length, are refused.
fn framing(headers: &HeaderMap) -> Result<bool, Refused> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match codings.next() {
        None => false,
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(Refused::Framing),
    };
    if codings.next().is_some() || (chunked && headers.contains_key(CONTENT_LENGTH)) {
        return Err(Refused::Framing);
    }
    Ok(chunked)
}

/// Only WebSockets are passed on: other upgrades (h2c above all) would hand the application a protocol that we cannot judge.
fn is_websocket(request: &http::Request<Incoming>) -> bool {
    let mut protocols = request.headers().get_all(UPGRADE).iter();
    let connection = request.headers().get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let mut options = connection.flat_map(|line| line.split(','));
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
        && protocols.next().is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && protocols.next().is_none()
}
