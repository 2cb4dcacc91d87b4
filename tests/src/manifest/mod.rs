//! The manifest: what is accepted, what is refused, what containers get, and what a generation comes to.
#![allow(clippy::unwrap_used)]

mod blueprints;
mod lives;
mod odd;
mod refused;
mod templates;

use std::collections::BTreeMap;
use std::time::Duration;

use planner::identity::{EnvId, InstanceKey};
use planner::interpolate::fill;
use planner::manifest::Manifest;
use planner::spec::Health;
use planner::units;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse(Some(text.as_bytes()))
}

#[test]
fn no_file_an_empty_file_and_the_defaults_are_the_same() {
    assert_eq!(Manifest::parse(None).unwrap(), Manifest::default());
    assert_eq!(parse("").unwrap(), Manifest::default());
    let defaults = parse(
        r#"
        port = 8080
        start_timeout = "2m"
        [build]
        dockerfile = "Dockerfile"
        context = "."
        [database]
        baseline = "default"
        [objects]
        baseline = "default"
        "#,
    );
    assert_eq!(defaults.unwrap(), Manifest::default());
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let manifest = parse(
        r#"
        port = 3000
        command = ["bin/web", "${STAGING_HOST}"]
        health = "/healthz?deep=1"
        start_timeout = "90s"
        memory = "1g"
        tmp = { "/app/tmp/" = "64m" }
        [build]
        dockerfile = "./docker//Dockerfile"
        context = "./api/"
        target = "production"
        args = { NODE_ENV = "staging", COMMIT = "${STAGING_SHA}", PORT = "3000" }
        [database]
        baseline = false
        [objects]
        baseline = "demo-shop"
        [release]
        command = ["bin/migrate"]
        timeout = "15m"
        [process.worker]
        command = ["bin/worker"]
        memory = "256m"
        [service.cache]
        image = "redis:7"
        command = ["redis-server"]
        env = { MODE = "${STAGING_SHA}" }
        port = 6379
        memory = "64m"
        [service.search]
        image = "search:1"
        port = 9200
        health = "/_health"
        [service.mute]
        image = "mute:1"
        data = "2g"
        [app.api]
        build = { context = "api", secrets = ["NPM_TOKEN"] }
        port = 4000
        [app.docs]
        image = "ghcr.io/acme/docs:sha-{short_sha}"
        health = "/up"
        command = ["serve", "${STAGING_URL_API}"]
        [cron.close]
        schedule = "*/5 * * * *"
        command = ["bin/close", "${CLOSER}"]
        [[link]]
        name = "Admin"
        path = "/admin"
        note = "admin@example.com / ${ADMIN_PASSWORD}"
        [[link]]
        name = "Shop"
        path = "/"
        [env]
        SITE_URL = "${STAGING_URL}"
        BUCKET = "${S3_BUCKET}"
        ADMIN_PASSWORD = "${random:12}"
        "discovery.type" = "single-node"
        "#,
    )
    .unwrap();
    assert_eq!(manifest.port, 3000);
    assert_eq!(manifest.command.clone().unwrap(), ["bin/web", "${STAGING_HOST}"]);
    assert_eq!(manifest.health, Health::Path("/healthz?deep=1".to_owned()));
    assert_eq!(manifest.start_timeout, Duration::from_secs(90));
    assert_eq!(manifest.memory, Some(1 << 30));
    assert_eq!(manifest.tmp, BTreeMap::from([("/app/tmp".to_owned(), 64 << 20)]));
    assert_eq!(manifest.build.dockerfile, "docker/Dockerfile");
    assert_eq!(manifest.build.context, "api");
    assert_eq!(manifest.build.target.as_deref(), Some("production"));
    assert_eq!(manifest.build.args["COMMIT"], "${STAGING_SHA}");
    assert_eq!((manifest.database.clone(), manifest.objects.as_deref()), (None, Some("demo-shop")));
    let release = manifest.release.clone().unwrap();
    assert_eq!((release.command, release.timeout), (vec!["bin/migrate".to_owned()], Duration::from_secs(900)));
    assert_eq!(manifest.processes["worker"].memory, Some(256 << 20));
    assert_eq!(manifest.services["cache"].health, Health::Port);
    assert_eq!(manifest.services["search"].health, Health::Path("/_health".to_owned()));
    assert_eq!(manifest.services["mute"].health, Health::Alive);
    assert_eq!(manifest.services["mute"].data, Some(2 << 30));
    let (api, docs) = (&manifest.apps["api"], &manifest.apps["docs"]);
    assert_eq!(
        (api.port, &api.health, docs.port, &docs.health),
        (4000, &Health::Port, 8080, &Health::Path("/up".into()))
    );
    let recipe = |app: &planner::manifest::App| app.build.clone().unwrap();
    assert_eq!((recipe(api).context.as_str(), recipe(api).image), ("api", None));
    assert_eq!(recipe(docs).image.as_deref(), Some("ghcr.io/acme/docs:sha-{short_sha}"));
    assert_eq!(manifest.crons["close"].schedule, "*/5 * * * *");
    assert_eq!(manifest.named_secrets().into_iter().collect::<Vec<_>>(), ["CLOSER"]);
    assert_eq!(manifest.build_secrets().into_iter().collect::<Vec<_>>(), ["NPM_TOKEN"]);
    assert_eq!(manifest.links.iter().map(|link| &*link.name).collect::<Vec<_>>(), ["Admin", "Shop"]);
    assert_eq!(manifest.env.len(), 4);
}

#[test]
fn commands_for_people_stand_beside_a_web_process_by_name() {
    let manifest = parse(
        r#"
        [process.web]
        command = ["bin/web"]
        memory = "1g"
        [process.worker]
        command = ["bin/worker"]
        [command.sample-data]
        command = ["bin/sample-data", "${SEED}"]
        [database]
        carry = false
        extensions = ["pg_stat_statements", "uuid-ossp"]
        [objects]
        public = ["static/", "fonts/"]
        "#,
    )
    .unwrap();
    assert_eq!((manifest.command.clone().unwrap(), manifest.memory), (vec!["bin/web".to_owned()], Some(1 << 30)));
    assert_eq!(manifest.processes.keys().collect::<Vec<_>>(), ["worker"]);
    assert_eq!(manifest.commands["sample-data"], ["bin/sample-data", "${SEED}"]);
    assert_eq!(manifest.named_secrets().into_iter().collect::<Vec<_>>(), ["SEED"]);
    assert_eq!(manifest.extensions.iter().collect::<Vec<_>>(), ["pg_stat_statements", "uuid-ossp"]);
    assert_eq!(manifest.public, ["static/", "fonts/"]);
}

#[test]
fn a_schedule_that_comes_once_in_years_is_one() {
    for schedule in ["0 0 29 2 *", "* * * * *", "0 4 * * MON-FRI", "15,45 */2 1 1 *"] {
        parse(&format!("[cron.a]\nschedule = \"{schedule}\"\ncommand = [\"x\"]")).unwrap();
    }
    for schedule in ["", "* * * *", "61 * * * *", "* * 31 4 *", "* * 0 * *", "*/0 * * * *", "é * * * *"] {
        parse(&format!("[cron.a]\nschedule = \"{schedule}\"\ncommand = [\"x\"]")).unwrap_err();
    }
}

#[test]
fn a_manifest_survives_the_store() {
    let manifest = parse("memory = \"1g\"\n[env]\nA = \"b\"\n[release]\ncommand = [\"x\"]").unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn bytes_that_are_no_text_are_refused_by_line() {
    let refused = |bytes: &[u8]| Manifest::parse(Some(bytes)).unwrap_err();
    assert_eq!(refused(b"port = 1\n# \xff"), ".sidestage.toml line 2: it is not UTF-8; save it as UTF-8");
    assert_eq!(refused(b"\xff\xfep\0"), ".sidestage.toml line 1: it is not UTF-8; save it as UTF-8");
    assert_eq!(
        refused(b"\xef\xbb\xbfport = 1"),
        ".sidestage.toml line 1: it begins with a byte order mark; save it as UTF-8 without one"
    );
    assert_eq!(refused(&vec![b'#'; 65_537]), ".sidestage.toml has 65537 bytes, and at most 65536 are read; shorten it");
    Manifest::parse(Some(&vec![b'#'; 65_536])).unwrap();
}

#[test]
fn deep_nesting_is_refused_and_not_a_crash() {
    for text in [
        format!("a{} = 1", ".a".repeat(32_000)),
        format!("a = {}", "[".repeat(60_000)),
        format!("[a{}]", ".a".repeat(32_000)),
    ] {
        parse(&text).unwrap_err();
    }
}

#[test]
fn too_many_containers_do_not_fit_the_network() {
    let table = |kind: &str, from: usize, to: usize| -> String {
        (from..to)
            .map(|n| {
                format!("[{kind}.n{n}]\ncommand = [\"x\"]\n{}", if kind == "service" { "image = \"x\"\n" } else { "" })
            })
            .collect()
    };
    parse(&(table("process", 0, 6) + &table("service", 6, 10))).unwrap();
    for text in [table("process", 0, 11), table("service", 0, 11), table("process", 0, 6) + &table("service", 6, 11)] {
        assert!(parse(&text).unwrap_err().contains("at most 10 are possible"));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[|\\]|[a-z_]{1,8}|=|\"|'|\n|\\.|[0-9]{1,3}|\\{|\\}|\\$|,| |é){0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.starts_with(".sidestage.toml line "), "{error}");
            prop_assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn what_is_shown_of_a_unit_reads_back(seconds in 1u64..10_000_000, kib in 1u64..(1 << 40)) {
        let duration = Duration::from_secs(seconds);
        prop_assert_eq!(units::parse_lifetime(&units::show_duration(duration)).unwrap(), duration);
        prop_assert_eq!(units::parse_size(&units::show_size(kib << 10)).unwrap(), kib << 10);
    }

    #[test]
    fn text_without_placeholders_is_itself(text in "[^{]*") {
        prop_assert_eq!(fill(&text, &BTreeMap::new(), None).unwrap(), text);
    }
}

#[test]
fn units_are_read_as_people_write_them() {
    for (text, seconds) in [("90s", 90), ("15m", 900), ("10h", 36_000), ("5d", 432_000), ("2w", 1_209_600), ("0s", 0)] {
        assert_eq!(units::parse_duration(text).unwrap(), Duration::from_secs(seconds));
    }
    assert_eq!(units::parse_lifetime("never").unwrap(), Duration::MAX);
    assert_eq!(units::show_duration(Duration::MAX), "never");
    assert_eq!(units::show_duration(Duration::from_secs(90)), "90s");
    for (text, bytes) in [("64k", 64 << 10), ("512m", 512 << 20), ("1g", 1 << 30), ("2t", 2 << 40)] {
        assert_eq!(units::parse_size(text).unwrap(), bytes);
        assert_eq!(units::show_size(bytes), text);
    }
    for bad in [
        "",
        "m",
        "5",
        "-5m",
        "+5m",
        "1.5h",
        "5 m",
        "5M",
        "5m ",
        "٣m",
        "99999999999999999999s",
        "99999999999999999w",
        "ü",
    ] {
        units::parse_lifetime(bad).unwrap_err();
        units::parse_size(bad).map(|bytes| assert_eq!(bytes, 5 << 20)).ok();
    }
}

fn key(byte: u8) -> InstanceKey {
    InstanceKey::new([byte; 32])
}

fn env(name: &str) -> EnvId {
    name.parse().unwrap()
}

const ENV: &str = "abcdefghijklmnop";
