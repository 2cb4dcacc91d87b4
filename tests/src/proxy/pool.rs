//! Connections to upstreams: reused, never another container's, and a swap that nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edge::Patience;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::stage::{Backend, Fetched, SHA_A, SHA_B, Stage, host, open, request, text, until, upstream};

#[tokio::test]
async fn connections_are_reused() {
    let backend = Backend::saying("ok").await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, backend.upstream()))]).await;
    for _ in 0..20 {
        assert_eq!(stage.get(&host(SHA_A), "/").await.status, 200);
    }
    assert!(backend.connections.load(Ordering::SeqCst) < 20, "every request had a connection of its own");
}

/// A server that answers one request a connection, with keep-alive promised, and closes at the second.
async fn closing() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                // The second request is read and dropped without a word: nobody can know whether it was acted on.
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn a_stale_connection_costs_no_request() {
    let (address, connections) = closing().await;
    let stage = Stage::new([(host(SHA_A), open(SHA_A, upstream("c", 1, address)))]).await;
    for round in 0..5 {
        for method in ["GET", "POST"] {
            let got = stage.fetch(request(method, &host(SHA_A), "/", &[])).await;
            assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "ok"), "{method} {round}");
        }
    }
    assert!(connections.load(Ordering::SeqCst) >= 10);
}

#[tokio::test]
async fn a_reused_address_gets_connections_of_its_own() {
    // Tells on which connection an answer came.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let stage = Stage::new([(host(SHA_A), open(SHA_A, upstream("old", 1, address)))]).await;
    assert_eq!(stage.get(&host(SHA_A), "/").await.text(), "0");
    for (number, (container, generation)) in [("new", 1), ("new", 2), ("old", 1)].into_iter().enumerate() {
        stage.set(host(SHA_B), open(SHA_B, upstream(container, generation, address)));
        stage.change(|tables| {
            tables.routes.remove(&host(SHA_A));
        });
        let got = stage.get(&host(SHA_B), "/").await.text();
        assert_eq!(got, (number + 1).to_string(), "a connection to another container or generation was used");
    }
}

#[tokio::test]
async fn connections_end_with_their_route() {
    // Answers the second request when told to, and says when a connection has ended.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let old = upstream("old", 1, listener.local_addr().unwrap());
    let (answer, mut may_answer) = tokio::sync::mpsc::channel::<()>(1);
    let ended = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&ended);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {
                may_answer.recv().await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let hour = Duration::from_secs(3600);
    let patience = Patience { pooled: hour, ..Patience::default() };
    let stage = Stage::patient([(host(SHA_A), open(SHA_A, old.clone()))], patience).await;
    let new = Backend::saying("new").await;
    for round in 1..=2 {
        stage.set(host(SHA_A), open(SHA_A, old.clone()));
        let name = host(SHA_A);
        let (got, ()) = tokio::join!(stage.get(&name, "/"), async {
            until("the request", || stage.visits.open(&super::stage::env('a')) == 1).await;
            if round == 2 {
                // Under way while the route goes elsewhere: answered, and then nobody has a use for the connection.
                stage.set(host(SHA_A), open(SHA_A, new.upstream()));
                assert_eq!(stage.get(&host(SHA_A), "/").await.text(), "new");
            }
            answer.send(()).await.unwrap();
        });
        assert_eq!(got.text(), "ok");
        stage.set(host(SHA_A), open(SHA_A, new.upstream()));
        until("the end of the connection", || ended.load(Ordering::SeqCst) == round).await;
    }
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_looked_for_once_more() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let new = Backend::saying("the new one").await;
    let patience = Patience { reroute: Duration::from_secs(20), ..Patience::default() };
    let stage = Stage::patient([(host(SHA_A), open(SHA_A, upstream("old", 1, gone)))], patience).await;
    let name = host(SHA_A);
    let (got, ()) = tokio::join!(stage.fetch(request("POST", &name, "/", &[])), async {
        until("the request", || stage.visits.open(&super::stage::env('a')) == 1).await;
        stage.set(host(SHA_A), open(SHA_A, new.upstream()));
    });
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "the new one"));

    let patience = Patience { reroute: Duration::from_millis(10), ..Patience::default() };
    let stage = Stage::patient([(host(SHA_A), open(SHA_A, upstream("old", 1, gone)))], patience).await;
    let got = stage.get(&host(SHA_A), "/").await;
    assert_eq!(got.status, 502);
    assert!(got.text().contains("nothing accepts connections"), "{}", got.text());
}

async fn generation(number: usize) -> Backend {
    Backend::new(move |_| async move {
        tokio::task::yield_now().await;
        Response::new(text(format!("generation {number}")))
    })
    .await
}

const SWAPS: usize = 20;

/// Eight visitors ask without a pause while the route moves from generation to generation. The old one is asked to end
/// at once, or (`drained`) when what was asked before the swap has been answered.
async fn swap(method: &'static str, drained: bool) {
    let mut current = generation(0).await;
    let stage = Arc::new(Stage::new([(host(SHA_A), open(SHA_A, upstream("0", 0, current.address)))]).await);
    let newest = Arc::new(AtomicUsize::new(0));
    let answered: Vec<Arc<AtomicUsize>> = (0..8).map(|_| Arc::default()).collect();
    let visitors: Vec<_> = answered
        .iter()
        .map(|answered| {
            let (stage, newest, answered) = (Arc::clone(&stage), Arc::clone(&newest), Arc::clone(answered));
            tokio::spawn(async move {
                while newest.load(Ordering::SeqCst) < SWAPS {
                    let at_least = newest.load(Ordering::SeqCst);
                    let got = stage.fetch(request(method, &host(SHA_A), "/", &[])).await;
                    assert_eq!(got.status, 200, "{got:?}");
                    let number: usize = got.text().strip_prefix("generation ").unwrap().parse().unwrap();
                    assert!(number >= at_least, "an old generation answered after the swap: {number} < {at_least}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    // Two answers later, none is left that was asked for before.
    let everybody = || async {
        let before: Vec<usize> = answered.iter().map(|answered| answered.load(Ordering::SeqCst)).collect();
        let later = || answered.iter().zip(&before).all(|(now, before)| now.load(Ordering::SeqCst) >= before + 2);
        until("an answer to every visitor", || later() || visitors.iter().any(tokio::task::JoinHandle::is_finished))
            .await;
    };
    for number in 1..=SWAPS {
        let next = generation(number).await;
        let route = open(SHA_A, upstream(&number.to_string(), u32::try_from(number).unwrap(), next.address));
        stage.set(host(SHA_A), route);
        if number < SWAPS {
            newest.store(number, Ordering::SeqCst);
        }
        if drained {
            everybody().await;
        }
        drop(std::mem::replace(&mut current, next));
        everybody().await;
    }
    newest.store(SWAPS, Ordering::SeqCst);
    for visitor in visitors {
        visitor.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_fails_no_request() {
    swap("POST", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_that_cuts_the_old_off_fails_no_request_that_may_be_repeated() {
    swap("GET", false).await;
}

/// Who replaces a container waits for this before the old one goes.
#[tokio::test]
async fn what_a_container_was_asked_is_known_until_it_has_answered() {
    let (mut old, new) = (Slow::start().await, Backend::saying("new").await);
    let stage = Stage::new([(host(SHA_A), open(SHA_A, old.upstream.clone()))]).await;
    let (name, container) = (host(SHA_A), old.upstream.container.clone());
    let mut answered = std::pin::pin!(stage.visits.answered(&container));
    let (begun, ()) = tokio::join!(stage.start(request("POST", &name, "/", &[])), async {
        old.asked().await;
        stage.set(host(SHA_A), open(SHA_A, new.upstream()));
        assert!(futures_util::poll!(&mut answered).is_pending(), "somebody waits");
        stage.visits.answered(&new.upstream().container).await;
        old.says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    });
    assert!(futures_util::poll!(&mut answered).is_pending(), "and still, for the end of the answer");
    old.says("k");
    let got = Fetched::read(begun).await.unwrap();
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "ok"));
    tokio::time::timeout(Duration::from_secs(20), answered).await.expect("nobody waits");
    assert_eq!(stage.get(&host(SHA_A), "/").await.text(), "new");
}

/// A container that answers one request with what it is told, when it is told.
struct Slow {
    upstream: planner::tables::Upstream,
    asked: tokio::sync::oneshot::Receiver<()>,
    told: tokio::sync::mpsc::UnboundedSender<&'static str>,
}

impl Slow {
    async fn start() -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = upstream("slow", 1, listener.local_addr().unwrap());
        let (ask, asked) = tokio::sync::oneshot::channel();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<&str>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            ask.send(()).unwrap();
            while let Some(words) = told.recv().await {
                stream.write_all(words.as_bytes()).await.unwrap();
            }
        });
        Slow { upstream, asked, told: tell }
    }

    async fn asked(&mut self) {
        (&mut self.asked).await.unwrap();
    }

    fn says(&self, words: &'static str) {
        self.told.send(words).unwrap();
    }
}
