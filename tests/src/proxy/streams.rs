//! Bodies and tunnels pass through as they come, in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use planner::identity::Time;
use planner::tables::Route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::stage::{BOUND, Backend, Body, DOMAIN, Fetched, SHA_A, SHA_B, Stage, env, host, open, request, text, until};

/// A body that is fed piece by piece.
fn fed() -> (mpsc::Sender<Bytes>, Body) {
    let (feed, pieces) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    (feed, StreamBody::new(stream).boxed_unsync())
}

/// Echoes every WebSocket at `/ws`, and refuses elsewhere.
pub(super) async fn echoing() -> Backend {
    Backend::new(|mut request| async move {
        if request.uri().path() != "/ws" {
            return Response::builder().status(403).body(text("no sockets here")).unwrap();
        }
        let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
            let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await.unwrap();
                }
            }
        });
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-accept", key)
            .header("sec-websocket-protocol", "chat")
            .body(text(""))
            .unwrap()
    })
    .await
}

pub(super) fn handshake(host: &str, path: &str) -> Request<()> {
    Request::builder()
        .uri(format!("ws://{host}{path}"))
        .header("host", host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap()
}

#[tokio::test]
async fn websockets_carry_text_and_binary_and_count_as_open() {
    let backend = echoing().await;
    let alias = format!("pr-7.{DOMAIN}");
    let stage = Stage::new([
        (host(SHA_A), open(SHA_A, backend.upstream())),
        (alias.clone(), Route::Alias { to: host(SHA_A), proxy: false }),
    ])
    .await;
    for name in [host(SHA_A), alias] {
        let stream = TcpStream::connect(stage.address).await.unwrap();
        let (mut socket, response) = client_async(handshake(&name, "/ws"), stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert_eq!(response.headers()["x-staging-commit"], SHA_A);
        let binary: Vec<u8> = (0..500_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        for message in [Message::text("hello"), Message::binary(binary), Message::text("")] {
            socket.send(message.clone()).await.unwrap();
            let echoed = tokio::time::timeout(BOUND, socket.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(echoed, message);
        }
        let later = Time(u64::MAX);
        assert_eq!(stage.visits.snapshot(later), vec![(env('a'), later)], "an open socket is a visit that goes on");
        assert_eq!(stage.visits.open(&env('a')), 1);
        drop(socket);
        until("the end of the visit", || stage.visits.open(&env('a')) == 0).await;
        let ended = stage.visits.snapshot(later);
        assert!(matches!(ended.as_slice(), [(_, last)] if *last < later), "{ended:?}");
        assert_eq!(stage.visits.snapshot(later), vec![], "nothing since");
    }
}

#[tokio::test]
async fn a_websocket_that_the_application_refuses_is_an_ordinary_answer() {
    let backend = echoing().await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let stream = TcpStream::connect(stage.address).await.unwrap();
    match client_async(handshake(&host(SHA_A), "/other"), stream).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn events_arrive_before_the_stream_ends() {
    let (feed, body) = fed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let backend = Backend::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Response::builder().header("content-type", "text/event-stream").body(body).unwrap() }
    })
    .await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let mut response = stage.start(request("GET", &host(SHA_A), "/events", &[])).await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        feed.send(Bytes::from(event)).await.unwrap();
        let frame = tokio::time::timeout(BOUND, response.frame()).await.expect("the event is held back");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), event);
        assert_eq!(stage.visits.open(&env('a')), 1);
    }
    drop(response);
    until("the end of the visit", || stage.visits.open(&env('a')) == 0).await;
    until("the end at the application", || feed.is_closed()).await;
}

#[tokio::test]
async fn a_long_upload_streams() {
    let received = Arc::<AtomicU64>::default();
    let count = Arc::clone(&received);
    let backend = Backend::new(move |request| {
        let count = Arc::clone(&count);
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                count.fetch_add(frame.unwrap().into_data().unwrap().len() as u64, Ordering::SeqCst);
            }
            Response::new(text("taken"))
        }
    })
    .await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let (feed, body) = fed();
    let upload = Request::post("/").header("host", host(SHA_A)).body(body).unwrap();
    let answer = tokio::spawn({
        let starting = stage.start(upload);
        let feeding = async {
            let megabyte = Bytes::from(vec![7; 1 << 20]);
            feed.send(megabyte.clone()).await.unwrap();
            until("the first megabyte", || received.load(Ordering::SeqCst) == 1 << 20).await;
            for _ in 1..100 {
                feed.send(megabyte.clone()).await.unwrap();
            }
            drop(feed);
        };
        let (response, ()) = tokio::join!(starting, feeding);
        async move { Fetched::read(response).await.unwrap() }
    });
    assert_eq!(answer.await.unwrap().text(), "taken");
    assert_eq!(received.load(Ordering::SeqCst), 100 << 20);
}

#[tokio::test]
async fn a_visitor_who_leaves_spoils_no_connection() {
    let big = Backend::new(|request| async move {
        let length = if request.uri().path() == "/big" { 50 << 20 } else { 2 };
        Response::new(text(vec![b'x'; length]))
    })
    .await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, big.upstream()))]).await;
    for _ in 0..3 {
        let response = stage.start(request("GET", &host(SHA_A), "/big", &[])).await;
        drop(response);
        assert_eq!(stage.get(&host(SHA_A), "/small").await.text(), "xx");
    }
    until("the end of the visits", || stage.visits.open(&env('a')) == 0).await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_lets_requests_come_to_their_end() {
    let sockets = echoing().await;
    let (finish, finished) = tokio::sync::watch::channel(false);
    let backend = Backend::new(move |request| {
        let mut finished = finished.clone();
        async move {
            if request.uri().path() == "/events" {
                let (feed, body) = fed();
                std::mem::forget(feed);
                return Response::builder().header("content-type", "text/event-stream").body(body).unwrap();
            }
            finished.wait_for(|finished| *finished).await.unwrap();
            Response::new(text("finished"))
        }
    })
    .await;
    let stage =
        Stage::new([(host(SHA_A), open(SHA_A, backend.upstream())), (host(SHA_B), open(SHA_B, sockets.upstream()))])
            .await;
    let (address, visits) = (stage.address, Arc::clone(&stage.visits));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(handshake(&host(SHA_B), "/ws"), stream).await.unwrap();
    let events = stage.start(request("GET", &host(SHA_A), "/events", &[])).await;
    let slow = connect(address, format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", host(SHA_A))).await;
    let idle = connect(address, "").await;
    until("all of them", || visits.open(&env('a')) == 2 && visits.open(&env('b')) == 1).await;
    let served = stage.stop();
    assert!(matches!(tokio::time::timeout(BOUND, socket.next()).await.unwrap(), None | Some(Err(_))));
    assert_eq!(Fetched::read(events).await.unwrap().text(), "", "an event stream ends in order");
    assert_eq!(rest(idle).await, "");
    until("the listener to close", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(!served.is_finished(), "a request is still open");
    finish.send(true).unwrap();
    assert!(rest(slow).await.ends_with("finished"));
    tokio::time::timeout(BOUND, served).await.unwrap().unwrap();
}

async fn connect(address: std::net::SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    tokio::time::timeout(BOUND, stream.read_to_string(&mut text)).await.expect("no end").unwrap();
    text
}

#[tokio::test]
async fn a_client_that_expects_to_be_asked_for_its_body_is() {
    let backend = Backend::new(|request| async move {
        assert!(request.headers().get("expect").is_none());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(text(body))
    })
    .await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        host(SHA_A)
    );
    let mut stream = connect(stage.address, head).await;
    let mut asked = [0; 25];
    tokio::time::timeout(BOUND, stream.read_exact(&mut asked)).await.expect("not asked").unwrap();
    assert_eq!(String::from_utf8_lossy(&asked), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("body"), "{answer}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_arrives() {
    let backend =
        Backend::new(|_| async move { Response::builder().status(413).body(text("too large")).unwrap() }).await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let head = format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000000\r\n\r\npart", host(SHA_A));
    let answer = rest(connect(stage.address, head).await).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("too large"), "{answer}");
}
