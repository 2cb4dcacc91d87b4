//! Signing in by a one-time link, and out.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use maud::html;
use serde::Deserialize;

use super::layout::Page;
use super::{not_ours, problem, see_other};
use crate::app::App;
use crate::guard::{self, text};

#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    token: String,
}

fn outside(title: &str, main: maud::Markup, status: StatusCode) -> Response {
    Page { title, main, said: None, session: None, view: None, live: false, refresh: None }.render(status)
}

/// The answer to whoever is not signed in. A link from elsewhere does not carry the cookie (it is `Strict`), so the page asks
/// once more by itself, from here.
pub(super) fn needed(headers: &HeaderMap, path: &str) -> Response {
    let elsewhere = text(headers, "sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let main = html! {
        div.ask {
            h1 { "Sign in" }
            p { "Type this on the machine that runs Sidestage, and open the link that it prints:" }
            pre { code { "sidestage login-link" } }
            p.note { "A link works once, for ten minutes. A session lasts 12 hours, or one hour without use." }
        }
    };
    let refresh = elsewhere.then(|| path.to_owned());
    Page { title: "Sign in", main, said: None, session: None, view: None, live: false, refresh }
        .render(StatusCode::UNAUTHORIZED)
}

/// Opening a link changes nothing, so that a preview of it does not use it up; the button does.
pub(super) async fn ask(State(app): State<Arc<App>>, headers: HeaderMap, Query(link): Query<Link>) -> Response {
    if link.token.is_empty() {
        return match guard::signed_in(&app, &headers) {
            Some(_) => see_other("/"),
            None => needed(&HeaderMap::new(), "/"),
        };
    }
    if !app.settings.links.is_open(&link.token) {
        return stale();
    }
    let main = html! {
        div.ask {
            h1 { "Sign in to Sidestage" }
            p { "This link signs you in as the administrator of " strong { (app.site.origin) } "." }
            form method="post" action="/login" {
                input type="hidden" name="token" value=(link.token);
                button.button.primary autofocus { "Sign in" }
            }
        }
    };
    outside("Sign in", main, StatusCode::OK)
}

fn stale() -> Response {
    let main = html! {
        div.ask {
            h1 { "This link is used up" }
            p { "A link works once, for ten minutes. Ask for another one:" }
            pre { code { "sidestage login-link" } }
        }
    };
    outside("Sign in", main, StatusCode::FORBIDDEN)
}

pub(super) async fn login(State(app): State<Arc<App>>, headers: HeaderMap, Form(link): Form<Link>) -> Response {
    if !app.site.is_own_origin(&headers) {
        return outside(
            "Sign in",
            html! { div.ask { h1 { "Not signed in" } p { (not_ours().line) } } },
            StatusCode::FORBIDDEN,
        );
    }
    if !app.settings.links.redeem(&link.token) {
        return stale();
    }
    let Ok(value) = app.sessions.begin(app.now()) else {
        let main =
            html! { div.ask { h1 { "Not signed in" } p { "The system has no randomness to give. Try again." } } };
        return outside("Sign in", main, StatusCode::INTERNAL_SERVER_ERROR);
    };
    with_cookie(&app, &value, 12 * 3600, see_other("/"))
}

pub(super) async fn logout(State(app): State<Arc<App>>, headers: HeaderMap, Form(form): Form<Link>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else { return needed(&headers, "/") };
    if !app.site.is_own_origin(&headers) || form.token != session.form {
        return problem(&app, &session, &not_ours());
    }
    app.sessions.end(session.key);
    with_cookie(&app, "", 0, see_other("/"))
}

fn with_cookie(app: &App, value: &str, age: u32, mut response: Response) -> Response {
    let name = app.site.cookie(&app.settings.instance);
    let secure = if app.site.secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    if let Ok(cookie) = cookie.parse() {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
