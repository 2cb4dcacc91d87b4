//! The same questions to knot and to us, for the same zone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use planner::tables::Zone;
use tempfile::TempDir;
use tokio::net::UdpSocket;

use super::server::{Ask, ORIGIN, Server, ask, zone};

const NAMES: [&str; 7] = [
    "0123456789abcdef0123456789abcdef01234567",
    "fedcba9876543210fedcba9876543210fedcba98",
    "pr-7",
    "main",
    "s3-aaaaaaaaaaaaaaaa",
    "0123456789abcdef0123456789abcdef01234567--api",
    "below.empty",
];

/// knot's daemon in a folder of its own. Killed by its id when dropped.
struct Knot {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Knot {
    async fn new(zone: &Zone) -> Self {
        // The port is free now, but not ours until knot has it.
        for _ in 0..5 {
            let folder = TempDir::new().unwrap();
            let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            std::fs::write(folder.path().join("zone"), zone_file(zone)).unwrap();
            std::fs::write(folder.path().join("knot.conf"), configuration(folder.path(), address)).unwrap();
            let child = Command::new("/usr/sbin/knotd")
                .arg("--config")
                .arg(folder.path().join("knot.conf"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("knotd, from Debian's package knot");
            let mut knot = Knot { address, child, _folder: folder };
            if knot.answers().await {
                return knot;
            }
        }
        panic!("knotd did not come up");
    }

    /// Waits until the zone is served; false if the daemon ended.
    async fn answers(&mut self) -> bool {
        let soa = ask(&format!("{ORIGIN}."), RecordType::SOA).message().to_vec().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..400 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let mut answer = [0; 512];
            let _ = socket.send_to(&soa, self.address).await;
            let got = tokio::time::timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
            match got {
                Ok(Ok(read)) if Message::from_vec(&answer[..read]).is_ok_and(|m| !m.answers.is_empty()) => return true,
                Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(_) => {}
            }
        }
        false
    }
}

fn configuration(folder: &Path, address: SocketAddr) -> String {
    let (folder, ip, port) = (folder.display(), address.ip(), address.port());
    format!(
        "server:\n  listen: {ip}@{port}\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n\
         database:\n  storage: {folder}\n\
         zone:\n  - domain: {ORIGIN}\n    storage: {folder}\n    file: zone\n    journal-content: none\n"
    )
}

/// What the zone is, written down as every name server reads it.
fn zone_file(zone: &Zone) -> String {
    let mut lines = format!(
        "$ORIGIN {ORIGIN}.\n$TTL 60\n@ SOA ns1 hostmaster {} 3600 600 604800 30\n@ NS ns1\n@ NS ns2\n",
        zone.serial
    );
    for name in ["@", "ns1", "ns2"].into_iter().chain(zone.names.iter().map(String::as_str)) {
        for address in &zone.addresses {
            lines += &format!("{name} {} {address}\n", if address.is_ipv4() { "A" } else { "AAAA" });
        }
    }
    lines
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }

    fn name(&mut self) -> String {
        let known = *self.pick(&NAMES);
        let base = match self.roll(12) {
            0 => ORIGIN.to_owned(),
            1 => format!("ns{}.{ORIGIN}", 1 + self.roll(3)),
            2..=5 => format!("{known}.{ORIGIN}"),
            6 => format!("x.{known}.{ORIGIN}"),
            7 => format!("empty.{ORIGIN}"),
            8 => format!("{}.{ORIGIN}", ["*", "_acme-challenge", "www", "a.b.c.d", "hostmaster"][self.roll(5)]),
            9 => format!("{}.{ORIGIN}", "y".repeat(1 + self.roll(63))),
            10 => ["test", "example.org", "xstaging.test", "staging.test.org", "1.0.0.127.in-addr.arpa"][self.roll(5)]
                .to_owned(),
            _ => return ".".to_owned(),
        };
        let spelled: String = base.chars().map(|c| if self.chance(20) { c.to_ascii_uppercase() } else { c }).collect();
        format!("{spelled}.")
    }

    fn ask(&mut self) -> Ask {
        const KINDS: [u16; 24] =
            [1, 1, 1, 28, 28, 2, 6, 5, 12, 15, 16, 33, 35, 43, 46, 47, 48, 51, 52, 64, 65, 255, 257, 65_280];
        let name = Name::from_ascii(self.name()).unwrap();
        let kind = RecordType::from(*self.pick(&KINDS));
        let edns = self.chance(60).then(|| (*self.pick(&[0, 512, 1232, 4096, 65_535]), self.chance(50)));
        Ask { name, kind, class: DNSClass::IN, edns, recurse: self.chance(50), tcp: self.chance(15) }
    }
}

/// What both must say alike. Names in records other than the owner may be spelled either way.
#[derive(Debug, PartialEq, Eq)]
struct Essence {
    code: u16,
    authoritative: bool,
    truncated: bool,
    recursion: (bool, bool),
    answers: Vec<String>,
    authority: Vec<String>,
    edns: Option<bool>,
}

fn essence(message: &Message) -> Essence {
    let answer = |record: &Record| {
        let data = record.data.to_string().to_lowercase();
        format!("{} {} {} {} {data}", record.name, record.ttl, record.dns_class, record.record_type())
    };
    let sorted = |records: &[Record], line: &dyn Fn(&Record) -> String| {
        let mut lines: Vec<String> = records.iter().map(line).collect();
        lines.sort();
        lines
    };
    Essence {
        code: message.metadata.response_code.into(),
        authoritative: message.metadata.authoritative,
        truncated: message.metadata.truncation,
        recursion: (message.metadata.recursion_desired, message.metadata.recursion_available),
        answers: sorted(&message.answers, &answer),
        authority: sorted(&message.authorities, &|record| answer(record).to_lowercase()),
        edns: message.edns.as_ref().map(|edns| edns.flags().dnssec_ok),
    }
}

#[tokio::test]
async fn thousands_of_questions_get_the_answers_that_knot_gives() {
    let zone = zone(2_026_010_101, &NAMES);
    let (knot, ours) = (Knot::new(&zone).await, Server::new(zone).await);
    let mut dice = Dice(1);
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for number in 0..6000 {
        let ask = dice.ask();
        let (theirs, mine) = tokio::join!(ask.to(knot.address), ask.to(ours.address));
        let (theirs, mine) = (essence(&theirs), essence(&mine));
        *codes.entry(theirs.code).or_default() += 1;
        assert_eq!(mine, theirs, "left is ours, right is knot's; question {number}: {ask:?}");
    }
    assert!(codes.values().all(|count| *count > 100) && codes.len() >= 3, "the questions are one-sided: {codes:?}");
}
