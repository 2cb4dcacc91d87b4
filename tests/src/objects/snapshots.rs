//! Baselines' objects: made from a folder, a bucket or an environment; sealed last; begun with in no time; gone without harm.

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use drivers::{Driver, Listing, Log};
use planner::identity::Trust;
use planner::names;
use planner::resource::{Failure, Phase, Resource, ResourceId};
use planner::spec::{DataFrom, ObjectsFrom, Spec};

use super::durability::rows;
use super::sdk::{client, fetch};
use super::{Place, bucket, env, key, snapshot, until};

const HERE: &str = "127.0.0.1";

/// The bucket of environment `n`, first generation, from this.
fn begins(n: u8, from: DataFrom) -> Resource {
    let mut resource = bucket(n, 1);
    let Spec::Bucket { from: begins, .. } = &mut resource.spec else { unreachable!("a bucket") };
    *begins = from;
    resource
}

fn on(n: u8, version: &str) -> Resource {
    begins(n, DataFrom::Baseline(version.to_owned()))
}

fn carried(n: u8, from: u8) -> Resource {
    begins(n, DataFrom::Carry { from: bucket(from, 1).id, baseline: "shop@1".to_owned() })
}

fn content(number: usize) -> Vec<u8> {
    format!("content of {number}").repeat(number % 7).into_bytes()
}

/// So many files in a few folders.
fn folder(dir: &Path, count: usize) {
    for number in 0..count {
        let file = dir.join(format!("f{}/{number}.txt", number % 3));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content(number)).unwrap();
    }
    std::fs::write(dir.join("logo é.png"), "PNG").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
}

async fn refused(place: &Place, resource: &Resource) -> Failure {
    place.driver.ensure(resource, &Listing::new(), &Log::none()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_becomes_a_baseline_that_environments_share() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("files"), 500);
    let store = dir.path().join("store");
    let place = Place::open(&store, HERE).await;
    let log = dir.path().join("log");
    let shop = snapshot("shop@1", ObjectsFrom::Folder(dir.path().join("files")));
    let made = place.driver.ensure(&shop, &Listing::new(), &Log::create(&log).unwrap()).await.unwrap();
    let bytes: usize = (0..500).map(|number| content(number).len()).sum();
    assert_eq!(
        (made.phase, made.outputs.objects, made.outputs.bytes),
        (Phase::Whole, Some(501), Some(bytes as u64 + 3))
    );
    let told = std::fs::read_to_string(log).unwrap();
    assert!(told.contains("501 files") && told.contains("left out") && told.contains("sealed: 501 objects"), "{told}");

    // Whatever it holds, an environment begins with it by a row: no object and no blob is touched.
    let (count, blobs) = (rows(&store, "SELECT count(*) FROM objects").await, place.blobs().await);
    let first = place.ensure(&on(1, "shop@1")).await;
    assert_eq!((first.outputs.objects, first.outputs.baseline.as_deref()), (Some(501), Some("shop@1")));
    place.ensure(&on(2, "shop@1")).await;
    assert_eq!((rows(&store, "SELECT count(*) FROM objects").await, place.blobs().await), (count, blobs));

    let (one, bucket_one) = client(&place, 1, 1);
    let (two, bucket_two) = client(&place, 2, 1);
    let logo = one.get_object().bucket(&bucket_one).key("logo é.png").send().await.unwrap();
    assert_eq!(logo.content_type(), Some("image/png"));
    assert_eq!(fetch(&one, &bucket_one, "f1/100.txt").await, Some(content(100)));
    assert_eq!(fetch(&one, &bucket_one, "link").await, None);
    // What one writes or deletes, the other does not see.
    one.put_object().bucket(&bucket_one).key("f1/100.txt").body(b"own".to_vec().into()).send().await.unwrap();
    one.delete_object().bucket(&bucket_one).key("f1/1.txt").send().await.unwrap();
    assert_eq!(fetch(&one, &bucket_one, "f1/100.txt").await, Some(b"own".to_vec()));
    assert_eq!(fetch(&one, &bucket_one, "f1/1.txt").await, None);
    assert_eq!(fetch(&two, &bucket_two, "f1/100.txt").await, Some(content(100)));
    assert_eq!(fetch(&two, &bucket_two, "f1/1.txt").await, Some(content(1)));
    let listed = one.list_objects_v2().bucket(&bucket_one).prefix("f1/1").max_keys(2).send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().filter_map(|entry| entry.key()).collect();
    assert_eq!((keys, listed.is_truncated()), (vec!["f1/10.txt", "f1/100.txt"], Some(true)));
    // A condition is one on what is seen: the baseline's object, or its absence.
    let absent =
        |key: &str| one.put_object().bucket(&bucket_one).if_none_match("*").key(key).body(b"x".to_vec().into());
    absent("f1/4.txt").send().await.unwrap_err();
    absent("f1/1.txt").send().await.unwrap();

    // The baseline goes; what stands on it stays, and goes with the last one.
    place.driver.remove(&ResourceId::snapshot("shop@1")).await.unwrap();
    assert!(!place.listing().await.contains_key(&ResourceId::snapshot("shop@1")));
    assert_eq!(fetch(&two, &bucket_two, "f1/100.txt").await, Some(content(100)));
    assert!(matches!(refused(&place, &on(3, "shop@1")).await, Failure::Permanent { .. }));
    for n in [1, 2] {
        place.driver.remove(&bucket(n, 1).id).await.unwrap();
    }
    until("every blob is gone", async || place.blobs().await.is_empty()).await;
    place.close().await;
}

/// Polls an ensure so many times and gives it up. True when it had ended by then.
async fn cut(place: &Place, resource: &Resource, polls: usize) -> bool {
    let (needs, log) = (Listing::new(), Log::none());
    let mut ensure = pin!(place.driver.ensure(resource, &needs, &log));
    for _ in 0..polls {
        match ensure.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => return done.is_ok(),
            // What it waits for goes on elsewhere.
            Poll::Pending => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_snapshot_is_never_begun_with_and_is_completed_or_cleared() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("files"), 1500);
    let store = dir.path().join("store");
    let mut place = Place::open(&store, HERE).await;
    let shop = snapshot("shop@1", ObjectsFrom::Folder(dir.path().join("files")));
    let id = &shop.id;
    // As far as it takes until some of its rows are there.
    let mut polls = 64;
    loop {
        assert!(!cut(&place, &shop, polls).await, "it was never cut in the middle");
        if place.listing().await.get(id).is_some_and(|seen| seen.outputs.objects.unwrap() > 0) {
            break;
        }
        polls *= 2;
    }
    let half = place.listing().await[id].clone();
    assert_eq!(half.phase, Phase::Partial);
    assert!(matches!(refused(&place, &on(1, "shop@1")).await, Failure::Transient { .. }));
    // Found after a restart, and completed: what is there already is not copied again.
    place.close().await;
    place = Place::open(&store, HERE).await;
    assert_eq!(place.listing().await[id].phase, Phase::Partial);
    until("blobs without a row are gone", async || {
        place.blobs().await.len() as u64 == place.listing().await[id].outputs.objects.unwrap()
    })
    .await;
    let kept = place.blobs().await;
    let whole = place.ensure(&shop).await;
    assert_eq!((whole.phase, whole.outputs.objects), (Phase::Whole, Some(1501)));
    let all = place.blobs().await;
    assert!(kept.iter().all(|blob| all.contains(blob)), "what was there was copied again");
    place.ensure(&on(1, "shop@1")).await;
    let (one, name) = client(&place, 1, 1);
    assert_eq!(fetch(&one, &name, "f2/1499.txt").await, Some(content(1499)));
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    place.driver.remove(id).await.unwrap();
    // Another one is cut, and cleared.
    let other = snapshot("shop@2", ObjectsFrom::Folder(dir.path().join("files")));
    assert!(!cut(&place, &other, 3).await);
    place.driver.remove(&other.id).await.unwrap();
    until("nothing is left", async || place.listing().await.is_empty() && place.blobs().await.is_empty()).await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_elsewhere_becomes_a_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = Place::open(&dir.path().join("theirs"), HERE).await;
    folder(&dir.path().join("files"), 1100);
    theirs.ensure(&snapshot("shop@1", ObjectsFrom::Folder(dir.path().join("files")))).await;
    theirs.ensure(&on(1, "shop@1")).await;
    let (source, name) = client(&theirs, 1, 1);
    let put = source.put_object().bucket(&name).key("f1/with meta").body(b"meta".to_vec().into());
    put.content_type("text/x-own").metadata("color", "blue").cache_control("no-store").send().await.unwrap();

    let (id, secret) = names::bucket_keys(&key(), &env(1), 1);
    let file = dir.path().join("credentials");
    std::fs::write(&file, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")).unwrap();
    let from = ObjectsFrom::Bucket {
        endpoint: Some(format!("http://{}", theirs.address)),
        region: "staging".to_owned(),
        bucket: name,
        prefix: "f1/".to_owned(),
        credentials_file: Some(file.clone()),
    };
    let ours = Place::open(&dir.path().join("ours"), HERE).await;
    let shop = snapshot("shop@1", from);
    let text = refused(&ours, &shop).await.to_string();
    assert!(text.contains("chmod 600"), "{text}");
    std::os::unix::fs::chown(&file, None, None).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let made = ours.ensure(&shop).await;
    assert_eq!(made.outputs.objects, Some(368));
    ours.ensure(&on(2, "shop@1")).await;
    let (copy, name) = client(&ours, 2, 1);
    assert_eq!(fetch(&copy, &name, "1099.txt").await, Some(content(1099)));
    let got = copy.get_object().bucket(&name).key("with meta").send().await.unwrap();
    assert_eq!((got.content_type(), got.cache_control()), (Some("text/x-own"), Some("no-store")));
    assert_eq!(got.metadata().and_then(|all| all.get("color")).map(String::as_str), Some("blue"));
    theirs.close().await;
    // It was a copy: nothing of the other server is asked any more.
    assert_eq!(fetch(&copy, &name, "1.txt").await, Some(content(1)));
    let Spec::Snapshot(from) = shop.spec else { unreachable!() };
    let text = refused(&ours, &snapshot("shop@2", from)).await.to_string();
    assert!(text.contains("cannot list") && text.contains("on the S3 server"), "{text}");
    ours.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carried_objects_part_ways_and_foreign_code_carries_nothing() {
    let (_dir, place) = {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(&dir.path().join("store"), HERE).await;
        (dir, place)
    };
    place.ensure(&snapshot("shop@1", ObjectsFrom::Empty)).await;
    place.ensure(&on(1, "shop@1")).await;
    let (one, from) = client(&place, 1, 1);
    one.put_object().bucket(&from).key("k").body(b"one".to_vec().into()).send().await.unwrap();
    let upload = one.create_multipart_upload().bucket(&from).key("open").send().await.unwrap();
    let part = one.upload_part().bucket(&from).key("open").upload_id(upload.upload_id().unwrap()).part_number(1);
    part.body(b"part".to_vec().into()).send().await.unwrap();
    let second = place.ensure(&carried(2, 1)).await;
    // The upload under way is its own client's.
    assert_eq!((second.outputs.objects, second.outputs.bytes), (Some(1), Some(3)));
    assert_eq!(second.outputs.baseline.as_deref(), Some("shop@1"));
    let (two, name) = client(&place, 2, 1);
    one.put_object().bucket(&from).key("k").body(b"later".to_vec().into()).send().await.unwrap();
    assert_eq!(fetch(&two, &name, "k").await, Some(b"one".to_vec()));
    two.delete_object().bucket(&name).key("k").send().await.unwrap();
    assert_eq!(fetch(&one, &from, "k").await, Some(b"later".to_vec()));
    // The source goes; the other stays, with what was carried.
    place.ensure(&carried(3, 1)).await;
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    let (three, name) = client(&place, 3, 1);
    assert_eq!(fetch(&three, &name, "k").await, Some(b"later".to_vec()));
    let text = refused(&place, &carried(4, 1)).await.to_string();
    assert!(text.contains("is not there to be copied"), "{text}");

    let mut foreign = carried(5, 3);
    let Spec::Bucket { of, .. } = &mut foreign.spec else { unreachable!() };
    of.trust = Trust::Approved;
    assert!(matches!(refused(&place, &foreign).await, Failure::Permanent { .. }));
    let mut theirs = bucket(6, 1);
    let Spec::Bucket { of, .. } = &mut theirs.spec else { unreachable!() };
    of.trust = Trust::Approved;
    place.ensure(&theirs).await;
    assert!(matches!(refused(&place, &carried(7, 6)).await, Failure::Permanent { .. }));
    let stolen = snapshot("shop@9", ObjectsFrom::Env(bucket(6, 1).id));
    assert!(matches!(refused(&place, &stolen).await, Failure::Permanent { .. }));
    let mut elsewhere = carried(8, 3);
    let Spec::Bucket { of, .. } = &mut elsewhere.spec else { unreachable!() };
    of.project = "other".parse().unwrap();
    assert!(matches!(refused(&place, &elsewhere).await, Failure::Permanent { .. }));
    place.close().await;
}

/// Forty commits, each carried on from the one before, which then goes: the chain of layers does not grow with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_of_carried_generations_stay_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let place = Place::open(&store, HERE).await;
    place.ensure(&snapshot("shop@1", ObjectsFrom::Empty)).await;
    place.ensure(&on(1, "shop@1")).await;
    for n in 1..40 {
        let (s3, name) = client(&place, n, 1);
        s3.put_object().bucket(&name).key(format!("of {n}")).body(vec![n].into()).send().await.unwrap();
        s3.put_object().bucket(&name).key("newest").body(vec![n].into()).send().await.unwrap();
        s3.delete_object().bucket(&name).key(format!("of {}", n.saturating_sub(3))).send().await.unwrap();
        place.ensure(&carried(n + 1, n)).await;
        place.driver.remove(&bucket(n, 1).id).await.unwrap();
    }
    let (s3, name) = client(&place, 40, 1);
    let listed = s3.list_objects_v2().bucket(&name).send().await.unwrap();
    let keys: Vec<&str> = listed.contents().iter().filter_map(|entry| entry.key()).collect();
    assert_eq!(keys, ["newest", "of 37", "of 38", "of 39"]);
    assert_eq!(fetch(&s3, &name, "newest").await, Some(vec![39]));
    let layers = "SELECT count(*) FROM layers";
    until("the layers are joined", async || rows(&store, layers).await <= 3).await;
    until("what nobody sees is gone", async || place.blobs().await.len() == 4).await;
    assert_eq!(fetch(&s3, &name, "of 38").await, Some(vec![38]));
    place.close().await;
}

/// What a large removal costs is its rows; a small one beside it does not wait for it, and the driver is not asked in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_done_when_it_returns_if_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("files"), 3000);
    let place = Place::open(&dir.path().join("store"), HERE).await;
    place.ensure(&snapshot("shop@1", ObjectsFrom::Folder(dir.path().join("files")))).await;
    place.ensure(&on(1, "shop@1")).await;
    let (s3, name) = client(&place, 1, 1);
    let mut token = None;
    loop {
        let page = s3.list_objects_v2().bucket(&name).set_continuation_token(token).send().await.unwrap();
        let id = |key: &str| aws_sdk_s3::types::ObjectIdentifier::builder().key(key).build().unwrap();
        let ids: Vec<_> = page.contents().iter().filter_map(|entry| entry.key()).map(id).collect();
        let delete = aws_sdk_s3::types::Delete::builder().set_objects(Some(ids)).build().unwrap();
        s3.delete_objects().bucket(&name).delete(delete).send().await.unwrap();
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(place.store.usage(&env(1), 1).await.unwrap().unwrap().objects, 0);
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    assert!(!place.listing().await.contains_key(&bucket(1, 1).id), "it returned too early");
    place.driver.remove(&ResourceId::snapshot("shop@1")).await.unwrap();
    assert_eq!(place.listing().await, Listing::new(), "it returned too early");
    until("every blob is gone", async || place.blobs().await.is_empty()).await;
    place.close().await;
}
