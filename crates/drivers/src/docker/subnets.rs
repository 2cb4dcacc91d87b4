//! Which /28 the next network gets: one that neither a route of the host nor a network of the engine overlaps.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use planner::resource::Failure;
use serde::Deserialize;

/// Length of the prefix that a generation gets: 13 containers besides the gateway.
const PREFIX: u8 = 28;

/// Goes round the pool, so that an address just given back is the last to be given out again.
#[derive(Default)]
pub(super) struct Cursor(u32);

impl Cursor {
    /// The next subnet of the pool that overlaps none of `taken`.
    pub(super) fn next(&mut self, pool: Ipv4Net, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
        let count = 1_u32.checked_shl(u32::from(PREFIX.checked_sub(pool.prefix_len())?))?;
        let first = u32::from(pool.network());
        for _ in 0..count {
            let at = first + (self.0 % count) * (1 << (32 - u32::from(PREFIX)));
            self.0 = (self.0 + 1) % count;
            let subnet = Ipv4Net::new(Ipv4Addr::from(at), PREFIX).ok()?;
            if !taken.iter().any(|other| overlap(*other, subnet)) {
                return Some(subnet);
            }
        }
        None
    }
}

/// Two prefixes overlap when one contains the other's first address.
pub(super) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// One route of the host.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) to: Ipv4Net,
    pub(super) dev: String,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: String,
    #[serde(default)]
    dev: String,
}

/// Every IPv4 route of the host in every table, its own addresses included, without default routes.
pub(super) async fn routes() -> Result<Vec<Route>, Failure> {
    let raw: Vec<RawRoute> = super::service::ip(&["-j", "-4", "route", "show", "table", "all"]).await?;
    let known = raw.into_iter().filter(|route| route.dst != "default").filter_map(|route| {
        let to = route.dst.parse().or_else(|_| route.dst.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok()?;
        (to != Ipv4Net::default()).then_some(Route { to, dev: route.dev })
    });
    Ok(known.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn goes_round_the_pool_and_avoids_what_is_taken() {
        let mut cursor = Cursor::default();
        let pool = net("10.210.0.0/26");
        let taken = [net("10.210.0.16/30"), net("10.210.0.40/32")];
        assert_eq!(cursor.next(pool, &taken), Some(net("10.210.0.0/28")));
        assert_eq!(cursor.next(pool, &taken), Some(net("10.210.0.48/28")));
        assert_eq!(cursor.next(pool, &taken), Some(net("10.210.0.0/28")));
        assert_eq!(cursor.next(pool, &[net("10.0.0.0/8")]), None);
        assert_eq!(cursor.next(net("10.210.0.0/30"), &[]), None);
    }
}
