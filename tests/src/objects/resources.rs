//! Buckets as resources: the conformance suite, generations, refusals.

use std::sync::Arc;

use drivers::objects::{ObjectStore, Objects};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::InstanceKey;
use planner::resource::{Failure, Kind, Owner, Phase, Resource, Run};
use planner::spec::{DataFrom, Spec};

use super::{DOMAIN, Place, bucket, env, key, origin, until};
use crate::conformance::{Suite, conforms};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_to_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(&dir.path().join("ours"), DOMAIN).await;
    // Instances share no folder; a key of another opens another's.
    let theirs = ObjectStore::open(&dir.path().join("theirs"), InstanceKey::new([9; 32]), DOMAIN).await.unwrap();
    let stranger = Objects::new(Arc::new(theirs));
    let suite = Suite {
        driver: &place.driver,
        stranger: &stranger,
        resources: vec![bucket(1, 1)],
        neighbours: vec![bucket(2, 1), bucket(2, 2)],
    };
    conforms(&suite).await;
    place.close().await;
}

/// Reset: the same bucket's name, other objects, by other keys; the old generation goes without touching the new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_has_objects_and_keys_of_its_own() {
    let (_dir, place) = Place::fresh().await;
    place.client_as(1, 1, "put_marker", &[("MARKER", "old")]).await;
    place.ensure(&bucket(1, 2)).await;
    place.client_as(1, 2, "put_marker", &[("MARKER", "new")]).await;
    place.client_as(1, 1, "sees_marker", &[("MARKER", "old")]).await;
    place.client_as(1, 2, "sees_marker", &[("MARKER", "new")]).await;

    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    place.client_as(1, 1, "is_refused", &[]).await;
    place.client_as(1, 2, "sees_marker", &[("MARKER", "new")]).await;
    until("the old generation is gone", async || place.listing().await.len() == 2).await;
    until("its blob is gone", async || place.blobs().await.len() == 1).await;
    place.client_as(1, 2, "sees_marker", &[("MARKER", "new")]).await;
    place.close().await;
}

/// A generation whose manifest opens `static/`.
fn open_bucket(generation: u32) -> Resource {
    let mut open = bucket(1, generation);
    let Spec::Bucket { public, .. } = &mut open.spec else { unreachable!("a bucket") };
    public.push("static/".to_owned());
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_prefixes_open_what_is_below_them_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open(dir.path(), DOMAIN).await;
    place.ensure(&open_bucket(1)).await;
    place.ensure(&bucket(2, 1)).await;
    place.client("public").await;
    place.close().await;

    // It is remembered, and while another generation comes up the one that serves is shown.
    let place = Place::open(dir.path(), DOMAIN).await;
    let shown = [("SHOWN", "content of static/site.css")];
    place.client_as(1, 1, "public_as_before", &shown).await;
    place.ensure(&open_bucket(2)).await;
    place.client_as(1, 1, "public_as_before", &shown).await;
    place.client_as(1, 2, "put_static", &[("MARKER", "new")]).await;
    place.client_as(1, 1, "public_as_before", &shown).await;
    place.driver.remove(&bucket(1, 1).id).await.unwrap();
    place.client_as(1, 2, "public_as_before", &[("SHOWN", "new")]).await;
    place.close().await;
}

#[tokio::test]
async fn what_is_observed_survives_a_restart() {
    let (dir, place) = Place::fresh().await;
    let made = place.listing().await;
    let observed = &made[&bucket(1, 1).id];
    assert_eq!(observed.outputs.baseline.as_deref(), Some("default@1"));
    let of = origin(1);
    assert_eq!(observed.outputs.commit, Some((of.project, of.sha, of.trust)));
    assert_eq!((observed.phase, observed.run), (Phase::Whole, Run::Running));
    // Data is never made anew because the wish has changed.
    let mut changed = bucket(1, 1);
    changed.fingerprint.0 = "another".to_owned();
    assert_eq!(&place.ensure(&changed).await, observed);
    place.client("put_marker_once").await;
    let holds = place.listing().await;
    assert_eq!((holds[&bucket(1, 1).id].outputs.objects, holds[&bucket(1, 1).id].outputs.bytes), (Some(1), Some(4)));
    assert_eq!(holds[&bucket(2, 1).id], made[&bucket(2, 1).id]);
    place.close().await;
    let place = Place::open(dir.path(), DOMAIN).await;
    assert_eq!(place.listing().await, holds);
    place.client_as(1, 1, "sees_marker", &[("MARKER", "once")]).await;
    place.close().await;
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (dir, place) = Place::fresh().await;
    let refused = async |change: &dyn Fn(&mut planner::resource::Resource)| {
        let mut resource = bucket(3, 1);
        change(&mut resource);
        match place.driver.ensure(&resource, &Listing::new(), &Log::none()).await {
            Err(Failure::Permanent { text }) => text,
            other => panic!("{other:?}"),
        }
    };
    let of = || origin(3);
    let unknown = refused(&|r| {
        r.spec = Spec::Bucket { of: of(), from: DataFrom::Baseline("big@3".to_owned()), public: Vec::new() }
    })
    .await;
    assert!(unknown.contains("big@3") && unknown.contains("default@1"), "{unknown}");
    assert!(refused(&|r| r.spec = Spec::Network(of())).await.contains("not specified as a bucket"));
    assert!(refused(&|r| r.id.kind = Kind::Database).await.contains("not a bucket"));
    assert!(refused(&|r| r.id.owner = Owner::Instance).await.contains("not a bucket"));
    assert_eq!(place.listing().await.len(), 2, "a refusal made something");
    assert_eq!(place.driver.inventory(&Scope::Owner(Owner::Env(env(3)))).await.unwrap(), Listing::new());

    let busy = ObjectStore::open(dir.path(), key(), DOMAIN).await.unwrap_err().to_string();
    assert!(busy.contains("in use by another process"), "{busy}");
    place.close().await;
    let foreign = ObjectStore::open(dir.path(), InstanceKey::new([9; 32]), DOMAIN).await.unwrap_err().to_string();
    assert!(foreign.contains("belongs to instance") && foreign.contains("put the instance key back"), "{foreign}");
}
