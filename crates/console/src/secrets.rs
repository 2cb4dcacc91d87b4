//! Secrets of projects and the configuration, as the API has them. Values come in and never go out.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use http::StatusCode;
use planner::identity::ProjectName;
use planner::secrets::{Place, SecretClass, SecretView};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Problem, find_project};
use crate::app::App;
use crate::{Ask, Confidential};

type Shared = State<Arc<App>>;

/// One change, as the API takes it.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Change {
    /// Give it a value.
    Set {
        name: String,
        #[serde(rename = "for")]
        class: SecretClass,
        value: Confidential,
    },
    /// Take it away.
    Remove {
        name: String,
        #[serde(rename = "for")]
        class: SecretClass,
    },
}

pub(crate) async fn list(State(app): Shared, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let project = find_project(&app.view(), &name)?.name.clone();
    Ok(Json(json!({ "secrets": all(&app, project).await? })))
}

/// What is set for a project.
pub(crate) async fn all(app: &App, project: ProjectName) -> Result<Vec<SecretView>, Problem> {
    app.ask(|reply| Ask::Secrets(project, reply)).await?.map_err(Problem::refused)
}

pub(crate) async fn change(
    State(app): Shared,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let body = body.map_err(|rejected| Problem::new(rejected.status(), rejected.body_text()))?;
    // What the parser says could quote the value.
    let change = serde_json::from_slice(&body).map_err(|_| {
        let shape =
            r#"write {"do": "set", "name": …, "for": "trusted" or "foreign", "value": …}, or {"do": "remove", …}"#;
        Problem::new(StatusCode::BAD_REQUEST, format!("not a change of a secret: {shape}"))
    })?;
    let project = find_project(&app.view(), &name)?.name.clone();
    let (place, value) = match change {
        Change::Set { name, class, value } => (Place { project, class, name }, Some(value)),
        Change::Remove { name, class } => (Place { project, class, name }, None),
    };
    Ok(Json(json!({ "ok": put(&app, place, value).await? })))
}

/// Sets a secret, or takes it away, in the name of whoever came through this door.
pub(crate) async fn put(app: &App, place: Place, value: Option<Confidential>) -> Result<String, Problem> {
    let actor = app.actor();
    app.ask(|reply| Ask::Secret { actor, place, value, reply }).await?.map_err(Problem::refused)
}

pub(crate) async fn reload(State(app): Shared) -> Result<Json<Value>, Problem> {
    let actor = app.actor();
    let said = app.ask(|reply| Ask::Reload(actor, reply)).await?.map_err(Problem::refused)?;
    Ok(Json(json!({ "ok": said })))
}
