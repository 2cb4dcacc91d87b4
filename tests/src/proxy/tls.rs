//! TLS of the edges: who is served by it, what is sent on to it, and where its certificate comes from.

mod certificates;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edge::Patience;
use edge::proxy::Side;
use edge::tls::{Source, Tls};
use futures_util::{SinkExt, StreamExt};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use planner::tables::{Door, Route, Upstream};
use planner::view::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::stage::{BOUND, Backend, Body, DOMAIN, Fetched, SHA_A, SHA_B, Stage, host, request, route, text, upstream};
use super::streams::{echoing, handshake};

/// A local authority in a folder of its own.
struct Own {
    folder: tempfile::TempDir,
}

impl Own {
    fn new() -> Own {
        Own { folder: tempfile::tempdir().unwrap() }
    }

    fn authority(&self) -> std::path::PathBuf {
        self.folder.path().join("authority.pem")
    }

    fn published(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn source(&self) -> Source {
        Source::Own { authority: self.authority(), published: self.published() }
    }

    fn open(&self) -> Tls {
        Tls::open(self.source(), DOMAIN, SystemTime::now()).unwrap()
    }
}

/// A client that trusts the authority in this file and nobody else.
pub(crate) fn trusting(authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn shake(
    edge: SocketAddr,
    host: &str,
    client: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(edge).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    timeout(BOUND, client.connect(name, stream)).await.expect("no handshake in time")
}

pub(crate) async fn fetch(edge: SocketAddr, host: &str, client: &TlsConnector, request: Request<Body>) -> Fetched {
    let stream = shake(edge, host, client).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = timeout(BOUND, sender.send_request(request)).await.expect("no answer in time").unwrap();
    Fetched::read(response).await.unwrap()
}

/// The route of an environment that visitors reach by https on port 8443.
fn secure(sha: &str, to: Upstream) -> Route {
    let mut route = route(sha, Door::Open(to), State::Ready);
    route.url = format!("https://{sha}.{DOMAIN}:8443");
    Route::Env(Box::new(route))
}

struct Front {
    stage: Stage,
    client: TlsConnector,
}

impl Front {
    async fn new(routes: impl IntoIterator<Item = (String, Route)>, objects: SocketAddr) -> Front {
        Front::patient(routes, objects, Patience::default()).await
    }

    async fn patient(
        routes: impl IntoIterator<Item = (String, Route)>,
        objects: SocketAddr,
        patience: Patience,
    ) -> Front {
        let own = Own::new();
        let stage = Stage::secured(routes, Side::Outer, Some(own.open()), patience, objects).await;
        let client = trusting(&own.published());
        Front { stage, client }
    }

    async fn get(&self, host: &str, target: &str) -> Fetched {
        fetch(self.stage.address, host, &self.client, request("GET", host, target, &[])).await
    }
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

#[tokio::test]
async fn applications_are_told_https_and_speak_http_1() {
    let backend = Backend::echo().await;
    let front = Front::new([(host(SHA_A), secure(SHA_A, backend.upstream()))], NOWHERE).await;
    let spoken = shake(front.stage.address, &host(SHA_A), &front.client).await.unwrap();
    assert_eq!(spoken.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let told = front.get(&host(SHA_A), "/x").await.text();
    for line in [
        "GET /x".to_owned(),
        format!("host: {SHA_A}.{DOMAIN}:8443"),
        "x-forwarded-proto: https".to_owned(),
        "x-forwarded-port: 8443".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} is not in {told}");
    }
}

#[tokio::test]
async fn what_comes_in_clear_is_sent_on_and_reaches_no_application() {
    let backend = Backend::echo().await;
    let front = Front::new(
        [
            (host(SHA_A), secure(SHA_A, backend.upstream())),
            (format!("pr-7.{DOMAIN}"), Route::Alias { to: host(SHA_A), proxy: false }),
            (format!("pr-8.{DOMAIN}"), Route::Alias { to: host(SHA_A), proxy: true }),
        ],
        NOWHERE,
    )
    .await;
    let (canonical, kept) = (format!("https://{SHA_A}.{DOMAIN}:8443"), format!("https://pr-8.{DOMAIN}:8443"));
    for (method, asked, base) in [
        ("GET", host(SHA_A), &canonical),
        ("HEAD", host(SHA_A), &canonical),
        ("GET", format!("pr-7.{DOMAIN}"), &canonical),
        ("GET", format!("pr-8.{DOMAIN}"), &kept),
    ] {
        let answer = front.stage.fetch(request(method, &asked, "/a//b?c=%2F", &[])).await;
        assert_eq!(answer.status, 301, "{method} {asked}");
        assert_eq!(answer.header("location"), Some(format!("{base}/a//b?c=%2F").as_str()));
        assert_eq!(answer.header("cache-control"), Some("no-store"), "or browsers remember it for good");
    }
    let answer = front.stage.fetch(request("POST", &host(SHA_A), "/a", &[])).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains(&canonical), "{}", answer.text());
    let upgrade = front
        .stage
        .raw(format!("GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host(SHA_A)));
    assert!(upgrade.await.starts_with("HTTP/1.1 403"));
    let proof = front.stage.get(&host(SHA_A), "/.well-known/acme-challenge/x").await;
    assert_eq!(proof.status, 404, "an authority's question is not sent on");
    assert_eq!(front.stage.get(&host(SHA_B), "/").await.status, 404, "and nobody learns which hosts there are");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn the_object_store_is_served_in_clear_and_by_tls() {
    let store = Backend::echo().await;
    let bucket = format!("s3-aaaaaaaaaaaaaaaa.{DOMAIN}");
    let routes = [
        (DOMAIN.to_owned(), Route::Objects { bucket: None }),
        (bucket.clone(), Route::Objects { bucket: Some("s3-aaaaaaaaaaaaaaaa".to_owned()) }),
    ];
    let front = Front::new(routes, store.address).await;
    for asked in [DOMAIN.to_owned(), bucket] {
        let clear = front.stage.fetch(request("PUT", &asked, "/s3-aaaaaaaaaaaaaaaa/key", &[])).await;
        let secure =
            fetch(front.stage.address, &asked, &front.client, request("PUT", &asked, "/s3-aaaaaaaaaaaaaaaa/key", &[]))
                .await;
        for answer in [clear, secure] {
            assert!(answer.text().contains(&format!("host: {asked}")), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn websockets_pass_through_tls() {
    let backend = echoing().await;
    let front = Front::new([(host(SHA_A), secure(SHA_A, backend.upstream()))], NOWHERE).await;
    let stream = shake(front.stage.address, &host(SHA_A), &front.client).await.unwrap();
    let (mut socket, _) = client_async(handshake(&host(SHA_A), "/ws"), stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let heard = timeout(BOUND, socket.next()).await.expect("no echo in time").unwrap().unwrap();
    assert_eq!(heard, Message::text("hello"));
}

#[tokio::test]
async fn nobody_holds_a_connection_by_saying_nothing() {
    let patience = Patience { head: Duration::from_millis(200), ..Patience::default() };
    let front = Front::patient([], NOWHERE, patience).await;
    // Nothing, the first byte of a handshake, and a handshake that stops.
    for begun in [&b""[..], &[22], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(front.stage.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(BOUND, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "after {begun:?} the connection stays open");
    }
}

/// A page that came by https may not fetch from an endpoint in clear, unless the browser is told to upgrade.
#[tokio::test]
async fn pages_may_use_the_endpoint_that_the_application_knows() {
    let backend = Backend::new(|request| async move {
        let kind = if request.uri().path() == "/page" { "text/html; charset=utf-8" } else { "application/json" };
        let own = "default-src 'self'";
        Response::builder()
            .header("content-type", kind)
            .header("content-security-policy", own)
            .body(text("{}"))
            .unwrap()
    })
    .await;
    let front = Front::new([(host(SHA_A), secure(SHA_A, backend.upstream()))], NOWHERE).await;
    let policies = |answer: &Fetched| -> Vec<String> {
        let all = answer.headers.get_all("content-security-policy").iter();
        all.map(|policy| policy.to_str().unwrap().to_owned()).collect()
    };
    let page = front.get(&host(SHA_A), "/page").await;
    assert_eq!(policies(&page), ["default-src 'self'", "upgrade-insecure-requests"]);
    let data = front.get(&host(SHA_A), "/data").await;
    assert_eq!(policies(&data), ["default-src 'self'"]);

    let clear = Stage::new([(host(SHA_A), super::stage::open(SHA_A, backend.upstream()))]).await;
    assert_eq!(policies(&clear.get(&host(SHA_A), "/page").await), ["default-src 'self'"]);
}

#[tokio::test]
async fn environments_meet_the_same_certificate_inside() {
    let backend = Backend::saying("inside").await;
    let own = Own::new();
    let routes = [(host(SHA_A), secure(SHA_A, upstream("container", 1, backend.address)))];
    let stage = Stage::secured(routes, Side::Inner, Some(own.open()), Patience::default(), NOWHERE).await;
    stage.change(|tables| {
        tables.inside.insert("127.0.0.1".parse().unwrap(), super::stage::env('a'));
    });
    let client = trusting(&own.published());
    let asked = fetch(stage.address, &host(SHA_A), &client, request("GET", &host(SHA_A), "/", &[])).await;
    assert_eq!(asked.text(), "inside");
}
