//! Commands and cron jobs of the manifest, run by a button: what they print comes as plain text while they run.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Form;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use maud::{Markup, html};
use planner::identity::{ProjectName, Sha};
use planner::view::{CommitView, ProjectView};
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;

use super::row::inert;
use super::{not_ours, problem, sign_in, unclear};
use crate::Ask;
use crate::acts;
use crate::api::Problem;
use crate::app::App;
use crate::guard;
use crate::inside::{Begin, Ended, Frame, Run, Session};
use crate::text::LogCleaner;

/// A form of one button.
#[derive(Deserialize)]
pub(super) struct Press {
    project: String,
    sha: String,
    /// `:name` or `:cron.name` of the manifest.
    name: String,
    #[serde(default)]
    token: String,
}

/// A button for each command and each cron job of a commit that can be opened.
pub(super) fn buttons(project: &ProjectView, commit: &CommitView, token: &str) -> Markup {
    let form = |name: String, label: &str| {
        html! {
            form method="post" action="/run" target="_blank" {
                input type="hidden" name="project" value=(project.name);
                input type="hidden" name="sha" value=(commit.sha);
                input type="hidden" name="name" value=(name);
                input type="hidden" name="token" value=(token);
                button.button { (label) }
            }
        }
    };
    html! {
        @if acts::opens(commit.state) && !(commit.commands.is_empty() && commit.cron.is_empty()) {
            section.links {
                h2 { "Commands" }
                ul {
                    @for name in &commit.commands { li.named { (form(format!(":{name}"), "Run")) " " (inert(name)) } }
                    @for (name, schedule) in &commit.cron {
                        li.named { (form(format!(":cron.{name}"), "Run now")) " " (inert(name)) " " code { (schedule) } " (UTC)" }
                    }
                }
            }
        }
    }
}

/// Runs it and streams what it prints; the last line says how it ended. Leaving the page ends it.
pub(super) async fn run(State(app): State<Arc<App>>, headers: HeaderMap, Form(press): Form<Press>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    if !app.site.is_own_origin(&headers) || press.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    let place = (press.project.parse::<ProjectName>(), press.sha.parse::<Sha>());
    // Only what stands in the manifest: a page is no terminal.
    let ((Ok(project), Ok(sha)), true) = (place, press.name.starts_with(planner::oneoff::NAMED)) else {
        return problem(&app, &session, &unclear());
    };
    let begin = Begin { process: None, words: vec![press.name], terminal: None };
    let actor = app.actor();
    let begun = app.ask(|reply| Ask::Run(Box::new(Run { actor, project, sha, begin, reply }))).await;
    match begun.map_err(Problem::from).and_then(|begun| begun.map_err(Problem::refused)) {
        Ok(running) => stream(&app, running),
        Err(refused) => problem(&app, &session, &refused),
    }
}

fn stream(app: &App, Session { input, output }: Session) -> Response {
    let mut cleaner = LogCleaner::default();
    let text = ReceiverStream::new(output).map(move |frame| {
        // Held for as long as the stream is: letting go of it would end what runs.
        let _open = &input;
        Ok::<_, Infallible>(match frame {
            Frame::Stdout(bytes) | Frame::Stderr(bytes) => cleaner.clean(&String::from_utf8_lossy(&bytes)),
            Frame::Ended(ended) => told(&ended),
            Frame::Stdin(_) | Frame::Size(..) => String::new(),
        })
    });
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, Body::from_stream(text.take_until(app.closing()))).into_response()
}

fn told(ended: &Ended) -> String {
    let why = ended.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("\nended with code {}{why}\n", ended.code)
}
