//! An edge on a port of its own, servers behind it, and clients in front.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edge::proxy::{Side, serve_with};
use edge::tls::Tls;
use edge::{Doors, Patience, Visits};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use planner::identity::{EnvId, Sha};
use planner::tables::{Door, EnvRoute, Page, Route, Tables, Upstream, Zone};
use planner::view::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const DOMAIN: &str = "staging.test";
pub(super) const SHA_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const SHA_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Nothing in a test takes longer; whatever does fails it.
pub(super) const BOUND: Duration = Duration::from_secs(20);

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(super) fn host(sha: &str) -> String {
    format!("{sha}.{DOMAIN}")
}

pub(super) fn env(letter: char) -> EnvId {
    letter.to_string().repeat(16).parse().unwrap()
}

pub(super) fn upstream(container: &str, generation: u32, address: SocketAddr) -> Upstream {
    Upstream { container: container.to_owned(), generation, address }
}

/// A public route of environment `a…` or `b…`, by the first letter of its sha.
pub(super) fn route(sha: &str, door: Door, state: State) -> EnvRoute {
    EnvRoute {
        env: env(sha.chars().next().unwrap()),
        sha: sha.parse::<Sha>().unwrap(),
        url: format!("http://{sha}.{DOMAIN}:8080"),
        door,
        page: Page {
            state,
            reason: Some("for a reason".to_owned()),
            hint: Some("do something".to_owned()),
            project: "shop".to_owned(),
            title: "#7 Title".to_owned(),
            subject: "Subject".to_owned(),
            data: Some("menu@3".to_owned()),
            links: vec![("Admin".to_owned(), "/admin".to_owned())],
            console_url: Some("http://console.test/shop/7".to_owned()),
        },
        public: true,
    }
}

pub(super) fn open(sha: &str, to: Upstream) -> Route {
    Route::Env(Box::new(route(sha, Door::Open(to), State::Ready)))
}

/// A running edge. Stops when dropped.
pub(super) struct Stage {
    pub(super) address: SocketAddr,
    pub(super) knocks: mpsc::Receiver<EnvId>,
    pub(super) visits: Arc<Visits>,
    tables: watch::Sender<Arc<Tables>>,
    stop: DropGuard,
    served: JoinHandle<()>,
}

impl Stage {
    pub(super) async fn new(routes: impl IntoIterator<Item = (String, Route)>) -> Self {
        Stage::with(routes, Side::Outer, Patience::default(), ([127, 0, 0, 1], 9).into()).await
    }

    pub(super) async fn patient(routes: impl IntoIterator<Item = (String, Route)>, patience: Patience) -> Self {
        Stage::with(routes, Side::Outer, patience, ([127, 0, 0, 1], 9).into()).await
    }

    pub(super) async fn with(
        routes: impl IntoIterator<Item = (String, Route)>,
        side: Side,
        patience: Patience,
        objects: SocketAddr,
    ) -> Self {
        Stage::secured(routes, side, None, patience, objects).await
    }

    pub(super) async fn secured(
        routes: impl IntoIterator<Item = (String, Route)>,
        side: Side,
        tls: Option<Tls>,
        patience: Patience,
        objects: SocketAddr,
    ) -> Self {
        let first = Tables { routes: routes.into_iter().collect(), inside: BTreeMap::new(), zone: Zone::default() };
        let (tables, receiver) = watch::channel(Arc::new(first));
        let (knock, knocks) = mpsc::channel(16);
        let visits = Arc::new(Visits::default());
        let doors = Doors { tables: receiver, knock, visits: Arc::clone(&visits), objects };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve_with(listener, doors, side, tls, patience, stop.clone()));
        Stage { address, knocks, visits, tables, stop: stop.drop_guard(), served }
    }

    /// Asks the edge to stop; what is returned ends when it has.
    pub(super) fn stop(self) -> JoinHandle<()> {
        self.stop.disarm().cancel();
        self.served
    }

    /// Publishes changed tables.
    pub(super) fn change(&self, change: impl FnOnce(&mut Tables)) {
        self.tables.send_modify(|tables| change(Arc::make_mut(tables)));
    }

    pub(super) fn set(&self, host: String, route: Route) {
        self.change(|tables| {
            tables.routes.insert(host, route);
        });
    }

    pub(super) async fn get(&self, host: &str, target: &str) -> Fetched {
        self.fetch(request("GET", host, target, &[])).await
    }

    pub(super) async fn fetch(&self, request: Request<Body>) -> Fetched {
        let response = self.start(request).await;
        Fetched::read(response).await.expect("the answer's body")
    }

    /// Sends a request over a connection of its own and waits for the answer's head.
    pub(super) async fn start(&self, request: Request<Body>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        timeout(BOUND, sender.send_request(request)).await.expect("no answer in time").expect("an answer")
    }

    /// Sends bytes, and reads until the edge closes.
    pub(super) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The edge may refuse and close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("the edge did not close");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(crate) fn request(method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(target).header("host", host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Empty::new().boxed_unsync()).unwrap()
}

pub(super) fn text(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

/// An answer in full.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(super) headers: hyper::HeaderMap,
    pub(super) body: Bytes,
}

impl Fetched {
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = timeout(BOUND, body.collect()).await.expect("the body did not end")?;
        Ok(Fetched { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A real server: hyper, one handler. Stops when dropped.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<AtomicUsize>,
    pub(super) connections: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Backend {
    pub(super) async fn new<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), handler)
    }

    pub(super) fn on<H, F>(listener: TcpListener, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stop = CancellationToken::new();
        let (count, accepted, stopped) = (Arc::clone(&requests), Arc::clone(&connections), stop.clone());
        tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let (handler, count) = (handler.clone(), Arc::clone(&count));
                let service = service_fn(move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    tokio::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        // As an application does that is asked to end: what is under way is answered.
                        () = stopped.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
                });
            }
        }));
        Backend { address, requests, connections, stop }
    }

    /// Answers everything with these words.
    pub(super) async fn saying(words: &'static str) -> Self {
        Self::new(move |_| async move { Response::new(text(words)) }).await
    }

    /// Answers with the request's target and headers, a line each.
    pub(super) async fn echo() -> Self {
        Self::new(|request| async move {
            let mut lines = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                lines += &format!("{name}: {}\n", value.to_str().unwrap());
            }
            Response::new(text(lines))
        })
        .await
    }

    pub(super) fn upstream(&self) -> Upstream {
        upstream("container", 1, self.address)
    }

    pub(super) fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A server that is none: takes what comes until the head and the body it announces are there, answers with fixed
/// bytes and closes.
pub(super) struct Raw {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    _stop: DropGuard,
}

impl Raw {
    /// `until` ends the request; after the answer the connection is closed, unless `hold`.
    pub(super) async fn new(until: &'static str, answer: impl Into<Vec<u8>>, hold: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answer) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::new(answer.into()));
        let stop = CancellationToken::new();
        let record = Arc::clone(&seen);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                tokio::spawn(async move {
                    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                    while !String::from_utf8_lossy(&request).contains(until) {
                        match stream.read(&mut buffer).await {
                            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                            _ => break,
                        }
                    }
                    record.lock().unwrap().extend_from_slice(&request);
                    let _ = stream.write_all(&answer).await;
                    while hold && !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
                });
            }
        }));
        Raw { address, seen, _stop: stop.drop_guard() }
    }

    pub(super) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    pub(super) fn upstream(&self) -> Upstream {
        upstream("raw", 1, self.address)
    }
}

/// Waits until a condition holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = timeout(BOUND, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} did not come true");
}

pub(super) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}
