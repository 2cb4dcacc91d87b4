//! Names of outside things. All derived, so that a listing alone tells what a thing is and nothing need be remembered.

use crate::identity::{EnvId, InstanceKey, ProjectName};

/// Container `sst-<env>-<g>-<name>`; jobs likewise.
#[must_use]
pub fn container(env: &EnvId, generation: u32, name: &str) -> String {
    format!("sst-{env}-{generation}-{name}")
}

/// Network of a generation, `sst-<env>-<g>`.
#[must_use]
pub fn network(env: &EnvId, generation: u32) -> String {
    format!("sst-{env}-{generation}")
}

/// Database and role of a generation, `sst_<env>_<g>`.
#[must_use]
pub fn database(env: &EnvId, generation: u32) -> String {
    format!("sst_{env}_{generation}")
}

/// Environment and generation of a database's name, if it has the form of ours.
#[must_use]
pub fn parse_database(name: &str) -> Option<(EnvId, u32)> {
    let (env, generation) = name.strip_prefix("sst_")?.split_once('_')?;
    Some((env.parse().ok()?, generation.parse().ok()?))
}

/// The bucket of an environment, `s3-<env>`: one name for all generations.
#[must_use]
pub fn bucket(env: &EnvId) -> String {
    format!("s3-{env}")
}

/// Repository of a project's images, `sst-<instance>/<project>`.
#[must_use]
pub fn image_repository(key: &InstanceKey, project: &ProjectName) -> String {
    format!("sst-{}/{project}", key.instance())
}

/// The three characters that begin the names of this instance's network interfaces, after `st`.
#[must_use]
pub fn interface_prefix(key: &InstanceKey) -> String {
    format!("st{}", &key.instance()[..3])
}

/// Bridge of a generation's network: at most 15 characters, `st<3 of instance><10 of HMAC>`.
#[must_use]
pub fn bridge(key: &InstanceKey, env: &EnvId, generation: u32) -> String {
    let tail = key.name("bridge", &[env.as_str(), &generation.to_string()], 10);
    format!("{}{tail}", interface_prefix(key))
}

/// The bridge that carries the service address, `st<3 of instance>svc`.
#[must_use]
pub fn service_bridge(key: &InstanceKey) -> String {
    format!("{}svc", interface_prefix(key))
}

/// Password of a generation's database role.
#[must_use]
pub fn database_password(key: &InstanceKey, env: &EnvId, generation: u32) -> String {
    key.password("database", &[env.as_str(), &generation.to_string()])
}

/// Access key id and secret of a generation's bucket.
#[must_use]
pub fn bucket_keys(key: &InstanceKey, env: &EnvId, generation: u32) -> (String, String) {
    let generation = generation.to_string();
    let id = key.name("s3 access", &[env.as_str(), &generation], 20).to_ascii_uppercase();
    (id, key.name("s3 secret", &[env.as_str(), &generation], 40))
}
