//! What resolvers trip over: EDNS, operations, malformed questions, sizes, and names that have just come or gone.

use std::net::IpAddr;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use planner::tables::Zone;
use tokio::net::UdpSocket;

use super::server::{Ask, ORIGIN, Server, ask, over_tcp, over_udp, zone};

fn apex(kind: RecordType) -> Ask {
    ask(&format!("{ORIGIN}."), kind)
}

#[tokio::test]
async fn a_name_is_there_as_soon_as_it_is_published_and_gone_as_soon_as_it_is_not() {
    let server = Server::new(zone(1, &[])).await;
    for serial in (2..200).step_by(2) {
        let name = format!("pr-{serial}");
        let question = ask(&format!("{name}.{ORIGIN}."), RecordType::A);
        server.publish(zone(serial, &[&name]));
        let there = question.to(server.address).await;
        assert_eq!((there.metadata.response_code, there.answers.len()), (ResponseCode::NoError, 1));
        server.publish(zone(serial + 1, &[]));
        let gone = question.to(server.address).await;
        assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
        let soa = gone.authorities[0].data.to_string();
        assert!(soa.contains(&format!(" {} ", serial + 1)), "{soa}");
        assert!(gone.authorities[0].ttl <= 60, "resolvers would remember for long that it was not there");
    }
}

#[tokio::test]
async fn without_a_zone_everything_is_refused() {
    let server = Server::new(Zone::default()).await;
    for name in [".", "staging.test.", "example.org."] {
        let answer = ask(name, RecordType::A).to(server.address).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    server.publish(zone(1, &["pr-1"]));
    assert_eq!(apex(RecordType::A).to(server.address).await.answers.len(), 1);
    // A name that is none does not cost the others.
    server.publish(zone(2, &[&"x".repeat(70), "pr-2"]));
    assert_eq!(ask(&format!("pr-2.{ORIGIN}."), RecordType::A).to(server.address).await.answers.len(), 1);
}

#[tokio::test]
async fn outside_names_classes_and_transfers_are_refused_at_once() {
    let server = Server::new(zone(1, &["pr-1"])).await;
    let mut questions = vec![
        ask("example.org.", RecordType::A),
        ask("test.", RecordType::NS),
        ask("version.bind.", RecordType::TXT),
        apex(RecordType::AXFR),
        apex(RecordType::IXFR),
    ];
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY] {
        questions.push(Ask { class, ..apex(RecordType::A) });
    }
    for question in questions {
        for tcp in [false, true] {
            let answer = Ask { tcp, ..question.clone() }.to(server.address).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{question:?}");
            assert!(!answer.metadata.authoritative && answer.answers.is_empty() && answer.authorities.is_empty());
        }
    }
}

#[tokio::test]
async fn versions_operations_and_malformed_questions_have_their_codes() {
    let server = Server::new(zone(1, &[])).await;
    let mut badvers = apex(RecordType::A).message();
    badvers.edns.get_or_insert_default().set_version(1);
    let operation = |code: OpCode| {
        let mut message = apex(RecordType::SOA).message();
        message.metadata.op_code = code;
        message
    };
    let mut none = apex(RecordType::A).message();
    none.queries.clear();
    let mut two = apex(RecordType::A).message();
    two.queries.push(apex(RecordType::AAAA).message().queries[0].clone());
    let table = [
        (badvers, ResponseCode::BADVERS),
        (operation(OpCode::Status), ResponseCode::NotImp),
        (operation(OpCode::Notify), ResponseCode::NotImp),
        (operation(OpCode::Update), ResponseCode::NotImp),
        (none, ResponseCode::FormErr),
        (two, ResponseCode::FormErr),
    ];
    for (message, code) in table {
        let bytes = message.to_vec().unwrap();
        for answer in [over_udp(server.address, &bytes).await, over_tcp(server.address, &bytes).await] {
            let answer = Message::from_vec(&answer).unwrap();
            // 16 has two names.
            assert_eq!(u16::from(answer.metadata.response_code), u16::from(code), "{message}");
            assert_eq!(answer.metadata.id, message.metadata.id);
            assert!(answer.answers.is_empty());
            assert_eq!(answer.edns.map(|edns| edns.version()), message.edns.as_ref().map(|_| 0));
        }
    }
}

#[tokio::test]
async fn what_is_no_question_is_not_answered() {
    let server = Server::new(zone(1, &[])).await;
    let mut response = apex(RecordType::A).message();
    response.metadata.message_type = hickory_proto::op::MessageType::Response;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for junk in [response.to_vec().unwrap(), vec![], vec![0; 5], vec![0xff; 300]] {
        socket.send_to(&junk, server.address).await.unwrap();
    }
    // A question behind them is: whatever comes first is its answer, or an error that carries none.
    let mut asked = apex(RecordType::A).message();
    asked.metadata.id = 7;
    socket.send_to(&asked.to_vec().unwrap(), server.address).await.unwrap();
    let mut buffer = [0; 1500];
    loop {
        let read = socket.recv(&mut buffer).await.unwrap();
        if buffer[..2] == [0, 7] {
            let answer = Message::from_vec(&buffer[..read]).unwrap();
            assert_eq!(answer.answers.len(), 1);
            return;
        }
        assert!(read <= 12, "junk was answered with {read} bytes");
    }
}

#[tokio::test]
async fn payloads_are_held_to_what_arrives_and_the_rest_goes_over_tcp() {
    let mut many = zone(1, &["pr-1"]);
    many.addresses = (0..100).map(|last| IpAddr::from([203, 0, 113, last])).collect();
    let server = Server::new(many).await;
    let question = ask(&format!("pr-1.{ORIGIN}."), RecordType::A);
    for (offered, most) in [(None, 512), (Some(0), 512), (Some(700), 700), (Some(1232), 1232), (Some(65_535), 1232)] {
        let asked = Ask { edns: offered.map(|payload| (payload, true)), ..question.clone() };
        let bytes = over_udp(server.address, &asked.message().to_vec().unwrap()).await;
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= most, "{offered:?}: {} bytes", bytes.len());
        assert!(answer.metadata.truncation, "{offered:?}");
        let (payload, dnssec) =
            (answer.edns.as_ref().map(hickory_proto::op::Edns::max_payload), answer.edns.map(|e| e.flags().dnssec_ok));
        assert_eq!(payload, offered.map(|_| u16::try_from(most).unwrap()));
        assert_eq!(dnssec, offered.map(|_| true));
        let whole = Ask { tcp: true, ..asked }.to(server.address).await;
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));
    }
}

#[tokio::test]
async fn names_come_back_as_they_were_spelled() {
    let server = Server::new(zone(1, &["pr-7"])).await;
    let answer = ask("pR-7.StAgInG.tEsT.", RecordType::A).to(server.address).await;
    assert_eq!(answer.answers[0].name.to_string(), "pR-7.StAgInG.tEsT.");
    assert_eq!(answer.queries[0].name().to_string(), "pR-7.StAgInG.tEsT.");
}

#[tokio::test]
async fn issuers_and_browsers_hear_that_there_is_none() {
    let server = Server::new(zone(1, &["pr-7"])).await;
    for kind in [RecordType::CAA, RecordType::HTTPS, RecordType::MX, RecordType::TXT, RecordType::DS] {
        for name in [format!("pr-7.{ORIGIN}."), format!("{ORIGIN}."), format!("ns1.{ORIGIN}.")] {
            let answer = ask(&name, kind).to(server.address).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
            assert_eq!((answer.answers.len(), answer.authorities.len()), (0, 1));
        }
    }
}
