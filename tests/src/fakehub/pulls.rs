//! What can be read of a repository.

use serde_json::{Value, json};

use super::git;
use super::rest::{Parameters, paged};
use super::server::{Answer, Call, Shared};
use super::world::{Pull, Repo, World};

/// Answers what needs no git; none if it does, or is not known.
pub(super) fn answer(world: &World, below: &str, repo: &Repo, parameters: &Parameters, call: &Call) -> Option<Answer> {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
    let found = |value: Option<Value>| value.map_or_else(Answer::not_found, Answer::ok);
    let pull = || number("pull_number").or_else(|| number("issue_number")).and_then(|number| repo.pulls.get(&number));
    Some(match below {
        "" => unchanged(call, Answer::ok(world.show_repo(repo))),
        "/installation" => {
            if repo.installed {
                Answer::ok(world.show_installation())
            } else {
                Answer::not_found()
            }
        }
        "/pulls" => unchanged(call, list(world, repo, call)),
        "/pulls/{pull_number}" => found(pull().map(|pull| world.show_pull(repo, pull))),
        "/issues/{issue_number}" => found(pull().map(|pull| world.show_issue(repo, pull))),
        "/issues/{issue_number}/comments" => {
            let number = pull()?.number;
            let comments = repo.comments.iter().filter(|comment| comment.number == number);
            paged(call, comments.map(|comment| world.show_comment(repo, comment)).collect())
        }
        "/issues/{issue_number}/labels" => found(pull().map(|pull| world.show_pull(repo, pull)["labels"].clone())),
        "/issues/comments/{comment_id}" => {
            let id = number("comment_id");
            let comment = repo.comments.iter().find(|comment| Some(comment.id) == id);
            found(comment.map(|comment| world.show_comment(repo, comment)))
        }
        "/collaborators/{username}/permission" => found(permission(world, repo, &parameters["username"])),
        "/deployments" => {
            let wanted = |key: &str, value: &str| call.query(key).is_none_or(|asked| asked == value);
            let all = repo.deployments.iter().rev().map(|of| world.show_deployment(repo, of));
            let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
            let fits = |of: &Value| ["sha", "ref", "task", "environment"].iter().all(|key| wanted(key, &text(of, key)));
            paged(call, all.filter(fits).collect())
        }
        "/deployments/{deployment_id}" => {
            let of = repo.deployments.iter().find(|of| Some(of.id) == number("deployment_id"));
            found(of.map(|of| world.show_deployment(repo, of)))
        }
        "/deployments/{deployment_id}/statuses" => {
            let Some(of) = repo.deployments.iter().find(|of| Some(of.id) == number("deployment_id")) else {
                return Some(Answer::not_found());
            };
            paged(call, of.statuses.iter().rev().map(|status| world.show_deployment_status(repo, of, status)).collect())
        }
        "/environments" => {
            let all: Vec<Value> = repo.environments.keys().map(|name| environment(world, repo, name)).collect();
            Answer::ok(json!({ "total_count": all.len(), "environments": all }))
        }
        "/environments/{environment_name}" => {
            let name = &parameters["environment_name"];
            found(repo.environments.contains_key(name).then(|| environment(world, repo, name)))
        }
        "/commits/{ref}/check-runs" => {
            let sha = &parameters["ref"];
            let named = |name: &Value| call.query("check_name").is_none_or(|asked| name == asked);
            let ours =
                |foreign: bool| call.query("app_id").is_none_or(|asked| (asked == world.app.id.to_string()) != foreign);
            let all = repo.checks.iter().filter(|check| {
                check.sent["head_sha"] == *sha.as_str() && named(&check.sent["name"]) && ours(check.foreign)
            });
            let all: Vec<Value> = all.rev().map(|check| world.show_check(repo, check)).collect();
            let (count, mut answer) = (all.len(), paged(call, all));
            answer.body = answer.body.map(|all| json!({ "total_count": count, "check_runs": all }));
            answer
        }
        "/check-runs/{check_run_id}" => {
            let check = repo.checks.iter().find(|check| Some(check.id) == number("check_run_id"));
            found(check.map(|check| world.show_check(repo, check)))
        }
        "/commits/{ref}/status" => Answer::ok(combined(world, repo, &parameters["ref"])),
        "/commits/{ref}/statuses" => {
            let all = repo.statuses.iter().rev().filter(|status| status.sha == parameters["ref"]);
            paged(call, all.map(|status| world.show_status(repo, status)).collect())
        }
        _ => return None,
    })
}

/// 304 if the caller has seen exactly this.
fn unchanged(call: &Call, answer: Answer) -> Answer {
    use sha2::{Digest as _, Sha256};
    let Some(asked) = call.headers.get("if-none-match").and_then(|value| value.to_str().ok()) else { return answer };
    let operation = super::oracle::oracle().operation(&call.method, &call.path);
    let Some((operation, _)) = operation else { return answer };
    let body = answer.body.clone().unwrap_or_default();
    let body = super::oracle::oracle().completed(operation, answer.status, body).to_string();
    let etag = data_encoding::HEXLOWER.encode(&Sha256::digest(body));
    if asked.contains(&etag) { Answer::empty(304) } else { answer }
}

fn list(world: &World, repo: &Repo, call: &Call) -> Answer {
    let state = call.query("state").unwrap_or("open");
    let base = call.query("base");
    let head = call.query("head");
    let shown = |pull: &&Pull| {
        let of_state = state == "all" || pull.open == (state == "open");
        let label = pull.head_repo.and_then(|id| world.repos.get(&id));
        let label = label.map(|repo| format!("{}:{}", world.accounts[&repo.owner].login, pull.head_ref));
        of_state
            && base.is_none_or(|base| base == pull.base_ref)
            && head.is_none_or(|head| label.as_deref() == Some(head))
    };
    let mut pulls: Vec<&Pull> = repo.pulls.values().filter(shown).collect();
    pulls.sort_by_key(|pull| {
        if call.query("sort") == Some("updated") { (pull.updated, pull.number) } else { (pull.created, pull.number) }
    });
    if call.query("direction") != Some("asc") {
        pulls.reverse();
    }
    paged(call, pulls.into_iter().map(|pull| world.show_pull(repo, pull)).collect())
}

fn permission(world: &World, repo: &Repo, login: &str) -> Option<Value> {
    let account = world.find(login)?;
    let role = world.role(repo, account.id);
    // The coarse word hides what there is between.
    let coarse = match role.as_str() {
        "admin" => "admin",
        "maintain" | "write" => "write",
        "triage" | "read" => "read",
        _ => "none",
    };
    let mut user = world.show_account(account.id);
    user["role_name"] = role.clone().into();
    Some(json!({ "permission": coarse, "role_name": role, "user": user }))
}

fn environment(world: &World, repo: &Repo, name: &str) -> Value {
    json!({
        "id": 9, "node_id": "EN9", "name": name, "url": format!("{}/repos/{}/environments/{name}", world.base, world.full_name(repo)),
        "html_url": format!("{}/{}/deployments", world.base, world.full_name(repo)),
        "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
        "protection_rules": repo.environments[name], "deployment_branch_policy": null,
    })
}

fn combined(world: &World, repo: &Repo, sha: &str) -> Value {
    let mut latest = std::collections::BTreeMap::new();
    for status in repo.statuses.iter().filter(|status| status.sha == sha) {
        let context = status.sent["context"].as_str().unwrap_or("default").to_owned();
        latest.insert(context, world.show_status(repo, status));
    }
    let is = |state: &str| latest.values().any(|status| status["state"] == state);
    let state = if is("failure") || is("error") {
        "failure"
    } else if is("pending") || latest.is_empty() {
        "pending"
    } else {
        "success"
    };
    let all: Vec<Value> = latest.into_values().collect();
    json!({ "state": state, "sha": sha, "total_count": all.len(), "statuses": all, "repository": world.show_repo(repo) })
}

/// Answers what git knows.
pub(super) async fn by_git(
    _: &Shared,
    below: &str,
    repo: &Repo,
    parameters: &Parameters,
    call: &Call,
) -> Option<Answer> {
    let git_folder = repo.git.as_path();
    let object = |sha: &str| json!({ "type": "commit", "sha": sha, "url": "https://github.invalid/commit" });
    Some(match below {
        "/branches" | "/tags" => {
            let kind = if below == "/branches" { "refs/heads/" } else { "refs/tags/" };
            let all = git::refs(git_folder).await;
            let named = all.iter().filter_map(|(name, sha)| Some((name.strip_prefix(kind)?, sha)));
            paged(call, named.map(|(name, sha)| json!({ "name": name, "commit": { "sha": sha, "url": "https://github.invalid/commit" }, "protected": false })).collect())
        }
        "/branches/{branch}" => match git::resolve(git_folder, &format!("refs/heads/{}", parameters["branch"])).await {
            Some(sha) => {
                Answer::ok(json!({ "name": parameters["branch"], "commit": { "sha": sha }, "protected": false }))
            }
            None => Answer::not_found(),
        },
        "/git/ref/{ref}" => {
            let name = format!("refs/{}", parameters["ref"]);
            match git::resolve(git_folder, &name).await {
                Some(sha) => Answer::ok(json!({ "ref": name, "node_id": "R1", "object": object(&sha) })),
                None => Answer::not_found(),
            }
        }
        "/git/matching-refs/{ref}" => {
            let prefix = format!("refs/{}", parameters["ref"]);
            let all = git::refs(git_folder).await;
            let matching = all.iter().filter(|(name, _)| name.starts_with(&prefix));
            paged(
                call,
                matching.map(|(name, sha)| json!({ "ref": name, "node_id": "R1", "object": object(sha) })).collect(),
            )
        }
        "/commits/{ref}" => match git::resolve(git_folder, &parameters["ref"]).await {
            Some(sha) => {
                let subject = git::subject(git_folder, &sha).await;
                Answer::ok(json!({ "sha": sha, "node_id": "C1", "commit": { "message": subject } }))
            }
            None => Answer::error(422, "No commit found for SHA"),
        },
        "/compare/{basehead}" => {
            let (base, head) = parameters["basehead"].split_once("...")?;
            let (Some(base), Some(head)) = (git::resolve(git_folder, base).await, git::resolve(git_folder, head).await)
            else {
                return Some(Answer::not_found());
            };
            let (ahead, behind) = git::distance(git_folder, &base, &head).await;
            let status = match (ahead, behind) {
                (0, 0) => "identical",
                (_, 0) => "ahead",
                (0, _) => "behind",
                _ => "diverged",
            };
            let files: Vec<Value> = git::changed(git_folder, &base, &head).await.into_iter().map(changed).collect();
            Answer::ok(
                json!({ "status": status, "ahead_by": ahead, "behind_by": behind, "total_commits": ahead, "commits": [], "files": files }),
            )
        }
        "/pulls/{pull_number}/files" => {
            let pull = repo.pulls.get(&parameters["pull_number"].parse().ok()?)?;
            let names = git::changed(git_folder, &pull.base_sha, &pull.head_sha).await;
            paged(call, names.into_iter().map(changed).collect())
        }
        _ => return None,
    })
}

fn changed(name: String) -> Value {
    json!({ "filename": name, "status": "modified", "additions": 1, "deletions": 1, "changes": 2, "sha": "0".repeat(40) })
}
