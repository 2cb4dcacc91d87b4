//! Builds of trusted code by BuildKit: what people write, what it keeps apart, and what it must never tell.

use drivers::{Driver, Log};
use planner::identity::{ProjectName, Trust};
use planner::names;
use planner::resource::{Failure, Kind, Owner, Resource};
use planner::secrets::SecretClass;
use planner::spec::{Build, ImageSource, Spec};

use super::builds::NAME;
use super::engine::{Engine, cli, project, random};

/// Held for reading by tests that find in the cache what they put there, for writing by the one that empties it.
static CACHE: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Hex digits that nobody else has.
fn unique() -> String {
    random::<12>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build_of(image: &mut Resource) -> &mut Build {
    let Spec::Image(build) = &mut image.spec else { panic!("no image") };
    build
}

/// Builds it; answers the log.
async fn logged(engine: &Engine, image: &Resource) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let done = engine.ensure_logged(image, &Log::create(&file).unwrap()).await;
    let log = std::fs::read_to_string(&file).unwrap();
    done.unwrap_or_else(|failure| panic!("{failure}\n{log}"));
    log
}

/// The minor version of the syntax that this engine's own frontend knows is below 4.
fn is_old() -> bool {
    let version = cli(&["version", "--format", "{{.Server.Version}}"]);
    version.split('.').next().unwrap().parse::<u32>().unwrap() < 23
}

#[tokio::test]
async fn an_ordinary_dockerfile_builds_and_runs() {
    let _cache = CACHE.read().await;
    let engine = Engine::new();
    let mark = unique();
    let dockerfile = format!(
        "# syntax=docker/dockerfile:1\n\nFROM --platform=$TARGETPLATFORM $BUSYBOX AS base\nWORKDIR /app\n\n\
         FROM base AS build\nARG NODE_ENV\nRUN --mount=type=cache,target=/root/.cache \\\n    # a comment\n    \
         echo {mark} >> /root/.cache/seen && cat /root/.cache/seen > /app/seen && echo made for $NODE_ENV\n\n\
         FROM base AS production\nCOPY --from=build --chown=app /app/seen ./\nCOPY --chmod=0500 --chown=app run.sh ./\n\
         USER app\nCMD [\"/app/run.sh\"]\n\nFROM base AS never\nRUN exit 1\n"
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("run.sh", "#!/bin/sh\nid -u\ncat /app/seen\n")];
    let mut image = engine.image(Trust::Trusted, NAME, &files);
    build_of(&mut image).target = Some("production".to_owned());
    build_of(&mut image).args.insert("NODE_ENV".to_owned(), "staging".to_owned());
    let log = logged(&engine, &image).await;
    assert!(log.contains(" made for staging\n"), "{log}");
    assert!(log.contains("#1 ") && log.lines().any(|line| line.contains("] COPY ") && line.ends_with(" s")), "{log}");
    assert_eq!(engine.all().await.into_keys().collect::<Vec<_>>(), [image.id.clone()]);
    assert_eq!(engine.ensure(&image).await.unwrap().fingerprint, image.fingerprint);

    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &[]);
    (spec.command, spec.image) = (None, ImageSource::Built(image.id.clone()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    engine.ensure_logged(&engine.job("release", spec), &Log::create(&file).unwrap()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("1234\n{mark}\n"));

    // Another tree with the same steps: they are there already.
    let mut next = engine.image(Trust::Trusted, "ffffffffffff-ba9876543210", &files);
    engine.files.lock().unwrap().insert("unused".to_owned(), mark.clone());
    build_of(&mut next).target = Some("production".to_owned());
    build_of(&mut next).args.insert("NODE_ENV".to_owned(), "staging".to_owned());
    let log = logged(&engine, &next).await;
    let cached = |step: &str| log.lines().any(|line| line.contains(step) && line.ends_with(" … CACHED"));
    assert!(cached("] RUN --mount") && cached("] COPY --chmod"), "{log}");

    // A step that runs again finds in its mounted cache what it left there.
    let mut again = engine.image(Trust::Trusted, "eeeeeeeeeeee-ba9876543210", &files);
    build_of(&mut again).args.insert("NODE_ENV".to_owned(), "again".to_owned());
    build_of(&mut again).target = Some("build".to_owned());
    logged(&engine, &again).await;
    let tag = build_of(&mut again).tag.clone();
    assert_eq!(cli(&["run", "--rm", &tag, "cat", "/app/seen"]), format!("{mark}\n{mark}\n"));
    engine.end().await;
}

#[tokio::test]
async fn a_build_secret_is_in_no_layer_history_or_log() {
    let (canary, value) = (unique(), unique());
    let secrets = drivers::Secrets::default();
    let both = [("NPM_TOKEN".to_owned(), format!("{canary}\n")), ("OTHER".to_owned(), value.clone())];
    secrets.set(&project(), SecretClass::Trusted, both.into());
    let engine = Engine::with(|settings| settings.secrets = secrets);
    let dockerfile = "FROM $BUSYBOX\nRUN --mount=type=secret,id=NPM_TOKEN,required=true cat /run/secrets/NPM_TOKEN \
                      && grep -c . /run/secrets/NPM_TOKEN > /length\nRUN test ! -s /run/secrets/NPM_TOKEN\n\
                      RUN --mount=type=secret,id=OTHER test ! -e /run/secrets/OTHER\n";
    let mut image = engine.image(Trust::Trusted, NAME, &[("Dockerfile", dockerfile)]);
    build_of(&mut image).secrets = vec!["NPM_TOKEN".to_owned()];
    let log = logged(&engine, &image).await;
    assert!(log.contains(" ***\n") && !log.contains(&canary), "{log}");
    let note = "note: Dockerfile line 4 mounts the secret OTHER, which [build] secrets does not name\n";
    assert!(log.contains(note), "{log}");
    let tag = build_of(&mut image).tag.clone();
    assert_eq!(cli(&["run", "--rm", &tag, "cat", "/length"]), "1\n", "the step had it");
    let saved = std::process::Command::new("docker").args(["save", &tag]).output().unwrap().stdout;
    assert!(saved.len() > 1_000_000);
    for (what, told) in [
        ("layers", saved),
        ("history", cli(&["history", "--no-trunc", &tag]).into_bytes()),
        ("image", cli(&["image", "inspect", &tag]).into_bytes()),
    ] {
        for secret in [&canary, &value] {
            assert!(!told.windows(secret.len()).any(|part| part == secret.as_bytes()), "in the {what}");
        }
    }
    let mut missing = engine.image(Trust::Trusted, "ffffffffffff-ba9876543210", &[("Dockerfile", "FROM $BUSYBOX\n")]);
    build_of(&mut missing).secrets = vec!["NO_TOKEN".to_owned()];
    let why = "the build's secret NO_TOKEN is not set for shop; set it first";
    assert_eq!(engine.failure(&missing).await, Failure::permanent(why));
    engine.end().await;
}

#[tokio::test]
async fn mounted_caches_of_two_projects_never_meet() {
    let _cache = CACHE.read().await;
    let engine = Engine::new();
    let target = unique();
    let dockerfile = format!(
        "FROM $BUSYBOX\nARG WHO\nRUN --mount=type=cache,id={target},target=/c echo $WHO >> /c/seen && cat /c/seen > /seen\n"
    );
    for (name, who, seen) in [("shop", "one", "one\n"), ("other", "two", "two\n"), ("shop", "three", "one\nthree\n")] {
        let image_name = format!("{NAME}{}", who.len());
        let mut image = engine.image(Trust::Trusted, &image_name, &[("Dockerfile", &dockerfile)]);
        let project: ProjectName = name.parse().unwrap();
        let tag = format!("{}:{image_name}", names::image_repository(&engine.key, &project));
        image.id.owner = Owner::Project(project.clone(), Trust::Trusted);
        let build = build_of(&mut image);
        (build.of.project, build.tag) = (project, tag.clone());
        build.args.insert("WHO".to_owned(), who.to_owned());
        engine.ensure(&image).await.unwrap();
        assert_eq!(cli(&["run", "--rm", &tag, "cat", "/seen"]), seen, "{name}");
    }
    assert_eq!(engine.all().await.keys().filter(|id| id.kind == Kind::Image).count(), 3);
    engine.end().await;
}

#[tokio::test]
async fn what_the_engines_frontend_does_not_know_fails_before_the_build() {
    let engine = Engine::new();
    let dockerfile = "FROM $BUSYBOX\n\nRUN <<EOF\ntouch /one\ntouch /two\nEOF\nCOPY --link Dockerfile /three\n";
    let mut image = engine.image(Trust::Trusted, NAME, &[("Dockerfile", dockerfile)]);
    if is_old() {
        let failure = engine.failure(&image).await;
        assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
        let start =
            "Dockerfile line 3: a heredoc (<<) needs Dockerfile syntax 1.4, and this engine's own builder knows";
        assert!(failure.to_string().starts_with(start), "{failure}");
    } else {
        logged(&engine, &image).await;
        let tag = build_of(&mut image).tag.clone();
        assert_eq!(cli(&["run", "--rm", &tag, "ls", "/one", "/two", "/three"]), "/one\n/three\n/two\n");
    }
    engine.end().await;
}

#[tokio::test]
async fn a_frontend_that_cannot_be_had_is_left_out_with_a_note() {
    let engine = Engine::new();
    // One that is there is used: what runs then is no frontend, and says so.
    let here = format!("# syntax={}\nFROM scratch\n", engine.busybox.tag);
    let failure = engine.failure(&engine.image(Trust::Trusted, NAME, &[("Dockerfile", &here)])).await.to_string();
    assert!(failure.contains("frontend") || failure.contains("resolve image config"), "{failure}");

    let syntax = "127.0.0.1:9/nosuch/dockerfile:1";
    let dockerfile = format!("# syntax={syntax}\nFROM $BUSYBOX\nRUN --mount=type=cache,target=/c true\n");
    let image = engine.image(Trust::Trusted, NAME, &[("Dockerfile", &dockerfile)]);
    let log = logged(&engine, &image).await;
    let note = format!(
        "note: `# syntax={syntax}` is left out and the engine's own builder used: 127.0.0.1:9 cannot be reached"
    );
    assert!(log.contains(&note), "{log}");
    let dockerfile = dockerfile.replace("RUN --mount=type=cache,target=/c true", "COPY --no-such-flag a b");
    let wrong = engine.image(Trust::Trusted, "ffffffffffff-ba9876543210", &[("Dockerfile", &dockerfile)]);
    let why = "Dockerfile line 3: there is no COPY --no-such-flag; write it without";
    assert_eq!(engine.failure(&wrong).await, Failure::permanent(why));
    engine.end().await;
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let _cache = CACHE.write().await;
    let mark = unique();
    let known = || cli(&["system", "df", "-v", "--format", "{{json .BuildCache}}"]).contains(&mark);
    let free = Engine::with(|settings| settings.build_cache = 0);
    let dockerfile = format!("FROM $BUSYBOX\nRUN echo {mark} && dd if=/dev/zero of=/big bs=1000000 count=8\n");
    let image = free.image(Trust::Trusted, NAME, &[("Dockerfile", &dockerfile)]);
    free.ensure(&image).await.unwrap();
    free.docker.remove(&image.id).await.unwrap();
    assert!(known(), "the step is in the cache, also without its image");
    let bound = Engine::with(|settings| settings.build_cache = 4_000_000);
    let small = bound.image(Trust::Trusted, NAME, &[("Dockerfile", "FROM $BUSYBOX\nRUN true\n")]);
    // The engine clears its cache for one build at a time, and others build meanwhile: the next build does it then.
    for _ in 0..30 {
        bound.ensure(&small).await.unwrap();
        if !known() {
            break;
        }
        bound.docker.remove(&small.id).await.unwrap();
    }
    assert!(!known(), "it was too much");
    free.end().await;
    bound.end().await;
}
