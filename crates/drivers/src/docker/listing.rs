//! What exists of ours on the engine, told by three listings; only what ended badly is looked at one by one, once.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder};
use futures_util::{StreamExt, stream};
use nix::sys::signal::Signal;
use planner::resource::{Failure, Kind, Observed, Outputs, Owner, Phase, ResourceId, Run};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::network::network_of;
use super::volume::volume_of;
use super::{Docker, labels, lock};
use crate::{Listing, Scope};

/// How many containers are looked at side by side.
const SIDE_BY_SIDE: usize = 8;

/// An engine that stops orderly ends its containers this long before its next start at most, as far as 255 is concerned.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: i64,
    pub(super) oom: bool,
    /// Killed from outside, by the engine's end above all: it says nothing about the program.
    pub(super) lost: bool,
}

impl Ended {
    /// The reason for people.
    pub(super) fn text(self, name: &str, memory: u64) -> String {
        if self.oom {
            let (limit, more) = (size(memory), manifest_size(memory * 2));
            return format!("{name} was killed at its limit of {limit}; set memory = \"{more}\"");
        }
        let signal = i32::try_from(self.code - 128).ok().and_then(|number| Signal::try_from(number).ok());
        match self.code {
            0 => format!("{name} exited (code 0) instead of staying"),
            126 => format!("{name} exited with code 126: its command cannot be executed"),
            127 => format!("{name} exited with code 127: its command was not found"),
            code if let Some(signal) = signal => format!("{name} exited with code {code} ({signal})"),
            code => format!("{name} exited with code {code}"),
        }
    }
}

fn size(bytes: u64) -> String {
    format!("{} MB", bytes >> 20)
}

fn manifest_size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) { format!("{}g", bytes >> 30) } else { format!("{}m", bytes >> 20) }
}

impl Docker {
    /// Everything of ours, or one owner's.
    pub(super) async fn list(&self, scope: &Scope) -> Result<Listing, Failure> {
        let mut all = self.containers(scope).await?;
        let env = match scope {
            Scope::Owner(Owner::Env(env)) => Some(env),
            _ => None,
        };
        if env.is_some() || *scope == Scope::All {
            all.extend(self.networks(env, None).await?);
            all.extend(self.volumes(env).await?);
        }
        let pattern = match scope {
            Scope::Owner(Owner::Env(env)) => format!("sst-{}/*:{env}-*", self.inner.instance),
            _ => format!("sst-{}/*", self.inner.instance),
        };
        let wanted = |id: &ResourceId| matches!(scope, Scope::All) || *scope == Scope::Owner(id.owner.clone());
        all.extend(self.images(&pattern).await?.into_iter().filter(|(id, _)| wanted(id)));
        Ok(all)
    }

    /// Our jobs and containers, by one listing of the engine.
    pub(super) async fn containers(&self, scope: &Scope) -> Result<Listing, Failure> {
        let mut wanted = vec![format!("{}={}", labels::INSTANCE, self.inner.instance), labels::KIND.to_owned()];
        match scope {
            Scope::All => {}
            Scope::Owner(Owner::Env(env)) => wanted.push(format!("{}={env}", labels::ENV)),
            Scope::Owner(_) => return Ok(BTreeMap::new()),
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&labels::filter(wanted)).build();
        let seen = self.engine().await?.list_containers(Some(options)).await;
        let seen = seen.map_err(|error| self.fail("listing containers", &error))?;
        if *scope == Scope::All {
            self.forget_absent(&seen);
        }
        let observed = stream::iter(seen).map(|container| self.observe(container)).buffer_unordered(SIDE_BY_SIDE);
        Ok(observed.filter_map(std::future::ready).collect::<Vec<_>>().await.into_iter().collect())
    }

    fn forget_absent(&self, seen: &[ContainerSummary]) {
        let present: HashSet<&str> = seen.iter().filter_map(|container| container.id.as_deref()).collect();
        lock(&self.inner.ended).retain(|id, _| present.contains(id.as_str()));
        lock(&self.inner.deaths).retain(|id, _| present.contains(id.as_str()));
        lock(&self.inner.rested).retain(|id| present.contains(id.as_str()));
    }

    async fn observe(&self, container: ContainerSummary) -> Option<(ResourceId, Observed)> {
        let ours = labels::read(&self.inner.instance, container.labels.as_ref()?)?;
        let engine_id = container.id?;
        let state = container.state?;
        let run = match state {
            ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::RESTARTING => Run::Running,
            ContainerSummaryStateEnum::PAUSED => Run::Paused,
            _ => Run::Stopped,
        };
        let phase = match state {
            ContainerSummaryStateEnum::REMOVING | ContainerSummaryStateEnum::DEAD => Phase::Removing,
            ContainerSummaryStateEnum::CREATED if ours.id.kind == Kind::Job => Phase::Partial,
            ContainerSummaryStateEnum::EXITED => {
                let ended = self.ending(&engine_id, container.status.as_deref().unwrap_or_default()).await;
                self.phase(&ours.id, &engine_id, ended)
            }
            _ => Phase::Whole,
        };
        if run != Run::Stopped {
            lock(&self.inner.ended).remove(&engine_id);
        }
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.values().find_map(|network| network.ip_address.as_deref()?.parse::<IpAddr>().ok());
        let mut uses = vec![network_of(&ours.id)];
        uses.extend(ours.image.as_deref().and_then(|tag| self.image_id(tag)).map(|(id, _)| id));
        uses.extend(ours.data.then(|| volume_of(&ours.id)));
        let outputs = Outputs {
            oom: self.deaths_of(&engine_id),
            id: Some(engine_id),
            address: address.filter(|_| run == Run::Running),
            baseline: ours.baseline,
            commit: ours.commit,
            secrets: ours.secrets,
            ..Outputs::default()
        };
        Some((ours.id, Observed { fingerprint: ours.fingerprint, phase, run, uses, outputs }))
    }

    /// What an ended container's phase is. One that we, the engine or a person stopped did not end by itself.
    fn phase(&self, id: &ResourceId, engine_id: &str, ended: Ended) -> Phase {
        let Ended { code, oom, lost } = ended;
        match id.kind {
            Kind::Job if lost => Phase::Lost,
            Kind::Job => Phase::Exited { code, oom },
            _ if lost || lock(&self.inner.rested).contains(engine_id) => Phase::Whole,
            _ => Phase::Exited { code, oom },
        }
    }

    /// How an exited container ended, by its line in the listing if that is enough: `Exited (0) 5 minutes ago`.
    async fn ending(&self, engine_id: &str, status: &str) -> Ended {
        if let Some(known) = lock(&self.inner.ended).get(engine_id) {
            return *known;
        }
        let code = status.strip_prefix("Exited (").and_then(|rest| rest.split_once(')')?.0.parse().ok());
        let ended = match code {
            Some(0) => Ended { code: 0, oom: false, lost: false },
            Some(143) => Ended { code: 143, oom: false, lost: true },
            _ => match self.inspect(engine_id).await {
                Some(seen) => self.how_it_ended(&seen).await,
                // Gone in between, or no answer: nothing to remember.
                None => return Ended { code: code.unwrap_or(-1), oom: false, lost: true },
            },
        };
        lock(&self.inner.ended).insert(engine_id.to_owned(), ended);
        ended
    }

    async fn inspect(&self, engine_id: &str) -> Option<ContainerInspectResponse> {
        self.engine().await.ok()?.inspect_container(engine_id, None).await.ok()
    }

    /// How a container ended, from what the engine says of it.
    pub(super) async fn how_it_ended(&self, seen: &ContainerInspectResponse) -> Ended {
        let state = seen.state.clone().unwrap_or_default();
        let code = state.exit_code.unwrap_or(-1);
        let oom = state.oom_killed.unwrap_or(false);
        let lost = match code {
            _ if oom => false,
            // SIGKILL and SIGTERM come from outside.
            137 | 143 => true,
            // What an engine that was killed reports of what died with it, and what PHP exits with on any error.
            255 => {
                let since = self.engine_since().await;
                let at = |text: &Option<String>| OffsetDateTime::parse(text.as_deref()?, &Rfc3339).ok();
                match (since, at(&state.started_at), at(&state.finished_at)) {
                    (Some(since), Some(began), Some(ended)) => began < since && ended >= since - SHUTDOWN,
                    _ => false,
                }
            }
            _ => false,
        };
        Ended { code, oom, lost }
    }

    /// When the engine started: it makes its own bridge anew each time. None if it has no such bridge.
    async fn engine_since(&self) -> Option<OffsetDateTime> {
        let bridge = self.engine().await.ok()?.inspect_network("bridge", None::<InspectNetworkOptions>).await.ok()?;
        OffsetDateTime::parse(bridge.created.as_deref()?, &Rfc3339).ok()
    }
}
