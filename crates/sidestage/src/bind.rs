//! Binds listeners; a taken port is an error that says who holds it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, anyhow};
use tokio::net::{TcpListener, UdpSocket};

/// A TCP listener on exactly this address.
///
/// # Errors
/// When it is taken, not ours, or not allowed: which key to change, and who holds it.
pub async fn tcp(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| explain(&error, address, key, "tcp"))
}

/// A UDP socket on exactly this address.
///
/// # Errors
/// As [`tcp`].
pub async fn udp(address: SocketAddr, key: &str) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(address).await.map_err(|error| explain(&error, address, key, "udp"))
}

fn explain(error: &std::io::Error, address: SocketAddr, key: &str, protocol: &str) -> anyhow::Error {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return anyhow!("cannot listen on {address} ({key}): {error}");
    }
    let holder = holder(address.port(), protocol).map(|who| format!(" by {who}")).unwrap_or_default();
    anyhow!("{address} ({key}) is taken{holder}: stop that, or choose another port")
}

/// Name and process id of whoever has a socket on this port, as far as we may look.
fn holder(port: u16, protocol: &str) -> Option<String> {
    let inode = ["", "6"].iter().find_map(|family| {
        let table = std::fs::read_to_string(format!("/proc/net/{protocol}{family}")).ok()?;
        table.lines().skip(1).find_map(|line| socket_inode(line, port))
    })?;
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find(|process| holds(&process.path(), &wanted)).and_then(|process| {
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (process {})", name.trim(), process.file_name().to_string_lossy()))
    })
}

/// The inode of a line of `/proc/net/tcp` or `udp` that is bound to this port and has no peer.
fn socket_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, peer, inode) = (fields.get(1)?, fields.get(2)?, fields.get(9)?);
    let bound = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (bound == port && peer.ends_with(":0000")).then(|| (*inode).to_owned())
}

fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        std::fs::read_link(descriptor.path()).is_ok_and(|target| target.to_string_lossy() == socket)
    })
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
