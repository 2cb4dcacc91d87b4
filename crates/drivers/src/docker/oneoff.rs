//! One-off containers: what a person runs inside an environment, attached to whoever asked, gone at its end.
//!
//! They are no resources: no listing shows them and nothing wants them. What a killed controller left is cleared away
//! with what builds leave, and the network's removal takes along those that hang on it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, ListContainersOptionsBuilder, ResizeContainerTTYOptionsBuilder,
    StartContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use planner::names;
use planner::resource::{Failure, Resource, ResourceId};
use planner::spec::Spec;
use tokio::io::AsyncWrite;

use super::creation::Order;
use super::network::{env_of, network_of};
use super::{Docker, is_absent, labels, lock, one_line};
use crate::{Listing, Log};

/// What a one-off container printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// On its output, or on its terminal.
    Out(Bytes),
    /// On its error output.
    Err(Bytes),
}

/// How a one-off container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its exit code; 127 and 126 where its command could not be started.
    pub code: i64,
    /// One line, where the code does not tell all.
    pub why: Option<String>,
}

/// Columns and rows of a terminal.
pub type Size = (u16, u16);

/// A one-off container that runs. Dropping it kills and removes it.
pub struct OneOff {
    docker: Docker,
    /// The engine's id.
    id: String,
    name: String,
    memory: u64,
    started: Result<(), End>,
    gone: AtomicBool,
}

/// What goes into a one-off container, and what comes out.
pub struct Ends {
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it prints, until it ends or closes its outputs.
    pub output: Pin<Box<dyn Stream<Item = Piece> + Send>>,
}

impl Docker {
    /// Starts a one-off container made as the resource says (see
    /// [`Core::one_off`](planner::core::Core::one_off)), with a terminal if it has a size. `needs` holds what was last
    /// observed of what the resource needs.
    ///
    /// # Errors
    /// It cannot be made. A command that cannot be started is no error but an [`End`].
    pub async fn run(
        &self,
        resource: &Resource,
        needs: &Listing,
        terminal: Option<Size>,
    ) -> Result<(OneOff, Ends), Failure> {
        let (Spec::Job(container) | Spec::Container(container)) = &resource.spec else {
            return Err(Failure::permanent(format!("{} is nothing that runs", resource.id)));
        };
        self.admit(container.of.trust)?;
        let network = needs.get(&network_of(&resource.id)).and_then(|seen| seen.outputs.id.clone());
        let network = network.ok_or_else(|| Failure::transient("the environment has no network now; wake it"))?;
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| Failure::transient(format!("no randomness: {error}")))?;
        let name = format!("run-{}", data_encoding::HEXLOWER.encode(&random));
        let full = names::container(env_of(&resource.id)?, resource.id.generation, &name);
        // Before it exists: clearing away must never take it for a leftover.
        lock(&self.inner.oneoffs).insert(full.clone());
        let order = Order { resource, container, needs, network: &network, log: &Log::none() };
        let made = self.make(&order, &name, &full, terminal.is_some()).await;
        let id = made.inspect_err(|_| {
            lock(&self.inner.oneoffs).remove(&full);
        })?;
        let (docker, gone) = (self.clone(), AtomicBool::new(false));
        let mut oneoff = OneOff { docker, id, name: full, memory: container.memory, started: Ok(()), gone };
        let ends = self.attach(&oneoff.id, terminal.is_some()).await?;
        oneoff.started = self.start_one(&oneoff.id).await?;
        if let (Some(size), Ok(())) = (terminal, &oneoff.started) {
            oneoff.resize(size).await;
        }
        Ok((oneoff, ends))
    }

    async fn make(&self, order: &Order<'_>, name: &str, full: &str, terminal: bool) -> Result<String, Failure> {
        let (body, strict) = self.body(order, name).await?;
        let mut labels = body.labels.clone().unwrap_or_default();
        labels.insert(labels::KIND.to_owned(), labels::RUN.to_owned());
        labels.insert(labels::NAME.to_owned(), name.to_owned());
        let body = ContainerCreateBody {
            labels: Some(labels),
            tty: Some(terminal),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..body
        };
        let made = self.create_as(full, body, strict, order.log).await?;
        made.map(|made| made.id).ok_or_else(|| Failure::transient(format!("another container is called {full}")))
    }

    /// Its ends, before it starts, so that nothing it says is lost.
    async fn attach(&self, id: &str, terminal: bool) -> Result<Ends, Failure> {
        let options =
            AttachContainerOptionsBuilder::default().stdin(true).stdout(true).stderr(true).stream(true).build();
        let ends = self.engine().await?.attach_container(id, Some(options)).await;
        let ends = ends.map_err(|error| self.fail("attaching", &error))?;
        let pieces = ends.output.take_while(|piece| std::future::ready(piece.is_ok())).filter_map(move |piece| {
            std::future::ready(match piece {
                Ok(LogOutput::StdErr { message }) if !terminal => Some(Piece::Err(message)),
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdErr { message }) => {
                    Some(Piece::Out(message))
                }
                _ => None,
            })
        });
        Ok(Ends { input: ends.input, output: pieces.boxed() })
    }

    /// Starts it; a command that cannot be started ends as a shell would say it.
    async fn start_one(&self, id: &str) -> Result<Result<(), End>, Failure> {
        match self.engine().await?.start_container(id, None::<StartContainerOptions>).await {
            Ok(()) => Ok(Ok(())),
            Err(Error::DockerResponseServerError { status_code: 400, message }) => {
                let message = one_line(&message);
                let why = message.find("exec: ").map_or(message.as_str(), |at| &message[at..]);
                let code = if why.contains("permission denied") { 126 } else { 127 };
                Ok(Err(End { code, why: Some(why.to_owned()) }))
            }
            Err(error) => Err(self.fail("starting the command", &error)),
        }
    }

    /// Removes the one-off containers of a generation.
    pub(super) async fn remove_oneoffs(&self, network: &ResourceId) -> Result<(), Failure> {
        let filter = labels::filter([
            format!("{}={}", labels::INSTANCE, self.inner.instance),
            format!("{}={}", labels::KIND, labels::RUN),
            format!("{}={}", labels::ENV, env_of(network)?),
            format!("{}={}", labels::GENERATION, network.generation),
        ]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        let seen = self.engine().await?.list_containers(Some(options)).await;
        for container in seen.map_err(|error| self.fail("listing what runs once", &error))? {
            for name in container.names.unwrap_or_default() {
                // Whoever attends it learns from this why it ended.
                lock(&self.inner.oneoffs).remove(name.trim_start_matches('/'));
            }
            if let Some(id) = container.id {
                self.delete(&id).await?;
            }
        }
        Ok(())
    }

    /// Whether a container of this kind and these names was left by an earlier run of Sidestage.
    pub(super) fn is_lost_oneoff(&self, kind: Option<&String>, names: &[String]) -> bool {
        let known = lock(&self.inner.oneoffs);
        kind.is_some_and(|kind| kind == labels::RUN)
            && !names.iter().any(|name| known.contains(name.trim_start_matches('/')))
    }
}

impl OneOff {
    /// Tells its terminal how large it is. One that has ended does not mind.
    pub async fn resize(&self, (columns, rows): Size) {
        let Ok(engine) = self.docker.engine().await else { return };
        let options = ResizeContainerTTYOptionsBuilder::default().w(i32::from(columns)).h(i32::from(rows)).build();
        if let Err(error) = engine.resize_container_tty(&self.id, options).await {
            tracing::debug!(%error, "a terminal could not be resized");
        }
    }

    /// Waits for its end and removes it.
    ///
    /// # Errors
    /// The engine does not answer; it is removed later.
    pub async fn end(&self) -> Result<End, Failure> {
        let end = match &self.started {
            Err(end) => end.clone(),
            Ok(()) => {
                self.docker.wait_for_end(&self.id).await?;
                self.judge().await?
            }
        };
        self.kill().await?;
        Ok(end)
    }

    async fn judge(&self) -> Result<End, Failure> {
        let taken = || End { code: 137, why: Some("the environment was taken down meanwhile".to_owned()) };
        if !lock(&self.docker.inner.oneoffs).contains(&self.name) {
            return Ok(taken());
        }
        let seen = match self.docker.engine().await?.inspect_container(&self.id, None).await {
            Err(error) if is_absent(&error) => return Ok(taken()),
            seen => seen.map_err(|error| self.docker.fail("looking how it ended", &error))?,
        };
        let ended = self.docker.how_it_ended(&seen).await;
        let why = ended.oom.then(|| format!("it was killed at its limit of {} MB", self.memory >> 20));
        Ok(End { code: ended.code, why })
    }

    /// Kills and removes it.
    ///
    /// # Errors
    /// The engine does not answer; it is removed later.
    pub async fn kill(&self) -> Result<(), Failure> {
        self.docker.delete(&self.id).await?;
        self.gone.store(true, Ordering::Relaxed);
        lock(&self.docker.inner.oneoffs).remove(&self.name);
        Ok(())
    }
}

impl Drop for OneOff {
    fn drop(&mut self) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        let (docker, id, name) = (self.docker.clone(), self.id.clone(), self.name.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(failure) = docker.delete(&id).await {
                tracing::warn!(%failure, %name, "what was run once is still there; it is cleared away later");
            }
            // From now on it may be cleared away as what was left.
            lock(&docker.inner.oneoffs).remove(&name);
        });
    }
}
