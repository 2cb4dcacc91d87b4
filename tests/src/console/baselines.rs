//! The page and the API of baselines: what is shown of each version, and what can be done with it.

use planner::command::{BaselineAct, Command};
use planner::view::BaselineView;

use super::fake::{Fake, shop, usual};
use super::http::{Console, Visitor};
use super::{FORM, JSON};

async fn opened() -> (Console, Visitor) {
    let mut view = usual();
    view.baselines = vec![shop()];
    let console = Console::start(Fake::new(view)).await;
    let ann = console.sign_in().await;
    (console, ann)
}

/// The row of a version.
fn row(page: &str, number: u32) -> &str {
    let rows = page.split("<tr>").map(|row| row.split("</tr>").next().unwrap());
    let cell = format!("<td>shop@{number}</td>");
    rows.into_iter().find(|row| row.contains(&cell)).unwrap_or_else(|| panic!("no row of shop@{number} in {page}"))
}

/// What the row's buttons do.
fn acts(row: &str) -> Vec<&str> {
    row.split("name=\"do\" value=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn the_page_says_how_far_each_version_is_and_offers_what_can_be_done() {
    let (_console, ann) = opened().await;
    let page = ann.get("/baselines").await.body;
    for said in [
        "<dt>Current</dt><dd>shop@2</dd>",
        "/srv/&lt;shop&gt;.dump",
        ", masked by ",
        "/srv/mask.sql",
        "0 3 * * *",
        "the one before was not done yet",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Half of it is no version to use, kept back is one to use, and what is used stays.
    for (number, state, said, can) in [
        (5, "making", "waits: 1 before it", vec!["rm"]),
        (4, "kept", "it has 40 tables, and the current one has 50", vec!["use", "rm"]),
        (3, "failed", "line 7: relation &quot;goods&quot; does not exist", vec!["rm"]),
        (2, "current", "shop 0a0a0a0", vec![]),
        (1, "ready", "nobody", vec!["use", "rm"]),
    ] {
        let row = row(&page, number);
        assert!(row.contains(&format!("<td>{state}")) && row.contains(said), "{number}: {row}");
        assert!(row.contains(&format!("{number}.0 GB, {number}0 tables")), "{number}: {row}");
        assert_eq!(acts(row), can, "shop@{number}");
        assert!(row.contains(&format!("/api/v1/baselines/shop@{number}/logs/database")), "{row}");
    }
    assert!(row(&page, 2).contains("1 of 2"), "{page}");
    let by: Vec<bool> = (1..=5).map(|number| row(&page, number).contains(" by ")).collect();
    assert_eq!(by, [true, true, true, false, true], "the schedule is nobody");
}

#[tokio::test]
async fn a_form_of_the_page_does_what_it_says_and_a_strangers_does_nothing() {
    let (console, ann) = opened().await;
    let page = ann.get("/baselines").await.body;
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let own = ("origin", console.url.as_str());
    let send = async |form: String, origin: (&str, &str)| ann.send("POST", "/baselines", &[FORM, origin], &form).await;
    for (form, act) in [
        ("do=refresh", BaselineAct::Refresh),
        ("do=use&version=4", BaselineAct::Use(4)),
        ("do=rm&version=5", BaselineAct::Remove(Some(5))),
        ("do=rm", BaselineAct::Remove(None)),
    ] {
        let answer = send(format!("{form}&name=shop&token={token}"), own).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/baselines")), "{form}");
        let expected = Command::Baseline { name: "shop".to_owned(), act };
        assert_eq!(console.fake.done().last().map(|(_, command)| command.clone()), Some(expected), "{form}");
    }
    let done = console.fake.done().len();
    for (form, origin) in [
        ("do=rm&name=shop&token=".to_owned(), own),
        (format!("do=rm&name=shop&token={token}"), ("origin", "http://evil.test")),
        (format!("do=use&name=shop&token={token}"), own),
    ] {
        let answer = send(form.clone(), origin).await;
        assert!(answer.status.is_client_error(), "{form}: {}", answer.status);
    }
    assert_eq!(console.fake.done().len(), done, "nothing of that was asked of the loop");
}

#[tokio::test]
async fn the_api_has_the_same_and_refuses_what_it_does_not_know() {
    let (console, ann) = opened().await;
    let shown: BaselineView = serde_json::from_str(&ann.get("/api/v1/baselines/shop").await.body).unwrap();
    assert_eq!(shown, shop());
    let missing = ann.get("/api/v1/baselines/other").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("there are: shop"), "{}", missing.body);
    let own = ("origin", console.url.as_str());
    for (path, body, status) in [
        ("/api/v1/baselines/shop", r#"{"do":"use"}"#, 400),
        ("/api/v1/baselines/shop", r#"{"do":"drop"}"#, 400),
        ("/api/v1/baselines", r#"{"name":"new","every":"0 3 * * *","colour":"red"}"#, 400),
        ("/api/v1/baselines/shop", r#"{"do":"remove","version":5}"#, 200),
        ("/api/v1/baselines", r#"{"name":"new","every":"0 3 * * *","database":{"file":"/srv/new.dump"}}"#, 200),
    ] {
        let answer = ann.send("POST", path, &[JSON, own], body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.body);
    }
    let done: Vec<Command> = console.fake.done().into_iter().map(|(_, command)| command).collect();
    let [Command::Baseline { act: removed, .. }, Command::Baseline { name, act: BaselineAct::Create(created) }] =
        &done[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((removed, name.as_str()), (&BaselineAct::Remove(Some(5)), "new"));
    assert_eq!((created.every.as_deref(), created.max_shrink), (Some("0 3 * * *"), 50));
}
