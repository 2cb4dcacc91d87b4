//! Images by CI, and accounts at registries.

use std::collections::BTreeMap;
use std::time::Duration;

use drivers::{Driver, Log};
use planner::identity::Trust;
use planner::names;
use planner::resource::{Backend, Failure, Kind, Owner, Resource, ResourceId, Run};
use planner::spec::{ImageSource, Pulled, Spec};

use super::builds::NAME;
use super::engine::{Engine, cli, origin};
use super::registry::{PASSWORD, Registry, USER, broken, secret};

/// Labels of an image that was built from this commit.
fn revision(sha: &str) -> serde_json::Value {
    serde_json::json!({ "org.opencontainers.image.revision": sha })
}

fn here() -> String {
    cli(&["version", "--format", "{{.Server.Arch}}"]).trim().to_owned()
}

/// The image that CI pushed as this, for trusted code.
fn pulled(engine: &Engine, trust: Trust, reference: &str) -> Resource {
    let (of, env) = (origin(trust), engine.env(trust));
    let name = "ba9876543210";
    let tag = format!("{}:{env}-{name}", names::image_repository(&engine.key, &of.project));
    let id = ResourceId {
        backend: Backend::Engine,
        owner: Owner::Env(env),
        generation: 0,
        kind: Kind::Image,
        name: name.to_owned(),
    };
    let spec = Spec::Pulled(Pulled { of, reference: reference.to_owned(), tag, wait: Duration::from_secs(1800) });
    let fingerprint = planner::resource::Fingerprint("0123456789abcdef".to_owned());
    Resource { id, spec, run: Run::Running, needs: Vec::new(), deadline: Duration::from_secs(60), fingerprint }
}

async fn told(engine: &Engine, image: &Resource) -> (Failure, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let failure = engine.ensure_logged(image, &Log::create(&file).unwrap()).await.unwrap_err();
    assert!(!failure.to_string().contains('\n'), "one line: {failure}");
    (failure, std::fs::read_to_string(&file).unwrap())
}

#[tokio::test]
async fn an_image_by_ci_is_waited_for_pulled_and_kept() {
    let registry = Registry::start();
    let engine = Engine::with(|settings| settings.registries = vec![registry.account()]);
    let reference = format!("{}/acme/shop:sha-0707070", registry.host);
    let image = pulled(&engine, Trust::Trusted, &reference);
    assert_eq!(told(&engine, &image).await.0, Failure::waiting(format!("waiting for {reference}")));
    registry.push("acme/shop:other", &serde_json::json!({}), &here());
    assert_eq!(told(&engine, &image).await.0, Failure::waiting(format!("waiting for {reference}")));

    let sha = origin(Trust::Trusted).sha.to_string();
    registry.push("acme/shop:sha-0707070", &revision(&sha), &here());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let seen = engine.ensure_logged(&image, &Log::create(&file).unwrap()).await.unwrap();
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains(&format!("{reference} is {}/acme/shop@sha256:", registry.host)), "{log}");
    assert!(!log.contains(PASSWORD));
    assert!(engine.all().await.into_keys().eq([image.id.clone()]));
    let named = cli(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!named.contains(&registry.host), "only our own tag is left: {named}");

    // Kept: what the tag means now changes nothing.
    registry.push("acme/shop:sha-0707070", &revision(&sha.replace("07", "08")), &here());
    assert_eq!(engine.ensure(&image).await.unwrap().outputs.id, seen.outputs.id);
    engine.docker.remove(&image.id).await.unwrap();
    let id = seen.outputs.id.unwrap();
    assert_eq!(cli(&["image", "inspect", "--format", "{{.Id}}", &id]).trim(), "", "nothing of it stays");
    engine.end().await;
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_refused() {
    let registry = Registry::start();
    let engine = Engine::with(|settings| settings.registries = vec![registry.account()]);
    let other = if here() == "arm64" { "amd64" } else { "arm64" };
    let elsewhere = registry.push("acme/shop:arch", &serde_json::json!({}), other);
    let commit = registry.push("acme/shop:commit", &revision("1111111"), &here());
    let short = registry.push("acme/shop:short", &revision("0707070"), &here());
    for (reference, signs) in [
        (&elsewhere, [format!("is for {other}"), format!("let CI build it for linux/{}", here())]),
        (&commit, ["was built from another commit".to_owned(), "1111111".to_owned()]),
    ] {
        let (failure, _) = told(&engine, &pulled(&engine, Trust::Trusted, reference)).await;
        assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
        assert!(failure.to_string().starts_with(reference.as_str()), "{failure}");
        assert!(signs.iter().all(|sign| failure.to_string().contains(sign)), "{failure}");
    }
    engine.ensure(&pulled(&engine, Trust::Trusted, &short)).await.unwrap();
    let (failure, _) = told(&engine, &pulled(&engine, Trust::Approved, &short)).await;
    assert_eq!(failure, Failure::permanent("an image for foreign code is never pulled: it is built here"));
    engine.end().await;
    assert!(!cli(&["images", "-a", "--digests"]).contains(&registry.host), "nothing refused stays");
}

#[tokio::test]
async fn a_refusal_names_registry_account_and_remedy() {
    let registry = Registry::start();
    let reference = registry.push("acme/shop:1", &serde_json::json!({}), &here());
    let host = &registry.host;
    let nobody = Engine::new();
    let (failure, _) = told(&nobody, &pulled(&nobody, Trust::Trusted, &reference)).await;
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    let text = failure.to_string();
    assert!(text.contains(&format!("name an account for {host} in [[registry]]")), "{text}");
    nobody.end().await;

    let wrong = registry.folder.path().join("wrong");
    secret(&wrong, "not-the-password");
    let account = drivers::docker::Registry { password_file: wrong, ..registry.account() };
    let engine = Engine::with(|settings| settings.registries = vec![account.clone()]);
    let (failure, log) = told(&engine, &pulled(&engine, Trust::Trusted, &reference)).await;
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    let text = failure.to_string();
    assert!(text.starts_with(&format!("{host} refuses {reference} to {USER}: check the password")), "{text}");
    assert!(!text.contains("not-the-password") && !log.contains("not-the-password"));
    engine.end().await;

    let open = registry.folder.path().join("htpasswd");
    for (password_file, sign) in [
        ("/nonexistent/password".into(), "/nonexistent/password, does not exist"),
        (open, "has mode 0644, so others can read it: make it 0600"),
    ] {
        let account = drivers::docker::Registry { password_file, ..account.clone() };
        let engine = Engine::with(|settings| settings.registries = vec![account]);
        let (failure, _) = told(&engine, &pulled(&engine, Trust::Trusted, &reference)).await;
        assert!(failure.to_string().contains(sign), "{failure}");
        engine.end().await;
    }
}

#[tokio::test]
async fn broken_registries_are_told_apart() {
    let engine = Engine::new();
    let busy = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let html = "<html>hello</html>";
    for (status, headers, body, permanent, sign) in [
        ("429 Too Many Requests", "retry-after: 30\r\n", busy, None, "takes no more requests for now"),
        ("429 Too Many Requests", "content-type: text/html\r\n", html, None, "takes no more requests for now"),
        ("403 Forbidden", "", denied, Some(true), "name an account for"),
        ("200 OK", "content-type: text/html\r\n", html, Some(true), "is no container registry"),
        ("404 Not Found", "content-type: text/html\r\n", html, Some(true), "is no container registry"),
        ("502 Bad Gateway", "content-type: text/html\r\n", html, Some(false), "did not give"),
    ] {
        let (address, asked) = broken(status, headers, body);
        let (failure, _) = told(&engine, &pulled(&engine, Trust::Trusted, &format!("{address}/acme/shop:1"))).await;
        let text = failure.to_string();
        let kind = match failure {
            Failure::Permanent { .. } => Some(true),
            Failure::Transient { .. } => Some(false),
            _ => None,
        };
        assert_eq!(kind, permanent, "{status}: {text}");
        assert!(text.contains(sign) && text.contains(&address.to_string()), "{status}: {text}");
        assert!(*asked.lock().unwrap() > 0, "{status}: it was asked");
    }
    let (failure, _) = told(&engine, &pulled(&engine, Trust::Trusted, "127.0.0.1:9/acme/shop:1")).await;
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    assert!(failure.to_string().starts_with("127.0.0.1:9 cannot be reached for"), "{failure}");
    engine.end().await;
}

#[tokio::test]
async fn bases_of_builds_and_companions_come_with_the_account() {
    let registry = Registry::start();
    let engine = Engine::with(|settings| settings.registries = vec![registry.account()]);
    let base = format!("{}/acme/base:1", registry.host);
    let upload = || {
        cli(&["tag", &engine.busybox.tag, &base]);
        registry.push_as(&base);
    };
    upload();
    let dockerfile = format!("FROM {base}\nRUN echo made > /made\n");
    engine.ensure(&engine.image(Trust::Trusted, NAME, &[("Dockerfile", &dockerfile)])).await.unwrap();
    cli(&["rmi", &base]);

    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sleep", "1000"]);
    (spec.companion, spec.image, spec.injected) = (true, ImageSource::Named(base.clone()), BTreeMap::new());
    engine.ensure(&engine.container("cache", spec)).await.unwrap();
    let processes = String::from_utf8(std::process::Command::new("ps").arg("axww").output().unwrap().stdout).unwrap();
    assert!(!processes.contains(PASSWORD));
    engine.end().await;
    cli(&["rmi", &base]);
    let names = cli(&["images", "-a", "--digests", "--format", "{{.Repository}}"]);
    assert!(!names.contains(&registry.host), "{names}");
}
