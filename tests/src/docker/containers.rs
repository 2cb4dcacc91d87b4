//! Containers that come up, do not, and rest.

use std::time::Duration;

use drivers::docker::{Docker, Touched};
use drivers::{Driver, Log, Scope};
use futures_util::StreamExt;
use planner::identity::Trust;
use planner::resource::{Failure, Kind, Owner, Phase, Run};
use planner::spec::Health;

use super::engine::{Engine, cli, key, settings, wait_for};

const SERVE: &str = "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p $0 -h /www";

#[tokio::test]
async fn a_web_process_is_up_when_it_answers_and_has_an_address() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", &format!("sleep 0.3; {SERVE}"), "8080"]);
    (spec.port, spec.health) = (Some(8080), Health::Path("/index.html".to_owned()));
    let web = engine.container("web", spec);
    let seen = engine.ensure(&web).await.unwrap();
    assert_eq!((seen.phase, seen.run), (Phase::Whole, Run::Running));
    let address = seen.outputs.address.expect("it runs, so it has an address");
    let stream = tokio::net::TcpStream::connect((address, 8080)).await;
    assert!(stream.is_ok(), "the address of {seen:?} answers");
    assert_eq!(seen.outputs.commit.as_ref().map(|(project, _, _)| project.as_str()), Some("shop"));
    engine.end().await;
}

#[tokio::test]
async fn health_requests_carry_the_canonical_host() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    // Prints the request; answers 302 once it has seen what a visitor's request carries.
    let script = "while :; do (nc -l -p 8080 -e sh -c 'while read l; do echo \"$l\" >> /seen; test $${#l} -gt 1 || break; done; \
                  echo -e \"HTTP/1.1 302 Found\\r\\nContent-Length: 0\\r\\n\\r\"'); cat /seen; done";
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", script]);
    (spec.port, spec.health) = (Some(8080), Health::Path("/up".to_owned()));
    let web = engine.container("web", spec);
    engine.ensure(&web).await.unwrap();
    let env = engine.env(Trust::Trusted);
    let printed = wait_for("the request", || {
        let printed = cli(&["logs", &format!("sst-{env}-1-web")]).to_lowercase();
        if printed.contains("forwarded-host") { Ok(printed) } else { Err(printed) }
    })
    .await;
    for line in ["get /up http/1.1", "host: abc.staging.test:8080", "x-forwarded-proto: https"] {
        assert!(printed.contains(line), "{line:?} is missing in {printed}");
    }
    engine.end().await;
}

/// What an application with `force_ssl` does when it is told that the visitor came in clear.
#[tokio::test]
async fn a_redirect_to_an_https_that_nobody_serves_is_not_up() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let redirecting = |to: &str, scheme: &str| {
        let script = format!(
            "while :; do nc -l -p 8080 -e sh -c 'while read l; do test $${{#l}} -gt 1 || break; done; \
             echo -e \"HTTP/1.1 301 Moved\\r\\nLocation: {to}\\r\\nContent-Length: 0\\r\\n\\r\"'; done"
        );
        let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", &script]);
        (spec.port, spec.health) = (Some(8080), Health::Path("/up".to_owned()));
        spec.start_timeout = Duration::from_secs(3);
        spec.canonical.as_mut().unwrap().scheme = scheme.to_owned();
        spec
    };
    let own = "https://ABC.staging.test/up";
    let failure = engine.failure(&engine.container("web", redirecting(own, "http"))).await.to_string();
    for part in [own, "nobody serves https", "set [front] tls", "force_ssl"] {
        assert!(failure.contains(part), "{part:?} is not in {failure}");
    }
    // To a sign-in elsewhere, within http, or where https is served.
    for (name, to, scheme) in [
        ("elsewhere", "https://accounts.example.org/", "http"),
        ("within", "/sign-in", "http"),
        ("served", own, "https"),
    ] {
        engine.ensure(&engine.container(name, redirecting(to, scheme))).await.unwrap();
    }
    engine.end().await;
}

#[tokio::test]
async fn an_answer_that_is_an_error_is_not_up() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", SERVE, "8080"]);
    (spec.port, spec.health) = (Some(8080), Health::Path("/nosuch".to_owned()));
    spec.start_timeout = Duration::from_secs(2);
    let failure = engine.failure(&engine.container("web", spec)).await.to_string();
    assert!(failure.contains("did not come up within 2 s: GET /nosuch answers 404"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn who_exits_at_once_is_told_with_its_last_words() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", "echo starting; echo no such table >&2; exit 3"]);
    (spec.port, spec.health) = (Some(8080), Health::Port);
    let web = engine.container("web", spec);
    let failure = engine.failure(&web).await;
    assert!(matches!(failure, Failure::Permanent { .. }), "its own fault: {failure:?}");
    let text = failure.to_string();
    assert!(text.starts_with("web exited with code 3; it said last: "), "{text}");
    assert!(text.contains("no such table"), "{text}");
    assert_eq!(engine.all().await[&web.id].phase, Phase::Exited { code: 3, oom: false });

    let mut spec = engine.spec(Trust::Trusted, &["nosuch"]);
    (spec.port, spec.health) = (Some(8080), Health::Port);
    let failure = engine.failure(&engine.container("api", spec)).await;
    assert!(failure.to_string().contains("127"), "{failure}");

    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", "kill -SEGV $$"]);
    (spec.port, spec.health) = (Some(8080), Health::Port);
    let failure = engine.failure(&engine.container("native", spec)).await;
    assert!(failure.to_string().starts_with("native exited with code 139 (SIGSEGV)"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn who_is_killed_for_memory_is_told_the_limit_and_what_to_do() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]);
    (spec.memory, spec.port, spec.health) = (32 << 20, Some(8080), Health::Port);
    let web = engine.container("web", spec);
    let failure = engine.failure(&web).await.to_string();
    assert!(failure.starts_with("web was killed at its limit of 32 MB; set memory = \"64m\""), "{failure}");
    let phase = engine.all().await[&web.id].phase;
    assert!(matches!(phase, Phase::Exited { oom: true, .. }), "{phase:?}");
    engine.end().await;
}

/// A worker that forked: the container runs on, and only an event tells of the death.
#[tokio::test]
async fn deaths_of_children_by_memory_are_counted() {
    let engine = Engine::new();
    let mut events = engine.docker.events();
    let listening = tokio::spawn(async move { while events.next().await.is_some() {} });
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let child = "(x=0123456789abcdef; while :; do x=$x$x; done)";
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", &format!("sleep 2; {child}; {child}; exec sleep 1000")]);
    spec.memory = 32 << 20;
    let worker = engine.container("worker", spec);
    assert_eq!(engine.ensure(&worker).await.unwrap().outputs.oom, 0);
    let began = std::time::Instant::now();
    let seen = loop {
        let seen = engine.all().await.remove(&worker.id).unwrap();
        if seen.outputs.oom >= 2 {
            break seen;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no death was counted: {seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((seen.phase, seen.run), (Phase::Whole, Run::Running));
    engine.docker.remove(&worker.id).await.unwrap();
    assert_eq!(engine.ensure(&worker).await.unwrap().outputs.oom, 0, "another container begins anew");
    listening.abort();
    engine.end().await;
}

#[tokio::test]
async fn who_listens_elsewhere_is_told_where() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    for (listens, told) in [
        (&["sh", "-c", SERVE, "3000"], "it listens on 3000"),
        (&["sh", "-c", SERVE, "127.0.0.1:8080"], "on 127.0.0.1 only"),
        (&["sh", "-c", "sleep 1000", ""], "no port at all"),
    ] {
        let mut spec = engine.spec(Trust::Trusted, listens);
        (spec.port, spec.health, spec.start_timeout) = (Some(8080), Health::Port, Duration::from_secs(1));
        let web = engine.container("web", spec);
        let failure = engine.failure(&web).await.to_string();
        assert!(failure.contains("web did not come up within 1 s: nothing listens on $PORT (8080)"), "{failure}");
        assert!(failure.contains(told), "{failure}");
        engine.docker.remove(&web.id).await.unwrap();
    }
    engine.end().await;
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_and_counts_as_stopped() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let worker = engine
        .container("worker", engine.spec(Trust::Trusted, &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]));
    engine.ensure(&worker).await.unwrap();
    engine.docker.rest(&worker.id, Run::Paused).await.unwrap();
    assert_eq!(engine.all().await[&worker.id].run, Run::Paused);
    engine.docker.rest(&worker.id, Run::Stopped).await.unwrap();
    let seen = engine.all().await.remove(&worker.id).unwrap();
    assert_eq!((seen.phase, seen.run), (Phase::Whole, Run::Stopped), "we stopped it, so it did not end by itself");
    assert_eq!(seen.outputs.address, None);
    let again = engine.ensure(&worker).await.unwrap();
    assert_eq!((again.run, again.outputs.id), (Run::Running, seen.outputs.id), "the same container wakes");
    engine.end().await;
}

#[tokio::test]
async fn another_version_is_never_mixed_in() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut worker = engine.container("worker", engine.spec(Trust::Trusted, &["sleep", "1000"]));
    engine.ensure(&worker).await.unwrap();
    worker.fingerprint.0 = "fedcba9876543210".to_owned();
    let failure = engine.failure(&worker).await;
    assert!(
        matches!(failure, Failure::Transient { .. }) && failure.to_string().contains("another version"),
        "{failure:?}"
    );
    engine.docker.remove(&worker.id).await.unwrap();
    engine.ensure(&worker).await.unwrap();
    engine.end().await;
}

#[tokio::test]
async fn a_container_whose_network_was_replaced_is_made_again() {
    let engine = Engine::new();
    let network = engine.network(Trust::Trusted);
    engine.ensure(&network).await.unwrap();
    let worker = engine.container("worker", engine.spec(Trust::Trusted, &["sleep", "1000"]));
    let first = engine.ensure(&worker).await.unwrap();
    engine.docker.rest(&worker.id, Run::Stopped).await.unwrap();
    engine.docker.remove(&network.id).await.unwrap();
    engine.ensure(&network).await.unwrap();
    let second = engine.ensure(&worker).await.unwrap();
    assert_ne!(first.outputs.id, second.outputs.id);
    engine.end().await;
}

#[tokio::test]
async fn a_persons_container_from_our_image_is_not_ours() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let image = engine.image(
        Trust::Trusted,
        "0123456789ab-ba9876543210",
        &[("Dockerfile", "FROM $BUSYBOX\nCMD [\"sleep\", \"1000\"]")],
    );
    let built = engine.ensure(&image).await.unwrap().outputs.id.unwrap();
    let before = engine.all().await;
    let name = format!("person-{}", engine.key.instance());
    cli(&["run", "-d", "--name", &name, &built]);
    assert_eq!(engine.all().await, before, "labels of an image never make a container ours");
    engine.docker.tidy().await.unwrap();
    assert_eq!(cli(&["inspect", "--format", "{{.State.Running}}", &name]).trim(), "true", "nor is it cleared away");
    engine.docker.remove(&image.id).await.unwrap();
    assert_eq!(cli(&["inspect", "--format", "{{.State.Running}}", &name]).trim(), "true", "nor by the image's removal");
    cli(&["rm", "-f", &name]);
    engine.docker.tidy().await.unwrap();
    engine.end().await;
}

#[tokio::test]
async fn two_instances_do_not_see_each_other() {
    let (one, two) = (Engine::new(), Engine::new());
    let network = one.network(Trust::Trusted);
    one.ensure(&network).await.unwrap();
    assert_eq!(two.all().await.len(), 0);
    two.docker.remove(&network.id).await.unwrap();
    two.docker.tidy().await.unwrap();
    assert_eq!(one.all().await.len(), 1);
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn events_name_the_environment_that_something_happened_to() {
    let engine = Engine::new();
    let mut events = engine.docker.events();
    assert_eq!(events.next().await, Some(Touched::Everything));
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let worker = engine.container("worker", engine.spec(Trust::Trusted, &["sleep", "1000"]));
    engine.ensure(&worker).await.unwrap();
    cli(&["kill", &format!("sst-{}-1-worker", engine.env(Trust::Trusted))]);
    let told = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
    assert_eq!(told, Some(Touched::Env(engine.env(Trust::Trusted))));
    engine.end().await;
}

#[tokio::test]
async fn logs_are_read_and_followed_to_the_end() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let script = "echo first; sleep 1; echo second >&2; sleep 0.5";
    let worker = engine.container("worker", engine.spec(Trust::Trusted, &["sh", "-c", script]));
    engine.ensure(&worker).await.unwrap();
    let env = engine.env(Trust::Trusted);
    let pieces = engine.docker.logs(&env, 1, "worker", 100, true).await.unwrap();
    assert_eq!(pieces.collect::<Vec<_>>().await.concat(), "first\nsecond\n");
    assert!(engine.docker.logs(&env, 2, "worker", 100, true).await.is_err());
    engine.end().await;
}

#[tokio::test]
async fn an_engine_that_is_away_is_a_failure_that_says_so() {
    let files = std::sync::Arc::default();
    let docker = Docker::connect("/nonexistent/docker.sock", key(), settings(&files));
    let failure = docker.inventory(&Scope::All).await.unwrap_err();
    let told = "the container engine at /nonexistent/docker.sock does not answer: is docker running?";
    assert_eq!(failure, Failure::transient(told));
}

#[tokio::test]
async fn an_owners_listing_holds_nothing_else() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    let env = engine.env(Trust::Approved);
    let listing = engine.docker.inventory(&Scope::Owner(Owner::Env(env))).await.unwrap();
    assert_eq!(listing.into_keys().collect::<Vec<_>>(), [engine.id(Trust::Approved, Kind::Network, "main")]);
    engine.end().await;
}

#[tokio::test]
async fn foreign_code_is_refused_where_the_operator_did_not_allow_it() {
    let engine = Engine::with(|settings| settings.runc_for_forks = false);
    engine.ensure(&engine.network(Trust::Approved)).await.unwrap();
    let web = engine.container("web", engine.spec(Trust::Approved, &["sleep", "1000"]));
    let failure = engine.docker.ensure(&web, &engine.all().await, &Log::none()).await.unwrap_err();
    assert!(failure.to_string().contains("runc_for_forks"), "{failure}");
    assert!(matches!(failure, Failure::Permanent { .. }));
    engine.end().await;
}
