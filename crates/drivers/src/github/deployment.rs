//! Deployments: what makes the 'View deployment' button. Only those whose payload carries our instance are touched.

use http::Method;
use planner::forge::{Content, Deployed, Place, Report};
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::forge::GitHubForge;
use super::repository::Repository;

/// The longest description, in characters.
const LONGEST: usize = 140;
const TASK: &str = "deploy";

#[derive(Debug, Deserialize)]
struct Made {
    id: u64,
    #[serde(default)]
    payload: Value,
}

/// Brings the environment's deployment to that state: found or adopted if it is there, else created.
pub(super) async fn show(forge: &GitHubForge, report: &Report) -> Result<u64, Failure> {
    let (Place::Deployment(env), Content::Deployment { sha, environment, state, text, url, log_url }) =
        (&report.place, &report.content)
    else {
        return Err(Failure::permanent("that is no place for a deployment"));
    };
    let repository = forge.repository().await?;
    let payload = json!({ "instance": forge.github.settings.instance, "env": env });
    let existing = match report.known {
        Some(known) => Some(known),
        None => find(forge, &repository, &sha.to_string(), environment, &payload).await?,
    };
    let id = match existing {
        Some(id) => id,
        // What was never shown need not be shown as over.
        None if *state == Deployed::Inactive => return Ok(0),
        None => {
            let body = json!({
                "ref": sha, "environment": environment, "task": TASK, "transient_environment": true,
                "production_environment": false, "auto_merge": false, "required_contexts": [],
                "description": cut(text), "payload": payload,
            });
            write::<Made>(forge, &repository, "/deployments", &body).await?.id
        }
    };
    let mut body = json!({ "state": state, "description": cut(text), "auto_inactive": false });
    for (key, value) in [("environment_url", url), ("log_url", log_url)] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    write::<Value>(forge, &repository, &format!("/deployments/{id}/statuses"), &body).await?;
    Ok(id)
}

async fn write<T: serde::de::DeserializeOwned>(
    forge: &GitHubForge,
    repository: &Repository,
    path: &str,
    body: &Value,
) -> Result<T, Failure> {
    forge.turn(repository.who).await?;
    let answer = forge.github.client.rest(repository.who, Method::POST, &repository.path(path), Some(body)).await?;
    answer.json()
}

async fn find(
    forge: &GitHubForge,
    repository: &Repository,
    sha: &str,
    environment: &str,
    payload: &Value,
) -> Result<Option<u64>, Failure> {
    let query = format!("/deployments?sha={sha}&environment={environment}&task={TASK}&per_page=100");
    let pages = forge.github.client.pages(repository.who, &repository.path(&query)).await?;
    for page in pages {
        let made: Vec<Made> = serde_json::from_value(page).map_err(|error| {
            Failure::transient(format!("GitHub's deployments are not what its documentation says: {error}"))
        })?;
        if let Some(found) = made.into_iter().find(|made| is_ours(&made.payload, payload)) {
            return Ok(Some(found.id));
        }
    }
    Ok(None)
}

/// A payload comes back as the object that it was, or as its text.
fn is_ours(told: &Value, payload: &Value) -> bool {
    match told {
        Value::String(text) => serde_json::from_str::<Value>(text).is_ok_and(|told| told == *payload),
        told => told == payload,
    }
}

/// One line that GitHub takes.
pub(super) fn cut(text: &str) -> String {
    crate::git::clean(text, LONGEST)
}
