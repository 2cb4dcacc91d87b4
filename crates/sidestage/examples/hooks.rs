//! Delivers webhooks as GitHub does, at a steady pace, and says how long each waited for its answer; later, whether the
//! store has all that were answered well. `cargo xtask bench hooks` runs it.
//!
//! `hooks send CONSOLE SECRET SECONDS FILE` writes the ids that were accepted to a file and prints one row of JSON.
//! `hooks lost STORE FILE` prints how many of them the store does not have.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// Deliveries a second.
const RATE: u64 = 300;
/// Connections. Each waits for its answer before it sends the next delivery.
const SENDERS: usize = 64;
/// GitHub gives up after this.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["send", console, secret, seconds, file] => {
            let line = Line::new(console.parse()?, secret, seconds.parse()?);
            send(line, Path::new(file)).await
        }
        ["lost", store, file] => lost(Path::new(store), Path::new(file)).await,
        _ => bail!("hooks send CONSOLE SECRET SECONDS FILE, or hooks lost STORE FILE"),
    }
}

/// What all senders take their turns from.
struct Line {
    console: SocketAddr,
    key: hmac::Key,
    begun: Instant,
    next: AtomicU64,
    count: u64,
    /// Tells this run's deliveries from those of others.
    run: u32,
}

impl Line {
    fn new(console: SocketAddr, secret: &str, seconds: u64) -> Line {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let (count, run) = (seconds * RATE, std::process::id());
        Line { console, key, begun: Instant::now(), next: AtomicU64::new(0), count, run }
    }

    /// A push to a branch, signed.
    fn request(&self, id: &str, number: u64) -> Result<Request<Full<Bytes>>> {
        let body = json!({
            "ref": format!("refs/heads/branch-{}", number % 20), "before": "0".repeat(40), "after": "1".repeat(40),
            "repository": { "id": 1, "full_name": "acme/hooks" },
            "sender": { "id": 2, "login": "grace", "type": "User" },
            // As long as they usually are.
            "commits": [{ "message": "x".repeat(8_000) }],
        });
        let body = body.to_string();
        let signature = HEXLOWER.encode(hmac::sign(&self.key, body.as_bytes()).as_ref());
        let request = Request::post("/webhooks/github")
            .header("host", format!("localhost:{}", self.console.port()))
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", format!("sha256={signature}"));
        Ok(request.body(Full::from(body))?)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(self.console).await?)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends what is due, one after the other. How long each took from the moment it was due, and ids that were accepted.
    async fn work(&self) -> Result<(Vec<Duration>, Vec<String>)> {
        let (mut times, mut accepted, mut connection) = (Vec::new(), Vec::new(), None);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return Ok((times, accepted));
            }
            let due = self.begun + Duration::from_micros(number * 1_000_000 / RATE);
            sleep_until(due).await;
            let id = format!("{}-{number}", self.run);
            let request = self.request(&id, number)?;
            // What is not answered is not accepted: the controller may be dead just now.
            let answered = tokio::time::timeout(PATIENCE, self.deliver(&mut connection, request)).await;
            match answered {
                Ok(Ok(StatusCode::ACCEPTED)) => {
                    times.push(due.elapsed());
                    accepted.push(id);
                }
                Ok(Ok(status)) => bail!("delivery {id}: {status}"),
                _ => connection = None,
            }
        }
    }

    async fn deliver(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode> {
        let sender = match connection {
            Some(sender) => sender,
            None => connection.insert(self.connect().await?),
        };
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        Ok(status)
    }
}

async fn send(line: Line, file: &Path) -> Result<()> {
    let line = Arc::new(line);
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.work().await })
        })
        .collect();
    let (mut times, mut accepted) = (Vec::new(), Vec::new());
    for sender in senders {
        let (mut some, mut ids) = sender.await??;
        times.append(&mut some);
        accepted.append(&mut ids);
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0);
    println!("{}", json!({ "sent": line.count, "accepted": accepted.len(), "p50": at(50), "p99": at(99) }));
    std::fs::write(file, accepted.join("\n")).with_context(|| file.display().to_string())
}

async fn lost(store: &Path, file: &Path) -> Result<()> {
    let mut store =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(store).read_only(true)).await?;
    let rows = sqlx::query("SELECT key FROM deliveries").fetch_all(&mut store).await?;
    let known = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>()?;
    let accepted = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    println!("{}", accepted.lines().filter(|id| !known.contains(*id)).count());
    Ok(())
}
