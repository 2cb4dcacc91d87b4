//! What a connection lacks: permissions, events, deliveries, and a GitHub environment that is not free for us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use planner::resource::Failure;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::As;
use super::connect::{EVENTS, PERMISSIONS};
use super::forge::GitHubForge;
use super::{Access, GitHub};

/// Pages of a hundred deliveries that are looked through at most.
const PAGES: usize = 20;

/// One line about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Nothing has to be done.
    pub good: bool,
    /// What, and what to do.
    pub line: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Granted {
    slug: Option<String>,
    permissions: BTreeMap<String, String>,
    events: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Hook {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Sent {
    id: u64,
    guid: String,
    delivered_at: String,
    status_code: u16,
    #[serde(default)]
    event: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Environment {
    protection_rules: Vec<Value>,
    deployment_branch_policy: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Deployed {
    #[serde(default)]
    payload: Value,
}

fn good(line: impl Into<String>) -> Finding {
    Finding { good: true, line: line.into() }
}

fn bad(line: impl Into<String>) -> Finding {
    Finding { good: false, line: line.into() }
}

impl GitHub {
    /// What is there and what is missing, for the operator. `console`: where webhooks ought to go; `environments`: what
    /// each project's deployments are shown as, if they are.
    pub async fn inspect(
        &self,
        console: &str,
        environments: &BTreeMap<planner::identity::ProjectName, String>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self.settings.access {
            Access::App { .. } => match self.inspect_app(console).await {
                Ok(found) => findings.extend(found),
                Err(failure) => findings.push(bad(failure.to_string())),
            },
            Access::Token(_) => findings.push(good(
                "by a token: polled every minute; comments, deployments and statuses are those of its account",
            )),
            Access::Nobody => {}
        }
        for (project, forge) in self.forges() {
            let found = self.inspect_project(&forge, environments.get(&project).map(String::as_str)).await;
            match found {
                Ok(found) => findings.extend(
                    found.into_iter().map(|found| Finding { line: format!("{project}: {}", found.line), ..found }),
                ),
                Err(failure) => findings.push(bad(format!("{project}: {failure}"))),
            }
        }
        findings
    }

    async fn inspect_app(&self, console: &str) -> Result<Vec<Finding>, Failure> {
        let app: Granted = self.client.get(As::App, "/app").await?.json()?;
        let mut findings = vec![good(format!("the App {} is known", app.slug.as_deref().unwrap_or("without a name")))];
        findings.extend(lacking(&app, "the App"));
        if !self.is_told() {
            findings.push(bad("no webhook_secret_file: deliveries are refused, and changes are seen by polling alone"));
            return Ok(findings);
        }
        let hook: Hook = self.client.get(As::App, "/app/hook/config").await?.json()?;
        let wanted = format!("{}/webhooks/github", console.trim_end_matches('/'));
        match hook.url {
            Some(url) if url == wanted => findings.push(good(format!("webhooks go to {url}"))),
            Some(url) => findings.push(bad(format!("webhooks go to {url}; they ought to go to {wanted}"))),
            None => findings.push(bad(format!("the App has no webhook URL: set {wanted}"))),
        }
        if hook.content_type.as_deref().is_some_and(|kind| kind != "json") {
            findings.push(bad("the webhook's content type must be application/json"));
        }
        let sent = self.sent(SystemTime::now() - Duration::from_secs(24 * 3600)).await?;
        let lost = lost(&sent);
        match (sent.len(), lost.first()) {
            (0, _) => findings.push(bad("nothing was delivered in the last day: is the webhook active?")),
            (all, None) => findings.push(good(format!("{all} deliveries in the last day, none lost"))),
            (all, Some(first)) => findings.push(bad(format!(
                "{} of {all} deliveries of the last day were lost, such as {} with status {}: can GitHub reach {wanted}?",
                lost.len(),
                first.event,
                first.status_code
            ))),
        }
        Ok(findings)
    }

    async fn inspect_project(&self, forge: &GitHubForge, environment: Option<&str>) -> Result<Vec<Finding>, Failure> {
        let repository = forge.repository().await?;
        let mut findings = vec![good(format!("{} is reached", repository.full()))];
        if !repository.full().eq_ignore_ascii_case(&forge.watched.repository) {
            findings.push(bad(format!(
                "{} is called {} now: write that in the configuration",
                forge.watched.repository,
                repository.full()
            )));
        }
        if let As::Installation(_) = repository.who {
            let path = format!("/repos/{}/installation", repository.full());
            let granted: Granted = self.client.get(As::App, &path).await?.json()?;
            findings.extend(lacking(&granted, "the installation"));
        }
        if let Some(environment) = environment {
            findings.extend(self.inspect_environment(&repository, environment).await?);
        }
        Ok(findings)
    }

    async fn inspect_environment(
        &self,
        repository: &super::repository::Repository,
        environment: &str,
    ) -> Result<Vec<Finding>, Failure> {
        let mut findings = Vec::new();
        let path = repository.path(&format!("/environments/{environment}"));
        let answer = self.client.get(repository.who, &path).await?;
        // Forbidden: whoever may not read environments is not told whether it has rules.
        if answer.status.is_success() {
            let told: Environment = answer.json()?;
            if !told.protection_rules.is_empty()
                || told.deployment_branch_policy.is_some_and(|policy| !policy.is_null())
            {
                findings.push(bad(format!(
                    "the GitHub environment {environment:?} has rules of its own: choose another with report.environment"
                )));
            }
        } else if answer.status != StatusCode::NOT_FOUND && answer.status != StatusCode::FORBIDDEN {
            return Err(answer.refusal());
        }
        let path = repository.path(&format!("/deployments?environment={environment}&per_page=100"));
        let answer = self.client.get(repository.who, &path).await?;
        if answer.status == StatusCode::FORBIDDEN {
            findings.push(bad("deployments may not be read: grant the permission deployments, write"));
            return Ok(findings);
        }
        let made: Vec<Deployed> = answer.json()?;
        let instance = &self.settings.instance;
        let foreign = made.iter().filter(|made| {
            let payload = match &made.payload {
                Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                other => other.clone(),
            };
            payload.get("instance").and_then(Value::as_str) != Some(instance)
        });
        match foreign.count() {
            0 => findings.push(good(format!("the GitHub environment {environment:?} is free for us"))),
            some => findings.push(bad(format!(
                "the GitHub environment {environment:?} has {some} deployments of others: choose another with \
                 report.environment; theirs are never touched"
            ))),
        }
        Ok(findings)
    }

    /// Has GitHub deliver again what was lost since then: while we were away nobody took it. Returns how many.
    ///
    /// # Errors
    /// GitHub does not answer, or the webhook is not an App's.
    pub async fn redeliver(&self, since: SystemTime) -> Result<usize, Failure> {
        if !matches!(self.settings.access, Access::App { .. }) || !self.is_told() {
            return Ok(0);
        }
        let sent = self.sent(since).await?;
        let lost = lost(&sent);
        for delivery in &lost {
            let path = format!("/app/hook/deliveries/{}/attempts", delivery.id);
            let answer = self.client.rest(As::App, Method::POST, &path, None).await?;
            if !answer.status.is_success() {
                return Err(answer.refusal());
            }
        }
        Ok(lost.len())
    }

    /// Deliveries since then, the newest first.
    async fn sent(&self, since: SystemTime) -> Result<Vec<Sent>, Failure> {
        let since = OffsetDateTime::from(since);
        let (mut path, mut all) = (Some("/app/hook/deliveries?per_page=100".to_owned()), Vec::new());
        for _ in 0..PAGES {
            let Some(next) = path else { break };
            let answer = self.client.get(As::App, &next).await?;
            let page: Vec<Sent> = answer.json()?;
            let recent = |sent: &Sent| OffsetDateTime::parse(&sent.delivered_at, &Rfc3339).is_ok_and(|at| at >= since);
            let before = page.len();
            let page: Vec<Sent> = page.into_iter().filter(recent).collect();
            path = (page.len() == before).then(|| answer.next(self.client.base())).flatten();
            all.extend(page);
        }
        Ok(all)
    }
}

/// Deliveries of which no attempt was taken: each once, by its newest attempt.
fn lost(sent: &[Sent]) -> Vec<&Sent> {
    let taken: BTreeSet<&str> =
        sent.iter().filter(|sent| (200..300).contains(&sent.status_code)).map(|sent| sent.guid.as_str()).collect();
    let mut seen = BTreeSet::new();
    sent.iter().filter(|sent| !taken.contains(sent.guid.as_str()) && seen.insert(sent.guid.as_str())).collect()
}

/// Permissions and events that are missing, a line each.
fn lacking(granted: &Granted, whose: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let level = |level: &str| ["read", "write", "admin"].iter().position(|known| *known == level);
    for (name, needed, what_for) in PERMISSIONS {
        let held = granted.permissions.get(name).and_then(|held| level(held));
        // Whoever may write checks sees statuses of them; a status of old is asked for by itself.
        if held < level(needed) {
            findings.push(bad(format!("{whose} lacks the permission {name}, {needed}: {what_for}")));
        }
    }
    for event in EVENTS {
        if !granted.events.contains(event) {
            findings.push(bad(format!("{whose} is not told of the event {event}: subscribe to it")));
        }
    }
    findings
}
