//! The parts that list and commit page share: inert text, times, badges, buttons.

use data_encoding::HEXLOWER;
use maud::{Markup, html};
use planner::identity::{ProjectName, Ref, Sha, Time};
use planner::view::CommitView;
use sha2::{Digest, Sha256};

use crate::acts::{self, Act};
use crate::text;

/// Text that a repository or the outside wrote.
pub(super) fn inert(written: &str) -> Markup {
    html! { bdi { (text::clean(written)) } }
}

/// A moment, relative, with the absolute one behind it.
pub(super) fn moment(now: Time, then: Time) -> Markup {
    match text::absolute(then) {
        Some(absolute) => html! { time datetime=(absolute) title=(absolute) { (text::relative(now, then)) } },
        None => html! { "never" },
    }
}

/// The id of a row: refs hold odd characters, ids and anchors must not.
pub(super) fn row_id(project: &ProjectName, of: &Ref, sha: Option<&Sha>) -> String {
    let sha = sha.map(Sha::to_string).unwrap_or_default();
    let digest = Sha256::digest(format!("{project}\n{of}\n{sha}"));
    format!("r{}", HEXLOWER.encode(digest.get(..6).unwrap_or_default()))
}

/// What a ref is called on the page.
pub(super) fn ref_label(of: &Ref) -> Markup {
    match of {
        Ref::Pull(number) => html! { span.ref { "#" (number) } },
        Ref::Branch(name) => html! { span.ref title="branch" { (inert(name)) } },
        Ref::Tag(name) => html! { span.ref title="tag" { "tag " (inert(name)) } },
    }
}

/// The state, as a badge. Under way: how long already, which the script counts on.
pub(super) fn badge(commit: &CommitView, now: Time) -> Markup {
    let state = commit.state;
    html! {
        span.state .{ "is-" (state.as_str()) } {
            (state.as_str())
            @if !state.is_settled() {
                span.for data-since=(commit.since.0) data-now=(now.0) { (text::clock(now.since(commit.since))) }
            }
        }
    }
}

/// A form of one button.
pub(super) struct Button<'a> {
    pub(super) project: &'a ProjectName,
    pub(super) sha: &'a Sha,
    /// Where to come back to; nothing is the commit's own page.
    pub(super) row: &'a str,
    /// The session's token.
    pub(super) token: &'a str,
}

impl Button<'_> {
    pub(super) fn form(&self, act: Act, label: &str, class: &str) -> Markup {
        html! {
            form method="post" action="/do" data-live {
                (self.fields(act))
                button class=(class) title=(format!("{label}: {}", self.sha)) { (label) }
            }
        }
    }

    pub(super) fn fields(&self, act: Act) -> Markup {
        html! {
            input type="hidden" name="do" value=(act.verb());
            input type="hidden" name="project" value=(self.project);
            input type="hidden" name="sha" value=(self.sha);
            input type="hidden" name="row" value=(self.row);
            input type="hidden" name="token" value=(self.token);
        }
    }

    /// The button that stands on the row, or the way in.
    pub(super) fn primary(&self, commit: &CommitView, class: &str) -> Markup {
        html! {
            @if acts::opens(commit.state) {
                a.button.open href=(commit.url) rel="noreferrer" { "Open" }
            }
            @if let Some((act, label)) = acts::primary(commit) {
                (self.form(act, label, class))
            }
        }
    }

    /// The menu of everything else.
    pub(super) fn menu(&self, commit: &CommitView) -> Markup {
        let acts = acts::secondary(commit);
        html! {
            @if !acts.is_empty() {
                details.menu {
                    summary { span.dots aria-hidden="true" { "⋯" } span.unseen { "More for " (commit.sha.short()) } }
                    ul {
                        @for act in acts {
                            li {
                                @if act.loses().is_some() {
                                    a.item href={ "/confirm?do=" (act.verb()) "&project=" (self.project) "&sha=" (self.sha) "&row=" (self.row) } { (act.label()) "…" }
                                } @else {
                                    (self.form(act, act.label(), "item"))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
