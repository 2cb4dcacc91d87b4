//! Networks: one per generation, a bridge with a /28 of the pool. Foreign code's has no way out.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};
use ipnet::Ipv4Net;
use planner::identity::EnvId;
use planner::names;
use planner::resource::{Failure, Observed, Outputs, Owner, Phase, Resource, ResourceId, Run};
use planner::spec::Origin;

use super::{Docker, is_absent, is_conflict, labels, subnets};

/// How often another subnet is tried when somebody else took the one that was chosen.
const ATTEMPTS: usize = 16;

impl Docker {
    /// Makes the network of a generation, or finds it.
    pub(super) async fn ensure_network(&self, resource: &Resource, of: &Origin) -> Result<Observed, Failure> {
        let env = env_of(&resource.id)?;
        if let Some((_, seen)) = self.networks(Some(env), Some(&resource.id)).await?.into_iter().next() {
            return Ok(seen);
        }
        let mut cursor = self.inner.subnets.lock().await;
        for _ in 0..ATTEMPTS {
            let taken = self.taken().await?;
            let pool = self.settings().pool;
            let subnet = cursor.next(pool, &taken).ok_or_else(|| {
                Failure::transient(format!("no /28 of the pool {pool} is free; give [network] pool more room"))
            })?;
            let request = self.network_request(resource, env, of, subnet);
            match self.engine().await?.create_network(request).await {
                Ok(made) => return Ok(observed(resource, of, made.id, subnet)),
                Err(error) if error.to_string().contains("overlaps") => {}
                // An earlier call that was lost has landed meanwhile.
                Err(error) if error.to_string().contains("same bridge name") || is_conflict(&error) => {
                    if let Some((_, seen)) = self.networks(Some(env), Some(&resource.id)).await?.into_iter().next() {
                        return Ok(seen);
                    }
                }
                Err(error) => return Err(self.fail("making the network", &error)),
            }
        }
        Err(Failure::transient("making the network: other networks took every subnet that was tried"))
    }

    /// What a new network must not overlap.
    async fn taken(&self) -> Result<Vec<Ipv4Net>, Failure> {
        let engine = self.engine().await?;
        let networks = async {
            let all = engine.list_networks(None).await;
            all.map_err(|error| self.fail("listing networks", &error))
        };
        let (routes, networks) = tokio::try_join!(subnets::routes(), networks)?;
        let mut taken: Vec<Ipv4Net> = routes.into_iter().map(|route| route.to).collect();
        for network in networks {
            let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            taken.extend(configs.into_iter().filter_map(|config| config.subnet?.parse::<Ipv4Net>().ok()));
        }
        Ok(taken)
    }

    fn network_request(&self, resource: &Resource, env: &EnvId, of: &Origin, subnet: Ipv4Net) -> NetworkCreateRequest {
        let generation = resource.id.generation;
        let gateway = subnet.hosts().next().unwrap_or(subnet.network());
        let config = IpamConfig {
            subnet: Some(subnet.to_string()),
            gateway: Some(gateway.to_string()),
            ..IpamConfig::default()
        };
        // Companions are reached over the same bridge, so containers of one generation may talk to each other.
        let options = [
            ("com.docker.network.bridge.name", names::bridge(&self.inner.key, env, generation)),
            ("com.docker.network.bridge.enable_icc", "true".to_owned()),
            ("com.docker.network.bridge.enable_ip_masquerade", (!of.trust.is_foreign()).to_string()),
        ];
        NetworkCreateRequest {
            name: names::network(env, generation),
            driver: Some("bridge".to_owned()),
            internal: Some(of.trust.is_foreign()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            options: Some(options.map(|(key, value)| (key.to_owned(), value)).into()),
            labels: Some(labels::write(&self.inner.instance, resource, env, of)),
            ..NetworkCreateRequest::default()
        }
    }

    /// Our networks, all or one environment's or one, with the engine's id.
    pub(super) async fn networks(
        &self,
        env: Option<&EnvId>,
        only: Option<&ResourceId>,
    ) -> Result<Vec<(ResourceId, Observed)>, Failure> {
        let mut wanted = vec![format!("{}={}", labels::INSTANCE, self.inner.instance), labels::KIND.to_owned()];
        wanted.extend(env.map(|env| format!("{}={env}", labels::ENV)));
        let options = ListNetworksOptionsBuilder::default().filters(&labels::filter(wanted)).build();
        let seen = self.engine().await?.list_networks(Some(options)).await;
        let seen = seen.map_err(|error| self.fail("listing networks", &error))?;
        let ours = seen.into_iter().filter_map(|network| read(&self.inner.instance, network));
        Ok(ours.filter(|(id, _)| only.is_none_or(|only| only == id)).collect())
    }

    /// Removes every network of this identity; a call that landed late may have made a second one.
    pub(super) async fn remove_network(&self, id: &ResourceId) -> Result<(), Failure> {
        let env = env_of(id)?;
        self.remove_oneoffs(id).await?;
        for (_, seen) in self.networks(Some(env), Some(id)).await? {
            let Some(network) = seen.outputs.id else { continue };
            self.disconnect_all(&network).await?;
            match self.engine().await?.remove_network(&network).await {
                Err(error) if !is_absent(&error) => return Err(self.fail("removing the network", &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The engine keeps a network while a container, ours or a person's, hangs on it.
    async fn disconnect_all(&self, network: &str) -> Result<(), Failure> {
        let engine = self.engine().await?;
        let seen = match engine.inspect_network(network, None::<InspectNetworkOptions>).await {
            Err(error) if is_absent(&error) => return Ok(()),
            seen => seen.map_err(|error| self.fail("looking at the network", &error))?,
        };
        for (container, _) in seen.containers.unwrap_or_default() {
            let request = NetworkDisconnectRequest { container, force: Some(true) };
            match engine.disconnect_network(network, request).await {
                Err(error) if !is_absent(&error) => return Err(self.fail("emptying the network", &error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The environment that owns a network, job or container.
pub(super) fn env_of(id: &ResourceId) -> Result<&EnvId, Failure> {
    match &id.owner {
        Owner::Env(env) => Ok(env),
        _ => Err(Failure::permanent(format!("{id} belongs to no environment"))),
    }
}

/// The network that a container of this identity lives in.
pub(super) fn network_of(id: &ResourceId) -> ResourceId {
    ResourceId { kind: planner::resource::Kind::Network, name: "main".to_owned(), ..id.clone() }
}

fn read(instance: &str, network: Network) -> Option<(ResourceId, Observed)> {
    let labels: HashMap<String, String> = network.labels?;
    let ours = labels::read(instance, &labels)?;
    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let subnets = configs.into_iter().filter_map(|config| config.subnet?.parse().ok());
    let outputs = Outputs {
        id: network.id,
        addresses: subnets.flat_map(addresses).collect(),
        commit: ours.commit,
        baseline: ours.baseline,
        ..Outputs::default()
    };
    let seen =
        Observed { fingerprint: ours.fingerprint, phase: Phase::Whole, run: Run::Running, uses: Vec::new(), outputs };
    Some((ours.id, seen))
}

/// What containers of a subnet can have: its first address is the gateway's, which is the host.
fn addresses(subnet: Ipv4Net) -> impl Iterator<Item = IpAddr> {
    subnet.hosts().skip(1).map(IpAddr::from)
}

fn observed(resource: &Resource, of: &Origin, id: String, subnet: Ipv4Net) -> Observed {
    let commit = Some((of.project.clone(), of.sha, of.trust));
    Observed {
        fingerprint: resource.fingerprint.clone(),
        phase: Phase::Whole,
        run: Run::Running,
        uses: Vec::new(),
        outputs: Outputs { id: Some(id), addresses: addresses(subnet).collect(), commit, ..Outputs::default() },
    }
}
