//! Hands inside an environment: running something there over a WebSocket, and access to its database.
//!
//! The first message says what to run, as JSON text ([`Begin`]). From then on messages are binary, a [`Frame`] each: a byte
//! for the channel and what belongs to it. The other side answers with an empty output frame when it has begun; only
//! then input is sent. The last frame says how it ended. Whoever hangs up ends it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use http::header::{self, HeaderMap};
use http::{HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use planner::command::Actor;
use planner::identity::{ProjectName, Sha};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::Ask;
use crate::api::{Problem, unknown};
use crate::app::{App, Door};

/// How long the first message may take.
const BEGIN: Duration = Duration::from_secs(30);
/// How often the other side is asked whether it is still there: what it sends may wait behind input that nobody reads.
const PING: Duration = Duration::from_secs(5);
/// The longest message, in bytes.
const LONGEST: usize = 1 << 20;
/// The code of what never ran.
pub const NEVER_RAN: i64 = 125;

/// The first message: what to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// The process that it is made like; the web process if none.
    #[serde(default)]
    pub process: Option<String>,
    /// Program and arguments, or `:name` of the manifest.
    pub words: Vec<String>,
    /// Columns and rows, if it gets a terminal.
    #[serde(default)]
    pub terminal: Option<(u16, u16)>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit code; [`NEVER_RAN`] if it was not run.
    pub code: i64,
    /// One line, where the code does not tell all.
    pub why: Option<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Input; an empty one is its end.
    Stdin(Bytes),
    /// Output, or what the terminal shows.
    Stdout(Bytes),
    /// Error output.
    Stderr(Bytes),
    /// The end.
    Ended(Ended),
    /// The terminal's new size: columns, rows.
    Size(u16, u16),
}

impl Frame {
    /// As a message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (channel, content) = match self {
            Frame::Stdin(bytes) => (0, bytes.clone()),
            Frame::Stdout(bytes) => (1, bytes.clone()),
            Frame::Stderr(bytes) => (2, bytes.clone()),
            Frame::Ended(ended) => (3, serde_json::to_vec(ended).unwrap_or_default().into()),
            Frame::Size(columns, rows) => (4, [columns.to_be_bytes(), rows.to_be_bytes()].concat().into()),
        };
        let mut message = BytesMut::with_capacity(content.len() + 1);
        message.put_u8(channel);
        message.put(content);
        message.freeze()
    }

    /// From a message; none if it is no frame.
    #[must_use]
    pub fn decode(mut message: Bytes) -> Option<Frame> {
        if message.is_empty() {
            return None;
        }
        let channel = message.split_to(1)[0];
        Some(match channel {
            0 => Frame::Stdin(message),
            1 => Frame::Stdout(message),
            2 => Frame::Stderr(message),
            3 => Frame::Ended(serde_json::from_slice(&message).ok()?),
            4 => {
                let [a, b, c, d] = message[..].try_into().ok()?;
                Frame::Size(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            _ => return None,
        })
    }
}

/// Something to be run, with the way back.
#[derive(Debug)]
pub struct Run {
    /// Who asks.
    pub actor: Actor,
    /// Where: the project.
    pub project: ProjectName,
    /// Where: the commit.
    pub sha: Sha,
    /// What.
    pub begin: Begin,
    /// Answered when it runs, or cannot. Closed when the caller is gone.
    pub reply: oneshot::Sender<Result<Session, String>>,
}

/// Both ends of what runs. Dropping either ends it.
#[derive(Debug)]
pub struct Session {
    /// [`Frame::Stdin`] and [`Frame::Size`] go in here.
    pub input: mpsc::Sender<Frame>,
    /// What it prints, and at last [`Frame::Ended`].
    pub output: mpsc::Receiver<Frame>,
}

/// How a database is reached, with its password: for the operator's own client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Access {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    /// The folder of `psql` and `pg_dump` of the server's own version.
    pub bin_dir: std::path::PathBuf,
}

/// `POST …/database`: access, for `psql` or, with `{"dump": true}`, for a copy.
pub(crate) async fn database(
    State(app): State<Arc<App>>,
    Path((project, sha)): Path<(String, String)>,
    Json(asked): Json<Value>,
) -> Result<Json<Access>, Problem> {
    let (project, sha) = place(&app, &project, &sha).await?;
    let (actor, dump) = (app.actor(), asked["dump"] == Value::Bool(true));
    let access = app.ask(|reply| Ask::Database { actor, project, sha, dump, reply }).await?;
    Ok(Json(access.map_err(Problem::refused)?))
}

/// Only the local socket gets hands inside: a browser would do with a session what a page of somebody else's asks for.
async fn place(app: &App, project: &str, sha: &str) -> Result<(ProjectName, Sha), Problem> {
    if app.door != Door::Local {
        return Err(unknown().await);
    }
    let bad = |line: String| Problem::new(StatusCode::BAD_REQUEST, line);
    let project = project.parse().map_err(|invalid| bad(format!("{invalid}")))?;
    Ok((project, sha.parse().map_err(|invalid| bad(format!("{invalid}")))?))
}

/// `GET …/run`: the WebSocket.
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Path((project, sha)): Path<(String, String)>,
    mut request: Request,
) -> Result<Response, Problem> {
    let (project, sha) = place(&app, &project, &sha).await?;
    let key = accept_key(request.headers()).ok_or_else(|| {
        Problem::new(StatusCode::UPGRADE_REQUIRED, "this resource speaks WebSocket: use `sidestage run`")
    })?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
            attend(&app, socket, project, sha).await;
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, key),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// What proves to a client that its wish for a WebSocket was understood; none if it has no such wish.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let says = |name, what: &str| {
        let words = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        words.split(',').any(|word| word.trim().eq_ignore_ascii_case(what))
    };
    if !says(header::UPGRADE, "websocket") || !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    derive_accept_key(headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes()).parse().ok()
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Runs what the first message says, until either side ends.
async fn attend(app: &App, mut socket: Socket, project: ProjectName, sha: Sha) {
    let Ok(Some(Ok(Message::Text(text)))) = tokio::time::timeout(BEGIN, socket.next()).await else { return };
    let begin = match serde_json::from_str(&text) {
        Ok(begin) => begin,
        Err(error) => return refuse(socket, format!("not understood: {error}")).await,
    };
    let (reply, answer) = oneshot::channel();
    let run = Run { actor: app.actor(), project, sha, begin, reply };
    if app.doors.ask.send(Ask::Run(Box::new(run))).await.is_err() {
        return refuse(socket, "the controller is stopping; try again when it is up".to_owned()).await;
    }
    let session = tokio::select! {
        answer = answer => answer.unwrap_or_else(|_| Err("the controller is stopping".to_owned())),
        // Nothing is to be said now, so this is the end of the line.
        _ = socket.next() => return,
        () = app.closing() => return,
    };
    match session {
        Ok(session) => {
            tokio::select! {
                () = pump(socket, session) => {}
                () = app.closing() => {}
            }
        }
        Err(why) => refuse(socket, why).await,
    }
}

async fn refuse(mut socket: Socket, why: String) {
    let frame = Frame::Ended(Ended { code: NEVER_RAN, why: Some(why) });
    let _ = socket.send(Message::Binary(frame.encode())).await;
    let _ = socket.close(None).await;
}

async fn pump(socket: Socket, session: Session) {
    let Session { input, mut output } = session;
    let (mut sink, mut source) = socket.split();
    let inbound = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(message) => match Frame::decode(message) {
                    Some(frame @ (Frame::Stdin(_) | Frame::Size(..))) => {
                        if input.send(frame).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outbound = async {
        if send(&mut sink, &Frame::Stdout(Bytes::new())).await.is_err() {
            return;
        }
        loop {
            let frame = match tokio::time::timeout(PING, output.recv()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) if sink.send(Message::Ping(Bytes::new())).await.is_ok() => continue,
                Err(_) => return,
            };
            if send(&mut sink, &frame).await.is_err() || matches!(frame, Frame::Ended(_)) {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! {
        // What was printed goes out before anybody notices that the other side has hung up.
        biased;
        () = outbound => {}
        () = inbound => {}
    }
}

async fn send(sink: &mut SplitSink<Socket, Message>, frame: &Frame) -> Result<(), ()> {
    sink.send(Message::Binary(frame.encode())).await.map_err(|_| ())
}
