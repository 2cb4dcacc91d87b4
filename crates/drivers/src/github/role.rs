//! What people may: asked of GitHub, by their number. Whatever is not plainly allowed is not.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use planner::command::Role;
use planner::forge::Person;
use planner::resource::Failure;
use serde::Deserialize;
use tokio::time::Instant;

use super::forge::GitHubForge;
use super::repository::Repository;

/// How long an answer counts: a page that shows several buttons asks once.
const FRESH: Duration = Duration::from_secs(10);

/// Who may approve foreign code, beside admins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Approvers {
    /// Whoever may write.
    #[default]
    Write,
    /// Whoever maintains.
    Maintain,
    /// Admins only.
    Admin,
    /// Members of a team of an organisation who may write.
    Team {
        /// The organisation.
        org: String,
        /// The team, by its slug.
        team: String,
    },
}

impl FromStr for Approvers {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let slug = |text: &str| {
            !text.is_empty()
                && text.len() <= 100
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        match (text, text.strip_prefix("team:").and_then(|team| team.split_once('/'))) {
            ("write", _) => Ok(Approvers::Write),
            ("maintain", _) => Ok(Approvers::Maintain),
            ("admin", _) => Ok(Approvers::Admin),
            (_, Some((org, team))) if slug(org) && slug(team) => {
                Ok(Approvers::Team { org: org.to_owned(), team: team.to_owned() })
            }
            _ => Err("write \"write\", \"maintain\", \"admin\" or \"team:ORGANISATION/TEAM\""),
        }
    }
}

/// Answers of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<BTreeMap<Person, (Instant, Option<Role>)>>);

#[derive(Debug, Deserialize)]
struct Permission {
    /// Of old: `admin`, `write`, `read`, `none`. Names maintain as write, and triage as read.
    permission: String,
    /// The role's own name; an organisation may have invented it.
    #[serde(default)]
    role_name: String,
    user: Option<Account>,
}

#[derive(Debug, Deserialize)]
struct Account {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct Membership {
    state: String,
}

/// What the person may do in the forge's project.
pub(super) async fn of(forge: &GitHubForge, person: &Person) -> Result<Option<Role>, Failure> {
    let now = Instant::now();
    let cached = {
        let mut cache = forge.roles.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
        cache.get(person).map(|(_, role)| *role)
    };
    if let Some(role) = cached {
        return Ok(role);
    }
    let role = ask(forge, person).await?;
    forge.roles.0.lock().unwrap_or_else(PoisonError::into_inner).insert(person.clone(), (now, role));
    Ok(role)
}

async fn ask(forge: &GitHubForge, person: &Person) -> Result<Option<Role>, Failure> {
    if !is_login(&person.login) {
        return Ok(None);
    }
    let repository = forge.repository().await?;
    let path = repository.path(&format!("/collaborators/{}/permission", person.login));
    let answer = forge.github.client.get(repository.who, &path).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let told: Permission = answer.json()?;
    // The login may have passed to somebody else since the person was seen.
    if told.user.as_ref().map(|user| user.id) != Some(person.id) {
        return Ok(None);
    }
    let role = judge(&told, &forge.watched.approvers, repository.private);
    match &forge.watched.approvers {
        Approvers::Team { org, team } if role == Some(Role::Write) => {
            let member = is_member(forge, &repository, org, team, &person.login).await?;
            Ok(Some(if member { Role::Approve } else { Role::Write }))
        }
        _ => Ok(role),
    }
}

/// The role that GitHub's word for it stands for. A role that an organisation invented may at most write, and approves
/// nothing: what else it holds is not told.
fn judge(told: &Permission, approvers: &Approvers, private: bool) -> Option<Role> {
    // On a public repository everybody reads, so that makes nobody a member.
    let reads = private.then_some(Role::Look);
    match (told.role_name.as_str(), told.permission.as_str()) {
        ("admin", "admin") => Some(Role::Admin),
        ("maintain", "write") if matches!(approvers, Approvers::Write | Approvers::Maintain) => Some(Role::Approve),
        ("write", "write") if *approvers == Approvers::Write => Some(Role::Approve),
        ("triage", "read") => Some(Role::Look),
        ("none", _) | (_, "none") => None,
        (_, "write") => Some(Role::Write),
        (_, "read") => reads,
        _ => None,
    }
}

async fn is_member(
    forge: &GitHubForge,
    repository: &Repository,
    org: &str,
    team: &str,
    login: &str,
) -> Result<bool, Failure> {
    let path = format!("/orgs/{org}/teams/{team}/memberships/{login}");
    let answer = forge.github.client.get(repository.who, &path).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(false);
    }
    Ok(answer.json::<Membership>()?.state == "active")
}

/// Path parameters are not encoded by anybody, so nothing else is put into one.
fn is_login(login: &str) -> bool {
    (1..=100).contains(&login.len()) && login.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}
