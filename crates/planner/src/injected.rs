//! The variables that a container gets: injected ones by name, then its `[env]`, filled in at the moment of creation.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{EnvId, InstanceKey};
use crate::interpolate::{Piece, Random, fill, pieces};
use crate::manifest::{Link, Manifest};
use crate::names;
use crate::spec::Container;

/// Names that every process of an application gets.
pub const GENERAL: [&str; 9] = [
    "PORT",
    "STAGING",
    "STAGING_URL",
    "STAGING_HOST",
    "STAGING_ALIAS_URL",
    "STAGING_DOMAIN",
    "STAGING_SHA",
    "STAGING_PR",
    "STAGING_BRANCH",
];
/// Names that come with a database.
pub const DATABASE: [&str; 6] = ["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"];
/// Names that come with a bucket.
pub const OBJECTS: [&str; 7] = [
    "S3_BUCKET",
    "S3_PREFIX",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];
/// Names that are promised and not there yet.
pub const LATER: [&str; 2] = ["SMTP_HOST", "SMTP_PORT"];

/// The name of the variable that holds the address of a further application: `STAGING_URL_<APP>`.
#[must_use]
pub fn app_url(app: &str) -> String {
    format!("STAGING_URL_{}", app.to_ascii_uppercase().replace('-', "_"))
}

/// Whether a name is ours to give. What is not, in a template, is a secret of the project.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let known = GENERAL.iter().chain(&DATABASE).chain(&OBJECTS).chain(&LATER).any(|known| *known == name);
    known || is_reserved(name)
}

/// Whether nobody else may set a variable of this name, be it a manifest or a secret.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name == "PORT" || name == "STAGING" || name.starts_with("STAGING_")
}

/// The injected variable that a name may be a slip of, and how many letters apart they are.
fn near(name: &str) -> Option<(usize, &'static str)> {
    let all = GENERAL.iter().chain(&DATABASE).chain(&OBJECTS).copied();
    let apart = |known: &'static str| (strsim::osa_distance(&name.to_uppercase(), known), known);
    all.map(apart).filter(|(apart, known)| *apart <= 1.max(known.len() / 4)).min()
}

/// The injected variable that a name may be a slip of.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    near(name).map(|(_, known)| known)
}

/// The injected variable that a name is a slip of: a letter too many, too few, wrong, or two swapped.
#[must_use]
pub fn slip(name: &str) -> Option<&'static str> {
    near(name).filter(|(apart, _)| *apart <= 1).map(|(_, known)| known)
}

/// The secrets of the project that templates name.
pub fn secrets<'a>(templates: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    let names = templates.flat_map(|template| pieces(template).unwrap_or_default()).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        _ => None,
    });
    names.filter(|name| !is_ours(name)).collect()
}

/// The host by which containers know the database server.
pub const DATABASE_HOST: &str = "data.internal";
/// The region that clients of the object store are told. With us-east-1 some presign in the old version 2.
pub const REGION: &str = "staging";

/// What the driver knows at creation and no spec holds: where services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The domain, no port.
    pub domain: String,
    /// Scheme and authority of the bare domain, the S3 endpoint: `http://staging.localhost:8080`.
    pub objects: String,
    /// Port of PostgreSQL on `data.internal`.
    pub database_port: u16,
}

/// Environment and arguments of one container, with passwords in them: for the engine's eyes only.
pub type Resolved = (BTreeMap<String, String>, Option<Vec<String>>);

/// Fills in what one container gets.
///
/// Later wins: injected, secrets, `[env]`. Of `secrets`, the values that there are now, it gets those that its spec names.
/// A companion's templates see the same values, and it gets its own `env` and nothing else.
///
/// # Errors
/// One line naming the variable that cannot be filled.
pub fn resolve(
    key: &InstanceKey,
    env: &EnvId,
    generation: u32,
    container: &Container,
    endpoints: &Endpoints,
    secrets: &BTreeMap<String, String>,
) -> Result<Resolved, String> {
    let mut values = container.injected.clone();
    if container.database {
        values.extend(database(key, env, generation, endpoints));
    }
    if container.bucket {
        values.extend(bucket(key, env, generation, endpoints));
    }
    for name in container.secrets.keys() {
        let value = secrets.get(name).ok_or_else(|| format!("the secret {name} was taken away in between"))?;
        values.insert(name.clone(), value.clone());
    }
    let filled = |variable: &str, template: &str| {
        let random = Random { key, env, variable };
        fill(template, &values, Some(random)).map_err(|error| format!("{variable} cannot be filled: {error}"))
    };
    let own = container.env.iter().map(|(name, template)| Ok((name.clone(), filled(name, template)?)));
    let own = own.collect::<Result<Vec<_>, String>>()?;
    let command = container.command.as_ref().map(|words| {
        // No variable can be called so: a random part of a command is fixed by its place.
        words.iter().enumerate().map(|(at, word)| filled(&format!("command[{at}]"), word)).collect()
    });
    let command = command.transpose()?;
    let mut variables = if container.companion { BTreeMap::new() } else { values };
    variables.extend(own);
    Ok((variables, command))
}

fn database(key: &InstanceKey, env: &EnvId, generation: u32, endpoints: &Endpoints) -> [(String, String); 6] {
    let name = names::database(env, generation);
    let password = names::database_password(key, env, generation);
    let port = endpoints.database_port.to_string();
    let url = format!("postgresql://{name}:{password}@{DATABASE_HOST}:{port}/{name}");
    let values = [url, DATABASE_HOST.to_owned(), port, name.clone(), password, name];
    named(DATABASE, values)
}

fn bucket(key: &InstanceKey, env: &EnvId, generation: u32, endpoints: &Endpoints) -> [(String, String); 7] {
    let (id, secret) = names::bucket_keys(key, env, generation);
    let (bucket, region) = (names::bucket(env), REGION.to_owned());
    // The prefix is empty: the bucket is the environment's own.
    named(OBJECTS, [bucket, String::new(), endpoints.objects.clone(), id, secret, region.clone(), region])
}

fn named<const N: usize>(names: [&str; N], values: [String; N]) -> [(String, String); N] {
    let mut values = values.into_iter();
    names.map(|name| (name.to_owned(), values.next().unwrap_or_default()))
}

/// Whether one of these templates names a variable of the list, such as [`DATABASE`]: what a companion depends on.
pub fn uses<'a>(mut templates: impl Iterator<Item = &'a String>, names: &[&str]) -> bool {
    templates.any(|template| {
        pieces(template)
            .is_ok_and(|pieces| pieces.iter().any(|piece| matches!(piece, Piece::Name(name) if names.contains(name))))
    })
}

/// The note of a link as people may read it: entries of `[env]` made of random parts only, by the manifest's rules.
#[must_use]
pub fn note(key: &InstanceKey, env: &EnvId, manifest: &Manifest, link: &Link) -> Option<String> {
    let template = link.note.as_ref()?;
    let nothing = BTreeMap::new();
    let shown = manifest.env.iter().filter_map(|(variable, template)| {
        Some((variable.clone(), fill(template, &nothing, Some(Random { key, env, variable })).ok()?))
    });
    fill(template, &shown.collect(), None).ok()
}
