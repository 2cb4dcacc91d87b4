//! The PostgreSQL driver on a real server: conformance, isolation, half-made things, outages.
#![allow(clippy::unwrap_used)]

mod baselines;
mod clones;
mod extensions;
mod isolation;
mod managed;
mod passthrough;
mod quota;
pub(crate) mod shared;
mod storage;
mod storage_cli;
mod upstream;

use std::collections::BTreeSet;
use std::time::Duration;

use drivers::postgres::{Allowance, Postgres, Server};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::{InstanceKey, Sha, Trust};
use planner::names;
use planner::resource::{Backend, Failure, Fingerprint, Kind, Owner, Phase, Resource, ResourceId, Run};
use planner::spec::{DataFrom, Origin, Spec};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::conformance::{Suite, conforms};

/// A database of the commit whose sha repeats this byte.
fn resource(key: &InstanceKey, sha: u8, generation: u32) -> Resource {
    let of = Origin { project: "shop".parse().unwrap(), sha: Sha::from_bytes([sha; 20]), trust: Trust::Trusted };
    let owner = Owner::Env(key.env(&of.project, &of.sha, of.trust));
    Resource {
        id: ResourceId { backend: Backend::Postgres, owner, generation, kind: Kind::Database, name: "main".into() },
        spec: Spec::Database { of, from: DataFrom::Baseline("default@1".into()), extensions: BTreeSet::new() },
        run: Run::Running,
        needs: Vec::new(),
        deadline: Duration::from_secs(60),
        fingerprint: Fingerprint(format!("{sha:016x}")),
    }
}

/// Database, role and password of a resource.
fn login(key: &InstanceKey, resource: &Resource) -> (String, String) {
    let Owner::Env(env) = &resource.id.owner else { panic!("{} is no environment's", resource.id) };
    let generation = resource.id.generation;
    (names::database(env, generation), names::database_password(key, env, generation))
}

/// Connects as an environment does.
async fn connect(server: &Server, role: &str, password: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
    let settings = server.settings();
    PgConnectOptions::new_without_pgpass()
        .host(&settings.address.to_string())
        .port(settings.port)
        .username(role)
        .password(password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
}

/// Connects as Sidestage does, to look behind the driver.
async fn admin(server: &Server, database: &str) -> PgConnection {
    let settings = server.settings();
    let socket = PgConnectOptions::new_without_pgpass().socket(settings.home.join("run")).port(settings.port);
    socket.username("sidestage").database(database).connect().await.unwrap()
}

async fn sql(connection: &mut PgConnection, text: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(connection).await.map(|_| ())
}

async fn ensure(driver: &Postgres, resource: &Resource) {
    driver.ensure(resource, &Listing::new(), &Log::none()).await.unwrap();
}

/// The driver of an instance with this key, and the key.
fn instance(server: &Server, byte: u8) -> (Postgres, InstanceKey) {
    let key = InstanceKey::new([byte; 32]);
    (Postgres::new(server, key.clone(), Allowance::default()), key)
}

#[tokio::test]
async fn conforms_to_the_suite() {
    let server = shared::server().await;
    let ((driver, key), (stranger, _)) = (instance(server, 1), instance(server, 2));
    conforms(&Suite {
        driver: &driver,
        stranger: &stranger,
        resources: vec![resource(&key, 1, 1)],
        neighbours: vec![resource(&key, 2, 1), resource(&key, 2, 2)],
    })
    .await;
    driver.clear().await.unwrap();
    stranger.clear().await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_an_instance_and_the_other_goes_on() {
    let server = shared::server().await;
    let ((one, one_key), (two, two_key)) = (instance(server, 3), instance(server, 4));
    let (ours, theirs) = (resource(&one_key, 1, 1), resource(&two_key, 1, 1));
    tokio::join!(ensure(&one, &ours), ensure(&two, &theirs));
    one.clear().await.unwrap();
    assert_eq!(two.inventory(&Scope::All).await.unwrap().keys().collect::<Vec<_>>(), [&theirs.id]);
    assert_eq!(names_of(server, &one_key, &ours).await, Vec::<String>::new());
    two.clear().await.unwrap();
    assert_eq!(names_of(server, &two_key, &theirs).await, Vec::<String>::new());
}

/// Databases and roles of an instance and of one resource of it.
async fn names_of(server: &Server, key: &InstanceKey, resource: &Resource) -> Vec<String> {
    let mut connection = admin(server, "postgres").await;
    sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE $1 OR datname = $2 \
         UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1 OR rolname = $2",
    )
    .bind(format!("%{}%", key.instance()))
    .bind(login(key, resource).0)
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn half_made_is_partial_and_is_completed_or_cleared() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 5);
    let resource = resource(&key, 1, 1);
    let (name, password) = login(&key, &resource);
    let registry = format!("sst_{}_sidestage", key.instance());
    // What a crash leaves: the row alone; row and role; row, role and a closed copy.
    for left in ["row", "role", "copy"] {
        for complete in [true, false] {
            ensure(&driver, &resource).await;
            let mut behind = admin(server, &registry).await;
            sql(&mut behind, "UPDATE databases SET complete = false").await.unwrap();
            if left == "copy" {
                sql(&mut behind, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.unwrap();
            } else {
                sql(&mut behind, &format!("DROP DATABASE {name}")).await.unwrap();
            }
            if left == "row" {
                sql(&mut behind, &format!("DROP ROLE {name}")).await.unwrap();
            }
            behind.close().await.unwrap();
            let seen = driver.inventory(&Scope::All).await.unwrap();
            assert_eq!(seen[&resource.id].phase, Phase::Partial, "{left}");
            if complete {
                ensure(&driver, &resource).await;
                connect(server, &name, &password, &name).await.unwrap().close().await.unwrap();
            }
            driver.remove(&resource.id).await.unwrap();
            assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new(), "{left}");
            assert!(!names_of(server, &key, &resource).await.contains(&name), "{left}");
        }
    }
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn how_large_a_database_is_is_told() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 12);
    let resource = resource(&key, 1, 1);
    let (name, password) = login(&key, &resource);
    ensure(&driver, &resource).await;
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    sql(&mut inside, "CREATE TABLE much AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 10000) n")
        .await
        .unwrap();
    inside.close().await.unwrap();
    let told = driver.inventory(&Scope::All).await.unwrap()[&resource.id].outputs.bytes.unwrap();
    assert!(told > 10_000_000, "{told} bytes, with a table of 10 MB");
    driver.remove(&resource.id).await.unwrap();
}

#[tokio::test]
async fn a_database_deleted_from_outside_is_not_whole() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 6);
    let resource = resource(&key, 1, 1);
    ensure(&driver, &resource).await;
    let mut behind = admin(server, "postgres").await;
    sql(&mut behind, &format!("DROP DATABASE {}", login(&key, &resource).0)).await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap()[&resource.id].phase, Phase::Partial);
    driver.remove(&resource.id).await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn databases_of_others_are_never_touched() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 7);
    let resource = resource(&key, 1, 1);
    let (name, _) = login(&key, &resource);
    let mut behind = admin(server, "postgres").await;
    // The very name that ours would have, and one that merely looks like ours.
    sql(&mut behind, &format!("CREATE DATABASE {name}")).await.unwrap();
    sql(&mut behind, "CREATE DATABASE sst_aaaaaaaaaaaaaaaa_1").await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    driver.remove(&resource.id).await.unwrap();
    let refused = driver.ensure(&resource, &Listing::new(), &Log::none()).await.unwrap_err();
    assert!(matches!(&refused, Failure::Permanent { text } if text.contains(&name)), "{refused:?}");
    driver.clear().await.unwrap();
    for name in [name.as_str(), "sst_aaaaaaaaaaaaaaaa_1"] {
        sql(&mut behind, &format!("DROP DATABASE {name}")).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_baseline_is_permanent_and_leaves_nothing() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 8);
    let mut resource = resource(&key, 1, 1);
    if let Spec::Database { from, .. } = &mut resource.spec {
        *from = DataFrom::Baseline("masked@7".to_owned());
    }
    let refused = driver.ensure(&resource, &Listing::new(), &Log::none()).await.unwrap_err();
    assert!(matches!(&refused, Failure::Permanent { text } if text.contains("masked@7")), "{refused:?}");
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn many_at_once_and_two_drivers_of_one_instance() {
    let server = shared::server().await;
    let ((one, key), (two, _)) = (instance(server, 9), instance(server, 9));
    let resources: Vec<_> = (1..=6).map(|sha| resource(&key, sha, 1)).collect();
    let made = resources.iter().map(|r| ensure(if r.fingerprint.0.ends_with('1') { &two } else { &one }, r));
    futures_util::future::join_all(made).await;
    assert_eq!(one.inventory(&Scope::All).await.unwrap().len(), 6);
    assert_eq!(one.inventory(&Scope::All).await.unwrap(), two.inventory(&Scope::All).await.unwrap());
    two.clear().await.unwrap();
}
