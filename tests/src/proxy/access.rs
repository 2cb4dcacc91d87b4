//! Who may ask for what: strangers outside, environments inside, and the object store for both.

use std::net::IpAddr;

use edge::Patience;
use edge::proxy::Side;
use planner::names;
use planner::tables::{Door, Route};
use planner::view::State;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{BOUND, Backend, DOMAIN, SHA_A, SHA_B, Stage, env, host, open, request, route, text};

#[tokio::test]
async fn environments_of_members_are_closed_to_strangers_whatever_their_state() {
    let backend = Backend::saying("secret").await;
    for door in [Door::Open(backend.upstream()), Door::Wake, Door::Shut] {
        let mut members = route(SHA_A, door, State::Failed);
        members.public = false;
        let alias = format!("pr-7.{DOMAIN}");
        let stage = Stage::new([
            (host(SHA_A), Route::Env(Box::new(members))),
            (alias.clone(), Route::Alias { to: host(SHA_A), proxy: false }),
        ])
        .await;
        for (name, path) in [(host(SHA_A), "/"), (host(SHA_A), "/.sidestage/"), (alias, "/")] {
            let page = stage.get(&name, path).await;
            assert_eq!(page.status, 403, "{name}{path}");
            assert!(page.text().contains("access = &quot;public&quot;"), "{}", page.text());
            for secret in ["secret", "Title", "Subject", "for a reason", "/admin", SHA_A] {
                assert!(!page.text().contains(secret), "{secret} is on {name}{path}");
            }
        }
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn the_inner_edge_answers_an_environment_its_own_and_nothing_else() {
    let (a, b, store) = (Backend::echo().await, Backend::saying("b").await, Backend::saying("objects").await);
    let mut own = route(SHA_A, Door::Open(a.upstream()), State::Ready);
    own.public = false;
    let mut asleep = route(SHA_A, Door::Wake, State::Asleep);
    asleep.env = env('a');
    asleep.public = false;
    let (mine, other) = (names::bucket(&env('a')), names::bucket(&env('b')));
    let routes = [
        (host(SHA_A), Route::Env(Box::new(own))),
        (format!("{SHA_A}--api.{DOMAIN}"), Route::Env(Box::new(asleep))),
        (host(SHA_B), open(SHA_B, b.upstream())),
        (format!("pr-1.{DOMAIN}"), Route::Alias { to: host(SHA_A), proxy: true }),
        (format!("pr-2.{DOMAIN}"), Route::Alias { to: host(SHA_B), proxy: true }),
        (DOMAIN.to_owned(), Route::Objects { bucket: None }),
        (format!("{mine}.{DOMAIN}"), Route::Objects { bucket: Some(mine.clone()) }),
        (format!("{other}.{DOMAIN}"), Route::Objects { bucket: Some(other.clone()) }),
    ];
    let mut stage = Stage::with(routes, Side::Inner, Patience::default(), store.address).await;
    assert_eq!(stage.get(&host(SHA_A), "/").await.status, 404, "a caller whom no environment owns");

    stage.change(|tables| {
        tables.inside.insert(IpAddr::from([127, 0, 0, 1]), env('a'));
    });
    let bare = DOMAIN.to_owned();
    let answers = [
        (host(SHA_A), "/".to_owned(), 200),
        (format!("pr-1.{DOMAIN}"), "/".to_owned(), 200),
        (format!("{SHA_A}--api.{DOMAIN}"), "/".to_owned(), 503),
        (host(SHA_B), "/".to_owned(), 404),
        (format!("pr-2.{DOMAIN}"), "/".to_owned(), 404),
        (format!("{mine}.{DOMAIN}"), "/key".to_owned(), 200),
        (format!("{other}.{DOMAIN}"), "/key".to_owned(), 404),
        (bare.clone(), format!("/{mine}/key"), 200),
        (bare.clone(), format!("/{mine}"), 200),
        (bare.clone(), "/".to_owned(), 200),
        (bare.clone(), format!("/{mine}x/key"), 404),
        (bare.clone(), format!("/{other}/key"), 404),
        (bare.clone(), format!("//{mine}/key"), 404),
        // A key is no path: this one is in the caller's own bucket.
        (bare.clone(), format!("/{mine}/../{other}/key"), 200),
        (bare.clone(), format!("/../{other}/key"), 404),
        (bare, format!("/{mine}%2F..%2F{other}/key"), 404),
    ];
    for (name, path, code) in answers {
        assert_eq!(stage.get(&name, &path).await.status, code, "{name}{path}");
    }
    let page = stage.get(&format!("{SHA_A}--api.{DOMAIN}"), "/").await.text();
    assert!(
        !page.contains("Title") && !page.contains("for a reason"),
        "of the repository, on a route for members: {page}"
    );
    assert_eq!(b.count(), 0);
    assert!(stage.visits.snapshot(planner::identity::Time(1)).is_empty(), "what comes from inside is no visit");
    assert!(stage.knocks.try_recv().is_err(), "nor does it wake");
}

#[tokio::test]
async fn requests_to_the_object_store_pass_byte_for_byte() {
    let store = Backend::new(|request| async move {
        let headers = request.headers().clone();
        let target = request.uri().to_string();
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        let seen = |name: &str| headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        let lines = [
            target,
            seen("host"),
            seen("authorization"),
            seen("x-amz-date"),
            seen("content-length"),
            seen("transfer-encoding"),
            seen("x-forwarded-for"),
            String::from_utf8(body.to_vec()).unwrap(),
        ];
        hyper::Response::builder().header("access-control-allow-origin", "x").body(text(lines.join("\n"))).unwrap()
    })
    .await;
    let bucket = names::bucket(&env('a'));
    let virtual_host = format!("{bucket}.{DOMAIN}");
    let routes = [
        (DOMAIN.to_owned(), Route::Objects { bucket: None }),
        (virtual_host.clone(), Route::Objects { bucket: Some(bucket.clone()) }),
    ];
    let stage = Stage::with(routes, Side::Outer, Patience::default(), store.address).await;
    let targets = [
        "/a%2Fb/c//d%20e?x-id=PutObject&list-type=2&prefix=%2f&X-Amz-Signature=abc%3D".to_owned(),
        "/%E2%82%AC/~*'()!?uploads".to_owned(),
        "/a/../b/./c?".to_owned(),
        "//double?versionId=null&a+b".to_owned(),
        format!("/{bucket}/key"),
    ];
    for host in [format!("{DOMAIN}:8080"), format!("{}:8080", virtual_host.to_uppercase())] {
        for target in &targets {
            let signed = [
                ("authorization", "AWS4-HMAC-SHA256 x"),
                ("x-amz-date", "20260101T000000Z"),
                ("expect", "100-continue"),
                ("connection", "keep-alive"),
            ];
            let mut put = request("PUT", &host, target, &signed);
            *put.body_mut() = text("content");
            let got = stage.fetch(put).await;
            let expected = [target, &host, "AWS4-HMAC-SHA256 x", "20260101T000000Z", "7", "none", "none", "content"];
            assert_eq!(got.text(), expected.join("\n"));
            assert_eq!(got.header("access-control-allow-origin"), Some("x"));
        }
    }
}

#[tokio::test]
async fn one_environment_cannot_take_all_places_of_the_inner_edge() {
    let stage = Stage::with([], Side::Inner, Patience::default(), ([127, 0, 0, 1], 9).into()).await;
    let mut connections = Vec::new();
    for _ in 0..256 {
        let mut connection = TcpStream::connect(stage.address).await.unwrap();
        connection.write_all(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        connection.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 404");
        connections.push(connection);
    }
    assert_eq!(stage.raw("GET / HTTP/1.1\r\nHost: x.test\r\n\r\n").await, "", "one more than its share");
    // Another address still gets in.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    let mut other = socket.connect(stage.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n").await.unwrap();
    assert!(other.read_u8().await.is_ok());
    // And who lets go may come again.
    drop(connections);
    let again =
        async { while stage.raw("GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n").await.is_empty() {} };
    tokio::time::timeout(BOUND, again).await.expect("the places are not given back");
}
