//! Buckets with very many objects, removed, killed in the middle and taken up again, while a neighbour works.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use drivers::Driver;
use planner::resource::{Phase, ResourceId};
use sqlx::{AssertSqlSafe, Connection};

use super::durability::{behind, index_of, rows};
use super::sdk::{client, fetch};
use super::{Place, bucket, until};

/// Tells this very binary to remove a bucket instead of testing.
const REMOVE: &str = "OBJECTS_TEST_REMOVE";
const BEHIND: &str = "OBJECTS_TEST_REMOVE_BEHIND";
const HERE: &str = "127.0.0.1";
/// What a removal may need beside what a store needs at rest, whatever it removes, in KiB.
const MEMORY: u64 = 48 << 10;
/// Of both environments. The neighbour has one.
const OBJECTS: &str = "SELECT count(*) FROM objects";

/// The child of [`removed`]: begins once it reads a line, and goes on until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_removes() {
    let Some(dir) = std::env::var_os(REMOVE) else { return };
    let place = Place::open_with(Path::new(&dir), HERE, behind(std::env::var(BEHIND).ok().as_deref())).await;
    println!("\nopen");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    std::future::pending::<()>().await;
}

/// A process that removes the bucket of environment 1.
struct Remover(Child);

impl Remover {
    fn start(dir: &Path, told: &str) -> Remover {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["objects::large_removals::child_that_removes", "--exact", "--nocapture"])
            .env(REMOVE, dir)
            .env(BEHIND, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "open"), "it ended before it had opened the store");
        std::thread::spawn(move || lines.for_each(drop));
        Remover(child)
    }

    fn begin(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// KiB that it has held at most.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// A test that fails leaves no process.
impl Drop for Remover {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_objects_go_in_steps_whatever_is_cut_off() {
    removed("", 100_000, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_objects_in_a_bucket_go_in_steps_whatever_is_cut_off() {
    let upstream = super::second::upstream().await;
    let (endpoint, file) = (upstream.endpoint.unwrap(), upstream.credentials_file);
    removed(&format!("{endpoint} {} {}", upstream.bucket, file.display()), 3_000, 3_000).await;
}

/// `count` objects of environment 1, `written` of them by a client, and uploads under way: removed by two processes, each
/// killed, and a third. Environment 2 uses its bucket all the while.
async fn removed(told: &str, count: usize, written: usize) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open_with(dir.path(), HERE, behind(Some(told))).await;
    for n in [1, 2] {
        place.ensure(&bucket(n, 1)).await;
    }
    place.client_as(1, 1, "fill", &[("COUNT", &written.to_string())]).await;
    begin_uploads(&place).await;
    let uploads = place.blobs().await.len() - written;
    let (s3, theirs) = client(&place, 2, 1);
    s3.put_object().bucket(&theirs).key("kept").body(b"of the neighbour".to_vec().into()).send().await.unwrap();
    place.close().await;
    multiply(dir.path(), count / written).await;
    let mut left = i64::try_from(count).unwrap() + 1;
    assert_eq!(rows(dir.path(), OBJECTS).await, left);

    for _ in 0..2 {
        let mut remover = Remover::start(dir.path(), told);
        let memory = remover.memory();
        remover.begin();
        let enough = left - i64::try_from(count).unwrap() / 10;
        until("a tenth is gone", async || rows(dir.path(), OBJECTS).await <= enough).await;
        let most = remover.memory();
        assert!(most < memory + MEMORY, "{most} KiB, and {memory} before");
        drop(remover);
        left = rows(dir.path(), OBJECTS).await;
        assert!(left > 1, "killed in the middle");
    }

    let place = Place::open_with(dir.path(), HERE, behind(Some(told))).await;
    let id = bucket(1, 1).id;
    assert_eq!(place.listing().await[&id].phase, Phase::Removing, "it goes on by itself");
    let meanwhile = works(&place, &id).await;
    assert!(meanwhile > 0, "the neighbour got in while it was going on");
    until("only the neighbour's blobs are left", async || place.blobs().await.len() == meanwhile + 1).await;
    let (s3, theirs) = client(&place, 2, 1);
    assert_eq!(fetch(&s3, &theirs, "kept").await, Some(b"of the neighbour".to_vec()));
    if let Some(upstream) = &place.upstream {
        assert_eq!(super::second::uploads(upstream).await, [""; 0]);
    }
    place.close().await;
    for (what, left) in [
        ("SELECT count(*) FROM objects", meanwhile + 1),
        ("SELECT count(*) FROM uploads", 0),
        ("SELECT count(*) FROM parts", 0),
        ("SELECT count(*) FROM generations", 1),
        ("SELECT count(*) FROM layers", 1),
    ] {
        assert_eq!(
            rows(dir.path(), what).await,
            i64::try_from(left).unwrap(),
            "{what}, of {count} and {uploads} parts"
        );
    }
}

/// The neighbour writes, reads and lists until the other's bucket is gone. What it has written while that was going on.
async fn works(place: &Place, other: &ResourceId) -> usize {
    let (s3, theirs) = client(place, 2, 1);
    let mut written = 0;
    while place.listing().await.contains_key(other) {
        let key = format!("meanwhile/{written:05}");
        s3.put_object().bucket(&theirs).key(&key).body(key.clone().into_bytes().into()).send().await.unwrap();
        assert_eq!(fetch(&s3, &theirs, &key).await, Some(key.into_bytes()));
        written += 1;
        assert!(written < 50_000, "it never ends");
        let listed = s3.list_objects_v2().bucket(&theirs).prefix("meanwhile/").send().await.unwrap();
        assert_eq!(listed.contents().len(), written.min(1000));
    }
    written
}

/// Uploads of more parts than one step takes.
async fn begin_uploads(place: &Place) {
    let (s3, own) = client(place, 1, 1);
    for upload in 0..5 {
        let key = format!("under way/{upload}");
        let begun = s3.create_multipart_upload().bucket(&own).key(&key).send().await.unwrap();
        for part in 1..=60 {
            let send = s3.upload_part().bucket(&own).key(&key).upload_id(begun.upload_id().unwrap());
            send.part_number(part).body(b"p".to_vec().into()).send().await.unwrap();
        }
    }
}

/// Makes each of environment 1's objects so many, each with a blob of its own, as a client would in an hour.
async fn multiply(dir: &Path, times: usize) {
    let mut index = index_of(dir).await;
    let layer = "(SELECT layer FROM generations ORDER BY id LIMIT 1)";
    let there = format!("SELECT key, blob FROM objects WHERE layer = {layer}");
    let there: Vec<(Vec<u8>, String)> = sqlx::query_as(AssertSqlSafe(there)).fetch_all(&mut index).await.unwrap();
    let again = format!(
        "INSERT INTO objects (layer, key, blob, size, etag, modified, meta)
         SELECT layer, ?2, ?3, size, etag, modified, meta FROM objects WHERE layer = {layer} AND key = ?1"
    );
    let mut tx = index.begin().await.unwrap();
    for (number, (key, blob)) in there.iter().enumerate() {
        for time in 1..times {
            let other = format!("{}{:08x}", &blob[..24], number * times + time);
            std::fs::hard_link(file(dir, blob), file(dir, &other)).unwrap();
            let insert = sqlx::query(AssertSqlSafe(again.as_str())).bind(key);
            let insert = insert.bind([key.as_slice(), format!("/{time}").as_bytes()].concat()).bind(other);
            insert.execute(&mut *tx).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
    index.close().await.unwrap();
}

fn file(dir: &Path, blob: &str) -> PathBuf {
    dir.join("blobs").join(&blob[..1]).join(&blob[1..3]).join(&blob[3..])
}
