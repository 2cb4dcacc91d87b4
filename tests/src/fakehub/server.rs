//! Takes requests in: who asks, what is meant, what goes wrong, what is answered, and whether all that is as published.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::world::{Bearer, Token, World};
use super::{Fault, Inner, Request, git, graphql, page, rest, signed};

pub(super) type Shared = Arc<Mutex<Inner>>;

/// Points of one hour.
const HOURLY: u64 = 5000;

/// One request of the API, understood as far as all are alike.
pub(super) struct Call {
    pub(super) method: String,
    /// Below the API's root, with names of repositories in the place of their numbers.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Value>,
    pub(super) bearer: Bearer,
}

impl Call {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A value of the body.
    pub(super) fn sent(&self) -> Value {
        self.body.clone().unwrap_or(Value::Null)
    }
}

/// An answer of the API.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) points: u64,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Answer {
        Answer { status, body: Some(body), headers: Vec::new(), points: 0 }
    }

    pub(super) fn ok(body: Value) -> Answer {
        Answer::new(200, body)
    }

    pub(super) fn empty(status: u16) -> Answer {
        Answer { status, body: None, headers: Vec::new(), points: 0 }
    }

    pub(super) fn error(status: u16, message: &str) -> Answer {
        Answer::new(
            status,
            json!({ "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string() }),
        )
    }

    pub(super) fn not_found() -> Answer {
        Answer::error(404, "Not Found")
    }
}

pub(super) async fn serve(listener: TcpListener, inner: Shared) {
    let app = Router::new().fallback(handle).with_state(inner);
    let _ = axum::serve(listener, app).await;
}

async fn handle(State(inner): State<Shared>, request: HttpRequest) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return plain(400, "text/plain", "cut off");
    };
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let query = parts.uri.query().unwrap_or_default().to_owned();
    if let Some(shown) = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        inner.lock().expect("the hub is whole").shown.extend(shown.split(' ').nth(1).map(str::to_owned));
    }
    if let Some((name, inside)) = path.split_once(".git/") {
        let name = name.trim_start_matches('/').to_owned();
        return over_git(&inner, &method, &name, inside, &query, &parts.headers, body).await;
    }
    let api = path.strip_prefix("/api/v3").or_else(|| path.strip_prefix("/api").filter(|rest| *rest == "/graphql"));
    let Some(api) = api else { return page::answer(&inner, &method, &path, &query, &body).await };
    over_api(&inner, method, api.to_owned(), &query, parts.headers, &body).await
}

async fn over_git(
    inner: &Shared,
    method: &str,
    name: &str,
    inside: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let found = {
        let mut inner = inner.lock().expect("the hub is whole");
        if let Some(fault) = inner.fault(&format!("{method} /{name}.git/{inside}")) {
            return failing(fault, None, &inner.world);
        }
        let world = &inner.world;
        let bearer = bearer(world, headers);
        let repo = world.repo(name).filter(|repo| bearer.as_ref().is_ok_and(|bearer| world.sees(bearer, repo)));
        match (repo, bearer) {
            (_, Err(())) | (None, Ok(Bearer::Anonymous)) => None,
            (repo, _) => Some(repo.map(|repo| (world.full_name(repo), repo.git.clone(), world.base.clone()))),
        }
    };
    let Some(found) = found else {
        let mut refused = plain(401, "text/plain", "Authentication required");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, "Basic realm=\"GitHub\"".parse().expect("a header"));
        return refused;
    };
    let Some((full_name, git, base)) = found else { return plain(404, "text/plain", "Repository not found") };
    if !full_name.eq_ignore_ascii_case(name) {
        let location = format!("{base}/{full_name}.git/{inside}?{query}");
        let mut moved = plain(301, "text/plain", "moved");
        moved.headers_mut().insert(header::LOCATION, location.parse().expect("a header"));
        return moved;
    }
    if inside.contains("receive-pack") || query.contains("receive-pack") {
        return plain(403, "text/plain", "Write access to repository not granted");
    }
    let (folder, name) =
        (git.parent().expect("a folder"), git.file_name().expect("a name").to_string_lossy().into_owned());
    git::serve(folder, method, &format!("/{name}/{inside}"), query, headers, body).await
}

async fn over_api(
    inner: &Shared,
    method: String,
    path: String,
    query: &str,
    headers: HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    let name = format!("{method} {path}");
    let fault = inner.lock().expect("the hub is whole").fault(&name);
    if let Some(fault) = fault.filter(|fault| !matches!(fault, Fault::LostReply | Fault::UnavailableAfter)) {
        let mut inner = inner.lock().expect("the hub is whole");
        inner.requests.push(Request { method, path, points: 0 });
        return failing(fault, None, &inner.world);
    }
    let answer = understood(inner, &method, &path, query, headers, body).await;
    let mut inner = inner.lock().expect("the hub is whole");
    inner.requests.push(Request { method, path, points: answer.points });
    let used = u64::try_from(inner.requests.len()).unwrap_or(0);
    match fault {
        Some(fault) => failing(fault, answer.body, &inner.world),
        None => response(answer, &inner.world, used),
    }
}

/// Answers one request of the API, judged before and after.
async fn understood(inner: &Shared, method: &str, path: &str, query: &str, headers: HeaderMap, body: &Bytes) -> Answer {
    let parsed = if body.is_empty() { None } else { serde_json::from_slice::<Value>(body).ok() };
    let query: Vec<(String, String)> = form(query);
    let (bearer, named) = {
        let inner = inner.lock().expect("the hub is whole");
        let Ok(bearer) = bearer(&inner.world, &headers) else { return Answer::error(401, "Bad credentials") };
        (bearer, by_name(&inner.world, path))
    };
    let call = |path: String| Call {
        method: method.to_owned(),
        path,
        query: query.clone(),
        headers: headers.clone(),
        body: parsed.clone(),
        bearer: bearer.clone(),
    };
    if path == "/graphql" {
        return graphql::answer(inner, &call(path.to_owned())).await;
    }
    let named = match named {
        Ok(named) => named,
        Err(answer) => return answer,
    };
    let oracle = super::oracle::oracle();
    let Some((operation, parameters)) = oracle.operation(method, &named) else {
        let mut inner = inner.lock().expect("the hub is whole");
        inner.problems.push(format!("GitHub publishes no {method} {named}"));
        return Answer::not_found();
    };
    if let Some(moved) = moved(inner, &parameters, &named, method) {
        return moved;
    }
    let wrong = oracle.request(operation, &query, parsed.as_ref());
    inner.lock().expect("the hub is whole").problems.extend(wrong);
    let mut answer = rest::answer(inner, operation, &parameters, &call(named)).await;
    if answer.status < 400 {
        answer.body = answer.body.map(|body| oracle.completed(operation, answer.status, body));
        let wrong = oracle.response(operation, answer.status, answer.body.as_ref());
        inner.lock().expect("the hub is whole").problems.extend(wrong);
    }
    answer
}

/// `/repositories/7/pulls` is `/repos/acme/shop/pulls`: documented nowhere, and what survives a rename.
fn by_name(world: &World, path: &str) -> Result<String, Answer> {
    let Some(rest) = path.strip_prefix("/repositories/") else { return Ok(path.to_owned()) };
    let (id, rest) = rest.split_once('/').map_or((rest, String::new()), |(id, rest)| (id, format!("/{rest}")));
    let repo = id.parse().ok().and_then(|id: u64| world.repos.get(&id)).ok_or_else(Answer::not_found)?;
    Ok(format!("/repos/{}{rest}", world.full_name(repo)))
}

/// A repository under a name that it had before: 301, or 307 of what writes.
fn moved(
    inner: &Shared,
    parameters: &std::collections::BTreeMap<String, String>,
    path: &str,
    method: &str,
) -> Option<Answer> {
    let inner = inner.lock().expect("the hub is whole");
    let name = format!("{}/{}", parameters.get("owner")?, parameters.get("repo")?);
    let repo = inner.world.repo(&name)?;
    if inner.world.full_name(repo).eq_ignore_ascii_case(&name) {
        return None;
    }
    let rest = path.strip_prefix(&format!("/repos/{name}")).unwrap_or_default();
    let location = format!("{}/api/v3/repositories/{}{rest}", inner.world.base, repo.id);
    let status = if method == "GET" { 301 } else { 307 };
    let mut answer = Answer::new(
        status,
        json!({ "message": "Moved Permanently", "url": location, "documentation_url": "https://docs.github.com/rest" }),
    );
    answer.headers.push(("location", location));
    Some(answer)
}

/// Who asks, by the header `Authorization`; an error if it is no good.
fn bearer(world: &World, headers: &HeaderMap) -> Result<Bearer, ()> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(Bearer::Anonymous) };
    let value = value.to_str().map_err(|_| ())?;
    let (scheme, rest) = value.split_once(' ').ok_or(())?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "token" => rest.to_owned(),
        "basic" => {
            let bytes = data_encoding::BASE64.decode(rest.as_bytes()).map_err(|_| ())?;
            String::from_utf8_lossy(&bytes).split_once(':').ok_or(())?.1.to_owned()
        }
        _ => return Err(()),
    };
    if let Some(Token { of, until }) = world.tokens.get(&token) {
        return if until.is_none_or(|until| world.now() < until) { Ok(of.clone()) } else { Err(()) };
    }
    let statement = signed::statement(&token, &world.app.public, world.now()).ok_or(())?;
    let issuer = statement["iss"].as_u64().or_else(|| statement["iss"].as_str()?.parse().ok());
    if issuer == Some(world.app.id) { Ok(Bearer::App) } else { Err(()) }
}

fn response(answer: Answer, world: &World, used: u64) -> Response<Body> {
    let text = answer.body.map(|body| body.to_string());
    let etag = text.as_ref().map(|text| format!("\"{}\"", data_encoding::HEXLOWER.encode(&Sha256::digest(text))));
    let mut response = Response::builder()
        .status(answer.status)
        .header("x-ratelimit-limit", HOURLY)
        .header("x-ratelimit-remaining", HOURLY.saturating_sub(used % HOURLY))
        .header("x-ratelimit-used", used % HOURLY)
        .header("x-ratelimit-reset", world.now() + 3600)
        .header("x-ratelimit-resource", "core")
        .header("x-github-media-type", "github.v3; format=json");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    if let Some(etag) = etag {
        response = response.header(header::ETAG, etag).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    }
    response.body(text.map_or_else(Body::empty, Body::from)).expect("our headers are headers")
}

/// The answer of something that goes wrong.
fn failing(fault: Fault, done: Option<Value>, world: &World) -> Response<Body> {
    let limited = |status: u16, message: &str, name: &'static str, value: String, remaining: u64| {
        let mut answer = Answer::error(status, message);
        answer.headers.push((name, value));
        let mut response = response(answer, world, 0);
        response.headers_mut().insert("x-ratelimit-remaining", remaining.into());
        if name == "x-ratelimit-reset" {
            let moment = world.now()
                + i64::from(match fault {
                    Fault::Primary(seconds) => seconds,
                    _ => 0,
                });
            response.headers_mut().insert("x-ratelimit-reset", moment.into());
        }
        response
    };
    match fault {
        // A body that breaks off before the length that was promised.
        Fault::Broken | Fault::LostReply => {
            let _ = done;
            let broken =
                futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("broken"))]);
            Response::builder()
                .status(200)
                .header("content-length", 1000)
                .body(Body::from_stream(broken))
                .expect("a response")
        }
        Fault::Unavailable | Fault::UnavailableAfter => plain(502, "text/html", "<html><title>Unicorn!</title></html>"),
        Fault::Primary(seconds) => limited(
            403,
            "API rate limit exceeded",
            "x-ratelimit-reset",
            (world.now() + i64::from(seconds)).to_string(),
            0,
        ),
        Fault::Secondary(seconds) => {
            limited(403, "You have exceeded a secondary rate limit", "retry-after", seconds.to_string(), 4000)
        }
        Fault::Html => plain(200, "text/html", "<html><title>Down for maintenance</title></html>"),
        Fault::Unauthorized => response(Answer::error(401, "Bad credentials"), world, 0),
        Fault::NotFound => response(Answer::not_found(), world, 0),
    }
}

impl Inner {
    /// What goes wrong with this request, if anything does.
    fn fault(&mut self, name: &str) -> Option<Fault> {
        let at = self.troubles.iter().position(|trouble| trouble.times > 0 && name.contains(&trouble.of))?;
        let trouble = &mut self.troubles[at];
        if trouble.times != u32::MAX {
            trouble.times -= 1;
        }
        Some(trouble.fault)
    }
}

pub(super) fn plain(status: u16, kind: &str, text: &str) -> Response<Body> {
    let status = StatusCode::from_u16(status).expect("a status");
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Body::from(text.to_owned()))
        .expect("a response")
}

/// Pairs of a query or of a form.
pub(super) fn form(text: &str) -> Vec<(String, String)> {
    let decode =
        |part: &str| percent_encoding::percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            pair.split_once('=').map_or((decode(pair), String::new()), |(key, value)| (decode(key), decode(value)))
        })
        .collect()
}
