//! What can be written on a repository, by whom.

use serde_json::{Value, json};

use super::Inner;
use super::rest::{Parameters, unanswered};
use super::server::{Answer, Call};
use super::world::{Bearer, Check, Comment, Deployment, Repo, Status, World};

/// The permission that an App needs, by what it writes on.
const NEEDS: [(&str, &[&str]); 5] = [
    ("/issues", &["issues", "pull_requests"]),
    ("/deployments", &["deployments"]),
    ("/check-runs", &["checks"]),
    ("/statuses", &["statuses"]),
    ("/pulls", &["pull_requests"]),
];

/// Texts longer than this are refused.
const LONGEST: usize = 65_536;

pub(super) fn answer(
    inner: &mut Inner,
    method: &str,
    below: &str,
    repo: &Repo,
    parameters: &Parameters,
    call: &Call,
) -> Answer {
    if let Err(refusal) = may(&inner.world, below, repo, call) {
        return refusal;
    }
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let sent = call.sent();
    match (method, below) {
        ("POST", "/issues/{issue_number}/comments") => {
            if !repo.pulls.contains_key(&number("issue_number")) {
                return Answer::not_found();
            }
            comment(inner, repo, number("issue_number"), &sent, call)
        }
        ("PATCH", "/issues/comments/{comment_id}") => {
            let body = sent["body"].as_str().unwrap_or_default().to_owned();
            let (id, now) = (number("comment_id"), inner.world.now());
            let known = own(inner, repo).comments.iter_mut().find(|comment| comment.id == id);
            let Some(known) = known else { return Answer::not_found() };
            (known.body, known.updated) = (body, now);
            let (known, repo) = (known.clone(), inner.world.repos[&repo.id].clone());
            Answer::ok(inner.world.show_comment(&repo, &known))
        }
        ("DELETE", "/issues/comments/{comment_id}") => {
            let comments = &mut own(inner, repo).comments;
            let before = comments.len();
            comments.retain(|comment| comment.id != number("comment_id"));
            if comments.len() == before { Answer::not_found() } else { Answer::empty(204) }
        }
        ("POST", "/issues/comments/{comment_id}/reactions") => reaction(inner, repo, number("comment_id"), &sent, call),
        ("POST", "/deployments") => deployment(inner, repo, sent, call),
        ("DELETE", "/deployments/{deployment_id}") => {
            let of = own(inner, repo).deployments.iter().position(|of| of.id == number("deployment_id"));
            let Some(at) = of else { return Answer::not_found() };
            own(inner, repo).deployments.remove(at);
            Answer::empty(204)
        }
        ("POST", "/deployments/{deployment_id}/statuses") => {
            let (id, now) = (inner.world.next_id(), inner.world.now());
            let known = own(inner, repo).deployments.iter_mut().find(|of| of.id == number("deployment_id"));
            let Some(known) = known else { return Answer::not_found() };
            if sent["description"].as_str().is_some_and(|text| text.chars().count() > 140) {
                return Answer::error(422, "description is too long (maximum is 140 characters)");
            }
            known.statuses.push((id, now, sent));
            let known = known.clone();
            let status = known.statuses.last().cloned().expect("it was pushed");
            Answer::new(201, inner.world.show_deployment_status(repo, &known, &status))
        }
        ("POST", "/check-runs") => check(inner, repo, sent, call),
        ("PATCH", "/check-runs/{check_run_id}") => {
            let known = own(inner, repo).checks.iter_mut().find(|check| check.id == number("check_run_id"));
            let Some(known) = known else { return Answer::not_found() };
            for (key, value) in sent.as_object().into_iter().flatten() {
                known.sent[key] = value.clone();
            }
            let known = known.clone();
            Answer::ok(inner.world.show_check(repo, &known))
        }
        ("POST", "/statuses/{sha}") => {
            let (id, creator, created) = (inner.world.next_id(), writer(&inner.world, call), inner.world.now());
            let status = Status { id, sha: parameters["sha"].clone(), sent, creator, created };
            own(inner, repo).statuses.push(status.clone());
            Answer::new(201, inner.world.show_status(repo, &status))
        }
        _ => unanswered(inner, method, &format!("/repos/{{owner}}/{{repo}}{below}")),
    }
}

/// Whether the bearer may write there at all.
fn may(world: &World, below: &str, repo: &Repo, call: &Call) -> Result<(), Answer> {
    if repo.archived {
        return Err(Answer::error(403, "Repository was archived so is read-only."));
    }
    let allowed = match &call.bearer {
        Bearer::Account(account) => world.role(repo, *account) != "none",
        Bearer::Installation { repositories, permissions } => {
            let needs = NEEDS.iter().find(|(part, _)| below.starts_with(part)).map_or(&[][..], |(_, needs)| needs);
            let within = repositories.is_empty() || repositories.contains(&repo.id);
            repo.installed
                && within
                && needs.iter().any(|name| permissions.get(*name).is_some_and(|level| level == "write"))
        }
        Bearer::App | Bearer::Anonymous => false,
    };
    if allowed { Ok(()) } else { Err(Answer::error(403, "Resource not accessible by integration")) }
}

fn own<'i>(inner: &'i mut Inner, repo: &Repo) -> &'i mut Repo {
    inner.world.repos.get_mut(&repo.id).expect("it was found")
}

fn writer(world: &World, call: &Call) -> u64 {
    world.writer(&call.bearer).expect("nobody writes without a name")
}

fn comment(inner: &mut Inner, repo: &Repo, number: u64, sent: &Value, call: &Call) -> Answer {
    let body = sent["body"].as_str().unwrap_or_default().to_owned();
    if body.is_empty() || body.len() > LONGEST {
        return Answer::error(422, "Validation Failed: body is too long (maximum is 65536 characters)");
    }
    let (id, author, now) = (inner.world.next_id(), writer(&inner.world, call), inner.world.now());
    let comment = Comment { id, number, author, body, created: now, updated: now, reactions: Vec::new() };
    own(inner, repo).comments.push(comment.clone());
    // Our own comments come back to us, too.
    inner.tell_comment(repo.id, &comment, "created");
    Answer::new(201, inner.world.show_comment(repo, &comment))
}

fn reaction(inner: &mut Inner, repo: &Repo, id: u64, sent: &Value, call: &Call) -> Answer {
    let (author, number) = (writer(&inner.world, call), inner.world.next_id());
    let content = sent["content"].as_str().unwrap_or_default().to_owned();
    let known = own(inner, repo).comments.iter_mut().find(|comment| comment.id == id);
    let Some(known) = known else { return Answer::not_found() };
    let again = known.reactions.contains(&(author, content.clone()));
    if !again {
        known.reactions.push((author, content.clone()));
    }
    let user = inner.world.show_account(author);
    Answer::new(
        if again { 200 } else { 201 },
        json!({ "id": number, "node_id": "RE1", "user": user, "content": content }),
    )
}

fn deployment(inner: &mut Inner, repo: &Repo, sent: Value, call: &Call) -> Answer {
    let asked = sent["ref"].as_str().unwrap_or_default().to_owned();
    // A full sha is taken as it is: whatever the repository holds, forks' commits too.
    if asked.len() != 40 {
        return Answer::error(422, &format!("No ref found for: {asked}"));
    }
    let (id, creator, created) = (inner.world.next_id(), writer(&inner.world, call), inner.world.now());
    let environment = sent["environment"].as_str().unwrap_or("production").to_owned();
    let of = Deployment { id, creator, sha: asked, sent, created, statuses: Vec::new() };
    let own = own(inner, repo);
    own.deployments.push(of.clone());
    own.environments.entry(environment).or_default();
    Answer::new(201, inner.world.show_deployment(repo, &of))
}

fn check(inner: &mut Inner, repo: &Repo, sent: Value, call: &Call) -> Answer {
    if !matches!(call.bearer, Bearer::Installation { .. }) {
        return Answer::error(403, "You must authenticate via a GitHub App.");
    }
    if sent["actions"].as_array().is_some_and(|actions| actions.len() > 3) {
        return Answer::error(422, "too many actions");
    }
    let (id, created) = (inner.world.next_id(), inner.world.now());
    let check = Check { id, sent, foreign: false, created };
    own(inner, repo).checks.push(check.clone());
    Answer::new(201, inner.world.show_check(repo, &check))
}
