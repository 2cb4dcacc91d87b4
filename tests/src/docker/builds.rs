//! Images: built, refused, cut, and gone.

use std::sync::Arc;
use std::time::Duration;

use drivers::git::GitForge;
use drivers::{Driver, Log};
use planner::identity::{Sha, Trust};
use planner::resource::{Failure, Kind, Resource, Run};
use planner::spec::{Build, ImageSource, Spec};

use super::engine::{Engine, cli, project, wait_for};

pub(super) const NAME: &str = "0123456789ab-ba9876543210";
pub(super) const FOREIGN: &str = "ba9876543210";

fn image(engine: &Engine, dockerfile: &str) -> Resource {
    engine.image(Trust::Trusted, NAME, &[("Dockerfile", dockerfile), ("greeting", "hello")])
}

fn tag(resource: &Resource) -> &str {
    let Spec::Image(build) = &resource.spec else { panic!("no image") };
    &build.tag
}

#[tokio::test]
async fn an_image_is_built_once_and_containers_run_from_it() {
    let engine = Engine::new();
    let image = image(
        &engine,
        "FROM $BUSYBOX\nARG WHO\nRUN echo built for $WHO\nCOPY greeting /\nCMD [\"cat\", \"/greeting\"]",
    );
    let mut image = image;
    if let Spec::Image(build) = &mut image.spec {
        build.args.insert("WHO".to_owned(), "staging".to_owned());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let built = engine.ensure_logged(&image, &Log::create(&file).unwrap()).await.unwrap();
    assert!(built.outputs.id.as_ref().unwrap().starts_with("sha256:"));
    assert_eq!(built.fingerprint, image.fingerprint);
    let log = std::fs::read_to_string(&file).unwrap();
    // Neither our labels nor our Dockerfile's are steps of theirs.
    assert!(log.contains("] RUN echo built for ") && log.contains(" built for staging\n"), "{log}");
    assert!(!log.contains("sidestage."), "{log}");
    assert_eq!(engine.all().await.into_keys().collect::<Vec<_>>(), [image.id.clone()]);

    engine.files.lock().unwrap().insert("Dockerfile".to_owned(), "not built again".to_owned());
    assert_eq!(engine.ensure(&image).await.unwrap(), built);

    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &[]);
    (spec.command, spec.image) = (None, ImageSource::Built(image.id.clone()));
    let job = engine.job("release", spec);
    let log = Log::create(&file).unwrap();
    let seen = engine.ensure_logged(&job, &log).await.unwrap();
    assert!(seen.uses.contains(&image.id) && seen.uses.iter().any(|id| id.kind == Kind::Network), "{:?}", seen.uses);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello");
    engine.end().await;
}

#[tokio::test]
async fn what_the_classic_builder_leaves_goes_with_the_image() {
    let engine = Engine::new();
    let text = "FROM $BUSYBOX AS one\nRUN echo slow > /made\nFROM $BUSYBOX\nCOPY --from=one /made /\n";
    let image = engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    engine.ensure_logged(&image, &Log::create(&file).unwrap()).await.unwrap();
    assert_eq!(engine.all().await.len(), 1, "stages are no images of ours");
    let dangling = format!("label=sidestage.instance={}", engine.key.instance());
    assert_eq!(cli(&["images", "-q", "--filter", "dangling=true", "--filter", &dangling]), "");
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains("#1 [1/4] FROM ") && log.contains("#2 [2/4] RUN echo slow > /made … "), "{log}");
    assert!(log.contains("#4 [4/4] COPY --from=one /made / … ") && !log.contains("sidestage."), "{log}");
    engine.end().await;
}

#[tokio::test]
async fn a_failing_step_is_told_with_its_last_lines_and_leaves_nothing() {
    let engine = Engine::new();
    let text = "FROM $BUSYBOX\nRUN touch /a\nRUN echo cannot find gem && exit 4\n";
    let told =
        "the build failed at step 3/3 (RUN echo cannot find gem && exit 4): code 4; it said last: cannot find gem";
    for image in [image(&engine, text), engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)])] {
        assert_eq!(engine.failure(&image).await, Failure::permanent(told));
        assert_eq!(engine.left(), Vec::<String>::new(), "when the failure is told, everything is cleared away");
    }
    engine.end().await;
}

#[tokio::test]
async fn a_missing_file_and_a_missing_base_are_clear() {
    let engine = Engine::new();
    let failure = engine.failure(&image(&engine, "FROM $BUSYBOX\nCOPY nosuch /\n")).await.to_string();
    assert!(failure.contains("(COPY nosuch /)") && failure.contains("nosuch"), "{failure}");
    let failure = engine.failure(&image(&engine, "FROM 127.0.0.1:9/nosuch:1\n")).await.to_string();
    assert!(failure.starts_with("the base image 127.0.0.1:9/nosuch:1 is not on this machine"), "{failure}");
    assert!(!failure.contains('\n'));
    engine.end().await;
}

#[tokio::test]
async fn what_the_classic_builder_cannot_do_fails_before_the_build() {
    let engine = Engine::new();
    let text = "FROM $BUSYBOX\nRUN --mount=type=cache,target=/x true\n";
    let failure = engine.failure(&engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)])).await;
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    assert!(failure.to_string().starts_with("Dockerfile line 2: RUN --mount needs BuildKit"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn an_image_beyond_the_limit_is_refused_with_both_numbers() {
    let engine = Engine::with(|settings| settings.image_size = 3_000_000);
    let text = "FROM $BUSYBOX\nRUN dd if=/dev/zero of=/big bs=1000000 count=5\n";
    for image in [image(&engine, text), engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)])] {
        let failure = engine.failure(&image).await;
        assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
        let text = failure.to_string();
        assert!(text.starts_with("the image has ") && text.contains("at most 3 MB are allowed"), "{text}");
        assert_eq!(engine.left(), Vec::<String>::new());
    }
    engine.end().await;
}

#[tokio::test]
async fn builds_of_foreign_code_are_limited_in_processes() {
    let engine = Engine::with(|settings| settings.build_pids = 40);
    let text = "FROM $BUSYBOX\nRUN for n in $(seq 1 2000); do sleep 1000 & done; echo all of them; exit 7\n";
    let image = engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)]);
    let failure = engine.failure(&image).await.to_string();
    assert!(failure.contains("can't fork"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn the_log_of_a_build_is_bounded_and_says_so() {
    let engine = Engine::new();
    let image = engine.image(
        Trust::Approved,
        FOREIGN,
        &[(
            "Dockerfile",
            "FROM $BUSYBOX\nRUN seq 1000000000000 1000002000000\nRUN dd if=/dev/zero bs=1000000 count=30\n",
        )],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    engine.ensure_logged(&image, &Log::create(&file).unwrap()).await.unwrap();
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.len() < 21 << 20 && log.ends_with("[log cut at 20 MB]\n"), "{} bytes", log.len());
    engine.end().await;
}

#[tokio::test]
async fn a_cut_build_leaves_nothing() {
    let engine = Engine::new();
    let needs = engine.all().await;
    for trust in [Trust::Trusted, Trust::Approved] {
        let seconds = format!("1{:09}", u32::from_le_bytes(super::engine::random()) % 1_000_000_000);
        let dockerfile = format!("FROM $BUSYBOX\nRUN touch /a\nRUN sleep {seconds}\n");
        let name = if trust.is_foreign() { FOREIGN } else { NAME };
        let image = engine.image(trust, name, &[("Dockerfile", &dockerfile)]);
        {
            let log = Log::none();
            let build = engine.docker.ensure(&image, &needs, &log);
            tokio::pin!(build);
            let sleeping = wait_for("the step that sleeps", || runs(&seconds).then_some(()).ok_or_else(String::new));
            tokio::select! { done = &mut build => panic!("it ended: {done:?}"), () = sleeping => {} }
        }
        wait_for("the step's end", || (!runs(&seconds)).then_some(()).ok_or_else(String::new)).await;
        let left = || engine.left().is_empty().then_some(()).ok_or_else(|| engine.left().join("\n"));
        wait_for("nothing left", left).await;
    }
    engine.end().await;
}

/// Whether a process `sleep <seconds>` runs on this machine.
fn runs(seconds: &str) -> bool {
    let wanted = format!("sleep\0{seconds}\0");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path().join("cmdline"))
        .any(|file| std::fs::read(file).is_ok_and(|line| line.ends_with(wanted.as_bytes())))
}

#[tokio::test]
async fn a_build_has_a_deadline() {
    let engine = Engine::new();
    let mut image = image(&engine, "FROM $BUSYBOX\nRUN sleep 1000\n");
    image.deadline = Duration::from_secs(3);
    assert_eq!(engine.failure(&image).await, Failure::permanent("the build did not end within 3 s"));
    engine.end().await;
}

#[tokio::test]
async fn layers_of_two_trusts_never_meet() {
    let engine = Engine::new();
    let text = "FROM $BUSYBOX\nRUN cat /proc/sys/kernel/random/uuid > /same\n";
    let trusted = engine.ensure(&image(&engine, text)).await.unwrap().outputs.id.unwrap();
    let foreign = engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", text)]);
    let foreign = engine.ensure(&foreign).await.unwrap();
    assert_eq!(foreign.outputs.commit.as_ref().map(|(_, _, trust)| *trust), Some(Trust::Approved));
    let layers = |id: &str| {
        let told = cli(&["image", "inspect", "--format", "{{range .RootFS.Layers}}{{println .}}{{end}}", id]);
        told.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    // What the step wrote is never the same twice: two images with one layer would have shared it.
    let (one, two) = (layers(&trusted), layers(&foreign.outputs.id.unwrap()));
    assert!(one.len() == 2 && two.len() == 2 && one[0] == two[0] && one[1] != two[1], "{one:?} {two:?}");
    engine.end().await;
}

#[tokio::test]
async fn foreign_code_builds_on_nothing_but_public_images_by_name() {
    let engine = Engine::new();
    let secret = image(&engine, "FROM $BUSYBOX\nRUN echo secret > /secret\n");
    let id = engine.ensure(&secret).await.unwrap().outputs.id.unwrap();
    let id = id.trim_start_matches("sha256:").to_owned();
    let tag = tag(&secret).to_owned();
    assert!(tag.contains(project().as_str()));
    for dockerfile in [
        format!("FROM {tag}"),
        format!("FROM {id}"),
        format!("FROM {}", &id[..12]),
        format!("FROM $BUSYBOX\nCOPY --from={tag} /secret /"),
        "FROM $BUSYBOX\nADD http://127.0.0.1:9/ /x".to_owned(),
        "FROM nosuch.invalid/x".to_owned(),
    ] {
        let foreign = engine.image(Trust::Approved, FOREIGN, &[("Dockerfile", &dockerfile)]);
        let failure = engine.failure(&foreign).await;
        assert!(matches!(failure, Failure::Permanent { .. }), "{dockerfile}: {failure}");
        assert!(failure.to_string().starts_with("Dockerfile line "), "{failure}");
    }
    engine.docker.rest(&secret.id, Run::Stopped).await.unwrap();
    engine.end().await;
}

#[tokio::test]
async fn a_commit_is_built_as_its_dockerignore_says() {
    let folder = tempfile::tempdir().unwrap();
    let (source, mirror) = (folder.path().join("shop.git"), folder.path().join("mirror"));
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(&source).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
        let out = git.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let probe = Engine::new();
    let dockerfile = format!("FROM {}\nCOPY . /all\n", probe.busybox.tag);
    let ignore = "log\n**/*.secret\n!keep.secret\nDockerfile\n.dockerignore\n";
    for (path, text) in [
        (".dockerignore", ignore),
        ("Dockerfile", dockerfile.as_str()),
        ("app", "an application"),
        ("log/today", "no"),
        ("deep/a.secret", "no"),
        ("keep.secret", "yes"),
    ] {
        let file = source.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    let sha: Sha = git(&["rev-parse", "HEAD"]).parse().unwrap();

    let forge = Arc::new(GitForge::new(source.join(".git"), mirror, Vec::new(), &[]).unwrap());
    let runtime = tokio::runtime::Handle::current();
    let contexts = move |build: &Build| runtime.block_on(forge.context(&build.of, &build.context, &build.dockerfile));
    let engine = Engine::with(|settings| settings.contexts = Arc::new(contexts));
    let mut image = image(&engine, "");
    if let Spec::Image(build) = &mut image.spec {
        build.of.sha = sha;
    }
    engine.ensure(&image).await.unwrap();
    let listed = cli(&["run", "--rm", tag(&image), "sh", "-c", "cd /all && find . | sort"]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), [".", "./app", "./keep.secret"]);
    engine.end().await;
    probe.end().await;
}
