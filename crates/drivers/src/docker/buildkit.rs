//! A build by the engine's BuildKit, for trusted code: cache mounts, secrets, and steps side by side.
//!
//! The engine's own `/build` knows BuildKit too, but cannot keep our Dockerfile out of the context; so this speaks to
//! BuildKit itself, as the engine's client does.

use std::collections::HashMap;
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{PruneRequest, SolveRequest, StatusRequest, StatusResponse, Vertex};
use planner::resource::{Failure, Resource};
use planner::spec::Build;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::session::{Offer, context_of};
use super::steps::Steps;
use super::{Docker, context, labels};
use crate::{Log, Veil};

/// The longest message of BuildKit's that is read: as much as it sends.
const MESSAGE: usize = 16 << 20;

impl Docker {
    /// Builds the image under this tag. Answers the stages to keep: none, since BuildKit keeps a cache of its own.
    pub(super) async fn solve(
        &self,
        resource: &Resource,
        build: &Build,
        tag: &str,
        offer: Offer,
        log: &Log,
    ) -> Result<Vec<String>, Failure> {
        let veil = Veil::over(offer.secrets.values().map(String::as_str));
        let session = unique()?;
        let _session = self.session(&session, offer).await?;
        let mut control = ControlClient::new(self.control(&session).await?).max_decoding_message_size(MESSAGE);
        let request = SolveRequest {
            r#ref: unique()?,
            exporter_deprecated: "moby".to_owned(),
            exporter_attrs_deprecated: HashMap::from([("name".to_owned(), tag.to_owned())]),
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: self.frontend_attributes(resource, build, &session),
            session,
            ..SolveRequest::default()
        };
        let follow = StatusRequest { r#ref: request.r#ref.clone() };
        let mut watching = control.clone();
        let mut account = Account { steps: Steps::new(log, veil), ended: HashMap::new(), failed: None };
        let watch = async {
            // An account that breaks off loses lines, not the build.
            let Ok(mut told) = watching.status(follow).await.map(tonic::Response::into_inner) else { return };
            while let Ok(Some(news)) = told.message().await {
                account.take(&news);
            }
        };
        let mut solving = control.clone();
        let (solved, ()) = tokio::join!(solving.solve(request), watch);
        if let Err(status) = self.bound_cache(&mut control).await {
            tracing::warn!(%status, "could not bound the cache of builds");
        }
        solved.map(|_| Vec::new()).map_err(|status| account.failure(&status))
    }

    /// A client of BuildKit's own interface.
    async fn control(&self, session: &str) -> Result<Channel, Failure> {
        let (docker, session) = (self.clone(), session.to_owned());
        let connect = tower::service_fn(move |_: http::Uri| {
            let (docker, session) = (docker.clone(), session.clone());
            async move { docker.hijack("/grpc", &session).await.map_err(Box::new) }
        });
        let channel = Endpoint::from_static("http://docker").connect_with_connector(connect).await;
        channel.map_err(|error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::transient(format!("connecting to the engine's BuildKit: {why}"))
        })
    }

    fn frontend_attributes(&self, resource: &Resource, build: &Build, session: &str) -> HashMap<String, String> {
        let fixed = [
            ("context", context_of(session)),
            ("contextsubdir", context::FOLDER.to_owned()),
            ("filename", context::DOCKERFILE.to_owned()),
            (&format!("label:{}", labels::FINGERPRINT), resource.fingerprint.0.clone()),
            (&format!("label:{}", labels::SHA), build.of.sha.to_string()),
        ];
        let mut all: HashMap<String, String> =
            fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(build.args.iter().map(|(name, value)| (format!("build-arg:{name}"), value.clone())));
        // Cache mounts are shared by name alone: within the project, at this trust.
        let namespace = format!("sst-{}-{}-{}", self.inner.instance, build.of.project, build.of.trust);
        all.insert("build-arg:BUILDKIT_CACHE_MOUNT_NS".to_owned(), namespace);
        all.extend(build.target.iter().map(|target| ("target".to_owned(), target.clone())));
        if build.no_cache {
            all.insert("no-cache".to_owned(), String::new());
        }
        all
    }

    /// Lets BuildKit forget what was used longest ago, beyond the bound. It cannot say whose a piece of its cache is.
    async fn bound_cache(&self, control: &mut ControlClient<Channel>) -> Result<(), Status> {
        let most = i64::try_from(self.settings().build_cache).unwrap_or(i64::MAX);
        if most == 0 {
            return Ok(());
        }
        let request = PruneRequest { all: true, reserved_space: most, max_used_space: most, ..PruneRequest::default() };
        let mut pruned = control.prune(request).await?.into_inner();
        while pruned.message().await?.is_some() {}
        Ok(())
    }
}

/// A name that nobody else's build has.
fn unique() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::transient(format!("no random numbers: {error}")))?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase())
}

/// What BuildKit tells of a build.
struct Account<'a> {
    steps: Steps<'a, String>,
    /// When each step was last said to have ended.
    ended: HashMap<String, Timestamp>,
    /// The first step that failed, and with what.
    failed: Option<(String, String)>,
}

impl Account<'_> {
    fn take(&mut self, news: &StatusResponse) {
        for vertex in &news.vertexes {
            // Steps of the frontend's own that unpack the context.
            if vertex.started.is_some() && !vertex.name.starts_with("copy /") {
                self.steps.begin(vertex.digest.clone(), name_of(vertex));
            }
        }
        for log in &news.logs {
            self.steps.say(&log.vertex, &log.msg);
        }
        for vertex in &news.vertexes {
            self.end(vertex);
        }
    }

    fn end(&mut self, vertex: &Vertex) {
        let (Some(started), Some(completed)) = (&vertex.started, &vertex.completed) else { return };
        if !vertex.error.is_empty() {
            let cut = vertex.error.contains("context canceled");
            if self.failed.is_none() && !cut {
                self.failed = Some((vertex.digest.clone(), vertex.error.clone()));
            }
            return;
        }
        let took = between(started, completed);
        // The same end may be told twice, and a step may go on after a first, short look.
        let before = self.ended.insert(vertex.digest.clone(), *completed);
        if before.is_none_or(|before| before != *completed && took > Duration::from_millis(100)) {
            self.steps.end(&vertex.digest, (!vertex.cached).then_some(took));
        }
    }

    fn failure(&mut self, status: &Status) -> Failure {
        if let Some((step, error)) = self.failed.take() {
            return self.steps.failure(Some(&step), &error);
        }
        match status.code() {
            Code::Unavailable | Code::Cancelled => {
                Failure::transient(format!("the engine broke the build off: {}", status.message()))
            }
            _ => self.steps.failure(None, status.message()),
        }
    }
}

/// Its name without what only says where it comes from.
fn name_of(vertex: &Vertex) -> &str {
    vertex.name.strip_prefix("[internal] ").unwrap_or(&vertex.name)
}

fn between(started: &Timestamp, completed: &Timestamp) -> Duration {
    let nanos = |at: &Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    Duration::from_nanos(u64::try_from(nanos(completed) - nanos(started)).unwrap_or(0))
}
