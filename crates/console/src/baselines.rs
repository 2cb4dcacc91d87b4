//! Baselines, as the API has them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use planner::command::{BaselineAct, Command, Creation};
use planner::facts::{MAX_SHRINK, Recipe, parse_version};
use planner::identity::Sha;
use planner::resource::{Backend, Kind, Owner, ResourceId};
use planner::spec::{DatabaseFrom, ObjectsFrom};
use planner::view::{BaselineView, View};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, Problem, find_commit, find_project, follows, parse, stream};
use crate::app::App;
use crate::{Ask, Cloning};

type Shared = State<Arc<App>>;

/// A baseline to be made, as the API takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    #[serde(default)]
    database: Database,
    #[serde(default)]
    mask: Option<PathBuf>,
    #[serde(default)]
    extensions: BTreeSet<String>,
    #[serde(default)]
    objects: Objects,
    #[serde(default)]
    every: Option<String>,
    /// In percent.
    #[serde(default)]
    max_shrink: Option<u8>,
}

/// Where a database is read from.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Database {
    #[default]
    Empty,
    File(PathBuf),
    Server {
        url: String,
        #[serde(default)]
        password_file: Option<PathBuf>,
    },
    Env {
        project: String,
        sha: Sha,
    },
}

/// Where objects are read from.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Objects {
    #[default]
    Empty,
    Folder(PathBuf),
    Bucket {
        #[serde(default)]
        endpoint: Option<String>,
        #[serde(default)]
        region: Option<String>,
        bucket: String,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        credentials_file: Option<PathBuf>,
    },
    Env {
        project: String,
        sha: Sha,
    },
}

/// What is done to one that exists.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Change {
    Refresh,
    Use { version: u32 },
    Remove { version: Option<u32> },
}

impl New {
    fn command(self, view: &View) -> Result<Command, Problem> {
        let database = match self.database {
            Database::Empty => DatabaseFrom::Empty,
            Database::File(path) => DatabaseFrom::File(path),
            Database::Server { url, password_file } => DatabaseFrom::Server { url, password_file },
            Database::Env { project, sha } => {
                DatabaseFrom::Env(part(view, &project, &sha, Backend::Postgres, Kind::Database)?)
            }
        };
        let objects = match self.objects {
            Objects::Empty => ObjectsFrom::Empty,
            Objects::Folder(path) => ObjectsFrom::Folder(path),
            Objects::Bucket { endpoint, region, bucket, prefix, credentials_file } => {
                let region = region.unwrap_or_else(|| "us-east-1".to_owned());
                ObjectsFrom::Bucket { endpoint, region, bucket, prefix, credentials_file }
            }
            Objects::Env { project, sha } => {
                ObjectsFrom::Env(part(view, &project, &sha, Backend::Objects, Kind::Bucket)?)
            }
        };
        let recipe = Recipe { database, mask: self.mask, extensions: self.extensions, objects };
        let max_shrink = self.max_shrink.unwrap_or(MAX_SHRINK);
        let creation = Creation { recipe, every: self.every, max_shrink };
        Ok(Command::Baseline { name: self.name, act: BaselineAct::Create(Box::new(creation)) })
    }
}

/// The part of the environment that is shown for a commit.
fn part(view: &View, project: &str, sha: &Sha, backend: Backend, kind: Kind) -> Result<ResourceId, Problem> {
    let found = find_project(view, project)?;
    let commit = find_commit(found, sha);
    let commit = commit.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("{project} knows no commit {sha}: push it first"))
    })?;
    let (owner, name) = (Owner::Env(commit.env.clone()), "main".to_owned());
    Ok(ResourceId { backend, owner, generation: commit.generation, kind, name })
}

pub(crate) fn find<'v>(view: &'v View, name: &str) -> Result<&'v BaselineView, Problem> {
    view.baselines.iter().find(|baseline| baseline.name == name).ok_or_else(|| {
        let names: Vec<&str> = view.baselines.iter().map(|baseline| baseline.name.as_str()).collect();
        Problem::new(StatusCode::NOT_FOUND, format!("no baseline of that name; there are: {}", names.join(", ")))
    })
}

pub(crate) async fn list(State(app): Shared) -> Json<Value> {
    Json(json!({ "baselines": app.view().baselines }))
}

pub(crate) async fn show(State(app): Shared, Path(name): Path<String>) -> Result<Json<BaselineView>, Problem> {
    Ok(Json(find(&app.view(), &name)?.clone()))
}

pub(crate) async fn cloning(State(app): Shared, Path(version): Path<String>) -> Result<Json<Cloning>, Problem> {
    let known = app.view().baselines.iter().flat_map(|baseline| &baseline.versions).any(|of| of.version == version);
    if !known {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("no version {version}: see GET /api/v1/baselines")));
    }
    Ok(Json(app.ask(|reply| Ask::Cloning(version, reply)).await?.map_err(Problem::refused)?))
}

pub(crate) async fn create(State(app): Shared, body: Result<Bytes, BytesRejection>) -> Result<Json<Value>, Problem> {
    let new: New = parse("a baseline", body)?;
    let command = new.command(&app.view())?;
    Ok(Json(json!({ "ok": api::run(&app, command).await? })))
}

pub(crate) async fn change(
    State(app): Shared,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let act = match parse("a change of a baseline", body)? {
        Change::Refresh => BaselineAct::Refresh,
        Change::Use { version } => BaselineAct::Use(version),
        Change::Remove { version } => BaselineAct::Remove(version),
    };
    Ok(Json(json!({ "ok": act_on(&app, name, act).await? })))
}

/// Does something to a baseline, in the name of whoever came through this door.
pub(crate) async fn act_on(app: &App, name: String, act: BaselineAct) -> Result<String, Problem> {
    api::run(app, Command::Baseline { name, act }).await
}

pub(crate) async fn logs(
    State(app): Shared,
    Path((version, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    if parse_version(&version).is_none() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "a version is named as shop@3"));
    }
    let follow = follows(query.as_deref());
    let chunks = app.ask(|reply| Ask::BaselineLogs { version, name, follow, reply }).await?;
    Ok(stream(&app, chunks.map_err(|line| Problem::new(StatusCode::NOT_FOUND, line))?))
}
