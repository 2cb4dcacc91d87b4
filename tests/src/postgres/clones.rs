//! Clones made ahead and claimed, data carried on from another environment, and both cut off at every point.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use drivers::postgres::{Postgres, Server};
use drivers::{Driver, Listing, Log, Scope};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use planner::identity::{InstanceKey, Trust};
use planner::resource::{Failure, Owner, Phase, Resource, ResourceId};
use planner::spec::{DataFrom, DatabaseFrom, Spec};
use sqlx::Connection;

use super::baselines::{beginning_with, template};
use super::{admin, connect, ensure, instance, login, resource, shared, sql};
use crate::conformance::{Cut, Suite, conforms};

pub(super) fn spare(version: &str, n: u32) -> Resource {
    Resource {
        id: ResourceId::spare(version, format!("spare-{n}")),
        spec: Spec::Spare { extensions: BTreeSet::new() },
        needs: vec![ResourceId::template(version)],
        ..template(version, DatabaseFrom::Empty)
    }
}

/// A file of SQL that makes this table with a row.
pub(super) fn small(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("small.sql");
    std::fs::write(&path, "CREATE TABLE t (n serial PRIMARY KEY);\nINSERT INTO t VALUES (default);\n").unwrap();
    path
}

/// A database that goes on with the data of another one.
pub(super) fn going_on(key: &InstanceKey, sha: u8, from: &Resource) -> Resource {
    let mut resource = resource(key, sha, 1);
    if let Spec::Database { from: data, .. } = &mut resource.spec {
        *data = DataFrom::Carry { from: from.id.clone(), baseline: "default@1".to_owned() };
    }
    resource
}

async fn spares(driver: &Postgres) -> Vec<String> {
    let listing = driver.inventory(&Scope::All).await.unwrap();
    listing.into_keys().filter(|id| id.name.starts_with("spare-")).map(|id| id.name).collect()
}

#[tokio::test]
async fn templates_and_spares_conform_to_the_suite() {
    let server = shared::server().await;
    let ((driver, key), (stranger, _)) = (instance(server, 40), instance(server, 41));
    let folder = tempfile::tempdir().unwrap();
    let filled = |version: &str| template(version, DatabaseFrom::File(small(&folder)));
    conforms(&Suite {
        driver: &driver,
        stranger: &stranger,
        resources: vec![filled("shop@1"), spare("shop@1", 1)],
        neighbours: vec![template("empty@1", DatabaseFrom::Empty), spare("empty@1", 1), resource(&key, 1, 1)],
    })
    .await;
    driver.clear().await.unwrap();
    stranger.clear().await.unwrap();
}

#[tokio::test]
async fn a_spare_is_claimed_once_and_only_by_whom_it_fits() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 42);
    let folder = tempfile::tempdir().unwrap();
    ensure(&driver, &template("shop@1", DatabaseFrom::File(small(&folder)))).await;
    ensure(&driver, &spare("shop@1", 1)).await;
    ensure(&driver, &spare("shop@1", 2)).await;

    // Of another baseline: not for this one.
    ensure(&driver, &resource(&key, 9, 1)).await;
    assert_eq!(spares(&driver).await, ["spare-1", "spare-2"]);

    // Five at once, two spares: all get a database of their own.
    let envs: Vec<_> = (1..=5).map(|sha| beginning_with(&key, sha, "shop@1")).collect();
    futures_util::future::join_all(envs.iter().map(|env| ensure(&driver, env))).await;
    assert_eq!(spares(&driver).await, Vec::<String>::new());
    for env in &envs {
        let (name, password) = login(&key, env);
        let mut inside = connect(server, &name, &password, &name).await.unwrap();
        let next: i32 =
            sqlx::query_scalar("INSERT INTO t VALUES (default) RETURNING n").fetch_one(&mut inside).await.unwrap();
        assert_eq!(next, 2, "another's row is in {name}");
        sql(&mut inside, "ALTER TABLE t ADD COLUMN m int; CREATE EXTENSION citext").await.unwrap();
        inside.close().await.unwrap();
    }
    // Of a baseline that is gone there is nothing to claim, spare or not.
    ensure(&driver, &spare("shop@1", 1)).await;
    driver.remove(&ResourceId::template("shop@1")).await.unwrap();
    let failure = driver.ensure(&beginning_with(&key, 6, "shop@1"), &Listing::new(), &Log::none()).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Permanent { text } if text.contains("there is no baseline shop@1")),
        "{failure}"
    );
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn a_claim_that_is_cut_leaves_a_spare_or_a_database() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 43);
    ensure(&driver, &template("shop@1", DatabaseFrom::Empty)).await;
    let env = beginning_with(&key, 1, "shop@1");
    let mut polls = 1;
    loop {
        ensure(&driver, &spare("shop@1", 1)).await;
        let cut = cut(&driver, &env, polls).await;
        // What was lost may still land: a second call finds it landed or not.
        ensure(&driver, &env).await;
        let listing = driver.inventory(&Scope::All).await.unwrap();
        assert!(listing.values().all(|seen| seen.phase == Phase::Whole), "{listing:?}");
        driver.remove(&env.id).await.unwrap();
        if !cut {
            break;
        }
        polls += 2;
    }
    driver.clear().await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
}

/// Starts an ensure and drops it after so many polls. False if it had ended by then.
pub(super) async fn cut(driver: &Postgres, resource: &Resource, polls: usize) -> bool {
    let (needs, log) = (Listing::new(), Log::none());
    let ensure = std::pin::pin!(driver.ensure(resource, &needs, &log));
    (Cut { future: ensure, left: polls }).await.is_none()
}

/// An environment whose application has worked in its database for a while.
pub(super) async fn lived_in(server: &Server, driver: &Postgres, key: &InstanceKey) -> Resource {
    let env = resource(key, 1, 1);
    ensure(driver, &env).await;
    let (name, password) = login(key, &env);
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    for text in [
        "CREATE TABLE t (n serial PRIMARY KEY); INSERT INTO t VALUES (default)",
        "CREATE EXTENSION citext; CREATE SCHEMA s; CREATE MATERIALIZED VIEW s.mv AS SELECT * FROM t",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; SELECT lo_create(17)",
    ] {
        sql(&mut inside, text).await.unwrap();
    }
    inside.close().await.unwrap();
    env
}

pub(super) async fn writes(server: &Server, key: &InstanceKey, env: &Resource) -> Result<i32, sqlx::Error> {
    let (name, password) = login(key, env);
    let mut inside = connect(server, &name, &password, &name).await?;
    let next = sqlx::query_scalar("INSERT INTO t VALUES (default) RETURNING n").fetch_one(&mut inside).await?;
    inside.close().await?;
    Ok(next)
}

#[tokio::test]
async fn data_are_carried_on_and_become_the_new_owners() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 44);
    let one = lived_in(server, &driver, &key).await;
    // In use, in the middle of a transaction.
    let (name, password) = login(&key, &one);
    let mut busy = connect(server, &name, &password, &name).await.unwrap();
    sql(&mut busy, "BEGIN; INSERT INTO t VALUES (default)").await.unwrap();
    let two = going_on(&key, 2, &one);
    ensure(&driver, &two).await;
    busy.ping().await.expect_err("its session has ended");
    let three = going_on(&key, 3, &two);
    ensure(&driver, &three).await;
    // Each goes on by itself, and the first is open again.
    assert_eq!(writes(server, &key, &three).await.unwrap(), 2 + 1, "the sequence has counted what was rolled back");
    writes(server, &key, &two).await.unwrap();
    writes(server, &key, &one).await.unwrap();
    driver.remove(&one.id).await.unwrap();
    driver.remove(&two.id).await.unwrap();
    let (name, password) = login(&key, &three);
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    for text in [
        "ALTER TABLE t ADD COLUMN m int; REFRESH MATERIALIZED VIEW s.mv; DROP SCHEMA s CASCADE",
        "SELECT lo_unlink(17); ALTER EXTENSION citext UPDATE; DROP TABLE t",
    ] {
        sql(&mut inside, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    inside.close().await.unwrap();
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn foreign_codes_data_go_nowhere() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 45);
    let mut foreign = resource(&key, 1, 1);
    if let Spec::Database { of, .. } = &mut foreign.spec {
        of.trust = Trust::Approved;
        foreign.id.owner = Owner::Env(key.env(&of.project, &of.sha, of.trust));
    }
    ensure(&driver, &foreign).await;
    for resource in [going_on(&key, 2, &foreign), template("shop@1", DatabaseFrom::Env(foreign.id.clone()))] {
        let failure = driver.ensure(&resource, &Listing::new(), &Log::none()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Permanent { text } if text.contains("foreign code")), "{failure}");
    }
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_cut_leaves_its_source_open() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 46);
    let one = lived_in(server, &driver, &key).await;
    let two = going_on(&key, 2, &one);
    let mut polls = 1;
    while cut(&driver, &two, polls).await {
        // The call's connection goes on for a moment; a listing after that finds what it left.
        let since = Instant::now();
        while let Err(error) = writes(server, &key, &one).await {
            assert!(since.elapsed() < Duration::from_secs(30), "after {polls} polls: {error}");
            driver.inventory(&Scope::All).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        polls += 1 + polls / 6;
    }
    ensure(&driver, &two).await;
    writes(server, &key, &two).await.unwrap();
    driver.remove(&one.id).await.unwrap();
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn an_environment_becomes_a_baseline_without_noticing() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 47);
    let one = lived_in(server, &driver, &key).await;
    let (name, password) = login(&key, &one);
    let mut busy = connect(server, &name, &password, &name).await.unwrap();
    ensure(&driver, &template("shop@1", DatabaseFrom::Env(one.id.clone()))).await;
    busy.ping().await.unwrap();
    let two = beginning_with(&key, 2, "shop@1");
    ensure(&driver, &two).await;
    assert_eq!(writes(server, &key, &two).await.unwrap(), 2);
    busy.close().await.unwrap();

    // And as a server of the operator's would: by URL and password file, read over the network.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let port = server.settings().port;
    let from = DatabaseFrom::Server {
        url: format!("postgresql://{name}@127.0.0.1:{port}/{name}"),
        password_file: Some(file.clone()),
    };
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failure = driver.ensure(&template("shop@2", from.clone()), &Listing::new(), &Log::none()).await.unwrap_err();
    assert!(matches!(&failure, Failure::Permanent { text } if text.contains("chmod 600")), "{failure}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    ensure(&driver, &template("shop@2", from)).await;
    let three = beginning_with(&key, 3, "shop@2");
    ensure(&driver, &three).await;
    assert_eq!(writes(server, &key, &three).await.unwrap(), 2);
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn the_server_dies_in_the_middle_of_each() {
    let server = shared::start("dies").await;
    let (driver, key) = instance(&server, 1);
    let folder = tempfile::tempdir().unwrap();
    let one = lived_in(&server, &driver, &key).await;
    ensure(&driver, &template("shop@1", DatabaseFrom::Empty)).await;
    for resource in [
        template("shop@2", DatabaseFrom::File(small(&folder))),
        spare("shop@1", 1),
        beginning_with(&key, 3, "shop@1"),
        going_on(&key, 2, &one),
    ] {
        for polls in [12, 30, 60] {
            let cut = cut(&driver, &resource, polls).await;
            if let Some(pid) = server.pid() {
                kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
                let since = Instant::now();
                while server.pid() == Some(pid) {
                    assert!(since.elapsed() < Duration::from_secs(30));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            server.revive().await.unwrap();
            let since = Instant::now();
            let listing = loop {
                match driver.inventory(&Scope::All).await {
                    Ok(listing) => break listing,
                    Err(failure) => assert!(since.elapsed() < Duration::from_secs(30), "{failure}"),
                }
            };
            if cut && let Some(seen) = listing.get(&resource.id) {
                // It may have landed; else nothing is made of it.
                assert!(matches!(seen.phase, Phase::Partial | Phase::Whole), "{seen:?}");
            }
            writes(&server, &key, &one).await.unwrap();
            ensure(&driver, &resource).await;
            driver.remove(&resource.id).await.unwrap();
        }
    }
    let left = driver.inventory(&Scope::All).await.unwrap();
    assert_eq!(left.into_keys().collect::<BTreeSet<_>>(), [one.id, ResourceId::template("shop@1")].into());
    // No database and no role is left of what was cut.
    let databases: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname LIKE 'sst\\_%'")
        .fetch_one(&mut admin(&server, "postgres").await)
        .await
        .unwrap();
    assert_eq!(databases, 4, "the registry, default@1, shop@1 and the one environment's");
    server.destroy().await.unwrap();
}
