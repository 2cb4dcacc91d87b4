//! Making a GitHub App: one page that sends what it is to be to GitHub, and the one that GitHub sends back to.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::html;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{page, problem, sign_in};
use crate::Ask;
use crate::api::Problem;
use crate::app::App;
use crate::guard;

#[derive(Deserialize)]
pub(super) struct Begin {
    /// The organisation that is to own the App; the person's own account if none.
    #[serde(default)]
    org: String,
}

/// What is asked before anything is made: whether Sidestage may merge, since adding that later needs every owner's consent.
pub(super) async fn begin(State(app): State<Arc<App>>, headers: HeaderMap, Query(begin): Query<Begin>) -> Response {
    let encoded = utf8_percent_encode(&begin.org, NON_ALPHANUMERIC);
    let Some(session) = guard::signed_in(&app, &headers) else {
        return sign_in::needed(&headers, &format!("/github/connect?org={encoded}"));
    };
    let organisation = Some(begin.org).filter(|org| !org.is_empty());
    let form = match app.ask(|reply| Ask::Connect { organisation, reply }).await {
        Ok(Ok(form)) => form,
        Ok(Err(line)) => return problem(&app, &session, &Problem::new(StatusCode::CONFLICT, line)),
        Err(silent) => return problem(&app, &session, &silent.into()),
    };
    let main = html! {
        div.ask {
            h1 { "Connect GitHub" }
            p { "GitHub makes an App that belongs to you; its key and the secret of its webhook come here and nowhere else." }
            p { "May Sidestage merge pull requests? It does not do so yet; adding that permission later needs the consent of everybody who installed the App." }
            @for (words, manifest) in [("No: read only, and report", &form.without_merge), ("Yes: it may also merge", &form.with_merge)] {
                form method="post" action=(form.url) {
                    input type="hidden" name="manifest" value=(manifest);
                    button.button { (words) }
                }
            }
        }
    };
    let mut response = page(&app, &session, &headers, "Connect GitHub", main).render(StatusCode::OK);
    // The form goes to GitHub, and only there.
    let site: String = form.url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let policy = guard::POLICY.replace("form-action 'self'", &format!("form-action {site}"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[derive(Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
}

/// Where GitHub sends the browser back to.
pub(super) async fn connected(State(app): State<Arc<App>>, headers: HeaderMap, Query(back): Query<Back>) -> Response {
    let Some(session) = guard::signed_in(&app, &headers) else {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path = format!("/github/connected?code={}&state={}", encoded(&back.code), encoded(&back.state));
        return sign_in::needed(&headers, &path);
    };
    let (code, state) = (back.code, back.state);
    match app.ask(|reply| Ask::Connected { code, state, reply }).await {
        Ok(Ok(install)) => {
            let main = html! {
                div.ask {
                    h1 { "GitHub knows Sidestage" }
                    p { "Now say where: install the App on the repositories that the configuration names." }
                    p { a.button.primary href=(install) rel="noreferrer" { "Install it" } }
                    p.note { "Then `sidestage github check` says what is missing, if anything is." }
                }
            };
            page(&app, &session, &headers, "Connected", main).render(StatusCode::OK)
        }
        Ok(Err(line)) => problem(&app, &session, &Problem::new(StatusCode::CONFLICT, line)),
        Err(silent) => problem(&app, &session, &silent.into()),
    }
}
