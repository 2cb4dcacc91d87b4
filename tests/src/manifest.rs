//! The manifest: what is accepted, and the exact words about what is not; interpolation and injected variables.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use planner::identity::{EnvId, InstanceKey, Trust};
use planner::injected::{self, Endpoints};
use planner::interpolate::{Random, fill};
use planner::manifest::Manifest;
use planner::spec::{Container, Health, ImageSource, Origin};
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
    assert_eq!(manifest.command.unwrap(), ["bin/web", "${STAGING_HOST}"]);
    assert_eq!(manifest.health, Health::Path("/healthz?deep=1".to_owned()));
    assert_eq!(manifest.start_timeout, Duration::from_secs(90));
    assert_eq!(manifest.memory, Some(1 << 30));
    assert_eq!(manifest.tmp, BTreeMap::from([("/app/tmp".to_owned(), 64 << 20)]));
    assert_eq!(manifest.build.dockerfile, "docker/Dockerfile");
    assert_eq!(manifest.build.context, "api");
    assert_eq!(manifest.build.target.as_deref(), Some("production"));
    assert_eq!(manifest.build.args["COMMIT"], "${STAGING_SHA}");
    assert_eq!((manifest.database, manifest.objects.as_deref()), (None, Some("demo-shop")));
    let release = manifest.release.unwrap();
    assert_eq!((release.command, release.timeout), (vec!["bin/migrate".to_owned()], Duration::from_secs(900)));
    assert_eq!(manifest.processes["worker"].memory, Some(256 << 20));
    assert_eq!(manifest.services["cache"].health, Health::Port);
    assert_eq!(manifest.services["search"].health, Health::Path("/_health".to_owned()));
    assert_eq!(manifest.services["mute"].health, Health::Alive);
    assert_eq!(manifest.links.iter().map(|link| &*link.name).collect::<Vec<_>>(), ["Admin", "Shop"]);
    assert_eq!(manifest.env.len(), 4);
}

#[test]
fn a_manifest_survives_the_store() {
    let manifest = parse("memory = \"1g\"\n[env]\nA = \"b\"\n[release]\ncommand = [\"x\"]").unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

/// Manifest, and the one line about it without the file's name.
const REFUSED: &[(&str, &str)] = &[
    // Unknown keys, with the one that was probably meant.
    ("prot = 80", "line 1: prot is not a key of the manifest; did you mean port?"),
    (
        "\n\nprivileged = true",
        "line 3: privileged is not a key of the manifest; known here are database, objects, port, command, health, start_timeout, memory, tmp, build, release, env, process, service, link, app, cron",
    ),
    (
        "[build]\nfile = \"x\"",
        "line 2: build.file is not a key of the manifest; known here are dockerfile, context, target, args, image, secrets",
    ),
    ("[build]\ndockerFile = \"x\"", "line 2: build.dockerFile is not a key of the manifest; did you mean dockerfile?"),
    (
        "[service.db]\nimage = \"x\"\nvolumes = []",
        "line 3: service.db.volumes is not a key of the manifest; known here are image, command, env, port, health, memory, data",
    ),
    (
        "\"a\\nb\" = 1",
        "line 1: \"a\\nb\" is not a key of the manifest; known here are database, objects, port, command, health, start_timeout, memory, tmp, build, release, env, process, service, link, app, cron",
    ),
    // Keys that are still to come.
    ("[build]\n\nimage = \"x\"", "line 3: not yet: build.image is planned, and this version cannot do it; remove it"),
    (
        "[build]\nsecrets = [\"A\"]",
        "line 2: not yet: build.secrets is planned, and this version cannot do it; remove it",
    ),
    (
        "[database]\ncarry = false",
        "line 2: not yet: database.carry is planned, and this version cannot do it; remove it",
    ),
    (
        "[database]\nextensions = []",
        "line 2: not yet: database.extensions is planned, and this version cannot do it; remove it",
    ),
    ("[objects]\npublic = []", "line 2: not yet: objects.public is planned, and this version cannot do it; remove it"),
    ("[app.api]\nport = 1", "line 1: not yet: app is planned, and this version cannot do it; remove it"),
    ("[cron.close]\nschedule = \"*\"", "line 1: not yet: cron is planned, and this version cannot do it; remove it"),
    ("[command.x]\ncommand = [\"x\"]", "line 1: not yet: command is planned, and this version cannot do it; remove it"),
    (
        "[service.c]\nimage = \"x\"\ndata = \"2g\"",
        "line 3: not yet: service.c.data is planned, and this version cannot do it; remove it",
    ),
    // Types and bounds.
    ("port = \"80; rm\"", "line 1: port must be a port from 1 to 65535, not the string \"80; rm\""),
    ("port = 0", "line 1: port must be a port from 1 to 65535, not the integer 0"),
    ("port = 65536", "line 1: port must be a port from 1 to 65535, not the integer 65536"),
    ("port = -1", "line 1: port must be a port from 1 to 65535, not the integer -1"),
    ("port = 1.5", "line 1: port must be a port from 1 to 65535, not the float 1.5"),
    (
        "command = \"bin/web\"",
        "line 1: command must be an array of strings, such as [\"bin/web\", \"--port\", \"8080\"], not the string \"bin/web\"",
    ),
    (
        "command = [\n\"a\",\n1]",
        "line 3: command must be an array of strings, such as [\"bin/web\", \"--port\", \"8080\"], not the integer 1",
    ),
    (
        "command = []",
        "line 1: command is empty; write an array of strings, such as [\"bin/web\", \"--port\", \"8080\"]",
    ),
    ("command = [\"a\\u0000\"]", "line 1: command holds a NUL, which no process can be given; remove it"),
    ("health = true", "line 1: health must be a string, not true"),
    (
        "health = \"healthz\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"healthz\"",
    ),
    (
        "health = \"//evil.example\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"//evil.example\"",
    ),
    (
        "health = \"/a\\r\\nHost: b\"",
        "line 1: health must be a path such as \"/healthz\", printable ASCII behind one slash, not \"/a\\r\\nHost: b\"",
    ),
    ("start_timeout = 120", "line 1: start_timeout must be a duration such as \"2m\", not the integer 120"),
    (
        "start_timeout = \"2 minutes\"",
        "line 1: start_timeout = \"2 minutes\" is not a duration: write a whole number with its unit, such as \"90s\", \"15m\", \"10h\", \"5d\" or \"2w\"",
    ),
    (
        "start_timeout = \"never\"",
        "line 1: start_timeout = \"never\" is not a duration: write a whole number with its unit, such as \"90s\", \"15m\", \"10h\", \"5d\" or \"2w\"",
    ),
    ("start_timeout = \"31m\"", "line 1: start_timeout must be from 1s to 30m, not 31m"),
    ("start_timeout = \"0s\"", "line 1: start_timeout must be from 1s to 30m, not 0s"),
    ("memory = 512", "line 1: memory must be a size such as \"512m\", not the integer 512"),
    (
        "memory = \"lots\"",
        "line 1: memory = \"lots\" is not a size: write a whole number with its unit, such as \"64k\", \"512m\" or \"1g\"",
    ),
    (
        "memory = \"99999999999999t\"",
        "line 1: memory = \"99999999999999t\" is not a size: write a whole number with its unit, such as \"64k\", \"512m\" or \"1g\"",
    ),
    ("memory = \"5m\"", "line 1: memory must be at least 6m, not 5m"),
    (
        "tmp = { \"app\" = \"1m\" }",
        "line 1: tmp.app must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/a/../etc\" = \"1m\"",
        "line 2: tmp.\"/a/../etc\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/\" = \"1m\"",
        "line 2: tmp.\"/\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    (
        "[tmp]\n\"/proc/self\" = \"1m\"",
        "line 2: tmp.\"/proc/self\" must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev",
    ),
    ("[tmp]\n\"/a\" = \"1m\"\n\"/a/\" = \"1m\"", "line 3: tmp.\"/a/\" is there twice; remove one"),
    (
        "build = \"Dockerfile\"",
        "line 1: build must be a table, such as [build] with dockerfile = \"Dockerfile\", not the string \"Dockerfile\"",
    ),
    (
        "[build]\ndockerfile = \"../Dockerfile\"",
        "line 2: build.dockerfile must be a path within the repository, without `..`, not \"../Dockerfile\"",
    ),
    ("[build]\ndockerfile = \".\"", "line 2: build.dockerfile must name a file"),
    (
        "[build]\ncontext = \"/etc\"",
        "line 2: build.context must be a path within the repository, without `..`, not \"/etc\"",
    ),
    ("[build]\ncontext = \"\"", "line 2: build.context must be a path within the repository, without `..`, not \"\""),
    ("[build]\ntarget = \"a b\"", "line 2: build.target must be the name of a stage of the Dockerfile, not \"a b\""),
    (
        "[build]\nargs = { TOKEN = \"${DATABASE_URL}\" }",
        "line 2: build.args.TOKEN may only hold `${STAGING_…}`: an image remembers its build arguments, and a tree is built once",
    ),
    (
        "[build]\nargs = { TOKEN = \"${random:8}\" }",
        "line 2: build.args.TOKEN may only hold `${STAGING_…}`: an image remembers its build arguments, and a tree is built once",
    ),
    ("[build]\nargs = { N = 1 }", "line 2: build.args.N must be a string: write \"1\", not the integer 1"),
    ("[database]\nbaseline = true", "line 2: database.baseline must be a string or false, not true"),
    (
        "[database]\nbaseline = \"../x\"",
        "line 2: database.baseline is no possible name of a baseline: a-z, 0-9 and inner hyphens, a letter first",
    ),
    ("database = false", "line 1: database must be a table, such as baseline = \"default\", not false"),
    ("\n[release]\ntimeout = \"1m\"", "line 2: release lacks command; add command = [\"bin/migrate\"]"),
    ("[release]\ncommand = [\"x\"]\ntimeout = \"3h\"", "line 3: release.timeout must be from 1s to 2h, not 3h"),
    (
        "[process.Worker]\ncommand = [\"x\"]",
        "line 1: process.Worker is no possible name: at most 20 of a-z, 0-9 and inner hyphens, a letter first",
    ),
    (
        "[process.worker-with-a-long-name]\ncommand = [\"x\"]",
        "line 1: process.worker-with-a-long-name is no possible name: at most 20 of a-z, 0-9 and inner hyphens, a letter first",
    ),
    ("[process.web]\ncommand = [\"x\"]", "line 1: process.web is a reserved name; take another"),
    ("[service.release]\nimage = \"x\"", "line 1: service.release is a reserved name; take another"),
    ("[service.data]\nimage = \"x\"", "line 1: service.data is a reserved name; take another"),
    ("[process.a]\n", "line 1: process.a lacks command; add command = [\"bin/worker\"]"),
    (
        "process = []",
        "line 1: process must be a table, such as [process.worker] with command = [\"bin/worker\"], not an array",
    ),
    ("[service.a]\n", "line 1: service.a lacks image; add image = \"redis:7\""),
    ("[service.a]\nimage = \"a b\"", "line 2: service.a.image must be an image such as \"redis:7\", not \"a b\""),
    ("[service.a]\nimage = \"a\"\nhealth = \"/\"", "line 3: service.a.health needs a port to ask; add port = …"),
    (
        "[process.a]\ncommand = [\"x\"]\n[service.a]\nimage = \"x\"",
        "line 3: service and process both have \"a\"; rename one",
    ),
    (
        "[link]\nname = \"x\"",
        "line 1: link must be an array of tables, such as [[link]] with name = \"Admin\" and path = \"/admin\", not a table",
    ),
    ("[[link]]\nname = \"A\"\npath = \"/\"\n[[link]]\nname = \"B\"", "line 4: link lacks path; add path = \"/admin\""),
    ("[[link]]\nname = \"\"\npath = \"/\"", "line 2: link.name must be one line of 1 to 60 characters"),
    (
        "[[link]]\nname = \"A\"\npath = \"javascript:alert(1)\"",
        "line 3: link.path must be a path such as \"/healthz\", printable ASCII behind one slash, not \"javascript:alert(1)\"",
    ),
    // Templates.
    ("[env]\nA = \"${S3_BUCKT}\"", "line 2: env.A holds `${S3_BUCKT}`, which is unknown; did you mean `${S3_BUCKET}`?"),
    (
        "[env]\nA = \"${SECRET_TOKEN}\"",
        "line 2: env.A holds `${SECRET_TOKEN}`, which is unknown: it is no injected variable, and secrets of a project are not yet there",
    ),
    ("[env]\nA = \"${SMTP_HOST}\"", "line 2: env.A holds `${SMTP_HOST}`, which is not yet injected"),
    (
        "[env]\nA = \"${A:-b}\"",
        "line 2: env.A holds `${A:-b}`, which is neither `${NAME}` nor `${random:N}` nor `${random_base64:N}`; there are no defaults and no nesting, and a plain `${` is written `$${`",
    ),
    ("[env]\nA = \"${A\"", "line 2: env.A holds `${` without `}`: close it, or write `$${` for a plain `${`"),
    ("[env]\nA = \"${random:0}\"", "line 2: env.A holds `${random:0}`: the number must be 1 to 1024"),
    (
        "[env]\nA = \"${random:99999999999999999999}\"",
        "line 2: env.A holds `${random:99999999999999999999}`: the number must be 1 to 1024",
    ),
    ("[env]\nA = \"${random_base64:+8}\"", "line 2: env.A holds `${random_base64:+8}`: the number must be 1 to 1024"),
    ("[env]\nPORT = \"80\"", "line 2: env.PORT cannot be set: it is the manifest's port, `port = …`"),
    (
        "[env]\nSTAGING_URL = \"x\"",
        "line 2: env.STAGING_URL cannot be set: names that begin with STAGING are given by Sidestage",
    ),
    ("[env]\nDEBUG = true", "line 2: env.DEBUG must be a string: write \"true\", not true"),
    (
        "[env]\n\"A=B\" = \"c\"",
        "line 2: env.\"A=B\" is no name of a variable: letters, digits, `_`, `.` and `-`, not a digit first",
    ),
    (
        "command = [\"${DATABASE_URL}\"]\n[database]\nbaseline = false",
        "line 1: command holds `${DATABASE_URL}`, but [database] has baseline = false",
    ),
    (
        "[objects]\nbaseline = false\n[env]\nB = \"${S3_BUCKET}\"",
        "line 4: env.B holds `${S3_BUCKET}`, but [objects] has baseline = false",
    ),
    (
        "[service.a]\nimage = \"x\"\nenv = { PORT = \"1\" }",
        "line 3: service.a.env.PORT cannot be set: it is the manifest's port, `port = …`",
    ),
    (
        "[service.a]\nimage = \"x\"\n[service.a.env]\nX = \"${Y}\"",
        "line 4: service.a.env.X holds `${Y}`, which is unknown: it is no injected variable, and secrets of a project are not yet there",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${DATABASE_URL}\"",
        "line 4: link.note holds `${DATABASE_URL}`, which is not an entry of [env]",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${X}\"\n[env]\nX = \"a${random:4}\"",
        "line 4: link.note shows `${X}`, which is \"a${random:4}\"; a note may only show entries of [env] made of random parts only, such as \"${random:12}\"",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${X}\"\n[env]\nX = \"\"",
        "line 4: link.note shows `${X}`, which is \"\"; a note may only show entries of [env] made of random parts only, such as \"${random:12}\"",
    ),
    (
        "[[link]]\nname = \"A\"\npath = \"/\"\nnote = \"${random:4}\"",
        "line 4: link.note may not hold a random part itself: put it into [env] and name that entry",
    ),
    // The file itself.
    ("port = 1\nport = 2", "line 2: not TOML: duplicate key"),
    ("port = 1\n\n[build\n", "line 3: not TOML: unclosed table, expected `]`"),
];

#[test]
fn what_is_wrong_is_said_with_key_and_line() {
    for (text, message) in REFUSED {
        let error = parse(text).map(|_| "accepted".to_owned()).unwrap_or_else(|error| error);
        assert_eq!(error, format!(".sidestage.toml {message}"), "of {text:?}");
    }
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
    let endpoints = Endpoints {
        domain: "staging.test".to_owned(),
        objects: "http://staging.test:8080".to_owned(),
        database_port: 5433,
    };
    injected::resolve(&key(1), &env(ENV), generation, container, &endpoints, &BTreeMap::new())
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
