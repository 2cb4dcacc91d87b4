//! Whether the operator allows what a manifest asks for, and has set what it needs.

use crate::facts::EMPTY_NAME;
use crate::identity::ProjectName;
use crate::injected;
use crate::manifest::Manifest;
use crate::policy::{Policy, ProjectPolicy};
use crate::secrets::SecretClass;
use crate::spec::Origin;
use crate::units::show_size;

/// Whether the operator allows what the manifest asks for, and has set the secrets that it names.
///
/// # Errors
/// One line: what is asked for, what is allowed, what to do.
pub fn allowed(manifest: &Manifest, policy: &Policy, project: &ProjectPolicy, of: &Origin) -> Result<(), String> {
    sizes(manifest, policy)?;
    for (name, service) in &manifest.services {
        if !project.images.contains(&service.image) {
            let image = &service.image;
            return Err(format!("service.{name}: the image {image} is not on the operator's list `images`"));
        }
    }
    // Foreign code gets what the operator has set aside for it, whatever it names.
    let named = [&manifest.database, &manifest.objects].into_iter().flatten();
    for baseline in named.filter(|_| !of.trust.is_foreign()) {
        may_name(project, baseline)?;
    }
    if let Some(name) = manifest.extensions.iter().find(|name| !policy.extensions.contains(*name)) {
        return Err(format!("database.extensions: {name} is not on the operator's list `[database] extensions`"));
    }
    if !manifest.public.is_empty() && !policy.objects_public {
        return Err("objects.public: the operator allows no public objects (`[objects] public = false`)".to_owned());
    }
    hosts(manifest, policy, project)?;
    secrets(manifest, project, of)
}

/// Whether manifests and people of a project may name this baseline. Nothing is granted by the empty one.
///
/// # Errors
/// One line: which list it is not on.
pub fn may_name(project: &ProjectPolicy, baseline: &str) -> Result<(), String> {
    if baseline == EMPTY_NAME || project.baselines.contains(baseline) {
        return Ok(());
    }
    Err(format!("the baseline {baseline} is not on the operator's list `baselines`"))
}

/// Memory and data within the operator's limits.
fn sizes(manifest: &Manifest, policy: &Policy) -> Result<(), String> {
    let memory = [("memory".to_owned(), manifest.memory)].into_iter();
    let memory = memory
        .chain(manifest.processes.iter().map(|(name, process)| (format!("process.{name}.memory"), process.memory)))
        .chain(manifest.apps.iter().map(|(name, app)| (format!("app.{name}.memory"), app.memory)))
        .chain(manifest.services.iter().map(|(name, service)| (format!("service.{name}.memory"), service.memory)));
    let data = manifest.services.iter().map(|(name, service)| (format!("service.{name}.data"), service.data));
    let bounded =
        memory.map(|asked| (asked, policy.limits.memory)).chain(data.map(|asked| (asked, policy.limits.disk)));
    for ((key, asked), limit) in bounded {
        if let Some(asked) = asked.filter(|asked| *asked > limit) {
            let (asked, limit) = (show_size(asked), show_size(limit));
            return Err(format!("{key} = {asked} is above the operator's limit of {limit}; ask for less"));
        }
    }
    Ok(())
}

/// An application of a project without suffix would take the hosts of the project that has its name as suffix.
fn hosts(manifest: &Manifest, policy: &Policy, project: &ProjectPolicy) -> Result<(), String> {
    if !project.suffix.is_empty() {
        return Ok(());
    }
    let taken = |name: &String| policy.projects.iter().find(|(_, other)| other.suffix == *name);
    match manifest.apps.keys().find_map(|name| Some((name, taken(name)?.0))) {
        Some((name, other)) => Err(format!(
            "app.{name}: its hosts would be those of the project {other}, whose suffix is {name}; rename it"
        )),
        None => Ok(()),
    }
}

/// Every secret that the manifest names is set for this class of code. Foreign builds get none, so they need none.
fn secrets(manifest: &Manifest, project: &ProjectPolicy, of: &Origin) -> Result<(), String> {
    let class = SecretClass::of(of.trust);
    let set = project.secrets.get(&class);
    let missing = |name: &&str| set.is_none_or(|set| !set.contains_key(*name));
    let builds = manifest.build_secrets().into_iter().filter(|_| class == SecretClass::Trusted);
    match manifest.named_secrets().into_iter().chain(builds).find(missing) {
        Some(name) => Err(not_set(&of.project, class, name)),
        None => Ok(()),
    }
}

/// What to do about a secret that is not set; a name that looks like an injected one may be a slip.
fn not_set(project: &ProjectName, class: SecretClass, name: &str) -> String {
    let class = class.as_str();
    let slip = injected::nearest(name).map(|near| format!(", unless `${{{near}}}` is meant")).unwrap_or_default();
    format!(
        "secret {name} is not set for {class} code of `{project}`; set it with `sidestage secret set {project} {name} --for {class}`{slip}"
    )
}
