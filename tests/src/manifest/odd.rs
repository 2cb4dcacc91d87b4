//! Odd manifests: none panics, escapes its caps, or comes to two resources of one name.

use std::collections::{BTreeMap, BTreeSet};

use planner::identity::{Ref, Trust};
use planner::manifest::Manifest;
use planner::resource::{Kind, Owner};
use planner::secrets::SecretClass;
use planner::spec::Spec;
use proptest::prelude::*;

use super::blueprints::{draw_of, judge, policy};
use super::parse;

/// Names that are likely to meet, at their bounds, reserved, or none at all.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        Just("api".to_owned()),
        Just("web".to_owned()),
        Just("release".to_owned()),
        Just("main".to_owned()),
        Just("a--b".to_owned()),
        "[a-z][a-z0-9-]{0,21}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"x\"".to_owned()),
        Just("[\"x\", \"${PORT}${TOKEN}\"]".to_owned()),
        Just("\"redis:7\"".to_owned()),
        Just("\"ghcr.io/a/b:{sha}\"".to_owned()),
        Just("{ context = \"api\" }".to_owned()),
        Just("{ image = \"b:{pr}\" }".to_owned()),
        Just("\"999t\"".to_owned()),
        Just("\"2g\"".to_owned()),
        Just("\"* * * * *\"".to_owned()),
        Just("8080".to_owned()),
        Just("0".to_owned()),
        Just("-1".to_owned()),
        Just("true".to_owned()),
        Just("\"${STAGING_URL_API}\"".to_owned()),
        Just("\"/tmp\"".to_owned()),
        "\"[a-z$\\{\\}/:.]{0,12}\"",
    ]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "command",
        "image",
        "build",
        "port",
        "memory",
        "data",
        "health",
        "schedule",
        "env",
        "context",
        "secrets",
        "public",
        "extensions",
        "timeout",
        "path",
        "name",
        "args",
        "nonsense",
    ])
}

fn table() -> impl Strategy<Value = String> {
    let head = prop::sample::select(vec![
        "process", "app", "service", "cron", "command", "build", "env", "release", "database", "objects", "tmp",
    ]);
    (head, name(), prop::collection::btree_map(key(), value(), 0..4)).prop_map(|(table, name, keys)| {
        let named = matches!(table, "process" | "app" | "service" | "cron" | "command");
        let mut text = if named { format!("[{table}.{name}]\n") } else { format!("[{table}]\n") };
        for (key, value) in keys {
            text += &format!("{key} = {value}\n");
        }
        text
    })
}

/// Tables that are right by themselves, with whatever names.
fn right_table() -> impl Strategy<Value = String> {
    let short = prop_oneof![Just("a".to_owned()), Just("api".to_owned()), Just("main".to_owned()), "[a-z]{1,10}"];
    let kind = 0..6usize;
    (kind, short).prop_map(|(kind, name)| match kind {
        0 => format!("[process.{name}]\ncommand = [\"x\", \"${{TOKEN}}\"]\n"),
        1 => format!("[app.{name}]\nport = 4000\n"),
        2 => format!("[app.{name}]\nbuild = {{ context = \"{name}\" }}\nmemory = \"64m\"\n"),
        3 => format!("[service.{name}]\nimage = \"redis:7\"\ndata = \"1g\"\nenv = {{ A = \"${{TOKEN}}\" }}\n"),
        4 => format!("[cron.{name}]\nschedule = \"* * * * *\"\ncommand = [\"x\"]\n"),
        _ => format!("[app.{name}]\nimage = \"ghcr.io/a/b:{{sha}}\"\n"),
    })
}

/// What must hold of every manifest that was accepted and allowed.
fn holds(text: &str, manifest: Manifest, trust: Trust) -> Result<(), TestCaseError> {
    let mut policy = policy();
    let versions = || BTreeMap::from([("TOKEN".to_owned(), "v".to_owned())]);
    let project = policy.projects.values_mut().next().unwrap();
    project.secrets = BTreeMap::from([(SecretClass::Trusted, versions()), (SecretClass::Foreign, versions())]);
    if judge(text, &policy, trust).is_err() {
        return Ok(());
    }
    let Ok(drawn) = draw_of(manifest, &policy, trust, &Ref::Pull(7)) else { return Ok(()) };
    let ids: BTreeSet<_> = drawn.parts.iter().map(|part| &part.id).collect();
    prop_assert_eq!(ids.len(), drawn.parts.len(), "two resources of one name");
    let named: Vec<_> = drawn.parts.iter().filter(|part| matches!(part.id.kind, Kind::Job | Kind::Container)).collect();
    let names: BTreeSet<_> = named.iter().map(|part| &part.id.name).collect();
    prop_assert_eq!(names.len(), named.len(), "two containers of one name");
    prop_assert!(named.len() <= 12, "web, release and ten more");
    for part in &drawn.parts {
        prop_assert!(part.needs.iter().all(|need| ids.contains(need)), "{} needs what is not made", part.id);
        prop_assert!(part.id.kind == Kind::Image || matches!(&part.id.owner, Owner::Env(_)));
        match &part.spec {
            Spec::Container(container) | Spec::Job(container) => {
                prop_assert!(container.memory <= policy.limits.memory && container.cpu <= policy.limits.cpu);
                prop_assert_eq!(container.of.trust, trust);
            }
            Spec::Volume { size, .. } => prop_assert!(*size <= policy.limits.disk),
            Spec::Image(build) => {
                prop_assert!(!trust.is_foreign() || build.secrets.is_empty() && build.no_cache);
            }
            Spec::Pulled(_) => prop_assert!(!trust.is_foreign(), "foreign code is built here"),
            _ => {}
        }
    }
    Ok(())
}

fn trust() -> impl Strategy<Value = Trust> {
    prop_oneof![Just(Trust::Trusted), Just(Trust::Approved)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn odd_tables_come_to_an_error_or_to_what_holds(
        tables in prop::collection::vec(prop_oneof![table(), right_table()], 0..8),
        trust in trust(),
    ) {
        let text = tables.concat();
        match parse(&text) {
            Err(error) => prop_assert!(!error.contains('\n') && error.starts_with(".sidestage.toml"), "{error:?}"),
            Ok(manifest) => holds(&text, manifest, trust)?,
        }
    }

    #[test]
    fn right_tables_with_whatever_names_hold(
        tables in prop::collection::vec(right_table(), 0..12),
        trust in trust(),
    ) {
        let text = tables.concat();
        if let Ok(manifest) = parse(&text) {
            holds(&text, manifest, trust)?;
        }
    }

    #[test]
    fn a_valid_manifest_with_a_wound_comes_to_an_error_or_to_what_holds(
        at in 0usize..2000,
        length in 0usize..12,
        with in "[a-z0-9\"=\\[\\]{}$.\n-]{0,6}",
        trust in trust(),
    ) {
        let from = at.min(VALID.len());
        let to = (from + length).min(VALID.len());
        let text = format!("{}{with}{}", &VALID[..from], &VALID[to..]);
        match parse(&text) {
            Err(error) => prop_assert!(!error.contains('\n'), "{error:?}"),
            Ok(manifest) => holds(&text, manifest, trust)?,
        }
    }
}

#[test]
fn the_valid_one_is_allowed_and_holds() {
    let manifest = parse(VALID).unwrap();
    assert_eq!(manifest.apps.len(), 2);
    holds(VALID, manifest, Trust::Trusted).unwrap();
}

const VALID: &str = r#"port = 3000
health = "/up"
memory = "256m"
tmp = { "/app/tmp" = "64m" }
[build]
target = "production"
args = { HOST = "${STAGING_URL_API}" }
[database]
extensions = ["hstore"]
[objects]
public = ["static/"]
[release]
command = ["bin/migrate"]
[process.web]
command = ["bin/web", "${TOKEN}"]
[process.worker]
command = ["bin/worker"]
memory = "64m"
[app.api]
build = { context = "api" }
port = 4000
[app.docs]
image = "ghcr.io/acme/docs:pr-{pr}"
[service.cache]
image = "redis:7"
port = 6379
data = "1g"
[cron.close]
schedule = "*/5 * * * *"
command = ["bin/close"]
[command.seed]
command = ["bin/seed"]
[[link]]
name = "Admin"
path = "/admin"
note = "admin / ${PASSWORD}"
[env]
PASSWORD = "${random:12}"
URL = "${STAGING_URL}"
"#;
