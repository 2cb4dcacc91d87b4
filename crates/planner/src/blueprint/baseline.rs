//! What a baseline's version is made of: a template, a snapshot, and clones that are made ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::BRIEF;
use crate::facts::{BaselineRow, EMPTY_NAME, Facts, Version, version_name};
use crate::fingerprint::of_baseline;
use crate::identity::Time;
use crate::policy::{Policy, StageMode};
use crate::resource::{Resource, ResourceId, Run};
use crate::spec::{DatabaseFrom, ObjectsFrom, Spec};

/// How long a dump may take to be loaded, or a bucket to be read.
const LOADING: Duration = Duration::from_secs(24 * 3600);
/// Bytes that a copy makes of a second at least.
const PACE: u64 = 20 << 20;
/// How long a copy of what nobody has measured may take.
const UNMEASURED: Duration = Duration::from_secs(30 * 60);

/// How long a copy of so many bytes may take.
#[must_use]
pub fn copying(bytes: Option<u64>) -> Duration {
    bytes.map_or(UNMEASURED, |bytes| BRIEF + Duration::from_secs(bytes / PACE))
}

/// Template and snapshot of a version; none of one that was found and whose recipe nobody knows.
pub(super) fn parts(row: &BaselineRow, number: u32, version: &Version) -> Vec<Resource> {
    let Some(recipe) = &version.recipe else { return Vec::new() };
    let name = version_name(&row.name, number);
    let (mask, extensions) = (recipe.mask.clone(), recipe.extensions.clone());
    let database = match &recipe.database {
        DatabaseFrom::Env(id) => vec![id.clone()],
        _ => Vec::new(),
    };
    let objects = match &recipe.objects {
        ObjectsFrom::Env(id) => vec![id.clone()],
        _ => Vec::new(),
    };
    let template = Spec::Template { from: recipe.database.clone(), mask, extensions };
    vec![
        part(ResourceId::template(&name), template, database, LOADING),
        part(ResourceId::snapshot(&name), Spec::Snapshot(recipe.objects.clone()), objects, LOADING),
    ]
}

fn part(id: ResourceId, spec: Spec, needs: Vec<ResourceId>, deadline: Duration) -> Resource {
    let extensions = match &spec {
        Spec::Spare { extensions } => extensions.clone(),
        _ => BTreeSet::new(),
    };
    let fingerprint = of_baseline(&id, &extensions);
    Resource { id, spec, run: Run::Running, needs, deadline, fingerprint }
}

/// Clones made ahead: so many for each current version that is not empty and that a project uses, while all of them
/// together fit into the disk that they may take.
pub(super) fn spares(facts: &Facts, policy: &Policy) -> Vec<Resource> {
    let current = facts.baselines.values().filter_map(|row| {
        let number = row.current?;
        let version = row.versions.get(&number).filter(|version| version.is_sealed() && version.has_database())?;
        Some((row, number, version))
    });
    let hot: Vec<(&BaselineRow, u32, &Version)> = current.collect();
    if hot.is_empty() || policy.spares.count == 0 {
        return Vec::new();
    }
    let users = users(facts, policy);
    let (mut spares, mut taken) = (Vec::new(), 0u64);
    for place in 1..=policy.spares.count {
        for (row, number, version) in &hot {
            let Some((_, extensions)) = users.get(row.name.as_str()) else { continue };
            let bytes = version.size.database.unwrap_or(0);
            if taken.saturating_add(bytes) > policy.spares.disk {
                continue;
            }
            taken += bytes;
            let name = version_name(&row.name, *number);
            let id = ResourceId::spare(&name, format!("spare-{place}"));
            let extensions = (*extensions).clone();
            let deadline = copying(version.size.database);
            spares.push(part(id, Spec::Spare { extensions }, vec![ResourceId::template(&name)], deadline));
        }
    }
    spares
}

/// Baselines whose databases projects that stage use, each with the extensions that the newest commit wants.
fn users<'a>(facts: &'a Facts, policy: &'a Policy) -> BTreeMap<&'a str, (Time, &'a BTreeSet<String>)> {
    let mut users: BTreeMap<&str, (Time, &BTreeSet<String>)> = BTreeMap::new();
    for row in facts.refs.values().filter(|row| row.is_open() && !facts.taken_out.contains(&row.project)) {
        let Some(project) = policy.projects.get(&row.project).filter(|project| project.stage != StageMode::Off) else {
            continue;
        };
        let Some(head) = row.head() else { continue };
        let source = facts.sources.get(&(row.project.clone(), head.sha));
        let Some(manifest) = source.and_then(|source| source.manifest.as_ref().ok()) else { continue };
        let Some(name) = &manifest.database else { continue };
        if row.foreign && !project.forks {
            continue;
        }
        let name = if row.foreign { project.fork_baseline.as_str() } else { name.as_str() };
        let newer = users.get(name).is_none_or(|(at, _)| *at < head.at);
        if name != EMPTY_NAME && newer {
            users.insert(name, (head.at, &manifest.extensions));
        }
    }
    users
}
