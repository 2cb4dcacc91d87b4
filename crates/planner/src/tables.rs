//! What the edge serves: derived from facts and inventory in every step, never stored.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::identity::{EnvId, Sha};
use crate::view::State;

/// Everything that the edge needs to serve visitors, swapped as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// By host name, lower case, no port. The bare domain is in it too, as [`Route::Objects`].
    pub routes: BTreeMap<String, Route>,
    /// Which environment a caller on the inside is, by its container's address. The inner edge answers an environment
    /// its own hosts and its own bucket; an address that is not here gets nothing.
    pub inside: BTreeMap<IpAddr, EnvId>,
    /// What the DNS answers.
    pub zone: Zone,
}

/// What stands behind one host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// An environment's host.
    Env(Box<EnvRoute>),
    /// `pr-<n>` or a branch: the newest commit of the ref that has been ready.
    Alias {
        /// Canonical host of the target, a key of the routes.
        to: String,
        /// `alias = "proxy"`: serve under the alias itself instead of redirecting.
        proxy: bool,
    },
    /// The object store, which reads bucket and key from Host and path. `bucket` is none on the bare domain (path style).
    Objects {
        /// `s3-<env>`.
        bucket: Option<String>,
    },
}

/// An environment as its visitors meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvRoute {
    /// Whose.
    pub env: EnvId,
    /// The commit, for `X-Staging-Commit`.
    pub sha: Sha,
    /// The address in full, as visitors type it: the application's Host header and forwarded scheme come from it.
    pub url: String,
    /// What visitors get.
    pub door: Door,
    /// What a page of ours says.
    pub page: Page,
    /// Whether strangers may look.
    pub public: bool,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// Goes to this container.
    Open(Upstream),
    /// Is held while the environment is woken; then goes on.
    Wake,
    /// Is answered by the page.
    Shut,
}

/// The one container that a route may reach. A reused address never serves another's pages: container id and
/// generation are part of the route, and a pooled connection of another one is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// The engine's container id.
    pub container: String,
    /// The generation of the environment.
    pub generation: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The facts of a page of ours: state, reason, what to do. Text of the repository is data; escape it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The state.
    pub state: State,
    /// One line: why.
    pub reason: Option<String>,
    /// One line: what the visitor can do.
    pub hint: Option<String>,
    /// The project's name.
    pub project: String,
    /// `#7 Title`, or the branch.
    pub title: String,
    /// The commit's first line.
    pub subject: String,
    /// Where its data came from: `shop@3`, `carried on from 1a2b3c4`.
    pub data: Option<String>,
    /// Links of the manifest: name and path.
    pub links: Vec<(String, String)>,
    /// Where the console shows this commit.
    pub console_url: Option<String>,
}

/// The zone of the domain: explicit names only, answers are the addresses of the installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// The domain, lower case, no trailing dot.
    pub origin: String,
    /// Names below it (one label each, no origin): every known head, alias, bucket and, for 30 days, what was removed.
    /// The apex, `ns1` and `ns2` are always there.
    pub names: Vec<String>,
    /// A and AAAA of the apex, the name servers and each name.
    pub addresses: Vec<IpAddr>,
    /// Grows whenever the zone differs: the SOA's serial.
    pub serial: u32,
}
