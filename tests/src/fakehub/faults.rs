//! What goes wrong at GitHub, on request.

use std::collections::BTreeSet;

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks; nothing has happened.
    Broken,
    /// It is done, and the answer is lost.
    LostReply,
    /// 502 before anything happens.
    Unavailable,
    /// It is done, and the answer is 502.
    UnavailableAfter,
    /// 403 with nothing remaining until so many seconds from now.
    Primary(u32),
    /// 429 or 403 with `retry-after`, in seconds.
    Secondary(u32),
    /// A page in HTML with 200.
    Html,
    /// 401.
    Unauthorized,
    /// 404.
    NotFound,
}

/// Trouble for some requests.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What goes wrong.
    pub fault: Fault,
    /// Part of `METHOD /path`; empty for all of the API.
    pub of: String,
    /// How many more times.
    pub times: u32,
}

/// What becomes of webhooks on their way.
#[derive(Debug, Clone, Default)]
pub struct Post {
    /// None leaves until they are released.
    pub held: bool,
    /// When released, the last goes first.
    pub reversed: bool,
    /// Each is sent twice.
    pub doubled: bool,
    /// Every so many-th is never sent; 0 for none.
    pub drop_every: u64,
    /// Events that are never sent.
    pub dropped: BTreeSet<String>,
}
