//! The fake GitHub, judged: by GitHub's own examples, and by the driver that will meet the real one.

use std::collections::BTreeSet;
use std::sync::Arc;

use drivers::Forge;
use drivers::github::{Access, GitHub, GitHubForge, Hidden, Settings, Watched};
use globset::GlobSet;
use planner::command::Role;
use planner::forge::{Content, Deployed, Person, Place, Report};
use planner::identity::{EnvId, Ref, Sha};
use serde_json::{Value, json};

use crate::fakehub::oracle::oracle;
use crate::fakehub::{Fault, Hub, Opening};

const SHOP: &str = "acme/shop";
const FILES: &[(&str, &str)] = &[("Dockerfile", "FROM scratch\n")];

/// A hub with one repository, the App installed on it, and its forge.
async fn shop() -> (Hub, Arc<GitHubForge>, tempfile::TempDir) {
    let hub = Hub::start().await;
    hub.repository(SHOP, FILES).await;
    hub.grant(SHOP, "ada", "admin");
    let folder = tempfile::tempdir().unwrap();
    let (id, key, secret) = hub.world(|world| (world.app.id, world.app.key.clone(), world.app.secret.clone()));
    let access = Access::App { id, key: Hidden(key) };
    let instance = "testtesttesttest".to_owned();
    let github =
        GitHub::new(Settings { url: hub.url(), access, webhook_secrets: vec![Hidden(secret)], instance }).unwrap();
    let forge = github.forge(Watched {
        project: "shop".parse().unwrap(),
        repository: SHOP.to_owned(),
        bases: vec!["main".to_owned()],
        refs: GlobSet::empty(),
        approvers: "write".parse().unwrap(),
        bots: BTreeSet::new(),
        labels: true,
        skip_paths: None,
        waits: true,
        mirror: folder.path().join("shop.git"),
    });
    (hub, forge, folder)
}

fn own(branch: &str) -> Opening<'_> {
    Opening { on: SHOP, by: "ada", from: SHOP, branch, title: "A change", draft: false }
}

#[test]
fn the_examples_that_fail_their_own_schema_do_not_grow() {
    let examples: Vec<Value> = serde_json::from_str(&crate::fakehub::oracle::file("examples.json")).unwrap();
    let payloads = examples.iter().flat_map(|event| {
        let name = event["name"].as_str().unwrap();
        event["examples"].as_array().unwrap().iter().map(move |payload| (name, payload))
    });
    let (mut all, mut wrong) = (0, 0);
    for (name, payload) in payloads {
        all += 1;
        wrong += usize::from(!oracle().check_webhook(name, payload).is_empty());
    }
    assert_eq!(all, 329);
    assert!(wrong <= 53, "{wrong} of GitHub's own examples are not as GitHub publishes them; 53 were");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_published_is_told() {
    let (hub, _, _folder) = shop().await;
    let token = hub.token("ada");
    let ask = |method: &'static str, path: String, body: Value| {
        let (url, token) = (hub.url(), token.clone());
        async move { request(method, &format!("{url}/api/v3{path}"), &token, body).await }
    };
    assert_eq!(ask("GET", format!("/repos/{SHOP}/wishes"), Value::Null).await, 404);
    assert!(hub.take_problems()[0].contains("publishes no GET"), "an unknown route");
    ask("POST", format!("/repos/{SHOP}/deployments"), json!({ "environment": 7 })).await;
    let problems = hub.take_problems().join("\n");
    assert!(problems.contains("deployments body"), "{problems}");
    ask("GET", format!("/repos/{SHOP}/pulls?colour=red"), Value::Null).await;
    assert!(hub.take_problems()[0].contains("no query parameter colour"));
    ask("POST", "/graphql".to_owned(), json!({ "query": "{ viewer { shoeSize } }" })).await;
    let problems = hub.take_problems().join("\n");
    assert!(problems.contains("shoeSize"), "{problems}");
}

/// Sends one request and reads its status.
async fn request(method: &str, url: &str, token: &str, body: Value) -> u16 {
    use hyper_util::rt::TokioIo;
    let url: http::Uri = url.parse().unwrap();
    let host = url.authority().unwrap().as_str();
    let stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = http::Request::builder()
        .method(method)
        .uri(url.path_and_query().unwrap().as_str())
        .header("host", host)
        .header("authorization", format!("Bearer {token}"))
        .body(http_body_util::Full::new(bytes::Bytes::from(body)));
    sender.send_request(request.unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_sees_what_people_do() {
    let (hub, forge, _folder) = shop().await;
    let pushed = hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    hub.open(own("feature")).await;
    hub.fork(SHOP, "mallory/shop").await;
    let foreign = hub.push("mallory/shop", "patch", "mallory", "A patch", &[("b.txt", "b\n")]).await;
    hub.open(Opening { by: "mallory", from: "mallory/shop", branch: "patch", ..own("patch") }).await;
    let heads = forge.heads(&BTreeSet::new()).await.unwrap();
    let seen: Vec<(Ref, String, bool)> =
        heads.iter().map(|head| (head.name.clone(), head.sha.to_string(), head.foreign)).collect();
    assert_eq!(seen, [(Ref::Pull(1), pushed.clone(), false), (Ref::Pull(2), foreign.clone(), true)]);
    // The fork's commit is fetched from the repository that it wants to go into, as is the other one.
    for sha in [&pushed, &foreign] {
        let source = forge.read(&sha.parse::<Sha>().unwrap()).await.unwrap();
        assert_eq!(source.subject, if *sha == pushed { "A feature" } else { "A patch" });
    }
    hub.delete_fork("mallory/shop");
    let heads = forge.heads(&BTreeSet::new()).await.unwrap();
    assert!(heads[1].foreign && heads[1].pull.as_ref().unwrap().repository.is_none());
    hub.close(SHOP, 1, "ada", true);
    let heads = forge.heads(&BTreeSet::new()).await.unwrap();
    assert_eq!(heads.iter().map(|head| &head.name).collect::<Vec<_>>(), [&Ref::Pull(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_asked_for_and_people_known_by_number() {
    let (hub, forge, _folder) = shop().await;
    hub.grant(SHOP, "grace", "maintain");
    hub.grant(SHOP, "tim", "triage");
    let person = |login: &str| Person { id: hub.change(|world| world.account(login)), login: login.to_owned() };
    assert_eq!(forge.role(&person("ada")).await.unwrap(), Some(Role::Admin));
    assert_eq!(forge.role(&person("grace")).await.unwrap(), Some(Role::Approve));
    assert_eq!(forge.role(&person("tim")).await.unwrap().filter(|role| *role >= Role::Write), None);
    // Somebody else has the name by now.
    let other = Person { id: 1, login: "ada".to_owned() };
    assert!(!forge.role(&other).await.is_ok_and(|role| role.is_some()));
}

fn comment(body: &str, known: Option<u64>) -> Report {
    Report { place: Place::Comment(1), content: Content::Comment { body: body.to_owned() }, known }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_answer_was_lost_is_adopted() {
    let (hub, forge, _folder) = shop().await;
    let sha = hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    hub.open(own("feature")).await;
    for fault in [Fault::LostReply, Fault::UnavailableAfter] {
        hub.trouble(fault, "POST", 1);
        // A token may be what is lost; whatever it is, in the end there is one.
        while forge.report(&comment("Hello", None)).await.is_err() {}
    }
    let id = forge.report(&comment("Hello again", None)).await.unwrap();
    let bodies = hub.world(|world| world.repo(SHOP).unwrap().comments.clone());
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(bodies[0].id == id && bodies[0].body.starts_with("Hello again"));
    let env: EnvId = "abcdefghijklmnop".parse().unwrap();
    let deployment = |state| Report {
        place: Place::Deployment(env.clone()),
        content: Content::Deployment {
            sha: sha.parse().unwrap(),
            environment: "sidestage".to_owned(),
            state,
            text: "on its way".to_owned(),
            url: Some("http://example.org".to_owned()),
            log_url: None,
        },
        known: None,
    };
    hub.trouble(Fault::LostReply, "POST", 1);
    while forge.report(&deployment(Deployed::InProgress)).await.is_err() {}
    forge.report(&deployment(Deployed::Success)).await.unwrap();
    let deployments = hub.world(|world| world.repo(SHOP).unwrap().deployments.clone());
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].statuses.last().unwrap().2["state"], "success");
}
