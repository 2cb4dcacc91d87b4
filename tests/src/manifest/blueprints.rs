//! What a generation comes to, and what the operator's word on it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::blueprint::{Blueprint, address, allowed, blueprint};
use planner::event::Source;
use planner::facts::{Begun, Facts};
use planner::identity::{Ref, Sha, Time, Trust};
use planner::manifest::Manifest;
use planner::policy::{Lifetime, Limits, Policy, ProjectPolicy, SourceSettings, StageMode};
use planner::resource::{Kind, Resource};
use planner::secrets::SecretClass;
use planner::spec::{Container, ImageSource, Origin, Spec};

use super::{key, parse};

pub(super) fn project() -> ProjectPolicy {
    ProjectPolicy {
        stage: StageMode::Automatic,
        forks: true,
        keep: 2,
        public: true,
        alias_proxy: false,
        suffix: String::new(),
        baselines: BTreeSet::from(["default".to_owned()]),
        fork_baseline: "empty".into(),
        images: BTreeSet::from(["redis:7".to_owned()]),
        secrets: BTreeMap::new(),
        image_wait: Duration::from_secs(1800),
        source: SourceSettings::default(),
        forge: planner::policy::ForgeSettings::default(),
    }
}

pub(super) fn policy() -> Policy {
    Policy {
        domain: "staging.test".into(),
        scheme: "https".into(),
        port: None,
        console_url: None,
        projects: BTreeMap::from([("shop".parse().unwrap(), project())]),
        limits: Limits {
            environments: 20,
            awake: 8,
            stopped: 50,
            builds: 1,
            cpu: 1000,
            memory: 512 << 20,
            pids: 256,
            disk: 2 << 30,
            connections: 20,
            database: None,
            objects: None,
            suspend_trusted: false,
        },
        lifetime: Lifetime { idle: Duration::MAX, sleep: Duration::MAX, ttl: Duration::MAX },
        addresses: Vec::new(),
        extensions: BTreeSet::from(["hstore".to_owned()]),
        spares: Default::default(),
        objects_public: true,
    }
}

/// Sets secrets of `shop`, each at a version of its own.
fn set(policy: &mut Policy, class: SecretClass, names: &[&str]) {
    let project = policy.projects.get_mut(&"shop".parse().unwrap()).unwrap();
    let versions = names.iter().map(|name| ((*name).to_owned(), format!("version of {name}"))).collect();
    project.secrets.insert(class, versions);
}

pub(super) fn origin(trust: Trust) -> Origin {
    Origin { project: "shop".parse().unwrap(), sha: Sha::from_bytes([0xab; 20]), trust }
}

pub(super) fn judge(text: &str, policy: &Policy, trust: Trust) -> Result<(), String> {
    let of = origin(trust);
    allowed(&parse(text).unwrap(), policy, &policy.projects[&of.project], &of)
}

pub(super) fn draw_of(manifest: Manifest, policy: &Policy, trust: Trust, at: &Ref) -> Result<Blueprint, String> {
    let of = origin(trust);
    let mut facts = Facts::new(key(1));
    facts.know(&of.project, &of.sha);
    let source = Source {
        tree: Sha::from_bytes([0xcd; 20]),
        subject: "s".into(),
        author: "a".into(),
        ancestors: Vec::new(),
        manifest: Ok(manifest.into()),
    };
    let begun = Begun {
        generation: 1,
        at: Time(0),
        asked: Time(0),
        baseline: "default@1".into(),
        objects: None,
        carried: None,
        rebuilt: 0,
        filled: false,
        released: false,
        cause: None,
    };
    let address = address(policy, &of, Some((at, "pr-7")));
    blueprint(&facts, policy, &of, &begun, &source, &address)
}

fn draw(text: &str, policy: &Policy, trust: Trust) -> Blueprint {
    draw_of(parse(text).unwrap(), policy, trust, &Ref::Pull(7)).unwrap()
}

fn container<'b>(drawn: &'b Blueprint, name: &str) -> (&'b Resource, &'b Container) {
    let part =
        drawn.parts.iter().find(|part| part.id.name == name && matches!(part.id.kind, Kind::Container | Kind::Job));
    let part = part.unwrap_or_else(|| panic!("no container {name}"));
    match &part.spec {
        Spec::Container(container) | Spec::Job(container) => (part, container),
        _ => unreachable!(),
    }
}

fn image(drawn: &Blueprint, name: &str) -> Spec {
    let ImageSource::Built(id) = &container(drawn, name).1.image else { panic!("{name} is a companion") };
    drawn.parts.iter().find(|part| part.id == *id).unwrap().spec.clone()
}

const HOST: &str = "abababababababababababababababababababab";

#[test]
fn an_application_has_a_host_a_port_and_an_image_of_its_own() {
    let text = r#"
        [app.api]
        build = { context = "api" }
        port = 4000
        health = "/up"
        [app.docs]
        command = ["serve"]
        [process.worker]
        command = ["w"]
    "#;
    let mut policy = policy();
    policy.projects.get_mut(&"shop".parse().unwrap()).unwrap().suffix = "ofn".into();
    let drawn = draw(text, &policy, Trust::Trusted);
    let (api, docs) = (container(&drawn, "api").1, container(&drawn, "docs").1);
    let canonical = api.canonical.clone().unwrap();
    assert_eq!(canonical.host, format!("{HOST}--api--ofn.staging.test"));
    assert_eq!((api.port, api.injected["PORT"].as_str()), (Some(4000), "4000"));
    assert_eq!((docs.port, docs.injected["PORT"].as_str()), (Some(8080), "8080"));
    for name in ["web", "worker", "api", "docs"] {
        let one = container(&drawn, name).1;
        assert_eq!(one.injected["STAGING_URL_API"], format!("https://{HOST}--api--ofn.staging.test"));
        assert_eq!(one.injected["STAGING_URL_DOCS"], format!("https://{HOST}--docs--ofn.staging.test"));
        assert_eq!(one.injected["STAGING_URL"], format!("https://{HOST}--ofn.staging.test"));
        assert!(one.hosts.contains(&canonical.host), "{name}");
    }
    let Spec::Image(build) = image(&drawn, "api") else { panic!() };
    assert_eq!(build.context, "api");
    assert_eq!(image(&drawn, "docs"), image(&drawn, "web"), "without a build of its own it is the web's image");
    assert_eq!(drawn.of(Kind::Image).count(), 2);
    assert_eq!(drawn.builds_of_apps().collect::<Vec<_>>(), ["api"]);
    assert_eq!(
        drawn.log("build-api"),
        Some(&drawn.of(Kind::Image).find(|part| part.spec == image(&drawn, "api")).unwrap().id)
    );
}

#[test]
fn the_same_recipe_is_one_build() {
    let drawn = draw("[app.api]\nbuild = { dockerfile = \"./Dockerfile\" }", &policy(), Trust::Trusted);
    assert_eq!(drawn.of(Kind::Image).count(), 1);
}

#[test]
fn the_release_waits_for_companions_and_everything_else_for_the_release() {
    let text = r#"
        [release]
        command = ["m"]
        [service.cache]
        image = "redis:7"
        data = "1g"
        [service.search]
        image = "redis:7"
        env = { URL = "${DATABASE_URL}" }
        [app.api]
    "#;
    let drawn = draw(text, &policy(), Trust::Trusted);
    let needs = |name: &str| {
        container(&drawn, name).0.needs.iter().map(|need| (need.kind, need.name.as_str())).collect::<BTreeSet<_>>()
    };
    assert_eq!(needs("cache"), BTreeSet::from([(Kind::Network, "main"), (Kind::Volume, "cache")]));
    assert_eq!(needs("search"), BTreeSet::from([(Kind::Network, "main"), (Kind::Database, "main")]));
    assert!(needs("release").is_superset(&BTreeSet::from([(Kind::Container, "cache"), (Kind::Container, "search")])));
    assert!(!needs("release").iter().any(|(_, name)| *name == "web"));
    for name in ["web", "api"] {
        assert!(needs(name).contains(&(Kind::Job, "release")), "{name}");
    }
    let volume = drawn.of(Kind::Volume).next().unwrap();
    assert_eq!(container(&drawn, "cache").1.data.as_ref(), Some(&volume.id));
    assert!(matches!(volume.spec, Spec::Volume { size, .. } if size == 1 << 30));
    assert!(drawn.data().any(|part| part.id == volume.id), "made once, as a database");
}

#[test]
fn an_image_by_ci_is_pulled_for_trusted_code_and_built_for_foreign() {
    let text =
        "[build]\nimage = \"ghcr.io/acme/shop:{branch}-{short_sha}\"\ncontext = \"x\"\nsecrets = [\"NPM_TOKEN\"]";
    let branch = Ref::Branch("feature/größe".into());
    let drawn = draw_of(parse(text).unwrap(), &policy(), Trust::Trusted, &branch).unwrap();
    let Spec::Pulled(pulled) = image(&drawn, "web") else { panic!() };
    assert_eq!(pulled.reference, "ghcr.io/acme/shop:feature-gr--e-abababa");
    let part = drawn.of(Kind::Image).next().unwrap();
    let planner::resource::Owner::Env(env) = &part.id.owner else { panic!("{}", part.id) };
    assert!(pulled.tag.ends_with(&format!("/shop:{env}-{}", part.id.name)), "{}", pulled.tag);
    assert_eq!((part.id.generation, pulled.wait), (0, Duration::from_secs(1800)));

    let drawn = draw_of(parse(text).unwrap(), &policy(), Trust::Approved, &branch).unwrap();
    let Spec::Image(build) = image(&drawn, "web") else { panic!("foreign code is built here") };
    assert_eq!((build.context.as_str(), build.secrets.len(), build.no_cache), ("x", 0, true));

    let why = draw_of(parse(text).unwrap(), &policy(), Trust::Trusted, &Ref::Pull(7)).unwrap_err();
    assert!(why.starts_with("build.image: {branch} is the name of a branch, and the commit has none"), "{why}");
}

#[test]
fn a_secret_that_is_not_set_blocks_and_says_what_to_type() {
    let mut policy = policy();
    let text =
        "[env]\nA = \"x${SECRET_TOKEN}\"\n[service.c]\nimage = \"redis:7\"\ncommand = [\"--pass\", \"${REDIS}\"]";
    assert_eq!(
        judge(text, &policy, Trust::Approved).unwrap_err(),
        "secret REDIS is not set for foreign code of `shop`; set it with `sidestage secret set shop REDIS --for foreign`"
    );
    set(&mut policy, SecretClass::Trusted, &["SECRET_TOKEN", "REDIS", "UNNAMED"]);
    judge(text, &policy, Trust::Trusted).unwrap();
    judge(text, &policy, Trust::Approved).unwrap_err();
    set(&mut policy, SecretClass::Foreign, &["SECRET_TOKEN", "REDIS"]);
    judge(text, &policy, Trust::Approved).unwrap();

    let drawn = draw(text, &policy, Trust::Trusted);
    let names = |name: &str| container(&drawn, name).1.secrets.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names("web"), ["REDIS", "SECRET_TOKEN", "UNNAMED"], "a process gets all that are set for it");
    assert_eq!(names("c"), ["REDIS"], "a companion what its templates name");
    let foreign = draw(text, &policy, Trust::Approved);
    assert!(!container(&foreign, "web").1.secrets.contains_key("UNNAMED"), "nothing of the other class");
    let slip = judge("[env]\nA = \"${DATABASE_URI_X}\"", &policy, Trust::Trusted).unwrap_err();
    assert!(slip.ends_with("--for trusted`, unless `${DATABASE_URL}` is meant"), "{slip}");
}

#[test]
fn build_secrets_are_for_trusted_code_only() {
    let text = "[build]\nsecrets = [\"NPM_TOKEN\"]";
    let mut policy = policy();
    assert!(judge(text, &policy, Trust::Trusted).unwrap_err().contains("secret NPM_TOKEN is not set for trusted code"));
    judge(text, &policy, Trust::Approved).unwrap();
    set(&mut policy, SecretClass::Trusted, &["NPM_TOKEN"]);
    judge(text, &policy, Trust::Trusted).unwrap();
    let Spec::Image(build) = image(&draw(text, &policy, Trust::Trusted), "web") else { panic!() };
    assert_eq!(build.secrets, ["NPM_TOKEN"]);
    let Spec::Image(build) = image(&draw(text, &policy, Trust::Approved), "web") else { panic!() };
    assert!(build.secrets.is_empty());
}

#[test]
fn a_changed_secret_changes_no_fingerprint_and_its_digest() {
    let mut policy = policy();
    set(&mut policy, SecretClass::Trusted, &["A"]);
    let before = draw("", &policy, Trust::Trusted);
    let project = policy.projects.get_mut(&"shop".parse().unwrap()).unwrap();
    project.secrets.get_mut(&SecretClass::Trusted).unwrap().insert("A".into(), "another version".into());
    let after = draw("", &policy, Trust::Trusted);
    let prints = |drawn: &Blueprint| drawn.parts.iter().map(|part| part.fingerprint.clone()).collect::<Vec<_>>();
    assert_eq!(prints(&before), prints(&after));
    let digest = |drawn: &Blueprint| planner::secrets::digest(&container(drawn, "web").1.secrets).unwrap();
    assert_ne!(digest(&before), digest(&after));
    assert_eq!(planner::secrets::digest(&container(&draw("", &self::policy(), Trust::Trusted), "web").1.secrets), None);
}

/// What was drawn before a manifest could say more than it says here stays: else an upgrade would replace everything.
#[test]
fn what_uses_nothing_new_has_the_fingerprints_that_it_had() {
    let text =
        "[process.worker]\ncommand = [\"w\"]\n[release]\ncommand = [\"m\"]\n[service.cache]\nimage = \"redis:7\"";
    let drawn = draw(text, &policy(), Trust::Trusted);
    let prints: BTreeMap<String, &str> = drawn
        .parts
        .iter()
        .map(|part| (format!("{} {}", part.id.kind.as_str(), part.id.name), part.fingerprint.0.as_str()))
        .collect();
    let expected = PRINTS.iter().map(|(name, print)| ((*name).to_owned(), *print)).collect::<BTreeMap<_, _>>();
    assert_eq!(prints, expected);
}

const PRINTS: &[(&str, &str)] = &[
    ("bucket main", "dfe4e394de3ed4ba"),
    ("container cache", "e6e0d44d9fff0f36"),
    ("container web", "8ad5f1e7410b265c"),
    ("container worker", "8dfec03a8eed4894"),
    ("database main", "15b283bd9ed89785"),
    ("image cdcdcdcdcdcd-0b2829cf81da", "a7a8e9313f18a056"),
    ("job release", "c40f05a0afa2ba91"),
    ("network main", "a372471c055262a7"),
];

#[test]
fn what_the_operator_did_not_allow_is_said() {
    let mut policy = policy();
    for (text, message) in [
        (
            "[database]\nextensions = [\"hstore\", \"postgis\"]",
            "database.extensions: postgis is not on the operator's list",
        ),
        ("[service.c]\nimage = \"redis:7\"\ndata = \"3g\"", "service.c.data = 3g is above the operator's limit of 2g"),
        ("[app.api]\nmemory = \"1g\"", "app.api.memory = 1g is above the operator's limit of 512m"),
        ("[service.c]\nimage = \"other:7\"", "service.c: the image other:7 is not on the operator's list"),
    ] {
        let why = judge(text, &policy, Trust::Trusted).unwrap_err();
        assert!(why.starts_with(message), "{why}");
    }
    let public = "[objects]\npublic = [\"static/\"]";
    judge(public, &policy, Trust::Trusted).unwrap();
    policy.objects_public = false;
    assert!(judge(public, &policy, Trust::Trusted).unwrap_err().contains("objects.public"));
}

#[test]
fn an_application_may_not_take_the_hosts_of_another_project() {
    let mut policy = policy();
    policy.projects.insert("other".parse().unwrap(), ProjectPolicy { suffix: "api".into(), ..project() });
    let why = judge("[app.api]\n", &policy, Trust::Trusted).unwrap_err();
    assert!(why.starts_with("app.api: its hosts would be those of the project other"), "{why}");
    judge("[app.apis]\n", &policy, Trust::Trusted).unwrap();
}
