//! What one generation of an environment is made of: the manifest, spelled out as resources.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Source;
use crate::facts::{Begun, EnvRow, Facts};
use crate::fingerprint::{digest, fingerprint, of_image};
use crate::identity::{EnvId, Ref};
use crate::injected::{DATABASE, DATABASE_HOST, OBJECTS, uses};
use crate::interpolate::fill;
use crate::manifest::{Manifest, Service};
use crate::policy::{Policy, ProjectPolicy};
use crate::resource::{Backend, Kind, Owner, Resource, ResourceId, Run};
use crate::spec::{Build, Canonical, Container, Health, ImageSource, Origin, Spec};
use crate::standing::Standing;
use crate::{hosts, names};

/// How long one build may take.
const BUILD: Duration = Duration::from_secs(15 * 60);
/// How long making a network, a database or a bucket may take; removals and rests too.
pub const BRIEF: Duration = Duration::from_secs(60);
/// What creating a container may take on top of its own start.
const MARGIN: Duration = Duration::from_secs(30);

/// A generation: its resources, all wanted running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// What it consists of, as it is wanted until the generation has been ready: a container waits for companions and release.
    pub parts: Vec<Resource>,
    /// Where the web process listens.
    pub port: u16,
}

impl Blueprint {
    /// The parts of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        self.parts.iter().filter(move |part| part.id.kind == kind)
    }

    /// Database, bucket and volumes: made once, never again under the same generation.
    pub fn data(&self) -> impl Iterator<Item = &Resource> {
        self.parts.iter().filter(|part| is_data(part.id.kind))
    }

    /// The container that visitors reach.
    #[must_use]
    pub fn web(&self) -> Option<&Resource> {
        self.of(Kind::Container).find(|part| part.id.name == "web")
    }
}

/// Databases, buckets and volumes.
#[must_use]
pub fn is_data(kind: Kind) -> bool {
    matches!(kind, Kind::Database | Kind::Bucket | Kind::Volume)
}

/// Addresses and names of one commit, as its code and its visitors know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `<sha>.<domain>`, no port.
    pub host: String,
    /// With scheme and port.
    pub url: String,
    /// The alias of the ref first seen, in full.
    pub alias_url: String,
    /// Number of the pull request first seen; empty for branches.
    pub pull: String,
    /// Name of the branch first seen; empty for pull requests.
    pub branch: String,
}

/// What the manifest of a commit comes to for one generation. What the operator allows was judged when it was begun;
/// limits that were lowered since apply to containers created from now on.
///
/// # Errors
/// What is wrong with the manifest: one line.
pub fn blueprint(
    facts: &Facts,
    policy: &Policy,
    of: &Origin,
    begun: &Begun,
    source: &Source,
    address: &Address,
) -> Result<Blueprint, String> {
    let manifest = source.manifest.as_ref().map_err(Clone::clone)?;
    let env = facts.ids.get(&(of.project.clone(), of.sha)).map(|ids| ids.at(of.trust).clone());
    let env = env.ok_or("the commit is not known")?;
    let draft = Draft { policy, of, begun, manifest, address, env };
    let image = draft.image(&names::image_repository(&facts.key, &of.project), source)?;
    Ok(Blueprint { parts: draft.parts(image), port: manifest.port })
}

/// Whether the operator allows what the manifest asks for.
///
/// # Errors
/// One line: what is asked for, what is allowed.
pub fn allowed(manifest: &Manifest, policy: &Policy, project: &ProjectPolicy) -> Result<(), String> {
    let limit = policy.limits.memory;
    let processes = manifest.processes.iter().map(|(name, process)| (format!("process.{name}.memory"), process.memory));
    let services = manifest.services.iter().map(|(name, service)| (format!("service.{name}.memory"), service.memory));
    let web = [("memory".to_owned(), manifest.memory)];
    for (key, memory) in web.into_iter().chain(processes).chain(services) {
        if let Some(asked) = memory.filter(|asked| *asked > limit) {
            let (asked, limit) = (crate::units::show_size(asked), crate::units::show_size(limit));
            return Err(format!("{key} = {asked} is above the operator's limit of {limit}; ask for less"));
        }
    }
    for (name, service) in &manifest.services {
        if !project.images.contains(&service.image) {
            let image = &service.image;
            return Err(format!("service.{name}: the image {image} is not on the operator's list `images`"));
        }
    }
    for baseline in [&manifest.database, &manifest.objects].into_iter().flatten() {
        if baseline != "default" && !project.baselines.contains(baseline) {
            return Err(format!("the baseline {baseline} is not on the operator's list `baselines`"));
        }
    }
    Ok(())
}

struct Draft<'a> {
    policy: &'a Policy,
    of: &'a Origin,
    begun: &'a Begun,
    manifest: &'a Manifest,
    address: &'a Address,
    env: EnvId,
}

impl Draft<'_> {
    fn id(&self, backend: Backend, kind: Kind, name: &str) -> ResourceId {
        let (owner, generation) = (Owner::Env(self.env.clone()), self.begun.generation);
        ResourceId { backend, owner, generation, kind, name: name.to_owned() }
    }

    /// Same tree, same recipe, same trust is one build. A rebuild is another recipe; foreign images are shared with nobody.
    fn image(&self, repository: &str, source: &Source) -> Result<Resource, String> {
        let recipe = &self.manifest.build;
        let values = self.injected();
        let args = recipe.args.iter().map(|(name, template)| {
            let value = fill(template, &values, None).map_err(|error| format!("build.args.{name}: {error}"))?;
            Ok((name.clone(), value))
        });
        let args = args.collect::<Result<BTreeMap<_, _>, String>>()?;
        let mut parts = vec![recipe.dockerfile.clone(), recipe.context.clone()];
        parts.push(recipe.target.clone().unwrap_or_default());
        parts.extend(args.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        if self.begun.rebuilt > 0 {
            parts.extend([self.env.to_string(), self.begun.rebuilt.to_string()]);
        }
        let recipe_hash = digest(&parts, 12);
        let foreign = self.of.trust.is_foreign();
        let (owner, name, tag) = if foreign {
            let tag = format!("{}-{recipe_hash}", self.env);
            (Owner::Env(self.env.clone()), recipe_hash, tag)
        } else {
            let name = format!("{}-{recipe_hash}", &source.tree.to_string()[..12]);
            (Owner::Project(self.of.project.clone(), self.of.trust), name.clone(), name)
        };
        let tag = format!("{repository}:{tag}");
        let spec = Spec::Image(Build {
            of: self.of.clone(),
            tag: tag.clone(),
            dockerfile: recipe.dockerfile.clone(),
            context: recipe.context.clone(),
            target: recipe.target.clone(),
            args,
            secrets: Vec::new(),
            no_cache: foreign || self.begun.rebuilt > 0,
        });
        let id = ResourceId { backend: Backend::Engine, owner, generation: 0, kind: Kind::Image, name };
        Ok(Resource { id, spec, run: Run::Running, needs: Vec::new(), deadline: BUILD, fingerprint: of_image(&tag) })
    }

    fn parts(&self, image: Resource) -> Vec<Resource> {
        let network =
            self.part(Backend::Engine, Kind::Network, "main", Spec::Network(self.of.clone()), Vec::new(), None);
        let mut parts = vec![network];
        if self.manifest.database.is_some() {
            let spec = Spec::Database {
                of: self.of.clone(),
                baseline: self.begun.baseline.clone(),
                extensions: self.manifest.extensions.clone(),
            };
            parts.push(self.part(Backend::Postgres, Kind::Database, "main", spec, Vec::new(), None));
        }
        if self.manifest.objects.is_some() {
            let spec = Spec::Bucket {
                of: self.of.clone(),
                baseline: self.begun.baseline.clone(),
                public: self.manifest.public.clone(),
            };
            parts.push(self.part(Backend::Objects, Kind::Bucket, "main", spec, Vec::new(), None));
        }
        let network: Vec<ResourceId> = parts.iter().take(1).map(|part| part.id.clone()).collect();
        let services: Vec<Resource> =
            self.manifest.services.iter().map(|(name, service)| self.service(name, service, &network)).collect();
        let mut needs: Vec<ResourceId> = parts.iter().map(|part| part.id.clone()).collect();
        needs.push(image.id.clone());
        needs.extend(services.iter().map(|service| service.id.clone()));
        parts.extend(services);
        if let Some(release) = &self.manifest.release {
            let mut job = self.container(&image.id, Some(release.command.clone()), None);
            job.start_timeout = release.timeout;
            let job = self.part(Backend::Engine, Kind::Job, "release", Spec::Job(job), needs.clone(), Some(&image.id));
            needs.push(job.id.clone());
            parts.push(job);
        }
        let mut web = self.container(&image.id, self.manifest.command.clone(), self.manifest.memory);
        web.port = Some(self.manifest.port);
        web.health = self.manifest.health.clone();
        let mut containers = vec![("web", web)];
        for (name, process) in &self.manifest.processes {
            let container = self.container(&image.id, Some(process.command.clone()), process.memory);
            containers.push((name, container));
        }
        for (name, container) in containers {
            let spec = Spec::Container(container);
            parts.push(self.part(Backend::Engine, Kind::Container, name, spec, needs.clone(), Some(&image.id)));
        }
        parts.push(image);
        parts
    }

    fn part(
        &self,
        backend: Backend,
        kind: Kind,
        name: &str,
        spec: Spec,
        needs: Vec<ResourceId>,
        image: Option<&ResourceId>,
    ) -> Resource {
        let id = self.id(backend, kind, name);
        let (image, baseline) = match &spec {
            Spec::Database { baseline, .. } | Spec::Bucket { baseline, .. } => (None, Some(baseline.as_str())),
            Spec::Container(Container { image: ImageSource::Named(image), .. }) => (Some(image.as_str()), None),
            _ => (image.map(|image| image.name.as_str()), None),
        };
        let fingerprint = fingerprint(&id, self.of, image, baseline);
        let deadline = match &spec {
            Spec::Job(container) | Spec::Container(container) => container.start_timeout + MARGIN,
            _ => BRIEF,
        };
        Resource { id, spec, run: Run::Running, needs, deadline, fingerprint }
    }

    fn container(&self, image: &ResourceId, command: Option<Vec<String>>, memory: Option<u64>) -> Container {
        let (database, bucket) = (self.manifest.database.is_some(), self.manifest.objects.is_some());
        Container {
            of: self.of.clone(),
            image: ImageSource::Built(image.clone()),
            companion: false,
            command,
            env: self.manifest.env.clone(),
            injected: self.injected(),
            secrets: BTreeMap::new(),
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
            canonical: Some(Canonical {
                host: self.address.host.clone(),
                authority: self.policy.authority(&self.address.host),
                scheme: self.policy.scheme.clone(),
            }),
        }
    }

    /// A companion gets what its own `env` and command name, and nothing else.
    fn service(&self, name: &str, service: &Service, network: &[ResourceId]) -> Resource {
        let templates = || service.env.values().chain(service.command.iter().flatten());
        let (database, bucket) = (uses(templates(), &DATABASE), uses(templates(), &OBJECTS));
        let container = Container {
            of: self.of.clone(),
            image: ImageSource::Named(service.image.clone()),
            companion: true,
            command: service.command.clone(),
            env: service.env.clone(),
            injected: self.injected(),
            secrets: BTreeMap::new(),
            database,
            bucket,
            port: service.port,
            health: service.health.clone(),
            start_timeout: self.manifest.start_timeout,
            memory: self.memory(service.memory),
            cpu: self.policy.limits.cpu,
            tmp: BTreeMap::new(),
            data: None,
            hosts: self.hosts(database, bucket),
            canonical: None,
        };
        let mut needs = network.to_vec();
        if database {
            needs.push(self.id(Backend::Postgres, Kind::Database, "main"));
        }
        if bucket {
            needs.push(self.id(Backend::Objects, Kind::Bucket, "main"));
        }
        self.part(Backend::Engine, Kind::Container, name, Spec::Container(container), needs, None)
    }

    fn memory(&self, asked: Option<u64>) -> u64 {
        asked.unwrap_or(u64::MAX).min(self.policy.limits.memory)
    }

    /// The names that containers find in their hosts file.
    fn hosts(&self, database: bool, bucket: bool) -> Vec<String> {
        let domain = &self.policy.domain;
        let mut hosts = vec![self.address.host.clone()];
        if database {
            hosts.push(DATABASE_HOST.to_owned());
        }
        if bucket {
            hosts.extend([domain.clone(), format!("{}.{domain}", names::bucket(&self.env))]);
        }
        hosts
    }

    fn injected(&self) -> BTreeMap<String, String> {
        let values = [
            ("PORT", self.manifest.port.to_string()),
            ("STAGING", "true".to_owned()),
            ("STAGING_URL", self.address.url.clone()),
            ("STAGING_HOST", self.address.host.clone()),
            ("STAGING_ALIAS_URL", self.address.alias_url.clone()),
            ("STAGING_DOMAIN", self.policy.domain.clone()),
            ("STAGING_SHA", self.of.sha.to_string()),
            ("STAGING_PR", self.address.pull.clone()),
            ("STAGING_BRANCH", self.address.branch.clone()),
        ];
        values.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// The address of a commit; `first` is the first seen of the open refs that have it, with its alias label.
#[must_use]
pub fn address(policy: &Policy, of: &Origin, first: Option<(&Ref, &str)>) -> Address {
    let suffix = policy.projects.get(&of.project).map_or("", |project| &project.suffix);
    let host = hosts::canonical(&of.sha, suffix, &policy.domain);
    let alias_url =
        first.map(|(_, label)| policy.url(&hosts::alias(label, suffix, &policy.domain))).unwrap_or_default();
    let (pull, branch) = match first {
        Some((Ref::Pull(number), _)) => (number.to_string(), String::new()),
        Some((Ref::Branch(name) | Ref::Tag(name), _)) => (String::new(), name.clone()),
        None => Default::default(),
    };
    Address { url: policy.url(&host), host, alias_url, pull, branch }
}

/// The blueprints of all generations that are wanted. They follow from facts that never change for a generation, so
/// each is drawn once.
#[derive(Debug, Default)]
pub struct Blueprints {
    drawn: BTreeMap<EnvId, Vec<Drawn>>,
}

#[derive(Debug)]
struct Drawn {
    generation: u32,
    blueprint: Result<Blueprint, String>,
}

impl Blueprints {
    /// Draws what is missing and drops what is not wanted any more.
    pub fn refresh(&mut self, standing: &Standing<'_>) {
        let facts = standing.facts;
        self.drawn.retain(|env, _| facts.envs.get(env).is_some_and(EnvRow::is_live));
        for (id, row) in facts.envs.iter().filter(|(_, row)| row.is_live()) {
            let ready = row.ready.as_ref().map(|ready| &ready.begun);
            let begun: Vec<&Begun> = ready.into_iter().chain(&row.begun).collect();
            let drawn = self.drawn.entry(id.clone()).or_default();
            drawn.retain(|drawn| begun.iter().any(|begun| begun.generation == drawn.generation));
            for begun in begun {
                if drawn.iter().any(|drawn| drawn.generation == begun.generation) {
                    continue;
                }
                if let Some(source) = facts.sources.get(&(row.of.project.clone(), row.of.sha)) {
                    let address = standing.address(&row.of);
                    let blueprint = blueprint(facts, standing.policy, &row.of, begun, source, &address);
                    drawn.push(Drawn { generation: begun.generation, blueprint });
                }
            }
        }
    }

    /// Whether all wanted generations of a live environment could be drawn. If not, everything of it is left alone.
    #[must_use]
    pub fn are_drawn(&self, env: &EnvId, row: &EnvRow) -> bool {
        let generations = row.serving().into_iter().chain(row.coming());
        generations.into_iter().all(|generation| self.get(env, generation).is_ok())
    }

    /// What this generation consists of; the error is why it cannot be made.
    ///
    /// # Errors
    /// What the policy refuses now, or that the commit has not been read.
    pub fn get(&self, env: &EnvId, generation: u32) -> Result<&Blueprint, &str> {
        let drawn = self.drawn.get(env).and_then(|all| all.iter().find(|drawn| drawn.generation == generation));
        drawn.map_or(Err("the commit has not been read"), |drawn| drawn.blueprint.as_ref().map_err(String::as_str))
    }
}
