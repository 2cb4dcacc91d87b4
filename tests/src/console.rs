//! The console: every route, and what every answer carries.
#![allow(clippy::unwrap_used)]

mod baselines;
pub(crate) mod fake;
pub(crate) mod http;
mod showing;
mod signing_in;
mod streaming;
mod writing;

use planner::view::State;

use fake::{Fake, commit, sha, usual};
use http::{Console, Visitor};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Every route, with what it answers to somebody who is signed in and asks as our own pages do.
fn routes() -> Vec<(&'static str, String, u16)> {
    let one = sha(1);
    let env = commit(10, "", State::Ready).env;
    vec![
        ("GET", "/".into(), 200),
        ("GET", format!("/projects/shop/{one}"), 200),
        ("GET", format!("/confirm?do=remove&project=shop&sha={one}"), 200),
        ("GET", "/projects/shop/secrets".into(), 200),
        ("GET", "/projects/other/secrets".into(), 404),
        ("POST", "/projects/shop/secrets".into(), 403),
        ("POST", "/logout".into(), 403),
        ("POST", "/do".into(), 403),
        ("POST", "/stage".into(), 403),
        ("POST", "/run".into(), 403),
        ("GET", "/nothing".into(), 404),
        ("GET", format!("/projects/shop/{}", sha(99)), 404),
        ("GET", "/projects/shop/abc".into(), 404),
        ("GET", "/api/v1/view".into(), 200),
        ("GET", "/api/v1/projects/shop".into(), 200),
        ("GET", "/api/v1/projects/other".into(), 404),
        ("GET", format!("/api/v1/environments/shop/{one}"), 200),
        ("GET", format!("/api/v1/environments/shop/{}", sha(99)), 404),
        ("GET", "/api/v1/environments/shop/0101".into(), 400),
        ("GET", format!("/api/v1/logs/{env}/web"), 200),
        ("GET", format!("/api/v1/logs/{env}/nothing"), 404),
        ("GET", "/api/v1/logs/short/web".into(), 400),
        ("GET", "/api/v1/projects/shop/secrets".into(), 200),
        ("GET", "/api/v1/projects/other/secrets".into(), 404),
        ("POST", "/api/v1/projects/shop/secrets".into(), 400),
        ("POST", "/api/v1/config/reload".into(), 200),
        ("GET", "/api/v1/plan".into(), 200),
        ("GET", "/api/v1/version".into(), 200),
        ("GET", "/api/v1/nothing".into(), 404),
        ("GET", "/api/v1/commands".into(), 405),
        ("POST", "/api/v1/view".into(), 405),
        ("POST", "/api/v1/commands".into(), 400),
        ("POST", "/api/v1/projects/shop/refs".into(), 400),
        ("POST", "/api/v1/projects/shop/images".into(), 400),
        ("POST", "/api/v1/look/shop".into(), 200),
        ("POST", "/api/v1/look/other".into(), 404),
        ("POST", "/api/v1/login-link".into(), 404),
    ]
}

/// A body that each kind of route understands, with no token of a session.
fn body(path: &str) -> ((&'static str, &'static str), &'static str) {
    if path.starts_with("/api/") {
        (JSON, "{}")
    } else if path == "/run" {
        (FORM, "project=shop&sha=01&name=:sample&token=")
    } else if path == "/stage" {
        (FORM, "project=shop&ref=v5.2.1&token=")
    } else if path.ends_with("/secrets") {
        (FORM, "do=set&name=A&for=trusted&value=v&token=")
    } else {
        (FORM, "do=stage&project=shop&sha=01&token=")
    }
}

#[tokio::test]
async fn only_who_is_signed_in_gets_in() {
    let console = Console::start(Fake::new(usual())).await;
    let nobody = console.visitor();
    for (method, path, _) in routes() {
        let (kind, body) = body(&path);
        let answer = nobody.send(method, &path, &[kind], body).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(answer.body.contains("sidestage login-link"), "{method} {path} says what to do: {}", answer.body);
        assert_eq!(path.starts_with("/api/"), answer.is_json(), "{method} {path}");
    }
    let events = nobody.send("GET", "/api/v1/events", &[], "").await;
    assert_eq!(events.status, 401);
    assert_eq!(console.fake.done(), []);
}

#[tokio::test]
async fn every_route_answers_who_is_signed_in() {
    let console = Console::start(Fake::new(usual())).await;
    for (method, path, status) in routes() {
        let ann = console.sign_in().await;
        let (kind, body) = body(&path);
        let answer = ann.send(method, &path, &[kind, ("origin", &console.url)], body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        if path.starts_with("/api/") && status >= 400 {
            let error: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert!(error["error"].as_str().is_some_and(|line| !line.contains('\n')), "{method} {path}");
        }
    }
    assert_eq!(console.fake.done(), [], "reading and refused writes ask the loop for nothing");
}

#[tokio::test]
async fn other_hosts_are_refused() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    for host in ["evil.test", "127.0.0.1.evil.test", "localhost", "127.0.0.1:1"] {
        let rebound = Visitor { host: host.to_owned(), ..ann.clone() };
        for path in ["/", "/login", "/api/v1/view", "/static/x/console.css"] {
            let answer = rebound.get(path).await;
            assert_eq!(answer.status, 421, "{host} {path}");
            assert!(answer.body.contains(&console.url), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn every_answer_carries_the_policy() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let page = ann.get("/").await;
    let (style, rest) = page.body.split_once("/console.css").unwrap();
    let style = format!("{}/console.css", style.rsplit_once('"').unwrap().1);
    assert!(rest.contains("/console.js"));
    for path in ["/", "/login", "/nothing", "/api/v1/view", "/api/v1/nothing", &style] {
        let answer = ann.get(path).await;
        assert_eq!(
            answer.header("content-security-policy"),
            Some(
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
                 img-src data:; frame-ancestors 'none'; base-uri 'none'"
            ),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{path}");
        let cached = if path == style { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(cached), "{path}");
    }
    for inline in ["<style", "style=", "onclick", "<script>"] {
        assert!(!page.body.contains(inline), "the policy forbids {inline}");
    }
}
