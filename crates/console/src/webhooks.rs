//! Where forges deliver their webhooks. Who sends is known by the signature alone: no session, no origin.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::{Ask, Turned};

/// GitHub sends nothing above 25 MB.
const BODY: usize = 25 << 20;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/webhooks/github", post(deliver)).layer(DefaultBodyLimit::max(BODY))
}

/// Answers as soon as the delivery is stored: what follows from it may take longer than the sender waits.
async fn deliver(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let plain = |status, line: String| (status, format!("{line}\n")).into_response();
    match app.ask(|reply| Ask::Webhook { headers, body, reply }).await {
        Ok(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(Turned::Unexpected)) => plain(StatusCode::NOT_FOUND, "nobody expects webhooks here".to_owned()),
        Ok(Err(Turned::Unsigned(line))) => plain(StatusCode::UNAUTHORIZED, line),
        Ok(Err(Turned::Malformed(line))) => plain(StatusCode::BAD_REQUEST, line),
        Err(silent) => plain(StatusCode::SERVICE_UNAVAILABLE, silent.to_string()),
    }
}
