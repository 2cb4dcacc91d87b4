//! What is believed of webhooks: GitHub's own examples, their mutations, and signatures.

use std::collections::BTreeSet;
use std::sync::Arc;

use drivers::github::{Access, GitHub, GitHubForge, Hidden, Settings, Watched};
use drivers::{Delivery, Refusal};
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{INSTANCE, watched};
use crate::fakehub::oracle;

const SECRET: &str = "the secret of a webhook";
/// The repository of GitHub's examples.
const EXAMPLE: &str = "Codertocat/Hello-World";
/// Events that change nothing of what is watched.
const QUIET: [&str; 12] = [
    "ping",
    "deployment",
    "deployment_status",
    "issue_comment",
    "issues",
    "star",
    "watch",
    "fork",
    "check_run",
    "check_suite",
    "status",
    "workflow_run",
];

/// A connection that nobody answers, with one project.
fn hello(change: impl FnOnce(&mut Watched)) -> (Arc<GitHub>, Arc<GitHubForge>) {
    let settings = Settings {
        url: "http://127.0.0.1:1".to_owned(),
        access: Access::Token(Hidden("nobody asks for it".to_owned())),
        webhook_secrets: vec![Hidden("another, in rotation".to_owned()), Hidden(SECRET.to_owned())],
        instance: INSTANCE.to_owned(),
    };
    let github = GitHub::new(settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut watched = watched("hello", EXAMPLE, folder.path());
    change(&mut watched);
    let forge = github.forge(watched);
    (github, forge)
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
}

fn headers(event: &str, signature: &str) -> HeaderMap {
    let all = [
        ("x-github-event", event),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-hub-signature-256", signature),
        ("content-type", "application/json"),
    ];
    all.into_iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn deliver(github: &GitHub, event: &str, payload: &Value) -> Result<Delivery, Refusal> {
    let body = serde_json::to_vec(payload).unwrap();
    github.accept(&headers(event, &signature(SECRET, &body)), &body)
}

/// GitHub's examples: event and payload.
fn examples() -> Vec<(String, Value)> {
    let events: Vec<Value> = serde_json::from_str(&oracle::file("examples.json")).unwrap();
    let examples = events.into_iter().flat_map(|event| {
        let name = event["name"].as_str().unwrap().to_owned();
        event["examples"].as_array().unwrap().clone().into_iter().map(move |payload| (name.clone(), payload))
    });
    examples.collect()
}

fn example(event: &str, action: &str) -> Value {
    let found = examples().into_iter().find(|(name, payload)| name == event && payload["action"] == action);
    found.unwrap_or_else(|| panic!("no example of {event}.{action}")).1
}

#[tokio::test]
async fn every_example_of_github_is_taken_for_what_it_is() {
    let (github, _forge) = hello(|_| {});
    let examples = examples();
    assert_eq!(examples.len(), 329);
    let mut looks = 0;
    for (event, payload) in &examples {
        let delivery = deliver(&github, event, payload).unwrap_or_else(|refusal| panic!("{event}: {refusal}"));
        let ours = payload["repository"]["full_name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(EXAMPLE));
        let everybody = payload.get("repository").is_none_or(Value::is_null) && event.starts_with("installation");
        let queue = payload["ref"].as_str().is_some_and(|name| name.starts_with("refs/heads/gh-readonly-queue/"));
        let expected = (ours && !QUIET.contains(&event.as_str()) && event != "workflow_job" && !queue) || everybody;
        assert_eq!(delivery.look.len(), usize::from(expected), "{event} {}", payload["action"]);
        assert_eq!(delivery.said, None, "{event}: nobody asked for anything");
        looks += usize::from(expected);
    }
    assert!(looks > 50, "only {looks} examples are a reason to look");
}

#[tokio::test]
async fn cut_and_garbled_bodies_are_refused_and_nothing_panics() {
    let (github, _forge) = hello(|_| {});
    for (event, payload) in examples() {
        let body = serde_json::to_vec(&payload).unwrap();
        for cut in [0, 1, body.len() / 2, body.len() - 1] {
            let cut = &body[..cut];
            let refusal = github.accept(&headers(&event, &signature(SECRET, cut)), cut).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed(_)), "{event}: {refusal}");
        }
        for key in ["action", "sender", "repository", "issue", "comment", "check_run", "ref", "requested_action"] {
            for value in [json!(null), json!([]), json!({}), json!("text"), json!(-1), json!({ "id": "x", "login": 7 })]
            {
                let mut garbled = payload.clone();
                garbled[key] = value;
                if let Ok(delivery) = deliver(&github, &event, &garbled) {
                    assert_eq!(delivery.said, None);
                }
            }
        }
    }
    let unheard = json!({ "action": "levitated", "repository": { "id": 1, "full_name": EXAMPLE } });
    let delivery = deliver(&github, "broom", &unheard).unwrap();
    assert_eq!(delivery.look.len(), 1, "what nobody knows is a reason to look");
}

#[tokio::test]
async fn only_a_signature_over_the_raw_bytes_by_one_of_the_secrets_lets_in() {
    let (github, _forge) = hello(|_| {});
    let payload = example("pull_request", "opened");
    let body = serde_json::to_vec(&payload).unwrap();
    let good = signature(SECRET, &body);
    assert!(github.accept(&headers("pull_request", &good), &body).is_ok());
    let other = signature("another, in rotation", &body);
    assert!(github.accept(&headers("pull_request", &other), &body).is_ok(), "the second secret holds too");
    let bad = [
        good.to_uppercase(),
        good.replace("sha256=", "sha1="),
        good.replace("sha256=", ""),
        good[..good.len() - 2].to_owned(),
        signature("a guess", &body),
        signature("", &body),
        "sha256=".to_owned(),
        format!("{good} "),
    ];
    for signature in bad {
        let headers = headers("pull_request", signature.trim_end_matches(' '));
        let refused = github.accept(&headers, &body);
        if signature != format!("{good} ") {
            assert!(matches!(refused, Err(Refusal::Unsigned(_))), "{signature}");
        }
    }
    let mut none = headers("pull_request", &good);
    none.remove("x-hub-signature-256");
    assert!(matches!(github.accept(&none, &body), Err(Refusal::Unsigned(_))));
    let mut two = headers("pull_request", &good);
    two.append("x-hub-signature-256", good.parse().unwrap());
    assert!(matches!(github.accept(&two, &body), Err(Refusal::Unsigned(_))), "two signatures");
    let again = serde_json::to_vec_pretty(&payload).unwrap();
    assert!(matches!(github.accept(&headers("pull_request", &good), &again), Err(Refusal::Unsigned(_))), "re-encoded");
    // Not a word of a body that is not signed is looked at, so it may be anything.
    assert!(matches!(github.accept(&headers("pull_request", &good), b"{"), Err(Refusal::Unsigned(_))));
}

/// A comment on a pull request: GitHub's examples have only some on issues.
fn comment(line: &str) -> Value {
    let mut payload = example("issue_comment", "created");
    payload["issue"]["pull_request"] = json!({ "url": "https://api.github.com/repos/x/y/pulls/1" });
    payload["comment"]["body"] = line.into();
    payload
}

#[tokio::test]
async fn a_person_asks_by_the_first_line_of_a_new_comment_and_by_nothing_else() {
    let (github, _forge) = hello(|_| {});
    let said = |payload: &Value| deliver(&github, "issue_comment", payload).unwrap().said;
    let asked = said(&comment("/stage approve 6dcb09b5b57875f334f61aebed695e2e4193db5e \r\nthank you")).unwrap();
    assert_eq!(asked.line, "/stage approve 6dcb09b5b57875f334f61aebed695e2e4193db5e");
    assert_eq!((asked.person.login.as_str(), asked.person.id), ("Codertocat", 21_031_067));
    assert!(asked.pull == Some(1) && asked.comment.is_some() && asked.sha.is_none());
    assert!(said(&comment("/stage")).is_some());
    for text in
        ["", "please\n/stage", " /stage", "> /stage", "`/stage`", "/staging", "/Stage", "/stage\tapprove", "\n/stage"]
    {
        assert_eq!(said(&comment(text)), None, "{text:?}");
    }
    let mut edited = comment("/stage");
    edited["action"] = "edited".into();
    assert_eq!(said(&edited), None, "an edit asks for nothing");
    let mut bot = comment("/stage");
    bot["sender"]["type"] = "Bot".into();
    assert_eq!(said(&bot), None, "a bot asks for nothing");
    let mut app = comment("/stage");
    app["comment"]["performed_via_github_app"] = json!({ "id": 1 });
    assert_eq!(said(&app), None, "nor does an App in somebody's name");
    let mut other = comment("/stage");
    other["comment"]["user"]["id"] = json!(1);
    assert_eq!(said(&other), None, "somebody else's comment");
    let mut issue = comment("/stage");
    issue["issue"].as_object_mut().unwrap().remove("pull_request");
    assert_eq!(said(&issue), None, "a comment on an issue");
}

#[tokio::test]
async fn a_button_counts_for_its_own_commit_and_only_if_the_check_is_ours() {
    let (github, _forge) = hello(|_| {});
    let mut pressed = example("check_run", "requested_action");
    pressed["repository"]["full_name"] = EXAMPLE.into();
    let sha = pressed["check_run"]["head_sha"].as_str().unwrap().to_owned();
    let said = |payload: &Value| deliver(&github, "check_run", payload).unwrap().said;
    assert_eq!(said(&pressed), None, "somebody else's check");
    pressed["check_run"]["external_id"] = format!("{INSTANCE}/{sha}").into();
    pressed["check_run"]["pull_requests"] = json!([]);
    pressed["requested_action"]["identifier"] = "approve".into();
    let asked = said(&pressed).unwrap();
    assert_eq!(asked.line, format!("/stage approve {sha}"));
    assert_eq!((asked.sha.map(|sha| sha.to_string()), asked.pull, asked.comment), (Some(sha.clone()), None, None));
    pressed["requested_action"]["identifier"] = "destroy".into();
    assert_eq!(said(&pressed), None);
    pressed["requested_action"]["identifier"] = "approve".into();
    pressed["check_run"]["external_id"] = format!("{INSTANCE}/{}", "0".repeat(40)).into();
    assert_eq!(said(&pressed), None, "a check of another commit");
    pressed["check_run"]["external_id"] = format!("otherotherother0/{sha}").into();
    assert_eq!(said(&pressed), None, "another instance's check");
}

#[tokio::test]
async fn forks_that_are_gone_and_checks_that_are_waited_for_are_reasons_to_look() {
    let (github, _forge) = hello(|watched| watched.waits = true);
    let mut pull = example("pull_request", "synchronize");
    pull["pull_request"]["head"]["repo"] = Value::Null;
    pull["pull_request"]["head"]["user"] = Value::Null;
    let hello: BTreeSet<_> = ["hello".parse().unwrap()].into();
    assert_eq!(deliver(&github, "pull_request", &pull).unwrap().look, hello);
    assert_eq!(deliver(&github, "check_suite", &example("check_suite", "completed")).unwrap().look, hello);
    pull["repository"]["full_name"] = "somebody/else".into();
    assert!(deliver(&github, "pull_request", &pull).unwrap().look.is_empty(), "not watched");
}
