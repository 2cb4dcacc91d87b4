//! One page: what it says, and how it is written down.

use std::sync::LazyLock;

use data_encoding::BASE64;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use planner::identity::Sha;
use planner::view::State;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Form;
use crate::body::{self, Reply};
use crate::headers;

/// Longer texts of a repository are cut.
const LONGEST: usize = 400;

const STYLE: &str = "\
:root{color-scheme:light dark;--soft:#6b7280;--line:#d8dce2;--accent:#2f5bd0}\
body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;min-height:100vh;place-items:center}\
main{max-width:38rem;padding:2rem 1.5rem;overflow-wrap:anywhere}\
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .5rem}\
.state{font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);margin:0 0 .4rem}\
.reason{border-left:3px solid var(--accent);padding:.1rem 0 .1rem .8rem;margin:1rem 0}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1rem;border-top:1px solid var(--line);padding-top:1rem;margin:1.4rem 0}\
dt{color:var(--soft)}dd{margin:0}code{font-size:.9em}\
nav a{display:inline-block;margin:0 1rem .4rem 0}\
a{color:var(--accent)}@media(prefers-color-scheme:dark){:root{--soft:#9aa3b2;--line:#3a414d;--accent:#8fb0ff}}";

/// Nothing may be loaded, sent or framed; the one style is named by its hash.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64.encode(&Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What a page says. Both forms say the same.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    status: StatusCode,
    headline: &'static str,
    pub(super) state: Option<State>,
    pub(super) explanation: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) commit: Option<Sha>,
    pub(super) project: Option<String>,
    pub(super) title: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) data: Option<String>,
    pub(super) url: Option<String>,
    pub(super) links: Vec<(String, String)>,
    pub(super) console: Option<String>,
    /// Asking again is worth it after so many seconds.
    pub(super) retry: Option<u32>,
    /// The page comes back by itself.
    pub(super) refresh: bool,
}

impl Sheet {
    pub(super) fn new(status: StatusCode, headline: &'static str) -> Self {
        Sheet {
            status,
            headline,
            state: None,
            explanation: None,
            reason: None,
            hint: None,
            commit: None,
            project: None,
            title: None,
            subject: None,
            data: None,
            url: None,
            links: Vec::new(),
            console: None,
            retry: None,
            refresh: false,
        }
    }

    pub(super) fn render(mut self, form: Form) -> Response<Reply> {
        self.tame();
        let (kind, text) = match form {
            Form::Html => ("text/html; charset=utf-8", self.html().into_string()),
            Form::Json => ("application/json", format!("{}\n", self.json())),
        };
        let mut response = Response::new(body::whole(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(headers::PAGE, HeaderValue::from_static("page"));
        headers::no_index(headers);
        if let Some(seconds) = self.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Texts that others wrote become harmless lines.
    fn tame(&mut self) {
        let told = [&mut self.reason, &mut self.hint];
        let facts = [&mut self.project, &mut self.title, &mut self.subject, &mut self.data];
        let texts = told.into_iter().chain(facts).flatten();
        for text in texts.chain(self.links.iter_mut().flat_map(|(name, url)| [name, url])) {
            *text = tame(text);
        }
    }

    fn json(&self) -> Value {
        let links: Vec<Value> = self.links.iter().map(|(name, url)| json!({ "name": name, "url": url })).collect();
        let mut value = json!({
            "status": self.status.as_u16(),
            "headline": self.headline,
            "state": self.state.map(State::as_str),
            "explanation": self.explanation,
            "reason": self.reason,
            "hint": self.hint,
            "commit": self.commit.map(|sha| sha.to_string()),
            "project": self.project,
            "title": self.title,
            "subject": self.subject,
            "data_from": self.data,
            "url": self.url,
            "links": links,
            "console_url": self.console,
        });
        if let Value::Object(fields) = &mut value {
            fields.retain(|_, field| !field.is_null() && *field != json!([]));
        }
        value
    }

    fn html(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    @if self.refresh { @if let Some(seconds) = self.retry { meta http-equiv="refresh" content=(seconds); } }
                    title { (self.headline) @if let Some(title) = &self.title { " · " (title) } }
                    style { (PreEscaped(STYLE)) }
                }
                body { main {
                    @if let Some(state) = self.state { p.state { (state.as_str()) } }
                    h1 { (self.headline) }
                    @if let Some(text) = &self.explanation { p { (text) } }
                    @if let Some(text) = &self.reason { p.reason dir="auto" { (text) } }
                    @if let Some(text) = &self.hint { p dir="auto" { (text) } }
                    @if self.refresh { p { "This page comes back by itself." } }
                    (self.facts())
                    nav {
                        @if let Some(url) = &self.url { a href=(url) { "Open it" } }
                        @for (name, url) in &self.links { a href=(url) dir="auto" { (name) } }
                        @if let Some(url) = &self.console { a href=(url) { "Show it in the console" } }
                    }
                } }
            }
        }
    }

    fn facts(&self) -> Markup {
        let commit = self.commit.map(|sha| sha.to_string());
        let facts = [
            ("Project", &self.project),
            ("For", &self.title),
            ("Subject", &self.subject),
            ("Commit", &commit),
            ("Data from", &self.data),
        ];
        if facts.iter().all(|(_, fact)| fact.is_none()) {
            return html! {};
        }
        html! {
            dl { @for (name, fact) in facts { @if let Some(fact) = fact {
                dt { (name) } dd dir="auto" { @if name == "Commit" { code { (fact) } } @else { (fact) } }
            } } }
        }
    }
}

/// One line of bounded length without characters that act instead of being read: controls, and those that turn the
/// direction of writing around.
fn tame(text: &str) -> String {
    let acts = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut tamed: String = text.chars().take(LONGEST).map(|letter| if acts(letter) { ' ' } else { letter }).collect();
    if text.chars().nth(LONGEST).is_some() {
        tamed.push('…');
    }
    tamed
}
