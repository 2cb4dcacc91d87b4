//! Which repository a project's is: found once by its name, then known by its number.

use std::path::Path;

use http::{Method, StatusCode};
use planner::resource::Failure;
use serde::Deserialize;

use super::client::As;
use super::forge::GitHubForge;
use super::{Access, GitHub};
use crate::git::clean;

/// A repository as it is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    pub(super) id: u64,
    /// For GraphQL; survives renames.
    pub(super) node: String,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) private: bool,
    /// Who we are there.
    pub(super) who: As,
}

impl Repository {
    /// `owner/name`.
    pub(super) fn full(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// A path below it, by its number.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/repositories/{}{rest}", self.id)
    }
}

#[derive(Debug, Deserialize)]
struct Told {
    id: u64,
    node_id: String,
    name: String,
    owner: Owner,
    private: bool,
}

#[derive(Debug, Deserialize)]
struct Owner {
    login: String,
}

#[derive(Debug, Deserialize)]
struct Installation {
    id: u64,
    #[serde(default)]
    suspended_at: Option<String>,
}

/// Looks the repository up by the name that the operator wrote. One that was renamed is found by GitHub's redirect; if
/// somebody else has got the name since we were here, it is not taken for ours.
pub(super) async fn find(github: &GitHub, forge: &GitHubForge) -> Result<Repository, Failure> {
    let (project, name) = (&forge.watched.project, &forge.watched.repository);
    let who = match github.settings.access {
        Access::Token(_) => As::Account,
        Access::Nobody => {
            return Err(Failure::transient(
                "GitHub does not know us yet: type `sidestage github connect`, or name an App or a token in [github]",
            ));
        }
        Access::App { .. } => {
            let answer = github.client.get(As::App, &format!("/repos/{name}/installation")).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Err(Failure::transient(format!(
                    "the GitHub App is not installed on {name}, or there is no such repository: install it there"
                )));
            }
            let installation: Installation = answer.json()?;
            if installation.suspended_at.is_some() {
                return Err(Failure::transient(format!("the GitHub App is suspended by the owner of {name}")));
            }
            As::Installation(installation.id)
        }
    };
    let answer = github.client.rest(who, Method::GET, &format!("/repos/{name}"), None).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::transient(format!(
            "{name} is not there for us: it was deleted or made private, or the token does not reach it"
        )));
    }
    let told: Told = answer.json()?;
    remember(&forge.watched.mirror.with_extension("github"), told.id).map_err(|known| {
        Failure::transient(format!(
            "{name} is another repository now (number {}, it was {known}): if that is meant, take the project {project} \
             out and give it another name",
            told.id
        ))
    })?;
    Ok(Repository {
        id: told.id,
        node: told.node_id,
        owner: clean(&told.owner.login, 100),
        name: clean(&told.name, 100),
        private: told.private,
        who,
    })
}

/// Keeps the number beside the mirror, whose commits are of that repository.
fn remember(file: &Path, id: u64) -> Result<(), u64> {
    let known = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    match known {
        Some(known) if known != id => Err(known),
        Some(_) => Ok(()),
        None => {
            if let Err(error) = std::fs::write(file, id.to_string()) {
                tracing::warn!(%error, file = %file.display(), "cannot remember a repository's number");
            }
            Ok(())
        }
    }
}
