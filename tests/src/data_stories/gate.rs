//! An S3 server with a few hundred objects, one of which nobody gets before the gate is opened.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Sources;
use crate::objects::second::credentials;

/// How many objects it has. A few batches of a snapshot.
pub(super) const COUNT: usize = 500;
/// The one behind the gate.
const HELD: usize = 450;

/// The server. It ends with this value.
pub(super) struct Gate {
    address: SocketAddr,
    doors: Arc<Doors>,
    serving: JoinHandle<()>,
}

struct Doors {
    open: watch::Sender<bool>,
    waiting: watch::Sender<bool>,
}

impl Gate {
    pub(super) async fn start() -> Gate {
        let doors = Arc::new(Doors { open: watch::Sender::new(false), waiting: watch::Sender::new(false) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(doors.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Gate { address, doors, serving }
    }

    /// The command that makes `shop` of the dump and of what it has.
    pub(super) fn create(&self, sources: &Sources) -> String {
        let (dump, file) = (sources.at("shop.sql"), sources.at("keys"));
        credentials(&file, "anybody", "whatever");
        format!(
            "baseline create shop --database {} --objects s3://theirs --endpoint http://{} --credentials-file {}",
            dump.display(),
            self.address,
            file.display()
        )
    }

    /// Waits until somebody stands before the gate.
    pub(super) async fn held(&self) {
        let mut waiting = self.doors.waiting.subscribe();
        let held = tokio::time::timeout(std::time::Duration::from_secs(60), waiting.wait_for(|waits| *waits));
        held.await.expect("nobody comes to the gate").unwrap();
    }

    pub(super) fn open(&self) {
        self.doors.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(doors): State<Arc<Doors>>, uri: Uri) -> Response {
    if uri.query().is_some_and(|query| query.contains("list-type")) {
        return list().into_response();
    }
    let number = uri.path().rsplit('/').next().and_then(|name| name.parse::<usize>().ok());
    if number == Some(HELD) {
        doors.waiting.send_replace(true);
        let _ = doors.open.subscribe().wait_for(|open| *open).await;
    }
    "12345".into_response()
}

fn list() -> String {
    let one = |number| {
        format!(
            "<Contents><Key>{number:03}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>5</Size></Contents>"
        )
    };
    let all: String = (0..COUNT).map(one).collect();
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>theirs</Name><IsTruncated>false</IsTruncated>\
         <KeyCount>{COUNT}</KeyCount><MaxKeys>1000</MaxKeys>{all}</ListBucketResult>"
    )
}
