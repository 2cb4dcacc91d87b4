//! A visitor of the demo: HTTP/1.1 by host name to the edge, and questions to our DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST, LOCATION};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UdpSocket};

/// The most that an answer may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Where to go instead.
    pub location: Option<String>,
    /// The body, as text.
    pub body: String,
}

/// Asks one edge.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// The edge's HTTP listener.
    pub edge: SocketAddr,
    /// Its DNS.
    pub dns: SocketAddr,
}

impl Visitor {
    /// GET of a URL, as an API client would.
    ///
    /// # Errors
    /// When nothing answers in time.
    pub async fn get(&self, url: &str) -> anyhow::Result<Answer> {
        self.send(url, "GET", None).await
    }

    /// GET that follows one redirect, as from an alias to its commit.
    ///
    /// # Errors
    /// As [`Visitor::get`].
    pub async fn follow(&self, url: &str) -> anyhow::Result<Answer> {
        let answer = self.get(url).await?;
        match &answer.location {
            Some(location) if answer.status.is_redirection() => self.get(location).await,
            _ => Ok(answer),
        }
    }

    /// Uploads a small file by a browser's form.
    ///
    /// # Errors
    /// As [`Visitor::get`].
    pub async fn upload(&self, url: &str, name: &str, content: &str) -> anyhow::Result<Answer> {
        let body = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--limit--\r\n"
        );
        self.send(url, "POST", Some(("multipart/form-data; boundary=limit", body))).await
    }

    /// Any request, with a body of this type.
    ///
    /// # Errors
    /// As [`Visitor::get`].
    pub async fn send(&self, url: &str, method: &str, content: Option<(&str, String)>) -> anyhow::Result<Answer> {
        let (authority, path) = split(url)?;
        let mut request = Request::builder().method(method).uri(path).header(HOST, authority);
        let mut body = String::new();
        if let Some((kind, text)) = content {
            request = request.header(CONTENT_TYPE, kind);
            body = text;
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.with_context(|| format!("{url}: no answer"))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(self.edge).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok(Answer { status, location, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// The addresses that our DNS gives for the host of a URL; none for a name that it does not know.
    ///
    /// # Errors
    /// When the DNS does not answer.
    pub async fn resolve(&self, url: &str) -> anyhow::Result<Vec<IpAddr>> {
        let host = split(url)?.0.split(':').next().unwrap_or_default().to_owned();
        let mut question = Message::new(1, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::from_ascii(format!("{host}."))?, RecordType::A));
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.send_to(&question.to_vec()?, self.dns).await?;
        let mut buffer = [0; 1232];
        let size = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer))
            .await
            .context("the DNS does not answer")??;
        let answer = Message::from_vec(&buffer[..size])?;
        let addresses = answer.answers.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            _ => None,
        });
        Ok(addresses.collect())
    }
}

fn split(url: &str) -> anyhow::Result<(&str, &str)> {
    let Some((_, rest)) = url.split_once("://") else { bail!("{url} is not a URL") };
    let at = rest.find('/').unwrap_or(rest.len());
    Ok((&rest[..at], if at == rest.len() { "/" } else { &rest[at..] }))
}
