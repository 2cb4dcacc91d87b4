//! Pages of ours: every state, both forms, and nothing that a repository says acts.

use planner::tables::{Door, Route};
use planner::view::State;

use super::stage::{Fetched, SHA_A, Stage, host, request, route};

const STATES: [(State, u16); 14] = [
    (State::Unstaged, 404),
    (State::Blocked, 404),
    (State::Queued, 503),
    (State::Building, 503),
    (State::Starting, 503),
    (State::Ready, 503),
    (State::Dozing, 503),
    (State::Asleep, 503),
    (State::Waking, 503),
    (State::Failed, 502),
    (State::Superseded, 410),
    (State::Expired, 410),
    (State::Removing, 410),
    (State::Removed, 410),
];

async fn page(state: State, change: impl FnOnce(&mut planner::tables::EnvRoute), path: &str, accept: &str) -> Fetched {
    let mut shut = route(SHA_A, Door::Shut, state);
    change(&mut shut);
    let patience = edge::Patience {
        wake: std::time::Duration::from_millis(1),
        wake_browser: std::time::Duration::from_millis(1),
        ..edge::Patience::default()
    };
    let stage = Stage::patient([(host(SHA_A), Route::Env(Box::new(shut)))], patience).await;
    let page = stage.fetch(request("GET", &host(SHA_A), path, &[("accept", accept)])).await;
    if state != State::Waking {
        assert!(stage.visits.snapshot(planner::identity::Time(1)).is_empty(), "a page of ours is no visit");
    }
    page
}

#[tokio::test]
async fn every_state_has_a_page_in_html_and_json() {
    for (state, code) in STATES {
        let html = page(state, |_| {}, "/any/path", "text/html").await;
        assert_eq!(html.status, code, "{state:?}");
        assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = html.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(html.header("x-staging-commit"), Some(SHA_A));
        assert_eq!(html.header("x-robots-tag"), Some("noindex"));
        assert_eq!(html.header("cache-control"), Some("no-store"));
        let text = html.text();
        for part in [state.as_str(), "for a reason", "do something", "shop", "#7 Title", "Subject", "menu@3", SHA_A] {
            assert!(text.contains(part), "{part} is not on the page of {state:?}: {text}");
        }
        assert!(text.contains("http://console.test/shop/7") && text.contains(":8080/admin"), "{text}");
        assert!(!text.contains("<script"));
        let under_way = !state.is_settled() || matches!(state, State::Ready | State::Dozing | State::Asleep);
        assert_eq!(text.contains("http-equiv=\"refresh\""), under_way, "{state:?}");
        assert_eq!(html.header("retry-after").is_some(), under_way, "{state:?}");

        let json = page(state, |_| {}, "/any/path", "application/json").await;
        assert_eq!(json.status, code, "{state:?}");
        let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(value["state"], state.as_str());
        assert_eq!(value["status"], code);
        assert_eq!(value["reason"], "for a reason");
        assert_eq!(value["commit"], SHA_A);
        assert_eq!(value["console_url"], "http://console.test/shop/7");
    }
}

#[tokio::test]
async fn each_environment_says_what_it_is() {
    for path in ["/.sidestage", "/.sidestage/", "/.sidestage/anything?x"] {
        let html = page(State::Failed, |_| {}, path, "*/*").await;
        assert_eq!((html.status.as_u16(), html.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(html.text().contains("Subject") && html.text().contains(SHA_A));
        let json = page(State::Failed, |_| {}, path, "application/json").await;
        let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(value["url"], format!("http://{}:8080", host(SHA_A)));
        assert_eq!(value["state"], "failed");
        assert_eq!(value["data_from"], "menu@3");
        assert_eq!(value["links"][0]["url"], format!("http://{}:8080/admin", host(SHA_A)));
    }
}

#[tokio::test]
async fn hostile_text_is_inert() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</title></style><svg onload=alert(1)>",
        "'; url=http://evil.test",
        "\u{202e}gpj.exe\u{2066}",
        "\u{1b}[31mred\u{7}\0",
        "line\r\nSet-Cookie: a=b",
    ];
    for text in hostile.map(str::to_owned).into_iter().chain(["x".repeat(1 << 20)]) {
        let spoil = |route: &mut planner::tables::EnvRoute| {
            let page = &mut route.page;
            (page.title, page.subject, page.project) = (text.clone(), text.clone(), text.clone());
            (page.reason, page.hint, page.data) = (Some(text.clone()), Some(text.clone()), Some(text.clone()));
            page.links = vec![(text.clone(), text.clone()), ("x".to_owned(), "javascript:alert(1)".to_owned())];
        };
        for accept in ["text/html", "application/json"] {
            let page = page(State::Building, spoil, "/", accept).await;
            let shown = page.text();
            assert!(shown.len() < 20_000, "{} bytes", shown.len());
            assert_eq!(page.header("set-cookie"), None);
            for letter in ['\u{202e}', '\u{2066}', '\u{1b}', '\u{7}', '\0', '\r'] {
                assert!(!shown.contains(letter), "{letter:?} is on the page");
            }
            if accept == "text/html" {
                for tag in ["<script", "<img", "<svg", "href=\"javascript"] {
                    assert!(!shown.contains(tag), "{tag} is on the page: {shown}");
                }
                assert_eq!(shown.matches("</title>").count(), 1);
                assert_eq!(shown.matches("</style>").count(), 1);
            } else {
                serde_json::from_str::<serde_json::Value>(&shown).unwrap();
                assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
            }
        }
    }
}
