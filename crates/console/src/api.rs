//! `/api/v1`: the view and everything that can be asked for, as JSON; logs as text, changes as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{Stream, StreamExt};
use http::{StatusCode, header};
use planner::command::Command;
use planner::identity::{EnvId, ProjectName, Sha};
use planner::view::{CommitView, ProjectView, View};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};

use crate::Ask;
use crate::app::{App, Door, Silent};
use crate::baselines;
use crate::inside;
use crate::secrets;
use crate::sessions::SignedIn;
use crate::text::LogCleaner;

type Answer = Result<Json<Value>, Problem>;
type Shared = State<Arc<App>>;

/// An error as the API gives it: a status and one line that says what to do.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) line: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, line: impl Into<String>) -> Self {
        Problem { status, line: line.into() }
    }

    fn not_found(line: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, line)
    }

    /// The loop said no.
    pub(crate) fn refused(line: String) -> Self {
        Problem::new(StatusCode::CONFLICT, line)
    }
}

impl From<Silent> for Problem {
    fn from(silent: Silent) -> Self {
        let status = match silent {
            Silent::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Silent::Busy => StatusCode::GATEWAY_TIMEOUT,
        };
        Problem::new(status, silent.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.line }))).into_response()
    }
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/view", get(view))
        .route("/projects/{name}", get(project))
        .route("/projects/{name}/refs", post(stage_ref))
        .route("/projects/{name}/images", post(announce))
        .route("/environments/{project}/{sha}", get(environment))
        .route("/environments/{project}/{sha}/run", get(inside::run))
        .route("/environments/{project}/{sha}/database", post(inside::database))
        .route("/commands", post(command))
        .route("/logs/{env}/{name}", get(logs))
        .route("/projects/{name}/secrets", get(secrets::list).post(secrets::change))
        .route("/baselines", get(baselines::list).post(baselines::create))
        .route("/baselines/{name}", get(baselines::show).post(baselines::change))
        .route("/baselines/{version}/cloning", get(baselines::cloning))
        .route("/baselines/{version}/logs/{name}", get(baselines::logs))
        .route("/config/reload", post(secrets::reload))
        .route("/github", get(github))
        .route("/plan", get(plan))
        .route("/look/{project}", post(look))
        .route("/events", get(events))
        .route("/version", get(version))
        .route("/login-link", post(login_link))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

async fn github(State(app): Shared) -> Answer {
    let findings = app.ask(Ask::CheckGitHub).await?.map_err(Problem::refused)?;
    let findings = findings.into_iter().map(|(good, line)| json!({ "good": good, "line": line }));
    Ok(Json(json!({ "findings": findings.collect::<Value>() })))
}

pub(crate) async fn unknown() -> Problem {
    Problem::not_found("no such resource: see GET /api/v1/view for what there is")
}

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource does not take that method: GET reads, POST changes")
}

async fn view(State(app): Shared) -> Json<Arc<View>> {
    Json(app.view())
}

async fn project(State(app): Shared, Path(name): Path<String>) -> Result<Json<ProjectView>, Problem> {
    Ok(Json(find_project(&app.view(), &name)?.clone()))
}

async fn environment(
    State(app): Shared,
    Path((project, sha)): Path<(String, String)>,
) -> Result<Json<CommitView>, Problem> {
    let view = app.view();
    let project = find_project(&view, &project)?;
    let sha: Sha = sha.parse().map_err(|invalid| Problem::new(StatusCode::BAD_REQUEST, format!("{invalid}")))?;
    let commit = find_commit(project, &sha)
        .ok_or_else(|| Problem::not_found(format!("{} knows no commit {sha}: push it, or look again", project.name)))?;
    Ok(Json(commit.clone()))
}

pub(crate) fn find_project<'v>(view: &'v View, name: &str) -> Result<&'v ProjectView, Problem> {
    view.projects.iter().find(|project| project.name.as_str() == name).ok_or_else(|| {
        let names: Vec<_> = view.projects.iter().map(|project| project.name.as_str()).collect();
        Problem::not_found(format!("no project of that name; there are: {}", names.join(", ")))
    })
}

pub(crate) fn find_commit<'v>(project: &'v ProjectView, sha: &Sha) -> Option<&'v CommitView> {
    project.refs.iter().flat_map(|of| &of.commits).find(|commit| commit.sha == *sha)
}

async fn command(State(app): Shared, body: Result<Bytes, BytesRejection>) -> Answer {
    let said = run(&app, parse("a command", body)?).await?;
    Ok(Json(json!({ "ok": said })))
}

/// The body of a request, which is to be `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|rejected| Problem::new(rejected.status(), rejected.body_text()))?;
    let wrong = |error| Problem::new(StatusCode::BAD_REQUEST, format!("not {what}: {error}"));
    serde_json::from_slice(&body).map_err(wrong)
}

/// Asks the loop to do something, in the name of whoever came through this door.
pub(crate) async fn run(app: &App, command: Command) -> Result<String, Problem> {
    let actor = app.actor();
    app.ask(|reply| Ask::Command(actor, command, reply)).await?.map_err(Problem::refused)
}

/// The body of a request to stage a branch or tag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// As a person calls it.
    #[serde(rename = "ref")]
    name: String,
}

async fn stage_ref(State(app): Shared, Path(project): Path<String>, body: Result<Bytes, BytesRejection>) -> Answer {
    let wanted: Wanted = parse("a branch or tag", body)?;
    let (sha, said) = stage_by_name(&app, &project, wanted.name).await?;
    Ok(Json(json!({ "ok": said, "sha": sha })))
}

/// The body of what CI announces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pushed {
    /// Whose image is in the registry now.
    sha: Sha,
}

async fn announce(State(app): Shared, Path(project): Path<String>, body: Result<Bytes, BytesRejection>) -> Answer {
    let Pushed { sha } = parse("the commit whose image was pushed", body)?;
    let project = find_project(&app.view(), &project)?.name.clone();
    let said = run(&app, Command::Announce { project, sha }).await?;
    Ok(Json(json!({ "ok": said })))
}

/// Stages whatever a branch or tag points to now.
pub(crate) async fn stage_by_name(app: &App, project: &str, name: String) -> Result<(Sha, String), Problem> {
    let project = find_project(&app.view(), project)?.name.to_string();
    let actor = app.actor();
    app.ask(|reply| Ask::StageRef { actor, project, name, reply }).await?.map_err(Problem::refused)
}

async fn plan(State(app): Shared) -> Answer {
    Ok(Json(json!({ "plan": app.ask(Ask::Plan).await? })))
}

async fn look(State(app): Shared, Path(name): Path<String>) -> Answer {
    let name: ProjectName = find_project(&app.view(), &name)?.name.clone();
    app.ask(|reply| Ask::Look(name.to_string(), reply)).await?.map_err(Problem::refused)?;
    Ok(Json(json!({ "ok": format!("looked at {name}") })))
}

async fn version(State(app): Shared) -> Json<Value> {
    Json(json!({ "version": app.settings.version, "instance": app.settings.instance }))
}

/// Only the local socket hands out links: whoever is signed in must not be able to prolong that for ever.
async fn login_link(State(app): Shared) -> Answer {
    if app.door != Door::Local {
        return Err(unknown().await);
    }
    let token = app.settings.links.issue().map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the system has no randomness to give: {error}"))
    })?;
    Ok(Json(json!({ "url": format!("{}/login?token={token}", app.site.origin) })))
}

async fn logs(
    State(app): Shared,
    Path((env, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let env: EnvId = env.parse().map_err(|invalid| Problem::new(StatusCode::BAD_REQUEST, format!("{invalid}")))?;
    let follow = follows(query.as_deref());
    let chunks = app.ask(|reply| Ask::Logs { env, name, follow, reply }).await?.map_err(Problem::not_found)?;
    Ok(stream(&app, chunks))
}

/// Whether a log is to go on as lines come.
pub(crate) fn follows(query: Option<&str>) -> bool {
    let mut parts = query.into_iter().flat_map(|query| query.split('&'));
    parts.any(|part| matches!(part, "follow" | "follow=1" | "follow=true"))
}

/// A log as it comes, made inert.
pub(crate) fn stream(app: &App, chunks: mpsc::Receiver<String>) -> Response {
    let mut cleaner = LogCleaner::default();
    let text = ReceiverStream::new(chunks)
        .map(move |chunk| Ok::<_, Infallible>(cleaner.clean(&chunk)))
        .take_until(app.closing());
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(text)).into_response()
}

/// One event now and one whenever the view changes; the data is the view's moment in milliseconds. Ends with the session.
async fn events(
    State(app): Shared,
    session: Option<Extension<SignedIn>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let closing = app.closing();
    let changes = WatchStream::new(app.doors.view.clone())
        .take_while(move |_| {
            let holds = session.as_ref().is_none_or(|session| app.sessions.holds(session.key, app.now()));
            std::future::ready(holds)
        })
        .map(|view| Ok(Event::default().event("view").data(view.at.0.to_string())))
        .take_until(closing);
    Sse::new(changes).keep_alive(KeepAlive::default())
}
