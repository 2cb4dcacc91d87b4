//! The console: who gets in, what writes, what is shown, and that nothing which a repository wrote acts.
#![allow(clippy::unwrap_used)]

pub(crate) mod fake;
pub(crate) mod http;

use std::time::Duration;

use hyper::StatusCode;
use planner::command::{Command, Role};
use planner::identity::{Ref, Trust};
use planner::view::{State, View};

use fake::{Fake, commit, pass, reference, sha, usual, view};
use http::{Console, Visitor, bounded};

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
        ("POST", "/logout".into(), 403),
        ("POST", "/do".into(), 403),
        ("POST", "/stage".into(), 403),
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
        ("GET", "/api/v1/plan".into(), 200),
        ("GET", "/api/v1/version".into(), 200),
        ("GET", "/api/v1/nothing".into(), 404),
        ("GET", "/api/v1/commands".into(), 405),
        ("POST", "/api/v1/view".into(), 405),
        ("POST", "/api/v1/commands".into(), 400),
        ("POST", "/api/v1/projects/shop/refs".into(), 400),
        ("POST", "/api/v1/look/shop".into(), 200),
        ("POST", "/api/v1/look/other".into(), 404),
        ("POST", "/api/v1/login-link".into(), 404),
    ]
}

/// A body that each kind of route understands, with no token of a session.
fn body(path: &str) -> ((&'static str, &'static str), &'static str) {
    if path.starts_with("/api/") {
        (JSON, "{}")
    } else if path == "/stage" {
        (FORM, "project=shop&ref=v5.2.1&token=")
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
async fn any_branch_or_tag_is_staged_by_name() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let own = ("origin", console.url.as_str());
    let page = ann.get("/").await;
    assert!(page.body.contains("action=\"/stage\""), "the page has a field for it");
    let token = ann.form_token().await;
    let form = |name: &str| format!("project=shop&ref={name}&token={token}");

    let staged = ann.send("POST", "/stage", &[FORM, own], &form("v5.2.1")).await;
    let there = format!("/projects/shop/{}", sha(1));
    assert_eq!((staged.status.as_u16(), staged.header("location")), (303, Some(there.as_str())));
    let commands: Vec<_> = console.fake.done().into_iter().map(|(_, command)| command).collect();
    assert_eq!(commands, [Command::Stage { project: "shop".parse().unwrap(), sha: sha(1) }]);

    let unknown = ann.send("POST", "/stage", &[FORM, own], &form("v5.2")).await;
    assert_eq!((unknown.status.as_u16(), unknown.header("location")), (303, Some("/#project-shop")));
    assert!(ann.get("/").await.body.contains("no branch or tag v5.2; nearest: v5.2.1"));
}

#[tokio::test]
async fn a_link_signs_in_once() {
    let console = Console::start(Fake::new(usual())).await;
    let token = console.fake.links.issue().unwrap();
    let visitor = console.visitor();
    for _ in 0..2 {
        let page = visitor.get(&format!("/login?token={token}")).await;
        assert_eq!(page.status, 200, "a preview of the link does not use it up");
        assert!(page.header("set-cookie").is_none());
    }
    let own = ("origin", console.url.as_str());
    let form = format!("token={token}");
    let stolen = visitor.send("POST", "/login", &[FORM, ("origin", "http://evil.test")], &form).await;
    assert_eq!(stolen.status, 403);
    let signed = visitor.send("POST", "/login", &[FORM, own], &form).await;
    assert_eq!((signed.status.as_u16(), signed.header("location")), (303, Some("/")));
    let cookie = signed.header("set-cookie").unwrap();
    assert!(cookie.starts_with("sidestage_abcdefgh="), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let again = visitor.send("POST", "/login", &[FORM, own], &form).await;
    assert_eq!(again.status, 403);
    assert_eq!(visitor.get(&format!("/login?token={token}")).await.status, 403);
}

#[tokio::test]
async fn a_link_is_valid_for_ten_minutes() {
    let console = Console::start(Fake::new(usual())).await;
    let (early, late) = (console.fake.links.issue().unwrap(), console.fake.links.issue().unwrap());
    let own = ("origin", console.url.as_str());
    let visitor = console.visitor();
    pass(599);
    assert_eq!(visitor.send("POST", "/login", &[FORM, own], &format!("token={early}")).await.status, 303);
    pass(1);
    assert_eq!(visitor.send("POST", "/login", &[FORM, own], &format!("token={late}")).await.status, 403);
}

#[tokio::test]
async fn a_session_ends_without_use_after_twelve_hours_and_when_told() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    for _ in 0..11 {
        pass(3599);
        assert_eq!(ann.get("/").await.status, 200);
    }
    pass(3599);
    assert_eq!(ann.get("/").await.status, 200, "11 h 59 min");
    pass(60);
    assert_eq!(ann.get("/").await.status, 401, "12 hours");

    let bob = console.sign_in().await;
    pass(1800);
    assert_eq!(bob.send("GET", "/", &[("sidestage-live", "1")], "").await.status, 200);
    pass(1800);
    assert_eq!(bob.get("/").await.status, 401, "what the page fetches by itself is no use");

    let cem = console.sign_in().await;
    let token = cem.form_token().await;
    let out = cem.send("POST", "/logout", &[FORM, ("origin", &console.url)], &format!("token={token}")).await;
    assert_eq!(out.status, 303);
    assert_eq!(cem.get("/").await.status, 401);
}

#[tokio::test]
async fn a_cookie_tossed_by_another_host_lets_nobody_in() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let tossed = "sidestage_abcdefgh=tossed";
    for both in [format!("{tossed}; {}", ann.cookie), format!("{}; {tossed}", ann.cookie)] {
        let visitor = Visitor { cookie: both, ..ann.clone() };
        assert_eq!(visitor.get("/").await.status, 401, "there is no telling which is ours");
    }
    let other = Visitor { cookie: ann.cookie.replace("abcdefgh", "abcdefgx"), ..ann.clone() };
    assert_eq!(other.get("/").await.status, 401, "another instance's cookie");
    let beside = Visitor { cookie: format!("other=1; {}", ann.cookie), ..ann };
    assert_eq!(beside.get("/").await.status, 200);
}

/// Path, headers, body, and the status it must get.
type Write<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[tokio::test]
async fn writes_come_from_our_own_pages_only() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let token = ann.form_token().await;
    let form = format!("do=stage&project=shop&sha={}&token={token}", sha(1));
    let command = format!(r#"{{"do":"stage","project":"shop","sha":"{}"}}"#, sha(1));
    let own = ("origin", console.url.as_str());
    let site = |site| ("sec-fetch-site", site);
    let table: &[Write<'_>] = &[
        ("/do", &[FORM], &form, 403),
        ("/do", &[FORM, ("origin", "null")], &form, 403),
        ("/do", &[FORM, ("origin", "http://evil.test")], &form, 403),
        ("/do", &[FORM, ("origin", "http://abc.staging.localhost:8080"), site("same-site")], &form, 403),
        ("/do", &[FORM, own, site("same-site")], &form, 403),
        ("/do", &[FORM, own, site("cross-site")], &form, 403),
        ("/do", &[FORM, own, site("none")], &form, 403),
        ("/do", &[FORM, own, site("same-origin")], &form.replace(&token, ""), 403),
        ("/do", &[FORM, own, site("same-origin")], &form.replace(&token, &token.to_lowercase()), 403),
        ("/do", &[JSON, own], &command, 415),
        ("/api/v1/commands", &[JSON], &command, 403),
        ("/api/v1/commands", &[JSON, ("origin", "http://evil.test")], &command, 403),
        ("/api/v1/commands", &[JSON, own, site("same-site")], &command, 403),
        ("/api/v1/commands", &[FORM, own], &command, 415),
        ("/api/v1/commands", &[("content-type", "text/plain"), own], &command, 415),
        ("/api/v1/commands", &[own], &command, 415),
        ("/api/v1/look/shop", &[own], "", 415),
    ];
    for (path, headers, body, status) in table {
        let answer = ann.send("POST", path, headers, body).await;
        assert_eq!(answer.status.as_u16(), *status, "{path} {headers:?}: {}", answer.body);
    }
    for path in ["/do", "/logout"] {
        assert_eq!(ann.get(&format!("{path}?{form}")).await.status, 404, "GET {path} changes nothing");
    }
    assert_eq!(console.fake.done(), []);

    let answer = ann.send("POST", "/do", &[FORM, own, site("same-origin")], &form).await;
    assert_eq!(answer.status, 303);
    let answer = ann.send("POST", "/api/v1/commands", &[JSON, own], &command).await;
    assert_eq!(answer.body, format!(r#"{{"ok":"stage shop {}"}}"#, sha(1)));
    let done = console.fake.done();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|(actor, _)| actor.name == "console" && actor.role == Role::Admin));
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

/// What a repository may hold in titles, branches, subjects, authors, reasons, links and logs.
const HOSTILE: &str = "<img src=x onerror=pwned()>\"'><script>pwned()</script>&amp;\u{202e}gnp.exe\u{2066}\u{200b}\u{1b}[2J\u{7}\r\n\u{85}\u{feff}";

fn hostile() -> View {
    let mut bad = commit(3, HOSTILE, State::Ready);
    bad.author = HOSTILE.to_owned();
    bad.reason = Some(HOSTILE.to_owned());
    bad.logs = vec!["build".to_owned()];
    bad.links = vec![(HOSTILE.to_owned(), format!("/{HOSTILE}"), Some(HOSTILE.to_owned()))];
    let mut foreign = commit(4, HOSTILE, State::Blocked);
    foreign.trust = Trust::Untrusted;
    let mut view = view(vec![
        reference(Ref::Branch(HOSTILE.to_owned()), HOSTILE, vec![bad]),
        reference(Ref::Tag(HOSTILE.to_owned()), HOSTILE, vec![foreign]),
    ]);
    view.warnings = vec![HOSTILE.to_owned()];
    view
}

/// Outside of tags and attribute values nothing of it may be markup, and no character of it may act.
fn assert_inert(page: &str, wher: &str) {
    for markup in ["<img", "<script>", "onerror=pwned()>", "\"'>"] {
        assert!(!page.contains(markup), "{wher} holds {markup}");
    }
    for c in page.chars().filter(|c| *c != '\n') {
        assert!(!c.is_control(), "{wher} holds {c:?}");
        assert!(
            !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'),
            "{wher} holds {c:?}"
        );
    }
}

#[tokio::test]
async fn what_a_repository_wrote_is_inert() {
    let console = Console::start(Fake::new(hostile())).await;
    let ann = console.sign_in().await;
    for path in [
        "/".to_owned(),
        format!("/projects/shop/{}", sha(3)),
        format!("/confirm?do=remove&project=shop&sha={}", sha(3)),
    ] {
        let page = ann.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.contains("&lt;img src=x"), "{path} shows it");
        assert_inert(&page.body, &path);
    }
}

#[tokio::test]
async fn logs_are_text_without_sequences() {
    let fake = Fake::new(usual());
    fake.logs(&["\u{1b}[3", "2mgreen\u{1b}[0m\ttab\r\n", "10%\r20%\r\n", "\u{1b}]52;c;never closed\n", HOSTILE]);
    let console = Console::start(fake).await;
    let ann = console.sign_in().await;
    let env = commit(10, "", State::Ready).env;
    let log = ann.get(&format!("/api/v1/logs/{env}/build")).await;
    assert_eq!(log.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(log.body.starts_with("green\ttab\n10%\n20%\n\n<img src=x"), "{:?}", log.body);
    for c in log.body.chars().filter(|c| !matches!(c, '\n' | '\t')) {
        assert!(!c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'), "{c:?}");
    }
}

#[tokio::test]
async fn a_followed_log_goes_on() {
    let fake = Fake::new(usual());
    fake.logs(&["one\n"]);
    let console = Console::start(fake).await;
    let ann = console.sign_in().await;
    let env = commit(10, "", State::Ready).env;
    let mut log = ann.stream(&format!("/api/v1/logs/{env}/web?follow=1")).await;
    assert_eq!(bounded(log.next()).await.unwrap(), "one\n");
    console.fake.log_more("two\n").await;
    assert_eq!(bounded(log.next()).await.unwrap(), "two\n");
}

/// The acts on a page, in order: buttons by what they do, links to questions with `?`.
fn acts(page: &str) -> Vec<String> {
    let button = page
        .split("name=\"do\" value=\"")
        .skip(1)
        .map(|rest| (rest.as_ptr(), rest.split('"').next().unwrap().to_owned()));
    let question = page
        .split("href=\"/confirm?do=")
        .skip(1)
        .map(|rest| (rest.as_ptr(), format!("{}?", rest.split('&').next().unwrap())));
    let mut acts: Vec<_> = button.chain(question).collect();
    acts.sort_unstable();
    acts.into_iter().map(|(_, act)| act).collect()
}

#[tokio::test]
async fn each_state_offers_what_can_be_done() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let keep = "extend pin reset? rebuild?";
    let table = [
        (Trust::Trusted, State::Unstaged, "stage".to_owned(), false),
        (Trust::Untrusted, State::Blocked, "approve".to_owned(), false),
        (Trust::Trusted, State::Blocked, "stage".to_owned(), false),
        (Trust::Trusted, State::Queued, format!("{keep} remove?"), false),
        (Trust::Trusted, State::Building, format!("{keep} remove?"), false),
        (Trust::Trusted, State::Starting, format!("{keep} remove?"), false),
        (Trust::Trusted, State::Ready, format!("sleep {keep} remove?"), true),
        (Trust::Approved, State::Ready, format!("sleep {keep} revoke? remove?"), true),
        (Trust::Trusted, State::Dozing, format!("wake sleep {keep} remove?"), true),
        (Trust::Trusted, State::Asleep, format!("wake {keep} remove?"), true),
        (Trust::Trusted, State::Waking, format!("{keep} remove?"), true),
        (Trust::Trusted, State::Failed, format!("stage {keep} remove?"), false),
        (Trust::Trusted, State::Superseded, "stage".to_owned(), false),
        (Trust::Trusted, State::Expired, "stage".to_owned(), false),
        (Trust::Trusted, State::Removing, "stage".to_owned(), false),
        (Trust::Trusted, State::Removed, "stage".to_owned(), false),
    ];
    for (trust, state, wanted, opens) in table {
        console.fake.set(sha(1), |commit| (commit.trust, commit.state) = (trust, state));
        let page = ann.get(&format!("/projects/shop/{}", sha(1))).await.body;
        assert_eq!(acts(&page).join(" "), wanted, "{trust} {state:?}");
        assert_eq!(page.contains(">Open</a>"), opens, "{trust} {state:?}");
    }
    console.fake.set(sha(1), |commit| (commit.state, commit.pinned) = (State::Ready, true));
    let page = ann.get(&format!("/projects/shop/{}", sha(1))).await.body;
    assert_eq!(acts(&page).join(" "), "sleep extend unpin reset? rebuild? remove?");
}

/// The form around a button, as a browser would send it.
fn form(page: &str, verb: &str, sha: &str) -> String {
    let form = page
        .split("<form ")
        .find(|form| form.contains(&format!("name=\"do\" value=\"{verb}\"")) && form.contains(sha))
        .unwrap_or_else(|| panic!("no button {verb} for {sha}"));
    let inputs = form.split("</form>").next().unwrap().split("<input ").skip(1);
    let value = |input: &str, name: &str| {
        input.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    inputs.map(|input| format!("{}={}", value(input, "name"), value(input, "value"))).collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn stage_it_works_without_javascript() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let page = ann.get("/").await.body;
    assert!(page.contains("unstaged"));
    let own = ("origin", console.url.as_str());
    let answer = ann.send("POST", "/do", &[FORM, own], &form(&page, "stage", &sha(1).to_string())).await;
    assert_eq!(answer.status, 303);
    let back = answer.header("location").unwrap();
    let row = back.strip_prefix("/#").unwrap();
    let page = ann.get("/").await.body;
    let row = page.split(&format!("id=\"{row}\"")).nth(1).unwrap().split("</li>").next().unwrap();
    assert!(row.contains("is-building"), "{row}");
    assert!(page.contains(&format!("stage shop {}", sha(1))), "the answer is shown");
    assert!(!ann.get("/").await.body.contains(&format!("stage shop {}", sha(1))), "once");
    assert_eq!(console.fake.done()[0].1, Command::Stage { project: "shop".parse().unwrap(), sha: sha(1) });
}

#[tokio::test]
async fn approving_names_the_exact_commit() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let page = ann.get("/").await.body;
    let nine = sha(9).to_string();
    assert!(page.contains("Approve and stage"));
    assert!(page.contains(&format!("<code>{nine}</code>")), "all digits are shown");
    let own = ("origin", console.url.as_str());
    ann.send("POST", "/do", &[FORM, own], &form(&page, "approve", &nine)).await;
    assert_eq!(console.fake.done()[0].1, Command::Approve { project: "shop".parse().unwrap(), sha: sha(9) });
    let short = format!("do=approve&project=shop&sha={}&token={}", &nine[..12], ann.form_token().await);
    assert_eq!(ann.send("POST", "/do", &[FORM, own], &short).await.status, 400);
    assert_eq!(console.fake.done().len(), 1);
}

#[tokio::test]
async fn what_loses_data_is_asked_about_first() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let ten = sha(10).to_string();
    let question = ann.get(&format!("/confirm?do=remove&project=shop&sha={ten}")).await.body;
    assert!(question.contains(&ten) && question.contains("database"), "{question}");
    assert_eq!(console.fake.done(), [], "asking does nothing");
    let own = ("origin", console.url.as_str());
    let answer = ann.send("POST", "/do", &[FORM, own], &form(&question, "remove", &ten)).await;
    assert_eq!(answer.header("location"), Some(format!("/projects/shop/{ten}").as_str()));
    assert_eq!(console.fake.done()[0].1.verb(), "remove");
}

#[tokio::test]
async fn a_refusal_is_shown_and_fits_its_status() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let own = ("origin", console.url.as_str());
    let body = format!(r#"{{"do":"stage","project":"shop","sha":"{}"}}"#, sha(9));
    let answer = ann.send("POST", "/api/v1/commands", &[JSON, own], &body).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.body.contains("foreign code: approve it first"), "{}", answer.body);
    let form = format!("do=stage&project=shop&sha={}&token={}", sha(9), ann.form_token().await);
    assert_eq!(ann.send("POST", "/do", &[FORM, own], &form).await.status, 303);
    let page = ann.get("/").await.body;
    assert!(page.contains("said bad") && page.contains("approve it first"), "{page}");
    let back = format!("{form}&row=//evil.test/x");
    assert_eq!(ann.send("POST", "/do", &[FORM, own], &back).await.header("location"), Some("/#eviltestx"));
}

#[tokio::test]
async fn events_tell_of_changes() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let mut events = ann.stream("/api/v1/events").await;
    let first = bounded(events.next()).await.unwrap();
    assert!(first.starts_with("event: view\ndata: 1800"), "{first}");
    console.fake.set(sha(1), |commit| commit.state = State::Building);
    let second = bounded(events.next()).await.unwrap();
    assert!(second.starts_with("event: view\ndata: ") && second != first, "{second}");
    pass(12 * 3600);
    console.fake.set(sha(1), |commit| commit.state = State::Ready);
    assert_eq!(bounded(events.next()).await, None, "the stream ends with the session");
}

#[tokio::test]
async fn the_server_ends_with_its_streams() {
    let mut console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let env = commit(10, "", State::Ready).env;
    let mut events = ann.stream("/api/v1/events").await;
    let mut log = ann.stream(&format!("/api/v1/logs/{env}/web?follow=1")).await;
    bounded(events.next()).await.unwrap();
    console.stop().await;
    assert_eq!(bounded(events.next()).await, None);
    assert_eq!(bounded(log.next()).await, None);
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let console = Console::start(Fake::new(usual())).await;
    tokio::time::pause();
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n", console.url.trim_start_matches("http://"));
    assert_eq!(console.raw(&head).await, "", "the rest of the head never comes");
    let form = format!(
        "POST /login HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: 9\r\n\r\ntok",
        console.visitor().host,
        FORM.1
    );
    let answer = console.raw(&form).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "the rest of the body never comes: {answer}");
}

#[tokio::test]
async fn an_empty_console_says_what_to_do() {
    let console = Console::start(Fake::new(view(vec![]))).await;
    let ann = console.sign_in().await;
    assert!(ann.get("/").await.body.contains("Push a branch"));
    let console = Console::start(Fake::new(View { projects: vec![], ..view(vec![]) })).await;
    let ann = console.sign_in().await;
    assert!(ann.get("/").await.body.contains("[[project]]"));
}

#[tokio::test]
async fn the_page_says_how_many_places_and_what_is_wrong() {
    let mut shown = usual();
    shown.places = (20, 20);
    shown.warnings = vec!["the engine does not answer: start it".to_owned()];
    let console = Console::start(Fake::new(shown)).await;
    let ann = console.sign_in().await;
    let page = ann.get("/").await.body;
    assert!(page.contains("20 of 20 places") && page.contains("the engine does not answer: start it"));
    assert!(page.contains("datetime=\"2027-01-15T08:00:00Z\""), "times have their absolute form");
}

#[tokio::test]
async fn a_link_from_elsewhere_asks_once_more_from_here() {
    // The cookie is `Strict`, so the first request after a link on a forge comes without it.
    let console = Console::start(Fake::new(usual())).await;
    let path = format!("/projects/shop/{}", sha(1));
    let nobody = console.visitor();
    let answer = nobody.send("GET", &path, &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains(&format!("content=\"0;url={path}\"")), "{}", answer.body);
    let answer = nobody.send("GET", &path, &[("sec-fetch-site", "same-origin")], "").await;
    assert!(!answer.body.contains("http-equiv"), "and not for ever");
}

#[test]
fn times_are_in_words() {
    use console::text::{absolute, relative, span, took};
    use planner::identity::Time;
    for (seconds, words) in [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (47 * 3600, "47 h"),
        (172_800, "2 d"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), words);
    }
    assert_eq!([took(840), took(8_437), took(125_000)], ["840 ms", "8.4 s", "2 min 5 s"]);
    assert_eq!(relative(Time(10_000), Time(9_000)), "just now");
    assert_eq!(relative(Time(100_000), Time(40_000)), "1 min ago");
    assert_eq!(relative(Time(0), Time(7_200_000)), "in 2 h");
    assert_eq!(absolute(Time(1_800_000_000_000)).unwrap(), "2027-01-15T08:00:00Z");
    assert_eq!(absolute(Time(u64::MAX)), None);
}
