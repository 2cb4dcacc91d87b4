//! Bodies on their way through: never buffered, watched for silence, trailers dropped.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::pool::Lease;
use crate::visits::Visit;

/// What visitors get.
pub(crate) type Reply = UnsyncBoxBody<Bytes, io::Error>;

/// A body that we have whole.
pub(crate) fn whole(text: String) -> Reply {
    Full::from(text).map_err(never).boxed_unsync()
}

/// No body.
pub(crate) fn empty() -> Reply {
    Empty::new().map_err(never).boxed_unsync()
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// When something last moved in an exchange, and whether the visitor's side broke.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Instant,
    moved: AtomicU64,
    sent: AtomicBool,
    broken: AtomicBool,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        let (moved, sent, broken) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Progress { since: Instant::now(), moved, sent, broken })
    }

    /// Something moved.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Returns when nothing has moved for this long.
    pub(crate) async fn silence(&self, limit: Duration) {
        loop {
            let until = self.since + Duration::from_millis(self.moved.load(Ordering::Relaxed)) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Whether the request has been handed over in full.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the visitor's body broke off or was malformed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// A visitor's body on its way to an upstream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Option<Incoming>,
    progress: Arc<Progress>,
}

impl Outgoing {
    pub(crate) fn new(body: Incoming, progress: &Arc<Progress>) -> Self {
        progress.sent.store(body.is_end_stream(), Ordering::Relaxed);
        Outgoing { body: Some(body), progress: Arc::clone(progress) }
    }

    /// The same exchange without a body, for sending a request without one again.
    pub(crate) fn none(progress: &Arc<Progress>) -> Self {
        Outgoing { body: None, progress: Arc::clone(progress) }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            let frame = ready!(Pin::new(body).poll_frame(cx));
            self.progress.touch();
            match frame {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                // A trailer could say what a header may not.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.progress.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.progress.sent.store(true, Ordering::Relaxed);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// An upstream's body on its way to a visitor. Its end gives the connection back and ends the visit.
pub(crate) struct Answer {
    body: Incoming,
    lease: Option<Lease>,
    visit: Option<Visit>,
    limit: Duration,
    moved: Instant,
    silence: Pin<Box<Sleep>>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Answer {
    /// `limit`: the longest silence. `stop`: ends it early.
    pub(crate) fn new(
        body: Incoming,
        lease: Lease,
        visit: Option<Visit>,
        limit: Duration,
        stop: Option<CancellationToken>,
    ) -> Self {
        let moved = Instant::now();
        let silence = Box::pin(tokio::time::sleep_until(moved + limit));
        let stop = stop.map(|stop| Box::pin(stop.cancelled_owned()));
        let mut answer = Answer { body, lease: Some(lease), visit, limit, moved, silence, stop };
        if answer.body.is_end_stream() {
            answer.finish();
        }
        answer
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        self.visit = None;
    }

    /// Nothing came: is it the end of our patience?
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.silence.as_mut().poll(cx));
            let until = self.moved + self.limit;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.silence.as_mut().reset(until);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.moved = Instant::now();
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready()) {
                        (self.lease, self.stop) = (None, None);
                        self.finish();
                        return Poll::Ready(None);
                    }
                    ready!(self.poll_silence(cx));
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
