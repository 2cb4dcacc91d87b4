//! Pages for people: a pull request as one knows it, and the form by which an App is made.

use axum::body::Body;
use axum::http::{Response, header};
use bytes::Bytes;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::server::{Shared, form, plain};
use super::world::{Repo, World, timestamp};

const STYLE: &str = "body{font:14px/1.5 -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;color:#1f2328;max-width:980px;margin:24px auto;padding:0 16px}
h1{font-weight:400;font-size:26px;margin:0}h1 span{color:#59636e}a{color:#0969da;text-decoration:none}a:hover{text-decoration:underline}
.state{display:inline-block;background:#1f883d;color:#fff;border-radius:2em;padding:4px 12px;margin-right:8px}.closed{background:#cf222e}
.box{border:1px solid #d1d9e0;border-radius:6px;margin:16px 0}.box header{background:#f6f8fa;border-bottom:1px solid #d1d9e0;padding:8px 16px;color:#59636e;border-radius:6px 6px 0 0}
.box .body{padding:8px 16px;overflow-x:auto}.box b{color:#1f2328}table{border-collapse:collapse}td,th{border:1px solid #d1d9e0;padding:6px 13px;text-align:left}
pre{background:#f6f8fa;padding:12px;overflow-x:auto}code{background:#818b981f;border-radius:6px;padding:.2em .4em}pre code{background:none;padding:0}
form{display:inline}.check{padding:8px 16px;border-top:1px solid #d1d9e0}.check:first-child{border:0}.button{border:1px solid #d1d9e0;background:#f6f8fa;border-radius:6px;padding:5px 16px;color:#25292e;font-weight:500}
textarea{width:100%;height:80px;font:inherit}nav{color:#59636e;margin-bottom:12px}";

pub(super) async fn answer(inner: &Shared, method: &str, path: &str, query: &str, body: &Bytes) -> Response<Body> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let sent = form(&String::from_utf8_lossy(body));
    let value = |key: &str| named(&sent, key);
    match (method, parts.as_slice()) {
        ("GET", [owner, name]) => {
            let inner = inner.lock().expect("the hub is whole");
            shown(inner.world.repo(&format!("{owner}/{name}")).map(|repo| list(&inner.world, repo)))
        }
        ("GET", [owner, name, "pull", number]) => {
            let inner = inner.lock().expect("the hub is whole");
            shown(number.parse().ok().and_then(|number| pull(&inner.world, &format!("{owner}/{name}"), number)))
        }
        ("POST", [owner, name, "pull", number, deed]) => {
            let full_name = format!("{owner}/{name}");
            done(inner, &full_name, number.parse().unwrap_or(0), deed, &value).await;
            to(&format!("/{full_name}/pull/{number}"))
        }
        // Nothing is made before a person has pressed a button here.
        ("POST", ["settings", "apps", "new"] | ["organizations", _, "settings", "apps", "new"]) => {
            let Ok(manifest) = serde_json::from_str::<Value>(&value("manifest")) else {
                return plain(422, "text/plain", "no manifest");
            };
            shown(Some(app(&manifest, &named(&form(query), "state"))))
        }
        ("POST", ["settings", "apps"]) => {
            let Ok(manifest) = serde_json::from_str::<Value>(&value("manifest")) else {
                return plain(422, "text/plain", "no manifest");
            };
            let back = manifest["redirect_url"].as_str().unwrap_or_default().to_owned();
            let mut inner = inner.lock().expect("the hub is whole");
            let code = format!("{:040x}", inner.world.next_id());
            inner.world.app.codes.insert(code.clone(), manifest);
            to(&format!("{back}?code={code}&state={}", value("state")))
        }
        ("GET", ["apps", slug, "installations", "new"]) => shown(Some(installing(slug))),
        ("POST", ["apps", _, "installations", "new"]) => {
            let mut inner = inner.lock().expect("the hub is whole");
            inner.install();
            let first = inner.world.repos.values().find(|repo| repo.installed);
            to(&first.map_or("/".to_owned(), |repo| format!("/{}", inner.world.full_name(repo))))
        }
        _ => shown(None),
    }
}

fn named(sent: &[(String, String)], key: &str) -> String {
    sent.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
}

fn shown(page: Option<Markup>) -> Response<Body> {
    match page {
        Some(page) => plain(200, "text/html; charset=utf-8", &page.into_string()),
        None => plain(404, "text/plain", "not found"),
    }
}

fn to(location: &str) -> Response<Body> {
    let mut response = plain(303, "text/plain", "");
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What a person does with a pull request by its page; nothing, if that cannot be.
async fn done(inner: &Shared, full_name: &str, number: u64, deed: &str, value: &impl Fn(&str) -> String) {
    let (by, text) = (value("by"), value("body"));
    let from = {
        let mut inner = inner.lock().expect("the hub is whole");
        let Some(repo) = inner.world.repo(full_name) else { return };
        let Some(pull) = repo.pulls.get(&number) else { return };
        let author = inner.world.accounts[&pull.author].login.clone();
        let from = pull.head_repo.and_then(|id| inner.world.repos.get(&id));
        let from = from.map(|from| (inner.world.full_name(from), pull.head_ref.clone(), author));
        let check = value("check").parse().ok().filter(|id| repo.checks.iter().any(|check| check.id == *id));
        match (deed, check) {
            ("comment", _) if !text.is_empty() => drop(inner.comment(full_name, number, &by, &text)),
            ("press", Some(check)) => inner.press(full_name, check, &by, &value("identifier")),
            ("close", _) if pull.open => inner.close(full_name, number, &by, false),
            _ => {}
        }
        from.filter(|_| deed == "push" && !text.is_empty())
    };
    if let Some((repo, branch, author)) = from {
        let files = [("greeting.txt", format!("{text}\n"))];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        super::acts::push(inner, &repo, &branch, &author, &format!("Say: {text}"), &files).await;
    }
}

/// The form by which one makes an App that was described elsewhere.
fn app(manifest: &Value, state: &str) -> Markup {
    let permissions = manifest["default_permissions"].as_object().into_iter().flatten();
    layout(
        "Create GitHub App",
        &html! {
            h1 { "Create GitHub App" }
            div.box {
                header { b { (manifest["name"].as_str().unwrap_or_default()) } " asks for" }
                div.body { ul { @for (name, level) in permissions { li { (level.as_str().unwrap_or_default()) " access to " (name.replace('_', " ")) } } } }
            }
            form method="post" action="/settings/apps" {
                input type="hidden" name="manifest" value=(manifest);
                input type="hidden" name="state" value=(state);
                button.button { "Create GitHub App" }
            }
        },
    )
}

fn installing(slug: &str) -> Markup {
    layout(
        "Install",
        &html! {
            h1 { "Install " (slug) }
            p { "On all repositories of the organisation." }
            form method="post" { button.button { "Install" } }
        },
    )
}

fn layout(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { (title) } style { (PreEscaped(STYLE)) } }
            body { (body) }
        }
    }
}

fn list(world: &World, repo: &Repo) -> Markup {
    let name = world.full_name(repo);
    layout(
        &name,
        &html! {
            nav { (name) }
            h1 { "Pull requests" }
            @for pull in repo.pulls.values().rev() {
                p { a href=(format!("/{name}/pull/{}", pull.number)) { "#" (pull.number) " " (pull.title) } }
            }
        },
    )
}

fn pull(world: &World, full_name: &str, number: u64) -> Option<Markup> {
    let repo = world.repo(full_name)?;
    let pull = repo.pulls.get(&number)?;
    let name = world.full_name(repo);
    let login = |id: u64| world.accounts[&id].login.clone();
    let checks: Vec<Value> = repo
        .checks
        .iter()
        .filter(|check| check.sent["head_sha"] == *pull.head_sha)
        .map(|check| world.show_check(repo, check))
        .collect();
    let from = pull
        .head_repo
        .and_then(|id| world.repos.get(&id))
        .map_or("unknown repository".to_owned(), |repo| login(repo.owner));
    Some(layout(
        &pull.title,
        &html! {
            nav { a href=(format!("/{name}")) { (name) } " / Pull requests" }
            h1 { (pull.title) " " span { "#" (number) } }
            p {
                span class=(if pull.open { "state" } else { "state closed" }) { (if pull.open { "Open" } else { "Closed" }) }
                b { (login(pull.author)) } " wants to merge into " code { (pull.base_ref) } " from " code { (from) ":" (pull.head_ref) }
            }
            @for comment in repo.comments.iter().filter(|comment| comment.number == number) {
                div.box { header { b { (login(comment.author)) } " commented at " (timestamp(comment.created)) }
                    div.body { (PreEscaped(markdown(&comment.body))) } }
            }
            @for of in repo.deployments.iter().filter(|of| of.sha == pull.head_sha) {
                @let last = of.statuses.last().map(|(_, _, status)| status.clone()).unwrap_or_default();
                div.box { div.body {
                    b { (login(of.creator)) } " deployed to " b { (of.sent["environment"].as_str().unwrap_or_default()) } " — " (last["state"].as_str().unwrap_or("pending")) " "
                    @if let Some(url) = last["environment_url"].as_str().filter(|url| !url.is_empty()) { a.button href=(url) { "View deployment" } }
                    " " @if let Some(url) = last["log_url"].as_str().filter(|url| !url.is_empty()) { a href=(url) { "log" } }
                } }
            }
            @if !checks.is_empty() {
                div.box {
                    @for check in &checks {
                        div.check {
                            (check["conclusion"].as_str().or(check["status"].as_str()).unwrap_or_default()) " — " b { (check["name"].as_str().unwrap_or_default()) } " "
                            (check["output"]["title"].as_str().unwrap_or_default()) " "
                            @if let Some(url) = check["details_url"].as_str() { a href=(url) { "Details" } }
                            @for action in actions(repo, check) {
                                form method="post" action=(format!("/{name}/pull/{number}/press")) {
                                    input type="hidden" name="check" value=(check["id"]);
                                    input type="hidden" name="identifier" value=(action["identifier"].as_str().unwrap_or_default());
                                    button.button title=(action["description"].as_str().unwrap_or_default()) { (action["label"].as_str().unwrap_or_default()) }
                                    (people(world, repo))
                                }
                            }
                            @if let Some(text) = check["output"]["summary"].as_str() { (PreEscaped(markdown(text))) }
                        }
                    }
                }
            }
            form method="post" action=(format!("/{name}/pull/{number}/comment")) {
                p { textarea name="body" placeholder="/stage" {} }
                p { button.button { "Comment" } (people(world, repo)) }
            }
            @if pull.open {
                form method="post" action=(format!("/{name}/pull/{number}/push")) {
                    p { button.button { "Push a commit" } " that says " input name="body" value="Hello again"; " to " code { (pull.head_ref) } }
                }
                form method="post" action=(format!("/{name}/pull/{number}/close")) {
                    p { button.button { "Close pull request" } (people(world, repo)) }
                }
            }
        },
    ))
}

/// Buttons of a check run.
fn actions(repo: &Repo, check: &Value) -> Vec<Value> {
    let sent = repo.checks.iter().find(|known| check["id"] == known.id);
    sent.and_then(|known| known.sent["actions"].as_array()).cloned().unwrap_or_default()
}

/// Who does it: those with a role, and somebody without any.
fn people(world: &World, repo: &Repo) -> Markup {
    let known = repo.roles.iter().map(|(account, role)| (world.accounts[account].login.as_str(), role.as_str()));
    html! { " as " select name="by" { @for (login, role) in known.chain([("mallory", "no role")]) { option value=(login) { (login) " (" (role) ")" } } } }
}

/// As GitHub shows it: what is no markdown of ours is text.
fn markdown(text: &str) -> String {
    let options = pulldown_cmark::Options::ENABLE_TABLES;
    let events = pulldown_cmark::Parser::new_ext(text, options)
        .filter(|event| !matches!(event, pulldown_cmark::Event::Html(text) if text.starts_with("<!--")));
    let mut page = String::new();
    pulldown_cmark::html::push_html(&mut page, events);
    page
}
