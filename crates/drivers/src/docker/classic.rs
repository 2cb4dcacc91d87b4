//! A build by the engine's classic builder: foreign code, which it holds to limits, and engines without BuildKit.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::{BuildInfo, ContainerStateStatusEnum, ContainerUpdateBody};
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt;
use planner::resource::{Failure, Resource};
use planner::spec::Build;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;

use super::leftovers::MARK;
use super::registry::{Account, by_server};
use super::steps::Steps;
use super::{Docker, context, is_absent, labels};
use crate::{Log, Veil};

/// How often, and how long apart, it is tried to limit a step that starts.
const LOOKS: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Docker {
    /// Builds the image under this tag; answers the last image of each earlier stage. Of its steps, `stages` are labels.
    pub(super) async fn classic(
        &self,
        resource: &Resource,
        build: &Build,
        (tag, stages): (&str, usize),
        (tar, accounts): (Receiver<io::Result<Bytes>>, &[Account]),
        log: &Log,
    ) -> Result<Vec<String>, Failure> {
        // The answer begins only when the engine has the whole context.
        let engine = self.engine().await?.clone().with_timeout(resource.deadline.max(Duration::from_secs(1)));
        let body = bollard::body_try_stream(ReceiverStream::new(tar));
        let credentials = (!accounts.is_empty()).then(|| by_server(accounts));
        let mut account = engine.build_image(self.build_options(resource, build, tag), credentials, Some(body));
        let mut progress = Progress::new(log, stages + FINAL);
        while let Some(info) = account.next().await {
            match info {
                Ok(info) => {
                    progress.take(&info);
                    if let Some(container) = progress.running.take() {
                        self.limit(&container).await?;
                    }
                }
                Err(Error::DockerStreamError { error: message } | Error::DockerResponseServerError { message, .. }) => {
                    return Err(progress.failure(&message));
                }
                Err(error) => return Err(self.fail("building", &error)),
            }
        }
        progress.finish();
        Ok(progress.stages)
    }

    /// Limits the processes of a step. The one limit that a build cannot be given, so its container gets it as it starts.
    async fn limit(&self, container: &str) -> Result<(), Failure> {
        let pids_limit = Some(self.settings().build_pids);
        let mut last = None;
        for _ in 0..LOOKS {
            let update = ContainerUpdateBody { pids_limit, ..ContainerUpdateBody::default() };
            match self.engine().await?.update_container(container, update).await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
            // Between created and running, and between ended and gone, there is nothing that a limit could be set on.
            if self.is_over(container).await? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(last.map_or_else(
            || Failure::transient("the build was not limited"),
            |error| self.fail("limiting the processes of a build", &error),
        ))
    }

    async fn is_over(&self, container: &str) -> Result<bool, Failure> {
        match self.engine().await?.inspect_container(container, None).await {
            Err(error) if is_absent(&error) => Ok(true),
            Err(error) => Err(self.fail("looking at a step of a build", &error)),
            Ok(seen) => {
                let status = seen.state.and_then(|state| state.status);
                let ended = [
                    ContainerStateStatusEnum::EXITED,
                    ContainerStateStatusEnum::DEAD,
                    ContainerStateStatusEnum::REMOVING,
                ];
                Ok(status.is_some_and(|status| ended.contains(&status)))
            }
        }
    }

    fn build_options(&self, resource: &Resource, build: &Build, tag: &str) -> BuildImageOptions {
        let memory = i32::try_from(self.settings().build_memory).unwrap_or(i32::MAX);
        let arguments: HashMap<&str, &str> = build.args.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        // On the final image only, since they would spoil the cache of every layer.
        let labels = HashMap::from([
            (labels::FINGERPRINT, resource.fingerprint.0.clone()),
            (labels::SHA, build.of.sha.to_string()),
        ])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<HashMap<String, String>>();
        let options = BuildImageOptionsBuilder::default()
            .dockerfile(context::DOCKERFILE)
            .t(tag)
            .rm(true)
            .forcerm(true)
            .nocache(build.no_cache || build.of.trust.is_foreign())
            .memory(memory)
            .memswap(memory)
            .networkmode("default")
            .extrahosts(&format!("{MARK}:127.0.0.1"))
            .buildargs(&arguments)
            .labels(&labels);
        match &build.target {
            Some(target) => options.target(target).build(),
            None => options.build(),
        }
    }
}

/// Follows the classic builder's account of a build.
pub(super) struct Progress<'a> {
    steps: Steps<'a, usize>,
    partial: String,
    /// The step under way, and since when.
    step: Option<(usize, Instant)>,
    cached: bool,
    /// How many of the steps so far are our labels, which nobody asked for.
    labels: usize,
    /// How many of them there are in all.
    labelled: usize,
    image: Option<String>,
    /// The container of a step that begins to run.
    running: Option<String>,
    /// Short ids of the last image of each finished stage.
    pub(super) stages: Vec<String>,
}

/// How many labels the final image gets besides, each by a step.
const FINAL: usize = 2;

/// How a step of ours begins.
pub(super) const LABELS: &str = "LABEL sidestage.";

impl<'a> Progress<'a> {
    pub(super) fn new(log: &'a Log, labelled: usize) -> Self {
        Progress {
            steps: Steps::new(log, Veil::default()),
            partial: String::new(),
            step: None,
            cached: false,
            labels: 0,
            labelled,
            image: None,
            running: None,
            stages: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, info: &BuildInfo) {
        if let Some(text) = &info.stream {
            self.stream(text);
        }
        // Pulling a base image tells of every layer many times a second.
        let noise = ["Downloading", "Extracting", "Waiting", "Verifying Checksum", "Pulling fs layer"];
        if let Some(status) = info.status.as_deref().filter(|status| !noise.contains(status)) {
            let layer = info.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
            self.steps.note(&format!("{layer}{status}"));
        }
    }

    /// The builder's own lines come whole or in pieces, between what the steps print.
    fn stream(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            let own = ["Step ", " ---> ", "Removing intermediate container ", "Successfully "];
            if self.partial.is_empty() && !own.iter().any(|own| piece.starts_with(own)) {
                self.say(piece);
                continue;
            }
            self.partial.push_str(piece);
            if self.partial.ends_with('\n') || self.partial.len() > Self::OWN {
                let line = std::mem::take(&mut self.partial);
                self.line(&line);
            }
        }
    }

    /// The longest line of the builder's own.
    const OWN: usize = 256 << 10;

    fn line(&mut self, line: &str) {
        if let Some((place, text)) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            self.finish();
            self.begin(place, text.trim());
        } else if let Some(id) = line.strip_prefix(" ---> ") {
            match id.trim() {
                "Using cache" => self.cached = true,
                id => match id.strip_prefix("Running in ") {
                    Some(container) => self.running = Some(container.to_owned()),
                    None => self.image = Some(id.to_owned()),
                },
            }
        }
    }

    fn begin(&mut self, place: &str, text: &str) {
        if text.to_ascii_uppercase().starts_with("FROM ") {
            self.stages.extend(self.image.take());
        }
        if text.starts_with(LABELS) {
            self.labels += 1;
            return;
        }
        let (number, all) = place.split_once('/').unwrap_or((place, place));
        let number = number.parse::<usize>().unwrap_or(0).saturating_sub(self.labels);
        let all = all.parse::<usize>().unwrap_or(0).saturating_sub(self.labelled);
        self.cached = false;
        self.steps.begin(number, &format!("[{number}/{all}] {text}"));
        self.step = Some((number, Instant::now()));
    }

    fn say(&mut self, text: &str) {
        match self.step {
            Some((step, _)) => self.steps.say(&step, text.as_bytes()),
            None if text.trim().is_empty() => {}
            None => self.steps.note(text.trim_end()),
        }
    }

    /// Notes how long the step took that ends now.
    pub(super) fn finish(&mut self) {
        if let Some((step, since)) = self.step.take() {
            self.steps.end(&step, (!self.cached).then(|| since.elapsed()));
        }
    }

    /// The one line for a build that the engine gave up with this message.
    pub(super) fn failure(&mut self, message: &str) -> Failure {
        let step = self.step.take().map(|(step, _)| step);
        self.steps.failure(step.as_ref(), message)
    }
}
