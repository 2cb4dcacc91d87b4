//! Webhooks: who sent them, what they are about. A hook says 'look'; nothing that it tells is believed beyond that, but
//! for what a person asked, who is judged by asking GitHub.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use planner::forge::{Person, Said};
use planner::identity::{ProjectName, Sha};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::Sha256;

use super::Hidden;
use crate::{Delivery, Refusal};

/// A comment that begins otherwise asks for nothing.
const COMMAND: &str = "/stage";
/// The longest line of a comment that is looked at, in characters.
const LONGEST: usize = 500;

/// A watched repository, as deliveries name it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) project: ProjectName,
    /// None as long as GitHub was not reached.
    pub(super) id: Option<u64>,
    /// `owner/name` as it is known now.
    pub(super) name: String,
    /// Whether statuses and check runs matter.
    pub(super) waits: bool,
}

/// Of 344 kinds of bodies what is used here. Kinds and actions that nobody knows yet parse as well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    action: Option<String>,
    #[serde(rename = "ref")]
    name: Option<String>,
    repository: Option<Repository>,
    sender: Option<Account>,
    issue: Option<Issue>,
    comment: Option<Comment>,
    check_run: Option<CheckRun>,
    requested_action: Option<RequestedAction>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    id: u64,
    #[serde(default)]
    full_name: String,
}

#[derive(Debug, Deserialize)]
struct Account {
    id: u64,
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Issue {
    number: u64,
    pull_request: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Comment {
    id: Option<u64>,
    body: Option<String>,
    user: Option<Account>,
    performed_via_github_app: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CheckRun {
    head_sha: String,
    external_id: Option<String>,
    pull_requests: Vec<Number>,
}

#[derive(Debug, Deserialize)]
struct Number {
    number: u64,
}

#[derive(Debug, Deserialize)]
struct RequestedAction {
    identifier: String,
}

/// Judges a delivery: its signature over the raw bytes before anything of it is read, then what it is about.
pub(super) fn accept(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[Hidden],
    instance: &str,
    targets: &[Target],
) -> Result<Delivery, Refusal> {
    verify(headers, body, secrets)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let missing = |name: &str| Refusal::Malformed(format!("the header {name} is missing"));
    let id = text("x-github-delivery").ok_or_else(|| missing("X-GitHub-Delivery"))?;
    let event = text("x-github-event").ok_or_else(|| missing("X-GitHub-Event"))?;
    if id.len() > 100 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Refusal::Malformed("X-GitHub-Delivery is no id".to_owned()));
    }
    if text("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        return Err(Refusal::Malformed("set the webhook's content type to application/json".to_owned()));
    }
    let body: Body =
        serde_json::from_slice(body).map_err(|error| Refusal::Malformed(format!("the body of {event}: {error}")))?;
    let about: Vec<&Target> = match &body.repository {
        Some(repository) => targets.iter().filter(|target| target.is(repository)).collect(),
        // Of an App's installation: who may see what has changed, here and elsewhere.
        None if event.starts_with("installation") => targets.iter().collect(),
        None => Vec::new(),
    };
    let said = about.first().and_then(|target| said(event, &body, instance, target));
    let look = about.into_iter().filter(|target| said.is_some() || target.changes(event, &body));
    let look: BTreeSet<ProjectName> = look.map(|target| target.project.clone()).collect();
    let name = body.action.as_ref().map_or_else(|| event.to_owned(), |action| format!("{event}.{action}"));
    Ok(Delivery { id: id.to_owned(), event: crate::git::clean(&name, 80), look, said })
}

/// Whether one of the secrets made the signature. Compared in constant time.
fn verify(headers: &HeaderMap, body: &[u8], secrets: &[Hidden]) -> Result<(), Refusal> {
    let mut given = headers.get_all("x-hub-signature-256").iter();
    let signature = match (given.next(), given.next()) {
        (Some(signature), None) => signature.as_bytes(),
        (None, _) => return Err(Refusal::Unsigned("the delivery has no X-Hub-Signature-256")),
        (Some(_), Some(_)) => return Err(Refusal::Unsigned("the delivery has more than one signature")),
    };
    let wrong = Refusal::Unsigned("the signature is not by the webhook's secret");
    let Some(hex) = signature.strip_prefix(b"sha256=") else { return Err(wrong) };
    let Ok(bytes) = HEXLOWER.decode(hex) else { return Err(wrong) };
    let made = secrets.iter().filter(|secret| !secret.0.is_empty()).any(|secret| {
        Hmac::<Sha256>::new_from_slice(secret.0.as_bytes())
            .is_ok_and(|mac| mac.chain_update(body).verify_slice(&bytes).is_ok())
    });
    if made { Ok(()) } else { Err(wrong) }
}

impl Target {
    fn is(&self, repository: &Repository) -> bool {
        match self.id {
            Some(id) => id == repository.id,
            None => self.name.eq_ignore_ascii_case(&repository.full_name),
        }
    }

    /// Whether the event may have changed what the project's refs or their facts are. One that nobody knows may.
    fn changes(&self, event: &str, body: &Body) -> bool {
        match event {
            "ping" | "deployment" | "deployment_status" | "issue_comment" | "issues" | "star" | "watch" | "fork" => {
                false
            }
            "check_run" | "check_suite" | "status" | "workflow_run" | "workflow_job" => self.waits,
            "push" => !body.name.as_ref().is_some_and(|name| name.starts_with("refs/heads/gh-readonly-queue/")),
            _ => true,
        }
    }
}

/// What a person asked for: in a new comment on a pull request, by its first line alone, or by a button of ours.
fn said(event: &str, body: &Body, instance: &str, target: &Target) -> Option<Said> {
    let sender = body.sender.as_ref().filter(|sender| sender.kind == "User")?;
    let person = Person { id: sender.id, login: sender.login.clone() };
    let project = target.project.clone();
    match (event, body.action.as_deref()) {
        ("issue_comment", Some("created")) => {
            let issue = body.issue.as_ref().filter(|issue| issue.pull_request.is_some())?;
            let comment = body.comment.as_ref().filter(|comment| comment.performed_via_github_app.is_none())?;
            comment.user.as_ref().filter(|user| user.id == sender.id)?;
            let line = comment.body.as_ref()?.lines().next()?.trim_end();
            let is_command = line.strip_prefix(COMMAND).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
            let line = is_command.then(|| line.chars().take(LONGEST).collect())?;
            Some(Said { project, pull: Some(issue.number), person, line, comment: comment.id, sha: None })
        }
        ("check_run", Some("requested_action")) => {
            let run = body.check_run.as_ref()?;
            let ours = run.external_id.as_ref()?.strip_prefix(instance)?.strip_prefix('/');
            let sha: Sha = run.head_sha.parse().ok()?;
            ours.filter(|ours| *ours == sha.to_string())?;
            let line = match body.requested_action.as_ref()?.identifier.as_str() {
                "stage" => format!("{COMMAND} {sha}"),
                act @ ("approve" | "rebuild" | "remove" | "extend" | "pin") => format!("{COMMAND} {act} {sha}"),
                _ => return None,
            };
            let pull = run.pull_requests.first().map(|pull| pull.number);
            Some(Said { project, pull, person, line, comment: None, sha: Some(sha) })
        }
        _ => None,
    }
}
