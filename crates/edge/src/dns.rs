//! The authority for the zone: explicit names only, UDP and TCP, on hickory-server with a handler of our own, since its
//! in-memory zone answers wrongly where names are missing.
//!
//! It serves no recursion: names outside the zone are refused at once, which is also what foreign code on the service
//! address gets.

mod authority;
mod zone;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use planner::tables::Tables;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use authority::Authority;

/// An idle TCP connection is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers to one TCP connection that may wait to be taken.
const TCP_ANSWERS: usize = 16;

/// Answers for the zone of the newest tables on bound sockets until `shutdown`.
///
/// # Errors
/// A socket that broke.
pub async fn serve(
    sockets: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    tables: watch::Receiver<Arc<Tables>>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut server = Server::new(Authority::new(tables));
    for socket in sockets {
        server.register_socket(socket);
    }
    for listener in listeners {
        server.register_listener(listener, TCP_IDLE, TCP_ANSWERS);
    }
    let ended = tokio::select! {
        ended = server.block_until_done() => Some(ended),
        () = shutdown.cancelled() => None,
    };
    match ended {
        Some(ended) => ended.map_err(io::Error::other),
        None => server.shutdown_gracefully().await.map_err(io::Error::other),
    }
}
