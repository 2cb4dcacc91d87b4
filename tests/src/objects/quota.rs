//! How much is too much: an environment's quota counts what it adds to its baseline; a full disk refuses everybody's writes.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use drivers::Quota;
use drivers::objects::Settings;
use planner::spec::{DataFrom, ObjectsFrom, Spec};

use super::sdk::{client, fetch};
use super::{Place, bucket, env, snapshot};

async fn put(s3: &Client, bucket: &str, key: &str, size: usize) -> Result<(), (String, String)> {
    let put = s3.put_object().bucket(bucket).key(key).body(vec![7; size].into()).send().await;
    put.map(drop).map_err(|why| {
        let why = why.into_service_error();
        (why.code().unwrap_or_default().to_owned(), why.message().unwrap_or_default().to_owned())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_adds_only_so_much_to_its_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("large"), vec![1; 50_000]).unwrap();
    let settings = Settings { quota: Quota { trusted: Some(10_000), foreign: Some(1_000) }, ..Settings::default() };
    let place = Place::open_with(&dir.path().join("store"), "127.0.0.1", settings).await;
    place.ensure(&snapshot("shop@1", ObjectsFrom::Folder(files))).await;
    let mut one = bucket(1, 1);
    let Spec::Bucket { from, .. } = &mut one.spec else { unreachable!() };
    *from = DataFrom::Baseline("shop@1".to_owned());
    place.ensure(&one).await;
    let (s3, name) = client(&place, 1, 1);
    // The baseline is not counted, nor what it loses.
    put(&s3, &name, "a", 6_000).await.unwrap();
    s3.delete_object().bucket(&name).key("large").send().await.unwrap();
    let (code, text) = put(&s3, &name, "b", 6_000).await.unwrap_err();
    assert!(code == "QuotaExceeded" && text.contains("10.0 kB"), "{code}: {text}");
    assert_eq!(fetch(&s3, &name, "b").await, None);
    assert_eq!(place.blobs().await.len(), 2, "what was refused is still there");
    // What is replaced makes room; so does what is deleted.
    put(&s3, &name, "a", 9_000).await.unwrap();
    put(&s3, &name, "a", 2_000).await.unwrap();
    put(&s3, &name, "b", 8_000).await.unwrap();
    put(&s3, &name, "c", 1).await.unwrap_err();
    let usage = place.store.usage(&env(1), 1).await.unwrap().unwrap();
    assert_eq!((usage.own, usage.bytes), (10_000, 10_000));
    // Parts count, and copies.
    let upload = s3.create_multipart_upload().bucket(&name).key("parts").send().await.unwrap();
    let part = s3.upload_part().bucket(&name).key("parts").upload_id(upload.upload_id().unwrap()).part_number(1);
    let why = part.body(vec![1; 5].into()).send().await.unwrap_err().into_service_error();
    assert_eq!(why.code(), Some("QuotaExceeded"));
    let copy = s3.copy_object().bucket(&name).key("d").copy_source(format!("{name}/b")).send().await;
    assert_eq!(copy.unwrap_err().into_service_error().code(), Some("QuotaExceeded"));
    s3.delete_object().bucket(&name).key("b").send().await.unwrap();
    put(&s3, &name, "c", 8_000).await.unwrap();
    // What is carried on is counted on.
    let mut two = bucket(2, 1);
    let Spec::Bucket { from, .. } = &mut two.spec else { unreachable!() };
    *from = DataFrom::Carry { from: one.id.clone(), baseline: "shop@1".to_owned() };
    place.ensure(&two).await;
    let (s3, name) = client(&place, 2, 1);
    put(&s3, &name, "more", 1).await.unwrap_err();
    s3.delete_object().bucket(&name).key("c").send().await.unwrap();
    put(&s3, &name, "more", 8_000).await.unwrap();
    // Foreign code has its own.
    let mut foreign = bucket(3, 1);
    let Spec::Bucket { of, .. } = &mut foreign.spec else { unreachable!() };
    of.trust = planner::identity::Trust::Approved;
    place.ensure(&foreign).await;
    let (s3, name) = client(&place, 3, 1);
    put(&s3, &name, "a", 1_001).await.unwrap_err();
    put(&s3, &name, "a", 1_000).await.unwrap();
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_takes_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path(), "127.0.0.1").await;
    place.ensure(&bucket(1, 1)).await;
    let (s3, name) = client(&place, 1, 1);
    put(&s3, &name, "a", 1_000).await.unwrap();
    place.close().await;
    let full = Settings { reserve: Some(u64::MAX), ..Settings::default() };
    let place = Place::open_with(dir.path(), "127.0.0.1", full).await;
    let (s3, name) = client(&place, 1, 1);
    let (code, text) = put(&s3, &name, "b", 1_000).await.unwrap_err();
    assert!(code == "InsufficientStorage" && text.contains("kept free"), "{code}: {text}");
    // Reading and deleting go on.
    assert_eq!(fetch(&s3, &name, "a").await.map(|body| body.len()), Some(1_000));
    s3.delete_object().bucket(&name).key("a").send().await.unwrap();
    assert_eq!(place.blobs().await.len(), 0);
    place.close().await;
}
