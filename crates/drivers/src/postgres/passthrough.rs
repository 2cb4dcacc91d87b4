//! Where environments reach a server of the operator's: on the name and port of the one that Sidestage runs itself, and with
//! its rules. A role of an environment's reaches the database of its own name; whoever else is asked for, on a server that
//! holds more than ours, is not passed on. Environments speak plainly, over a bridge of this machine; from here on the
//! connection is encrypted as the URL says. After the first message bytes are copied as they are.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use planner::names;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::encryption;
use super::error::ServerError;
use super::upstream::Upstream;

/// How long a client may take to say who it is, and the server to be reached.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that PostgreSQL itself reads of a first message, in bytes.
const LONGEST: u32 = 10_000;

/// What a first message can be, besides a version: see "Message Formats" in PostgreSQL's documentation.
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// The only version of the protocol.
const VERSION: u32 = 3;

/// The way to the server.
#[derive(Clone)]
pub(super) struct Route {
    host: String,
    port: u16,
    mode: PgSslMode,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({:?})", self.host, self.port, self.mode)
    }
}

/// Why a client is not passed on: PostgreSQL's own code for that, and words.
struct Refusal(&'static str, String);

impl Upstream {
    /// Passes environments on until told to stop: so many connections at once, the rest are refused as PostgreSQL does it.
    pub async fn serve(&self, listener: TcpListener, most: usize, stop: CancellationToken) {
        let (places, route) = (Arc::new(Semaphore::new(most)), Arc::new(self.route.clone()));
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = open.join_next() => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((client, _)) => {
                    let place = places.clone().try_acquire_owned();
                    // One more than that is only told so.
                    if place.is_err() && open.len() > most * 2 {
                        continue;
                    }
                    let route = route.clone();
                    open.spawn(async move {
                        let free = place.is_ok();
                        if let Err(error) = pass(client, &route, free).await {
                            tracing::debug!(%error, "a connection to the database server broke");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the pass-through to the database server cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        open.shutdown().await;
    }
}

/// One client, from its first word to its end.
async fn pass(mut client: TcpStream, route: &Route, free: bool) -> io::Result<()> {
    // A client that has vanished with its network would hold its place for ever.
    let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    client.set_nodelay(true)?;
    socket2::SockRef::from(&client).set_tcp_keepalive(&probes)?;
    let Ok(first) = timeout(PATIENCE, first_message(&mut client)).await else { return Ok(()) };
    let first = first?;
    let admitted = if free { admitted(&first) } else { Err(full()) };
    let reached = match admitted {
        Ok(()) => reached(route).await,
        Err(refusal) => Err(refusal),
    };
    let mut server = match reached {
        Ok(server) => server,
        Err(Refusal(code, words)) => return client.write_all(&error_response(code, &words)).await,
    };
    server.write_all(&first).await?;
    server.flush().await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn full() -> Refusal {
    Refusal("53300", "too many connections to the database server".to_owned())
}

async fn reached(route: &Route) -> Result<Either<TcpStream, TlsStream<TcpStream>>, Refusal> {
    let why = match timeout(PATIENCE, route.connect()).await {
        Ok(Ok(server)) => return Ok(server),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no reply".to_owned(),
    };
    tracing::warn!(server = ?route, why, "the database server does not answer an environment");
    // The code that clients try again after.
    Err(Refusal("57P03", "the database server does not answer".to_owned()))
}

impl Route {
    /// The server that these options name. `root`: authorities that sign for it.
    pub(super) fn new(options: &PgConnectOptions, root: Option<&Path>) -> Result<Route, ServerError> {
        let (host, port, mode) = (options.get_host().to_owned(), options.get_port(), options.get_ssl_mode());
        let tls = encryption::connector(mode, root)
            .map_err(|said| ServerError::Upstream { server: format!("{host}:{port}"), said })?;
        Ok(Route { host, port, mode, tls })
    }

    async fn connect(&self) -> io::Result<Either<TcpStream, TlsStream<TcpStream>>> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(stream)) };
        stream.write_all(&[&8_u32.to_be_bytes()[..], &SSL.to_be_bytes()].concat()).await?;
        match (stream.read_u8().await?, self.mode) {
            (b'S', _) => {
                let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
                Ok(Either::Right(tls.connect(name, stream).await?))
            }
            (_, PgSslMode::Prefer) => Ok(Either::Left(stream)),
            _ => Err(io::Error::other("it does not speak TLS, which the URL asks for")),
        }
    }
}

/// Reads the message by which a client says who it is. Encryption is declined before: clients go on without it, or not.
async fn first_message(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let length = client.read_u32().await?;
        if !(8..=LONGEST).contains(&length) {
            return Err(io::Error::other("no first message of PostgreSQL's"));
        }
        let mut message = length.to_be_bytes().to_vec();
        message.resize(length as usize, 0);
        client.read_exact(&mut message[4..]).await?;
        match code_of(&message) {
            SSL | GSS if length == 8 => client.write_all(b"N").await?,
            _ => return Ok(message),
        }
    }
}

fn code_of(message: &[u8]) -> u32 {
    message.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Whether the message may reach the server: it ends a statement, for which it holds a secret of that session, or is of a
/// role of an environment's that wants the database of its name.
fn admitted(message: &[u8]) -> Result<(), Refusal> {
    if code_of(message) == CANCEL {
        return Ok(());
    }
    if code_of(message) >> 16 != VERSION {
        return Err(Refusal("0A000", "unsupported frontend protocol".to_owned()));
    }
    let mut words = message.get(8..).unwrap_or_default().split(|byte| *byte == 0);
    let (mut user, mut database) = (&b""[..], None);
    // Pairs, of which PostgreSQL takes the last; an empty name ends them.
    while let (Some(name), Some(value)) = (words.next().filter(|name| !name.is_empty()), words.next()) {
        match name {
            b"user" => user = value,
            b"database" => database = Some(value),
            b"replication" => return Err(Refusal("28000", "there is no replication here".to_owned())),
            _ => {}
        }
    }
    let database = database.filter(|name| !name.is_empty()).unwrap_or(user);
    let own = std::str::from_utf8(user).is_ok_and(|user| names::parse_database(user).is_some());
    if own && user == database {
        return Ok(());
    }
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let (user, database) = (shown(user), shown(database));
    let words = format!("the role \"{user}\" cannot reach \"{database}\" from here: use DATABASE_URL as it is given");
    Err(Refusal("28000", words))
}

/// What PostgreSQL answers when it lets nobody in.
fn error_response(code: &str, words: &str) -> Vec<u8> {
    let fields: Vec<u8> = ["SFATAL", "VFATAL", &format!("C{code}"), &format!("M{words}"), ""]
        .iter()
        .flat_map(|field| [field.as_bytes(), &[0]].concat())
        .collect();
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), &fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut body = (VERSION << 16).to_be_bytes().to_vec();
        for word in pairs.iter().flat_map(|(name, value)| [name, value]) {
            body.extend(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        [&length.to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn roles_of_environments_reach_their_own_database_and_nobody_else_reaches_any() {
        let (me, other) = ("sst_aaaaaaaaaaaaaaaa_1", "sst_bbbbbbbbbbbbbbbb_1");
        for pairs in [&[("user", me)][..], &[("user", me), ("database", me)], &[("database", ""), ("user", me)]] {
            assert!(admitted(&start(pairs)).is_ok(), "{pairs:?}");
        }
        for pairs in [
            &[("user", me), ("database", other)][..],
            &[("user", me), ("database", "postgres")],
            &[("user", "postgres"), ("database", "postgres")],
            &[("user", "sidestage")],
            &[("user", me), ("user", "postgres")],
            &[("user", me), ("database", me), ("database", other)],
            &[("user", me), ("replication", "database")],
            &[],
        ] {
            assert!(admitted(&start(pairs)).is_err(), "{pairs:?}");
        }
        assert!(admitted(&[&16_u32.to_be_bytes()[..], &CANCEL.to_be_bytes(), &[0; 8]].concat()).is_ok());
        assert!(admitted(&[&8_u32.to_be_bytes()[..], &(2_u32 << 16).to_be_bytes()].concat()).is_err());
    }
}
