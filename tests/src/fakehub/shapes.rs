//! What the API and webhooks show of the world: what a client may care about. The oracle fills in the rest.

use serde_json::{Value, json};

use super::world::{Account, App, Check, Comment, Deployment, Kind, Pull, Repo, Status, World, timestamp};

/// The `node_id` of a thing.
#[must_use]
pub fn node_id(kind: &str, id: u64) -> String {
    data_encoding::BASE64URL_NOPAD.encode(format!("{kind}:{id}").as_bytes())
}

/// What a `node_id` is of.
#[must_use]
pub fn parse_node_id(text: &str) -> Option<(String, u64)> {
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (kind, id) = text.split_once(':')?;
    Some((kind.to_owned(), id.parse().ok()?))
}

impl Account {
    fn kind(&self) -> &'static str {
        match self.kind {
            Kind::User => "User",
            Kind::Bot => "Bot",
            Kind::Organization => "Organization",
        }
    }
}

impl World {
    /// An account.
    #[must_use]
    pub fn show_account(&self, id: u64) -> Value {
        let account = &self.accounts[&id];
        let (base, login) = (&self.base, account.login.replace('[', "%5B").replace(']', "%5D"));
        json!({
            "id": id, "node_id": node_id("User", id), "login": account.login, "type": account.kind(), "site_admin": false,
            "url": format!("{base}/users/{login}"), "html_url": format!("{base}/{login}"),
            "avatar_url": format!("{base}/avatars/{id}"), "gravatar_id": "",
        })
    }

    /// A repository.
    #[must_use]
    pub fn show_repo(&self, repo: &Repo) -> Value {
        let (base, name) = (&self.base, self.full_name(repo));
        json!({
            "id": repo.id, "node_id": node_id("Repository", repo.id), "name": repo.name, "full_name": name,
            "owner": self.show_account(repo.owner), "private": repo.private, "fork": repo.fork_of.is_some(),
            "archived": repo.archived, "disabled": false, "default_branch": "main", "visibility": visibility(repo),
            "url": format!("{base}/repos/{name}"), "html_url": format!("{base}/{name}"),
            "clone_url": format!("{base}/{name}.git"), "description": null, "size": 1,
            "has_issues": true, "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
            "pushed_at": "2024-01-01T00:00:00Z", "open_issues_count": repo.pulls.values().filter(|pull| pull.open).count(),
        })
    }

    fn show_end(&self, repo: Option<&Repo>, owner: u64, name: &str, sha: &str) -> Value {
        json!({
            "label": repo.map_or_else(|| format!("unknown:{name}"), |repo| format!("{}:{name}", self.accounts[&repo.owner].login)),
            "ref": name, "sha": sha,
            "repo": repo.map(|repo| self.show_repo(repo)), "user": self.show_account(repo.map_or(owner, |repo| repo.owner)),
        })
    }

    /// A pull request.
    #[must_use]
    pub fn show_pull(&self, repo: &Repo, pull: &Pull) -> Value {
        let (base, name, number) = (&self.base, self.full_name(repo), pull.number);
        let head = pull.head_repo.and_then(|id| self.repos.get(&id));
        let closed = (!pull.open).then(|| timestamp(pull.updated));
        let labels: Vec<Value> = pull.labels.iter().map(|label| label_of(label)).collect();
        json!({
            "id": pull.id, "node_id": node_id("PullRequest", pull.id), "number": number, "title": pull.title,
            "state": if pull.open { "open" } else { "closed" }, "locked": false, "draft": pull.draft,
            "user": self.show_account(pull.author), "body": null, "labels": labels,
            "created_at": timestamp(pull.created), "updated_at": timestamp(pull.updated),
            "closed_at": closed, "merged_at": closed.filter(|_| pull.merged), "merged": pull.merged,
            "merge_commit_sha": null, "maintainer_can_modify": false, "author_association": "NONE",
            "head": self.show_end(head, pull.author, &pull.head_ref, &pull.head_sha),
            "base": self.show_end(Some(repo), repo.owner, &pull.base_ref, &pull.base_sha),
            "url": format!("{base}/repos/{name}/pulls/{number}"), "html_url": format!("{base}/{name}/pull/{number}"),
            "auto_merge": null, "milestone": null, "assignee": null, "active_lock_reason": null, "mergeable_state": "unknown",
        })
    }

    /// A pull request as the issue that it is too.
    #[must_use]
    pub fn show_issue(&self, repo: &Repo, pull: &Pull) -> Value {
        let (base, name, number) = (&self.base, self.full_name(repo), pull.number);
        let labels: Vec<Value> = pull.labels.iter().map(|label| label_of(label)).collect();
        json!({
            "id": pull.id, "node_id": node_id("Issue", pull.id), "number": number, "title": pull.title,
            "state": if pull.open { "open" } else { "closed" }, "user": self.show_account(pull.author), "labels": labels,
            "assignee": null, "assignees": [], "milestone": null, "comments": 0, "body": null, "locked": false,
            "created_at": timestamp(pull.created), "updated_at": timestamp(pull.updated), "closed_at": null,
            "url": format!("{base}/repos/{name}/issues/{number}"), "html_url": format!("{base}/{name}/pull/{number}"),
            "pull_request": {
                "url": format!("{base}/repos/{name}/pulls/{number}"), "html_url": format!("{base}/{name}/pull/{number}"),
                "diff_url": format!("{base}/{name}/pull/{number}.diff"), "patch_url": format!("{base}/{name}/pull/{number}.patch"),
                "merged_at": null,
            },
            "author_association": "NONE",
        })
    }

    /// A comment.
    #[must_use]
    pub fn show_comment(&self, repo: &Repo, comment: &Comment) -> Value {
        let (base, name) = (&self.base, self.full_name(repo));
        let by_app = comment.author == self.app.bot;
        json!({
            "id": comment.id, "node_id": node_id("IssueComment", comment.id), "body": comment.body,
            "user": self.show_account(comment.author), "author_association": "NONE",
            "created_at": timestamp(comment.created), "updated_at": timestamp(comment.updated),
            "url": format!("{base}/repos/{name}/issues/comments/{}", comment.id),
            "html_url": format!("{base}/{name}/pull/{}#issuecomment-{}", comment.number, comment.id),
            "issue_url": format!("{base}/repos/{name}/issues/{}", comment.number),
            "performed_via_github_app": by_app.then(|| self.show_app(&self.app)),
        })
    }

    /// The App.
    #[must_use]
    pub fn show_app(&self, app: &App) -> Value {
        json!({
            "id": app.id, "node_id": node_id("App", app.id), "slug": app.slug, "name": app.slug, "description": "",
            "owner": self.show_account(app.bot), "external_url": "https://example.org", "html_url": format!("{}/apps/{}", self.base, app.slug),
            "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
            "permissions": app.permissions, "events": app.events,
        })
    }

    /// The App's installation.
    #[must_use]
    pub fn show_installation(&self) -> Value {
        let owner = self.repos.values().find(|repo| repo.installed).map_or(self.app.bot, |repo| repo.owner);
        json!({
            "id": self.app.installation, "account": self.show_account(owner), "repository_selection": "selected",
            "app_id": self.app.id, "app_slug": self.app.slug, "target_id": owner, "target_type": "Organization",
            "permissions": self.app.permissions, "events": self.app.events, "single_file_name": null,
            "access_tokens_url": format!("{}/app/installations/{}/access_tokens", self.base, self.app.installation),
            "repositories_url": format!("{}/installation/repositories", self.base),
            "html_url": format!("{}/settings/installations/{}", self.base, self.app.installation),
            "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
            "suspended_by": null, "suspended_at": null,
        })
    }

    /// A deployment.
    #[must_use]
    pub fn show_deployment(&self, repo: &Repo, of: &Deployment) -> Value {
        let (base, name, id) = (&self.base, self.full_name(repo), of.id);
        let sent = |key: &str, default: Value| of.sent.get(key).cloned().unwrap_or(default);
        json!({
            "id": id, "node_id": node_id("Deployment", id), "sha": of.sha, "ref": sent("ref", of.sha.clone().into()),
            "task": sent("task", "deploy".into()), "environment": sent("environment", "production".into()),
            "payload": sent("payload", json!({})), "description": sent("description", Value::Null),
            "transient_environment": sent("transient_environment", false.into()),
            "production_environment": sent("production_environment", false.into()),
            "creator": self.show_account(of.creator), "created_at": timestamp(of.created), "updated_at": timestamp(of.created),
            "url": format!("{base}/repos/{name}/deployments/{id}"), "repository_url": format!("{base}/repos/{name}"),
            "statuses_url": format!("{base}/repos/{name}/deployments/{id}/statuses"),
        })
    }

    /// A status of a deployment.
    #[must_use]
    pub fn show_deployment_status(&self, repo: &Repo, of: &Deployment, status: &(u64, i64, Value)) -> Value {
        let (base, name) = (&self.base, self.full_name(repo));
        let (id, at, sent) = status;
        let text = |key: &str| sent.get(key).cloned().unwrap_or_else(|| "".into());
        let page = format!("{base}/{name}/deployments");
        let mut shown = json!({
            "id": id, "node_id": node_id("DeploymentStatus", *id), "state": sent["state"], "description": text("description"),
            "target_url": sent.get("log_url").cloned().unwrap_or_else(|| page.into()),
            "creator": self.show_account(of.creator), "created_at": timestamp(*at), "updated_at": timestamp(*at),
            "url": format!("{base}/repos/{name}/deployments/{}/statuses/{id}", of.id),
            "deployment_url": format!("{base}/repos/{name}/deployments/{}", of.id),
            "repository_url": format!("{base}/repos/{name}"),
        });
        for key in ["environment_url", "log_url"] {
            if let Some(url) = sent.get(key) {
                shown[key] = url.clone();
            }
        }
        shown
    }

    /// A check run.
    #[must_use]
    pub fn show_check(&self, repo: &Repo, check: &Check) -> Value {
        let (base, name, id, sent) = (&self.base, self.full_name(repo), check.id, &check.sent);
        let other = App { id: 15_368, slug: "github-actions".to_owned(), ..self.app.clone() };
        let status = sent["status"].as_str().unwrap_or("queued");
        json!({
            "id": id, "node_id": node_id("CheckRun", id), "name": sent["name"], "head_sha": sent["head_sha"],
            "external_id": sent.get("external_id").cloned().unwrap_or_else(|| "".into()),
            "status": if sent["conclusion"].is_string() { "completed" } else { status }, "conclusion": sent["conclusion"],
            "details_url": sent["details_url"], "html_url": format!("{base}/{name}/runs/{id}"),
            "url": format!("{base}/repos/{name}/check-runs/{id}"),
            "started_at": timestamp(check.created), "completed_at": sent["conclusion"].is_string().then(|| timestamp(check.created)),
            "output": {
                "title": sent["output"]["title"], "summary": sent["output"]["summary"], "text": sent["output"]["text"],
                "annotations_count": 0, "annotations_url": format!("{base}/repos/{name}/check-runs/{id}/annotations"),
            },
            "app": self.show_app(if check.foreign { &other } else { &self.app }), "pull_requests": [],
        })
    }

    /// A commit status.
    #[must_use]
    pub fn show_status(&self, repo: &Repo, status: &Status) -> Value {
        let sent = &status.sent;
        json!({
            "id": status.id, "node_id": node_id("StatusContext", status.id), "state": sent["state"],
            "context": sent.get("context").cloned().unwrap_or_else(|| "default".into()),
            "description": sent.get("description").cloned().unwrap_or_default(), "target_url": sent.get("target_url").cloned().unwrap_or_default(),
            "creator": self.show_account(status.creator), "avatar_url": null,
            "url": format!("{}/repos/{}/statuses/{}", self.base, self.full_name(repo), status.sha),
            "created_at": timestamp(status.created), "updated_at": timestamp(status.created),
        })
    }
}

fn visibility(repo: &Repo) -> &'static str {
    if repo.private { "private" } else { "public" }
}

fn label_of(name: &str) -> Value {
    json!({ "id": 1, "node_id": "L1", "name": name, "color": "ededed", "default": false, "description": null, "url": "https://github.invalid/label" })
}
