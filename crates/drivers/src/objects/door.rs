//! The way in: HTTP on a bound listener, what is refused before S3 begins, and CORS.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use planner::identity::Sha;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3ErrorCode, S3Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::{not_offered, query_value, signatures};
use super::generations::Keyring;
use super::hosts::{Hosts, misdirected};

/// How long a connection may be idle, or take to send the head of a request. Longer than clients keep idle connections, so
/// that they end them and are not surprised in the middle of a request; who is slow on purpose, the edge sees to.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How long requests under way may take when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// Headers of answers that scripts of another origin may read.
const EXPOSED: &str = "ETag, Content-Length, Content-Range, Content-Disposition, Last-Modified, x-amz-checksum-crc32, \
                       x-amz-checksum-crc32c, x-amz-checksum-crc64nvme, x-amz-checksum-sha1, x-amz-checksum-sha256";

/// The largest file that a form may bring, in bytes: it is held in memory until its policy has been judged.
pub(super) const LARGEST_FORM: u64 = 64 << 20;
/// So many forms are read at once.
const FORMS: usize = 4;
/// How long a form may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) struct Door {
    hosts: Hosts,
    keyring: Arc<Keyring>,
    s3: S3Service,
    forms: Semaphore,
}

impl Door {
    pub(super) fn new(hosts: Hosts, keyring: Arc<Keyring>, s3: S3Service) -> Door {
        Door { hosts, keyring, s3, forms: Semaphore::new(FORMS) }
    }

    /// Serves until `stop`, then lets requests under way finish, for a while.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(self.clone().converse(stream, stop.clone()));
                    }
                    Err(why) => {
                        // Most likely out of file descriptors: others must first let go of some.
                        tracing::warn!(%why, "object store: cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            connections.shutdown().await;
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, stop: CancellationToken) {
        // Small answers must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(move |request| {
            let door = self.clone();
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(why) = ended {
            tracing::debug!(%why, "object store: connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let allowed = self.allowed_origin(&request);
        let may_hold_back = request.headers().contains_key(header::EXPECT);
        let mut response = match self.admit(&request) {
            Err(error) => refusal(error),
            Ok(()) if request.method() == Method::OPTIONS => preflight(&request, allowed.as_ref()),
            Ok(()) if is_form(&request) => self.take_form(request).await,
            Ok(()) => self.call(request).await,
        };
        let refused = !response.status().is_success();
        let headers = response.headers_mut();
        if may_hold_back && refused {
            // Who waits for '100 Continue' and is refused may leave the body out, or be sending it already. On a connection
            // that stays open, the next request's first bytes could be taken for it.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        response
    }

    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        self.s3.call(request.map(Body::from)).await.unwrap_or_else(|why| {
            tracing::error!(?why, "object store: an answer could not be written");
            refusal(S3ErrorCode::InternalError.into())
        })
    }

    /// A form's file is in memory before anybody has asked whose it is: a few at a time, none for long, none too large.
    async fn take_form(&self, request: Request<Incoming>) -> Response<Body> {
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_none_or(|length: u64| length > LARGEST_FORM + (1 << 20)) {
            let text = format!("a form says how long it is, and brings a file of at most {} MiB", LARGEST_FORM >> 20);
            return refusal(S3Error::with_message(S3ErrorCode::EntityTooLarge, text));
        }
        let Ok(_one_of_few) = self.forms.try_acquire() else {
            return refusal(S3Error::with_message(S3ErrorCode::SlowDown, "too many forms at once; try again"));
        };
        tokio::time::timeout(FORM_TIMEOUT, self.call(request))
            .await
            .unwrap_or_else(|_| refusal(S3ErrorCode::RequestTimeout.into()))
    }

    /// What is refused before S3 begins.
    fn admit(&self, request: &Request<Incoming>) -> S3Result<()> {
        self.hosts.bucket(host(request)?)?;
        if signatures(request.uri(), request.headers()) > 1 {
            let text = "the request is signed more than once: by a header, or by its URL, not by both";
            return Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
        }
        let old_header = request
            .headers()
            .get(header::AUTHORIZATION)
            .is_some_and(|value| !value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"));
        let old_url = query_value(request.uri(), "Signature").is_some();
        if old_header || (old_url && !matches!(*request.method(), Method::GET | Method::HEAD)) {
            return Err(not_offered("signatures of version 2 but in presigned URLs for GET; use version 4"));
        }
        Ok(())
    }

    /// The request's origin, if it is one of the environment's that the bucket belongs to.
    ///
    /// A commit's own host is known by its sha. Aliases are not known here; whatever else stands below the domain may
    /// read, since the signature is what grants access.
    fn allowed_origin(&self, request: &Request<Incoming>) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let label = self.hosts.label(authority)?;
        let bucket = self.bucket_of(request)?;
        let first = label.split("--").next().unwrap_or_default();
        let own = match first.parse::<Sha>() {
            Ok(sha) => self.keyring.bucket_is_of(&bucket, &sha),
            Err(_) => !label.starts_with("s3-") && self.keyring.has_bucket(&bucket),
        };
        own.then(|| origin.clone())
    }

    fn bucket_of(&self, request: &Request<Incoming>) -> Option<String> {
        let in_path = || request.uri().path().split('/').nth(1).map(str::to_owned);
        self.hosts.bucket(host(request).ok()?).ok()?.or_else(in_path)
    }
}

fn host(request: &Request<Incoming>) -> S3Result<&str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => Ok(host),
        _ => Err(misdirected("a request needs exactly one Host header".to_owned())),
    }
}

fn is_form(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    request.method() == Method::POST && kind.to_ascii_lowercase().starts_with(b"multipart/form-data")
}

fn refusal(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|_| {
        let mut plain = Response::new(Body::empty());
        *plain.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        plain
    })
}

/// Preflights are unsigned by nature: they say what may be asked, and give nothing.
fn preflight(request: &Request<Incoming>, allowed: Option<&HeaderValue>) -> Response<Body> {
    let asked = |name: HeaderName| request.headers().get(name).cloned();
    let (Some(_), Some(_)) = (allowed, asked(header::ACCESS_CONTROL_REQUEST_METHOD)) else {
        return refusal(S3Error::with_message(
            S3ErrorCode::AccessDenied,
            "CORS: this origin is none of the environment that the bucket belongs to",
        ));
    };
    let mut response = Response::new(Body::empty());
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE"));
    if let Some(names) = asked(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3000"));
    response
}
