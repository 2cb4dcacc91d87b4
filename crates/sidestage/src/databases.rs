//! How databases of environments are reached from this machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use console::inside::Access;
use planner::identity::{EnvId, InstanceKey};
use planner::names;

/// Where databases are, for whoever comes with a client of the server's own.
#[derive(Debug, Clone)]
pub struct Databases {
    /// From which passwords follow.
    pub key: InstanceKey,
    /// The server's address.
    pub address: SocketAddr,
    /// The folder of its programs.
    pub bin_dir: PathBuf,
}

impl Databases {
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
