//! Requests and answers that servers read differently, and the headers between.

use edge::Patience;
use std::time::Duration;

use super::stage::{Backend, Fetched, Raw, SHA_A, Stage, host, open, request, status};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn before(raw: &Raw) -> Stage {
    Stage::new([(host(SHA_A), open(SHA_A, raw.upstream()))]).await
}

fn head(line: &str, headers: &str) -> String {
    format!("{line}\r\nHost: {}\r\n{headers}\r\n", host(SHA_A))
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_reach_nobody() {
    let backend = Backend::saying("reached").await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    let chunks = "2\r\nhi\r\n0\r\n\r\n";
    let bad = [
        (400, head("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n") + chunks),
        (400, head("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + chunks),
        (400, head("POST / HTTP/1.1", "Transfer-Encoding: identity\r\n") + chunks),
        (400, head("POST / HTTP/1.1", "Transfer-Encoding: xchunked\r\n") + chunks),
        (400, head("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n") + chunks),
        (400, head("POST / HTTP/1.1", "Content-Length: 2\r\nContent-Length: 3\r\n") + "hi"),
        (400, head("POST / HTTP/1.1", "Content-Length: +2\r\n") + "hi"),
        (400, head("POST / HTTP/1.1", "Content-Length: 2, 3\r\n") + "hi"),
        (400, head("POST / HTTP/1.1", "Content-Length: -1\r\n") + "hi"),
        (400, head("GET / HTTP/1.1", "Content-Length : 2\r\n") + "hi"),
        (400, head("OPTIONS * HTTP/1.1", "")),
        (400, head("GET nopath HTTP/1.1", "")),
        (501, head("get / HTTP/1.1", "")),
        (501, head("BREW / HTTP/1.1", "")),
        (405, head("TRACE / HTTP/1.1", "")),
        (405, format!("CONNECT {0}:80 HTTP/1.1\r\nHost: {0}:80\r\n\r\n", host(SHA_A))),
        (431, head("GET / HTTP/1.1", &"X: y\r\n".repeat(101))),
        (431, head("GET / HTTP/1.1", &format!("X: {}\r\n", "y".repeat(70_000)))),
        (400, head("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n") + "hi"),
    ];
    for (expected, bytes) in &bad {
        let answer = stage.raw(bytes).await;
        let shown: String = bytes.chars().take(200).collect();
        assert_eq!(status(&answer), *expected, "{shown:?} was answered {answer}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn length_and_coding_together_are_one_request_to_both_sides() {
    let raw = Raw::new("0\r\n\r\n", OK, false).await;
    let stage = before(&raw).await;
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
    {
        let smuggled = head("POST / HTTP/1.1", lengths) + "0\r\n\r\n" + &head("GET /smuggled HTTP/1.1", "");
        let answer = stage.raw(smuggled).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "the connection must end there: {answer}");
    }
    let seen = raw.seen().to_lowercase();
    assert_eq!(seen.matches("\r\nhost:").count(), 2, "{seen}");
    assert!(!seen.contains("content-length") && !seen.contains("smuggled"), "{seen}");
}

#[tokio::test]
async fn chunks_that_are_none_end_both_connections() {
    for chunks in ["0x2\r\nhi\r\n0\r\n\r\n", "2\nhi\n0\n\n", "ffffffffffffffffff\r\nhi\r\n", "2\r\nhi!\r\n0\r\n\r\n"] {
        let raw = Raw::new("0\r\n\r\n", OK, false).await;
        let stage = before(&raw).await;
        let answer = stage.raw(head("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n") + chunks).await;
        assert_eq!(status(&answer), 400, "{chunks:?} was answered {answer}");
        assert!(!raw.seen().contains("0\r\n\r\n"), "the application saw a whole request: {}", raw.seen());
    }
}

#[tokio::test]
async fn a_body_comes_through_whatever_the_method() {
    for (body, until) in [
        ("Content-Length: 2\r\n\r\nhi", "\r\nhi"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "0\r\n\r\n"),
    ] {
        for method in ["GET", "DELETE", "POST", "PROPFIND"] {
            let raw = Raw::new(until, OK, false).await;
            let request = format!("{method} / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{body}", host(SHA_A));
            let answer = before(&raw).await.raw(request).await;
            assert_eq!(status(&answer), 200, "{method} {body:?} was answered {answer}");
            let (head, rest) = body.split_once("\r\n").unwrap();
            let seen = raw.seen().to_lowercase();
            assert!(seen.contains(&head.to_lowercase()) && seen.ends_with(rest), "{method} {body:?} became {seen}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_is_one_only_if_the_connection_says_so() {
    let echo = Backend::echo().await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, echo.upstream()))]).await;
    for headers in [
        "Upgrade: websocket\r\nConnection: close\r\n",
        "Upgrade: websocket, h2c\r\nConnection: upgrade, close\r\n",
        "Upgrade: h2c\r\nConnection: upgrade, close, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    ] {
        let answer = stage.raw(head("GET / HTTP/1.1", headers)).await.to_lowercase();
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(!answer.contains("upgrade") && !answer.contains("http2-settings"), "{answer}");
    }
}

#[tokio::test]
async fn trailers_are_dropped_both_ways() {
    let raw = Raw::new(
        "0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n",
        false,
    )
    .await;
    let stage = before(&raw).await;
    let request = head("POST / HTTP/1.1", "Connection: close\r\nTrailer: Host\r\nTransfer-Encoding: chunked\r\n")
        + "2\r\nhi\r\n0\r\nHost: evil\r\nContent-Length: 9\r\n\r\n";
    let answer = stage.raw(request).await;
    assert!(answer.contains("ok") && !answer.to_lowercase().contains("cookie"), "{answer}");
    let seen = raw.seen().to_lowercase();
    assert!(seen.contains("\r\n2\r\nhi\r\n0\r\n\r\n") && !seen.contains("evil") && !seen.contains("trailer"), "{seen}");
}

#[tokio::test]
async fn only_real_hop_by_hop_headers_are_stripped_and_ours_are_overwritten() {
    let echo = Backend::echo().await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, echo.upstream()))]).await;
    let lies = [
        ("connection", "close, x-forwarded-for, host, x-mine"),
        ("keep-alive", "timeout=9"),
        ("proxy-authorization", "secret"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
        ("x-mine", "kept"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("proxy", "http://evil.test"),
        ("x-original-url", "/evil"),
        ("x-staging-trust", "trusted"),
    ];
    let seen = stage.fetch(request("GET", &host(SHA_A), "/", &lies)).await.text();
    let canonical = format!("{}:8080", host(SHA_A));
    for line in [
        format!("host: {canonical}"),
        "x-mine: kept".to_owned(),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-real-ip: 127.0.0.1".to_owned(),
        format!("x-forwarded-host: {canonical}"),
        "x-forwarded-proto: http".to_owned(),
        "x-forwarded-port: 8080".to_owned(),
        format!("forwarded: for=127.0.0.1;host=\"{canonical}\";proto=http"),
    ] {
        assert!(seen.contains(&format!("\n{line}\n")), "{line} is missing in {seen}");
    }
    for lie in ["6.6.6.6", "evil", "timeout=9", "secret", "h2c", "trailers", "x-staging-trust", "connection:"] {
        assert!(!seen.contains(lie), "{lie} came through: {seen}");
    }
}

#[tokio::test]
async fn answers_lose_what_reaches_beyond_their_host_and_say_which_commit_they_are() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAlt-Svc: h3=\":443\"\r\nNEL: {}\r\nReport-To: {}\r\n\
                  Reporting-Endpoints: x=\"https://evil.test\"\r\nPublic-Key-Pins: x\r\nKeep-Alive: timeout=1\r\n\
                  X-Robots-Tag: all\r\nX-Staging-Commit: forged\r\nX-Sidestage: page\r\nX-Mine: kept\r\nSet-Cookie: a=1\r\n\
                  Set-Cookie: b=2\r\n\r\nok";
    let raw = Raw::new("\r\n\r\n", answer, false).await;
    let got = before(&raw).await.get(&host(SHA_A), "/").await;
    for gone in ["alt-svc", "nel", "report-to", "reporting-endpoints", "public-key-pins", "keep-alive", "x-sidestage"] {
        assert_eq!(got.header(gone), None, "{gone}");
    }
    assert_eq!(got.header("x-robots-tag"), Some("noindex"));
    assert_eq!(got.header("x-staging-commit"), Some(SHA_A));
    assert_eq!(got.header("x-mine"), Some("kept"));
    assert_eq!(got.headers.get_all("set-cookie").iter().count(), 2);
}

#[tokio::test]
async fn answers_that_are_none_become_pages_and_harm_nobody_else() {
    let bad = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{}\r\nok", "X: y\r\n".repeat(200)),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\nok", "y".repeat(1024 * 1024)),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        String::new(),
    ];
    for answer in bad {
        let raw = Raw::new("\r\n\r\n", answer.clone(), false).await;
        let got = before(&raw).await.get(&host(SHA_A), "/").await;
        let shown: String = answer.chars().take(80).collect();
        assert_eq!(got.status, 502, "{shown:?} became {got:?}");
        assert!(got.text().contains("does not answer"));
    }
}

#[tokio::test]
async fn answers_of_every_framing_come_through() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let good = [
        (both, 200, "ok"),
        ("HTTP/1.1 200 OK\r\n\r\nok", 200, "ok"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304, ""),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nsurplus", 200, "ok"),
    ];
    for (answer, code, body) in good {
        let raw = Raw::new("\r\n\r\n", answer, false).await;
        let stage = before(&raw).await;
        for _ in 0..2 {
            let got = stage.get(&host(SHA_A), "/").await;
            assert_eq!((got.status.as_u16(), got.text().as_str()), (code, body), "{answer:?}");
        }
    }
    let raw = Raw::new("\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", false).await;
    let got = before(&raw).await.fetch(request("HEAD", &host(SHA_A), "/", &[])).await;
    assert_eq!((got.header("content-length"), got.body.len()), (Some("1234"), 0));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense",
    ] {
        let raw = Raw::new("\r\n\r\n", answer, false).await;
        let stage = before(&raw).await;
        let response = stage.start(request("GET", &host(SHA_A), "/", &[])).await;
        assert!(Fetched::read(response).await.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn silence_has_an_end() {
    let patience = Patience { first_byte: Duration::from_millis(100), head: Duration::from_millis(100), ..quick() };
    let mute = Raw::new("\r\n\r\n", "", true).await;
    let stage = Stage::patient([(host(SHA_A), open(SHA_A, mute.upstream()))], patience.clone()).await;
    let got = stage.get(&host(SHA_A), "/").await;
    assert_eq!(got.status, 504, "an application that says nothing: {got:?}");
    let answer = stage.raw(head("POST / HTTP/1.1", "Content-Length: 9\r\n") + "part").await;
    assert_eq!(status(&answer), 400, "a visitor who stops in the middle: {answer}");
    // Half a line: the edge closes, whatever it says before.
    let answer = stage.raw("GET / HT").await;
    assert!(!answer.contains("200"), "{answer}");

    let stuck = Raw::new("\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", true).await;
    let patience = Patience { body: Duration::from_millis(100), ..quick() };
    let stage = Stage::patient([(host(SHA_A), open(SHA_A, stuck.upstream()))], patience).await;
    let response = stage.start(request("GET", &host(SHA_A), "/", &[])).await;
    assert!(Fetched::read(response).await.is_err(), "an answer that stops in the middle");
}

fn quick() -> Patience {
    Patience { reroute: Duration::from_millis(10), ..Patience::default() }
}
