//! Registries: the operator's accounts, pulling, and what a registry's refusal means.
//!
//! The engine talks to them, with its own proxies, mirrors and certificates; we read its answers, since it hands on
//! what the registry said as text.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use planner::resource::Failure;

use super::{Docker, is_absent, one_line};
use crate::Log;

/// An account at a registry, for images by CI, bases of builds and companions' images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// As in references: `ghcr.io`, `registry.example.org:5000`, `docker.io`.
    pub host: String,
    /// Who signs in.
    pub user: String,
    /// A file whose first line is the password or token, mode 0600. Read whenever it is needed.
    pub password_file: PathBuf,
}

/// An account with its password, for the length of one call.
pub(super) struct Account {
    /// As [`canonical_host`] says.
    pub(super) host: String,
    pub(super) user: String,
    pub(super) password: String,
}

/// One name for one registry: the public one goes by several.
pub(super) fn canonical_host(host: &str) -> &str {
    let host = host.trim_start_matches("https://").trim_end_matches('/');
    match host {
        "index.docker.io" | "registry-1.docker.io" | "index.docker.io/v1" => "docker.io",
        host => host,
    }
}

/// The registry that a reference names; `docker.io` if it names none.
pub(super) fn host_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => canonical_host(host),
        _ => "docker.io",
    }
}

/// Name and tag or digest of a reference, as the engine wants them.
fn parts_of(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        _ if reference.contains('@') => (reference, ""),
        Some((image, tag)) if !tag.contains('/') => (image, tag),
        _ => (reference, "latest"),
    }
}

/// The reference without tag and digest.
pub(super) fn name_of(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    parts_of(name).0
}

/// What a registry's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// There is no such image.
    Absent,
    /// The account, or nobody, may not have it.
    Refused,
    /// Too often.
    Busy,
    /// What answers is no registry.
    NoRegistry,
    /// Its certificate is not one that the engine trusts.
    Tls,
    /// No answer.
    Away,
    /// Anything else.
    Other,
}

impl Answer {
    /// Read from the engine's text, which is all that is left of status and headers.
    fn read(message: &str) -> Answer {
        let text = message.to_ascii_lowercase();
        let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        if any(&["toomanyrequests", "too many requests", "status code 429", "http 429", "429 too many"]) {
            Answer::Busy
        } else if text.contains("error parsing http 5") {
            Answer::Other
        } else if any(&["invalid character '<'", "error parsing http", "<html", "unexpected media type text/html"]) {
            Answer::NoRegistry
        } else if any(&["x509:", "tls:", "gave http response to https client", "certificate"]) {
            Answer::Tls
        } else if any(&["unauthorized", "no basic auth", "denied", "forbidden", "authentication required"]) {
            Answer::Refused
        } else if any(&["manifest unknown", "name unknown", "not found", "repository_unknown"])
            && !text.contains("lookup")
        {
            Answer::Absent
        } else if any(&["connection refused", "no such host", "timeout", "deadline exceeded", "no route to host"])
            || any(&["lookup", "connection reset", "eof", "dial tcp", "network is unreachable"])
        {
            Answer::Away
        } else {
            Answer::Other
        }
    }
}

/// What the registry said, in one line with the way out.
pub(super) fn refusal(reference: &str, user: Option<&str>, message: &str) -> Failure {
    let host = host_of(reference);
    let said: String = one_line(&super::output::plain(message)).chars().take(300).collect();
    match (Answer::read(message), user) {
        (Answer::Absent, _) => Failure::waiting(format!("waiting for {reference}")),
        (Answer::Busy, None) => Failure::waiting(format!(
            "waiting for {reference}: {host} takes no more requests for now; an account in [[registry]] is allowed more"
        )),
        (Answer::Busy, Some(user)) => {
            Failure::waiting(format!("waiting for {reference}: {host} takes no more requests of {user} for now"))
        }
        (Answer::Refused, None) => Failure::permanent(format!(
            "{host} does not give {reference} to just anybody: name an account for {host} in [[registry]] ({said})"
        )),
        (Answer::Refused, Some(user)) => Failure::permanent(format!(
            "{host} refuses {reference} to {user}: check the password in [[registry]], and that {user} may read it ({said})"
        )),
        (Answer::NoRegistry, _) => Failure::permanent(format!(
            "what answers at {host} is no container registry; check the host in {reference} ({said})"
        )),
        (Answer::Tls, _) => Failure::permanent(format!(
            "the engine does not trust the certificate of {host}, or it speaks plain HTTP; put its CA into \
             /etc/docker/certs.d/{host}/ca.crt, or {host} into the engine's insecure-registries ({said})"
        )),
        (Answer::Away, _) => Failure::transient(format!("{host} cannot be reached for {reference}: {said}")),
        (Answer::Other, _) => Failure::transient(format!("{host} did not give {reference}: {said}")),
    }
}

impl Docker {
    /// The account at the registry of this reference, if the operator named one.
    pub(super) fn account(&self, reference: &str) -> Result<Option<Account>, Failure> {
        let host = host_of(reference);
        let known = self.settings().registries.iter().find(|known| canonical_host(&known.host) == host);
        known.map(Account::read).transpose()
    }

    /// All accounts. One whose password cannot be read is left out with a line.
    pub(super) fn accounts(&self, log: &Log) -> Vec<Account> {
        let read = self.settings().registries.iter().map(Account::read);
        let told = |account: Result<Account, Failure>| {
            account.map_err(|failure| log.line(&format!("note: signing in is not possible: {failure}"))).ok()
        };
        read.filter_map(told).collect()
    }

    /// Whether the image is on the machine.
    pub(super) async fn is_here(&self, reference: &str) -> Result<bool, Failure> {
        match self.engine().await?.inspect_image(reference).await {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(self.fail("looking at the image", &error)),
        }
    }

    /// Pulls an image, with the account that the operator named for its registry.
    pub(super) async fn pull(&self, reference: &str, log: &Log) -> Result<(), Failure> {
        log.line(&format!("pulling {reference}"));
        let account = self.account(reference)?;
        let (image, tag) = parts_of(reference);
        let options = CreateImageOptionsBuilder::default().from_image(image).tag(tag).build();
        let credentials = account.as_ref().map(Account::credentials);
        let mut told = self.engine().await?.create_image(Some(options), None, credentials);
        while let Some(news) = told.next().await {
            news.map_err(|error| self.pull_failure(reference, account.as_ref(), &error))?;
        }
        Ok(())
    }

    /// What a registry said, or that the engine itself does not answer.
    pub(super) fn pull_failure(&self, reference: &str, account: Option<&Account>, error: &Error) -> Failure {
        let message = match error {
            Error::DockerStreamError { error } => error,
            Error::DockerResponseServerError { message, .. } => message,
            other => return self.fail("pulling the image", other),
        };
        refusal(reference, account.map(|account| account.user.as_str()), message)
    }
}

impl Account {
    fn read(known: &Registry) -> Result<Account, Failure> {
        let refuse = |why: &str| {
            let file = known.password_file.display();
            Failure::permanent(format!("the password file of {} for {}, {file}, {why}", known.user, known.host))
        };
        let unread = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => refuse("does not exist"),
            _ => refuse(&format!("cannot be read: {error}")),
        };
        let mode = std::fs::metadata(&known.password_file).map_err(unread)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refuse(&format!("has mode {:04o}, so others can read it: make it 0600", mode & 0o7777)));
        }
        let text = std::fs::read_to_string(&known.password_file).map_err(unread)?;
        let password = text.lines().next().unwrap_or_default().trim().to_owned();
        let host = canonical_host(&known.host).to_owned();
        Ok(Account { host, user: known.user.clone(), password })
    }

    pub(super) fn credentials(&self) -> DockerCredentials {
        let server = if self.host == "docker.io" { "https://index.docker.io/v1/" } else { &self.host };
        DockerCredentials {
            username: Some(self.user.clone()),
            password: Some(self.password.clone()),
            serveraddress: Some(server.to_owned()),
            ..DockerCredentials::default()
        }
    }
}

/// As the classic builder wants them: by the name that it knows a registry by.
pub(super) fn by_server(accounts: &[Account]) -> HashMap<String, DockerCredentials> {
    let named = |account: &Account| {
        let credentials = account.credentials();
        (credentials.serveraddress.clone().unwrap_or_default(), credentials)
    };
    accounts.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_their_registry() {
        for (reference, host, parts) in [
            ("redis:7", "docker.io", ("redis", "7")),
            ("acme/shop", "docker.io", ("acme/shop", "latest")),
            ("ghcr.io/acme/shop:sha-1", "ghcr.io", ("ghcr.io/acme/shop", "sha-1")),
            ("localhost:5000/a", "localhost:5000", ("localhost:5000/a", "latest")),
            ("registry-1.docker.io/a/b", "docker.io", ("registry-1.docker.io/a/b", "latest")),
            ("a/b@sha256:00", "docker.io", ("a/b@sha256:00", "")),
        ] {
            assert_eq!((host_of(reference), parts_of(reference)), (host, parts), "{reference}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        for (message, answer) in [
            ("manifest for x:1 not found: manifest unknown: manifest unknown", Answer::Absent),
            ("Get \"https://x/v2/\": dial tcp: lookup x: no such host", Answer::Away),
            ("pull access denied for x, repository does not exist or may require 'docker login'", Answer::Refused),
            ("unauthorized: authentication required", Answer::Refused),
            ("toomanyrequests: You have reached your pull rate limit", Answer::Busy),
            ("error parsing HTTP 429 response body: invalid character '<' looking for", Answer::Busy),
            ("error parsing HTTP 404 response body: invalid character '<' looking for", Answer::NoRegistry),
            ("error parsing HTTP 502 response body: invalid character '<' looking for", Answer::Other),
            ("http: server gave HTTP response to HTTPS client", Answer::Tls),
            ("x509: certificate signed by unknown authority", Answer::Tls),
            ("received unexpected HTTP status: 500 Internal Server Error", Answer::Other),
        ] {
            assert_eq!(Answer::read(message), answer, "{message}");
        }
    }
}
