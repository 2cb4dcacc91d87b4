//! Making a GitHub App by its manifest: the operator follows one link and presses one button, and GitHub hands us the key.

use std::net::IpAddr;

use http::{Method, StatusCode};
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{As, Client};
use super::{Access, Hidden};
use crate::git::clean;

/// What an App must be allowed, least first, with what for. Never administration.
pub(super) const PERMISSIONS: [(&str, &str, &str); 6] = [
    ("metadata", "read", "to know the repository and who may do what in it"),
    ("contents", "read", "to fetch commits"),
    ("pull_requests", "write", "to list pull requests and to comment on them"),
    ("checks", "write", "to show a check with a button, and to wait for CI"),
    ("statuses", "read", "to wait for CI"),
    ("deployments", "write", "to show the 'View deployment' button"),
];
/// What an App must be told of.
pub(super) const EVENTS: [&str; 9] =
    ["pull_request", "push", "create", "delete", "issue_comment", "check_run", "check_suite", "status", "repository"];

/// An App that GitHub has just made.
#[derive(Debug)]
pub struct Made {
    /// Its number.
    pub id: u64,
    /// Its name in URLs.
    pub slug: String,
    /// Its page, where it is installed.
    pub page: String,
    /// Its private key in PEM.
    pub key: Hidden,
    /// The secret of its webhook, unless it has none.
    pub webhook_secret: Option<Hidden>,
}

#[derive(Deserialize)]
struct Conversion {
    id: u64,
    slug: String,
    html_url: String,
    pem: String,
    #[serde(default)]
    webhook_secret: Option<String>,
}

/// What the App is to be. `console`: where people reach us; webhooks go there too, if GitHub, which is at `web`, can reach it.
/// `merge`: whether Sidestage may merge. Adding that later needs the consent of everybody who installed the App.
#[must_use]
pub fn manifest(name: &str, console: &str, web: &str, merge: bool, team: bool) -> Value {
    let console = console.trim_end_matches('/');
    let mut permissions: serde_json::Map<String, Value> =
        PERMISSIONS.iter().map(|(name, level, _)| ((*name).to_owned(), json!(level))).collect();
    if merge {
        permissions.insert("contents".to_owned(), json!("write"));
    }
    if team {
        permissions.insert("members".to_owned(), json!("read"));
    }
    json!({
        "name": name,
        "url": "https://github.com/",
        "hook_attributes": { "url": format!("{console}/webhooks/github"), "active": is_reachable(console, web) },
        "redirect_url": format!("{console}/github/connected"),
        "public": false,
        "default_permissions": permissions,
        "default_events": EVENTS,
    })
}

/// Where the manifest is to be sent: of a person's own account, or of an organisation.
#[must_use]
pub fn form_url(web: &str, organisation: Option<&str>, state: &str) -> String {
    let web = web.trim_end_matches('/');
    match organisation {
        Some(organisation) => format!("{web}/organizations/{organisation}/settings/apps/new?state={state}"),
        None => format!("{web}/settings/apps/new?state={state}"),
    }
}

/// How far a host can be reached from.
#[derive(PartialEq, Eq)]
enum Reach {
    Machine,
    Network,
    World,
}

fn reach(url: &str) -> Reach {
    let host = url.split("://").nth(1).unwrap_or(url);
    let host = host.split('/').next().unwrap_or(host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    match host.parse() {
        _ if host == "localhost" || host.ends_with(".localhost") => Reach::Machine,
        Ok(ip) if IpAddr::is_loopback(&ip) => Reach::Machine,
        Ok(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => Reach::Network,
        _ => Reach::World,
    }
}

/// Whether GitHub can send anything there: what only this machine or this network knows leads nowhere from outside. An
/// Enterprise Server's name does not say where it stands, so it may be near.
#[must_use]
pub fn is_reachable(console: &str, web: &str) -> bool {
    match reach(console) {
        Reach::World => true,
        Reach::Network => !web.trim_end_matches('/').ends_with("://github.com"),
        Reach::Machine => reach(web) == Reach::Machine,
    }
}

/// Takes the App in exchange for the code that GitHub sent the browser back with. A code is good once, for an hour.
///
/// # Errors
/// Permanent: the code is not good. Transient: GitHub does not answer.
pub async fn exchange(web: &str, code: &str) -> Result<Made, Failure> {
    if code.is_empty() || code.len() > 200 || !code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Failure::permanent("GitHub's code is no code: begin again"));
    }
    // Nobody yet: the code itself is what lets in.
    let client = Client::new(web, &Access::Nobody).map_err(Failure::permanent)?;
    let answer = client.rest(As::Account, Method::POST, &format!("/app-manifests/{code}/conversions"), None).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::permanent(
            "GitHub does not know the code: it was used, or is older than an hour; begin again",
        ));
    }
    let told: Conversion = answer.json()?;
    Ok(Made {
        id: told.id,
        slug: clean(&told.slug, 100),
        page: clean(&told.html_url, 300),
        key: Hidden(told.pem),
        webhook_secret: told.webhook_secret.filter(|secret| !secret.is_empty()).map(Hidden),
    })
}
