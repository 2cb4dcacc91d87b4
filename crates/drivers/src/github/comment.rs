//! Comments on pull requests: one that is edited in place, and answers that are written once.

use http::{Method, StatusCode};
use planner::forge::{Place, Report};
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Access;
use super::client::As;
use super::forge::GitHubForge;
use super::repository::Repository;

/// GitHub takes at most 65,536 characters.
const LONGEST: usize = 60_000;

#[derive(Debug, Deserialize)]
struct Written {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<Account>,
    #[serde(default)]
    performed_via_github_app: Option<App>,
}

#[derive(Debug, Deserialize)]
struct Account {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct App {
    id: u64,
}

/// Writes or edits the comment. What a lost call wrote is found by its mark, if the comment is ours.
pub(super) async fn show(forge: &GitHubForge, report: &Report, body: &str) -> Result<u64, Failure> {
    let (pull, mark) = match report.place {
        Place::Comment(pull) => (pull, format!("<!-- sidestage:{} pull:{pull} -->", forge.github.settings.instance)),
        Place::Answer(pull, to) => (pull, format!("<!-- sidestage:{} answer:{to} -->", forge.github.settings.instance)),
        Place::Deployment(_) | Place::Check(_) => return Err(Failure::permanent("that is no place for a comment")),
    };
    let body: String = body.chars().take(LONGEST).collect();
    let body = json!({ "body": format!("{body}\n{mark}") });
    let repository = forge.repository().await?;
    let existing = match report.known {
        Some(known) => Some(known),
        None => find(forge, &repository, pull, &mark).await?,
    };
    if matches!(report.place, Place::Answer(..))
        && let Some(existing) = existing
    {
        return Ok(existing);
    }
    if let Some(existing) = existing {
        if let Some(id) = edit(forge, &repository, existing, &body).await? {
            return Ok(id);
        }
        // Somebody deleted it, or what was known is wrong.
        let other = find(forge, &repository, pull, &mark).await?.filter(|other| *other != existing);
        if let Some(other) = other
            && let Some(id) = edit(forge, &repository, other, &body).await?
        {
            return Ok(id);
        }
    }
    forge.turn(repository.who).await?;
    let path = repository.path(&format!("/issues/{pull}/comments"));
    let answer = forge.github.client.rest(repository.who, Method::POST, &path, Some(&body)).await?;
    answer.json::<Written>().map(|written| written.id)
}

/// None: there is no such comment.
async fn edit(forge: &GitHubForge, repository: &Repository, id: u64, body: &Value) -> Result<Option<u64>, Failure> {
    forge.turn(repository.who).await?;
    let path = repository.path(&format!("/issues/comments/{id}"));
    let answer = forge.github.client.rest(repository.who, Method::PATCH, &path, Some(body)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.json::<Written>().map(|written| Some(written.id))
}

/// Our comment with this mark. Anybody may copy a mark into a comment of their own.
async fn find(forge: &GitHubForge, repository: &Repository, pull: u64, mark: &str) -> Result<Option<u64>, Failure> {
    let path = repository.path(&format!("/issues/{pull}/comments?per_page=100"));
    let ours = ours(forge).await?;
    let pages = forge.github.client.pages(repository.who, &path).await?;
    for page in pages {
        let comments: Vec<Written> = serde_json::from_value(page).map_err(|error| {
            Failure::transient(format!("GitHub's comments are not what its documentation says: {error}"))
        })?;
        let found = comments.into_iter().find(|comment| {
            let marked = comment.body.as_ref().is_some_and(|body| body.trim_end().ends_with(mark));
            marked
                && match ours {
                    Ours::App(id) => comment.performed_via_github_app.as_ref().is_some_and(|app| app.id == id),
                    Ours::Account(id) => comment.user.as_ref().is_some_and(|user| user.id == id),
                }
        });
        if let Some(found) = found {
            return Ok(Some(found.id));
        }
    }
    Ok(None)
}

enum Ours {
    App(u64),
    Account(u64),
}

async fn ours(forge: &GitHubForge) -> Result<Ours, Failure> {
    match forge.github.settings.access {
        Access::App { id, .. } => Ok(Ours::App(id)),
        Access::Token(_) | Access::Nobody => {
            let known = *forge.github.account.lock().await;
            if let Some(id) = known {
                return Ok(Ours::Account(id));
            }
            let account: Account = forge.github.client.get(As::Account, "/user").await?.json()?;
            *forge.github.account.lock().await = Some(account.id);
            Ok(Ours::Account(account.id))
        }
    }
}
