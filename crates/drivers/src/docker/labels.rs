//! What we write on containers and networks, and how a listing reads it back.
//!
//! Only `create` writes `sidestage.kind`, and no image carries it: a container that a person starts from one of our
//! images inherits that image's labels, and would otherwise look like ours.

use std::collections::HashMap;

use planner::identity::{EnvId, ProjectName, Sha, Trust};
use planner::resource::{Backend, Fingerprint, Kind, Owner, Resource, ResourceId};
use planner::spec::Origin;

pub(super) const INSTANCE: &str = "sidestage.instance";
pub(super) const PROJECT: &str = "sidestage.project";
pub(super) const ENV: &str = "sidestage.env";
pub(super) const GENERATION: &str = "sidestage.generation";
pub(super) const KIND: &str = "sidestage.kind";
pub(super) const NAME: &str = "sidestage.name";
pub(super) const SHA: &str = "sidestage.sha";
pub(super) const TRUST: &str = "sidestage.trust";
pub(super) const FINGERPRINT: &str = "sidestage.fingerprint";
pub(super) const BASELINE: &str = "sidestage.baseline";
/// Tag of the image that a container was made from, when we built it: what it uses.
pub(super) const IMAGE: &str = "sidestage.image";
/// A companion has a volume of its name.
pub(super) const DATA: &str = "sidestage.data";
/// Digest of the secrets' versions that a container was created with.
pub(super) const SECRETS: &str = "sidestage.secrets";

/// Whether it is a companion, whose image the operator chose.
pub(super) const COMPANION: &str = "sidestage.companion";

/// Kind of the short-lived containers that are only looked into. Never listed as anything.
pub(super) const PROBE: &str = "probe";
/// Kind of what a person runs once inside an environment. Never listed as anything.
pub(super) const RUN: &str = "run";

/// What the labels of a container or network say.
pub(super) struct Ours {
    pub(super) id: ResourceId,
    pub(super) fingerprint: Fingerprint,
    pub(super) commit: Option<(ProjectName, Sha, Trust)>,
    pub(super) baseline: Option<String>,
    pub(super) image: Option<String>,
    pub(super) secrets: Option<String>,
    pub(super) companion: bool,
    pub(super) data: bool,
}

/// Labels of a thing that belongs to an environment.
pub(super) fn write(instance: &str, resource: &Resource, env: &EnvId, of: &Origin) -> HashMap<String, String> {
    let id = &resource.id;
    [
        (INSTANCE, instance.to_owned()),
        (PROJECT, of.project.to_string()),
        (ENV, env.to_string()),
        (GENERATION, id.generation.to_string()),
        (KIND, id.kind.as_str().to_owned()),
        (NAME, id.name.clone()),
        (SHA, of.sha.to_string()),
        (TRUST, of.trust.to_string()),
        (FINGERPRINT, resource.fingerprint.0.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Reads labels back; none unless all say that it is ours.
pub(super) fn read(instance: &str, labels: &HashMap<String, String>) -> Option<Ours> {
    let get = |key: &str| labels.get(key).map(String::as_str);
    if get(INSTANCE)? != instance {
        return None;
    }
    let kind = [Kind::Network, Kind::Volume, Kind::Job, Kind::Container]
        .into_iter()
        .find(|kind| Some(kind.as_str()) == get(KIND))?;
    let id = ResourceId {
        backend: Backend::Engine,
        owner: Owner::Env(get(ENV)?.parse().ok()?),
        generation: get(GENERATION)?.parse().ok()?,
        kind,
        name: get(NAME)?.to_owned(),
    };
    Some(Ours {
        id,
        fingerprint: Fingerprint(get(FINGERPRINT).unwrap_or_default().to_owned()),
        commit: commit(labels),
        baseline: get(BASELINE).map(str::to_owned),
        image: get(IMAGE).map(str::to_owned),
        secrets: get(SECRETS).map(str::to_owned),
        companion: get(COMPANION).is_some(),
        data: get(DATA).is_some(),
    })
}

/// The commit that labels name.
pub(super) fn commit(labels: &HashMap<String, String>) -> Option<(ProjectName, Sha, Trust)> {
    let get = |key: &str| labels.get(key);
    Some((get(PROJECT)?.parse().ok()?, get(SHA)?.parse().ok()?, get(TRUST)?.parse().ok()?))
}

/// The engine's filter for things that have these labels, `key` or `key=value`.
pub(super) fn filter(labels: impl IntoIterator<Item = String>) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.into_iter().collect())])
}
