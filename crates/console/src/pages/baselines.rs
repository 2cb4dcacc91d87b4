//! Baselines with their versions: sizes, state, why, who starts from them, logs; and what an admin can do about them.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use planner::command::BaselineAct;
use planner::facts::shown_version;
use planner::identity::Time;
use planner::units::round_size;
use planner::view::{BaselineView, VersionState, VersionView};
use serde::Deserialize;

use super::row::{inert, moment};
use super::{not_ours, page, problem, see_other, sign_in, unclear};
use crate::app::App;
use crate::baselines::act_on;
use crate::guard;
use crate::sessions::Said;

/// A form of this page.
#[derive(Deserialize)]
pub(super) struct Change {
    #[serde(rename = "do")]
    verb: String,
    name: String,
    #[serde(default)]
    version: Option<u32>,
    #[serde(default)]
    token: String,
}

impl Change {
    fn act(&self) -> Option<BaselineAct> {
        match (self.verb.as_str(), self.version) {
            ("refresh", None) => Some(BaselineAct::Refresh),
            ("use", Some(version)) => Some(BaselineAct::Use(version)),
            ("rm", version) => Some(BaselineAct::Remove(version)),
            _ => None,
        }
    }
}

pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/baselines") };
    let main = main(&app.view().baselines, app.now(), &session.form);
    page(&app, &session, &headers, "Baselines", main).live().render(StatusCode::OK)
}

pub(super) async fn change(State(app): State<Arc<App>>, headers: HeaderMap, Form(change): Form<Change>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return sign_in::needed(&headers, "/baselines") };
    if !app.site.is_own_origin(&headers) || change.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    let Some(act) = change.act() else { return problem(&app, &session, &unclear()) };
    let said = match act_on(&app, change.name, act).await {
        Ok(line) => Said { good: true, line },
        Err(problem) => Said { good: false, line: problem.line },
    };
    app.sessions.say(session.key, said);
    see_other("/baselines")
}

fn main(baselines: &[BaselineView], now: Time, token: &str) -> Markup {
    html! {
        nav.crumbs aria-label="Where you are" { a href="/" { "All environments" } }
        h1 { "Baselines" }
        p.lead { "Environments start from these data. A refresh makes another version beside the current one, which takes its place once it is complete and checked. New ones are made with " code { "sidestage baseline create" } "." }
        @for baseline in baselines { (one(baseline, now, token)) }
    }
}

fn one(baseline: &BaselineView, now: Time, token: &str) -> Markup {
    let current = baseline.current.as_deref().map_or("none yet", shown_version);
    html! {
        section.baseline id={ "baseline-" (baseline.name) } {
            h2 { (baseline.name) }
            dl.facts {
                dt { "Current" } dd { (current) }
                @if let Some(from) = &baseline.database { dt { "Database from" } dd { (inert(from)) @if let Some(mask) = &baseline.mask { ", masked by " (inert(mask)) } } }
                @if let Some(from) = &baseline.objects { dt { "Objects from" } dd { (inert(from)) } }
                @if let Some(every) = &baseline.every { dt { "Refreshed" } dd { code { (inert(every)) } @if let Some(due) = baseline.due { ", next " (moment(now, due)) } } }
                @if let Some(trouble) = &baseline.trouble { dt { "Last refresh" } dd { (inert(trouble)) } }
                dt { "For" }
                dd { @if baseline.projects.is_empty() { "no project" } @for (place, name) in baseline.projects.iter().enumerate() { @if place > 0 { ", " } (name) } }
            }
            table.versions {
                thead { tr { th { "Version" } th { "State" } th { "Database" } th { "Objects" } th { "Made" } th { "Used by" } th { "Clones ahead" } th { "Logs" } th {} } }
                tbody { @for version in &baseline.versions { (row(baseline, version, now, token)) } }
            }
            @if baseline.database.is_some() {
                div.acts {
                    form method="post" action="/baselines" { (fields(baseline, "refresh", None, token)) button.button { "Refresh" } }
                    details { summary { "Remove" }
                        form method="post" action="/baselines" { (fields(baseline, "rm", None, token))
                            label { input type="checkbox" required; " All its versions and their data are lost" }
                            button.button.danger { "Remove " (baseline.name) } }
                    }
                }
            }
        }
    }
}

fn row(baseline: &BaselineView, version: &VersionView, now: Time, token: &str) -> Markup {
    let complete = version.sealed.is_some() || version.logs.is_empty();
    let takes = complete && matches!(version.state, VersionState::Ready | VersionState::Kept);
    let goes = version.state != VersionState::Current && version.asked.is_some() && version.users.is_empty();
    html! {
        tr {
            td { (shown_version(&version.version)) }
            td { (version.state.as_str()) @if let Some(reason) = &version.reason { p.why { (inert(reason)) } } }
            td { (measure(version.database, version.tables, "tables")) }
            td { (measure(version.objects, version.count, "objects")) }
            td { @if let Some(at) = version.sealed.or(version.asked) { (moment(now, at)) }
                @if let Some(by) = &version.by { " by " (inert(by)) } }
            td { @if version.users.is_empty() { "nobody" } @for (place, user) in version.users.iter().enumerate() { @if place > 0 { ", " } (inert(user)) } }
            td { @if version.spares.1 > 0 { (version.spares.0) " of " (version.spares.1) } }
            td { @for name in &version.logs { a href={ "/api/v1/baselines/" (version.version) "/logs/" (name) } { (name) } " " } }
            td {
                @if takes { form method="post" action="/baselines" { (fields(baseline, "use", Some(version.number), token)) button.quiet { "Use" } } }
                @if goes { form method="post" action="/baselines" { (fields(baseline, "rm", Some(version.number), token)) button.quiet { "Remove" } } }
            }
        }
    }
}

fn measure(bytes: Option<u64>, count: Option<u64>, what: &str) -> Markup {
    html! {
        @if let Some(bytes) = bytes { (round_size(bytes)) }
        @if let Some(count) = count { @if bytes.is_some() { ", " } (count) " " (what) }
    }
}

fn fields(baseline: &BaselineView, verb: &str, version: Option<u32>, token: &str) -> Markup {
    html! {
        input type="hidden" name="do" value=(verb);
        input type="hidden" name="name" value=(baseline.name);
        @if let Some(version) = version { input type="hidden" name="version" value=(version); }
        input type="hidden" name="token" value=(token);
    }
}
