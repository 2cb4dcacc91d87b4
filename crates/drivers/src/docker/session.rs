//! What BuildKit asks us for while it builds: the context, secrets that a step mounts, credentials of registries. It
//! asks over a connection that we open, and only for this one build.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::{Secrets, SecretsServer};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::{Auth, AuthServer};
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use bollard_buildkit_proto::moby::upload::v1::BytesMessage;
use bollard_buildkit_proto::moby::upload::v1::upload_server::{Upload, UploadServer};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use planner::resource::Failure;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use super::Docker;
use super::registry::{Account, canonical_host};

/// Where BuildKit finds the context. Under a name of its own for every session: BuildKit takes two steps with one name
/// for one, and would give a build the context of another that runs at that time.
pub(super) fn context_of(session: &str) -> String {
    format!("http://buildkit-session/{session}")
}

/// The calls that the engine may make, as it wants to be told.
const METHODS: [&str; 4] = [
    "/moby.upload.v1.Upload/Pull",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
    "/grpc.health.v1.Health/Check",
];

/// What one build may ask for.
pub(super) struct Offer {
    /// The context's tar, given once.
    pub(super) context: Receiver<io::Result<Bytes>>,
    /// Values of build secrets by name.
    pub(super) secrets: BTreeMap<String, String>,
    /// For bases behind a login.
    pub(super) accounts: Vec<Account>,
}

impl Docker {
    /// Opens the session; it lives as long as the answer.
    pub(super) async fn session(&self, id: &str, offer: Offer) -> Result<AbortOnDropHandle<()>, Failure> {
        let upgraded = self.hijack("/session", id).await?;
        // The server wants to know of its connections what a hijacked one cannot say; a pipe says it.
        let (theirs, ours) = tokio::io::duplex(256 << 10);
        let server = tonic::transport::Server::builder()
            .add_service(HealthServer::new(Alive))
            .add_service(UploadServer::new(Context { tar: Mutex::new(Some(offer.context)) }))
            .add_service(SecretsServer::new(Values { secrets: offer.secrets }))
            .add_service(AuthServer::new(Accounts { accounts: offer.accounts }))
            .serve_with_incoming(tokio_stream::once(Ok::<_, io::Error>(ours)).chain(tokio_stream::pending()));
        let (mut theirs, mut upgraded) = (theirs, TokioIo::new(upgraded));
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                served = server => if let Err(error) = served {
                    tracing::debug!(%error, "a build's session ended");
                },
                _ = tokio::io::copy_bidirectional(&mut theirs, &mut upgraded) => {}
            }
        })))
    }

    /// A connection that the engine takes over: HTTP/2 from then on.
    pub(super) async fn hijack(&self, path: &str, session: &str) -> Result<hyper::upgrade::Upgraded, Failure> {
        let away = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, path, "the engine did not take the connection over");
            let socket = self.inner.socket.display();
            Failure::transient(format!("the container engine at {socket} does not answer: is docker running?"))
        };
        let stream = UnixStream::connect(&self.inner.socket).await.map_err(|error| away(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| away(&error))?;
        let _driving = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let mut request = http::Request::post(path)
            .header("host", "docker")
            .header("connection", "Upgrade")
            .header("upgrade", "h2c")
            .header("x-docker-expose-session-uuid", session);
        for method in METHODS {
            request = request.header("x-docker-expose-session-grpc-method", method);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| away(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| away(&error))?;
        if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::transient(format!(
                "the container engine does not open a connection for builds: {} on {path}",
                answer.status()
            )));
        }
        hyper::upgrade::on(answer).await.map_err(|error| away(&error))
    }
}

struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("list"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }
}

struct Context {
    tar: Mutex<Option<Receiver<io::Result<Bytes>>>>,
}

#[tonic::async_trait]
impl Upload for Context {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(&self, _: Request<tonic::Streaming<BytesMessage>>) -> Result<Response<Self::PullStream>, Status> {
        let tar = super::lock(&self.tar).take();
        let tar = tar.ok_or_else(|| Status::failed_precondition("the context was sent already"))?;
        let pieces = ReceiverStream::new(tar).map(|piece| match piece {
            Ok(data) => Ok(BytesMessage { data: data.into() }),
            Err(error) => Err(Status::aborted(error.to_string())),
        });
        Ok(Response::new(pieces.boxed()))
    }
}

struct Values {
    secrets: BTreeMap<String, String>,
}

#[tonic::async_trait]
impl Secrets for Values {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.secrets.get(&id) {
            Some(value) => Ok(Response::new(GetSecretResponse { data: value.clone().into_bytes() })),
            None => Err(Status::not_found(format!("the manifest's [build] secrets do not name {id}"))),
        }
    }
}

struct Accounts {
    accounts: Vec<Account>,
}

#[tonic::async_trait]
impl Auth for Accounts {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let known = self.accounts.iter().find(|account| account.host == canonical_host(&host));
        let answer =
            known.map(|known| CredentialsResponse { username: known.user.clone(), secret: known.password.clone() });
        Ok(Response::new(answer.unwrap_or_default()))
    }

    // Left to the engine, which has the credentials.
    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are the engine's"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the engine's"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are the engine's"))
    }
}
