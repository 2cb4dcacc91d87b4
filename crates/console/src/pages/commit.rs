//! One commit: its reason in full, its logs, the links of its manifest, its data, its end. And the question before what is lost.

use maud::{Markup, html};
use planner::identity::{ProjectName, Sha, Time, Trust};
use planner::units::round_size;
use planner::view::{CommitView, ProjectView, State};

use super::Wish;
use super::list::bare;
use super::row::{Button, badge, inert, moment, ref_label};
use crate::acts::Act;
use crate::text;

pub(super) fn main(project: &ProjectView, commit: &CommitView, now: Time, token: &str) -> Markup {
    let button = Button { project: &project.name, sha: &commit.sha, row: "", token };
    html! {
        nav.crumbs aria-label="Where you are" { a href="/" { "All environments" } " / " a href={ "/#project-" (project.name) } { (project.name) } }
        div.commit-head {
            h1 { (inert(&commit.subject)) }
            div.acts { (button.primary(commit, "button primary")) (button.menu(commit)) }
        }
        p.lead { (badge(commit, now)) " " span { (moment(now, commit.since)) } " " code.full { (commit.sha) } }
        @if let Some(reason) = &commit.reason { p.why { (inert(reason)) } }
        @if commit.approvable {
            p.exactly { "This code comes from outside the project and runs only when it is approved. 'Approve and stage' approves exactly " code { (commit.sha) } ", nothing that is pushed later." }
        }
        @if commit.stale {
            p.why { "A secret of the project has changed since its processes were started. The new value applies when they start next: after sleeping and waking, or at the next stage, reset or rebuild." }
        }
        @if commit.held {
            p.why { "Its removal is held back, since many would go at once. Type " code { "sidestage gc --confirm" } " if it should go." }
        }
        (facts(project, commit, now))
        (applications(commit))
        (links(commit))
        (super::named::buttons(project, commit, token))
        (logs(commit))
    }
}

fn facts(project: &ProjectView, commit: &CommitView, now: Time) -> Markup {
    let refs = project.refs.iter().filter(|of| of.commits.iter().any(|other| other.sha == commit.sha));
    html! {
        dl.facts {
            dt { "URL" }
            dd { a href=(commit.url) rel="noreferrer" { (inert(bare(&commit.url))) } }
            dt { "Belongs to" }
            dd { @for of in refs { span.of { (ref_label(&of.name)) " " (inert(&of.title)) } } }
            dt { "Author" }
            dd { (inert(&commit.author)) }
            dt { "Trust" }
            dd { (commit.trust) @match commit.trust {
                Trust::Trusted => { ": on a ref of the project's own" }
                Trust::Approved => { ": from outside, approved at this commit" }
                Trust::Untrusted => { ": from outside, not approved" }
            } }
            dt { "Data" }
            dd { @if commit.generation == 0 { "none yet" } @else { "generation " (commit.generation) (data(commit, now)) }
                @if let Some(next) = commit.next { " (" (next.as_str()) "; the one before serves)" } }
            @if let Some(asked) = commit.asked {
                dt { "Asked for" }
                dd { (moment(now, asked)) @if let Some(took) = commit.took { ", ready after " (text::took(took)) } }
            }
            @if let Some(visited) = commit.visited { dt { "Last visit" } dd { (moment(now, visited)) } }
            dt { "Ends" }
            dd { (end(commit, now)) }
            dt { "Environment" }
            dd { code { (commit.env) } }
        }
    }
}

/// Where it came from, since when, and what it measures.
fn data(commit: &CommitView, now: Time) -> Markup {
    let Some(data) = &commit.data else { return html! {} };
    let sizes = [("database", data.database), ("objects", data.objects)];
    html! {
        ", " (inert(&data.from)) ", " (moment(now, data.at))
        @for (what, bytes) in sizes { @if let Some(bytes) = bytes { ", " (what) " " (round_size(bytes)) } }
        @if let Some(over) = &data.over { p.why { (inert(over)) } }
    }
}

fn end(commit: &CommitView, now: Time) -> Markup {
    html! {
        @if commit.pinned { "not before it is unpinned" }
        @else if let Some(expires) = commit.expires { (moment(now, expires)) " if nobody visits it" }
        @else if matches!(commit.state, State::Removed | State::Expired | State::Superseded) { "gone" }
        @else { "with its pull request, branch or tag" }
    }
}

/// Further applications of the environment, each on a host of its own.
fn applications(commit: &CommitView) -> Markup {
    html! {
        @if !commit.apps.is_empty() {
            section.links {
                h2 { "Applications" }
                ul { @for (name, url) in &commit.apps { li { a href=(url) rel="noreferrer" { (inert(name)) } " " span.note { (inert(bare(url))) } } } }
            }
        }
    }
}

fn links(commit: &CommitView) -> Markup {
    html! {
        @if !commit.links.is_empty() {
            section.links {
                h2 { "Links" }
                ul {
                    @for (name, path, note) in &commit.links {
                        li {
                            a href=(text::below(&commit.url, path)) rel="noreferrer" { (inert(name)) }
                            @if let Some(note) = note { " " span.note { (inert(note)) } }
                        }
                    }
                }
            }
        }
    }
}

/// Each log is a plain link; the script opens it in place and follows it.
fn logs(commit: &CommitView) -> Markup {
    // What matters first: of what failed the last that ran, the web process if it came that far; of what builds the build.
    let first = match commit.state {
        State::Failed => commit.logs.iter().find(|name| *name == "web").or(commit.logs.last()),
        State::Building => commit.logs.iter().find(|name| *name == "build"),
        _ => None,
    };
    html! {
        section.logs {
            h2 { "Logs" }
            @if commit.logs.is_empty() { p.none { "There are none yet: they begin with the build." } }
            @for name in &commit.logs {
                details.log id={ "log-" (name) } open[first == Some(name)]
                    data-log={ "/api/v1/logs/" (commit.env) "/" (name) } {
                    summary { (inert(name)) }
                    p { a href={ "/api/v1/logs/" (commit.env) "/" (name) } { "Plain text" } }
                }
            }
        }
    }
}

/// The question before something is lost.
pub(super) fn confirm(
    act: Act,
    project: &ProjectName,
    sha: &Sha,
    commit: Option<&CommitView>,
    wish: &Wish,
    token: &str,
) -> Markup {
    let back = wish.back(project, sha);
    let button = Button { project, sha, row: &wish.row, token };
    html! {
        div.ask {
            h1 { (act.label()) "?" }
            @if let Some(commit) = commit { p.lead { (inert(&commit.subject)) } }
            p { (project) " " code.full { (sha) } }
            @if let Some(loss) = act.loses() { p { (loss) } }
            form method="post" action="/do" {
                (button.fields(act))
                button.button.danger[act.loses().is_some()].primary[act.loses().is_none()] { (act.label()) }
                " " a.button href=(back) { "Cancel" }
            }
        }
    }
}
