//! Interpolation and injected variables: what a container gets, and what it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use planner::identity::Trust;
use planner::injected::{self, Endpoints};
use planner::interpolate::{Random, fill};
use planner::spec::{Container, Health, ImageSource, Origin};

use super::{ENV, env, key, parse};

#[test]
fn templates_are_filled_once_and_only_once() {
    let values = BTreeMap::from([
        ("A".to_owned(), "${B}".to_owned()),
        ("B".to_owned(), "b".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    for (template, filled) in [
        ("", ""),
        ("plain $HOME $1 $$ {x}", "plain $HOME $1 $$ {x}"),
        ("${B}", "b"),
        ("x${B}y${B}z", "xbybz"),
        ("${A}", "${B}"),
        ("${EMPTY}", ""),
        ("$${B}", "${B}"),
        ("$$${B}", "$${B}"),
        ("$${${B}", "${b"),
        ("ü${B}ü", "übü"),
    ] {
        assert_eq!(fill(template, &values, None).unwrap(), filled, "of {template:?}");
    }
    for template in [
        "${C}",
        "${}",
        "${ B}",
        "${B",
        "${${B}}",
        "${B-x}",
        "${B:?x}",
        "${1}",
        "${random}",
        "${random:}",
        "${random:8}",
        "${env:B}",
    ] {
        fill(template, &values, None).unwrap_err();
    }
}

#[test]
fn random_parts_are_fixed_by_environment_and_variable() {
    let filled = |byte: u8, name: &str, variable: &str, template: &str| {
        let (key, env) = (key(byte), env(name));
        fill(template, &BTreeMap::new(), Some(Random { key: &key, env: &env, variable })).unwrap()
    };
    let first = filled(1, ENV, "A", "${random:12}");
    assert_eq!(first.len(), 12);
    assert!(first.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(first, filled(1, ENV, "A", "${random:12}"));
    assert_ne!(first, filled(2, ENV, "A", "${random:12}"), "another instance");
    assert_ne!(first, filled(1, "abcdefghijklmnoq", "A", "${random:12}"), "another environment");
    assert_ne!(first, filled(1, ENV, "B", "${random:12}"), "another variable");
    let twice = filled(1, ENV, "A", "${random:12}${random:12}");
    assert_ne!(twice[..12], twice[12..], "another part");
    let long = filled(1, ENV, "A", "${random:1023}");
    assert_eq!(long.len(), 1023);
    assert_ne!(long[..64], long[64..128], "blocks differ");
    let base64 = filled(1, ENV, "A", "base64:${random_base64:32}");
    assert_eq!((base64.len(), base64.ends_with('=')), ("base64:".len() + 44, true));
}

fn container(companion: bool, env: &[(&str, &str)]) -> Container {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Container {
        of: Origin { project: "shop".parse().unwrap(), sha: "a".repeat(40).parse().unwrap(), trust: Trust::Trusted },
        image: ImageSource::Named("x".to_owned()),
        companion,
        command: Some(vec!["run".to_owned(), "${PGDATABASE}".to_owned()]),
        env: env.iter().map(owned).collect(),
        injected: [("PORT", "8080"), ("STAGING", "true")].iter().map(owned).collect(),
        secrets: BTreeMap::new(),
        database: true,
        bucket: true,
        port: None,
        health: Health::Alive,
        start_timeout: Duration::from_secs(1),
        memory: 0,
        cpu: 0,
        tmp: BTreeMap::new(),
        data: None,
        hosts: Vec::new(),
        canonical: None,
    }
}

fn resolve(generation: u32, container: &Container) -> Result<injected::Resolved, String> {
    resolve_with(generation, container, &[])
}

fn resolve_with(
    generation: u32,
    container: &Container,
    secrets: &[(&str, &str)],
) -> Result<injected::Resolved, String> {
    let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let endpoints = Endpoints {
        domain: "staging.test".to_owned(),
        objects: "http://staging.test:8080".to_owned(),
        database_port: 5433,
    };
    injected::resolve(&key(1), &env(ENV), generation, container, &endpoints, &secrets)
}

#[test]
fn a_process_gets_its_data_and_its_env_wins() {
    let (variables, command) =
        resolve(3, &container(false, &[("PGHOST", "elsewhere"), ("BUCKET", "${S3_BUCKET}!")])).unwrap();
    let expected = ["PORT", "STAGING", "BUCKET"].into_iter().chain(injected::DATABASE).chain(injected::OBJECTS);
    let mut expected: Vec<_> = expected.collect();
    expected.sort_unstable();
    assert_eq!(variables.keys().collect::<Vec<_>>(), expected);
    let value = |name: &str| variables[name].as_str();
    let password = value("PGPASSWORD");
    assert_eq!(password.len(), 32);
    let url = format!("postgresql://sst_{ENV}_3:{password}@data.internal:5433/sst_{ENV}_3");
    assert_eq!(value("DATABASE_URL"), url);
    assert_eq!(value("PGHOST"), "elsewhere");
    assert_eq!((value("PGPORT"), value("PGDATABASE")), ("5433", &*format!("sst_{ENV}_3")));
    assert_eq!(value("BUCKET"), format!("s3-{ENV}!"));
    assert_eq!((value("S3_PREFIX"), value("AWS_REGION")), ("", "staging"));
    assert_eq!(value("AWS_ENDPOINT_URL_S3"), "http://staging.test:8080");
    assert_eq!(command.unwrap(), ["run".to_owned(), format!("sst_{ENV}_3")]);
    let (next, _) = resolve(4, &container(false, &[])).unwrap();
    for secret in ["PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        assert_ne!(next[secret], variables[secret], "{secret} of another generation");
    }
}

#[test]
fn without_a_database_or_a_bucket_there_are_no_variables_of_theirs() {
    let bare = Container { database: false, bucket: false, command: None, ..container(false, &[]) };
    let (variables, command) = resolve(1, &bare).unwrap();
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["PORT", "STAGING"]);
    assert_eq!(command, None);
    let asks = Container { env: container(false, &[("A", "${PGHOST}")]).env, ..bare };
    assert_eq!(resolve(1, &asks).unwrap_err(), "A cannot be filled: `${PGHOST}`: there is no such variable");
}

#[test]
fn a_companion_gets_its_own_variables_only() {
    let companion = container(true, &[("URI", "${DATABASE_URL}"), ("MODE", "x")]);
    let (variables, _) = resolve(1, &companion).unwrap();
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["MODE", "URI"]);
    assert!(variables["URI"].starts_with("postgresql://"));
    assert!(injected::uses(companion.env.values(), &injected::DATABASE));
    assert!(!injected::uses(companion.env.values(), &injected::OBJECTS));
}

#[test]
fn the_note_of_a_link_shows_what_the_application_got() {
    let manifest = parse(
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"admin / ${PASSWORD}\"\n[env]\nPASSWORD = \"${random:12}\"\nURL = \"${DATABASE_URL}\"",
    )
    .unwrap();
    let note = injected::note(&key(1), &env(ENV), &manifest, &manifest.links[0]).unwrap();
    let web = Container { env: manifest.env.clone(), ..container(false, &[]) };
    let (variables, _) = resolve(1, &web).unwrap();
    assert_eq!(note, format!("admin / {}", variables["PASSWORD"]));
}

#[test]
fn secrets_come_between_what_is_injected_and_env() {
    let versions = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "v1".to_owned())).collect();
    let process = Container {
        secrets: versions(&["TOKEN", "PGHOST", "MODE"]),
        ..container(false, &[("MODE", "mine"), ("HEADER", "Bearer ${TOKEN}")])
    };
    let set = [("TOKEN", "${PGUSER}s3cret"), ("PGHOST", "elsewhere"), ("MODE", "theirs"), ("OTHER", "not named")];
    let (variables, _) = resolve_with(1, &process, &set).unwrap();
    assert_eq!(variables["TOKEN"], "${PGUSER}s3cret", "values are data");
    assert_eq!(variables["HEADER"], "Bearer ${PGUSER}s3cret");
    assert_eq!((&*variables["PGHOST"], &*variables["MODE"]), ("elsewhere", "mine"));
    assert!(!variables.contains_key("OTHER"), "only what the spec names");
    let companion = Container { secrets: versions(&["TOKEN"]), ..container(true, &[("PASSWORD", "${TOKEN}")]) };
    let (variables, _) = resolve_with(1, &companion, &set).unwrap();
    assert_eq!(variables.into_keys().collect::<Vec<_>>(), ["PASSWORD"]);
    let why = resolve_with(1, &process, &[("TOKEN", "x")]).unwrap_err();
    assert!(why.contains("MODE was taken away"), "{why}");
}
