//! The handler: one question, one answer.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use planner::tables::Tables;
use tokio::sync::watch;

use super::zone::{Found, Prepared};

/// No answer over UDP is longer: more would be cut up on the way, and would make us a better amplifier.
const UDP_PAYLOAD: u16 = 1232;

/// Answers for the zone of the newest tables.
pub(super) struct Authority {
    newest: Mutex<Newest>,
}

struct Newest {
    tables: watch::Receiver<Arc<Tables>>,
    /// None until there is a zone.
    prepared: Option<Arc<Prepared>>,
}

/// What is said, without the question.
#[derive(Debug, Default)]
struct Said {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authority: Vec<Record>,
}

impl Said {
    fn only(code: ResponseCode) -> Self {
        Said { code, ..Said::default() }
    }
}

impl Authority {
    pub(super) fn new(mut tables: watch::Receiver<Arc<Tables>>) -> Self {
        tables.mark_changed();
        Authority { newest: Mutex::new(Newest { tables, prepared: None }) }
    }

    /// The zone as of now: looked at with every question, so that a name is answered as soon as it is published, and
    /// made ready again only when it differs.
    fn zone(&self) -> Option<Arc<Prepared>> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.tables.has_changed().unwrap_or(false) {
            let tables = Arc::clone(&newest.tables.borrow_and_update());
            if newest.prepared.as_ref().is_none_or(|prepared| prepared.zone != tables.zone) {
                newest.prepare(&tables);
            }
        }
        newest.prepared.clone()
    }

    fn say(&self, request: &Request) -> Said {
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Said::only(ResponseCode::BADVERS);
        }
        if request.metadata.op_code != OpCode::Query {
            return Said::only(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Said::only(ResponseCode::FormErr) };
        let (query, kind) = (info.query, info.query.query_type());
        let refused = Said::only(ResponseCode::Refused);
        if query.query_class() != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return refused;
        }
        let Some(zone) = self.zone() else { return refused };
        let node = match zone.find(query.name()) {
            Found::Outside => return refused,
            Found::Missing => return negative(&zone, ResponseCode::NXDomain),
            Found::Node(node) => node,
        };
        let set = if kind == RecordType::ANY { node.any() } else { node.set(kind) };
        match set {
            Some(set) => positive(set, query.original().name()),
            None => negative(&zone, ResponseCode::NoError),
        }
    }
}

impl Newest {
    fn prepare(&mut self, tables: &Tables) {
        if tables.zone.origin.is_empty() {
            self.prepared = None;
            return;
        }
        match Prepared::new(&tables.zone) {
            Ok(prepared) => self.prepared = Some(Arc::new(prepared)),
            // The zone before is better than none.
            Err(error) => tracing::error!(%error, "the domain is no name; the zone before stays"),
        }
    }
}

/// The owner is spelled as it was asked for: resolvers that mix upper and lower case look whether it comes back so.
fn positive(set: &[Record], asked: &Name) -> Said {
    let spelled = |record: &Record| {
        let mut record = record.clone();
        record.name = asked.clone();
        record
    };
    Said { authoritative: true, answers: set.iter().map(spelled).collect(), ..Said::default() }
}

fn negative(zone: &Prepared, code: ResponseCode) -> Said {
    Said { code, authoritative: true, authority: vec![zone.negative.clone()], ..Said::default() }
}

/// Whether an answer may be too long for a datagram. hickory cuts off what does not fit, the EDNS record first, and that
/// has to be in every answer; so nothing is sent then but the hint to ask over TCP. Names are counted in full.
fn overflows(request: &Request, said: &Said, edns: Option<&Edns>) -> bool {
    const HEADER: usize = 12;
    const EDNS: usize = 11;
    if request.protocol() != Protocol::Udp {
        return false;
    }
    let records = said.answers.iter().chain(&said.authority);
    let length: usize = records.map(|record| record.to_bytes().map_or(usize::MAX / 2, |bytes| bytes.len())).sum();
    let most = edns.map_or(512, |edns| usize::from(edns.max_payload()));
    length.saturating_add(HEADER + EDNS + request.queries.as_bytes().len()) > most
}

/// What our side says of EDNS, if the other did.
fn edns(request: &Request) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = Edns::new();
    edns.set_version(0);
    edns.set_max_payload(asked.max_payload().clamp(512, UDP_PAYLOAD));
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    Some(edns)
}

#[async_trait]
impl RequestHandler for Authority {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let mut said = self.say(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = said.code;
        metadata.authoritative = said.authoritative;
        let edns = edns(request);
        if overflows(request, &said, edns.as_ref()) {
            metadata.truncation = true;
            (said.answers, said.authority) = (Vec::new(), Vec::new());
        }
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let response = builder.build(metadata, &said.answers, &said.authority, &[], &[]);
        match to.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}
