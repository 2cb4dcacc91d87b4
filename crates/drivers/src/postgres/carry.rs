//! Copies the database of another environment. Its sessions end and it stays closed while it is copied; a note in the copy's
//! row, written before, says so, and whoever finds the note without its writer opens it again.
//!
//! What the other environment's role has made belongs to that role in the copy too. It is given to the copy's owner by the
//! copy's own role, never by a superuser. For that moment the source belongs to the administrator: `REASSIGN OWNED` would
//! give away databases as well.

use std::collections::BTreeSet;

use planner::identity::Trust;
use planner::resource::{Failure, ResourceId};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::baseline::size_of;
use super::environment::{Wanted, beyond};
use super::strategy::Weight;
use super::template::{create, installed};
use super::tools::Login;
use super::{Place, Postgres, Target, exists, failure, names, registry, run};

impl Postgres {
    /// The database of an environment of trusted code that is whole, with its login.
    pub(super) async fn trusted(&self, registry: &mut PgConnection, id: &ResourceId) -> Result<Login, Failure> {
        let Some(Target::Env(place)) = Target::of(id) else {
            return Err(Failure::permanent(format!("{id} is no database of an environment")));
        };
        let entry = registry::find(registry, &place.name).await.map_err(failure)?;
        let Some(entry) = entry.filter(|entry| entry.observed.phase == planner::resource::Phase::Whole) else {
            return Err(Failure::permanent(format!("the database of {id} is not there, or not complete")));
        };
        if !matches!(entry.observed.outputs.commit, Some((_, _, Trust::Trusted))) {
            return Err(Failure::permanent(format!(
                "the database of {id} was used by foreign code: nothing is made of it"
            )));
        }
        Ok(self.login(&place))
    }

    /// What may be carried on, its name held, and which extensions it lacks.
    pub(super) async fn carried(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        from: &ResourceId,
    ) -> Result<(Login, BTreeSet<String>), Failure> {
        let login = self.trusted(registry, from).await?;
        let source = login.database.clone();
        if source == place.name {
            return Err(Failure::permanent(format!("{from} cannot be carried on into itself")));
        }
        registry::lock(registry, &source).await.map_err(failure)?;
        // Again, now that nobody removes it.
        self.trusted(registry, from).await?;
        let entry = registry::find(registry, &source).await.map_err(failure)?;
        let of = entry.and_then(|entry| entry.observed.outputs.commit);
        if wanted.of.trust != Trust::Trusted || of.is_none_or(|(project, ..)| project != wanted.of.project) {
            return Err(Failure::permanent("data are carried on within one project's own code only".to_owned()));
        }
        let had: Option<String> = sqlx::query_scalar("SELECT template FROM databases WHERE name = $1")
            .bind(&source)
            .fetch_optional(&mut *registry)
            .await
            .map_err(failure)?;
        let had = had.unwrap_or_default();
        let has = had.split_once('+').map(|(_, names)| names.split(',').collect::<Vec<_>>()).unwrap_or_default();
        let mut lacks = beyond(registry, wanted.from.baseline(), wanted.extensions).await.map_err(failure)?;
        lacks.retain(|name| !has.contains(&name.as_str()));
        installed(registry, &lacks).await?;
        Ok((login, lacks))
    }

    /// Copies it, and makes what it lacks. Whatever happens, the source is open again afterwards.
    pub(super) async fn carry(
        &self,
        registry: &mut PgConnection,
        source: &str,
        to: &Place<'_>,
        lacks: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let name = &to.name;
        sqlx::query("UPDATE databases SET carrying = $2 WHERE name = $1")
            .bind(name)
            .bind(source)
            .execute(&mut *registry)
            .await
            .map_err(failure)?;
        let copied = self.copy(registry, source, to).await;
        reopen(registry, name, source).await.map_err(failure)?;
        copied?;
        if lacks.is_empty() { Ok(()) } else { self.add(registry, to, lacks).await }
    }

    /// Makes extensions as the database's owner, whoever may be waiting for its administrator in there.
    async fn add(
        &self,
        registry: &mut PgConnection,
        to: &Place<'_>,
        extensions: &BTreeSet<String>,
    ) -> Result<(), Failure> {
        let name = &to.name;
        let opened = format!(
            "REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC;
             ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"
        );
        run(registry, opened).await.map_err(failure)?;
        let mut inside = self.tools.login(&self.login(to)).connect().await.map_err(failure)?;
        create(&mut inside, extensions).await?;
        inside.close().await.map_err(failure)
    }

    /// How its role comes in.
    pub(super) fn login(&self, place: &Place<'_>) -> Login {
        let password = names::database_password(&self.key, place.env, place.generation);
        Login { database: place.name.clone(), password }
    }

    async fn copy(&self, registry: &mut PgConnection, source: &str, to: &Place<'_>) -> Result<(), Failure> {
        let name = &to.name;
        let bytes = size_of(registry, source).await.map_err(failure)?;
        let closed = async {
            run(registry, format!("ALTER DATABASE \"{source}\" ALLOW_CONNECTIONS false")).await?;
            // The server's own workers are nobody's, and end by themselves for a copy.
            sqlx::query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = $1 AND usename IS NOT NULL",
            )
            .bind(source)
            .execute(&mut *registry)
            .await
        };
        closed.await.map_err(failure)?;
        let weight = Weight { bytes, relations: 400 };
        self.clone(registry, (source, name, &format!(" OWNER \"{name}\"")), weight).await?;
        self.hand_over(registry, source, to).await.map_err(failure)
    }

    async fn hand_over(&self, registry: &mut PgConnection, source: &str, to: &Place<'_>) -> Result<(), sqlx::Error> {
        let name = &to.name;
        let foreign: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass \
             AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $2) \
             AND dbid = (SELECT oid FROM pg_database WHERE datname = $1))",
        )
        .bind(name)
        .bind(source)
        .fetch_one(&mut *registry)
        .await?;
        if !foreign {
            return Ok(());
        }
        run(
            registry,
            format!(
                "ALTER DATABASE \"{source}\" OWNER TO CURRENT_USER;
                 GRANT \"{source}\" TO \"{name}\";
                 REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC;
                 ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"
            ),
        )
        .await?;
        let mut inside = self.tools.login(&self.login(to)).connect().await?;
        run(&mut inside, format!("REASSIGN OWNED BY \"{source}\" TO pg_database_owner; DROP OWNED BY \"{source}\""))
            .await?;
        inside.close().await
    }
}

/// Gives a source back to its owner and opens it, and takes the note away.
async fn reopen(registry: &mut PgConnection, name: &str, source: &str) -> Result<(), sqlx::Error> {
    let whole: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM databases WHERE name = $1 AND complete)")
        .bind(source)
        .fetch_one(&mut *registry)
        .await?;
    // One that is on its way out stays closed.
    if whole && exists(registry, source).await? {
        run(
            registry,
            format!(
                "ALTER DATABASE \"{source}\" OWNER TO \"{source}\";
                 ALTER DATABASE \"{source}\" ALLOW_CONNECTIONS true"
            ),
        )
        .await?;
    }
    let both: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname IN ($1, $2)")
        .bind(name)
        .bind(source)
        .fetch_one(&mut *registry)
        .await?;
    if both == 2 {
        run(registry, format!("REVOKE \"{source}\" FROM \"{name}\"")).await?;
    }
    sqlx::query("UPDATE databases SET carrying = NULL WHERE name = $1").bind(name).execute(registry).await?;
    Ok(())
}

/// Opens what an earlier attempt at this database, whose name is held, has left closed.
pub(super) async fn reopen_for(registry: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let source: Option<Option<String>> = sqlx::query_scalar("SELECT carrying FROM databases WHERE name = $1")
        .bind(name)
        .fetch_optional(&mut *registry)
        .await?;
    match source.flatten() {
        Some(source) => reopen(registry, name, &source).await,
        None => Ok(()),
    }
}

/// Opens all that is closed and that nobody is copying any more.
pub(super) async fn reopen_forsaken(registry: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM databases WHERE carrying IS NOT NULL").fetch_all(&mut *registry).await?;
    for name in names {
        // Whoever copies holds it.
        if registry::try_lock(registry, &name).await? {
            reopen_for(registry, &name).await?;
            registry::unlock(registry, &name).await?;
        }
    }
    Ok(())
}
