//! Serves visitors: proxy and DNS for the tables it was last given. Knows nothing of Docker or GitHub.
//!
//! | file | what lives there |
//! |---|---|
//! | `proxy` | the listener and what becomes of a request: which host, which door |
//! | `authority`, `request` | the one authority of a request, and what is refused before anything else |
//! | `headers` | what is stripped, overwritten and added, both ways |
//! | `environment` | through an open door, held at one that is being opened, or a page |
//! | `objects` | requests to the object store |
//! | `forward`, `pool`, `body`, `tunnel` | to an upstream and back: connections, streams, upgrades |
//! | `doorbell` | waking: one knock for many waiting requests |
//! | `pages` | the pages of ours, in HTML and JSON |
//! | `places` | how many connections there may be |
//! | `tls` | certificates of both edges: our own, or from files
//! | `visits` | who was here when, and what is still open |
//! | `dns` | the authority for the zone |

mod authority;
mod body;
pub mod dns;
mod doorbell;
mod doors;
mod environment;
mod forward;
mod headers;
mod objects;
mod pages;
mod patience;
mod places;
mod pool;
pub mod proxy;
mod request;
pub mod tls;
mod tunnel;
mod visits;

pub use doors::Doors;
pub use patience::Patience;
pub use visits::{Visit, Visits};
