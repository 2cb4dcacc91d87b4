//! The pages: they work without JavaScript, forms answer with 303 back to where they were, and the script only makes them live.

mod baselines;
mod commit;
mod github;
mod layout;
mod list;
mod named;
mod row;
mod secrets;
mod sign_in;

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use data_encoding::HEXLOWER;
use http::{HeaderMap, StatusCode, header};
use maud::{Markup, html};
use planner::identity::{ProjectName, Sha};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::acts::Act;
use crate::api::{self, Problem};
use crate::app::App;
use crate::guard::{self, LIVE};
use crate::sessions::{Said, SignedIn};
use layout::Page;

type Shared = State<Arc<App>>;

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");

/// Stands in the path of the static files, so that they may be cached for ever.
static ASSETS: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::new().chain_update(STYLE).chain_update(SCRIPT).finalize();
    HEXLOWER.encode(digest.get(..6).unwrap_or_default())
});

pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let inside = Router::new()
        .route("/", get(index))
        .route("/projects/{name}/secrets", get(secrets::show).post(secrets::change))
        .route("/projects/{name}/{sha}", get(show))
        .route("/baselines", get(baselines::show).post(baselines::change))
        .route("/confirm", get(confirm))
        .route("/do", post(act))
        .route("/stage", post(stage))
        .route("/run", post(named::run))
        .route("/github/connect", get(github::begin))
        .route("/github/connected", get(github::connected))
        .route("/logout", post(sign_in::logout));
    inside
        .route("/login", get(sign_in::ask).post(sign_in::login))
        .route("/static/{version}/{file}", get(asset))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(app.clone())
}

async fn asset(Path((_, file)): Path<(String, String)>) -> Response {
    let (kind, body) = match file.as_str() {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, body).into_response()
}

async fn nothing_here(State(app): Shared, headers: HeaderMap) -> Response {
    let session = match guard::signed_in(&app, &headers) {
        Some(session) => session,
        None => return sign_in::needed(&headers, "/"),
    };
    let line = "There is no such page.";
    problem(&app, &session, &Problem::new(StatusCode::NOT_FOUND, line))
}

async fn index(State(app): Shared, headers: HeaderMap) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    let view = app.view();
    let page = page(&app, &session, &headers, "Environments", list::main(&view, app.now(), &session.form));
    page.live().render(StatusCode::OK)
}

async fn show(State(app): Shared, headers: HeaderMap, Path((name, sha)): Path<(String, String)>) -> Response {
    let back = format!("/projects/{name}/{sha}");
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, &back) };
    let view = app.view();
    let found = api::find_project(&view, &name).and_then(|project| {
        let sha =
            sha.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND, "A commit is named by all 40 hex digits."))?;
        let gone = || Problem::new(StatusCode::NOT_FOUND, format!("{name} knows no commit {sha} any more."));
        Ok((project, api::find_commit(project, &sha).ok_or_else(gone)?))
    });
    match found {
        Ok((project, of)) => {
            let main = commit::main(project, of, app.now(), &session.form);
            let title = format!("{} {}", project.name, of.sha.short());
            page(&app, &session, &headers, &title, main).live().render(StatusCode::OK)
        }
        Err(error) => problem(&app, &session, &error),
    }
}

/// One act on one commit, as a form or a link names it.
#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "do")]
    verb: String,
    project: String,
    sha: String,
    /// The session's token; only forms have it.
    #[serde(default)]
    token: String,
    /// The row to come back to, or nothing for the commit's own page.
    #[serde(default)]
    row: String,
}

impl Wish {
    fn parse(&self) -> Option<(Act, ProjectName, Sha)> {
        Some((Act::parse(&self.verb)?, self.project.parse().ok()?, self.sha.parse().ok()?))
    }

    /// Where to go afterwards: always a place of ours.
    fn back(&self, project: &ProjectName, sha: &Sha) -> String {
        let row: String = self.row.chars().filter(char::is_ascii_alphanumeric).collect();
        if row.is_empty() { format!("/projects/{project}/{sha}") } else { format!("/#{row}") }
    }
}

fn unclear() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "This request names no act and commit of ours. Go back and press the button again.",
    )
}

async fn confirm(State(app): Shared, headers: HeaderMap, Query(wish): Query<Wish>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    let Some((act, project, sha)) = wish.parse() else { return problem(&app, &session, &unclear()) };
    let view = app.view();
    let found = api::find_project(&view, project.as_str()).ok().and_then(|project| api::find_commit(project, &sha));
    let main = commit::confirm(act, &project, &sha, found, &wish, &session.form);
    page(&app, &session, &headers, act.label(), main).render(StatusCode::OK)
}

async fn act(State(app): Shared, headers: HeaderMap, Form(wish): Form<Wish>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    if !app.site.is_own_origin(&headers) || wish.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    let Some((act, project, sha)) = wish.parse() else { return problem(&app, &session, &unclear()) };
    let back = wish.back(&project, &sha);
    let said = match api::run(&app, act.command(project, sha)).await {
        Ok(line) => Said { good: true, line },
        Err(problem) => Said { good: false, line: problem.line },
    };
    app.sessions.say(session.key, said);
    see_other(&back)
}

/// A branch or tag by name, as the form of a project sends it.
#[derive(Deserialize)]
struct Named {
    project: String,
    #[serde(rename = "ref")]
    name: String,
    #[serde(default)]
    token: String,
}

async fn stage(State(app): Shared, headers: HeaderMap, Form(named): Form<Named>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    if !app.site.is_own_origin(&headers) || named.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    let Ok(project) = named.project.parse::<ProjectName>() else { return problem(&app, &session, &unclear()) };
    let (back, said) = match api::stage_by_name(&app, project.as_str(), named.name.trim().to_owned()).await {
        Ok((sha, line)) => (format!("/projects/{project}/{sha}"), Said { good: true, line }),
        Err(problem) => (format!("/#project-{project}"), Said { good: false, line: problem.line }),
    };
    app.sessions.say(session.key, said);
    see_other(&back)
}

/// A write that does not come from a page of this session.
fn not_ours() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "This change did not come from a page of this console and session, so nothing was done. Open the console and press the button there.",
    )
}

fn see_other(to: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.to_owned())]).into_response()
}

/// A page for somebody who is signed in.
fn page<'a>(app: &'a App, session: &'a SignedIn, headers: &HeaderMap, title: &'a str, main: Markup) -> Page<'a> {
    let said = if headers.contains_key(LIVE) { None } else { app.sessions.take_said(session.key) };
    Page { title, main, said, session: Some(session), view: Some(app.view()), live: false, refresh: None }
}

fn problem(app: &App, session: &SignedIn, problem: &Problem) -> Response {
    let main = html! {
        h1 { "That did not work" }
        p { (row::inert(&problem.line)) }
        p { a href="/" { "Back to all environments" } }
    };
    let page = Page {
        title: "That did not work",
        main,
        said: None,
        session: Some(session),
        view: Some(app.view()),
        live: false,
        refresh: None,
    };
    page.render(problem.status)
}
