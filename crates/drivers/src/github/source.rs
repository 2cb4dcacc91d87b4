//! Commits by git, from the base repository alone: what a pull request points to is there as well, and stays when the
//! fork is gone.

use http::Method;
use planner::identity::Sha;
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::json;

use super::client::As;
use super::forge::GitHubForge;
use super::repository::Repository;
use super::{Access, Hidden};

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
}

/// Fetches exactly this commit into the mirror, unless it is there.
pub(super) async fn fetch(forge: &GitHubForge, sha: &Sha) -> Result<(), Failure> {
    if forge.mirror.has(sha).await {
        return Ok(());
    }
    let repository = forge.repository().await?;
    let token = token(forge, &repository).await?;
    let url = format!("{}/{}.git", forge.github.settings.url.trim_end_matches('/'), repository.full());
    let fetched = forge.mirror.fetch_from(sha, &url, &token.0).await;
    if fetched.is_err() {
        // It may have another name by now.
        forge.forget_repository();
    }
    fetched
}

/// A token that reads this one repository, and does nothing else: made for one fetch.
async fn token(forge: &GitHubForge, repository: &Repository) -> Result<Hidden, Failure> {
    let installation = match (repository.who, &forge.github.settings.access) {
        (_, Access::Token(token)) => return Ok(token.clone()),
        (As::Installation(installation), Access::App { .. }) => installation,
        _ => return Err(Failure::permanent("the App is not installed there")),
    };
    let body = json!({ "repository_ids": [repository.id], "permissions": { "contents": "read" } });
    let path = format!("/app/installations/{installation}/access_tokens");
    let answer = forge.github.client.rest(As::App, Method::POST, &path, Some(&body)).await?;
    answer.json::<Token>().map(|token| Hidden(token.token))
}
