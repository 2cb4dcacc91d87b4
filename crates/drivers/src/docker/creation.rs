//! Makes a container as its body says, and makes sure that the engine kept what matters of it.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, ImageInspect};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use planner::resource::{Failure, Kind, Owner, Resource};
use planner::secrets::SecretClass;
use planner::spec::{Container, ImageSource};
use planner::{injected, names};

use super::body::{Parts, differences};
use super::container::Found;
use super::network::env_of;
use super::volume::mount;
use super::{Docker, is_absent, is_conflict, labels};
use crate::{Listing, Log};

/// What a container is made of.
pub(super) struct Order<'a> {
    pub(super) resource: &'a Resource,
    pub(super) container: &'a Container,
    /// What was last observed of what it needs.
    pub(super) needs: &'a Listing,
    /// The engine's id of its network.
    pub(super) network: &'a str,
    pub(super) log: &'a Log,
}

impl Docker {
    /// Creates it; none if its name is taken.
    pub(super) async fn create(&self, order: &Order<'_>) -> Result<Option<Found>, Failure> {
        let id = &order.resource.id;
        let (body, strict) = self.body(order, &id.name).await?;
        self.create_as(&names::container(env_of(id)?, id.generation, &id.name), body, strict, order.log).await
    }

    /// Creates what a body asks for under a full name; none if the name is taken.
    pub(super) async fn create_as(
        &self,
        full: &str,
        body: ContainerCreateBody,
        strict: bool,
        log: &Log,
    ) -> Result<Option<Found>, Failure> {
        let asked = body.host_config.clone().unwrap_or_default();
        let options = CreateContainerOptionsBuilder::default().name(full).build();
        let made = match self.engine().await?.create_container(Some(options), body).await {
            Err(error) if is_conflict(&error) => return Ok(None),
            made => made.map_err(|error| self.fail(&format!("creating {full}"), &error))?,
        };
        let seen = self.approve(&made.id, &made.warnings, &asked, strict, log).await?;
        Ok(Some(Found { id: made.id, seen }))
    }

    /// The request that creates it under this name in its network, and whether its body is the strict one.
    pub(super) async fn body(&self, order: &Order<'_>, name: &str) -> Result<(ContainerCreateBody, bool), Failure> {
        let Order { resource, container, needs, network, log } = *order;
        let id = &resource.id;
        let env = env_of(id)?;
        let (image, inspected) = self.image_for(container, needs, log).await?;
        let config = inspected.config.unwrap_or_default();
        let strict = container.of.trust.is_foreign() && !container.companion;
        let named = config.user.clone().unwrap_or_default();
        let is_root = matches!(named.as_str(), "" | "0" | "root" | "0:0" | "root:root");
        let user = if strict || (!container.tmp.is_empty() && !is_root) {
            Some(self.user(inspected.id.as_deref().unwrap_or(&image), &named).await?)
        } else {
            None
        };
        let endpoints = &self.settings().endpoints;
        let of = &container.of;
        let secrets = self.settings().secrets.of(&of.project, SecretClass::of(of.trust));
        if let Some(name) = container.secrets.keys().find(|name| !secrets.contains_key(*name)) {
            // It was set when the environment began. Once it is set again the start works.
            return Err(Failure::transient(format!("{} needs the secret {name}, which is not set any more", id.name)));
        }
        let (variables, command) =
            injected::resolve(&self.inner.key, env, id.generation, container, endpoints, &secrets)
                .map_err(|why| Failure::permanent(format!("{}: {why}", id.name)))?;
        let parts = Parts {
            settings: self.settings(),
            name,
            container,
            image: &image,
            config: &config,
            user,
            network,
            env: variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            command,
            labels: self.container_labels(resource, container, needs)?,
        };
        let mut body = parts.body();
        if let (Some(volume), Some(host)) = (&container.data, &mut body.host_config) {
            host.mounts = Some(vec![mount(volume, &config.volumes.clone().unwrap_or_default())?]);
        }
        Ok((body, strict))
    }

    /// Makes sure that the engine kept the settings that matter: a limit that silently is none must not run anything.
    /// Answers what the engine says of the container.
    async fn approve(
        &self,
        container: &str,
        warnings: &[String],
        asked: &HostConfig,
        strict: bool,
        log: &Log,
    ) -> Result<ContainerInspectResponse, Failure> {
        for warning in warnings {
            log.line(&format!("the engine warns: {warning}"));
        }
        let seen = self.engine().await?.inspect_container(container, None).await;
        let seen = seen.map_err(|error| self.fail("checking the container's settings", &error))?;
        let lost = differences(asked, seen.host_config.as_ref().unwrap_or(&HostConfig::default()));
        if lost.is_empty() && (warnings.is_empty() || !strict) {
            return Ok(seen);
        }
        self.delete(container).await?;
        let what = if lost.is_empty() { warnings.join("; ") } else { lost.join(", ") };
        Err(Failure::permanent(format!("the engine does not apply these settings, so nothing is started: {what}")))
    }

    fn container_labels(
        &self,
        resource: &Resource,
        container: &Container,
        needs: &Listing,
    ) -> Result<HashMap<String, String>, Failure> {
        let env = env_of(&resource.id)?;
        let mut all = labels::write(&self.inner.instance, resource, env, &container.of);
        if let ImageSource::Built(image) = &container.image {
            let tag = match &image.owner {
                Owner::Env(env) => format!("{env}-{}", image.name),
                _ => image.name.clone(),
            };
            let repository = names::image_repository(&self.inner.key, &container.of.project);
            all.insert(labels::IMAGE.to_owned(), format!("{repository}:{tag}"));
        }
        let database = needs.iter().find(|(id, _)| id.kind == Kind::Database);
        if let Some(baseline) = database.and_then(|(_, seen)| seen.outputs.baseline.clone()) {
            all.insert(labels::BASELINE.to_owned(), baseline);
        }
        if container.companion {
            all.insert(labels::COMPANION.to_owned(), "true".to_owned());
        }
        if container.data.is_some() {
            all.insert(labels::DATA.to_owned(), "yes".to_owned());
        }
        if let Some(digest) = planner::secrets::digest(&container.secrets) {
            all.insert(labels::SECRETS.to_owned(), digest);
        }
        Ok(all)
    }

    /// What to create from, and what the image says of itself. A companion's image is pulled if it is absent.
    async fn image_for(
        &self,
        container: &Container,
        needs: &Listing,
        log: &Log,
    ) -> Result<(String, ImageInspect), Failure> {
        let reference = match &container.image {
            ImageSource::Built(id) => needs
                .get(id)
                .and_then(|seen| seen.outputs.id.clone())
                .ok_or_else(|| Failure::transient("its image is not built yet"))?,
            ImageSource::Named(reference) => reference.clone(),
        };
        let engine = self.engine().await?;
        match engine.inspect_image(&reference).await {
            Ok(seen) => return Ok((reference, seen)),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(self.fail("looking at the image", &error)),
        }
        if matches!(container.image, ImageSource::Built(_)) {
            return Err(Failure::transient("its image is gone; it is built again"));
        }
        self.pull(&reference, log).await.map_err(|failure| match failure {
            // A companion's image is not on its way: somebody named one that there is not.
            Failure::Waiting { text } => Failure::transient(format!("the image is not there: {text}")),
            other => other,
        })?;
        let seen = engine.inspect_image(&reference).await;
        seen.map(|seen| (reference, seen)).map_err(|error| self.fail("looking at the image", &error))
    }
}
