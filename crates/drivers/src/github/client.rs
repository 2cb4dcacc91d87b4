//! Requests to GitHub: who we are, one request at a time, limits honoured, and what an answer means.
//!
//! octocrab signs and renews tokens. It neither repeats nor follows anything here: a repeated POST would be a second
//! comment, and a followed redirect would turn it into a GET.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use octocrab::models::{AppId, InstallationId};
use planner::resource::Failure;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Access, Hidden};
use crate::git::clean;

/// The version of the API that everything here is written for.
const VERSION: &str = "2022-11-28";
/// GitHub ends requests after 10 s; its Enterprise Server after 30.
const PATIENCE: Duration = Duration::from_secs(40);
/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 << 20;
/// Redirects that are followed by hand, of GETs only.
const HOPS: usize = 3;

/// Who asks: limits and rights are those of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum As {
    /// The App itself.
    App,
    /// The App where it is installed.
    Installation(u64),
    /// The account of the token.
    Account,
}

/// An answer that is none of the failures that any request may meet.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Bytes,
    /// For messages.
    what: String,
}

impl Answer {
    /// The body of a success.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.status.is_success() {
            return Err(self.refusal());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::transient(format!("GitHub's answer to {} is not what its documentation says: {error}", self.what))
        })
    }

    /// What a refusal says, as a failure: 4xx will not change by itself.
    pub(super) fn refusal(&self) -> Failure {
        let line = format!("GitHub refuses {} ({}): {}", self.what, self.status.as_u16(), self.message());
        match self.status {
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::FORBIDDEN => {
                Failure::permanent(line)
            }
            _ => Failure::transient(line),
        }
    }

    fn message(&self) -> String {
        let said: Option<Value> = serde_json::from_slice(&self.body).ok();
        let message = said.as_ref().and_then(|said| said.get("message")).and_then(Value::as_str);
        let errors = said.as_ref().and_then(|said| said.get("errors")).filter(|errors| !errors.is_null());
        let errors = errors.map(|errors| format!(" {errors}")).unwrap_or_default();
        clean(&format!("{}{errors}", message.unwrap_or("no message")), 300)
    }

    /// The next page, as a path of ours.
    pub(super) fn next(&self, base: &str) -> Option<String> {
        let links = self.headers.get(header::LINK)?.to_str().ok()?;
        let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
        let (from, to) = (next.find('<')? + 1, next.find('>')?);
        local(next.get(from..to)?, base)
    }
}

/// GitHub as one configuration reaches it.
pub(super) struct Client {
    rest: Arc<Octocrab>,
    graph: Octocrab,
    /// Base of the REST API: scheme, host, and `/api/v3` of an Enterprise Server.
    base: String,
    token: Option<Hidden>,
    /// Shared, never cloned: a clone of octocrab's has a token of its own.
    installations: Mutex<BTreeMap<u64, Arc<Octocrab>>>,
    /// No request before that, by who asks and whether by GraphQL, which has a limit of its own.
    parked: Mutex<BTreeMap<(As, bool), Parked>>,
    /// What was asked so far.
    pub(super) count: super::count::Count,
}

#[derive(Debug, Clone, Copy)]
struct Parked {
    until: SystemTime,
    /// How long the next pause is, when GitHub names none.
    next: Duration,
}

impl Client {
    /// # Errors
    /// One line about the URL or the key.
    pub(super) fn new(web: &str, access: &Access) -> Result<Client, String> {
        let (base, graph) = bases(web);
        let builder = |base: &str| -> Result<_, String> {
            let builder = Octocrab::builder().base_uri(base).map_err(|_| format!("[github] url {web:?} is no URL"))?;
            Ok(builder
                .set_connect_timeout(Some(Duration::from_secs(10)))
                .set_read_timeout(Some(PATIENCE))
                .set_write_timeout(Some(PATIENCE))
                .add_header(header::HeaderName::from_static("x-github-api-version"), VERSION.to_owned())
                .add_header(header::ACCEPT, "application/vnd.github+json".to_owned()))
        };
        let built = |error: octocrab::Error| format!("[github]: {}", first_line(&error));
        let graph = builder(&graph)?.build().map_err(built)?;
        let (rest, token) = match access {
            Access::App { id, key } => {
                let rest = builder(&base)?.app_from_rsa_pem(AppId(*id), key.0.as_bytes());
                let wrong = |_| "[github] private_key_file holds no RSA key in PEM, as GitHub gives it out".to_owned();
                (rest.map_err(wrong)?.build().map_err(built)?, None)
            }
            Access::Token(token) => {
                let rest = builder(&base)?.build().map_err(built)?;
                (rest.user_access_token(token.0.clone()).map_err(built)?, Some(token.clone()))
            }
            Access::Nobody => (builder(&base)?.build().map_err(built)?, None),
        };
        let installations = Mutex::default();
        let rest = Arc::new(rest);
        Ok(Client { rest, graph, base, token, installations, parked: Mutex::default(), count: Default::default() })
    }

    /// The base of the REST API.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A request below the REST API's base. Of a GET a redirect is followed, on this host only.
    pub(super) async fn rest(
        &self,
        who: As,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let mut path = path.to_owned();
        for _ in 0..HOPS {
            let crab = self.crab(who)?;
            let answer = self.ask(who, &crab, false, &method, &path, body).await?;
            let answer = self.judge((who, false), answer)?;
            if method != Method::GET || !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let to = answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
            path = to.and_then(|to| local(to, &self.base)).ok_or_else(|| answer.refusal())?;
        }
        Err(Failure::transient(format!("GitHub leads {path} in a circle")))
    }

    pub(super) async fn get(&self, who: As, path: &str) -> Result<Answer, Failure> {
        self.rest(who, Method::GET, path, None).await
    }

    /// All pages of a listing, each as its own value. An error of any is an error of all.
    pub(super) async fn pages(&self, who: As, path: &str) -> Result<Vec<Value>, Failure> {
        let (mut path, mut pages) = (Some(path.to_owned()), Vec::new());
        while let Some(next) = path {
            let answer = self.get(who, &next).await?;
            pages.push(answer.json()?);
            path = answer.next(&self.base);
        }
        Ok(pages)
    }

    /// A query. What comes back is `data` and `errors` as they are: partial data is for the caller to judge.
    pub(super) async fn query(&self, who: As, query: &str, variables: Value) -> Result<(Value, Vec<Value>), Failure> {
        if let Some(failure) = self.is_parked((who, true)) {
            return Err(failure);
        }
        let body = serde_json::json!({ "query": query, "variables": variables });
        let mut answer = self.ask(who, &self.graph(who).await?, true, &Method::POST, "/graphql", Some(&body)).await?;
        if answer.status == StatusCode::UNAUTHORIZED && matches!(who, As::Installation(_)) {
            // Of REST octocrab sees to that.
            self.renew(who);
            answer = self.ask(who, &self.graph(who).await?, true, &Method::POST, "/graphql", Some(&body)).await?;
        }
        let answer = self.judge((who, true), answer)?;
        let mut said: Value = answer.json()?;
        let errors = match said.get_mut("errors").map(Value::take) {
            Some(Value::Array(errors)) => errors,
            _ => Vec::new(),
        };
        if errors.iter().any(|error| error.get("type").and_then(Value::as_str) == Some("RATE_LIMITED")) {
            return Err(self.park((who, true), &answer.headers));
        }
        match said.get_mut("data").map(Value::take) {
            Some(data @ Value::Object(_)) => {
                self.count.points(&data);
                Ok((data, errors))
            }
            _ => Err(Failure::transient(format!("GitHub refuses a query: {}", graph_error(&errors)))),
        }
    }

    /// GraphQL lies beside the REST API on an Enterprise Server, so it has a client of its own, with the same token.
    async fn graph(&self, who: As) -> Result<Octocrab, Failure> {
        let token = match (who, &self.token) {
            (As::Installation(_), _) => {
                let token = self.crab(who)?.installation_token().await;
                token.map_err(|error| self.unanswered(who, &error))?.expose_secret().to_owned()
            }
            (_, Some(token)) => token.0.clone(),
            (_, None) => return Err(Failure::permanent("the App itself cannot query GraphQL")),
        };
        self.graph.user_access_token(token).map_err(|error| unanswered(&error))
    }

    /// Takes a new token at the next request: the last one was refused.
    fn renew(&self, who: As) {
        if let As::Installation(id) = who {
            self.installations.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }

    fn crab(&self, who: As) -> Result<Arc<Octocrab>, Failure> {
        let As::Installation(id) = who else { return Ok(self.rest.clone()) };
        let mut installations = self.installations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crab) = installations.get(&id) {
            return Ok(crab.clone());
        }
        let crab = Arc::new(self.rest.installation(InstallationId(id)).map_err(|error| unanswered(&error))?);
        installations.insert(id, crab.clone());
        Ok(crab)
    }

    async fn ask(
        &self,
        who: As,
        crab: &Octocrab,
        graph: bool,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        if let Some(failure) = self.is_parked((who, graph)) {
            return Err(failure);
        }
        let what = if graph { "a query".to_owned() } else { format!("{method} {}", clean(path, 120)) };
        self.count.request(method, graph);
        let request = http::Request::builder().method(method).uri(path);
        let request = crab.build_request(request, body).map_err(|error| unanswered(&error))?;
        let asked = async {
            let response = crab.execute(request).await.map_err(|error| self.unanswered(who, &error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LONGEST).collect().await;
            let body =
                body.map_err(|error| Failure::transient(format!("GitHub's answer to {what} broke off: {error}")))?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes(), what: what.clone() })
        };
        let late = || Failure::transient(format!("GitHub does not answer {what} within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())?
    }

    /// Failures that any request may meet.
    fn judge(&self, who: (As, bool), answer: Answer) -> Result<Answer, Failure> {
        let limited = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::FORBIDDEN => {
                let none_left = answer.headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
                none_left
                    || answer.headers.contains_key(header::RETRY_AFTER)
                    || answer.message().to_lowercase().contains("rate limit")
            }
            _ => false,
        };
        if limited {
            return Err(self.park(who, &answer.headers));
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(Failure::transient(format!(
                "GitHub does not know us ({}): look at the key or token that [github] names",
                answer.message()
            )));
        }
        if answer.status.is_server_error() {
            let status = answer.status.as_u16();
            return Err(Failure::transient(format!("GitHub answers {} with {status}; it is tried again", answer.what)));
        }
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(&who);
        Ok(answer)
    }

    /// No request of this kind before GitHub allows it: `retry-after`, else the reset of a limit that is used up, else
    /// a minute, and longer each time.
    fn park(&self, who: (As, bool), headers: &HeaderMap) -> Failure {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let now = SystemTime::now();
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let next = parked.get(&who).map_or(Duration::from_secs(60), |parked| parked.next);
        let used_up = number("x-ratelimit-remaining") == Some(0);
        let until = match (number("retry-after"), number("x-ratelimit-reset").filter(|_| used_up)) {
            (Some(seconds), _) => now + Duration::from_secs(seconds.min(3600)),
            (None, Some(reset)) => (UNIX_EPOCH + Duration::from_secs(reset)).min(now + Duration::from_secs(3700)),
            (None, None) => now + next,
        };
        parked.insert(who, Parked { until, next: (next * 2).min(Duration::from_secs(3600)) });
        limit(until)
    }

    fn is_parked(&self, who: (As, bool)) -> Option<Failure> {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let until = parked.get(&who)?.until;
        (SystemTime::now() < until).then(|| limit(until))
    }

    /// No answer at all. What the App was told when it wanted a token is an answer.
    fn unanswered(&self, who: As, error: &octocrab::Error) -> Failure {
        if let octocrab::Error::GitHub { source, .. } = error {
            self.renew(who);
            let (code, said) = (source.status_code.as_u16(), clean(&source.message, 200));
            return Failure::transient(match code {
                401 => {
                    format!("GitHub does not know the App ({said}): look at app_id and private_key_file in [github]")
                }
                403 | 404 => {
                    format!("GitHub gives the App no token ({said}): it was suspended or removed by its owner")
                }
                _ => format!("GitHub gives the App no token ({code}: {said}); it is tried again"),
            });
        }
        unanswered(error)
    }
}

fn limit(until: SystemTime) -> Failure {
    let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = until.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let wait = if left < 120 { format!("{left} s") } else { format!("{} min", left / 60) };
    Failure::transient(format!(
        "GitHub's limit of requests is reached; asked again at {hours:02}:{minutes:02} UTC, in {wait}"
    ))
}

fn unanswered(error: &octocrab::Error) -> Failure {
    Failure::transient(format!("GitHub does not answer: {}", first_line(error)))
}

/// octocrab's errors carry backtraces, and their causes are what tells.
fn first_line(error: &octocrab::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    clean(text.lines().next().unwrap_or("unknown"), 200)
}

pub(super) fn graph_error(errors: &[Value]) -> String {
    let said: Vec<&str> = errors.iter().filter_map(|error| error.get("message")?.as_str()).collect();
    clean(&if said.is_empty() { "no message".to_owned() } else { said.join("; ") }, 300)
}

/// Bases of REST and GraphQL.
fn bases(web: &str) -> (String, String) {
    let web = web.trim_end_matches('/');
    if web == super::PUBLIC {
        return ("https://api.github.com".to_owned(), "https://api.github.com".to_owned());
    }
    (format!("{web}/api/v3"), format!("{web}/api"))
}

/// A URL of GitHub's as a path below the base; none if it leads elsewhere.
fn local(url: &str, base: &str) -> Option<String> {
    if url.starts_with('/') && !url.starts_with("//") {
        let path = base.splitn(4, '/').nth(3).map(|path| format!("/{path}"));
        return Some(path.and_then(|path| url.strip_prefix(&path)).unwrap_or(url).to_owned());
    }
    url.strip_prefix(base).filter(|path| path.starts_with('/')).map(str::to_owned)
}
