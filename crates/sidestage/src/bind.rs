//! Binds listeners; a taken port is an error that says who holds it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, anyhow};
use listeners::Protocol;
use tokio::net::{TcpListener, UdpSocket};

/// A TCP listener on exactly this address.
///
/// # Errors
/// When it is taken, not ours, or not allowed: which key to change, and who holds it.
pub async fn tcp(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| explain(&error, address, key, Protocol::TCP))
}

/// A UDP socket on exactly this address.
///
/// # Errors
/// As [`tcp`].
pub async fn udp(address: SocketAddr, key: &str) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(address).await.map_err(|error| explain(&error, address, key, Protocol::UDP))
}

fn explain(error: &std::io::Error, address: SocketAddr, key: &str, protocol: Protocol) -> anyhow::Error {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return anyhow!("cannot listen on {address} ({key}): {error}");
    }
    let holder = holder(address.port(), protocol).map(|who| format!(" by {who}")).unwrap_or_default();
    anyhow!("{address} ({key}) is taken{holder}: stop that, or choose another port")
}

/// Name and process id of whoever listens on this port, as far as we may look.
fn holder(port: u16, protocol: Protocol) -> Option<String> {
    let process = listeners::get_process_by_port(port, protocol).ok()?;
    Some(format!("{} (process {})", process.name, process.pid))
}

/// Prepares a unix socket's path: a stale one of a Sidestage that died is removed (the state directory's lock says so).
///
/// # Errors
/// When the path cannot be cleared or bound.
pub fn unix(path: &Path) -> anyhow::Result<tokio::net::UnixListener> {
    let making = || format!("cannot listen on {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(making),
        _ => {}
    }
    tokio::net::UnixListener::bind(path).with_context(making)
}
