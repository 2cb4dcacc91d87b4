//! A PostgreSQL of the operator's, named by a URL, in place of the one that Sidestage runs itself. Sidestage is no superuser
//! there: it may make databases and roles, belongs to each role that it makes, and touches nothing else. What it needs is
//! tried at the start, see `privileges`; environments reach it through `passthrough`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use planner::identity::InstanceKey;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::error::ServerError;
use super::installed::{Account, Installed};
use super::passthrough::Route;
use super::privileges::{self, Granted};
use super::tools::Tools;

/// What the certificate authorities of this machine are to `psql`, which by itself asks its user's own file only.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Which server it is, and who we are there.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// `postgres://role@host:port/database?sslmode=…`, as [`UpstreamSettings::check`] wants it.
    pub url: String,
    /// The role's password.
    pub password: Option<String>,
    /// Extensions that manifests may name.
    pub extensions: BTreeSet<String>,
}

impl UpstreamSettings {
    /// Whether the URL names a server over the network and a role, and holds no password.
    ///
    /// # Errors
    /// One line: what is wrong with it.
    pub fn check(url: &str) -> Result<(), String> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("it must look like \"postgres://sidestage@db.example.org/postgres\"".to_owned());
        }
        let (authority, parameters) = (authority(url), parameters(url));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') || parameters.contains_key("password") {
            return Err(
                "it holds a password: put that into a file of mode 0600 and name it in password_file".to_owned()
            );
        }
        if user.is_empty() && !parameters.contains_key("user") {
            return Err("it names no role: write \"postgres://ROLE@…\"".to_owned());
        }
        let host = parameters.get("host").map_or(host, String::as_str);
        if host.is_empty() || host.starts_with(['/', ':', '%']) {
            return Err("it names no host: environments reach the server over the network only".to_owned());
        }
        options(url).map(drop)
    }

    /// How Sidestage itself connects, to the database of the URL.
    fn admin(&self) -> Result<PgConnectOptions, ServerError> {
        let refused = |said: String| ServerError::Upstream { server: "the URL".to_owned(), said };
        Self::check(&self.url).map_err(refused)?;
        let options = options(&self.url).map_err(refused)?;
        let options = match &self.password {
            Some(password) => options.password(password),
            None => options,
        };
        let database = options.get_database().unwrap_or("postgres").to_owned();
        Ok(options.database(&database).application_name("sidestage"))
    }
}

/// A server of the operator's that has been looked at, and lets us do what we have to.
#[derive(Debug)]
pub struct Upstream {
    pub(super) admin: PgConnectOptions,
    pub(super) extensions: BTreeSet<String>,
    pub(super) tools: Tools,
    pub(super) granted: Granted,
    pub(super) route: Route,
}

impl Upstream {
    /// Connects, and tries all that the instance with this key will have to do there. Nothing of that stays.
    ///
    /// # Errors
    /// What is missing, with the statement that gives it.
    pub async fn open(settings: UpstreamSettings, key: &InstanceKey) -> Result<Upstream, ServerError> {
        let admin = settings.admin()?;
        let parameters = parameters(&settings.url);
        let tools = Tools {
            bin: Installed::client(),
            account: Account::find("postgres").or_else(|_| Account::find("nobody"))?,
            home: PathBuf::from("/"),
            reach: admin.clone().options([("client_min_messages", "error")]),
            encryption: encryption(&admin, &parameters),
        };
        let route = Route::new(&admin, parameters.get("sslrootcert").map(Path::new))?;
        let granted = privileges::probe(&admin, &tools, key).await?;
        for lack in &granted.lacks {
            tracing::info!(server = admin.get_host(), "the database server cannot {lack}");
        }
        Ok(Upstream { admin, extensions: settings.extensions, tools, granted, route })
    }

    /// The folder of the client's programs, `psql` and `pg_dump` among them.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.tools.bin
    }

    /// What it cannot give, unlike a server that Sidestage runs itself, and how some of that could be had.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        &self.granted.lacks
    }
}

/// The same encryption for programs of PostgreSQL's own, by their variables.
fn encryption(options: &PgConnectOptions, parameters: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    };
    let root = parameters.get("sslrootcert").cloned().unwrap_or_else(|| AUTHORITIES.to_owned());
    let mut variables = vec![("PGSSLMODE", mode.to_owned())];
    // With a root certificate `require` would verify, which sqlx does not do either.
    if mode.starts_with("verify") {
        variables.push(("PGSSLROOTCERT", root));
    }
    variables
}

/// The URL as the client reads it. Its errors wrap each other in the same words.
fn options(url: &str) -> Result<PgConnectOptions, String> {
    url.parse()
        .map_err(|error: sqlx::Error| error.to_string().replace("error with configuration: ", "").replace('\n', " "))
}

/// User, host and port of a URL.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default()
}

/// What stands behind the question mark. Of the names that a parameter has, libpq's.
fn parameters(url: &str) -> BTreeMap<String, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| match decoded(name).as_str() {
            "ssl-root-cert" | "ssl-ca" => ("sslrootcert".to_owned(), decoded(value)),
            name => (name.to_owned(), decoded(value)),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_role_and_host_and_no_password() {
        for fine in
            ["postgres://a@db/postgres", "postgresql://db:6432/x?user=a&sslmode=verify-full&sslrootcert=/ca.pem"]
        {
            UpstreamSettings::check(fine).unwrap_or_else(|why| panic!("{fine}: {why}"));
        }
        for (url, why) in [
            ("mysql://a@db/x", "must look like"),
            ("postgres://a:secret@db/x", "password_file"),
            ("postgres://a@db/x?password=secret", "password_file"),
            ("postgres://db/x", "names no role"),
            ("postgres://a@/x", "names no host"),
            ("postgres://a@%2Frun%2Fpostgresql/x", "names no host"),
            ("postgres://a@db/x?host=/run/postgresql", "names no host"),
            ("postgres://a@db/x?sslmode=always", "unknown value \"always\" for `ssl_mode`"),
        ] {
            let said = UpstreamSettings::check(url).expect_err(url);
            assert!(said.contains(why) && !said.contains("secret") && !said.contains('\n'), "{url}: {said}");
        }
    }

    #[test]
    fn programs_are_told_of_the_certificate_as_they_name_it() {
        let told = |url: &str| encryption(&url.parse().unwrap(), &parameters(url));
        let verified = told("postgres://a@db/x?sslmode=verify-full&ssl-ca=%2Fetc%2Fca.pem");
        assert_eq!(verified, [("PGSSLMODE", "verify-full".to_owned()), ("PGSSLROOTCERT", "/etc/ca.pem".to_owned())]);
        assert_eq!(told("postgres://a@db/x?sslmode=require"), [("PGSSLMODE", "require".to_owned())]);
    }
}
