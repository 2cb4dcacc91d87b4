//! When a container counts as up, and what to say when it does not come up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use planner::spec::{Container, Health};
use tokio::net::TcpStream;

/// The most that one probe may take. A slower application answers a later one.
const PROBE: Duration = Duration::from_secs(5);

/// The most that connecting may take. A bridge that has just got a port may lose the first packet, and the kernel
/// repeats it after a whole second; a container of this machine answers at once or not at all.
const CONNECT: Duration = Duration::from_millis(100);

/// Between probes: short at first, since most applications are up within a second, then slower.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(400);

/// How long a container without a port must live to count as up.
pub(super) const ALIVE: Duration = Duration::from_secs(1);

/// Returns when the container answers as it should; never otherwise. `seen` keeps the last reason why not.
pub(super) async fn healthy(container: &Container, address: IpAddr, seen: &mut String) {
    let Some(port) = container.port.filter(|_| container.health != Health::Alive) else {
        return tokio::time::sleep(ALIVE).await;
    };
    let to = SocketAddr::new(address, port);
    let mut pause = FIRST;
    loop {
        let probe = async {
            match &container.health {
                Health::Path(path) => get(container, to, path).await,
                Health::Port | Health::Alive => connect(to).await.map(drop),
            }
        };
        match tokio::time::timeout(PROBE, probe).await {
            Ok(Ok(())) => return,
            Ok(Err(why)) => *seen = why,
            Err(_) => *seen = format!("it did not answer within {} s", PROBE.as_secs()),
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.1).min(LONGEST);
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await.ok().and_then(Result::ok);
    connected.ok_or_else(|| format!("nothing listens on $PORT ({})", to.port()))
}

/// One GET as a visitor's request would reach it. No redirect is followed, no body read.
async fn get(container: &Container, to: SocketAddr, path: &str) -> Result<(), String> {
    let stream = connect(to).await?;
    let broken = |error: hyper::Error| format!("GET {path}: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(broken)?;
    let authority = container.canonical.as_ref().map_or_else(|| to.to_string(), |host| host.authority.clone());
    let mut request = http::Request::get(path).header(http::header::HOST, &authority);
    if let Some(canonical) = &container.canonical {
        request = request.header("x-forwarded-proto", &canonical.scheme).header("x-forwarded-host", &authority);
    }
    let request = request
        .header(http::header::USER_AGENT, "sidestage-health")
        .header(http::header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| format!("GET {path}: {error}"))?;
    let response = sender.send_request(request);
    tokio::pin!(response, connection);
    // The connection may end in the same moment as the answer arrives on it.
    let exchange = async {
        tokio::select! {
            answered = &mut response => answered,
            _ = &mut connection => response.await,
        }
    };
    let answer = exchange.await.map_err(broken)?;
    let status = answer.status();
    match answer.headers().get(http::header::LOCATION).and_then(|to| unserved(container, to)) {
        Some(to) if status.is_redirection() => Err(format!(
            "GET {path} redirects to {to}, and nobody serves https here; set [front] tls, or turn off the application's \
             redirect to https (force_ssl) for staging"
        )),
        _ if status.is_success() || status.is_redirection() => Ok(()),
        _ => Err(format!("GET {path} answers {status}")),
    }
}

/// Where a redirect leads, if that is https on a host of the environment's own while visitors come in clear.
fn unserved<'a>(container: &Container, location: &'a http::HeaderValue) -> Option<&'a str> {
    let canonical = container.canonical.as_ref().filter(|canonical| canonical.scheme == "http")?;
    let text = location.to_str().ok()?;
    let to: http::Uri = text.parse().ok()?;
    let host = to.host()?.to_ascii_lowercase();
    let own = host == canonical.host || container.hosts.contains(&host);
    (own && to.scheme() == Some(&http::uri::Scheme::HTTPS)).then_some(text)
}

/// What else listens in the container, for who set the wrong port: ` ; it listens on 3000`, or nothing.
/// Reads the tables of the container's first process, so it needs the engine's machine to be ours.
pub(super) fn listening(pid: i64, port: u16) -> String {
    let mut ports: BTreeMap<u16, bool> = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for (address, listens) in text.lines().skip(1).filter_map(listener) {
            // The engine's own name server.
            if address != IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)) {
                *ports.entry(listens).or_default() |= !address.is_loopback();
            }
        }
    }
    match ports.get(&port) {
        Some(false) => return "; it listens there on 127.0.0.1 only; make it listen on 0.0.0.0".to_owned(),
        Some(true) => return String::new(),
        None => {}
    }
    if ports.is_empty() {
        return "; it listens on no port at all".to_owned();
    }
    let all: Vec<String> = ports
        .into_iter()
        .map(|(port, outside)| if outside { port.to_string() } else { format!("{port} (127.0.0.1 only)") })
        .collect();
    format!("; it listens on {}; set port, or make it use $PORT", all.join(", "))
}

/// Address and port of a line of the kernel's table of sockets, if it listens.
fn listener(line: &str) -> Option<(IpAddr, u16)> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    // The words stand in the machine's order; those that we run on are all little-endian or tell it the same way.
    let words: Vec<[u8; 4]> = (0..address.len() / 8)
        .filter_map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let address = match words.as_slice() {
        [v4] => IpAddr::from(*v4),
        [a, b, c, d] => {
            let bytes: Vec<u8> = [a, b, c, d].into_iter().flatten().copied().collect();
            IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_the_kernels_table() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0";
        assert_eq!(listener(line), Some(("127.0.0.1".parse().unwrap(), 3000)));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        let six = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(listener(six), Some(("::".parse().unwrap(), 8080)));
        let mapped = "   0: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(listener(mapped), Some(("127.0.0.1".parse().unwrap(), 8080)));
    }
}
