//! What is left after a death in the middle, and removals that go on afterwards.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use drivers::Driver;
use drivers::objects::{Settings, Upstream};
use planner::resource::Phase;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::AsyncBufReadExt;

use super::{DOMAIN, Place, bucket, clients, env, until};

/// Tells this very binary to serve a store instead of testing.
const SERVE: &str = "OBJECTS_TEST_SERVE";
/// Endpoint, bucket and file of credentials, when its blobs live in a bucket.
const BEHIND: &str = "OBJECTS_TEST_BEHIND";

pub(super) fn behind(told: Option<&str>) -> Settings {
    let upstream = told.filter(|told| !told.is_empty()).map(|told| {
        let [endpoint, bucket, file] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
        Upstream {
            endpoint: Some(endpoint.to_owned()),
            region: "us-east-1".to_owned(),
            bucket: bucket.to_owned(),
            credentials_file: file.into(),
        }
    });
    Settings { upstream, ..Settings::default() }
}

/// The child of [`whole_or_absent_after_a_kill`]: serves the folder that it is told until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(SERVE) else { return };
    let settings = behind(std::env::var(BEHIND).ok().as_deref());
    let place = Place::open_with(Path::new(&dir), DOMAIN, settings).await;
    place.ensure(&bucket(1, 1)).await;
    println!("\nport {}", place.address.port());
    std::future::pending::<()>().await;
}

fn serving_child(dir: &Path, told: &str) -> (std::process::Child, u16) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["objects::durability::child_that_is_killed", "--exact", "--nocapture"])
        .env(SERVE, dir)
        .env(BEHIND, told)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("port ")?.parse().ok()).expect("the child's port");
    // The pipe stays open for as long as the child lives.
    std::thread::spawn(move || lines.for_each(drop));
    (child, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_or_absent_after_a_kill() {
    killed_and_found("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_or_absent_in_a_bucket_after_a_kill() {
    let upstream = super::second::upstream().await;
    let (endpoint, file) = (upstream.endpoint.unwrap(), upstream.credentials_file);
    killed_and_found(&format!("{endpoint} {} {}", upstream.bucket, file.display())).await;
}

async fn killed_and_found(told: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    for (round, enough) in [40, 55, 73].into_iter().enumerate() {
        let (mut child, port) = serving_child(dir.path(), told);
        let place_of_child = format!("http://{DOMAIN}:{port}");
        let (id, secret) = planner::names::bucket_keys(&super::key(), &env(1), 1);
        let variables = [
            ("AWS_ENDPOINT_URL_S3", place_of_child.as_str()),
            ("AWS_ACCESS_KEY_ID", &id),
            ("AWS_SECRET_ACCESS_KEY", &secret),
            ("AWS_DEFAULT_REGION", "staging"),
            ("S3_BUCKET", &planner::names::bucket(&env(1))),
            ("ROUND", &round.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut writer =
            clients::command("write_until_killed", &variables).await.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = tokio::io::BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            acknowledged.insert(line);
            seen += 1;
            if seen == enough {
                child.kill().unwrap();
            }
        }
        assert!(seen >= enough, "the writer ended by itself after {seen}");
        child.wait().unwrap();
        writer.wait().await.unwrap();
    }
    // A blob whose writer died before the index heard of it.
    let stale = dir.path().join("blobs/a/bc");
    std::fs::create_dir_all(&stale).unwrap();
    std::fs::write(stale.join("0".repeat(29)), "half").unwrap();

    let place = Place::open_with(dir.path(), DOMAIN, behind(Some(told))).await;
    let acknowledged = serde_json::to_string(&acknowledged).unwrap();
    let listed = clients::python_reading("check_written", &place.variables(1, 1), &acknowledged).await;
    let listed: usize = listed.trim().parse().unwrap();
    until("only blobs of objects are left", async || place.blobs().await.len() == listed).await;
    let usage = place.store.usage(&env(1), 1).await.unwrap().unwrap();
    assert_eq!(usage.objects as usize, listed);
    if let Some(upstream) = &place.upstream {
        until("no upload is left", async || super::second::uploads(upstream).await.is_empty()).await;
    }
    place.close().await;
}

pub(super) async fn index_of(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join("index.sqlite"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

pub(crate) async fn rows(dir: &Path, what: &'static str) -> i64 {
    let mut index = index_of(dir).await;
    let (count,): (i64,) = sqlx::query_as(what).fetch_one(&mut index).await.unwrap();
    index.close().await.unwrap();
    count
}

/// Nothing is left of environment 1, and everything of environment 2.
async fn only_the_neighbour_is_left(dir: &Path, place: Place) {
    until("the blobs are gone", async || place.blobs().await.len() == 1).await;
    place.client_as(2, 1, "sees_marker", &[("MARKER", "neighbour")]).await;
    place.close().await;
    for (what, count) in [
        ("SELECT count(*) FROM objects", 1),
        ("SELECT count(*) FROM uploads", 0),
        ("SELECT count(*) FROM parts", 0),
        ("SELECT count(*) FROM generations", 1),
        ("SELECT count(*) FROM layers", 1),
    ] {
        assert_eq!(rows(dir, what).await, count, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_leaves_nothing() {
    let (dir, place) = Place::fresh().await;
    place.client_as(1, 1, "fill", &[("COUNT", "500")]).await;
    place.client_as(2, 1, "put_marker", &[("MARKER", "neighbour")]).await;
    let usage = place.store.usage(&env(1), 1).await.unwrap().unwrap();
    assert_eq!((usage.objects, place.blobs().await.len()), (500, 503));
    let id = bucket(1, 1).id;
    place.driver.remove(&id).await.unwrap();
    // Dead before anything is deleted.
    place.client("is_refused").await;
    until("the bucket is gone", async || match place.listing().await.get(&id) {
        None => true,
        Some(observed) => {
            assert_eq!(observed.phase, Phase::Removing);
            false
        }
    })
    .await;
    only_the_neighbour_is_left(dir.path(), place).await;
}

/// The folder is as a death leaves it: condemned, some rows gone, whose blobs are still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_goes_on_after_a_restart() {
    let (dir, place) = Place::fresh().await;
    place.client_as(1, 1, "fill", &[("COUNT", "2000")]).await;
    place.client_as(2, 1, "put_marker", &[("MARKER", "neighbour")]).await;
    assert_eq!(place.blobs().await.len(), 2003);
    place.close().await;
    let mut index = index_of(dir.path()).await;
    for step in [
        "UPDATE generations SET state = 'removing' WHERE number = 1 AND objects = 2000",
        "DELETE FROM objects WHERE key IN (SELECT key FROM objects WHERE key LIKE 'many/%' LIMIT 700)",
    ] {
        sqlx::query(step).execute(&mut index).await.unwrap();
    }
    index.close().await.unwrap();
    assert_eq!(rows(dir.path(), "SELECT count(*) FROM objects WHERE key LIKE 'many/%'").await, 1300);

    let place = Place::open(dir.path(), DOMAIN).await;
    place.client("is_refused").await;
    let id = bucket(1, 1).id;
    until("the bucket is gone", async || !place.listing().await.contains_key(&id)).await;
    only_the_neighbour_is_left(dir.path(), place).await;
}

/// Uploads that nobody completes go after a day; younger ones stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_uploads_are_given_up() {
    let (dir, place) = Place::fresh().await;
    for n in [1, 2] {
        place.client_as(n, 1, "fill", &[("COUNT", "1")]).await;
    }
    place.close().await;
    assert_eq!(rows(dir.path(), "SELECT count(*) FROM uploads").await, 2);
    let mut index = index_of(dir.path()).await;
    let aged = "UPDATE uploads SET begun = begun - 86400000 WHERE generation = 1";
    assert_eq!(sqlx::query(aged).execute(&mut index).await.unwrap().rows_affected(), 1);
    index.close().await.unwrap();

    let place = Place::open(dir.path(), DOMAIN).await;
    until("the old upload is gone", async || rows(dir.path(), "SELECT count(*) FROM uploads").await == 1).await;
    until("its parts are gone", async || place.blobs().await.len() == 4).await;
    let bytes = async |n| place.store.usage(&env(n), 1).await.unwrap().unwrap().bytes;
    assert_eq!((bytes(1).await, bytes(2).await), (1, 9));
    place.close().await;
}

/// A request that was let in before its bucket was condemned adds nothing to it afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_outlives_its_bucket_leaves_nothing() {
    let (_dir, place) = Place::fresh().await;
    let url = place.client("presign_put").await;
    let target = url.trim().split_once(&format!(":{}", place.address.port())).unwrap().1.to_owned();
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: {DOMAIN}:{}\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n",
        place.address.port()
    );
    let address = place.address;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[1; 150_000]).unwrap();
    until("the body has begun to arrive", async || place.blobs().await.len() == 1).await;
    let id = bucket(1, 1).id;
    place.driver.remove(&id).await.unwrap();
    until("the bucket is gone", async || !place.listing().await.contains_key(&id)).await;
    let answer = tokio::task::spawn_blocking(move || {
        stream.write_all(&[1; 150_000]).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = answer.await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(place.blobs().await.is_empty(), "the body is still there");
    place.close().await;
}

/// A client that hangs up in the middle of a body leaves no object and no blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_upload_leaves_nothing() {
    let (_dir, place) = Place::fresh().await;
    let url = place.client("presign_put").await;
    let target = url.trim().split_once(&format!(":{}", place.address.port())).unwrap().1.to_owned();
    let port = place.address.port();
    let mut stream = TcpStream::connect(place.address).unwrap();
    write!(stream, "PUT {target} HTTP/1.1\r\nHost: {DOMAIN}:{port}\r\nContent-Length: 300000\r\n\r\n").unwrap();
    stream.write_all(&[1; 150_000]).unwrap();
    until("the body has begun to arrive", async || place.blobs().await.len() == 1).await;
    drop(stream);
    until("its blob is gone", async || place.blobs().await.is_empty()).await;
    assert_eq!(place.store.usage(&env(1), 1).await.unwrap().unwrap().objects, 0);
    place.close().await;
}
