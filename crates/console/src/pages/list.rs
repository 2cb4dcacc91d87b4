//! The page: every open pull request, branch and tag with its commits and what can be done about them.

use std::time::Duration;

use maud::{Markup, html};
use planner::identity::{Ref, Time, Trust};
use planner::view::{CommitView, ProjectView, RefView, State, View};

use super::row::{Button, badge, inert, moment, ref_label, row_id};
use crate::text;

/// From when on it is said when an environment will be removed.
const SOON: Duration = Duration::from_secs(24 * 3600);

pub(super) fn main(view: &View, now: Time, token: &str) -> Markup {
    html! {
        h1.unseen { "Environments" }
        (warnings(&view.warnings))
        @if view.projects.is_empty() {
            div.empty {
                h2 { "No project is watched yet" }
                p { "Add a " code { "[[project]]" } " table to the configuration, check it with " code { "sidestage config check" } " and start Sidestage again." }
            }
        }
        @for project in &view.projects { (section(project, view.places, now, token)) }
    }
}

pub(super) fn warnings(lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            section.warnings aria-label="Warnings" {
                ul { @for line in lines { li { (inert(line)) } } }
            }
        }
    }
}

fn section(project: &ProjectView, places: (usize, usize), now: Time, token: &str) -> Markup {
    let open = project.refs.iter().filter(|of| of.open).count();
    let serving = project.refs.iter().flat_map(|of| &of.commits).filter(|commit| crate::acts::opens(commit.state));
    let mut serving: Vec<_> = serving.map(|commit| &commit.env).collect();
    serving.sort_unstable();
    serving.dedup();
    html! {
        section.project id={ "project-" (project.name) } {
            header.project-head {
                h2 { (project.name) }
                p.count { (open) " open · " (serving.len()) " staged · " (places.1.saturating_sub(places.0)) " more fit" }
                (by_name(project, token))
                a.button href={ "/projects/" (project.name) "/secrets" } { "Secrets" }
            }
            @if project.refs.is_empty() {
                div.empty {
                    h3 { "No open pull requests yet" }
                    p { "Push a branch, or open a pull request: it appears here by itself." }
                }
            } @else {
                ol.refs { @for of in &project.refs { (reference(project, of, now, token)) } }
            }
        }
    }
}

/// Any other branch or tag of the project, by name.
fn by_name(project: &ProjectView, token: &str) -> Markup {
    html! {
        form.by-name method="post" action="/stage" {
            input type="hidden" name="project" value=(project.name);
            input type="hidden" name="token" value=(token);
            label { span.unseen { "Branch or tag of " (project.name) }
                input name="ref" required placeholder="another branch or tag" maxlength="255" autocapitalize="none" spellcheck="false"; }
            button.button { "Stage it" }
        }
    }
}

fn reference(project: &ProjectView, of: &RefView, now: Time, token: &str) -> Markup {
    let named_by_title = matches!(&of.name, Ref::Branch(name) | Ref::Tag(name) if *name == of.title);
    let serves = of.commits.iter().any(|commit| crate::acts::opens(commit.state));
    html! {
        li.reference .closed[!of.open] id=(row_id(&project.name, &of.name, None)) {
            div.reference-head {
                h3 {
                    (ref_label(&of.name))
                    @if !named_by_title { " " span.title { (inert(&of.title)) } }
                }
                @if of.foreign { span.tag title="The code comes from outside the project" { "fork" } }
                @if !of.open { span.tag { "closed" } }
                @if serves { a.alias href=(of.alias_url) rel="noreferrer" { (inert(bare(&of.alias_url))) } }
            }
            ol.commits { @for (place, commit) in of.commits.iter().enumerate() { (row(project, of, commit, place == 0, now, token)) } }
        }
    }
}

/// A URL without its scheme, for reading.
pub(super) fn bare(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

fn row(project: &ProjectView, of: &RefView, commit: &CommitView, is_head: bool, now: Time, token: &str) -> Markup {
    let id = row_id(&project.name, &of.name, Some(&commit.sha));
    let button = Button { project: &project.name, sha: &commit.sha, row: &id, token };
    html! {
        li.commit .{ "was-" (commit.state.as_str()) } id=(id) {
            (badge(commit, now))
            div.what {
                a.sha href={ "/projects/" (project.name) "/" (commit.sha) } title=(commit.sha) { (commit.sha.short()) }
                span.subject { (inert(&commit.subject)) }
                span.by { (inert(&commit.author)) }
            }
            (notes(commit, now))
            div.acts { (button.primary(commit, if is_head { "button primary" } else { "button" })) (button.menu(commit)) }
            @if commit.approvable {
                p.exactly { "Approves exactly " code { (commit.sha) } ", nothing that is pushed later." }
            }
            @for told in commit.reason.iter().chain(commit.data.as_ref().and_then(|data| data.over.as_ref())) {
                p.reason { (inert(told)) }
            }
        }
    }
}

/// Age, duration, pin and end.
fn notes(commit: &CommitView, now: Time) -> Markup {
    let ends = commit.expires.filter(|end| !commit.pinned && end.since(now) < SOON && crate::acts::opens(commit.state));
    html! {
        div.notes {
            @if let Some(next) = commit.next { span.tag title="The next generation, beside the one that serves" { "next: " (next.as_str()) } }
            @if commit.pinned { span.tag title="Kept until it is unpinned" { "pinned" } }
            @if commit.held { span.tag.warn title="Its removal is held back until gc --confirm" { "held" } }
            @if commit.trust == Trust::Approved { span.tag title="Foreign code, approved at this commit" { "approved" } }
            @if let Some(end) = ends { span.ends { "ends " (moment(now, end)) } }
            @if let (State::Ready, Some(took)) = (commit.state, commit.took) { span.took title="From asked for to ready" { "took " (text::took(took)) } }
            @if commit.state.is_settled() { (moment(now, commit.since)) }
        }
    }
}
