//! What is stripped, overwritten and added on the way to an application and back.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Uri, Version};
use planner::tables::EnvRoute;

/// Headers that mean one connection only. A `Connection` header may name others, but only these are believed: with
/// `Connection: x-forwarded-for` a visitor would have our own headers removed.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Request headers that only we may set, or that make applications believe a visitor: all others that begin with
/// `x-forwarded-` or `x-staging-` go as well.
const OURS: [HeaderName; 5] = [
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("proxy"),
];

/// Response headers that act beyond the environment's own host, or that send visitors elsewhere.
const FAR_REACHING: [HeaderName; 7] = [
    header::ALT_SVC,
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("public-key-pins"),
    HeaderName::from_static("public-key-pins-report-only"),
    HeaderName::from_static("expect-ct"),
];

/// Tells a page of ours from one of an application.
pub(crate) const PAGE: HeaderName = HeaderName::from_static("x-sidestage");

/// The address in full, taken apart: what the application sees as its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Canonical {
    authority: String,
    scheme: &'static str,
    port: u16,
}

impl Canonical {
    /// Of a route's URL. `host` is the route's key, for a URL that is none.
    pub(crate) fn of(url: &str, host: &str) -> Self {
        let url: Uri = url.parse().unwrap_or_default();
        let scheme = if url.scheme() == Some(&Scheme::HTTPS) { "https" } else { "http" };
        let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let authority = url.authority().map_or(host, http::uri::Authority::as_str).to_owned();
        Canonical { authority, scheme, port }
    }

    /// The address of another host at the same scheme and port.
    pub(crate) fn url_of(&self, host: &str) -> String {
        let own = if self.scheme == "https" { 443 } else { 80 };
        let port = if self.port == own { String::new() } else { format!(":{}", self.port) };
        format!("{}://{host}{port}", self.scheme)
    }
}

/// Strips what belongs to the connection. `Expect` too: we have answered it by reading the body.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::EXPECT);
}

/// Makes a visitor's headers those of a request to the application.
pub(crate) fn to_application(headers: &mut HeaderMap, canonical: &Canonical, visitor: IpAddr) {
    strip_hop_by_hop(headers);
    let foreign: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-") || name.as_str().starts_with("x-staging-"))
        .cloned()
        .collect();
    for name in foreign.iter().chain(&OURS) {
        headers.remove(name);
    }
    let quoted = match visitor {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let Canonical { authority, scheme, port } = canonical;
    set(headers, header::HOST, authority);
    set(headers, HeaderName::from_static("x-forwarded-for"), &visitor.to_string());
    set(headers, HeaderName::from_static("x-forwarded-host"), authority);
    set(headers, HeaderName::from_static("x-forwarded-proto"), scheme);
    set(headers, HeaderName::from_static("x-forwarded-port"), &port.to_string());
    set(headers, HeaderName::from_static("x-real-ip"), &visitor.to_string());
    set(headers, header::FORWARDED, &format!("for={quoted};host=\"{authority}\";proto={scheme}"));
}

/// Asks the application for a WebSocket.
pub(crate) fn ask_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Says that the body comes in chunks, as it came to us: a GET without this would lose it.
pub(crate) fn chunk(headers: &mut HeaderMap) {
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Makes an upstream's answer one of ours. A length that came together with a coding is not believed: the body is framed anew.
pub(crate) fn to_visitor<B>(response: &mut http::Response<B>) {
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    for name in &FAR_REACHING {
        headers.remove(name);
    }
    headers.remove(PAGE);
    no_index(headers);
}

/// Says which commit answered.
pub(crate) fn mark(headers: &mut HeaderMap, route: &EnvRoute) {
    set(headers, HeaderName::from_static("x-staging-commit"), &route.sha.to_string());
    no_index(headers);
}

/// Has browsers fetch by https what a page names in clear. A page that came by https may not use the endpoint of the
/// object store as the application knows it; both edges take the same request by https, and its signature covers no scheme.
pub(crate) fn upgrade_objects(headers: &mut HeaderMap) {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if kind.to_ascii_lowercase().starts_with(b"text/html") {
        headers.append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("upgrade-insecure-requests"));
    }
}

/// Staged pages are nobody's search result.
pub(crate) fn no_index(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex"));
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    } else {
        headers.remove(name);
    }
}
