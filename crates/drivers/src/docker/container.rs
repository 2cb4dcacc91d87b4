//! Containers that stay: created as their body says, started, and waited for until they are up.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use planner::identity::Trust;
use planner::names;
use planner::resource::{Failure, Kind, Observed, Phase, Resource, ResourceId, Run};
use planner::spec::{Container, ImageSource};

use super::creation::Order;
use super::network::{env_of, network_of};
use super::{Docker, health, is_absent, is_conflict, labels, lock, spoken};
use crate::{Listing, Log};

/// How often, and how long apart, it is tried to make a container whose name is taken.
const LOOKS: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A container of ours that exists.
pub(super) struct Found {
    /// The engine's id.
    pub(super) id: String,
    pub(super) seen: ContainerInspectResponse,
}

impl Found {
    pub(super) fn status(&self) -> ContainerStateStatusEnum {
        let status = self.seen.state.as_ref().and_then(|state| state.status);
        status.unwrap_or(ContainerStateStatusEnum::EMPTY)
    }

    fn address(&self) -> Option<IpAddr> {
        let networks = self.seen.network_settings.as_ref()?.networks.as_ref()?;
        networks.values().find_map(|network| network.ip_address.as_deref()?.parse().ok())
    }

    fn in_network(&self, network: &str) -> bool {
        let networks = self.seen.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        // Before its first start a container knows its network by what it was created with only.
        networks.is_some_and(|all| {
            all.iter().any(|(name, seen)| match seen.network_id.as_deref() {
                None | Some("") => name == network || self.mode() == Some(network),
                Some(id) => id == network,
            })
        })
    }

    fn mode(&self) -> Option<&str> {
        self.seen.host_config.as_ref()?.network_mode.as_deref()
    }

    fn fingerprint(&self) -> Option<&String> {
        self.label(labels::FINGERPRINT)
    }

    fn label(&self, label: &str) -> Option<&String> {
        self.seen.config.as_ref()?.labels.as_ref()?.get(label)
    }
}

impl Docker {
    /// Creates the container if it is absent, and lets it run as far as wanted; returns when it is up.
    pub(super) async fn ensure_container(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
        log: &Log,
    ) -> Result<Observed, Failure> {
        if let Some(failure) = self.full(&resource.id) {
            return Err(failure);
        }
        let found = self.obtain(resource, container, needs, log).await?;
        if resource.run == Run::Running {
            self.start(&resource.id, &found).await?;
            self.wait_until_up(&resource.id, container, &found.id, log).await?;
        } else if resource.run == Run::Paused {
            self.rest_container(&resource.id, Run::Paused).await?;
        }
        self.look(&resource.id).await?.ok_or_else(|| Failure::transient(format!("{} vanished", resource.id.name)))
    }

    /// The container of this resource: the one that exists, if it is what was asked for, or a new one.
    pub(super) async fn obtain(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
        log: &Log,
    ) -> Result<Found, Failure> {
        self.admit(container.of.trust)?;
        self.attach_data(container.data.as_ref()).await?;
        let network = needs.get(&network_of(&resource.id)).and_then(|seen| seen.outputs.id.clone());
        let network = network.ok_or_else(|| Failure::transient(format!("{} has no network yet", resource.id.name)))?;
        for _ in 0..LOOKS {
            if let Some(found) = self.find(&resource.id).await? {
                self.same(resource, container, needs, &found)?;
                // One that never ran may come from a call that was lost before its settings were checked, and one that
                // is bound to a network that is gone could never start again.
                let never_ran = found.status() == ContainerStateStatusEnum::CREATED && resource.run == Run::Running;
                if !never_ran && found.in_network(&network) && !self.is_outdated(resource, container, &found) {
                    return Ok(found);
                }
                self.delete(&found.id).await?;
            }
            let order = Order { resource, container, needs, network: &network, log };
            if let Some(made) = self.create(&order).await? {
                return Ok(made);
            }
            // An earlier call that was lost is landing: the engine reserves a name before it shows the container.
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let name = &resource.id.name;
        Err(Failure::transient(format!("the name of {name} is taken by a container that is not ours; rename that")))
    }

    /// Secrets changed since it was created, and it does not run: they apply at the next start. What a job did is done.
    fn is_outdated(&self, resource: &Resource, container: &Container, found: &Found) -> bool {
        let rests = matches!(found.status(), ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::CREATED);
        rests
            && resource.id.kind == Kind::Container
            && resource.run == Run::Running
            && found.label(labels::SECRETS) != planner::secrets::digest(&container.secrets).as_ref()
    }

    /// Never mixes: another version is replaced by the planner before this one is made.
    pub(super) fn same(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
        found: &Found,
    ) -> Result<(), Failure> {
        let name = &resource.id.name;
        if found.fingerprint() != Some(&resource.fingerprint.0) {
            return Err(Failure::transient(format!("{name} exists in another version, which must go first")));
        }
        let built = match &container.image {
            ImageSource::Built(id) => needs.get(id).and_then(|seen| seen.outputs.id.as_ref()),
            ImageSource::Named(_) => None,
        };
        if built.is_some() && found.seen.image.as_ref() != built {
            return Err(Failure::transient(format!("{name} was made from another image and must go first")));
        }
        Ok(())
    }

    /// Foreign code runs only where the operator said so.
    pub(super) fn admit(&self, trust: Trust) -> Result<(), Failure> {
        if trust == Trust::Untrusted {
            return Err(Failure::permanent("foreign code that nobody approved runs nowhere"));
        }
        if trust.is_foreign() && !self.settings().runc_for_forks {
            return Err(Failure::permanent(
                "this engine runs no foreign code; set [engine] runc_for_forks = true if an approval is guard enough",
            ));
        }
        Ok(())
    }

    /// Ours of this identity; none if there is none, or one that a person gave this name.
    pub(super) async fn find(&self, id: &ResourceId) -> Result<Option<Found>, Failure> {
        let name = names::container(env_of(id)?, id.generation, &id.name);
        let seen = match self.engine().await?.inspect_container(&name, None).await {
            Err(error) if is_absent(&error) => return Ok(None),
            seen => seen.map_err(|error| self.fail(&format!("looking at {}", id.name), &error))?,
        };
        let written = seen.config.as_ref().and_then(|config| config.labels.as_ref());
        let ours = written.and_then(|written| labels::read(&self.inner.instance, written));
        Ok(ours.filter(|ours| ours.id == *id).and_then(|_| Some(Found { id: seen.id.clone()?, seen })))
    }

    /// Lets it run.
    pub(super) async fn start(&self, id: &ResourceId, found: &Found) -> Result<(), Failure> {
        let engine = self.engine().await?;
        let done = match found.status() {
            ContainerStateStatusEnum::RUNNING => return Ok(()),
            ContainerStateStatusEnum::PAUSED => engine.unpause_container(&found.id).await,
            _ => engine.start_container(&found.id, None::<StartContainerOptions>).await,
        };
        lock(&self.inner.rested).remove(&found.id);
        lock(&self.inner.ended).remove(&found.id);
        match done {
            Ok(()) => Ok(()),
            Err(Error::DockerResponseServerError { status_code, message }) => {
                let message = super::one_line(&message);
                let why = message.find("exec: ").map_or(message.as_str(), |at| &message[at..]);
                let text = format!("{} could not start: {why}", id.name);
                Err(if status_code == 400 { Failure::permanent(text) } else { Failure::transient(text) })
            }
            Err(error) => Err(self.fail(&format!("starting {}", id.name), &error)),
        }
    }

    async fn wait_until_up(
        &self,
        id: &ResourceId,
        container: &Container,
        engine_id: &str,
        log: &Log,
    ) -> Result<(), Failure> {
        enum Outcome {
            Up,
            Ended,
            Late,
        }
        let began = Instant::now();
        let mut why = String::new();
        let address = match self.find(id).await? {
            Some(found) if found.id == engine_id => found.address(),
            _ => None,
        };
        let outcome = tokio::select! {
            ended = self.wait_for_end(engine_id) => ended.map(|()| Outcome::Ended)?,
            () = async {
                match address {
                    Some(address) => health::healthy(container, address, &mut why).await,
                    // It ended already, or is on its way out: the end is what to wait for.
                    None => std::future::pending().await,
                }
            } => Outcome::Up,
            () = tokio::time::sleep(container.start_timeout) => Outcome::Late,
        };
        match outcome {
            Outcome::Up => {
                log.line(&format!("{} is up after {:.1} s", id.name, began.elapsed().as_secs_f64()));
                Ok(())
            }
            Outcome::Ended => Err(self.ended_early(id, container).await),
            Outcome::Late => Err(self.late(id, container, &why).await),
        }
    }

    /// Returns when the container does not run any more.
    pub(super) async fn wait_for_end(&self, engine_id: &str) -> Result<(), Failure> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        match self.engine().await?.wait_container(engine_id, Some(options)).next().await {
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) if is_absent(&error) => Ok(()),
            Some(Err(error)) => Err(self.fail("waiting for the container", &error)),
            None => Err(Failure::transient("the container engine stopped answering while a container was awaited")),
        }
    }

    async fn ended_early(&self, id: &ResourceId, container: &Container) -> Failure {
        if let Some(failure) = self.full(id) {
            return failure;
        }
        let found = match self.find(id).await {
            Ok(Some(found)) => found,
            Ok(None) => return Failure::transient(format!("{} was removed while it started", id.name)),
            Err(failure) => return failure,
        };
        let ended = self.how_it_ended(&found.seen).await;
        let said = self.last_words(&found.id, &container.of).await;
        let text = format!("{}{said}", ended.text(&id.name, container.memory));
        // Killed from outside is no fault of its own; whether any other is believed the first time, the planner decides.
        if ended.lost { Failure::transient(text) } else { Failure::permanent(text) }
    }

    async fn late(&self, id: &ResourceId, container: &Container, why: &str) -> Failure {
        let mut text = format!("{} did not come up within {}", id.name, spoken(container.start_timeout));
        if !why.is_empty() {
            let _ = write!(text, ": {why}");
        }
        if let Ok(Some(found)) = self.find(id).await {
            let pid = found.seen.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
            if let (Some(pid), Some(port), true) = (pid, container.port, why.starts_with("nothing listens")) {
                text.push_str(&health::listening(pid, port));
            }
            text.push_str(&self.last_words(&found.id, &container.of).await);
        }
        Failure::permanent(text)
    }

    /// Lowers a container: pause, or stop with its time to obey.
    pub(super) async fn rest_container(&self, id: &ResourceId, run: Run) -> Result<(), Failure> {
        let Some(found) = self.find(id).await? else { return Ok(()) };
        let engine = self.engine().await?;
        let status = found.status();
        let done = match (run, status) {
            (Run::Paused, ContainerStateStatusEnum::RUNNING) => engine.pause_container(&found.id).await,
            (Run::Stopped, ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED) => {
                lock(&self.inner.rested).insert(found.id.clone());
                if status == ContainerStateStatusEnum::PAUSED {
                    // A frozen process neither obeys nor dies.
                    match engine.unpause_container(&found.id).await {
                        Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                            return Err(self.fail(&format!("stopping {}", id.name), &error));
                        }
                        _ => {}
                    }
                }
                let seconds = i32::try_from(self.settings().stop_timeout.as_secs()).unwrap_or(i32::MAX);
                let options = StopContainerOptionsBuilder::default().t(seconds).build();
                engine.stop_container(&found.id, Some(options)).await
            }
            _ => return Ok(()),
        };
        match done {
            Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                Err(self.fail(&format!("resting {}", id.name), &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a container with its volumes.
    pub(super) async fn remove_container(&self, id: &ResourceId) -> Result<(), Failure> {
        if let Some(found) = self.find(id).await? {
            self.delete(&found.id).await?;
        }
        // What it wrote is gone with it.
        lock(&self.inner.full).remove(id);
        Ok(())
    }

    /// Removes by the engine's id. In progress already counts as done: the next listing says whether it is gone.
    pub(super) async fn delete(&self, engine_id: &str) -> Result<(), Failure> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let done = self.engine().await?.remove_container(engine_id, Some(options)).await;
        lock(&self.inner.rested).remove(engine_id);
        lock(&self.inner.ended).remove(engine_id);
        lock(&self.inner.deaths).remove(engine_id);
        match done {
            Err(error) if !is_absent(&error) && !is_conflict(&error) => Err(self.fail("removing a container", &error)),
            _ => Ok(()),
        }
    }

    /// One container as a listing would tell it.
    pub(super) async fn look(&self, id: &ResourceId) -> Result<Option<Observed>, Failure> {
        let scope = crate::Scope::Owner(id.owner.clone());
        Ok(self.containers(&scope).await?.remove(id).filter(|seen| seen.phase != Phase::Removing))
    }
}
