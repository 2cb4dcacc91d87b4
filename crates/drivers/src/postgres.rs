//! PostgreSQL: a database and a role of its own for each generation of an environment, the sealed templates of baselines
//! that they are clones of, clones made ahead, and the server that holds them.
//!
//! An environment's role has the name of its database and owns it; all that was in the baseline belongs to
//! `pg_database_owner`, so it is the role's own without a pass over it. Nobody else may connect to it, and Sidestage
//! itself never does as superuser: what a superuser runs in there, its tenant could have written.

mod baseline;
mod carry;
mod dump;
mod encryption;
mod environment;
mod error;
mod installed;
mod judge;
mod load;
mod passthrough;
mod privileges;
mod process;
mod progress;
mod quota;
mod refill;
mod registry;
mod server;
mod settings;
mod sizes;
mod source;
mod space;
mod spare;
mod stock;
mod storage;
mod strategy;
mod template;
mod tools;
mod upstream;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use planner::identity::{EnvId, InstanceKey};
use planner::names;
use planner::resource::{Backend, Failure, Kind, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::Spec;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use tokio::sync::{Mutex, Semaphore};

use crate::{Driver, Listing, Log, Quota, Scope};

use error::{code, failure};
use privileges::Granted;
use space::Space;
use tools::Tools;

pub use error::ServerError;
pub use server::{Server, destroy_at};
pub use settings::ServerSettings;
pub use storage::{Storage, StorageError, StorageState};
pub use strategy::{Choice, Strategy};
pub use upstream::{Upstream, UpstreamSettings};

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
    /// Bytes of its database.
    pub database: Quota,
    /// How long a measured size is good for. What is over its quota is found when it is measured anew.
    pub measured: Duration,
}

impl Default for Allowance {
    fn default() -> Self {
        let (database, measured) = (Quota::default(), Duration::from_secs(60));
        Allowance { connections: 20, temporary: 1024, database, measured }
    }
}

/// The databases of one instance on one server.
#[derive(Debug)]
pub struct Postgres {
    key: InstanceKey,
    allowance: Allowance,
    /// To the database that is always there, of which all other options are made.
    server: PgConnectOptions,
    pool: PgPool,
    clones: Semaphore,
    /// Extensions that the operator offers.
    offered: BTreeSet<String>,
    /// Programs that load dumps, and how they reach the server.
    tools: Tools,
    space: Space,
    storage: Option<Storage>,
    /// What we may do on a server of the operator's. None on our own, whose superuser we are.
    granted: Option<Granted>,
    /// Why clones cannot share blocks, once tried; none if they can.
    unshared: OnceLock<Option<String>>,
    sizes: sizes::Last,
    /// Whether registry and empty baseline are known to be there.
    prepared: Mutex<bool>,
}

impl Postgres {
    /// The databases of the instance with this key on the managed server. Connects when first used; within a tokio runtime.
    #[must_use]
    pub fn new(server: &Server, key: InstanceKey, allowance: Allowance) -> Postgres {
        let settings = server.settings();
        let storage = settings.storage();
        let folder = storage.as_ref().map_or_else(|| settings.data(), |storage| storage.mounted_at.clone());
        let (extensions, space) = (settings.extensions.clone(), Space { folder: Some(folder) });
        let driver = Postgres::at(server.admin("postgres"), server.tools(), extensions, key, allowance);
        Postgres { space, storage, ..driver }
    }

    /// The same on a server of the operator's.
    #[must_use]
    pub fn on(upstream: &Upstream, key: InstanceKey, allowance: Allowance) -> Postgres {
        let Upstream { admin, tools, extensions, granted, .. } = upstream;
        let driver = Postgres::at(admin.clone(), tools.clone(), extensions.clone(), key, allowance);
        Postgres { granted: Some(granted.clone()), ..driver }
    }

    fn at(
        server: PgConnectOptions,
        tools: Tools,
        offered: BTreeSet<String>,
        key: InstanceKey,
        allowance: Allowance,
    ) -> Postgres {
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
                server.clone().database(&registry::database(&key)).options([("client_min_messages", "error")]),
            );
        Postgres {
            key,
            allowance,
            server,
            pool,
            clones: Semaphore::new(CLONES),
            offered,
            tools,
            space: Space::default(),
            storage: None,
            granted: None,
            unshared: OnceLock::new(),
            sizes: sizes::Last::default(),
            prepared: Mutex::new(false),
        }
    }

    /// Removes every database of this instance, its baselines and its registry: nothing of it is left on the server.
    ///
    /// # Errors
    /// When the server does not answer, or somebody is using a database.
    pub async fn clear(&self) -> Result<(), Failure> {
        for id in self.inventory(&Scope::All).await?.keys() {
            self.remove(id).await?;
        }
        *self.prepared.lock().await = false;
        let mut connection = self.server.connect().await.map_err(failure)?;
        // Templates with extensions, and what a crash may have left: all have names of this instance.
        let ours = format!("sst_{}_", self.key.instance());
        let databases =
            named(&mut connection, "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)", &ours);
        for database in databases.await.map_err(failure)? {
            drop_database(&mut connection, &database).await.map_err(failure)?;
        }
        let roles = named(&mut connection, "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", &ours);
        for role in roles.await.map_err(failure)? {
            drop_role(&mut connection, &role).await.map_err(failure)?;
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
        if self.granted.is_none() {
            // Neither is anybody's but the server's; both would let every role in and give it room.
            run(&mut connection, "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC").await?;
        }
        if !exists(&mut connection, &own).await? {
            run(&mut connection, format!("CREATE DATABASE \"{own}\" TEMPLATE template0")).await?;
        }
        run(&mut connection, format!("REVOKE ALL ON DATABASE \"{own}\" FROM PUBLIC")).await?;
        self.make_tablespace(&mut connection).await?;
        let mut registry = self.server.clone().database(&own).connect().await?;
        run(&mut registry, registry::TABLES).await?;
        run(&mut registry, stock::TABLE).await?;
        self.seal_default(&mut registry).await?;
        self.prune(&mut registry).await?;
        registry.close().await?;
        connection.close().await
    }

    /// What makes a new role's things ours to manage, where we are no superuser.
    fn joined(&self, connection: &PgConnection, role: &str) -> String {
        let joined = || privileges::joined(server_version(connection), role);
        self.granted.as_ref().map_or_else(String::new, |_| joined())
    }

    /// Where new templates go; their clones follow them.
    fn tablespace(&self) -> &'static str {
        if self.storage.is_some() { " TABLESPACE sidestage" } else { "" }
    }

    async fn make_tablespace(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.granted.is_some() {
            return Ok(());
        }
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_tablespace WHERE spcname = 'sidestage')")
            .fetch_one(&mut *connection)
            .await?;
        let Some(storage) = &self.storage else {
            // One that still holds databases stays.
            let _ = if there { run(connection, "DROP TABLESPACE sidestage").await } else { Ok(()) };
            return Ok(());
        };
        if there {
            return Ok(());
        }
        let place = storage.tablespace().display().to_string().replace('\'', "''");
        run(connection, format!("CREATE TABLESPACE sidestage LOCATION '{place}'")).await
    }
}

/// What an id of this backend means.
enum Target<'a> {
    Env(Place<'a>),
    /// A version, and `main` or the spare's name.
    Stock(&'a str, &'a str),
}

/// One database of an environment.
struct Place<'a> {
    env: &'a EnvId,
    generation: u32,
    name: String,
}

impl Target<'_> {
    /// None for what this driver does not make.
    fn of(id: &ResourceId) -> Option<Target<'_>> {
        match &id.owner {
            Owner::Env(env) if *id == database_id(env, id.generation) => {
                Some(Target::Env(Place { env, generation: id.generation, name: names::database(env, id.generation) }))
            }
            Owner::Baseline(version) if *id == ResourceId::spare(version, id.name.clone()) => {
                Some(Target::Stock(version, &id.name))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Driver for Postgres {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let (env, version) = match scope {
            Scope::All => (None, None),
            Scope::Owner(Owner::Env(env)) => (Some(env), None),
            Scope::Owner(Owner::Baseline(version)) => (None, Some(version.as_str())),
            Scope::Owner(_) => return Ok(Listing::new()),
        };
        let mut registry = self.registry().await?;
        let mut listing = Listing::new();
        if version.is_none() {
            carry::reopen_forsaken(&mut registry).await.map_err(failure)?;
            // What comes of their sizes is told with them.
            let sizes = self.sizes(&mut registry).await;
            let entries = registry::list(&mut registry, env).await.map_err(failure)?;
            listing.extend(entries.into_iter().map(|mut entry| {
                let name = names::database(&entry.env, entry.generation);
                entry.observed.outputs.bytes = sizes.get(&name).and_then(|size| size.bytes());
                (database_id(&entry.env, entry.generation), entry.observed)
            }));
        }
        if env.is_none() {
            let items = stock::list(&mut registry, version).await.map_err(failure)?;
            listing.extend(items.into_iter().map(|item| (item.id(), item.observed)));
        }
        Ok(listing)
    }

    async fn ensure(&self, resource: &Resource, _: &Listing, log: &Log) -> Result<Observed, Failure> {
        match (Target::of(&resource.id), &resource.spec) {
            (Some(Target::Env(place)), Spec::Database { of, from, extensions }) => {
                let wanted = environment::Wanted { resource, of, from, extensions };
                self.ensure_environment(&place, &wanted, log).await
            }
            (Some(Target::Stock(version, stock::MAIN)), Spec::Template { from, mask, .. }) => {
                let mut registry = self.registry().await?;
                let wanted = baseline::Wanted { resource, version, from, mask: mask.as_ref() };
                Box::pin(self.ensure_template(&mut registry, &wanted, log)).await
            }
            (Some(Target::Stock(version, name)), Spec::Spare { extensions }) if name != stock::MAIN => {
                let wanted = spare::Wanted { resource, version, name, extensions };
                self.ensure_spare(&wanted, log).await
            }
            _ => Err(Failure::permanent(format!("{} is nothing that PostgreSQL holds", resource.id))),
        }
    }

    async fn rest(&self, _: &ResourceId, _: Run) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        let Some(target) = Target::of(id) else { return Ok(()) };
        let mut registry = self.registry().await?;
        match target {
            Target::Env(place) => {
                registry::lock(&mut registry, &place.name).await.map_err(failure)?;
                if registry::find(&mut registry, &place.name).await.map_err(failure)?.is_none() {
                    return Ok(());
                }
                environment::remove_held(&mut registry, &place.name).await.map_err(failure)?;
            }
            Target::Stock(version, name) => {
                self.remove_stock(&mut registry, version, name).await.map_err(failure)?;
            }
        }
        self.prune(&mut registry).await.map_err(failure)
    }
}

async fn named(connection: &mut PgConnection, sql: &'static str, prefix: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(sql).bind(prefix).fetch_all(connection).await
}

/// Drops a role that owns nothing any more.
async fn drop_role(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    run(connection, format!("DROP ROLE IF EXISTS \"{name}\"")).await
}

/// Drops a database with all who are in it. Its owner may have called it a template, which would protect it.
async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    if exists(connection, name).await? {
        run(connection, format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false ALLOW_CONNECTIONS false")).await?;
        run(connection, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
    }
    Ok(())
}

fn random_password() -> Result<String, getrandom::Error> {
    let mut random = [0; 24];
    getrandom::fill(&mut random)?;
    Ok(data_encoding::HEXLOWER.encode(&random))
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
