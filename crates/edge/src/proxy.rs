//! The listener, and what becomes of a request: which host, which door.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use planner::identity::EnvId;
use planner::names;
use planner::tables::{EnvRoute, Route, Tables};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Reply;
use crate::doorbell::Doorbell;
use crate::doors::Doors;
use crate::headers::Canonical;
use crate::pages;
use crate::patience::Patience;
use crate::places::Places;
use crate::pool::Pool;
use crate::request::{Asked, normalise};
use crate::tls::Tls;

/// A request's head: fields, and bytes.
const HEADERS: usize = 100;
const HEAD_BYTES: usize = 64 * 1024;

/// How often connections to upstreams that have idled too long are closed.
const SWEEP: Duration = Duration::from_secs(1);

/// The first byte of whoever begins TLS: a record that is a handshake. No method of HTTP begins so.
const HANDSHAKE: u8 = 22;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Secure,
    Clear,
}

/// Where authorities look for proof that a host is somebody's.
pub(crate) const ACME: &str = "/.well-known/acme-challenge/";

/// Who is on the other side of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Visitors.
    Outer,
    /// Environments, on the service address: each gets its own hosts and its own bucket, and is no visitor.
    Inner,
}

/// Serves the tables on a bound listener until `shutdown`, then lets open requests end.
///
/// With `tls` the listener takes both, told apart by the first byte: what comes in clear is sent on to https, except for
/// the object store, whose clients may have been told of an endpoint in clear. The port does not matter: a browser that
/// upgrades such an endpoint to https keeps its port.
pub async fn serve(listener: TcpListener, doors: Doors, side: Side, tls: Option<Tls>, shutdown: CancellationToken) {
    serve_with(listener, doors, side, tls, Patience::default(), shutdown).await;
}

/// The same with other limits of time.
pub async fn serve_with(
    listener: TcpListener,
    doors: Doors,
    side: Side,
    tls: Option<Tls>,
    patience: Patience,
    shutdown: CancellationToken,
) {
    let proxy = Arc::new(Proxy {
        pool: Pool::new(patience.clone()),
        doorbell: Doorbell::new(patience.knock),
        tasks: TaskTracker::new(),
        shutdown,
        doors,
        side,
        tls,
        patience,
    });
    proxy.keep_pool();
    let keeper = tokio::spawn(Arc::clone(&proxy).keep());
    let cut = CancellationToken::new();
    proxy.accept(&listener, &cut).await;
    drop(listener);
    proxy.tasks.close();
    if tokio::time::timeout(proxy.patience.drain, proxy.tasks.wait()).await.is_err() {
        tracing::info!("open requests were cut off when the proxy stopped");
    }
    cut.cancel();
    keeper.abort();
}

/// Everything that a request needs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) doors: Doors,
    pub(crate) side: Side,
    /// Visitors come by https. None: in clear, or by a proxy in front that ends TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) patience: Patience,
    pub(crate) pool: Arc<Pool>,
    pub(crate) doorbell: Doorbell,
    pub(crate) tasks: TaskTracker,
    /// No further requests. Tunnels and event streams end with it, other requests may come to their end.
    pub(crate) shutdown: CancellationToken,
}

impl Proxy {
    async fn accept(self: &Arc<Self>, listener: &TcpListener, cut: &CancellationToken) {
        let places = Places::new(self.side);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = places.take(peer.ip()) else { continue };
                    let connection = Arc::clone(self).welcome(prepare(stream), peer);
                    let cut = cut.clone();
                    self.tasks.spawn(async move {
                        cut.run_until_cancelled(connection).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Whoever is there says first whether it speaks TLS.
    async fn welcome(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(tls) = &self.tls else { return self.connection(stream, peer, Line::Clear).await };
        let mut first = [0];
        let acceptor = tls.acceptor();
        let shaken = async {
            match stream.peek(&mut first).await {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if first[0] == HANDSHAKE => Ok(Ok(acceptor.accept(stream).await?)),
                Ok(_) => Ok(Err(stream)),
                Err(error) => Err(error),
            }
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.patience.head, shaken) => shaken,
            () = self.shutdown.cancelled() => return,
        };
        match shaken {
            Ok(Ok(Ok(secure))) => self.connection(secure, peer, Line::Secure).await,
            Ok(Ok(Err(clear))) => self.connection(clear, peer, Line::Clear).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS came about"),
            Err(_) => tracing::debug!(%peer, "a connection on which nothing was said"),
        }
    }

    /// One connection of a visitor, over TCP or whatever comes to wrap it.
    async fn connection<S>(self: Arc<Self>, stream: S, peer: SocketAddr, line: Line)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.patience.client));
        let visitor = peer.ip().to_canonical();
        let service = service_fn(|request| {
            let proxy = Arc::clone(&self);
            async move { Ok::<_, Infallible>(proxy.answer(request, visitor, line).await) }
        });
        let connection = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.head)
            .max_headers(HEADERS)
            .max_header_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %visitor, "connection of a visitor ended");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, visitor: IpAddr, line: Line) -> Response<Reply> {
        let form = pages::Form::wanted(request.headers());
        let asked = match normalise(&request) {
            Ok(asked) => asked,
            Err(refused) => return pages::refused(refused, form),
        };
        let tables = self.doors.tables();
        let Some(route) =
            tables.routes.get(&asked.host).filter(|route| self.may_ask(&tables, route, visitor, &request))
        else {
            return pages::unknown(form);
        };
        match route {
            Route::Env(_) | Route::Alias { .. } if line == Line::Clear && self.tls.is_some() => {
                self.to_https(&tables, route, &request, &asked, form)
            }
            Route::Env(_) => self.environment(&asked.host, request, &asked, visitor).await,
            Route::Alias { to, proxy } => match tables.routes.get(to) {
                Some(Route::Env(target)) if self.redirects(*proxy, target, &request, &asked) => {
                    pages::redirect(target, request.uri())
                }
                Some(Route::Env(_)) => self.environment(to, request, &asked, visitor).await,
                _ => pages::unknown(form),
            },
            Route::Objects { .. } => self.objects(request, &asked).await,
        }
    }

    /// Whether whoever is on this side may know of the route: everybody outside, inside only whose it is.
    fn may_ask(&self, tables: &Tables, route: &Route, visitor: IpAddr, request: &Request<Incoming>) -> bool {
        if self.side == Side::Outer {
            return true;
        }
        let Some(env) = tables.inside.get(&visitor) else { return false };
        match route {
            Route::Env(route) => route.env == *env,
            Route::Alias { to, .. } => matches!(tables.routes.get(to), Some(Route::Env(route)) if route.env == *env),
            Route::Objects { bucket: Some(bucket) } => *bucket == names::bucket(env),
            Route::Objects { bucket: None } => is_in_bucket(request.uri().path(), env),
        }
    }

    /// What comes in clear where visitors come by https: looking goes on there, anything else would already have told its secrets.
    fn to_https(
        &self,
        tables: &Tables,
        route: &Route,
        request: &Request<Incoming>,
        asked: &Asked,
        form: pages::Form,
    ) -> Response<Reply> {
        let (target, canonical) = match route {
            Route::Env(target) => (target, true),
            Route::Alias { to, proxy } => match tables.routes.get(to) {
                Some(Route::Env(target)) => (target, self.redirects(*proxy, target, request, asked)),
                _ => return pages::unknown(form),
            },
            Route::Objects { .. } => return pages::unknown(form),
        };
        // Whoever could answer here could have a certificate made out to the host.
        if request.uri().path().starts_with(ACME) {
            return pages::unknown(form);
        }
        let base =
            if canonical { target.url.clone() } else { Canonical::of(&target.url, &asked.host).url_of(&asked.host) };
        if asked.upgrade || !matches!(*request.method(), Method::GET | Method::HEAD) {
            return pages::only_https(&base, form);
        }
        pages::moved(&base, request.uri())
    }

    /// Looking goes on at the canonical host; whatever else would be lost on the way is served under the alias.
    fn redirects(&self, proxy: bool, target: &EnvRoute, request: &Request<Incoming>, asked: &Asked) -> bool {
        let open = target.public || self.side == Side::Inner;
        open && !proxy && !asked.upgrade && matches!(*request.method(), Method::GET | Method::HEAD)
    }

    fn keep_pool(&self) {
        self.pool.keep(&self.doors.tables(), self.store());
    }

    /// Connections follow the tables.
    async fn keep(self: Arc<Self>) {
        let mut tables = self.doors.tables.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                changed = tables.changed() => match changed {
                    Ok(()) => self.keep_pool(),
                    Err(_) => return,
                },
                _ = sweep.tick() => self.pool.sweep(),
            }
        }
    }
}

/// Keep-alive probes find visitors who are gone without a word, so that their streams do not keep an environment awake.
fn prepare(stream: TcpStream) -> TcpStream {
    let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let set = stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(&stream).set_tcp_keepalive(&probes));
    if let Err(error) = set {
        tracing::debug!(%error, "a socket did not take its options");
    }
    stream
}

/// Path style: the bucket is the first part of the path. `/` alone lists the buckets of whoever signed the request.
fn is_in_bucket(path: &str, env: &EnvId) -> bool {
    let bucket = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    path == "/" || (path.starts_with(&format!("/{bucket}")) && bucket == names::bucket(env))
}
