//! One request to one upstream, and what can go wrong on the way.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use planner::tables::Upstream;

use crate::body::{Outgoing, Progress};
use crate::headers::{self, Canonical};
use crate::pool::{Lease, Pool};
use crate::request::Asked;

/// A request that can be sent on, and what we keep of it.
pub(crate) struct Exchange {
    pub(crate) request: Request<Outgoing>,
    pub(crate) progress: Arc<Progress>,
    /// The visitor's side of a WebSocket to come.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Exchange {
    /// Of a visitor's request: path and query only, HTTP/1.1, its body watched.
    pub(crate) fn of(mut request: Request<Incoming>, asked: &Asked) -> Self {
        let upgrade = asked.upgrade.then(|| hyper::upgrade::on(&mut request));
        let progress = Progress::new();
        let target = request.uri().path_and_query().cloned();
        let mut request = request.map(|body| Outgoing::new(body, &progress));
        *request.uri_mut() = target.map_or_else(Uri::default, Uri::from);
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().clear();
        Exchange { request, progress, upgrade }
    }

    /// Makes the headers those of a request to the application that is at this address.
    pub(crate) fn direct(&mut self, canonical: &Canonical, asked: &Asked, visitor: IpAddr) {
        let headers = self.request.headers_mut();
        headers::to_application(headers, canonical, visitor);
        if asked.upgrade {
            headers::ask_upgrade(headers);
        } else if asked.chunked {
            headers::chunk(headers);
        }
    }
}

/// Why there is no answer. The request comes back where sending it again does no harm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// Nobody accepted a connection; nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(io::Error, Box<Request<Outgoing>>),
    /// The connection broke before an answer came.
    #[error("the connection broke before an answer: {0}")]
    Lost(io::Error, Option<Box<Request<Outgoing>>>),
    /// The upstream has the whole request and says nothing.
    #[error("no answer in time")]
    Silent,
    /// The visitor's body is malformed, broke off, or stopped coming.
    #[error("the visitor's body did not arrive")]
    Visitor,
}

/// Sends a request and waits for the head of the answer, at most `limit` from the last piece of the request.
///
/// A pooled connection may just be closing, and then nobody knows whether the upstream has seen the request. So only
/// what may be sent twice goes over one; everything else gets a connection of its own.
pub(crate) async fn send(
    pool: &Arc<Pool>,
    upstream: &Upstream,
    mut request: Request<Outgoing>,
    progress: &Arc<Progress>,
    limit: Duration,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let repeatable =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream();
    let mut may_pool = repeatable;
    loop {
        let (mut lease, pooled) = match may_pool.then(|| pool.take(upstream)).flatten() {
            Some(lease) => (lease, true),
            None => match pool.connect(upstream).await {
                Ok(lease) => (lease, false),
                Err(error) => return Err(Failed::Unreachable(error, Box::new(request))),
            },
        };
        let again = repeatable.then(|| copy(&request, progress));
        progress.touch();
        let (unsent, error) = tokio::select! {
            biased;
            answer = lease.sender.try_send_request(request) => match answer {
                Ok(response) => return Ok((response, lease)),
                Err(mut error) => (error.take_message(), io::Error::other(error.into_error())),
            },
            // A request that is handed over just when its connection ends can be forgotten between the two: then hyper
            // has neither an answer nor an error for it, ever.
            () = lease.ended.cancelled() => (None, io::ErrorKind::ConnectionAborted.into()),
            () = progress.silence(limit) => {
                return Err(if progress.is_sent() { Failed::Silent } else { Failed::Visitor });
            }
        };
        match unsent.or(again) {
            _ if progress.is_broken() => return Err(Failed::Visitor),
            // Its neighbours in the pool are likely to be closing too.
            Some(next) if pooled => (request, may_pool) = (next, false),
            next => return Err(Failed::Lost(error, next.map(Box::new))),
        }
    }
}

fn copy(request: &Request<Outgoing>, progress: &Arc<Progress>) -> Request<Outgoing> {
    let mut copy = Request::new(Outgoing::none(progress));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
