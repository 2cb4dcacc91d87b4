//! What people may: every role, every failure, nobody by accident.

use planner::command::Role;
use planner::forge::Person;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use drivers::Forge;
use drivers::github::{Access, GitHub, GitHubForge, Hidden, Settings};
use serde_json::{Value, json};

use super::{INSTANCE, SHOP, watched};

/// A GitHub that says of everybody what it was told to say.
struct Says {
    private: bool,
    status: u16,
    permission: Value,
    member: Value,
}

async fn forge(says: Says, approvers: &str) -> (Arc<GitHubForge>, tempfile::TempDir, tokio::task::JoinHandle<()>) {
    let repository = json!({
        "id": 7, "node_id": "R_7", "name": "shop", "owner": { "login": "acme" }, "private": says.private,
    });
    let answer = move |status: u16, body: Value| -> Response {
        (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
    };
    let (permission, status, member) = (says.permission, says.status, says.member);
    let of_member = if member.is_null() { 404 } else { 200 };
    let router = Router::new()
        .route("/api/v3/repos/acme/shop", get(move || async move { answer(200, repository) }))
        .route(
            "/api/v3/repositories/7/collaborators/{login}/permission",
            get(move || async move { answer(status, permission) }),
        )
        .route(
            "/api/v3/orgs/acme/teams/leads/memberships/{login}",
            get(move || async move { answer(of_member, member) }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let access = Access::Token(Hidden("a token".to_owned()));
    let github = GitHub::new(Settings { url, access, webhook_secrets: Vec::new(), instance: INSTANCE.to_owned() });
    let folder = tempfile::tempdir().unwrap();
    let mut watched = watched("shop", SHOP, folder.path());
    watched.approvers = approvers.parse().unwrap();
    (github.unwrap().forge(watched), folder, server)
}

fn permission(permission: &str, role_name: &str, id: u64) -> Value {
    json!({ "permission": permission, "role_name": role_name, "user": { "id": id, "login": "ada" } })
}

async fn role(says: Says, approvers: &str) -> Result<Option<Role>, String> {
    let (forge, _folder, server) = forge(says, approvers).await;
    let role = forge.role(&Person { id: 5, login: "ada".to_owned() }).await;
    server.abort();
    role.map_err(|failure| failure.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_what_github_names_them_and_anything_else_is_less() {
    let table = [
        // permission, role_name, approvers, public, private
        ("admin", "admin", "write", Some(Role::Admin), Some(Role::Admin)),
        ("write", "maintain", "write", Some(Role::Approve), Some(Role::Approve)),
        ("write", "maintain", "maintain", Some(Role::Approve), Some(Role::Approve)),
        ("write", "maintain", "admin", Some(Role::Write), Some(Role::Write)),
        ("write", "write", "write", Some(Role::Approve), Some(Role::Approve)),
        ("write", "write", "maintain", Some(Role::Write), Some(Role::Write)),
        ("write", "security-reviewer", "write", Some(Role::Write), Some(Role::Write)),
        ("read", "triage", "write", Some(Role::Look), Some(Role::Look)),
        ("read", "read", "write", None, Some(Role::Look)),
        ("read", "helper", "write", None, Some(Role::Look)),
        ("none", "none", "write", None, None),
        ("admin", "all-powerful", "write", None, None),
        ("owner", "owner", "write", None, None),
    ];
    for (old, name, approvers, public, private) in table {
        for (is_private, expected) in [(false, public), (true, private)] {
            let says =
                Says { private: is_private, status: 200, permission: permission(old, name, 5), member: Value::Null };
            assert_eq!(role(says, approvers).await, Ok(expected), "{old} {name} {approvers} private: {is_private}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_a_plain_yes_is_a_no() {
    let says = |status, permission| Says { private: true, status, permission, member: Value::Null };
    assert_eq!(role(says(404, json!({})), "write").await, Ok(None));
    assert_eq!(
        role(says(200, permission("admin", "admin", 6)), "write").await,
        Ok(None),
        "another person's name by now"
    );
    let mut nobody = permission("admin", "admin", 5);
    nobody["user"] = Value::Null;
    assert_eq!(role(says(200, nobody), "write").await, Ok(None));
    for (status, body) in
        [(500, json!({})), (403, json!({ "message": "no" })), (200, json!({})), (200, json!("<html>"))]
    {
        assert!(role(says(status, body.clone()), "write").await.is_err(), "{status} {body}");
    }
    let (forge, _folder, server) = forge(says(200, permission("admin", "admin", 5)), "write").await;
    for login in ["../../../user", "a/b", "a?b=c", "a#b", ""] {
        let person = Person { id: 5, login: login.to_owned() };
        assert_eq!(forge.role(&person).await.unwrap(), None, "{login}");
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_approves_if_it_may_write() {
    let says = |old: &str, name: &str, member: Value| Says {
        private: false,
        status: 200,
        permission: permission(old, name, 5),
        member,
    };
    let active = || json!({ "state": "active", "role": "member" });
    assert_eq!(role(says("write", "write", active()), "team:acme/leads").await, Ok(Some(Role::Approve)));
    assert_eq!(role(says("write", "write", Value::Null), "team:acme/leads").await, Ok(Some(Role::Write)));
    assert_eq!(
        role(says("write", "write", json!({ "state": "pending" })), "team:acme/leads").await,
        Ok(Some(Role::Write))
    );
    assert_eq!(
        role(says("read", "read", active()), "team:acme/leads").await,
        Ok(None),
        "who may not write approves nothing"
    );
}
