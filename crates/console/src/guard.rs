//! What stands before every route: our own host only, our own origin for writes, a session, and the headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::api::Problem;
use crate::app::{App, Door};
use crate::sessions::{SignedIn, cookie};

pub(crate) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
                      img-src data:; frame-ancestors 'none'; base-uri 'none'";

/// Sent by our own script with what it fetches by itself, which is no use of the session and consumes no message.
pub(crate) const LIVE: &str = "sidestage-live";

/// The console's own place: what requests must be for, and writes come from.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Lower case, with the port unless it is the scheme's own.
    authority: String,
    /// Scheme and authority, as browsers write `Origin`.
    pub(crate) origin: String,
    pub(crate) secure: bool,
}

impl Site {
    pub(crate) fn parse(url: &str) -> Option<Site> {
        let url: Uri = url.parse().ok()?;
        let scheme = url.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        if url.path() != "/" || url.query().is_some() {
            return None;
        }
        let authority = plain(url.authority()?.as_str(), scheme == "https");
        Some(Site { origin: format!("{scheme}://{authority}"), authority, secure: scheme == "https" })
    }

    /// The cookie's name. `__Host-` keeps other hosts of the same site from setting it, where there is TLS.
    pub(crate) fn cookie(&self, instance: &str) -> String {
        let prefix = if self.secure { "__Host-" } else { "" };
        format!("{prefix}sidestage_{}", instance.get(..8).unwrap_or(instance))
    }

    fn is_own_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| plain(host, self.secure) == self.authority)
    }

    /// Whether a write comes from one of our own pages. Browsers send `Origin` with every write, and `Sec-Fetch-Site` where they trust the place.
    pub(crate) fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        origin == Some(&self.origin) && text(headers, "sec-fetch-site").is_none_or(|site| site == "same-origin")
    }
}

/// An authority as browsers write it: lower case, without the scheme's own port.
fn plain(authority: &str, secure: bool) -> String {
    let lower = authority.to_ascii_lowercase();
    let port = if secure { ":443" } else { ":80" };
    lower.strip_suffix(port).map_or(lower.clone(), str::to_owned)
}

/// A header as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How long a request may take to arrive and be answered; what streams goes on afterwards.
const SLOWEST: Duration = Duration::from_secs(90);

/// The headers of every answer. `same-origin` and not `no-referrer`: under the latter browsers send `Origin: null` with our own
/// forms; what leaves for other origins is the same, nothing.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(SLOWEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive; try again\n").into_response(),
    };
    let fixed: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses requests for other hosts: a name that was pointed at us by somebody else must not speak for us.
pub(crate) async fn host(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.door == Door::Local || app.site.is_own_host(request.headers()) {
        return next.run(request).await;
    }
    let line = format!("this is the console of {0}/ and answers only there: open {0}/", app.site.origin);
    if request.uri().path().starts_with("/api/") {
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, line).into_response();
    }
    (StatusCode::MISDIRECTED_REQUEST, format!("{line}\n")).into_response()
}

/// The session that the request's cookie names.
pub(crate) fn signed_in(app: &App, headers: &HeaderMap) -> Option<SignedIn> {
    let value = cookie(headers, &app.site.cookie(&app.settings.instance))?;
    let touch = !headers.contains_key(LIVE) && text(headers, "accept") != Some("text/event-stream");
    app.sessions.find(&value, app.now(), touch)
}

/// Before the API: a session unless local, then for writes our own origin and JSON, which no form of another site can send.
pub(crate) async fn api(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let refuse = |status, line: &str| Problem::new(status, line).into_response();
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if app.door == Door::People {
        let Some(session) = signed_in(&app, request.headers()) else {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "not signed in: type `sidestage login-link` and open what it prints",
            );
        };
        if writes && !app.site.is_own_origin(request.headers()) {
            return refuse(
                StatusCode::FORBIDDEN,
                "a change must come from the console itself: use its pages or the CLI",
            );
        }
        request.extensions_mut().insert(session);
    }
    let json = text(request.headers(), "content-type").is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if writes && !json {
        return refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the API takes JSON only: send content-type: application/json",
        );
    }
    next.run(request).await
}
