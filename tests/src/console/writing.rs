//! What writes: only our own pages, by exact commands, asked about where data is lost.

use hyper::StatusCode;
use planner::command::{Command, Role};

use super::fake::{Fake, sha, usual};
use super::http::Console;
use super::{FORM, JSON};

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
async fn a_command_of_the_manifest_has_a_button_and_shows_what_it_prints() {
    let console = Console::start(Fake::new(usual())).await;
    console.fake.set(sha(10), |commit| commit.commands = vec!["sample".to_owned()]);
    let ann = console.sign_in().await;
    let own = ("origin", console.url.as_str());
    let page = ann.get(&format!("/projects/shop/{}", sha(10))).await.body;
    assert!(page.contains("action=\"/run\"") && page.contains("value=\":sample\""), "{page}");
    let token = ann.form_token().await;
    let form = |name: &str| format!("project=shop&sha={}&name={name}&token={token}", sha(10));
    let ran = ann.send("POST", "/run", &[FORM, own], &form(":sample")).await;
    assert_eq!(ran.status, StatusCode::OK);
    assert!(ran.body.starts_with("filled") && ran.body.ends_with("\nended with code 0\n"), "{:?}", ran.body);
    assert!(!ran.body.contains('\u{202e}'), "what it prints is made inert: {:?}", ran.body);
    let typed = ann.send("POST", "/run", &[FORM, own], &form("sh")).await;
    assert_eq!(typed.status, StatusCode::BAD_REQUEST, "a page is no terminal");
}

#[tokio::test]
async fn ci_announces_an_image() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let own = ("origin", console.url.as_str());
    let body = format!(r#"{{"sha":"{}"}}"#, sha(1));
    let path = "/api/v1/projects/shop/images";
    assert_eq!(ann.send("POST", path, &[JSON, own], &body).await.status, StatusCode::OK);
    let asked: Vec<_> = console.fake.done().into_iter().map(|(_, command)| command).collect();
    assert_eq!(asked, [Command::Announce { project: "shop".parse().unwrap(), sha: sha(1) }]);
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
async fn secrets_are_set_and_never_shown() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let own = ("origin", console.url.as_str());
    let token = ann.form_token().await;
    let set = format!("do=set&name=NPM_TOKEN&for=trusted&value=line%0D%0Atwo&token={token}");
    let answer = ann.send("POST", "/projects/shop/secrets", &[FORM, own], &set).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/projects/shop/secrets")));
    let page = ann.get("/projects/shop/secrets").await.body;
    assert!(page.contains("shop trusted NPM_TOKEN: 8"), "a browser's line ends are no part of it: {page}");
    assert!(page.contains("NPM_TOKEN</bdi></code>") && page.contains("console</bdi>, "), "{page}");
    assert!(!page.contains("two"), "{page}");

    let stolen = ann.send("POST", "/projects/shop/secrets", &[FORM, ("origin", "http://evil.test")], &set).await;
    assert_eq!(stolen.status, 403);
    let odd = format!("do=set&name=A&for=everybody&value=v&token={token}");
    assert_eq!(ann.send("POST", "/projects/shop/secrets", &[FORM, own], &odd).await.status, 400);

    // The API: the same, and no error quotes what was sent.
    let path = "/api/v1/projects/shop/secrets";
    for body in [
        r#"{"do":"set","name":"A","for":"trusted","value":12345678}"#,
        r#"{"do":"set","name":"A","for":"hunter2hunter2","value":"x"}"#,
        r#"{"do":"set","name":"A","for":"trusted","value":"x","valeu":"hunter2hunter2"}"#,
        r#"{"do":"set","name":"A","value":"hunter2hunter2"}"#,
        "hunter2hunter2",
    ] {
        let answer = ann.send("POST", path, &[JSON, own], body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(!answer.body.contains("hunter2hunter2") && !answer.body.contains("12345678"), "{}", answer.body);
    }
    let removed = ann.send("POST", path, &[JSON, own], r#"{"do":"remove","name":"NPM_TOKEN","for":"trusted"}"#).await;
    assert_eq!(removed.status, 200, "{}", removed.body);
    assert_eq!(ann.get(path).await.body, r#"{"secrets":[]}"#);
    // What is only judged on its way to whoever keeps it is no command by itself.
    let command = r#"{"do":"setsecret","project":"shop","class":"trusted","name":"A"}"#;
    assert_eq!(ann.send("POST", "/api/v1/commands", &[JSON, own], command).await.status, 400);
}
