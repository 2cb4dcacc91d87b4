//! The zone as the authority looks it up: every name with its records, empty ones in between included.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use planner::tables::Zone;

/// Addresses may change, and what is gone should be gone soon.
const TTL: u32 = 60;

/// For how long resolvers remember that a name is not there, in seconds: a commit that was just pushed is looked up soon.
const NEGATIVE_TTL: u32 = 30;

/// Refresh, retry, expire: for secondaries, of which there are none.
const REFRESH: (i32, i32, i32) = (3600, 600, 604_800);

/// A zone ready to be asked.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it was made from.
    pub(super) zone: Zone,
    origin: LowerName,
    nodes: HashMap<LowerName, Node>,
    /// The apex's SOA with the TTL of negative answers.
    pub(super) negative: Record,
}

/// The records of one name; none, if the name only stands between others.
#[derive(Debug, Default)]
pub(super) struct Node {
    sets: Vec<(RecordType, Vec<Record>)>,
}

/// What a name is to the zone.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Not ours.
    Outside,
    /// Below the origin, but no such name.
    Missing,
    /// A name, with or without records.
    Node(&'a Node),
}

impl Prepared {
    pub(super) fn new(zone: &Zone) -> Result<Self, ProtoError> {
        let origin = Name::from_str(&format!("{}.", zone.origin.trim_end_matches('.')))?;
        let soa = soa(&origin, zone.serial)?;
        let mut negative = soa.clone();
        negative.ttl = NEGATIVE_TTL.min(TTL);
        let mut prepared =
            Prepared { zone: zone.clone(), origin: LowerName::new(&origin), nodes: HashMap::new(), negative };
        prepared.add(&origin, vec![soa]);
        let mut servers = Vec::new();
        for label in ["ns1", "ns2"] {
            let server = origin.prepend_label(label)?;
            servers.push(Record::from_rdata(origin.clone(), TTL, RData::NS(NS(server.clone()))));
            prepared.add_addresses(&server);
        }
        prepared.add(&origin, servers);
        prepared.add_addresses(&origin);
        for name in &zone.names {
            match Name::from_str(name).and_then(|name| name.append_domain(&origin)) {
                Ok(name) => prepared.add_addresses(&name),
                // One name that is none must not cost the others.
                Err(error) => tracing::error!(name, %error, "a name of the zone is no name"),
            }
        }
        Ok(prepared)
    }

    pub(super) fn find(&self, name: &LowerName) -> Found<'_> {
        if !self.origin.zone_of(name) {
            return Found::Outside;
        }
        self.nodes.get(name).map_or(Found::Missing, Found::Node)
    }

    fn add_addresses(&mut self, name: &Name) {
        let mut addresses = self.zone.addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let record = |address: IpAddr| {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            Record::from_rdata(name.clone(), TTL, data)
        };
        let (four, six) = (four.into_iter().map(record).collect(), six.into_iter().map(record).collect());
        self.add(name, four);
        self.add(name, six);
    }

    /// Adds a set of one type to a name, and the names between it and the origin. A set that is there stays.
    fn add(&mut self, name: &Name, records: Vec<Record>) {
        let mut above = LowerName::new(&name.base_name());
        while self.origin.zone_of(&above) {
            self.nodes.entry(above.clone()).or_default();
            above = above.base_name();
        }
        let node = self.nodes.entry(LowerName::new(name)).or_default();
        if let Some(kind) = records.first().map(Record::record_type)
            && node.set(kind).is_none()
        {
            node.sets.push((kind, records));
        }
    }
}

impl Node {
    /// The records of a type.
    pub(super) fn set(&self, kind: RecordType) -> Option<&[Record]> {
        self.sets.iter().find(|(of, _)| *of == kind).map(|(_, records)| records.as_slice())
    }

    /// One set of all: what a question for everything gets (RFC 8482). The lowest type, as other servers choose.
    pub(super) fn any(&self) -> Option<&[Record]> {
        self.sets.iter().min_by_key(|(of, _)| u16::from(*of)).map(|(_, records)| records.as_slice())
    }
}

fn soa(origin: &Name, serial: u32) -> Result<Record, ProtoError> {
    let (refresh, retry, expire) = REFRESH;
    let (server, person) = (origin.prepend_label("ns1")?, origin.prepend_label("hostmaster")?);
    let data = SOA::new(server, person, serial, refresh, retry, expire, NEGATIVE_TTL);
    Ok(Record::from_rdata(origin.clone(), TTL, RData::SOA(data)))
}
