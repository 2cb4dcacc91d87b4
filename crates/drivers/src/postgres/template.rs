//! Sealed templates: what databases of environments are copied from. One for each baseline version, and one for each set
//! of extensions that a manifest asks for on top of it. Extensions are made here, by the administrator, in a database that
//! no tenant has ever touched; in an environment's own, tenants could have laid traps for a superuser.

use std::collections::BTreeSet;

use data_encoding::BASE32_NOPAD;
use planner::resource::Failure;
use sha2::{Digest, Sha256};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::{DEFAULT, Postgres, drop_database, exists, failure, registry, run};
use crate::Log;

/// Extensions that work only when the server loads their library at its start.
pub(super) const PRELOADED: [&str; 1] = ["pg_stat_statements"];

/// Extensions that do not come with PostgreSQL itself, and the end of the name of Debian's package of each.
const PACKAGES: [(&str, &str); 6] = [
    ("vector", "pgvector"),
    ("postgis", "postgis-3"),
    ("timescaledb", "timescaledb"),
    ("pg_cron", "cron"),
    ("pgaudit", "pgaudit"),
    ("hypopg", "hypopg"),
];

/// What a template holds: a baseline's version and extensions. Its text is the key of its row.
pub(super) fn version(baseline: &str, extensions: &BTreeSet<String>) -> String {
    if extensions.is_empty() {
        return baseline.to_owned();
    }
    let names: Vec<&str> = extensions.iter().map(String::as_str).collect();
    format!("{baseline}+{}", names.join(","))
}

impl Postgres {
    /// The database to copy, made when absent.
    pub(super) async fn template(
        &self,
        registry: &mut PgConnection,
        baseline: &str,
        extensions: &BTreeSet<String>,
        log: &Log,
    ) -> Result<String, Failure> {
        let version = version(baseline, extensions);
        if extensions.is_empty() {
            let known = registry::sealed(registry, &version).await.map_err(failure)?;
            return known.ok_or_else(|| Failure::permanent(format!("there is no baseline {baseline} in PostgreSQL")));
        }
        registry::lock(registry, &version).await.map_err(failure)?;
        let made = match registry::sealed(registry, &version).await.map_err(failure)? {
            Some(database) if exists(registry, &database).await.map_err(failure)? => Ok(database),
            _ => self.extend(registry, baseline, extensions, log).await,
        };
        registry::unlock(registry, &version).await.map_err(failure)?;
        made
    }

    /// Makes the template of a baseline with extensions. Its row is written last, so one without a row is half made.
    async fn extend(
        &self,
        registry: &mut PgConnection,
        baseline: &str,
        extensions: &BTreeSet<String>,
        log: &Log,
    ) -> Result<String, Failure> {
        let from = registry::sealed(registry, baseline).await.map_err(failure)?;
        let from = from.ok_or_else(|| Failure::permanent(format!("there is no baseline {baseline} in PostgreSQL")))?;
        installed(registry, extensions).await?;
        let version = version(baseline, extensions);
        let database = registry::extended(&self.key, &version);
        log.line(&format!("template of {baseline} with {}", list(extensions)));
        let closed = async |registry: &mut PgConnection| {
            drop_database(registry, &database).await?;
            run(registry, format!("CREATE DATABASE \"{database}\" TEMPLATE \"{from}\"")).await?;
            run(registry, format!("REVOKE ALL ON DATABASE \"{database}\" FROM PUBLIC")).await
        };
        closed(registry).await.map_err(failure)?;
        let mut inside = self.server.clone().database(&database).connect().await.map_err(failure)?;
        if let Err(refused) = create(&mut inside, extensions).await {
            let _ = inside.close().await;
            let _ = drop_database(registry, &database).await;
            return Err(refused);
        }
        inside.close().await.map_err(failure)?;
        seal(registry, &database, &version).await.map_err(failure)?;
        Ok(database)
    }

    /// Drops templates with extensions from which no database that there is was made.
    pub(super) async fn prune(&self, registry: &mut PgConnection) -> Result<(), sqlx::Error> {
        for version in registry::unused(registry).await? {
            registry::lock(registry, &version).await?;
            // Whoever makes a database writes its row first, and then waits here for the template.
            if registry::unused(registry).await?.contains(&version) {
                drop_database(registry, &registry::extended(&self.key, &version)).await?;
                sqlx::query("DELETE FROM baselines WHERE version = $1").bind(&version).execute(&mut *registry).await?;
            }
            registry::unlock(registry, &version).await?;
        }
        Ok(())
    }

    /// The empty baseline.
    pub(super) async fn seal_default(&self, registry: &mut PgConnection) -> Result<(), sqlx::Error> {
        let database = registry::template(&self.key, "default", 1);
        if registry::sealed(registry, DEFAULT).await?.is_some() && exists(registry, &database).await? {
            return Ok(());
        }
        drop_database(registry, &database).await?;
        run(registry, format!("CREATE DATABASE \"{database}\" TEMPLATE template0 ENCODING 'UTF8'")).await?;
        run(registry, format!("REVOKE ALL ON DATABASE \"{database}\" FROM PUBLIC")).await?;
        let mut inside = self.server.clone().database(&database).connect().await?;
        run(&mut inside, "ALTER SCHEMA public OWNER TO pg_database_owner").await?;
        inside.close().await?;
        seal(registry, &database, DEFAULT).await
    }

    /// Refuses what the operator does not offer, whatever was planned.
    pub(super) fn admit(&self, extensions: &BTreeSet<String>) -> Result<(), Failure> {
        let Some(name) = extensions.iter().find(|name| !self.offered.contains(*name)) else { return Ok(()) };
        let offered = if self.offered.is_empty() { "none".to_owned() } else { list(&self.offered) };
        Err(Failure::permanent(format!(
            "the operator does not offer the extension {name} ([database] extensions has: {offered})"
        )))
    }
}

/// Nobody may be connected to what is copied.
async fn seal(registry: &mut PgConnection, database: &str, version: &str) -> Result<(), sqlx::Error> {
    run(registry, format!("ALTER DATABASE \"{database}\" IS_TEMPLATE true ALLOW_CONNECTIONS false")).await?;
    sqlx::query("INSERT INTO baselines (version, database) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING")
        .bind(version)
        .bind(database)
        .execute(registry)
        .await?;
    Ok(())
}

/// # Errors
/// The first extension that the server does not have, with the package that brings it.
pub(super) async fn installed(registry: &mut PgConnection, extensions: &BTreeSet<String>) -> Result<(), Failure> {
    let there: Vec<String> = sqlx::query_scalar("SELECT name::text FROM pg_available_extensions")
        .fetch_all(&mut *registry)
        .await
        .map_err(failure)?;
    let Some(name) = extensions.iter().find(|name| !there.contains(name)) else { return Ok(()) };
    let major = super::server_version(registry) / 10_000;
    let package = match PACKAGES.iter().find(|(known, _)| name.starts_with(known)) {
        Some((_, end)) => format!("postgresql-{major}-{end}"),
        None => format!("postgresql-contrib (part of Debian's postgresql-{major}), or the package that brings it"),
    };
    Err(Failure::permanent(format!("the extension {name} is not installed on the database server: install {package}")))
}

/// Makes extensions in the database of this connection, and what they need with them.
pub(super) async fn create(inside: &mut PgConnection, extensions: &BTreeSet<String>) -> Result<(), Failure> {
    for name in extensions {
        // Quoted, and one of those that the server itself lists.
        let made = run(inside, format!("CREATE EXTENSION IF NOT EXISTS \"{name}\" CASCADE")).await;
        made.map_err(|error| refused(name, error))?;
    }
    Ok(())
}

/// Whether a database's owner may make all of these, and what they need.
pub(super) async fn for_owners(
    registry: &mut PgConnection,
    extensions: &BTreeSet<String>,
) -> Result<bool, sqlx::Error> {
    let names: Vec<&str> = extensions.iter().map(String::as_str).collect();
    sqlx::query_scalar(
        "WITH RECURSIVE versions AS (SELECT v.* FROM pg_available_extensions e \
             JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version), \
         needed AS (SELECT * FROM versions WHERE name::text = ANY ($1) \
             UNION SELECT v.* FROM needed n JOIN versions v ON v.name = ANY (n.requires)) \
         SELECT coalesce(bool_and(trusted OR NOT superuser), true) FROM needed",
    )
    .bind(names)
    .fetch_one(registry)
    .await
}

pub(super) fn refused(name: &str, error: sqlx::Error) -> Failure {
    match failure(error) {
        Failure::Permanent { text } => Failure::permanent(format!("the extension {name} cannot be made: {text}")),
        Failure::Transient { text } => Failure::transient(format!("the extension {name} cannot be made: {text}")),
        other => other,
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The database of a template with extensions: the key is too long for a name.
pub(super) fn hashed(version: &str) -> String {
    BASE32_NOPAD.encode(&Sha256::digest(version))[..16].to_ascii_lowercase()
}
