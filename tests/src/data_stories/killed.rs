//! Sidestage is killed in the middle of what takes long, and started again.

use std::path::Path;
use std::process::Stdio;

use planner::resource::Kind;
use planner::view::VersionState;
use sidestage::config::Config;
use tokio::process::{Child, Command};

use super::gate::{COUNT, Gate};
use super::server::{Superuser, nothing_leaks};
use super::{GOODS, current, endless, furnished, ok, opened, pushed, query, ready_from, shop, sql};
use crate::cli::run;
use crate::kit;
use crate::objects::until;
use crate::stage::Stage;
use crate::story::binary;

/// Bases of clones that somebody may still write to.
const OPEN: &str = "datname::text FROM pg_database WHERE datname LIKE '%\\_base\\_%' AND NOT datistemplate";

/// Sidestage as a process of its own.
struct Process {
    child: Child,
    config: Config,
}

impl Process {
    /// Takes over from the one in this process.
    async fn takes_over(stage: &mut Stage) -> Process {
        let config = stage.stop().await;
        let child = Command::new(binary())
            .arg("--config")
            .arg(config.file.as_ref().unwrap())
            .arg("serve")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let process = Process { child, config };
        until("it serves", async || run(&process.socket(), "ls", None, None).await.code == 0).await;
        process
    }

    fn socket(&self) -> std::path::PathBuf {
        sidestage::state_dir::control_socket(&self.config.state_dir)
    }

    async fn ok(&self, words: &str) -> String {
        let ran = run(&self.socket(), words, None, None).await;
        assert_eq!(ran.code, 0, "{words}: {}", ran.err);
        ran.out
    }

    /// Ends it without a word. Whatever it had under way is as it is.
    async fn killed(mut self) -> Config {
        self.child.kill().await.unwrap();
        self.config
    }
}

/// So many rows are in the shop of a commit that is made now, and its data are of this version.
async fn begins_with(stage: &Stage, message: &str, version: &str, goods: &str, folder: &Path) {
    let sha = pushed(stage, "refs/heads/main", message).await;
    ready_from(stage, &sha, version).await;
    assert_eq!(query(stage, &sha, folder, GOODS).await, goods);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_and_a_refresh_that_were_cut_off_are_no_baseline_and_are_made_anew() {
    let image = kit::busybox_image();
    let (mut stage, sources) = opened(&image).await;
    let superuser = Superuser::of(stage.instance().config());

    let process = Process::takes_over(&mut stage).await;
    sources.dump(&endless(3));
    process.ok(&sources.create()).await;
    superuser.sees(1, "pg_sleep").await;
    let listed = process.ok("baseline ls").await;
    assert!(listed.contains("none yet") && listed.contains("shop@1 is making"), "{listed}");
    let config = process.killed().await;
    let half = superuser.template().await;
    assert_eq!(superuser.names(OPEN).await, std::slice::from_ref(&half), "half of it is there, and it is no template");
    sources.dump(&sql(3));
    stage.start(config).await;
    current(&stage, "shop@1").await;
    assert_eq!((superuser.template().await, superuser.names(OPEN).await), (half, vec![]));
    begins_with(&stage, "one", "shop@1", "3", sources.path()).await;
    nothing_leaks(&stage).await;

    let process = Process::takes_over(&mut stage).await;
    sources.dump(&endless(7));
    process.ok("baseline refresh shop").await;
    superuser.sees(1, "pg_sleep").await;
    let shown = process.ok("baseline show shop").await;
    assert!(shown.contains("current  shop@1") && shown.contains("shop@2        making"), "{shown}");
    let config = process.killed().await;
    sources.dump(&sql(5));
    stage.start(config).await;
    current(&stage, "shop@2").await;
    begins_with(&stage, "two", "shop@2", "5", sources.path()).await;
    let versions: Vec<_> = shop(&stage).unwrap().versions.iter().map(|of| of.number).collect();
    assert_eq!(versions, [2, 1]);

    // Nobody wants it any more when Sidestage comes back: what is half made goes.
    let process = Process::takes_over(&mut stage).await;
    sources.dump(&endless(9));
    process.ok("baseline refresh shop").await;
    superuser.sees(1, "pg_sleep").await;
    let config = process.killed().await;
    stage.start(config).await;
    ok(&stage, "baseline rm shop 3").await;
    super::is_gone(&stage, "shop@3").await;
    superuser.sees(0, "pg_sleep").await;
    nothing_leaks(&stage).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_cut_off_is_completed() {
    let image = kit::busybox_image();
    let (mut stage, sources) = opened(&image).await;
    let gate = Gate::start().await;
    sources.dump(&sql(3));

    let process = Process::takes_over(&mut stage).await;
    process.ok(&gate.create(&sources)).await;
    gate.held().await;
    let shown = process.ok("baseline show shop").await;
    assert!(shown.contains("none yet") && shown.contains("shop@1        making"), "{shown}");
    let config = process.killed().await;
    gate.open();
    stage.start(config).await;
    current(&stage, "shop@1").await;
    let made = shop(&stage).unwrap().versions[0].clone();
    assert_eq!((made.state, made.count, made.tables), (VersionState::Current, Some(COUNT as u64), Some(2)));
    nothing_leaks(&stage).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_was_cut_off_goes_on_and_what_serves_serves() {
    let image = kit::busybox_image();
    let (mut stage, sources) = furnished(&image).await;
    let superuser = Superuser::of(stage.instance().config());
    let sha = pushed(&stage, "refs/heads/main", "one").await;
    ready_from(&stage, &sha, "shop@1").await;
    query(&stage, &sha, sources.path(), "insert into goods values (101, 'a new one')").await;

    let process = Process::takes_over(&mut stage).await;
    // No clone that was made ahead is in its way.
    let held = superuser.hold(&superuser.template().await).await;
    for spare in superuser.names("datname::text FROM pg_database WHERE datname LIKE '%\\_spare\\_%'").await {
        superuser.drop(&spare).await;
    }
    process.ok(&format!("reset shop {sha}")).await;
    superuser.sees(1, "CREATE DATABASE").await;
    let config = process.killed().await;
    held.let_go().await;
    stage.start(config).await;
    let commit = stage
        .until("the next generation", || {
            stage.commit(&sha).filter(|commit| commit.generation == 2 && commit.next.is_none())
        })
        .await;
    assert_eq!(stage.get(&format!("{}/hostname", commit.url)).await.status, 200);
    ready_from(&stage, &sha, "shop@1").await;
    assert_eq!(query(&stage, &sha, sources.path(), GOODS).await, "3");
    until("nothing of the first generation is left", async || {
        stage.world().await.keys().all(|id| id.generation != 1 || id.kind == Kind::Image)
    })
    .await;
    nothing_leaks(&stage).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_were_being_carried_on_are_open_again_and_carried_on() {
    let image = kit::busybox_image();
    let (mut stage, sources) = furnished(&image).await;
    let superuser = Superuser::of(stage.instance().config());
    let one = pushed(&stage, "refs/heads/main", "one").await;
    let commit = ready_from(&stage, &one, "shop@1").await;
    let folder = sources.path();
    query(&stage, &one, folder, "insert into goods values (101, 'a new one'); create table own (id int)").await;

    let process = Process::takes_over(&mut stage).await;
    let source = planner::names::database(&commit.env, 1);
    let held = superuser.hold(&source).await;
    let two = stage.repository.push("refs/heads/one", "refs/heads/one", "two", &[]).await.unwrap();
    superuser.sees(1, "CREATE DATABASE").await;
    let closed = "datname::text FROM pg_database WHERE NOT datallowconn AND datname LIKE 'sst\\_%' AND NOT datistemplate \
                  AND datname NOT LIKE '%\\_spare\\_%'";
    assert_eq!(superuser.names(closed).await, [source.as_str()], "nobody writes what is being copied");
    let config = process.killed().await;
    held.let_go().await;
    stage.start(config).await;
    ready_from(&stage, &two, &format!("carried on from {}", one.short())).await;
    assert_eq!(query(&stage, &two, folder, &format!("{GOODS}; select count(*) from own")).await, "4\n0");
    query(&stage, &one, folder, "drop table own; delete from goods where id = 1").await;
    query(&stage, &two, folder, "drop table own").await;
    assert_eq!(superuser.names(closed).await, [""; 0]);
    nothing_leaks(&stage).await;
    stage.close().await;
}
