//! How long the proxy waits for what.

use std::time::Duration;

/// How long the proxy waits for what. The defaults are for people and applications; tests shorten them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For the whole head of a request, and for the next request on an idle connection.
    pub head: Duration,
    /// For a client to take what we have for it.
    pub client: Duration,
    /// For an upstream to accept a connection.
    pub connect: Duration,
    /// From the last piece of the request to the first of the answer.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub body: Duration,
    /// Between two pieces of an event stream or a tunnel, either way. Silence is usual there.
    pub stream: Duration,
    /// For a sleeping environment to wake, request held.
    pub wake: Duration,
    /// For the same, when the visitor is a browser: then it gets a page that comes back by itself.
    pub wake_browser: Duration,
    /// Between two knocks for one environment.
    pub knock: Duration,
    /// For a newer route after an upstream could not be reached.
    pub reroute: Duration,
    /// For open requests when the proxy stops.
    pub drain: Duration,
    /// Idle connections to upstreams are closed after this. Below the 5 s after which Node closes them itself.
    pub pooled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Patience {
            head: seconds(10),
            client: seconds(60),
            connect: seconds(5),
            first_byte: seconds(60),
            body: seconds(60),
            stream: seconds(3600),
            wake: seconds(60),
            wake_browser: seconds(5),
            knock: seconds(1),
            reroute: seconds(1),
            drain: seconds(10),
            pooled: seconds(4),
        }
    }
}
