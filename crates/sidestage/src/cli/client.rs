//! HTTP over the controller's local socket.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planner::command::Command;
use planner::identity::{ProjectName, Sha};
use planner::view::View;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::{WebSocketStream, tungstenite};

use super::Failed;

/// Speaks `/api/v1` over a local socket, one connection a request.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The controller that listens at this socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Everything that is shown.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn view(&self) -> Result<View, Failed> {
        self.get("/api/v1/view").await
    }

    /// Asks for something to be done; returns the line that says what was decided.
    ///
    /// # Errors
    /// No controller, or its refusal.
    pub async fn command(&self, command: &Command) -> Result<String, Failed> {
        let answer: Value = self.post("/api/v1/commands", command).await?;
        Ok(answer["ok"].as_str().unwrap_or_default().to_owned())
    }

    /// Stages what a branch or tag points to now, watched or not; returns that commit and the line of the decision.
    ///
    /// # Errors
    /// No controller, or its refusal: an unknown name comes with the nearest ones.
    pub async fn stage_ref(&self, project: &ProjectName, name: &str) -> Result<(Sha, String), Failed> {
        let path = format!("/api/v1/projects/{project}/refs");
        let answer: Staged = self.post(&path, &serde_json::json!({ "ref": name })).await?;
        Ok((answer.sha, answer.ok))
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// No controller, its error, or an answer that is not what was expected.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).map_err(|error| Failed::Refused(error.to_string()))?;
        self.json(Method::POST, path, body.into()).await
    }

    /// Reads a resource that comes in pieces.
    ///
    /// # Errors
    /// No controller, or its error.
    pub async fn stream(&self, path: &str) -> Result<Pieces, Failed> {
        let body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        Ok(Pieces { body })
    }

    /// A WebSocket.
    ///
    /// # Errors
    /// No controller, or its error.
    pub async fn socket(&self, path: &str) -> Result<WebSocketStream<UnixStream>, Failed> {
        let stream = self.stream_to().await?;
        match tokio_tungstenite::client_async(format!("ws://localhost{path}"), stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => {
                Err(refusal(answer.status(), answer.body().as_deref().unwrap_or_default()))
            }
            Err(error) => Err(Failed::Refused(format!("the controller broke off ({error}): look at its log"))),
        }
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Failed> {
        let answer = self.send(method, path, body).await?;
        let bytes = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            Failed::Refused(format!(
                "the controller's answer is not understood ({error}): is it of another version? see `sidestage version`"
            ))
        })
    }

    /// A successful answer, or what the controller's error says.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failed> {
        let mut connection = self.connect().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failed::Usage(format!("{path:?} cannot be asked for: {error}")))?;
        let answer = connection.send_request(request).await.map_err(broken)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
        Err(refusal(status, &body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failed> {
        let stream = self.stream_to().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the last answer read, or when the sender is dropped; its error reaches the request too.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn stream_to(&self) -> Result<UnixStream, Failed> {
        UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failed::Refused(format!(
                "{} may not be opened by this user: use the one that runs Sidestage",
                self.socket.display()
            )),
            _ => {
                Failed::Refused(format!("no controller on {}: start it with `sidestage serve`", self.socket.display()))
            }
        })
    }
}

#[allow(clippy::needless_pass_by_value)] // shaped for map_err
fn broken(error: hyper::Error) -> Failed {
    Failed::Refused(format!("the controller broke off ({error}): look at its log and try again"))
}

fn refusal(status: StatusCode, body: &[u8]) -> Failed {
    let line = serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body["error"].as_str()?.to_owned()));
    Failed::Refused(line.unwrap_or_else(|| format!("the controller answered {status}")))
}

#[derive(serde::Deserialize)]
struct Staged {
    sha: Sha,
    ok: String,
}

/// A body in pieces.
#[derive(Debug)]
pub struct Pieces {
    body: Incoming,
}

impl Pieces {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// When the controller breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// One part of a path, such that no character of it means anything else.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
