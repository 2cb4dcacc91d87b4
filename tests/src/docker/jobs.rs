//! Containers that run once.

use std::time::Duration;

use drivers::{Driver, Log};
use planner::identity::Trust;
use planner::resource::{Failure, Phase};

use super::engine::{Engine, cli, wait_for};

#[tokio::test]
async fn a_job_that_ends_well_is_done_and_its_output_is_in_the_log() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let job = engine.job("release", engine.spec(Trust::Trusted, &["sh", "-c", "echo migrating; echo done >&2"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let seen = engine.ensure_logged(&job, &Log::create(&file).unwrap()).await.unwrap();
    assert_eq!(seen.phase, Phase::Exited { code: 0, oom: false });
    // The engine reads both outputs side by side, so their order is open.
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(["migrating\ndone\n", "done\nmigrating\n"].contains(&log.as_str()), "{log}");
    let again = engine.ensure(&job).await.unwrap();
    assert_eq!(again.outputs.id, seen.outputs.id, "what has ended well does not run again");
    engine.end().await;
}

#[tokio::test]
async fn a_job_that_fails_has_failed_for_good() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    // 255 is what an engine reports of what died with it, and what PHP exits with on any error.
    for code in ["1", "255"] {
        let script = format!("echo relation exists; exit {code}");
        let job = engine.job("release", engine.spec(Trust::Trusted, &["sh", "-c", &script]));
        let failure = engine.failure(&job).await;
        let told = format!("release exited with code {code}; it said last: relation exists");
        assert_eq!(failure, Failure::permanent(told));
        assert_eq!(engine.failure(&job).await, failure, "its result is read, it does not run again");
        let phase = engine.all().await[&job.id].phase;
        assert_eq!(phase, Phase::Exited { code: code.parse().unwrap(), oom: false });
        engine.docker.remove(&job.id).await.unwrap();
    }
    engine.end().await;
}

#[tokio::test]
async fn a_running_job_is_taken_up() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let job =
        engine.job("release", engine.spec(Trust::Trusted, &["sh", "-c", "while ! test -e /go; do sleep 0.05; done"]));
    let needs = engine.all().await;
    let container = format!("sst-{}-1-release", engine.env(Trust::Trusted));
    let log = Log::none();
    {
        let first = engine.docker.ensure(&job, &needs, &log);
        tokio::pin!(first);
        let running =
            wait_for("the job runs", || match cli(&["inspect", "--format", "{{.State.Running}}", &container]).trim() {
                "true" => Ok(()),
                other => Err(other.to_owned()),
            });
        tokio::select! { _ = &mut first => panic!("it ended"), () = running => {} }
    }
    let before = engine.all().await.remove(&job.id).unwrap();
    assert_eq!(before.phase, Phase::Whole, "dropping the call leaves it running");
    let (second, _) =
        tokio::join!(engine.docker.ensure(&job, &needs, &log), async { cli(&["exec", &container, "touch", "/go"]) });
    let after = second.unwrap();
    assert_eq!((after.phase, after.outputs.id), (Phase::Exited { code: 0, oom: false }, before.outputs.id));
    engine.end().await;
}

#[tokio::test]
async fn a_job_that_was_cut_off_is_lost_and_runs_again() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let job = engine.job("release", engine.spec(Trust::Trusted, &["sh", "-c", "test -n \"$QUICK\" || sleep 1000"]));
    let needs = engine.all().await;
    let container = format!("sst-{}-1-release", engine.env(Trust::Trusted));
    let log = Log::none();
    let killed = wait_for("the job runs", || match cli(&["kill", &container]).trim() {
        "" => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    let (failure, ()) = tokio::join!(engine.docker.ensure(&job, &needs, &log), killed);
    assert!(matches!(failure, Err(Failure::Transient { .. })), "{failure:?}");
    let first = engine.all().await.remove(&job.id).unwrap();
    assert_eq!(first.phase, Phase::Lost);
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", "test -n \"$QUICK\" || sleep 1000"]);
    spec.env.insert("QUICK".to_owned(), "1".to_owned());
    let second = engine.ensure(&engine.job("release", spec)).await.unwrap();
    assert_eq!(second.phase, Phase::Exited { code: 0, oom: false });
    assert_ne!(second.outputs.id, first.outputs.id);
    engine.end().await;
}

#[tokio::test]
async fn a_job_whose_time_is_up_is_killed() {
    let engine = Engine::new();
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", "echo waiting for a lock; sleep 1000"]);
    spec.start_timeout = Duration::from_secs(2);
    let job = engine.job("release", spec);
    let failure = engine.failure(&job).await;
    let told = "release did not end within 2 s and was killed; it said last: waiting for a lock";
    assert_eq!(failure, Failure::permanent(told));
    let container = format!("sst-{}-1-release", engine.env(Trust::Trusted));
    assert_eq!(cli(&["inspect", "--format", "{{.State.Running}}", &container]).trim(), "false");
    engine.end().await;
}
