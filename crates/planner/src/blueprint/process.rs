//! Containers and jobs of a generation, and what they are told.

use std::collections::BTreeMap;

use super::WEB;
use super::address::{app_hosts, canonical};
use super::draft::{Draft, owned};
use super::image::Images;
use crate::injected::{self, DATABASE, DATABASE_HOST, OBJECTS, uses};
use crate::manifest::{App, Service};
use crate::names;
use crate::resource::{Backend, Kind, Resource, ResourceId};
use crate::secrets::{SecretClass, Versions};
use crate::spec::{Container, Health, ImageSource, Spec};

impl Draft<'_> {
    /// The release command, which must exit with 0 before the application starts.
    pub(super) fn release(&self, image: &ResourceId, needs: &[ResourceId]) -> Option<Resource> {
        let release = self.manifest.release.as_ref()?;
        let mut job = self.container(image, Some(release.command.clone()), None);
        job.start_timeout = release.timeout;
        Some(self.part(Backend::Engine, Kind::Job, "release", Spec::Job(job), needs.to_vec()))
    }

    /// The web process, the others of its image, and further applications.
    pub(super) fn processes(
        &self,
        main: &ResourceId,
        images: &Images,
        needs: impl Fn(&ResourceId) -> Vec<ResourceId>,
    ) -> Vec<Resource> {
        let mut web = self.container(main, self.manifest.command.clone(), self.manifest.memory);
        web.port = Some(self.manifest.port);
        web.health = self.manifest.health.clone();
        let mut containers = vec![(WEB, web, main)];
        for (name, process) in &self.manifest.processes {
            let container = self.container(main, Some(process.command.clone()), process.memory);
            containers.push((name, container, main));
        }
        let hosts = app_hosts(self.policy, self.of, self.manifest.apps.keys());
        for (name, app) in &self.manifest.apps {
            let image = images.of_app(name).unwrap_or(main);
            let host = hosts.get(name.as_str()).map_or("", String::as_str);
            containers.push((name, self.app(app, image, host), image));
        }
        let part = |(name, container, image): (&str, Container, &ResourceId)| {
            self.part(Backend::Engine, Kind::Container, name, Spec::Container(container), needs(image))
        };
        containers.into_iter().map(part).collect()
    }

    /// An application on a host of its own.
    fn app(&self, app: &App, image: &ResourceId, host: &str) -> Container {
        Container {
            injected: self.injected(app.port),
            port: Some(app.port),
            health: app.health.clone(),
            canonical: Some(canonical(self.policy, host)),
            ..self.container(image, app.command.clone(), app.memory)
        }
    }

    fn container(&self, image: &ResourceId, command: Option<Vec<String>>, memory: Option<u64>) -> Container {
        let (database, bucket) = (self.manifest.database.is_some(), self.manifest.objects.is_some());
        Container {
            of: self.of.clone(),
            image: ImageSource::Built(image.clone()),
            companion: false,
            command,
            env: self.manifest.env.clone(),
            injected: self.injected(self.manifest.port),
            secrets: self.secrets(),
            database,
            bucket,
            port: None,
            health: Health::Alive,
            start_timeout: self.manifest.start_timeout,
            memory: self.memory(memory),
            cpu: self.policy.limits.cpu,
            tmp: self.manifest.tmp.clone(),
            data: None,
            hosts: self.hosts(database, bucket),
            canonical: Some(canonical(self.policy, &self.address.host)),
        }
    }

    /// Companions. They come up side by side, each with the data that it names.
    pub(super) fn services(&self, network: &ResourceId) -> Vec<Resource> {
        self.manifest.services.iter().map(|(name, service)| self.service(name, service, network)).collect()
    }

    /// A companion gets what its own `env` and command name, and nothing else.
    fn service(&self, name: &str, service: &Service, network: &ResourceId) -> Resource {
        let templates = || service.env.values().chain(service.command.iter().flatten());
        let (database, bucket) = (uses(templates(), &DATABASE), uses(templates(), &OBJECTS));
        let named = injected::secrets(templates());
        let data = service.data.map(|_| self.id(Backend::Engine, Kind::Volume, name));
        let mut needs = vec![network.clone()];
        needs.extend(database.then(|| self.id(Backend::Postgres, Kind::Database, "main")));
        needs.extend(bucket.then(|| self.id(Backend::Objects, Kind::Bucket, "main")));
        needs.extend(data.clone());
        let container = Container {
            of: self.of.clone(),
            image: ImageSource::Named(service.image.clone()),
            companion: true,
            command: service.command.clone(),
            env: service.env.clone(),
            injected: self.injected(self.manifest.port),
            secrets: self.secrets().into_iter().filter(|(name, _)| named.contains(name.as_str())).collect(),
            database,
            bucket,
            port: service.port,
            health: service.health.clone(),
            start_timeout: self.manifest.start_timeout,
            memory: self.memory(service.memory),
            cpu: self.policy.limits.cpu,
            tmp: BTreeMap::new(),
            data,
            hosts: self.hosts(database, bucket),
            canonical: None,
        };
        self.part(Backend::Engine, Kind::Container, name, Spec::Container(container), needs)
    }

    fn memory(&self, asked: Option<u64>) -> u64 {
        asked.unwrap_or(u64::MAX).min(self.policy.limits.memory)
    }

    /// All that are set for this class of code, and those that the manifest names: one that was taken away since is an
    /// error of the start, which says so.
    fn secrets(&self) -> Versions {
        let project = self.policy.projects.get(&self.of.project);
        let set = project.and_then(|project| project.secrets.get(&SecretClass::of(self.of.trust)));
        let mut secrets: Versions =
            self.manifest.named_secrets().into_iter().map(|name| (name.to_owned(), String::new())).collect();
        secrets.extend(set.into_iter().flatten().map(|(name, version)| (name.clone(), version.clone())));
        secrets
    }

    /// The names that containers find in their hosts file.
    fn hosts(&self, database: bool, bucket: bool) -> Vec<String> {
        let domain = &self.policy.domain;
        let mut hosts = vec![self.address.host.clone()];
        hosts.extend(app_hosts(self.policy, self.of, self.manifest.apps.keys()).into_values());
        if database {
            hosts.push(DATABASE_HOST.to_owned());
        }
        if bucket {
            hosts.extend([domain.clone(), format!("{}.{domain}", names::bucket(&self.env))]);
        }
        hosts
    }

    /// What is known of the environment, for a process that listens on this port.
    pub(super) fn injected(&self, port: u16) -> BTreeMap<String, String> {
        let mut values = owned([
            ("PORT", port.to_string()),
            ("STAGING", "true".to_owned()),
            ("STAGING_URL", self.address.url.clone()),
            ("STAGING_HOST", self.address.host.clone()),
            ("STAGING_ALIAS_URL", self.address.alias_url.clone()),
            ("STAGING_DOMAIN", self.policy.domain.clone()),
            ("STAGING_SHA", self.of.sha.to_string()),
            ("STAGING_PR", self.address.pull.clone()),
            ("STAGING_BRANCH", self.address.branch.clone()),
        ]);
        let hosts = app_hosts(self.policy, self.of, self.manifest.apps.keys());
        values.extend(hosts.into_iter().map(|(name, host)| (injected::app_url(name), self.policy.url(&host))));
        values
    }
}
