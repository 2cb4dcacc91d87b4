//! Connecting: an App by its manifest, what a connection lacks, and what it costs.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use drivers::Forge;
use drivers::github::connect;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{SHOP, connected, shop};
use crate::fakehub::Target;

const GITHUB: &str = "https://github.com";

#[test]
fn an_app_asks_for_the_least() {
    let manifest = connect::manifest("Sidestage", "https://sidestage.example.org", GITHUB, false, false);
    let permissions = manifest["default_permissions"].as_object().unwrap();
    assert!(!permissions.contains_key("administration") && !permissions.contains_key("members"));
    assert_eq!((&permissions["contents"], &permissions["metadata"]), (&"read".into(), &"read".into()));
    assert_eq!(manifest["hook_attributes"]["url"], "https://sidestage.example.org/webhooks/github");
    assert_eq!(manifest["hook_attributes"]["active"], true);
    let merging = connect::manifest("Sidestage", "http://localhost:8081", GITHUB, true, true);
    assert_eq!(merging["default_permissions"]["contents"], "write");
    assert_eq!(merging["default_permissions"]["members"], "read");
    assert_eq!(merging["hook_attributes"]["active"], false, "GitHub cannot reach this machine by that name");
    let (near, here) = ("https://github.example.org", "http://127.0.0.1:8083");
    for (console, web, reachable) in [
        ("https://sidestage.example.org", GITHUB, true),
        ("http://127.0.0.1:8081", GITHUB, false),
        ("http://10.0.0.3", GITHUB, false),
        ("http://10.0.0.3", near, true),
        ("http://[::1]:8081", near, false),
        ("http://demo.localhost:8081", GITHUB, false),
        ("http://localhost:8081", here, true),
    ] {
        assert_eq!(connect::is_reachable(console, web), reachable, "{console} from {web}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once() {
    let (hub, _forge, _folder) = shop().await;
    let manifest = connect::manifest("Sidestage", "https://sidestage.example.org", GITHUB, false, false);
    hub.change(|world| world.app.codes.insert("abc123".to_owned(), manifest));
    let made = connect::exchange(&hub.url(), "abc123").await.unwrap();
    assert!(made.id > 0 && made.key.0.contains("PRIVATE KEY") && made.webhook_secret.is_some());
    assert!(!format!("{made:?}").contains("PRIVATE KEY"));
    let again = connect::exchange(&hub.url(), "abc123").await.unwrap_err().to_string();
    assert!(again.contains("does not know the code"), "{again}");
    for code in ["", "../app", "a b", "a?b"] {
        assert!(connect::exchange(&hub.url(), code).await.is_err(), "{code:?}");
    }
    let _ = hub.take_problems();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_is_missing() {
    let (hub, forge, _folder) = shop().await;
    hub.change(|world| world.app.permissions.remove("deployments"));
    let environments = BTreeMap::from([("shop".parse().unwrap(), "sidestage".to_owned())]);
    let findings = forge.connection().inspect("https://sidestage.example.org", &environments).await;
    let lines: Vec<String> = findings.iter().map(|found| format!("{} {}", found.good, found.line)).collect();
    let all = lines.join("\n");
    assert!(
        lines.iter().any(|line| line.starts_with("false") && line.contains("permission deployments, write")),
        "{all}"
    );
    assert!(lines.iter().any(|line| line.starts_with("true") && line.contains("acme/shop is reached")), "{all}");
    let _ = hub.take_problems();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_its_hour_and_an_expired_one_is_renewed() {
    let (hub, forge, _folder) = shop().await;
    for _ in 0..3 {
        forge.heads(&Default::default()).await.unwrap();
    }
    let minted = |requests: &[crate::fakehub::Request]| {
        requests.iter().filter(|request| request.path.ends_with("/access_tokens")).count()
    };
    assert_eq!(minted(&hub.take_requests()), 1);
    hub.expire_tokens();
    forge.heads(&Default::default()).await.unwrap();
    assert_eq!(minted(&hub.take_requests()), 1, "one new token, within the same call");
    assert_eq!(connected(&hub).asked().points, 0);
    let _ = hub.take_problems();
}

/// A console that takes whatever is delivered.
async fn taker() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let taken = service_fn(async |request: Request<Incoming>| {
                request.into_body().collect().await?;
                let answer = Response::builder().status(StatusCode::ACCEPTED).body(Empty::<Bytes>::new());
                Ok::<_, hyper::Error>(answer.unwrap())
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), taken));
        }
    });
    format!("http://{address}/webhooks/github")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_while_nobody_listened_is_delivered_again_once() {
    let (hub, _forge, _folder) = shop().await;
    let (github, before) = (connected(&hub), SystemTime::now() - Duration::from_secs(3_600));
    let secret = hub.world(|world| world.app.secret.clone());
    hub.send_to(Target { url: "http://127.0.0.1:1/webhooks/github".to_owned(), secret: secret.clone() });
    for branch in ["one", "two"] {
        hub.push(SHOP, branch, "ada", "A push", &[("a.txt", branch)]).await;
    }
    hub.delivered().await;
    let lost = github.redeliver(before).await.unwrap();
    hub.delivered().await;
    assert!(lost >= 2, "{lost} of two pushes were lost");
    assert_eq!(github.redeliver(before).await.unwrap(), lost, "still nobody listens: each is one");
    hub.delivered().await;
    hub.send_to(Target { url: taker().await, secret });
    assert_eq!(github.redeliver(before).await.unwrap(), lost);
    hub.delivered().await;
    assert_eq!(github.redeliver(before).await.unwrap(), 0, "all of them were taken");
    assert_eq!(hub.take_problems(), Vec::<String>::new());
}
