//! What the engine tells by itself: which environments something happened to. A reason to look, nothing more.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use planner::identity::EnvId;
use planner::resource::Failure;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::{Docker, labels, lock};

/// What an event is a reason to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// A container of this environment ended, was killed for memory, stopped, paused or removed.
    Env(EnvId),
    /// The stream begins, or broke and began again: anything may have happened in between.
    Everything,
}

/// How often memory ended a process of one container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deaths {
    count: u32,
    /// When the last one was, in nanoseconds: after a break the stream tells of the last second again.
    last: i64,
}

/// Pause before a broken stream is begun again.
const AGAIN: Duration = Duration::from_secs(1);

impl Docker {
    /// Follows the engine's events for as long as the stream is kept. Survives the engine.
    pub fn events(&self) -> impl Stream<Item = Touched> + Send + Unpin + use<> {
        let (sender, receiver) = channel(256);
        let docker = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    told = docker.tell(&sender) => {
                        if let Err(failure) = told {
                            tracing::debug!(%failure, "the engine's events broke off");
                        }
                    }
                }
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    /// How often memory ended a process of this container, since we listen.
    pub(super) fn deaths_of(&self, engine_id: &str) -> u32 {
        lock(&self.inner.deaths).get(engine_id).map_or(0, |deaths| deaths.count)
    }

    /// A forked child may die of it while the container runs on: only the event tells.
    fn count(&self, event: &EventMessage) {
        let Some(engine_id) = event.actor.as_ref().and_then(|actor| actor.id.as_ref()) else { return };
        if event.action.as_deref() != Some("oom") {
            return;
        }
        let at = event.time_nano.unwrap_or_default();
        let mut all = lock(&self.inner.deaths);
        let deaths = all.entry(engine_id.clone()).or_default();
        if at > deaths.last {
            *deaths = Deaths { count: deaths.count.saturating_add(1), last: at };
        }
    }

    async fn tell(&self, to: &Sender<Touched>) -> Result<(), Failure> {
        let engine = self.engine().await?;
        // While the engine is away there is nothing to look at.
        engine.ping().await.map_err(|error| self.fail("following events", &error))?;
        let mut filters: HashMap<String, Vec<String>> =
            labels::filter([format!("{}={}", labels::INSTANCE, self.inner.instance), labels::KIND.to_owned()]);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        let kinds = ["die", "oom", "stop", "destroy", "pause", "unpause"];
        filters.insert("event".to_owned(), kinds.map(str::to_owned).to_vec());
        // The request is made when the stream is first read: what happens until then is told as well.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let options = EventsOptionsBuilder::default().filters(&filters).since(&since).build();
        let mut events = engine.events(Some(options));
        if to.send(Touched::Everything).await.is_err() {
            return Ok(());
        }
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| self.fail("following events", &error))?;
            self.count(&event);
            let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            let env = attributes.get(labels::ENV).and_then(|env| env.parse().ok());
            if let Some(env) = env
                && to.send(Touched::Env(env)).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}
