//! Secrets of one project: what is set, and a form to set another. Values go in and are never shown.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use planner::identity::{ProjectName, Time};
use planner::secrets::{Place, SecretClass, SecretView};
use serde::Deserialize;

use super::row::{inert, moment};
use super::{not_ours, page, problem, see_other, sign_in, unclear};
use crate::Confidential;
use crate::api::{self, Problem};
use crate::app::App;
use crate::guard;
use crate::secrets::{all, put};
use crate::sessions::Said;

/// A form of this page.
#[derive(Deserialize)]
pub(super) struct Change {
    #[serde(rename = "do")]
    verb: String,
    name: String,
    #[serde(rename = "for")]
    class: String,
    #[serde(default)]
    value: Option<Confidential>,
    #[serde(default)]
    token: String,
}

impl Change {
    /// What is to be set or taken away. Browsers break the lines of a form with CR and LF.
    fn read(self, project: ProjectName) -> Option<(Place, Option<Confidential>)> {
        let class =
            [SecretClass::Trusted, SecretClass::Foreign].into_iter().find(|class| class.as_str() == self.class)?;
        let place = Place { project, class, name: self.name.trim().to_owned() };
        match self.verb.as_str() {
            "set" => Some((place, Some(Confidential(self.value?.0.replace("\r\n", "\n"))))),
            "remove" => Some((place, None)),
            _ => None,
        }
    }
}

fn path(project: &ProjectName) -> String {
    format!("/projects/{project}/secrets")
}

pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let back = format!("/projects/{name}/secrets");
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, &back) };
    let found = async {
        let project = api::find_project(&app.view(), &name)?.name.clone();
        let secrets = all(&app, project.clone()).await?;
        Ok::<_, Problem>((project, secrets))
    };
    match found.await {
        Ok((project, secrets)) => {
            let main = main(&project, &secrets, app.now(), &session.form);
            page(&app, &session, &headers, &format!("Secrets of {project}"), main).render(StatusCode::OK)
        }
        Err(error) => problem(&app, &session, &error),
    }
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(name): Path<String>,
    Form(change): Form<Change>,
) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/") };
    if !app.site.is_own_origin(&headers) || change.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    let project = match api::find_project(&app.view(), &name) {
        Ok(project) => project.name.clone(),
        Err(error) => return problem(&app, &session, &error),
    };
    let back = path(&project);
    let Some((place, value)) = change.read(project) else { return problem(&app, &session, &unclear()) };
    let said = match put(&app, place, value).await {
        Ok(line) => Said { good: true, line },
        Err(problem) => Said { good: false, line: problem.line },
    };
    app.sessions.say(session.key, said);
    see_other(&back)
}

fn main(project: &ProjectName, secrets: &[SecretView], now: Time, token: &str) -> Markup {
    html! {
        nav.crumbs aria-label="Where you are" { a href="/" { "All environments" } " / " a href={ "/#project-" (project) } { (project) } }
        h1 { "Secrets of " (project) }
        p.lead { "Processes get them as variables, and " code { "${NAME}" } " in the manifest stands for them. A changed one applies when a process next starts. Values are shown to nobody." }
        @if secrets.is_empty() {
            div.empty { h2 { "None is set" } }
        } @else {
            ul.secrets {
                @for secret in secrets { li { (row(project, secret, now, token)) } }
            }
        }
        h2 { "Set one" }
        form.secret method="post" action=(path(project)) autocomplete="off" {
            input type="hidden" name="do" value="set";
            input type="hidden" name="token" value=(token);
            label { "Name " input name="name" required maxlength="128" pattern="[A-Za-z_][A-Za-z0-9_]*" autocapitalize="none" spellcheck="false"; }
            label { "For " select name="for" {
                option value="trusted" { "the project's own code" }
                option value="foreign" { "approved code from outside (a dummy)" }
            } }
            label { "Value " textarea name="value" required rows="3" spellcheck="false" autocapitalize="none" {} }
            button.button.primary { "Set it" }
        }
    }
}

fn row(project: &ProjectName, secret: &SecretView, now: Time, token: &str) -> Markup {
    // What stands in a file is changed there.
    let in_file = secret.by.starts_with('/');
    html! {
        code { (inert(&secret.name)) }
        span.tag { (secret.class) }
        span { (inert(&secret.by)) ", " (moment(now, secret.at)) }
        @if !in_file {
            form method="post" action=(path(project)) {
                input type="hidden" name="do" value="remove";
                input type="hidden" name="name" value=(secret.name);
                input type="hidden" name="for" value=(secret.class);
                input type="hidden" name="token" value=(token);
                button.quiet { "Take it away" }
            }
        }
    }
}
