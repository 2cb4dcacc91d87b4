//! What one generation of an environment is made of: the manifest, spelled out as resources.

mod address;
mod allowed;
mod baseline;
mod draft;
mod drawn;
mod image;
mod process;

use std::time::Duration;

use crate::event::Source;
use crate::facts::{Begun, Facts};
use crate::policy::Policy;
use crate::resource::{Kind, Resource, ResourceId};
use crate::spec::{Container, ImageSource, Origin, Spec};

pub use address::{Address, address, app_hosts};
pub use allowed::{allowed, may_name};
pub use baseline::copying;
pub use drawn::{Blueprints, DrawnVersion};

/// How long making a network, a database or a bucket may take; removals and rests too.
pub const BRIEF: Duration = Duration::from_secs(60);

/// The name of the container that the canonical host leads to.
pub const WEB: &str = "web";

/// A generation: its resources, all wanted running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// What it consists of, as it is wanted until the generation has been ready: a container waits for companions and release.
    pub parts: Vec<Resource>,
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

    /// The container of this name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Resource> {
        self.of(Kind::Container).find(|part| part.id.name == name)
    }

    /// The image of a container, if it is one of ours.
    #[must_use]
    pub fn image_of(&self, container: &str) -> Option<&ResourceId> {
        match &self.container(container)?.spec {
            Spec::Container(Container { image: ImageSource::Built(image), .. }) => Some(image),
            _ => None,
        }
    }

    /// Containers that have an image of their own, beside that of the web process.
    pub fn builds_of_apps(&self) -> impl Iterator<Item = &str> {
        let main = self.image_of(WEB);
        let names = self.of(Kind::Container).map(|part| part.id.name.as_str());
        names.filter(move |name| self.image_of(name).is_some_and(|image| Some(image) != main))
    }

    /// Whose log this is: a container's or job's by its name, `build`, or `build-<app>` of an image of its own.
    #[must_use]
    pub fn log(&self, name: &str) -> Option<&ResourceId> {
        let process = |part: &&Resource| matches!(part.id.kind, Kind::Job | Kind::Container) && part.id.name == name;
        let build = || self.image_of(if name == "build" { WEB } else { name.strip_prefix("build-")? });
        self.parts.iter().find(process).map(|part| &part.id).or_else(build)
    }

    /// The container that visitors of the canonical host reach.
    #[must_use]
    pub fn web(&self) -> Option<&Resource> {
        self.container(WEB)
    }
}

/// Databases, buckets and volumes.
#[must_use]
pub fn is_data(kind: Kind) -> bool {
    matches!(kind, Kind::Database | Kind::Bucket | Kind::Volume)
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
    let draft = draft::Draft {
        key: &facts.key,
        baselines: &facts.baselines,
        policy,
        of,
        begun,
        source,
        manifest,
        address,
        env,
    };
    Ok(Blueprint { parts: draft.parts()? })
}
