//! The REST interface: which operation is answered by what, pages, and everything that is about no repository.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::oracle::Operation;
use super::server::{Answer, Call, Shared};
use super::world::{Bearer, Repo, Token, World, timestamp};
use super::{Inner, pulls, webhooks, writes};

/// The parameters of a path, by name.
pub(super) type Parameters = BTreeMap<String, String>;

/// How long a token of an installation lives, in seconds.
const TOKEN: i64 = 3600;

pub(super) async fn answer(inner: &Shared, operation: &Operation, parameters: &Parameters, call: &Call) -> Answer {
    let (method, path) = (operation.method.as_str(), operation.path.as_str());
    let Some(below) = path.strip_prefix("/repos/{owner}/{repo}") else {
        let mut inner = inner.lock().expect("the hub is whole");
        return elsewhere(&mut inner, method, path, parameters, call);
    };
    let found = {
        let mut inner = inner.lock().expect("the hub is whole");
        let repo = visible(&inner.world, parameters, call).cloned();
        match repo {
            None => return Answer::not_found(),
            Some(repo) if method != "GET" => return writes::answer(&mut inner, method, below, &repo, parameters, call),
            Some(repo) => match pulls::answer(&inner.world, below, &repo, parameters, call) {
                Some(answer) => return answer,
                None => repo,
            },
        }
    };
    match pulls::by_git(inner, below, &found, parameters, call).await {
        Some(answer) => answer,
        None => unanswered(&mut inner.lock().expect("the hub is whole"), method, path),
    }
}

pub(super) fn unanswered(inner: &mut Inner, method: &str, path: &str) -> Answer {
    inner.problems.push(format!("the fake GitHub does not answer {method} {path} yet"));
    Answer::error(501, "not implemented")
}

fn visible<'w>(world: &'w World, parameters: &Parameters, call: &Call) -> Option<&'w Repo> {
    let name = format!("{}/{}", parameters.get("owner")?, parameters.get("repo")?);
    let repo = world.repo(&name)?;
    // The App by itself may only ask where it is installed.
    let asks_itself = call.bearer == Bearer::App && call.path.ends_with("/installation");
    (world.sees(&call.bearer, repo) || asks_itself).then_some(repo)
}

fn elsewhere(inner: &mut Inner, method: &str, path: &str, parameters: &Parameters, call: &Call) -> Answer {
    let is_app = call.bearer == Bearer::App;
    match (method, path) {
        ("GET", "/rate_limit") => limits(inner),
        ("GET", "/meta") => Answer::ok(json!({ "verifiable_password_authentication": false })),
        ("GET", "/user") => match call.bearer {
            Bearer::Account(account) => Answer::ok(inner.world.show_account(account)),
            _ => Answer::error(401, "Requires authentication"),
        },
        ("GET", "/users/{username}") => match inner.world.find(&parameters["username"]).map(|account| account.id) {
            Some(id) => Answer::ok(inner.world.show_account(id)),
            None => Answer::not_found(),
        },
        ("GET", "/orgs/{org}/teams/{team_slug}/memberships/{username}") => {
            let world = &inner.world;
            let team = world.teams.get(&format!("{}/{}", parameters["org"], parameters["team_slug"]));
            let account = world.find(&parameters["username"]);
            match (team, account) {
                (Some(team), Some(account)) if team.contains(&account.id) => Answer::ok(
                    json!({ "url": format!("{}{}", world.base, call.path), "role": "member", "state": "active" }),
                ),
                _ => Answer::not_found(),
            }
        }
        ("POST", "/app-manifests/{code}/conversions") => match inner.world.app.codes.remove(&parameters["code"]) {
            Some(manifest) => converted(inner, &manifest),
            None => Answer::not_found(),
        },
        _ if path.starts_with("/app") && !is_app => Answer::error(401, "A JSON web token could not be decoded"),
        ("GET", "/app") => Answer::ok(inner.world.show_app(&inner.world.app)),
        ("GET", "/app/installations") => paged(call, vec![inner.world.show_installation()]),
        ("GET", "/app/installations/{installation_id}") => installation(&inner.world, parameters),
        ("POST", "/app/installations/{installation_id}/access_tokens") => token(&mut inner.world, parameters, call),
        ("GET", "/installation/repositories") => {
            let Bearer::Installation { .. } = call.bearer else { return Answer::error(403, "Resource not accessible") };
            let world = &inner.world;
            let repos: Vec<Value> =
                world.repos.values().filter(|repo| repo.installed).map(|repo| world.show_repo(repo)).collect();
            let (count, mut answer) = (repos.len(), paged(call, repos));
            answer.body = answer.body.map(
                |repos| json!({ "total_count": count, "repositories": repos, "repository_selection": "selected" }),
            );
            answer
        }
        ("GET", "/app/hook/config") => {
            let url = inner.target.as_ref().map(|target| target.url.clone());
            Answer::ok(json!({ "url": url, "content_type": "json", "insecure_ssl": "0", "secret": "********" }))
        }
        ("PATCH", "/app/hook/config") => {
            let sent = call.sent();
            let (url, secret) = (sent["url"].as_str(), sent["secret"].as_str());
            let known = inner.target.clone();
            let url =
                url.map(str::to_owned).or_else(|| known.as_ref().map(|known| known.url.clone())).unwrap_or_default();
            let secret = secret.map_or_else(|| inner.world.app.secret.clone(), str::to_owned);
            inner.target = Some(webhooks::Target { url: url.clone(), secret });
            Answer::ok(json!({ "url": url, "content_type": "json", "insecure_ssl": "0", "secret": "********" }))
        }
        ("GET", "/app/hook/deliveries") => deliveries(inner, call),
        ("POST", "/app/hook/deliveries/{delivery_id}/attempts") => {
            let id = parameters["delivery_id"].parse().unwrap_or(0);
            if inner.redeliver(id) { Answer::new(202, json!({})) } else { Answer::not_found() }
        }
        _ => unanswered(inner, method, path),
    }
}

fn limits(inner: &Inner) -> Answer {
    let used = u64::try_from(inner.requests.len()).unwrap_or(0);
    let reset = inner.world.now() + 3600;
    let rate = json!({ "limit": 5000, "remaining": 5000_u64.saturating_sub(used), "reset": reset, "used": used });
    Answer::ok(json!({ "resources": { "core": rate, "search": rate, "graphql": rate }, "rate": rate }))
}

fn installation(world: &World, parameters: &Parameters) -> Answer {
    if parameters["installation_id"] == world.app.installation.to_string() {
        Answer::ok(world.show_installation())
    } else {
        Answer::not_found()
    }
}

/// A token for the installation, or for some of its repositories, with at most the App's permissions.
fn token(world: &mut World, parameters: &Parameters, call: &Call) -> Answer {
    if parameters["installation_id"] != world.app.installation.to_string() {
        return Answer::not_found();
    }
    let sent = call.sent();
    let ids: BTreeSet<u64> =
        sent["repository_ids"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let names = sent["repositories"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let named = names.filter_map(|name| world.repos.values().find(|repo| repo.name == name).map(|repo| repo.id));
    let repositories: BTreeSet<u64> = ids.into_iter().chain(named).collect();
    let installed = |id: &u64| world.repos.get(id).is_some_and(|repo| repo.installed);
    if !repositories.iter().all(installed) {
        return Answer::error(422, "There is at least one repository that does not exist or is not accessible");
    }
    let mut permissions = world.app.permissions.clone();
    if let Some(asked) = sent["permissions"].as_object() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let asked: BTreeMap<String, String> = asked.iter().map(|(name, level)| (name.clone(), text(level))).collect();
        let granted = |(name, level): (&String, &String)| {
            world.app.permissions.get(name).is_some_and(|have| have == level || have == "write")
        };
        if !asked.iter().all(granted) {
            return Answer::error(422, "The permissions requested are not granted to this installation.");
        }
        permissions = asked;
    }
    let number = world.next_id();
    let text = format!("ghs_{}_{}", world.app.id, data_encoding::BASE32_NOPAD.encode(&number.to_be_bytes()));
    let until = world.now() + TOKEN;
    let of = Bearer::Installation { repositories, permissions: permissions.clone() };
    world.tokens.insert(text.clone(), Token { of, until: Some(until) });
    Answer::new(
        201,
        json!({ "token": text, "expires_at": timestamp(until), "permissions": permissions, "repository_selection": "selected" }),
    )
}

/// What the manifest flow hands out, once.
fn converted(inner: &mut Inner, manifest: &Value) -> Answer {
    let world = &mut inner.world;
    let mut app = world.show_app(&world.app);
    let number = world.next_id();
    let secret = HEXLOWER.encode(&Sha256::digest(format!("{} {number}", world.app.key)));
    world.app.secret.clone_from(&secret);
    app["client_id"] = "Iv1.fake".into();
    app["client_secret"] = "client secret of this test".into();
    // Without a webhook there is no secret of one.
    let hook = &manifest["hook_attributes"];
    app["webhook_secret"] = Value::Null;
    if let Some(url) = hook["url"].as_str().filter(|_| hook["active"] != false) {
        inner.target = Some(webhooks::Target { url: url.to_owned(), secret: secret.clone() });
        app["webhook_secret"] = secret.into();
    }
    app["pem"] = world.app.key.clone().into();
    app["name"] = manifest["name"].clone();
    if let Some(asked) = manifest["default_permissions"].as_object() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        world.app.permissions = asked.iter().map(|(name, level)| (name.clone(), text(level))).collect();
        app["permissions"] = manifest["default_permissions"].clone();
    }
    let events = manifest["default_events"].as_array().into_iter().flatten().filter_map(Value::as_str);
    world.app.events = events.map(str::to_owned).collect();
    app["events"] = manifest["default_events"].clone();
    Answer::new(201, app)
}

fn deliveries(inner: &Inner, call: &Call) -> Answer {
    let installation = inner.world.app.installation;
    let all: Vec<Value> =
        inner.deliveries.iter().rev().map(|delivery| webhooks::show(delivery, installation)).collect();
    let before: Option<u64> = call.query("cursor").and_then(|cursor| cursor.strip_prefix("v1_")?.parse().ok());
    let left: Vec<Value> =
        all.into_iter().filter(|one| before.is_none_or(|before| one["id"].as_u64() < Some(before))).collect();
    let size = size(call);
    let (page, more) = (left.iter().take(size).cloned().collect::<Vec<_>>(), left.len() > size);
    let mut answer = Answer::ok(Value::Array(page.clone()));
    if let Some(last) = page.last().filter(|_| more) {
        let url = format!("{}/api/v3/app/hook/deliveries?per_page={size}&cursor=v1_{}", inner.world.base, last["id"]);
        answer.headers.push(("link", format!("<{url}>; rel=\"next\"")));
    }
    answer
}

fn size(call: &Call) -> usize {
    call.query("per_page").and_then(|text| text.parse().ok()).unwrap_or(30).clamp(1, 100)
}

/// One page of a list, with GitHub's links to the others.
pub(super) fn paged(call: &Call, items: Vec<Value>) -> Answer {
    let (size, all) = (size(call), items.len());
    let page: usize = call.query("page").and_then(|text| text.parse().ok()).unwrap_or(1).max(1);
    let shown: Vec<Value> = items.into_iter().skip((page - 1) * size).take(size).collect();
    let mut answer = Answer::ok(Value::Array(shown));
    if page * size < all {
        let host = call.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let others = call.query.iter().filter(|(key, _)| key != "page").map(|(key, value)| format!("{key}={value}&"));
        let others: String = others.collect();
        let link =
            |page: usize, rel: &str| format!("<http://{host}/api/v3{}?{others}page={page}>; rel=\"{rel}\"", call.path);
        answer.headers.push(("link", format!("{}, {}", link(page + 1, "next"), link(all.div_ceil(size), "last"))));
    }
    answer
}
