//! What a container may write to its own disk.

use std::time::Duration;

use drivers::Driver;
use planner::identity::Trust;
use planner::resource::{Failure, Phase, Run};

use super::engine::Engine;

const MEGABYTES: u64 = 1 << 20;

fn writes(megabytes: u32, then: &str) -> String {
    format!("dd if=/dev/zero of=/written bs=1M count={megabytes} 2>/dev/null; {then}")
}

#[tokio::test]
async fn who_writes_more_than_allowed_is_stopped_and_told_why() {
    let engine = Engine::with(|settings| settings.disk = 4 * MEGABYTES);
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let spec = |megabytes| engine.spec(Trust::Trusted, &["sh", "-c", &writes(megabytes, "exec sleep 1000")]);
    let (web, modest) = (engine.container("web", spec(9)), engine.container("modest", spec(3)));
    let mut cache = engine.container("cache", spec(9));
    if let planner::spec::Spec::Container(container) = &mut cache.spec {
        container.companion = true;
    }
    for resource in [&web, &modest, &cache] {
        engine.ensure(resource).await.unwrap();
    }
    engine.docker.look_at_disk().await.unwrap();
    let seen = engine.all().await;
    assert_eq!(seen[&modest.id].run, Run::Running);
    for (resource, remedy) in [(&web, "write to the bucket or set tmp"), (&cache, "give it data")] {
        // We stopped it, so it did not end by itself.
        assert_eq!((seen[&resource.id].run, seen[&resource.id].phase), (Run::Stopped, Phase::Whole));
        let failure = engine.failure(resource).await;
        assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
        let expected = format!("{} wrote 9 MB to its own disk; the limit is 4 MB; {remedy}", resource.id.name);
        assert_eq!(failure.to_string(), expected);
    }
    // Its disk goes with the container, and so does the reason.
    engine.docker.remove(&web.id).await.unwrap();
    engine.ensure(&web).await.unwrap();
    engine.end().await;
}

#[tokio::test]
async fn a_job_that_writes_too_much_is_not_run_again() {
    let engine = Engine::with(|settings| settings.disk = 4 * MEGABYTES);
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let job = engine.job("release", engine.spec(Trust::Trusted, &["sh", "-c", &writes(9, "exec sleep 1000")]));
    let watching = async {
        loop {
            engine.docker.look_at_disk().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let failure = tokio::select! {
        failure = engine.failure(&job) => failure,
        () = watching => unreachable!("it goes on for ever"),
    };
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    assert!(failure.to_string().starts_with("release wrote 9 MB to its own disk"), "{failure}");
    engine.end().await;
}
