//! Checks: a check run by an App, with a button; by a token, which cannot make one, a commit status.

use http::{Method, StatusCode};
use planner::forge::{Checked, Content, Place, Report};
use planner::identity::Sha;
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Access;
use super::deployment::cut;
use super::forge::GitHubForge;
use super::repository::Repository;

/// What the check is called.
const NAME: &str = "sidestage";
/// The longest summary, in characters.
const LONGEST: usize = 60_000;

#[derive(Debug, Deserialize)]
struct Run {
    id: u64,
    #[serde(default)]
    external_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Runs {
    check_runs: Vec<Run>,
}

/// Brings the commit's check to that state.
pub(super) async fn show(forge: &GitHubForge, report: &Report) -> Result<u64, Failure> {
    let (Place::Check(sha), Content::Check { state, title, summary, url, button }) = (&report.place, &report.content)
    else {
        return Err(Failure::permanent("that is no place for a check"));
    };
    let repository = forge.repository().await?;
    let Access::App { id: app, .. } = forge.github.settings.access else {
        return status(forge, &repository, sha, *state, title, url.as_deref()).await;
    };
    let external = format!("{}/{sha}", forge.github.settings.instance);
    let (status, conclusion) = match state {
        Checked::Queued => ("queued", None),
        Checked::InProgress => ("in_progress", None),
        Checked::Success => ("completed", Some("success")),
        Checked::Failure => ("completed", Some("failure")),
        Checked::Neutral => ("completed", Some("neutral")),
    };
    let summary: String = summary.chars().take(LONGEST).collect();
    let mut body = json!({
        "name": NAME, "external_id": external, "status": status,
        "output": { "title": crate::git::clean(title, 200), "summary": summary },
    });
    if let Some(conclusion) = conclusion {
        body["conclusion"] = json!(conclusion);
    }
    if let Some(url) = url {
        body["details_url"] = json!(url);
    }
    let short = |text: &str, longest: usize| text.chars().take(longest).collect::<String>();
    let buttons = button.iter().map(|button| {
        let (label, text, act) = (short(&button.label, 20), short(&button.text, 40), short(&button.act, 20));
        json!({ "label": label, "description": text, "identifier": act })
    });
    body["actions"] = buttons.collect();
    let existing = match report.known {
        Some(known) => Some(known),
        None => find(forge, &repository, sha, app, &external).await?,
    };
    if let Some(id) = existing {
        let path = repository.path(&format!("/check-runs/{id}"));
        let answer = write(forge, &repository, Method::PATCH, &path, &body).await?;
        if answer.status != StatusCode::NOT_FOUND {
            return answer.json::<Run>().map(|run| run.id);
        }
    }
    body["head_sha"] = json!(sha);
    let answer = write(forge, &repository, Method::POST, &repository.path("/check-runs"), &body).await?;
    answer.json::<Run>().map(|run| run.id)
}

async fn write(
    forge: &GitHubForge,
    repository: &Repository,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<super::client::Answer, Failure> {
    forge.turn(repository.who).await?;
    forge.github.client.rest(repository.who, method, path, Some(body)).await
}

async fn find(
    forge: &GitHubForge,
    repository: &Repository,
    sha: &Sha,
    app: u64,
    external: &str,
) -> Result<Option<u64>, Failure> {
    let query = format!("/commits/{sha}/check-runs?check_name={NAME}&app_id={app}&filter=latest&per_page=100");
    let answer = forge.github.client.get(repository.who, &repository.path(&query)).await?;
    let runs: Runs = answer.json()?;
    let ours = |run: &&Run| run.external_id.as_deref() == Some(external);
    Ok(runs.check_runs.iter().find(ours).map(|run| run.id))
}

/// A status has four states and no text but a line; the newest one with our name is what counts, so none is adopted.
async fn status(
    forge: &GitHubForge,
    repository: &Repository,
    sha: &Sha,
    state: Checked,
    title: &str,
    url: Option<&str>,
) -> Result<u64, Failure> {
    let state = match state {
        Checked::Queued | Checked::InProgress => "pending",
        Checked::Success | Checked::Neutral => "success",
        Checked::Failure => "failure",
    };
    let mut body = json!({ "state": state, "context": NAME, "description": cut(title) });
    if let Some(url) = url {
        body["target_url"] = json!(url);
    }
    let answer = write(forge, repository, Method::POST, &repository.path(&format!("/statuses/{sha}")), &body).await?;
    answer.json::<Run>().map(|status| status.id)
}
