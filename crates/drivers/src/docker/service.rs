//! The service address: one address of the host on which environments reach database, inner edge and DNS.
//!
//! It stands on a bridge of ours without ports, since some kernels have no dummy interfaces. As a /32 it adds no route
//! but its own: containers of ordinary and of internal networks reach it through their own gateway, which is the host,
//! with their address unchanged; a /24 would claim 253 addresses that are not ours, and two instances would collide.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::Duration;

use ipnet::Ipv4Net;
use planner::identity::InstanceKey;
use planner::names;
use planner::resource::Failure;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::subnets::{self, Route};

/// How long the `ip` tool may take.
const TOOL: Duration = Duration::from_secs(10);

/// A routing table that no rule looks into: in it every service address of the machine has the route of its one owner.
const RESERVED: &str = "10255";

/// How often another instance may be quicker to take an address.
const TRIES: usize = 300;

#[derive(Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
}

impl Address {
    fn v4(&self) -> Option<Ipv4Addr> {
        match self.local {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        }
    }
}

/// Where environments reach what the host serves them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceBridge {
    /// Its one address.
    pub address: Ipv4Addr,
    /// Whether the call made it; otherwise it was there, and containers may rely on it.
    pub made: bool,
}

/// Makes this instance's service bridge, or takes up the one that is there, with the address `wanted`, or the one that
/// it has already, or the first free of 10.255.0.1 to 10.255.0.254. A bridge that gets no address is removed again.
///
/// # Errors
/// When somebody else's interface or route has the address, or the `ip` tool fails.
pub async fn service_bridge(key: &InstanceKey, wanted: Option<Ipv4Addr>) -> Result<ServiceBridge, Failure> {
    let bridge = names::service_bridge(key);
    let present = links().await?.into_iter().find(|link| link.ifname == bridge);
    let made = present.is_none();
    if made {
        run(&["link", "add", "name", &bridge, "type", "bridge"]).await?;
    }
    let has = present.and_then(|link| link.addr_info.iter().find_map(Address::v4));
    match settle(&bridge, wanted, has).await {
        Ok(address) => Ok(ServiceBridge { address, made }),
        Err(failure) => {
            if made {
                let _ = run(&["link", "del", "dev", &bridge]).await;
            }
            Err(failure)
        }
    }
}

/// Removes this instance's service bridge. Absent is success.
///
/// # Errors
/// When the `ip` tool fails.
pub async fn remove_service_bridge(key: &InstanceKey) -> Result<(), Failure> {
    let bridge = names::service_bridge(key);
    if links().await?.iter().any(|link| link.ifname == bridge) {
        run(&["link", "del", "dev", &bridge]).await?;
    }
    Ok(())
}

/// Gives the bridge its one address.
async fn settle(bridge: &str, wanted: Option<Ipv4Addr>, has: Option<Ipv4Addr>) -> Result<Ipv4Addr, Failure> {
    run(&["link", "set", "dev", bridge, "up"]).await?;
    let address = reserve(bridge, wanted.or(has)).await?;
    if has == Some(address) {
        return Ok(address);
    }
    if let Some(old) = has {
        let old = format!("{old}/32");
        run(&["address", "del", &old, "dev", bridge]).await?;
        // One that an earlier version took has none.
        let _ = run(&["route", "del", &old, "dev", bridge, "table", RESERVED]).await;
    }
    run(&["address", "add", &format!("{address}/32"), "dev", bridge]).await?;
    Ok(address)
}

/// Makes an address ours alone. Instances that start at the same moment find the same one free, and the kernel lets two
/// interfaces have it; but it refuses a second route to it in one table, and a route goes with its interface.
async fn reserve(bridge: &str, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, Failure> {
    let mut refusal = None;
    for _ in 0..TRIES {
        let routes = subnets::routes().await?;
        let address = match wanted {
            Some(address) => match owner(address, bridge, &routes) {
                Some(taken) => return Err(refused(address, taken)),
                None => address,
            },
            None => free(bridge, &routes)?,
        };
        let this = Ipv4Net::from(address);
        if routes.iter().any(|route| route.dev == bridge && route.to == this) {
            return Ok(address);
        }
        match run(&["route", "add", &this.to_string(), "dev", bridge, "table", RESERVED]).await {
            Ok(_) => return Ok(address),
            Err(failure) => refusal = Some(failure),
        }
    }
    Err(refusal.unwrap_or_else(|| Failure::transient("no service address can be taken")))
}

fn free(bridge: &str, routes: &[Route]) -> Result<Ipv4Addr, Failure> {
    (1..=254)
        .map(|last| Ipv4Addr::new(10, 255, 0, last))
        .find(|address| owner(*address, bridge, routes).is_none())
        .ok_or_else(|| {
            let taken = owner(Ipv4Addr::new(10, 255, 0, 1), bridge, routes);
            let whose = taken.map(|route| format!(" ({} by {})", route.to, route.dev)).unwrap_or_default();
            Failure::permanent(format!(
                "10.255.0.1 to 10.255.0.254 are all taken{whose}; set [network] services to a free address"
            ))
        })
}

/// The route of somebody else that has this address.
fn owner<'a>(address: Ipv4Addr, bridge: &str, routes: &'a [Route]) -> Option<&'a Route> {
    routes.iter().find(|route| route.dev != bridge && subnets::overlap(route.to, Ipv4Net::from(address)))
}

fn refused(address: Ipv4Addr, taken: &Route) -> Failure {
    let Route { to, dev } = taken;
    Failure::permanent(format!(
        "the service address {address} lies within {to} of {dev}, which is not ours; set [network] services to a free address"
    ))
}

async fn links() -> Result<Vec<Link>, Failure> {
    ip(&["-j", "address", "show"]).await
}

/// Runs the `ip` tool and reads its JSON.
pub(super) async fn ip<T: DeserializeOwned>(arguments: &[&str]) -> Result<T, Failure> {
    let said = run(arguments).await?;
    serde_json::from_slice(&said).map_err(|error| Failure::transient(format!("reading what `ip` said: {error}")))
}

async fn run(arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let line = || format!("ip {}", arguments.join(" "));
    let tool = tokio::process::Command::new("ip").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let out = match tokio::time::timeout(TOOL, tool).await {
        Ok(Ok(out)) => out,
        Ok(Err(error)) => {
            return Err(Failure::transient(format!("`{}` did not start: {error}; install iproute2", line())));
        }
        Err(_) => return Err(Failure::transient(format!("`{}` did not end within {} s", line(), TOOL.as_secs()))),
    };
    if out.status.success() {
        return Ok(out.stdout);
    }
    let why = super::one_line(&String::from_utf8_lossy(&out.stderr));
    Err(Failure::transient(format!("`{}` failed: {why}", line())))
}
