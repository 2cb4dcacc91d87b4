//! What people do on GitHub. Everything that GitHub tells about, it tells.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::git::{self, Files};
use super::server::Shared;
use super::world::{Comment, Kind, Pull, Repo, Token, World};
use super::{Bearer, Hub, Inner};

const ZEROS: &str = "0000000000000000000000000000000000000000";

/// A pull request to be opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// The repository that it is opened on, `acme/shop`.
    pub on: &'a str,
    /// Who opens it.
    pub by: &'a str,
    /// The repository of its head.
    pub from: &'a str,
    /// The branch there.
    pub branch: &'a str,
    /// Anybody's text.
    pub title: &'a str,
    /// Not ready for review.
    pub draft: bool,
}

impl Inner {
    fn about(&self, repo: u64, by: u64) -> Value {
        json!({ "repository": self.world.show_repo(&self.world.repos[&repo]), "sender": self.world.show_account(by) })
    }

    /// Tells of a pull request.
    fn tell_pull(&mut self, repo: u64, number: u64, action: &str, by: u64, more: Value) {
        let world = &mut self.world;
        let now = world.now();
        let pull = world.repos.get_mut(&repo).and_then(|repo| repo.pulls.get_mut(&number)).expect("it is there");
        // Two changes within one second are still two.
        pull.updated = now.max(pull.updated + 1);
        let mut payload = self.about(repo, by);
        let repo_row = &self.world.repos[&repo];
        payload["action"] = action.into();
        payload["number"] = number.into();
        payload["pull_request"] = self.world.show_pull(repo_row, &repo_row.pulls[&number]);
        payload.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.emit("pull_request", payload);
    }

    /// Tells of a comment.
    pub(super) fn tell_comment(&mut self, repo: u64, comment: &Comment, action: &str) {
        let row = &self.world.repos[&repo];
        let mut payload = self.about(repo, comment.author);
        payload["action"] = action.into();
        payload["issue"] = self.world.show_issue(row, &row.pulls[&comment.number]);
        payload["comment"] = self.world.show_comment(row, comment);
        if action == "edited" {
            payload["changes"] = json!({ "body": { "from": "before" } });
        }
        self.emit("issue_comment", payload);
    }

    fn tell_push(&mut self, repo: u64, name: &str, before: &str, after: &str, by: u64) {
        let mut payload = self.about(repo, by);
        payload["ref"] = name.into();
        payload["before"] = before.into();
        payload["after"] = after.into();
        payload["created"] = (before == ZEROS).into();
        payload["deleted"] = (after == ZEROS).into();
        payload["forced"] = false.into();
        payload["compare"] = "https://github.invalid/compare".into();
        payload["pusher"] = json!({ "name": self.world.accounts[&by].login });
        self.emit("push", payload);
    }

    /// Closes a pull request, by merging or not.
    pub(super) fn close(&mut self, full_name: &str, number: u64, by: &str, merged: bool) {
        let by = self.world.account(by);
        let repo = self.world.repo_mut(full_name);
        let pull = repo.pulls.get_mut(&number).expect("there is such a pull request");
        (pull.open, pull.merged) = (false, merged);
        let repo = repo.id;
        self.tell_pull(repo, number, "closed", by, json!({}));
    }

    /// Writes a comment on a pull request; its id.
    pub(super) fn comment(&mut self, full_name: &str, number: u64, by: &str, body: &str) -> u64 {
        let (author, id, now) = (self.world.account(by), self.world.next_id(), self.world.now());
        let comment =
            Comment { id, number, author, body: body.to_owned(), created: now, updated: now, reactions: Vec::new() };
        let repo = self.world.repo_mut(full_name);
        repo.comments.push(comment.clone());
        let repo = repo.id;
        self.tell_comment(repo, &comment, "created");
        id
    }

    /// Presses the button of a check run.
    pub(super) fn press(&mut self, full_name: &str, check: u64, by: &str, identifier: &str) {
        let by = self.world.account(by);
        let repo = self.world.repo(full_name).expect("there is such a repository").clone();
        let pressed = repo.checks.iter().find(|known| known.id == check).expect("there is such a check");
        let mut payload = self.about(repo.id, by);
        payload["action"] = "requested_action".into();
        payload["check_run"] = self.world.show_check(&repo, pressed);
        payload["check_run"]["check_suite"] = json!({ "head_sha": pressed.sent["head_sha"], "pull_requests": [], "app": self.world.show_app(&self.world.app) });
        payload["requested_action"] = json!({ "identifier": identifier });
        self.emit("check_run", payload);
    }

    /// Installs the App on everything that is no fork, and tells of it.
    pub(super) fn install(&mut self) {
        self.world.repos.values_mut().for_each(|repo| repo.installed = repo.fork_of.is_none());
        let installation = self.world.show_installation();
        let sender = installation["account"].clone();
        self.emit("installation", json!({ "action": "created", "installation": installation, "sender": sender }));
    }

    fn tell_repository(&mut self, repo: u64, action: &str, by: u64, more: Value) {
        let mut payload = self.about(repo, by);
        payload["action"] = action.into();
        payload.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.emit("repository", payload);
    }
}

/// See [`Hub::push`].
pub(super) async fn push(
    inner: &Shared,
    full_name: &str,
    branch: &str,
    by: &str,
    message: &str,
    files: Files<'_>,
) -> String {
    let folder = folder_of(inner, full_name);
    let parent = match git::resolve(&folder, &format!("refs/heads/{branch}")).await {
        Some(sha) => sha,
        None => git::resolve(&folder, "refs/heads/main").await.expect("main is there"),
    };
    let sha = git::commit(&folder, Some(&parent), message, files).await;
    force(inner, full_name, branch, by, &sha).await;
    sha
}

async fn force(inner: &Shared, full_name: &str, branch: &str, by: &str, sha: &str) {
    let (folder, name) = (folder_of(inner, full_name), format!("refs/heads/{branch}"));
    let before = git::resolve(&folder, &name).await;
    git::point(&folder, &name, sha).await;
    let followers: Vec<(u64, u64, PathBuf)> = {
        let world = &inner.lock().expect("the hub is whole").world;
        let of = world.repo(full_name).expect("it was found").id;
        let pulls = world.repos.values().flat_map(|repo| repo.pulls.values().map(move |pull| (repo, pull)));
        let heads = pulls.filter(|(_, pull)| pull.open && pull.head_repo == Some(of) && pull.head_ref == branch);
        heads.map(|(repo, pull)| (repo.id, pull.number, repo.git.clone())).collect()
    };
    for (_, number, base) in &followers {
        git::take(base, &folder, sha, &format!("refs/pull/{number}/head")).await;
    }
    let mut inner = inner.lock().expect("the hub is whole");
    let (by, of) = (inner.world.account(by), inner.world.repo(full_name).expect("it was found").id);
    if inner.world.repos[&of].installed {
        inner.tell_push(of, &name, before.as_deref().unwrap_or(ZEROS), sha, by);
    }
    for (repo, number, _) in followers {
        let pull = inner.world.repos.get_mut(&repo).and_then(|repo| repo.pulls.get_mut(&number)).expect("it was found");
        let before = std::mem::replace(&mut pull.head_sha, sha.to_owned());
        inner.tell_pull(repo, number, "synchronize", by, json!({ "before": before, "after": sha }));
    }
}

fn folder_of(inner: &Shared, full_name: &str) -> PathBuf {
    let inner = inner.lock().expect("the hub is whole");
    inner.world.repo(full_name).unwrap_or_else(|| panic!("no repository {full_name}")).git.clone()
}

fn repo_row(world: &mut World, full_name: &str, fork_of: Option<u64>) -> u64 {
    let (owner, name) = full_name.split_once('/').expect("owner/name");
    let (owner, id) = (world.account(owner), world.next_id());
    let git = world.folder.join(format!("{id}.git"));
    let repo = Repo {
        id,
        owner,
        name: name.to_owned(),
        private: false,
        archived: false,
        fork_of,
        roles: Default::default(),
        installed: fork_of.is_none(),
        pulls: Default::default(),
        next: 1,
        comments: Vec::new(),
        deployments: Vec::new(),
        checks: Vec::new(),
        statuses: Vec::new(),
        environments: Default::default(),
        git,
    };
    world.repos.insert(id, repo);
    id
}

impl Hub {
    /// Makes a repository of an organisation, with these files on `main`. The App is installed on it.
    pub async fn repository(&self, full_name: &str, files: Files<'_>) -> u64 {
        let (id, folder) = self.change(|world| {
            let id = repo_row(world, full_name, None);
            let owner = world.repos[&id].owner;
            world.accounts.get_mut(&owner).expect("it was made").kind = Kind::Organization;
            (id, world.repos[&id].git.clone())
        });
        git::init(&folder).await;
        let sha = git::commit(&folder, None, "The beginning", files).await;
        git::point(&folder, "refs/heads/main", &sha).await;
        id
    }

    /// Forks a repository.
    pub async fn fork(&self, of: &str, to: &str) -> u64 {
        let from = self.git_of(of);
        let (id, folder) = self.change(|world| {
            let parent = world.repo(of).map(|repo| repo.id);
            let id = repo_row(world, to, parent);
            (id, world.repos[&id].git.clone())
        });
        git::init(&folder).await;
        let sha = git::resolve(&from, "refs/heads/main").await.expect("main is there");
        git::take(&folder, &from, &sha, "refs/heads/main").await;
        id
    }

    /// Gives somebody a role in a repository, or takes it away (`none`).
    pub fn grant(&self, full_name: &str, login: &str, role: &str) {
        self.change(|world| {
            let account = world.account(login);
            let roles = &mut world.repo_mut(full_name).roles;
            if role == "none" {
                roles.remove(&account)
            } else {
                roles.insert(account, role.to_owned())
            };
        });
    }

    /// A personal token of this account.
    pub fn token(&self, login: &str) -> String {
        self.change(|world| {
            let account = world.account(login);
            let text = format!(
                "ghp_{}",
                data_encoding::BASE32_NOPAD.encode(format!("{login}/{}", world.next_id()).as_bytes())
            );
            world.tokens.insert(text.clone(), Token { of: Bearer::Account(account), until: None });
            text
        })
    }

    /// All tokens of installations are no good any more.
    pub fn expire_tokens(&self) {
        self.change(|world| world.tokens.retain(|_, token| token.until.is_none()));
    }

    /// Commits on top of a branch (of `main` if there is none yet) and pushes it there.
    pub async fn push(&self, full_name: &str, branch: &str, by: &str, message: &str, files: Files<'_>) -> String {
        push(&self.inner, full_name, branch, by, message, files).await
    }

    /// Points a branch at a commit that the repository has.
    pub async fn force(&self, full_name: &str, branch: &str, by: &str, sha: &str) {
        force(&self.inner, full_name, branch, by, sha).await;
    }

    /// Opens a pull request; its number.
    pub async fn open(&self, opening: Opening<'_>) -> u64 {
        let (on, from) = (self.git_of(opening.on), self.git_of(opening.from));
        let head = git::resolve(&from, &format!("refs/heads/{}", opening.branch)).await.expect("the branch is there");
        let base = git::resolve(&on, "refs/heads/main").await.expect("main is there");
        let number = self.change(|world| {
            let repo = world.repo_mut(opening.on);
            repo.next += 1;
            repo.next - 1
        });
        git::take(&on, &from, &head, &format!("refs/pull/{number}/head")).await;
        let mut inner = self.lock();
        let world = &mut inner.world;
        let (author, id, now) = (world.account(opening.by), world.next_id(), world.now());
        let head_repo = world.repo(opening.from).map(|repo| repo.id);
        let repo = world.repo_mut(opening.on);
        let pull = Pull {
            number,
            id,
            title: opening.title.to_owned(),
            author,
            head_repo,
            head_ref: opening.branch.to_owned(),
            head_sha: head,
            base_ref: "main".to_owned(),
            base_sha: base,
            draft: opening.draft,
            open: true,
            merged: false,
            labels: Default::default(),
            created: now,
            updated: now,
        };
        repo.pulls.insert(number, pull);
        let repo = repo.id;
        inner.tell_pull(repo, number, "opened", author, json!({}));
        number
    }

    /// Closes a pull request, by merging or not.
    pub fn close(&self, full_name: &str, number: u64, by: &str, merged: bool) {
        self.lock().close(full_name, number, by, merged);
    }

    /// Writes a comment on a pull request; its id.
    pub fn comment(&self, full_name: &str, number: u64, by: &str, body: &str) -> u64 {
        self.lock().comment(full_name, number, by, body)
    }

    /// Changes a comment.
    pub fn edit_comment(&self, full_name: &str, id: u64, body: &str) {
        let mut inner = self.lock();
        let repo = inner.world.repo_mut(full_name);
        let comment = repo.comments.iter_mut().find(|comment| comment.id == id).expect("there is such a comment");
        comment.body = body.to_owned();
        let (comment, repo) = (comment.clone(), repo.id);
        inner.tell_comment(repo, &comment, "edited");
    }

    /// Presses the button of a check run.
    pub fn press(&self, full_name: &str, check: u64, by: &str, identifier: &str) {
        self.lock().press(full_name, check, by, identifier);
    }

    /// CI says something of a commit.
    pub fn ci(&self, full_name: &str, sha: &str, name: &str, conclusion: Option<&str>) {
        self.change(|world| {
            let (id, created) = (world.next_id(), world.now());
            let status = if conclusion.is_some() { "completed" } else { "in_progress" };
            let sent = json!({ "name": name, "head_sha": sha, "status": status, "conclusion": conclusion });
            let checks = &mut world.repo_mut(full_name).checks;
            checks.retain(|check| !(check.foreign && check.sent["name"] == name && check.sent["head_sha"] == sha));
            checks.push(super::world::Check { id, sent, foreign: true, created });
        });
    }

    /// Gives a repository another name.
    pub fn rename(&self, full_name: &str, name: &str, by: &str) {
        let mut inner = self.lock();
        let by = inner.world.account(by);
        let id = inner.world.repo(full_name).expect("there is such a repository").id;
        inner.world.moved.insert(full_name.to_lowercase(), id);
        let repo = inner.world.repos.get_mut(&id).expect("it was found");
        let before = std::mem::replace(&mut repo.name, name.to_owned());
        inner.tell_repository(
            id,
            "renamed",
            by,
            json!({ "changes": { "repository": { "name": { "from": before } } } }),
        );
    }

    /// Makes a repository private.
    pub fn privatize(&self, full_name: &str, by: &str) {
        let mut inner = self.lock();
        let by = inner.world.account(by);
        let repo = inner.world.repo_mut(full_name);
        repo.private = true;
        let repo = repo.id;
        inner.tell_repository(repo, "privatized", by, json!({}));
    }

    /// Deletes a fork: pull requests from there have no head repository any more.
    pub fn delete_fork(&self, full_name: &str) {
        self.change(|world| {
            let id = world.repo(full_name).expect("there is such a repository").id;
            world.repos.remove(&id);
            let pulls = world.repos.values_mut().flat_map(|repo| repo.pulls.values_mut());
            pulls.filter(|pull| pull.head_repo == Some(id)).for_each(|pull| pull.head_repo = None);
        });
    }
}
