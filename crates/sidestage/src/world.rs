//! The outside world as one instance sees it: service address, database server, object store, engine, repositories.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use drivers::docker::{self, Docker};
use drivers::objects::{ObjectStore, Objects};
use drivers::postgres::{Postgres, Server};
use drivers::{Driver, Secrets};
use planner::identity::InstanceKey;
use planner::injected::Endpoints;
use planner::resource::Backend;
use tracing::error;

use crate::config::Config;
use crate::databases::Backing;
use crate::forges::Forges;
use crate::state_dir::StateDir;
use crate::teardown;

/// Where environments reach their databases, on the service address.
pub(crate) const DATABASE_PORT: u16 = 5432;

/// One driver for each backend.
pub type Drivers = BTreeMap<Backend, Arc<dyn Driver>>;

/// Everything outside that an instance acts on.
pub(crate) struct World {
    pub(crate) docker: Docker,
    pub(crate) databases: Backing,
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) store: Arc<ObjectStore>,
    pub(crate) drivers: Drivers,
    pub(crate) forges: Forges,
    pub(crate) services: Ipv4Addr,
}

/// What one start has made that outlives the process. What it found stays whatever happens: containers rely on it.
#[derive(Default)]
pub(crate) struct Made {
    bridge: Option<InstanceKey>,
    server: Option<Arc<Server>>,
}

impl Made {
    /// Stops and removes it, after a start that failed. The database server's files stay for the next start.
    pub(crate) async fn take_back(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
        if let Some(key) = self.bridge
            && let Err(failure) = docker::remove_service_bridge(&key).await
        {
            error!(%failure, "the service address is left");
        }
    }
}

impl World {
    /// Opens it. What had to be made for that stands in `made`, also when a later part fails. `public`: clients trust the
    /// certificate of both edges as they come. `secrets`: what containers and builds are given.
    pub(crate) async fn open(
        config: &Config,
        dir: &StateDir,
        key: &InstanceKey,
        public: bool,
        secrets: &Secrets,
        made: &mut Made,
    ) -> anyhow::Result<World> {
        let forges = Forges::open(config, dir, &key.instance())?;
        let bridge = docker::service_bridge(key, config.network.services).await.context("the service address")?;
        made.bridge = bridge.made.then(|| key.clone());
        let services = bridge.address;
        let objects = config.objects_url(public);
        let endpoints = Endpoints { domain: config.domain.clone(), objects, database_port: DATABASE_PORT };
        let policy = config.policy();
        let settings = docker::Settings {
            pool: config.network.pool,
            runc_for_forks: config.engine.runc_for_forks,
            disk: policy.limits.disk,
            pids: i64::from(policy.limits.pids),
            disks: dir.disks(),
            secrets: secrets.clone(),
            registries: config.registry.iter().map(registry).collect(),
            ..docker::Settings::new(endpoints, services, forges.contexts())
        };
        let docker = Docker::connect(&config.engine.socket, key.clone(), settings);
        let databases = Backing::open(config, key, services).await.context("the database server")?;
        if let Backing::Managed(server) = &databases {
            made.server = (!server.found()).then(|| server.clone());
        }
        let postgres = Arc::new(databases.driver(key, &policy.limits, config.database_quota()));
        let store = {
            let (quota, upstream) = (config.objects_quota(), config.objects_upstream());
            let settings = drivers::objects::Settings { quota, upstream, reserve: None };
            let opened = ObjectStore::open_with(&dir.objects(), key.clone(), &config.domain, settings).await;
            opened.context("the object store")?
        };
        let store = Arc::new(store);
        let drivers: Drivers = BTreeMap::from([
            (Backend::Engine, Arc::new(docker.clone()) as Arc<dyn Driver>),
            (Backend::Postgres, postgres.clone()),
            (Backend::Objects, Arc::new(Objects::new(store.clone()))),
        ]);
        Ok(World { docker, databases, postgres, store, drivers, forges, services })
    }

    /// Removes everything of this instance from every backend, and the backends that are its own.
    pub(crate) async fn destroy(self, key: &InstanceKey) -> anyhow::Result<()> {
        teardown::remove_everything(&self.drivers).await?;
        match &self.databases {
            Backing::Managed(server) => server.destroy().await.context("the database server")?,
            // What is not ours stays there.
            Backing::Upstream(_) => self.postgres.clear().await.context("the database server")?,
        }
        docker::remove_service_bridge(key).await.context("the service address")
    }
}

fn registry(of: &crate::config::Registry) -> docker::Registry {
    docker::Registry { host: of.host.clone(), user: of.user.clone(), password_file: of.password_file.clone() }
}
