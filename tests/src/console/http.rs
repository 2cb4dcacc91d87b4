//! A console that serves a fake loop, and visitors that speak plain HTTP to it.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake::Fake;

/// The most that anything here may take.
pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    bounded_by(Duration::from_secs(20), future).await
}

async fn bounded_by<T>(longest: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(longest, future).await.unwrap_or_else(|_| panic!("not done within {longest:?}"))
}

/// A running console.
pub(crate) struct Console {
    pub(crate) fake: Fake,
    pub(crate) url: String,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), console::Error>>>,
}

impl Console {
    pub(crate) async fn start(fake: Fake) -> Console {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let serving = tokio::spawn(console::serve(listener, fake.settings(&url), fake.doors.clone(), shutdown));
        Console { fake, url, address, stop: Some(stop), serving: Some(serving) }
    }

    /// Ends it as the controller would, and waits for that.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        bounded(self.serving.take().unwrap()).await.unwrap().unwrap();
    }

    /// Sends these bytes and no more; returns what comes until the other side hangs up.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        bounded_by(Duration::from_secs(600), stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// Somebody without a cookie.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor { address: self.address, host: self.address.to_string(), cookie: String::new() }
    }

    /// Somebody who used a link.
    pub(crate) async fn sign_in(&self) -> Visitor {
        let visitor = self.visitor();
        let form = format!("token={}", self.fake.links.issue().unwrap());
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("origin", self.url.as_str())];
        let answer = visitor.send("POST", "/login", &headers, &form).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        Visitor { cookie, ..visitor }
    }
}

/// Who sends requests.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(super) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) cookie: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    headers: HeaderMap,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_json(&self) -> bool {
        self.header("content-type") == Some("application/json")
    }
}

impl Visitor {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let answer = self.request(method, path, headers, body).await;
        let (head, body) = answer.into_parts();
        let body = bounded(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(crate) async fn stream(&self, path: &str) -> Pieces {
        let answer = self.request("GET", path, &[], "").await;
        assert_eq!(answer.status(), 200);
        Pieces(answer.into_body())
    }

    /// The token that stands in the forms of this session.
    pub(crate) async fn form_token(&self) -> String {
        let page = self.get("/").await.body;
        page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        if !self.cookie.is_empty() {
            request = request.header("cookie", &self.cookie);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        bounded(sender.send_request(request)).await.unwrap()
    }
}

/// A body as it comes.
pub(crate) struct Pieces(Incoming);

impl Pieces {
    /// The next piece; none at the end, however it comes.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let frame = self.0.frame().await?.ok()?;
        Some(String::from_utf8(frame.into_data().ok()?.to_vec()).unwrap())
    }
}
