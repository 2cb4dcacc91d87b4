//! Our authority on ports of its own, and a client that speaks bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use planner::tables::{Tables, Zone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const ORIGIN: &str = "staging.test";

/// Nothing in a test takes longer; whatever does fails it.
const BOUND: Duration = Duration::from_secs(20);

pub(super) fn zone(serial: u32, names: &[&str]) -> Zone {
    Zone {
        origin: ORIGIN.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: vec![IpAddr::from([203, 0, 113, 7]), "2001:db8::7".parse().unwrap()],
        serial,
    }
}

/// A running authority. Stops when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    tables: watch::Sender<Arc<Tables>>,
    _stop: DropGuard,
}

impl Server {
    pub(super) async fn new(zone: Zone) -> Self {
        let (tables, receiver) = watch::channel(Arc::new(Tables { zone, ..Tables::default() }));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        tokio::spawn(async move { edge::dns::serve(vec![udp], vec![tcp], receiver, shutdown).await.unwrap() });
        Server { address, tables, _stop: stop.drop_guard() }
    }

    pub(super) fn publish(&self, zone: Zone) {
        self.tables.send_modify(|tables| Arc::make_mut(tables).zone = zone);
    }
}

/// A question that can be spelled out.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) name: Name,
    pub(super) kind: RecordType,
    pub(super) class: DNSClass,
    /// Payload and DO.
    pub(super) edns: Option<(u16, bool)>,
    pub(super) recurse: bool,
    pub(super) tcp: bool,
}

pub(super) fn ask(name: &str, kind: RecordType) -> Ask {
    let name = Name::from_ascii(name).unwrap();
    Ask { name, kind, class: DNSClass::IN, edns: None, recurse: false, tcp: false }
}

impl Ask {
    pub(super) fn message(&self) -> Message {
        let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recurse;
        let mut query = Query::query(self.name.clone(), self.kind);
        query.set_query_class(self.class);
        message.add_query(query);
        if let Some((payload, dnssec)) = self.edns {
            let mut edns = Edns::new();
            edns.set_version(0).set_max_payload(payload).set_dnssec_ok(dnssec);
            message.edns = Some(edns);
        }
        message
    }

    pub(super) async fn to(&self, server: SocketAddr) -> Message {
        let bytes = self.message().to_vec().unwrap();
        let answer = if self.tcp { over_tcp(server, &bytes).await } else { over_udp(server, &bytes).await };
        Message::from_vec(&answer).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

pub(super) async fn over_udp(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut answer = vec![0; 65_535];
    // Datagrams may be lost when the machine is busy.
    for _ in 0..10 {
        socket.send(bytes).await.unwrap();
        if let Ok(read) = timeout(BOUND / 10, socket.recv(&mut answer)).await {
            answer.truncate(read.unwrap());
            return answer;
        }
    }
    panic!("no answer to {bytes:02x?}");
}

pub(super) async fn over_tcp(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, bytes].concat()).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    };
    timeout(BOUND, exchange).await.expect("no answer over TCP")
}
