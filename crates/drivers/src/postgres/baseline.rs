//! Makes the sealed template of a baseline's version: an empty database, the extensions by the administrator, the data by
//! a role of its own that reaches nothing else, the operator's masking script, the seal. Its row says that it is one, last.
//! What is half made is dropped and made from the beginning.

use std::path::PathBuf;

use planner::resource::{Failure, Observed, Resource};
use planner::spec::{DatabaseFrom, Spec};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::load::Loader;
use super::progress::shown;
use super::source::{Needed, Source};
use super::stock::{self, MAIN, Size};
use super::tools::Login;
use super::{Postgres, drop_database, drop_role, failure, random_password, registry, run, server_version};
use crate::Log;

/// What a template is made of.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a Resource,
    pub(super) version: &'a str,
    pub(super) from: &'a DatabaseFrom,
    pub(super) mask: Option<&'a PathBuf>,
}

impl Postgres {
    /// `ensure` of a template.
    pub(super) async fn ensure_template(
        &self,
        registry: &mut PgConnection,
        wanted: &Wanted<'_>,
        log: &Log,
    ) -> Result<Observed, Failure> {
        let version = wanted.version;
        let database = stock::database(&self.key, version, MAIN);
        registry::lock(registry, &database).await.map_err(failure)?;
        if let Some(item) = stock::find(registry, version, MAIN).await.map_err(failure)?
            && item.whole()
        {
            return Ok(item.observed);
        }
        let Spec::Template { extensions, .. } = &wanted.resource.spec else {
            return Err(Failure::permanent(format!("{} is no template", wanted.resource.id)));
        };
        self.admit(extensions)?;
        let source = self.source(registry, wanted.from).await?;
        let mut needed = source.needed(&self.tools).await?;
        needed.extend(
            extensions.iter().filter(|name| !needed.contains_key(*name)).map(|n| (n.clone(), None)).collect::<Vec<_>>(),
        );
        let (ours, theirs) = self.parted(registry, needed).await?;
        self.space.admit(source.room(), &format!("the template of {version}"))?;
        let row = (version, MAIN, database.as_str());
        let held = ours.keys().chain(&theirs).cloned().collect();
        stock::begin(registry, row, &wanted.resource.fingerprint, &held).await.map_err(failure)?;
        let login = self.vessel(registry, &database).await?;
        self.furnish(&database, &ours).await?;
        give(registry, &database).await.map_err(failure)?;
        self.fill(&login, &source, wanted, log).await?;
        self.settle(registry, &login).await.map_err(failure)?;
        let size = self.finish(registry, &login, log).await?;
        stock::seal(registry, version, &database, size).await.map_err(failure)?;
        log.line(&format!("sealed: {} tables, {}", size.tables, shown(size.bytes)));
        let made = stock::find(registry, version, MAIN).await.map_err(failure)?;
        made.map(|item| item.observed).ok_or_else(|| Failure::transient(format!("the template of {version} vanished")))
    }

    /// Looks at where the data come from.
    async fn source(&self, registry: &mut PgConnection, from: &DatabaseFrom) -> Result<Source, Failure> {
        let ours = server_version(registry) / 10_000;
        match from {
            DatabaseFrom::Empty => Ok(Source::Empty),
            DatabaseFrom::File(path) => Source::file(path, ours),
            DatabaseFrom::Server { url, password_file } => {
                Source::server(&self.tools, url, password_file.as_deref(), ours).await
            }
            DatabaseFrom::Env(id) => {
                let login = self.trusted(registry, id).await?;
                let bytes = size_of(registry, &login.database).await.map_err(failure)?;
                Ok(Source::Env { login, bytes })
            }
        }
    }

    /// Extensions that the administrator makes, and names of those that the data bring along as any owner may.
    pub(super) async fn parted(
        &self,
        registry: &mut PgConnection,
        needed: Needed,
    ) -> Result<(Needed, Vec<String>), Failure> {
        let (ours, theirs): (Needed, Needed) = needed.into_iter().partition(|(name, _)| self.offered.contains(name));
        super::template::installed(registry, &ours.keys().chain(theirs.keys()).cloned().collect()).await?;
        for name in theirs.keys() {
            let trusted: Option<bool> =
                sqlx::query_scalar("SELECT bool_or(trusted) FROM pg_available_extension_versions WHERE name = $1")
                    .bind(name)
                    .fetch_one(&mut *registry)
                    .await
                    .map_err(failure)?;
            if trusted != Some(true) {
                return Err(Failure::permanent(format!(
                    "the data need the extension {name}, which only the administrator can make: add it to [database] \
                     extensions"
                )));
            }
        }
        Ok((ours, theirs.into_keys().collect()))
    }

    /// An empty database and the role that will fill it, which can reach no other.
    async fn vessel(&self, registry: &mut PgConnection, database: &str) -> Result<Login, Failure> {
        let password = random_password().map_err(|error| Failure::transient(format!("no randomness: {error}")))?;
        let joined = self.joined(registry, database);
        let make = async {
            drop_database(registry, database).await?;
            drop_role(registry, database).await?;
            // Names and passwords are of ours and need no escaping.
            run(
                registry,
                format!(
                    "CREATE ROLE \"{database}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
                     INHERIT PASSWORD '{password}';{joined}"
                ),
            )
            .await?;
            self.hollow(registry, database).await
        };
        make.await.map_err(failure)?;
        Ok(Login { database: database.to_owned(), password })
    }

    /// An empty database that only the administrator may enter.
    pub(super) async fn hollow(&self, registry: &mut PgConnection, database: &str) -> Result<(), sqlx::Error> {
        let place = self.tablespace();
        // Closed until it is nobody else's: a role of its name would be let in.
        let made =
            format!("CREATE DATABASE \"{database}\" TEMPLATE template0 ENCODING 'UTF8'{place} ALLOW_CONNECTIONS false");
        run(registry, made).await?;
        run(
            registry,
            format!(
                "REVOKE ALL ON DATABASE \"{database}\" FROM PUBLIC;
                 ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true"
            ),
        )
        .await
    }

    /// What only the administrator can make, while nobody else has been in there.
    pub(super) async fn furnish(&self, database: &str, extensions: &Needed) -> Result<(), Failure> {
        let mut inside = self.server.clone().database(database).connect().await.map_err(failure)?;
        run(&mut inside, "ALTER SCHEMA public OWNER TO pg_database_owner").await.map_err(failure)?;
        for (name, schema) in extensions {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let mut made = Ok(());
            if let Some(schema) = schema.as_deref().filter(|schema| !["public", "pg_catalog"].contains(schema)) {
                let schema = quoted(schema);
                made =
                    run(&mut inside, format!("CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION pg_database_owner"))
                        .await;
            }
            let place = schema.as_deref().map(|schema| format!(" WITH SCHEMA {}", quoted(schema))).unwrap_or_default();
            if made.is_ok() {
                let name = quoted(name);
                made = run(&mut inside, format!("CREATE EXTENSION IF NOT EXISTS {name}{place} CASCADE")).await;
            }
            made.map_err(|error| super::template::refused(name, error))?;
        }
        inside.close().await.map_err(failure)
    }

    /// The data, and the operator's script over them.
    async fn fill(&self, login: &Login, source: &Source, wanted: &Wanted<'_>, log: &Log) -> Result<(), Failure> {
        let loader = Loader { tools: &self.tools, login, log };
        if let Some(stream) = source.open(&self.tools).await? {
            log.line(&format!("loading {}, about {}", stream.name, shown(source.bytes())));
            loader.load(stream).await?;
        }
        if let Some(script) = wanted.mask {
            log.line(&format!("masking with {}", script.display()));
            loader.mask(script).await?;
        }
        Ok(())
    }

    /// All that the loading role itself has made, since a script may leave the role that it begins as, becomes the owner's.
    pub(super) async fn settle(&self, registry: &mut PgConnection, login: &Login) -> Result<(), sqlx::Error> {
        let name = &login.database;
        let own: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass \
             AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1) \
             AND dbid = (SELECT oid FROM pg_database WHERE datname = $1))",
        )
        .bind(name)
        .fetch_one(&mut *registry)
        .await?;
        if own {
            let mut inside = self.tools.login(login).connect().await?;
            run(&mut inside, format!("REASSIGN OWNED BY \"{name}\" TO pg_database_owner")).await?;
            run(&mut inside, format!("DROP OWNED BY \"{name}\"")).await?;
            inside.close().await?;
            // The database itself went along.
            give(registry, name).await?;
        }
        Ok(())
    }

    /// Sweeps it, so that its clones need not, measures it and closes it for good.
    async fn finish(&self, registry: &mut PgConnection, login: &Login, log: &Log) -> Result<Size, Failure> {
        let name = &login.database;
        log.line("sweeping: VACUUM (FREEZE, ANALYZE)");
        let swept = async {
            let mut inside = self.tools.login(login).connect().await?;
            run(&mut inside, "VACUUM (FREEZE, ANALYZE)").await?;
            let (tables, relations): (i64, i64) = sqlx::query_as(
                "SELECT count(*) FILTER (WHERE relkind IN ('r', 'p') AND NOT relispartition \
                 AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%' \
                 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass \
                 AND d.deptype = 'e')), \
                 count(*) FILTER (WHERE relkind IN ('r', 'i', 't', 'm', 'S')) \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
            )
            .fetch_one(&mut inside)
            .await?;
            inside.close().await?;
            // One transaction; from here on nobody gets in.
            run(
                registry,
                format!(
                    "ALTER DATABASE \"{name}\" OWNER TO CURRENT_USER;
                     ALTER DATABASE \"{name}\" RESET ALL;
                     REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC, pg_database_owner;
                     ALTER DATABASE \"{name}\" IS_TEMPLATE true ALLOW_CONNECTIONS false"
                ),
            )
            .await?;
            drop_role(registry, name).await?;
            let number = |n: i64| u64::try_from(n).unwrap_or(0);
            let bytes = size_of(registry, name).await?;
            Ok(Size { bytes, tables: number(tables), relations: number(relations) })
        };
        swept.await.map_err(failure)
    }
}

/// Makes it the database of the role of its name, as whose owner it can be filled.
pub(super) async fn give(registry: &mut PgConnection, database: &str) -> Result<(), sqlx::Error> {
    run(
        registry,
        format!(
            "ALTER DATABASE \"{database}\" OWNER TO \"{database}\";
             GRANT CREATE, TEMPORARY ON DATABASE \"{database}\" TO pg_database_owner"
        ),
    )
    .await
}

/// Bytes of a database.
pub(super) async fn size_of(connection: &mut PgConnection, database: &str) -> Result<u64, sqlx::Error> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT pg_database_size($1::name)").bind(database).fetch_one(connection).await?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
