//! Blobs in a bucket of the operator's: clients and the model again, what the start asks for, and whose is what.

use std::path::Path;

use drivers::Driver;
use drivers::objects::{ObjectStore, Settings, Upstream};
use planner::spec::ObjectsFrom;

use super::sdk::{client, fetch};
use super::{DOMAIN, Place, bucket, clients, env, key, many_keys, model, second, snapshot, until};

const HERE: &str = "127.0.0.1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone() {
    clients::rclone_with(second::settings().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3cmd() {
    clients::s3cmd_with(second::settings().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_across_ten_thousand_keys() {
    many_keys::each_client(second::settings().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_environment_sees_its_own_map() {
    model::model(4, 300, &second::settings().await).await;
}

async fn refused(dir: &Path, settings: Settings) -> String {
    ObjectStore::open_with(dir, key(), DOMAIN, settings).await.unwrap_err().to_string()
}

fn at(upstream: &Upstream) -> Settings {
    Settings { upstream: Some(upstream.clone()), ..Settings::default() }
}

/// Everything stands below `<instance>/<env>/<generation>/`, whatever keys are called; what is beside it is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_stand_below_their_generation_and_strays_of_ours_are_removed() {
    let upstream = second::upstream().await;
    let straight = second::straight(&upstream);
    let instance = key().instance();
    let stray = "0".repeat(32);
    let strangers = [
        format!("other/{}/1/{stray}", env(1)),
        format!("{instance}x/{}/1/{stray}", env(1)),
        format!("{instance}/notes.txt"),
        stray.clone(),
    ];
    let ours = [format!("{instance}/{}/1/{stray}", env(1)), format!("{instance}/baselines/shop/1/{stray}")];
    for name in strangers.iter().chain(&ours) {
        straight.put_object().bucket(&upstream.bucket).key(name).body(b"?".to_vec().into()).send().await.unwrap();
        straight.create_multipart_upload().bucket(&upstream.bucket).key(name).send().await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open_with(dir.path(), HERE, at(&upstream)).await;
    until("strays are gone", async || {
        second::objects(&upstream).await.len() == strangers.len() + 1
            && second::uploads(&upstream).await.len() == strangers.len()
    })
    .await;

    place.ensure(&bucket(1, 1)).await;
    place.ensure(&bucket(1, 2)).await;
    let (s3, name) = client(&place, 1, 2);
    for key in ["../../up", "a//b", ".", "p", "p/q"] {
        s3.put_object().bucket(&name).key(key).body(key.as_bytes().to_vec().into()).send().await.unwrap();
        assert_eq!(fetch(&s3, &name, key).await.as_deref(), Some(key.as_bytes()));
    }
    place.ensure(&snapshot("shop@3", ObjectsFrom::Env(bucket(1, 2).id))).await;
    let names: Vec<String> = second::objects(&upstream).await.into_iter().map(|(name, _)| name).collect();
    let below = format!("{instance}/{}/2/", env(1));
    assert_eq!(names.iter().filter(|name| name.starts_with(&below)).count(), 5, "{names:?}");
    for id in place.listing().await.keys() {
        place.driver.remove(id).await.unwrap();
    }
    until("the prefix is empty", async || {
        let mut left: Vec<String> = second::objects(&upstream).await.into_iter().map(|(name, _)| name).collect();
        left.retain(|name| *name != format!("{instance}/store"));
        left.len() == strangers.len() && strangers.iter().all(|name| left.contains(name))
    })
    .await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_objects_live_does_not_change_while_there_are_any() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), second::upstream().await);
    let put = async |settings: Settings| {
        let place = Place::open_with(dir.path(), DOMAIN, settings).await;
        place.ensure(&bucket(1, 1)).await;
        place.client_as(1, 1, "put_marker", &[("MARKER", "here")]).await;
        place
    };
    put(Settings::default()).await.close().await;
    let text = refused(dir.path(), at(&upstream)).await;
    assert!(text.contains("holds objects already") && text.contains(&upstream.bucket), "{text}");

    // With nothing in it, it can.
    let place = Place::open_with(dir.path(), DOMAIN, Settings::default()).await;
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    until("it is empty", async || place.listing().await.is_empty() && place.blobs().await.is_empty()).await;
    place.close().await;
    put(at(&upstream)).await.close().await;
    let text = refused(dir.path(), Settings::default()).await;
    assert!(text.contains("in a bucket of yours"), "{text}");

    // Another bucket is not the same, and an index that was lost would sweep away what is another's.
    let text = refused(dir.path(), at(&second::upstream().await)).await;
    assert!(text.contains("is not there"), "{text}");
    let lost = tempfile::tempdir().unwrap();
    let text = refused(lost.path(), at(&upstream)).await;
    assert!(text.contains("another index") && text.contains(&key().instance()), "{text}");
    let place = Place::open_with(dir.path(), DOMAIN, at(&upstream)).await;
    place.client_as(1, 1, "sees_marker", &[("MARKER", "here")]).await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_cannot_be_used_says_so_at_the_start() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), second::upstream().await);
    let nowhere = Upstream { bucket: "nowhere".to_owned(), ..upstream.clone() };
    let text = refused(dir.path(), at(&nowhere)).await;
    assert!(text.contains("bucket nowhere of http://") && text.contains("NoSuchBucket"), "{text}");
    let away = Upstream { endpoint: Some("http://127.0.0.1:9".to_owned()), ..upstream.clone() };
    let text = refused(dir.path(), at(&away)).await;
    assert!(text.contains("cannot be used") && !text.contains('\n'), "{text}");
    // It says yes to everything, in words that are not S3's.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let strange = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async { axum::serve(listener, axum::Router::new().fallback(|| async { "yes" })).await });
    let text = refused(dir.path(), at(&Upstream { endpoint: Some(strange), ..upstream.clone() })).await;
    assert!(text.contains("cannot be used") && text.contains("XML") && !text.contains('\n'), "{text}");
    serving.abort();
    let file = dir.path().join("open");
    std::fs::write(&file, "access_key_id = a\nsecret_access_key = b\n").unwrap();
    let open = Upstream { credentials_file: file, ..upstream };
    assert!(refused(dir.path(), at(&open)).await.contains("chmod 600"));
}

/// The policy that the example shows.
fn documented() -> serde_json::Value {
    let example = include_str!("../../../deploy/sidestage.example.toml");
    let lines =
        example.lines().skip_while(|line| !line.contains("\"Version\"")).take_while(|line| line.starts_with('#'));
    let text: String = lines.map(|line| line.trim_start_matches('#')).collect();
    let end = text.rfind('}').unwrap() + 1;
    serde_json::from_str(&text[..end]).unwrap()
}

/// A server that authorises: by the documented policy all goes well, and by one with an action less the start names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_privileges_are_enough_and_each_is_needed() {
    let policy = documented();
    let actions: Vec<String> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["Action"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(actions.len(), 6);
    let without = |missing: &str| {
        let mut less = policy.clone();
        for one in less["Statement"].as_array_mut().unwrap() {
            one["Action"].as_array_mut().unwrap().retain(|action| action != missing);
        }
        less.to_string()
    };
    let users: Vec<(String, String)> =
        std::iter::once(String::new()).chain(actions).map(|missing| (missing.clone(), without(&missing))).collect();
    let server = second::Server::start(&[&(1 + 3 * users.len()).to_string()]).await;
    let given = serde_json::json!({ "endpoint": server.endpoint(), "bucket": "acme-staging",
        "policies": users.iter().map(|(_, policy)| policy).collect::<Vec<_>>() });
    let keys = second::users(&given.to_string()).await;
    let dir = tempfile::tempdir().unwrap();
    for ((missing, _), (id, secret)) in users.iter().zip(keys) {
        let file = dir.path().join("credentials");
        second::credentials(&file, &id, &secret);
        let upstream = Upstream {
            endpoint: Some(server.endpoint()),
            region: "us-east-1".to_owned(),
            bucket: "acme-staging".to_owned(),
            credentials_file: file.clone(),
        };
        let store = dir.path().join("store");
        if missing.is_empty() {
            let place = Place::open_with(&store, HERE, at(&upstream)).await;
            place.ensure(&bucket(1, 1)).await;
            let (s3, name) = client(&place, 1, 1);
            for size in [10, 20 << 20] {
                s3.put_object().bucket(&name).key("k").body(vec![1; size].into()).send().await.unwrap();
                assert_eq!(fetch(&s3, &name, "k").await.map(|body| body.len()), Some(size));
            }
            s3.delete_object().bucket(&name).key("k").send().await.unwrap();
            place.close().await;
        } else {
            let text = refused(&store, at(&upstream)).await;
            assert!(text.contains(&format!("refuses {missing} under")), "without {missing}: {text}");
            assert!(text.contains(file.to_str().unwrap()) && !text.contains(&secret), "{text}");
        }
    }
}
