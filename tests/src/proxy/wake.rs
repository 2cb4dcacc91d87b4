//! Requests to environments that sleep.

use std::time::Duration;

use edge::Patience;
use futures_util::future::join_all;
use planner::tables::{Door, Route};
use planner::view::State;

use super::stage::{BOUND, Backend, SHA_A, SHA_B, Stage, env, host, open, request, route, until};

const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const JSON: (&str, &str) = ("accept", "application/json");

fn asleep() -> [(String, Route); 1] {
    [(host(SHA_A), Route::Env(Box::new(route(SHA_A, Door::Wake, State::Asleep))))]
}

/// One knock must do: the next would come in an hour.
fn one_knock() -> Patience {
    Patience { knock: Duration::from_secs(3600), ..Patience::default() }
}

#[tokio::test]
async fn fifty_first_requests_wake_once_and_are_all_answered() {
    let backend = Backend::saying("awake").await;
    let mut stage = Stage::patient(asleep(), one_knock()).await;
    let name = host(SHA_A);
    let requests = join_all((0..50).map(|number| {
        let (method, accept) = if number % 2 == 0 { ("GET", HTML) } else { ("POST", JSON) };
        stage.fetch(request(method, &name, "/", &[accept]))
    }));
    let waking = async {
        until("fifty held requests", || stage.visits.open(&env('a')) == 50).await;
        let way = Route::Env(Box::new(route(SHA_A, Door::Shut, State::Waking)));
        stage.set(host(SHA_A), way);
        stage.set(host(SHA_A), open(SHA_A, backend.upstream()));
    };
    let (answers, ()) = tokio::join!(requests, waking);
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "awake"));
    }
    assert_eq!(stage.knocks.try_recv().unwrap(), env('a'));
    assert!(stage.knocks.try_recv().is_err(), "more than one knock");
    assert_eq!(backend.count(), 50);
}

#[tokio::test]
async fn requests_are_held_while_waking_is_under_way() {
    let backend = Backend::saying("awake").await;
    let waking = Route::Env(Box::new(route(SHA_A, Door::Shut, State::Waking)));
    let stage = Stage::patient([(host(SHA_A), waking)], one_knock()).await;
    let name = host(SHA_A);
    let (got, ()) = tokio::join!(stage.get(&name, "/"), async {
        until("the held request", || stage.visits.open(&env('a')) == 1).await;
        stage.set(host(SHA_A), open(SHA_A, backend.upstream()));
    });
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "awake"));
}

#[tokio::test]
async fn a_knock_that_was_lost_is_repeated() {
    let mut stage =
        Stage::patient(asleep(), Patience { knock: Duration::from_millis(20), ..Patience::default() }).await;
    let backend = Backend::saying("awake").await;
    let name = host(SHA_A);
    let stream = raw_get(stage.address, &name).await;
    for _ in 0..3 {
        assert_eq!(tokio::time::timeout(BOUND, stage.knocks.recv()).await.unwrap(), Some(env('a')));
    }
    stage.set(name, open(SHA_A, backend.upstream()));
    assert!(answer(stream).await.ends_with("awake"));
}

async fn raw_get(address: std::net::SocketAddr, host: &str) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_browser_sees_a_page_that_comes_back_and_a_program_waits() {
    let patience =
        Patience { wake: Duration::from_millis(300), wake_browser: Duration::from_millis(20), ..one_knock() };
    let mut stage = Stage::patient(asleep(), patience).await;
    let page = stage.fetch(request("GET", &host(SHA_A), "/", &[HTML])).await;
    assert_eq!(page.status, 503);
    assert!(page.header("retry-after").is_some());
    assert!(page.text().contains("http-equiv=\"refresh\""), "{}", page.text());
    assert_eq!(page.header("x-sidestage"), Some("page"));
    let page = stage.fetch(request("GET", &host(SHA_A), "/", &[JSON])).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (503, Some("application/json")));
    assert_eq!(stage.knocks.try_recv().unwrap(), env('a'));
    assert_eq!(stage.visits.snapshot(planner::identity::Time(1)).len(), 1, "who knocks is a visitor");
}

#[tokio::test]
async fn waking_that_ends_in_failure_says_so() {
    let stage = Stage::patient(asleep(), one_knock()).await;
    let name = host(SHA_A);
    let (page, ()) = tokio::join!(stage.fetch(request("GET", &name, "/", &[JSON])), async {
        until("the request", || stage.visits.open(&env('a')) == 1).await;
        stage.set(host(SHA_A), Route::Env(Box::new(route(SHA_A, Door::Shut, State::Failed))));
    });
    assert_eq!(page.status, 502);
    assert!(page.text().contains("for a reason"), "{}", page.text());
}

#[tokio::test]
async fn nobody_is_woken_by_strangers_or_by_pages_of_ours() {
    let mut members = route(SHA_B, Door::Wake, State::Asleep);
    members.public = false;
    let [sleeper] = asleep();
    let mut stage = Stage::patient([sleeper, (host(SHA_B), Route::Env(Box::new(members)))], one_knock()).await;
    assert_eq!(stage.get(&host(SHA_B), "/").await.status, 403);
    assert_eq!(stage.get("unknown.staging.test", "/").await.status, 404);
    assert_eq!(stage.get(&host(SHA_A), "/.sidestage/").await.status, 200);
    assert!(stage.knocks.try_recv().is_err());
    assert!(stage.visits.snapshot(planner::identity::Time(1)).is_empty());
}

#[tokio::test]
async fn a_host_that_another_environment_takes_over_is_visited_there() {
    let backend = Backend::saying("the other one").await;
    let stage = Stage::patient(asleep(), one_knock()).await;
    let name = host(SHA_A);
    let (got, ()) = tokio::join!(stage.fetch(request("GET", &name, "/", &[])), async {
        until("the request", || stage.visits.open(&env('a')) == 1).await;
        let mut other = route(SHA_A, Door::Open(backend.upstream()), State::Ready);
        other.env = env('b');
        stage.set(host(SHA_A), Route::Env(Box::new(other)));
    });
    assert_eq!(got.text(), "the other one");
    let visited: Vec<_> = stage.visits.snapshot(planner::identity::Time(1)).into_iter().map(|(env, _)| env).collect();
    assert_eq!(visited, [env('a'), env('b')]);
    assert_eq!((stage.visits.open(&env('a')), stage.visits.open(&env('b'))), (0, 0));
}
