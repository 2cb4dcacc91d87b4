//! PostgreSQL: a database and a role of its own for each generation of an environment, and the server that holds them.
//!
//! An environment's role has the name of its database and owns it; all that was in the baseline belongs to
//! `pg_database_owner`, so it is the role's own without a pass over it. Nobody else may connect to it, and Sidestage
//! itself never does: what a superuser runs in there, its tenant could have written.

mod error;
mod installed;
mod process;
mod registry;
mod server;
mod settings;
mod template;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use planner::identity::{EnvId, InstanceKey};
use planner::names;
use planner::resource::{Backend, Failure, Kind, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::{DataFrom, Origin, Spec};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use tokio::sync::{Mutex, Semaphore};

use crate::{Driver, Listing, Log, Scope};

use error::{code, failure};

pub use error::ServerError;
pub use server::{Server, destroy_at};
pub use settings::ServerSettings;

/// The baseline that always exists: empty.
const DEFAULT: &str = "default@1";

/// Copies made at once. Each forces the others' pages out, so more of them together are no faster.
const CLONES: usize = 2;

/// What one environment may take of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Connections at once.
    pub connections: u32,
    /// Megabytes of temporary files.
    pub temporary: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Allowance { connections: 20, temporary: 1024 }
    }
}

/// The databases of one instance on one server.
#[derive(Debug)]
pub struct Postgres {
    key: InstanceKey,
    allowance: Allowance,
    /// To the database `postgres`, of which all other options are made.
    server: PgConnectOptions,
    pool: PgPool,
    clones: Semaphore,
    /// Extensions that the operator offers.
    offered: BTreeSet<String>,
    /// Whether registry and empty baseline are known to be there.
    prepared: Mutex<bool>,
}

impl Postgres {
    /// The databases of the instance with this key on the managed server. Connects when first used; within a tokio runtime.
    #[must_use]
    pub fn new(server: &Server, key: InstanceKey, allowance: Allowance) -> Postgres {
        let options = server.admin("postgres");
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .idle_timeout(Duration::from_secs(60))
            .acquire_timeout(Duration::from_secs(10))
            .after_release(|connection, _| {
                Box::pin(async move {
                    // A call that was cut may have left a transaction open.
                    sqlx::raw_sql("ROLLBACK; SELECT pg_advisory_unlock_all()").execute(connection).await?;
                    Ok(true)
                })
            })
            // That there was none is no news.
            .connect_lazy_with(
                options.clone().database(&registry::database(&key)).options([("client_min_messages", "error")]),
            );
        let (clones, prepared) = (Semaphore::new(CLONES), Mutex::new(false));
        let offered = server.settings().extensions.clone();
        Postgres { key, allowance, server: options, pool, clones, offered, prepared }
    }

    /// Removes every database of this instance, its baselines and its registry: nothing of it is left on the server.
    ///
    /// # Errors
    /// When the server does not answer, or somebody is using a database.
    pub async fn clear(&self) -> Result<(), Failure> {
        for id in self.inventory(&Scope::All).await?.keys() {
            self.remove(id).await?;
        }
        let baselines: Vec<String> = {
            let mut registry = self.registry().await?;
            sqlx::query_scalar("SELECT database FROM baselines").fetch_all(&mut *registry).await.map_err(failure)?
        };
        *self.prepared.lock().await = false;
        let mut connection = self.server.connect().await.map_err(failure)?;
        for database in baselines.iter().chain([&registry::database(&self.key)]) {
            drop_database(&mut connection, database).await.map_err(failure)?;
        }
        connection.close().await.map_err(failure)
    }

    /// A connection to the registry, which is made on first use along with the empty baseline.
    async fn registry(&self) -> Result<PoolConnection<sqlx::Postgres>, Failure> {
        let mut prepared = self.prepared.lock().await;
        if !*prepared {
            self.prepare().await.map_err(failure)?;
            *prepared = true;
        }
        drop(prepared);
        match self.pool.acquire().await {
            Err(error) if code(&error).as_deref() == Some("3D000") => {
                *self.prepared.lock().await = false;
                Err(Failure::transient("the registry's database is gone from PostgreSQL; making it anew"))
            }
            other => other.map_err(failure),
        }
    }

    async fn prepare(&self) -> Result<(), sqlx::Error> {
        let own = registry::database(&self.key);
        let mut connection = self.server.connect().await?;
        // Instances share what follows, and PostgreSQL does not like two at it.
        registry::lock(&mut connection, "sidestage").await?;
        // Neither is anybody's but the server's; both would let every role in and give it room.
        run(&mut connection, "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC").await?;
        if !exists(&mut connection, &own).await? {
            run(&mut connection, format!("CREATE DATABASE \"{own}\" TEMPLATE template0")).await?;
        }
        run(&mut connection, format!("REVOKE ALL ON DATABASE \"{own}\" FROM PUBLIC")).await?;
        let mut registry = self.server.clone().database(&own).connect().await?;
        run(&mut registry, registry::TABLES).await?;
        self.seal_default(&mut registry).await?;
        self.prune(&mut registry).await?;
        registry.close().await?;
        connection.close().await
    }

    /// The name of a database that this driver would make, with what it derives from; none for other resources.
    fn place(id: &ResourceId) -> Option<(&EnvId, u32, String)> {
        match &id.owner {
            Owner::Env(env) if *id == database_id(env, id.generation) => {
                Some((env, id.generation, names::database(env, id.generation)))
            }
            _ => None,
        }
    }

    /// Makes the role, or gives the one that is there what it should have.
    async fn make_role(&self, registry: &mut PgConnection, place: &Place<'_>) -> Result<(), sqlx::Error> {
        let name = &place.name;
        let password = names::database_password(&self.key, place.env, place.generation);
        let Allowance { connections, temporary } = self.allowance;
        let role_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(name)
            .fetch_one(&mut *registry)
            .await?;
        let verb = if role_there { "ALTER" } else { "CREATE" };
        // Names and passwords are base32 of ours, so they need no escaping. Utility statements take no parameters.
        run(
            registry,
            format!(
                "{verb} ROLE \"{name}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT \
                 CONNECTION LIMIT {connections} PASSWORD '{password}';
                 ALTER ROLE \"{name}\" SET temp_file_limit = '{temporary}MB';
                 ALTER ROLE \"{name}\" SET idle_in_transaction_session_timeout = '10min';"
            ),
        )
        .await
    }

    /// Makes the database of a role that is there. Each step finds what an earlier attempt has left.
    async fn make(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        template: &str,
        there: bool,
    ) -> Result<(), sqlx::Error> {
        let name = &place.name;
        if !there {
            // Closed while it is made: until the next statement everybody might connect. The server copies small
            // databases fastest through its log.
            run(
                registry,
                format!(
                    "CREATE DATABASE \"{name}\" TEMPLATE \"{template}\" OWNER \"{name}\" ALLOW_CONNECTIONS false{}",
                    if server_version(registry) >= 150_000 { " STRATEGY wal_log" } else { "" }
                ),
            )
            .await?;
        }
        // One transaction: it opens and is complete, or neither.
        run(
            registry,
            format!(
                "REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC;
                 ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true;
                 UPDATE databases SET complete = true WHERE name = '{name}';"
            ),
        )
        .await
    }
}

/// What is asked for.
struct Wanted<'a> {
    resource: &'a Resource,
    of: &'a Origin,
    baseline: &'a str,
    extensions: &'a BTreeSet<String>,
}

/// One database to be made.
struct Place<'a> {
    env: &'a EnvId,
    generation: u32,
    name: String,
}

#[async_trait]
impl Driver for Postgres {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let env = match scope {
            Scope::All => None,
            Scope::Owner(Owner::Env(env)) => Some(env),
            Scope::Owner(_) => return Ok(Listing::new()),
        };
        let mut registry = self.registry().await?;
        let entries = registry::list(&mut registry, env).await.map_err(failure)?;
        Ok(entries.into_iter().map(|e| (database_id(&e.env, e.generation), e.observed)).collect())
    }

    async fn ensure(&self, resource: &Resource, _: &Listing, log: &Log) -> Result<Observed, Failure> {
        let (Some((env, generation, name)), Spec::Database { of, from: DataFrom::Baseline(baseline), extensions }) =
            (Postgres::place(&resource.id), &resource.spec)
        else {
            return Err(Failure::permanent(format!("{} is no database of an environment", resource.id)));
        };
        let place = Place { env, generation, name };
        // Before a connection is taken: whoever waits here must not keep listings from theirs.
        let _one_of_few = self.clones.acquire().await.map_err(|_| Failure::Cancelled)?;
        let mut registry = self.registry().await?;
        registry::lock(&mut registry, &place.name).await.map_err(failure)?;
        let wanted = Wanted { resource, of, baseline, extensions };
        self.ensure_held(&mut registry, &place, wanted, log).await
    }

    async fn rest(&self, _: &ResourceId, _: Run) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        let Some((_, _, name)) = Postgres::place(id) else { return Ok(()) };
        let mut registry = self.registry().await?;
        registry::lock(&mut registry, &name).await.map_err(failure)?;
        if registry::find(&mut registry, &name).await.map_err(failure)?.is_none() {
            return Ok(());
        }
        remove_held(&mut registry, &name).await.map_err(failure)?;
        self.prune(&mut registry).await.map_err(failure)
    }
}

impl Postgres {
    /// `ensure`, with the name held.
    async fn ensure_held(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: Wanted<'_>,
        log: &Log,
    ) -> Result<Observed, Failure> {
        let found = registry::find(registry, &place.name).await.map_err(failure)?;
        if let Some(entry) = &found
            && entry.observed.phase == planner::resource::Phase::Whole
        {
            return Ok(entry.observed.clone());
        }
        if found.is_none() && exists(registry, &place.name).await.map_err(failure)? {
            // Not in our registry: somebody else's, whatever it is called.
            return Err(Failure::permanent(format!(
                "a database {} is there that Sidestage has not made: rename or drop it",
                place.name
            )));
        }
        let Wanted { resource, of, baseline, extensions } = wanted;
        self.admit(extensions)?;
        if registry::sealed(registry, baseline).await.map_err(failure)?.is_none() {
            return Err(Failure::permanent(format!("there is no baseline {baseline} in PostgreSQL")));
        }
        let same = |e: &registry::Entry| {
            e.observed.outputs.baseline.as_deref() == Some(baseline) && e.observed.fingerprint == resource.fingerprint
        };
        // A copy that is listed is complete; only of what it was made is to be asked.
        let mut there = found.as_ref().is_some_and(|e| e.there);
        if there && !found.as_ref().is_some_and(same) {
            drop_database(registry, &place.name).await.map_err(failure)?;
            there = false;
        }
        log.line(&format!("database {} from baseline {baseline}", place.name));
        let begun = registry::Begun {
            env: place.env,
            generation: place.generation,
            of,
            fingerprint: &resource.fingerprint,
            baseline,
            template: &template::version(baseline, extensions),
        };
        // Row and role together. Waiting for the disk is left to what comes next: the server's log keeps its order, so
        // there is never a database without its row.
        let begin = async {
            let mut transaction = registry.begin().await?;
            run(&mut transaction, "SET LOCAL synchronous_commit = off").await?;
            registry::begin(&mut transaction, &begun).await?;
            self.make_role(&mut transaction, place).await?;
            transaction.commit().await
        };
        begin.await.map_err(failure)?;
        // After the row, which is what keeps the template.
        let template = self.template(registry, baseline, extensions, log).await?;
        self.make(registry, place, &template, there).await.map_err(failure)?;
        let made = registry::find(registry, &place.name).await.map_err(failure)?;
        made.map(|entry| entry.observed)
            .ok_or_else(|| Failure::transient(format!("database {} vanished while it was made", place.name)))
    }
}

async fn remove_held(registry: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE databases SET complete = false WHERE name = $1").bind(name).execute(&mut *registry).await?;
    drop_database(registry, name).await?;
    run(registry, format!("DROP ROLE IF EXISTS \"{name}\"")).await?;
    sqlx::query("DELETE FROM databases WHERE name = $1").bind(name).execute(registry).await?;
    Ok(())
}

/// Drops a database with all who are in it. Its owner may have called it a template, which would protect it.
async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    if exists(connection, name).await? {
        run(connection, format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false ALLOW_CONNECTIONS false")).await?;
        run(connection, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
    }
    Ok(())
}

async fn exists(connection: &mut PgConnection, database: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(connection)
        .await
}

/// Statements of ours, several of them as one transaction.
async fn run(connection: &mut PgConnection, sql: impl Into<String>) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await?;
    Ok(())
}

fn server_version(connection: &PgConnection) -> u32 {
    connection.server_version_num().unwrap_or(0)
}

/// The resource behind a row.
fn database_id(env: &EnvId, generation: u32) -> ResourceId {
    ResourceId {
        backend: Backend::Postgres,
        owner: Owner::Env(env.clone()),
        generation,
        kind: Kind::Database,
        name: "main".to_owned(),
    }
}
