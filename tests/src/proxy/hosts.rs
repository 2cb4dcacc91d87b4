//! Which host a request is for, and where it goes.

use planner::tables::Route;

use super::stage::{Backend, DOMAIN, SHA_A, SHA_B, Stage, host, open, request, status};

async fn two() -> (Stage, Backend, Backend) {
    let (a, b) = (Backend::saying("this is a").await, Backend::saying("this is b").await);
    let stage = Stage::new([
        (host(SHA_A), open(SHA_A, a.upstream())),
        (host(SHA_B), open(SHA_B, b.upstream())),
        (format!("pr-7.{DOMAIN}"), Route::Alias { to: host(SHA_B), proxy: false }),
        (format!("pr-8.{DOMAIN}"), Route::Alias { to: host(SHA_B), proxy: true }),
    ])
    .await;
    (stage, a, b)
}

#[tokio::test]
async fn unclear_hosts_are_refused_and_reach_nobody() {
    let (stage, a, b) = two().await;
    let (host_a, host_b) = (host(SHA_A), host(SHA_B));
    let bad = [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host_a}\r\nHost: {host_b}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}\r\nHost: {host_a}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}@evil\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: user@{host_a}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host_a}%00\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a},{host_b}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}..\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}:\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}:80:80\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}:x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host_a}:99999\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
        format!("GET http://{host_b}/ HTTP/1.1\r\nHost: {host_a}\r\n\r\n"),
        format!("GET ftp://{host_a}/ HTTP/1.1\r\nHost: {host_a}\r\n\r\n"),
        format!("GET http://{host_a}/ HTTP/1.1\r\n\r\n"),
    ];
    for bytes in &bad {
        let answer = stage.raw(bytes).await;
        assert_eq!(status(&answer), 400, "{bytes:?} was answered {answer}");
    }
    assert_eq!((a.count(), b.count()), (0, 0));
}

#[tokio::test]
async fn spellings_of_one_host_are_one_host() {
    let (stage, a, _b) = two().await;
    let spellings = [
        host(SHA_A),
        format!("{}.Staging.TEST.:443", SHA_A.to_uppercase()),
        format!("{}:8080", host(SHA_A)),
        format!("{}.", host(SHA_A)),
    ];
    for spelling in &spellings {
        assert_eq!(stage.get(spelling, "/").await.text(), "this is a", "{spelling}");
    }
    let absolute = format!("GET http://{0}/x HTTP/1.1\r\nHost: {0}\r\nConnection: close\r\n\r\n", host(SHA_A));
    assert!(stage.raw(absolute).await.ends_with("this is a"));
    assert_eq!(a.count(), spellings.len() + 1);
}

#[tokio::test]
async fn hosts_that_are_not_in_the_table_get_a_page_that_names_nothing() {
    let (stage, a, b) = two().await;
    let unknown = [
        format!("{}.{DOMAIN}", &SHA_A[..39]),
        format!("{SHA_A}a.{DOMAIN}"),
        format!("{}.{DOMAIN}", &SHA_A[..8]),
        format!("{}.{DOMAIN}", "g".repeat(40)),
        format!("x.{SHA_A}.{DOMAIN}"),
        format!("{SHA_A}.{DOMAIN}.evil.test"),
        format!("console.{DOMAIN}"),
        DOMAIN.to_owned(),
    ];
    for name in &unknown {
        let page = stage.get(name, "/").await;
        assert_eq!(page.status, 404, "{name}");
        let text = page.text().to_lowercase();
        assert!(!text.contains(SHA_A) && !text.contains(DOMAIN) && !text.contains("shop"), "{name}: {text}");
    }
    assert_eq!((a.count(), b.count()), (0, 0));
}

#[tokio::test]
async fn an_alias_sends_lookers_to_the_canonical_host_and_serves_everything_else() {
    let (stage, _a, b) = two().await;
    let alias = format!("pr-7.{DOMAIN}");
    for method in ["GET", "HEAD"] {
        let answer = stage.fetch(request(method, &alias, "//evil.test/a%2Fb?x=1&y=%20", &[])).await;
        assert_eq!(answer.status, 302);
        let to = format!("http://{}:8080//evil.test/a%2Fb?x=1&y=%20", host(SHA_B));
        assert_eq!(answer.header("location"), Some(to.as_str()));
    }
    assert_eq!(b.count(), 0);
    let answer = stage.fetch(request("POST", &alias, "/", &[])).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "this is b"));
    let answer = stage.get(&format!("pr-8.{DOMAIN}"), "/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "this is b"));
    assert_eq!(answer.header("x-staging-commit"), Some(SHA_B));
}

#[tokio::test]
async fn an_alias_gives_the_application_its_canonical_host() {
    let echo = Backend::echo().await;
    let alias = format!("pr-7.{DOMAIN}");
    let stage = Stage::new([
        (host(SHA_A), open(SHA_A, echo.upstream())),
        (alias.clone(), Route::Alias { to: host(SHA_A), proxy: true }),
    ])
    .await;
    let seen = stage.get(&alias, "/path?query").await.text();
    assert!(seen.starts_with("GET /path?query\n"), "{seen}");
    assert!(seen.contains(&format!("\nhost: {}:8080\n", host(SHA_A))), "{seen}");
}

#[tokio::test]
async fn the_certificate_challenge_path_never_reaches_an_application() {
    let (stage, a, _b) = two().await;
    let answer = stage.get(&host(SHA_A), "/.well-known/acme-challenge/token").await;
    assert_eq!((answer.status.as_u16(), a.count()), (404, 0));
}
