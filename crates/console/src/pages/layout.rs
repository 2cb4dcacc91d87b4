//! What surrounds every page: head, top bar, the answer to the last form.

use std::sync::Arc;

use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use planner::view::View;

use super::ASSETS;
use super::row::inert;
use crate::sessions::{Said, SignedIn};

/// A page about to be written.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) main: Markup,
    /// What the last form was answered.
    pub(super) said: Option<Said>,
    pub(super) session: Option<&'a SignedIn>,
    pub(super) view: Option<Arc<View>>,
    /// Whether it follows the view.
    pub(super) live: bool,
    /// Where to go by itself at once.
    pub(super) refresh: Option<String>,
}

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='8' width='14' height='6' rx='1.5' fill='%230f766e'/%3E%3Crect x='3' y='3' width='10' height='3' rx='1.5' fill='%235eead4'/%3E%3C/svg%3E";

impl Page<'_> {
    /// The same, following the view.
    pub(super) fn live(mut self) -> Self {
        self.live = true;
        self
    }

    pub(super) fn render(self, status: StatusCode) -> Response {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Sidestage" }
                    link rel="icon" href=(ICON);
                    link rel="stylesheet" href={ "/static/" (ASSETS.as_str()) "/console.css" };
                    @if let Some(to) = &self.refresh {
                        meta http-equiv="refresh" content={ "0;url=" (to) };
                    }
                    @if self.live {
                        noscript { meta http-equiv="refresh" content="15"; }
                        script defer src={ "/static/" (ASSETS.as_str()) "/console.js" } {}
                    }
                }
                body data-live[self.live] {
                    a.skip href="#main" { "Skip to the environments" }
                    (self.top())
                    div #said role="status" aria-live="polite" {
                        @if let Some(said) = &self.said {
                            p.said .bad[!said.good] { (inert(&said.line)) }
                        }
                    }
                    main #main tabindex="-1" { (self.main) }
                }
            }
        };
        (status, Html(page.into_string())).into_response()
    }

    fn top(&self) -> Markup {
        html! {
            header.top {
                a.brand href="/" { span.mark aria-hidden="true" {} "Sidestage" }
                @if let Some(view) = &self.view {
                    span.domain { (inert(&view.domain)) }
                    (places(view))
                    nav { a href="/baselines" { "Baselines" } }
                }
                @if self.live {
                    span #link .link hidden title="Whether this page is up to date by itself" { "live" }
                }
                @if let Some(session) = self.session {
                    form.out method="post" action="/logout" {
                        input type="hidden" name="token" value=(session.form);
                        button.quiet { "Sign out" }
                    }
                }
            }
        }
    }
}

fn places(view: &View) -> Markup {
    let (taken, all) = view.places;
    html! {
        span #places .places title="Environments that hold a place, of the places there are" {
            meter min="0" max=(all) value=(taken) high=(all.saturating_sub(1).max(1)) aria-label="Places taken" {}
            span { (taken) " of " (all) " places" }
        }
    }
}
