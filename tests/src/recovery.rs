//! What happens to running environments when Sidestage, its store or its database server goes away, and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use drivers::{Listing, Scope};
use planner::identity::Sha;
use planner::resource::Kind;
use planner::view::State;
use sidestage::instance::Instance;

use crate::kit;
use crate::stage::Stage;

const MANIFEST: &str = "[objects]\nbaseline = \"default\"\n";

fn dockerfile(tag: &str) -> String {
    format!("FROM {tag}\nCMD [\"busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n")
}

/// A stage on which these branches are ready.
async fn staged(image: &kit::Busybox, branches: &[&str]) -> (Stage, Vec<Sha>) {
    let text = dockerfile(&image.tag);
    let files = [("Dockerfile", text.as_str()), (".sidestage.toml", MANIFEST)];
    let stage = Stage::open(&files, "stage = \"automatic\"\n").await;
    let mut shas = Vec::new();
    for branch in branches {
        let target = format!("refs/heads/{branch}");
        shas.push(stage.repository.push("refs/heads/main", &target, branch, &[]).await.unwrap());
    }
    stage.look().await;
    for sha in &shas {
        stage.reaches(sha, &[State::Ready]).await;
    }
    (stage, shas)
}

fn ids(world: &Listing) -> BTreeMap<String, Option<String>> {
    world.iter().map(|(id, seen)| (id.to_string(), seen.outputs.id.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_store_loses_and_doubles_nothing() {
    let image = kit::busybox_image();
    let (mut stage, shas) = staged(&image, &["one", "two", "three"]).await;
    let before = stage.world().await;
    let config = stage.stop().await;
    for file in ["sidestage.db", "sidestage.db-wal", "sidestage.db-shm"] {
        let _ = std::fs::remove_file(config.state_dir.join(file));
    }
    stage.start(config).await;
    for sha in &shas {
        let commit = stage.reaches(sha, &[State::Ready]).await;
        assert_eq!(commit.generation, 1);
        assert_eq!(stage.get(&format!("{}/hostname", commit.url)).await.status, 200);
    }
    assert_eq!(ids(&stage.world().await), ids(&before));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_interrupts_nothing() {
    let image = kit::busybox_image();
    let (mut stage, shas) = staged(&image, &["stays"]).await;
    let before = stage.world().await;
    let config = stage.stop().await;
    stage.start(config).await;
    let commit = stage.reaches(&shas[0], &[State::Ready]).await;
    assert_eq!(stage.get(&format!("{}/hostname", commit.url)).await.status, 200);
    assert_eq!(ids(&stage.world().await), ids(&before));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sidestage_on_the_same_folder_refuses() {
    let image = kit::busybox_image();
    let (stage, _) = staged(&image, &[]).await;
    let refusal = Instance::start(stage.instance().config().clone()).await.err().expect("the folder is taken");
    assert!(format!("{refusal:#}").contains("another Sidestage"), "{refusal:#}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_deleted_from_outside_comes_back_with_its_data() {
    let image = kit::busybox_image();
    let (stage, shas) = staged(&image, &["one"]).await;
    let before = stage.world().await;
    let web = before.keys().find(|id| id.kind == Kind::Container).unwrap();
    stage.instance().drivers()[&web.backend].remove(web).await.unwrap();
    let old = before[web].outputs.id.clone();
    let begun = std::time::Instant::now();
    while stage.world().await.get(web).is_none_or(|seen| seen.outputs.id == old) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the container does not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.reaches(&shas[0], &[State::Ready]).await;
    let kept = |world: &Listing| world.keys().filter(|id| id.kind == Kind::Database).cloned().collect::<Vec<_>>();
    assert_eq!(kept(&stage.world().await), kept(&before));
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_server_that_dies_comes_back_and_nothing_is_made_anew() {
    let image = kit::busybox_image();
    let (stage, shas) = staged(&image, &["one"]).await;
    let before = stage.world().await;
    let folder = sidestage::state_dir::services(&stage.instance().config().state_dir);
    let pid_file = folder.join("postgres/data/postmaster.pid");
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().lines().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT).unwrap();
    let begun = std::time::Instant::now();
    let postgres = &stage.instance().drivers()[&planner::resource::Backend::Postgres];
    while postgres.inventory(&Scope::All).await.is_err() || std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.look().await;
    stage.reaches(&shas[0], &[State::Ready]).await;
    assert_eq!(ids(&stage.world().await), ids(&before));
    stage.close().await;
}
