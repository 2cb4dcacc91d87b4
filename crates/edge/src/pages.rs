//! The pages of ours: what a URL says when no application answers. HTML for people, JSON for programs that ask for it.
//! Text of a repository is data: escaped, shortened, without control and direction characters, and only on routes
//! that everybody may see.

mod sheet;
mod words;

use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, HeaderMap, HeaderValue, LOCATION};
use http::{Response, StatusCode, Uri};
use planner::tables::EnvRoute;
use planner::view::State;

use crate::body::{self, Reply};
use crate::headers;
use crate::request::Refused;
use sheet::Sheet;

/// In which form a page is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Html,
    /// For programs.
    Json,
}

impl Form {
    /// JSON for whoever names it and not HTML.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let names = |kind: &str| {
            headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).any(|accept| accept.contains(kind))
        };
        if names("json") && !names("text/html") { Form::Json } else { Form::Html }
    }
}

/// Why an application that should answer does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing accepts connections.
    Unreachable,
    /// The connection ended before an answer.
    Broken,
    /// No answer in time.
    Silent,
    /// An answer that is none.
    Malformed,
}

/// A request that goes nowhere. The connection is closed: what follows on it may be the rest of a trick.
pub(crate) fn refused(refused: Refused, form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(refused.status(), "This request cannot be answered");
    sheet.explanation = Some(capital(&refused.to_string()));
    closing(sheet.render(form))
}

/// A visitor's body that broke off or is malformed.
pub(crate) fn unreadable(form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::BAD_REQUEST, "This request cannot be answered");
    sheet.explanation = Some("Its body is malformed or did not arrive.".to_owned());
    closing(sheet.render(form))
}

/// A host that is not here. It names nothing: whoever guesses learns nothing.
pub(crate) fn unknown(form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::NOT_FOUND, "Nothing here");
    sheet.explanation = Some("There is no environment at this address.".to_owned());
    sheet.render(form)
}

/// The object store is not there.
pub(crate) fn no_store(form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::BAD_GATEWAY, "The object store does not answer");
    sheet.retry = Some(1);
    sheet.render(form)
}

/// An environment whose route does not come to rest.
pub(crate) fn later(form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::SERVICE_UNAVAILABLE, "Not reachable at the moment");
    sheet.explanation = Some("This environment is changing just now.".to_owned());
    sheet.retry = Some(1);
    sheet.render(form)
}

/// An environment that strangers may not look at. Nothing of the repository is on it.
pub(crate) fn closed(route: &EnvRoute, form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::FORBIDDEN, "Not open to visitors");
    sheet.state = Some(route.page.state);
    sheet.explanation = Some(
        "This environment is for members only, and sign-in for visitors does not exist yet. The operator can open \
         the environments of this project to everybody with access = \"public\" in its [[project]] table."
            .to_owned(),
    );
    sheet.console.clone_from(&route.page.console_url);
    sheet.render(form)
}

/// The state of an environment that does not answer itself: why, and what to do.
pub(crate) fn state(route: &EnvRoute, form: Form) -> Response<Reply> {
    let state = route.page.state;
    let mut sheet = sheet_of(route, status(state), words::headline(state));
    sheet.explanation = Some(words::explanation(state).to_owned());
    if !state.is_settled() || is_between(state) {
        let pause = if matches!(state, State::Queued | State::Building) { 5 } else { 2 };
        sheet.retry = Some(pause);
        sheet.refresh = true;
    }
    marked(sheet.render(form), route)
}

/// What this is: commit, project, state, links.
pub(crate) fn about(route: &EnvRoute, form: Form) -> Response<Reply> {
    let mut sheet = sheet_of(route, StatusCode::OK, "What is this?");
    sheet.explanation = Some(words::explanation(route.page.state).to_owned());
    sheet.url = Some(route.url.clone());
    marked(sheet.render(form), route)
}

/// An application that should answer does not.
pub(crate) fn trouble(route: &EnvRoute, trouble: Trouble, form: Form) -> Response<Reply> {
    let (status, explanation) = match trouble {
        Trouble::Unreachable => (StatusCode::BAD_GATEWAY, "Its container runs, but nothing accepts connections there."),
        Trouble::Broken => (StatusCode::BAD_GATEWAY, "It closed the connection before it answered."),
        Trouble::Silent => (StatusCode::GATEWAY_TIMEOUT, "It has the request, but no answer came in time."),
        Trouble::Malformed => (StatusCode::BAD_GATEWAY, "Its answer is not valid HTTP."),
    };
    let mut sheet = sheet_of(route, status, "The application does not answer");
    sheet.explanation = Some(format!("{explanation} Its log says more."));
    marked(sheet.render(form), route)
}

/// Where an alias leads. The canonical address comes first, so whatever the path is, it stays on that host.
pub(crate) fn redirect(target: &EnvRoute, asked: &Uri) -> Response<Reply> {
    let mut response = to(&target.url, asked);
    *response.status_mut() = StatusCode::FOUND;
    marked(response, target)
}

/// The same by https. Not to be remembered: whether there is TLS is the operator's to change.
pub(crate) fn moved(base: &str, asked: &Uri) -> Response<Reply> {
    let mut response = to(base, asked);
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    headers::no_index(response.headers_mut());
    response
}

/// Something else than looking came in clear.
pub(crate) fn only_https(base: &str, form: Form) -> Response<Reply> {
    let mut sheet = Sheet::new(StatusCode::FORBIDDEN, "Served by https only");
    sheet.explanation = Some("Only GET and HEAD are sent on from here; send this to the address below.".to_owned());
    sheet.url = Some(base.to_owned());
    closing(sheet.render(form))
}

fn to(base: &str, asked: &Uri) -> Response<Reply> {
    let path = asked.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut response = Response::new(body::empty());
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_bytes(format!("{}{path}", base.trim_end_matches('/')).as_bytes()) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is gone is gone, what is on its way may be asked for again, what was never there is not found.
fn status(state: State) -> StatusCode {
    match state {
        State::Unstaged | State::Blocked => StatusCode::NOT_FOUND,
        State::Superseded | State::Expired | State::Removing | State::Removed => StatusCode::GONE,
        State::Failed => StatusCode::BAD_GATEWAY,
        State::Queued
        | State::Building
        | State::Starting
        | State::Ready
        | State::Dozing
        | State::Asleep
        | State::Waking => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Settled, but a page of ours for it is seen only between two steps.
fn is_between(state: State) -> bool {
    matches!(state, State::Ready | State::Dozing | State::Asleep)
}

fn sheet_of(route: &EnvRoute, status: StatusCode, headline: &'static str) -> Sheet {
    let page = &route.page;
    let mut sheet = Sheet::new(status, headline);
    sheet.state = Some(page.state);
    sheet.console.clone_from(&page.console_url);
    if route.public {
        sheet.reason.clone_from(&page.reason);
        sheet.hint.clone_from(&page.hint);
        sheet.commit = Some(route.sha);
        sheet.project = Some(page.project.clone());
        sheet.title = Some(page.title.clone());
        sheet.subject = Some(page.subject.clone());
        sheet.data.clone_from(&page.data);
        let base = route.url.trim_end_matches('/');
        let link = |(name, path): &(String, String)| (name.clone(), format!("{base}/{}", path.trim_start_matches('/')));
        sheet.links = page.links.iter().map(link).collect();
    }
    sheet
}

fn marked(mut response: Response<Reply>, route: &EnvRoute) -> Response<Reply> {
    headers::mark(response.headers_mut(), route);
    response
}

fn closing(mut response: Response<Reply>) -> Response<Reply> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
