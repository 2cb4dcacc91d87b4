//! The parts of a generation, and what each needs.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::time::Duration;

use super::BRIEF;
use super::address::Address;
use super::baseline::copying;
use crate::event::Source;
use crate::facts::{BaselineRow, Begun, EMPTY, parse_version};
use crate::fingerprint::fingerprint;
use crate::identity::{EnvId, InstanceKey};
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::resource::{Backend, Kind, Owner, Resource, ResourceId, Run};
use crate::spec::{Container, DataFrom, ImageSource, Origin, Spec};

/// What creating a container may take on top of its own start.
const MARGIN: Duration = Duration::from_secs(30);

/// Everything that a generation's parts follow from.
pub(super) struct Draft<'a> {
    pub(super) key: &'a InstanceKey,
    pub(super) baselines: &'a BTreeMap<String, BaselineRow>,
    pub(super) policy: &'a Policy,
    pub(super) of: &'a Origin,
    pub(super) begun: &'a Begun,
    pub(super) source: &'a Source,
    pub(super) manifest: &'a Manifest,
    pub(super) address: &'a Address,
    pub(super) env: EnvId,
}

impl Draft<'_> {
    /// Network and data, then companions, the release when companions are up, then everything else.
    pub(super) fn parts(&self) -> Result<Vec<Resource>, String> {
        let (main, images) = self.images()?;
        let network = self.network();
        let data = self.data();
        let volumes = self.volumes();
        let services: Vec<Resource> = self.services(&network.id);
        let ids = |parts: &[Resource]| parts.iter().map(|part| part.id.clone()).collect::<Vec<_>>();
        let mut needs = vec![network.id.clone()];
        needs.extend(ids(&data));
        let mut rest = ids(&services);
        // The release runs in the image of the web process, before anything else of the application starts.
        let release = self.release(&main, &[&needs[..], from_ref(&main), &rest].concat());
        rest.extend(release.iter().map(|job| job.id.clone()));
        let processes = self.processes(&main, &images, |image| [&needs[..], from_ref(image), &rest].concat());
        let parts = [network].into_iter().chain(data).chain(volumes).chain(services).chain(release).chain(processes);
        Ok(parts.chain(images.into_parts()).collect())
    }

    fn network(&self) -> Resource {
        self.part(Backend::Engine, Kind::Network, "main", Spec::Network(self.of.clone()), Vec::new())
    }

    fn data(&self) -> Vec<Resource> {
        let (of, begun) = (self.of.clone(), self.begun);
        let mut data = Vec::new();
        if self.manifest.database.is_some() {
            let (from, needs) = self.origin(Backend::Postgres, Kind::Database, &begun.baseline);
            let spec = Spec::Database { of: of.clone(), from, extensions: self.manifest.extensions.clone() };
            data.push(self.part(Backend::Postgres, Kind::Database, "main", spec, needs));
        }
        if self.manifest.objects.is_some() {
            let (from, needs) = self.origin(Backend::Objects, Kind::Bucket, begun.objects());
            let spec = Spec::Bucket { of, from, public: self.manifest.public.clone() };
            data.push(self.part(Backend::Objects, Kind::Bucket, "main", spec, needs));
        }
        data
    }

    /// Where a part's data begin, and what must be there for it: what is copied, and the objects of the baseline that a
    /// bucket goes on reading.
    fn origin(&self, backend: Backend, kind: Kind, baseline: &str) -> (DataFrom, Vec<ResourceId>) {
        let database = kind == Kind::Database;
        let of_baseline = if database { ResourceId::template(baseline) } else { ResourceId::snapshot(baseline) };
        let (baseline, mut needs) = (baseline.to_owned(), Vec::new());
        let carried = self.begun.carried.as_ref().filter(|from| if database { from.database } else { from.objects });
        if baseline != EMPTY && (carried.is_none() || !database) {
            needs.push(of_baseline);
        }
        let Some(carried) = carried else { return (DataFrom::Baseline(baseline), needs) };
        let (owner, generation) = (Owner::Env(carried.env.clone()), carried.generation);
        let from = ResourceId { backend, owner, generation, kind, name: "main".to_owned() };
        needs.push(from.clone());
        (DataFrom::Carry { from, baseline }, needs)
    }

    /// How long making a part's data may take.
    fn copying(&self, from: &DataFrom, database: bool) -> Duration {
        match from {
            DataFrom::Baseline(version) if version == EMPTY => BRIEF,
            DataFrom::Baseline(version) => {
                let known = parse_version(version).and_then(|(name, number)| {
                    let size = self.baselines.get(name)?.versions.get(&number)?.size;
                    if database { size.database } else { size.objects }
                });
                copying(known)
            }
            DataFrom::Carry { .. } => copying(None),
        }
    }

    /// Data of companions.
    fn volumes(&self) -> Vec<Resource> {
        let sized = self.manifest.services.iter().filter_map(|(name, service)| Some((name, service.data?)));
        let volume = |(name, asked): (&String, u64)| {
            let size = asked.min(self.policy.limits.disk);
            self.part(Backend::Engine, Kind::Volume, name, Spec::Volume { of: self.of.clone(), size }, Vec::new())
        };
        sized.map(volume).collect()
    }

    pub(super) fn id(&self, backend: Backend, kind: Kind, name: &str) -> ResourceId {
        let (owner, generation) = (Owner::Env(self.env.clone()), self.begun.generation);
        ResourceId { backend, owner, generation, kind, name: name.to_owned() }
    }

    /// A part of this generation, with what was asked for as its fingerprint.
    pub(super) fn part(
        &self,
        backend: Backend,
        kind: Kind,
        name: &str,
        spec: Spec,
        needs: Vec<ResourceId>,
    ) -> Resource {
        let id = self.id(backend, kind, name);
        let (image, baseline) = match &spec {
            Spec::Database { from, .. } | Spec::Bucket { from, .. } => (None, Some(from.baseline())),
            Spec::Job(Container { image, .. }) | Spec::Container(Container { image, .. }) => match image {
                ImageSource::Built(image) => (Some(image.name.as_str()), None),
                ImageSource::Named(image) => (Some(image.as_str()), None),
            },
            _ => (None, None),
        };
        let fingerprint = fingerprint(&id, self.of, image, baseline);
        let deadline = match &spec {
            Spec::Job(container) | Spec::Container(container) => container.start_timeout + MARGIN,
            Spec::Database { from, .. } => self.copying(from, true),
            Spec::Bucket { from, .. } => self.copying(from, false),
            _ => BRIEF,
        };
        Resource { id, spec, run: Run::Running, needs, deadline, fingerprint }
    }
}

/// Values of names, owned.
pub(super) fn owned<const N: usize>(values: [(&str, String); N]) -> BTreeMap<String, String> {
    values.map(|(name, value)| (name.to_owned(), value)).into()
}
