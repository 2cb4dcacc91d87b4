//! Where databases of environments are: on a server of Sidestage's own, or on one of the operator's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use console::Cloning;
use console::inside::Access;
use drivers::Quota;
use drivers::postgres::{Allowance, Choice, Postgres, Server, ServerSettings, Upstream, UpstreamSettings};
use planner::identity::{EnvId, InstanceKey};
use planner::names;
use planner::policy::Limits;

use crate::config::{Config, read_password};
use crate::state_dir;

/// The server that holds them.
#[derive(Clone)]
pub(crate) enum Backing {
    /// One of Sidestage's own.
    Managed(Arc<Server>),
    /// One of the operator's, which environments reach through us.
    Upstream(Arc<Upstream>),
}

impl Backing {
    /// Starts the one, or looks at the other.
    pub(crate) async fn open(config: &Config, key: &InstanceKey, services: Ipv4Addr) -> anyhow::Result<Backing> {
        let table = &config.database;
        let extensions = table.extensions.clone();
        if let Some(url) = table.url.clone() {
            let read = |path| read_password(path).context("[database] password_file");
            let password = table.password_file.as_deref().map(read).transpose()?;
            let upstream = Upstream::open(UpstreamSettings { url, password, extensions }, key).await?;
            return Ok(Backing::Upstream(Arc::new(upstream)));
        }
        let home = state_dir::services(&config.state_dir).join("postgres");
        let managed = ServerSettings {
            bin_dir: table.bin_dir.clone(),
            durable: table.durable.unwrap_or(true),
            storage: table.storage.clone(),
            extensions,
            ..ServerSettings::new(home, IpAddr::from(services))
        };
        Ok(Backing::Managed(Arc::new(Server::start(managed).await?)))
    }

    /// The driver of what is on it.
    pub(crate) fn driver(&self, key: &InstanceKey, limits: &Limits, database: Quota) -> Postgres {
        let allowance = Allowance { connections: limits.connections, database, ..Allowance::default() };
        match self {
            Backing::Managed(server) => Postgres::new(server, key.clone(), allowance),
            Backing::Upstream(upstream) => Postgres::on(upstream, key.clone(), allowance),
        }
    }

    /// Looks after it for ever.
    pub(crate) async fn keep(&self) {
        match self {
            Backing::Managed(server) => server.keep().await,
            // The operator does.
            Backing::Upstream(_) => std::future::pending().await,
        }
    }

    /// The folder of the client's programs.
    pub(crate) fn programs(&self) -> &Path {
        match self {
            Backing::Managed(server) => server.programs(),
            Backing::Upstream(upstream) => upstream.programs(),
        }
    }
}

/// Where databases are, for whoever comes with a client of the server's own.
#[derive(Clone)]
pub struct Databases {
    /// Who makes them.
    pub driver: Arc<Postgres>,
    /// From which passwords follow.
    pub key: InstanceKey,
    /// The server's address.
    pub address: SocketAddr,
    /// The folder of its programs.
    pub bin_dir: PathBuf,
}

impl Databases {
    /// How databases of this baseline's version are cloned.
    ///
    /// # Errors
    /// One line when the server does not answer.
    pub async fn cloning(&self, version: &str) -> Result<Cloning, String> {
        let choice = self.driver.strategy(version).await.map_err(|failure| failure.to_string())?;
        let Choice { why: how, expected, disk, better, lacks, .. } = choice;
        let milliseconds = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
        Ok(Cloning { how, milliseconds, disk, better, lacks })
    }

    /// Of one environment's generation.
    #[must_use]
    pub fn access(&self, env: &EnvId, generation: u32) -> Access {
        let name = names::database(env, generation);
        Access {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            user: name.clone(),
            password: names::database_password(&self.key, env, generation),
            database: name,
            bin_dir: self.bin_dir.clone(),
        }
    }
}
