//! What is shown, and that nothing which a repository wrote acts.

use std::time::Duration;

use planner::identity::{Ref, Trust};
use planner::view::{State, View};

use super::fake::{Fake, commit, over, reference, sha, usual, view};
use super::http::Console;

/// What a repository may hold in titles, branches, subjects, authors, reasons, links and logs.
const HOSTILE: &str = "<img src=x onerror=pwned()>\"'><script>pwned()</script>&amp;\u{202e}gnp.exe\u{2066}\u{200b}\u{1b}[2J\u{7}\r\n\u{85}\u{feff}";

fn hostile() -> View {
    let mut bad = commit(3, HOSTILE, State::Ready);
    bad.author = HOSTILE.to_owned();
    bad.reason = Some(HOSTILE.to_owned());
    bad.logs = vec!["build".to_owned()];
    (bad.generation, bad.data) = (1, Some(over(HOSTILE)));
    bad.links = vec![(HOSTILE.to_owned(), format!("/{HOSTILE}"), Some(HOSTILE.to_owned()))];
    let mut foreign = commit(4, HOSTILE, State::Blocked);
    (foreign.trust, foreign.approvable) = (Trust::Untrusted, true);
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
async fn what_is_over_its_limit_stands_on_both_pages() {
    let fake = Fake::new(usual());
    fake.set(sha(10), |commit| commit.data = Some(over("its database: 5.0 GB of 4.0 GB")));
    let console = Console::start(fake).await;
    let ann = console.sign_in().await;
    for path in ["/".to_owned(), format!("/projects/shop/{}", sha(10))] {
        assert!(ann.get(&path).await.body.contains("its database: 5.0 GB of 4.0 GB"), "{path}");
    }
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
        let approvable = trust == Trust::Untrusted;
        console.fake.set(sha(1), |commit| {
            (commit.trust, commit.state, commit.approvable) = (trust, state, approvable);
        });
        let page = ann.get(&format!("/projects/shop/{}", sha(1))).await.body;
        assert_eq!(acts(&page).join(" "), wanted, "{trust} {state:?}");
        assert_eq!(page.contains(">Open</a>"), opens, "{trust} {state:?}");
    }
    // Where `forks = "never"`, no button is offered that would only be refused.
    console.fake.set(sha(1), |commit| {
        (commit.trust, commit.state, commit.approvable) = (Trust::Untrusted, State::Blocked, false);
        commit.reason = Some("only the operator can let it run".to_owned());
    });
    for path in ["/".to_owned(), format!("/projects/shop/{}", sha(1))] {
        let page = ann.get(&path).await.body;
        // On the list, the foreign commit of the usual view keeps its own.
        let approves = acts(&page).iter().filter(|act| *act == "approve").count();
        assert_eq!(approves, usize::from(path == "/"), "{path}");
        assert!(page.contains("only the operator can let it run"), "{path}");
        assert!(!page.contains(&format!("exactly <code>{}", sha(1))), "{path}");
    }
    console.fake.set(sha(1), |commit| commit.trust = Trust::Trusted);
    console.fake.set(sha(1), |commit| (commit.state, commit.pinned) = (State::Ready, true));
    let page = ann.get(&format!("/projects/shop/{}", sha(1))).await.body;
    assert_eq!(acts(&page).join(" "), "sleep extend unpin reset? rebuild? remove?");
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
