//! Databases over their quota: suspended, told of, and back; whatever their role does against it.

use std::time::{Duration, Instant};

use drivers::postgres::{Allowance, Postgres, Server};
use drivers::{Driver, Quota, Scope};
use planner::identity::{InstanceKey, Trust};
use planner::resource::{Owner, Resource, Suspended};
use planner::spec::{DatabaseFrom, Spec};
use sqlx::{Connection, PgConnection};

use super::baselines::template;
use super::clones::going_on;
use super::upstream::{Theirs, versions};
use super::{connect, ensure, login, resource, shared, sql};

/// An empty database has some 7.5 MB of it.
const LIMIT: u64 = 12_000_000;
/// Each takes about 6 MB.
const MORE: &str = "INSERT INTO much SELECT repeat(md5(n::text), 30) FROM generate_series(1, 6000) n";

/// What measures whenever it lists.
fn allowance(quota: Quota) -> Allowance {
    Allowance { database: quota, measured: Duration::ZERO, ..Allowance::default() }
}

fn instance(server: &Server, byte: u8, quota: Quota) -> (Postgres, InstanceKey) {
    let key = InstanceKey::new([byte; 32]);
    (Postgres::new(server, key.clone(), allowance(quota)), key)
}

fn everybody(limit: u64) -> Quota {
    Quota { trusted: Some(limit), foreign: Some(limit) }
}

fn foreign(key: &InstanceKey, sha: u8, generation: u32) -> Resource {
    let mut resource = resource(key, sha, generation);
    if let Spec::Database { of, .. } = &mut resource.spec {
        of.trust = Trust::Approved;
        resource.id.owner = Owner::Env(key.env(&of.project, &of.sha, of.trust));
    }
    resource
}

/// What a look says was stopped of it.
async fn suspended(driver: &Postgres, resource: &Resource) -> Option<Suspended> {
    driver.inventory(&Scope::All).await.unwrap()[&resource.id].outputs.suspended
}

async fn enter(server: &Server, key: &InstanceKey, resource: &Resource) -> Result<PgConnection, sqlx::Error> {
    let (name, password) = login(key, resource);
    connect(server, &name, &password, &name).await
}

/// A session in it, which has filled it beyond its limit.
async fn filled(server: &Server, driver: &Postgres, key: &InstanceKey, resource: &Resource) -> PgConnection {
    ensure(driver, resource).await;
    let mut inside = enter(server, key, resource).await.unwrap();
    sql(&mut inside, "CREATE TABLE much (words text)").await.unwrap();
    sql(&mut inside, MORE).await.unwrap();
    inside
}

/// The signal to end has been sent; it arrives.
async fn ends(mut session: PgConnection) {
    let begun = Instant::now();
    while session.ping().await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the session goes on");
    }
}

/// What the server says to a write of a session that has done nothing about it.
async fn refusal(server: &Server, key: &InstanceKey, resource: &Resource) -> Option<String> {
    let mut inside = enter(server, key, resource).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM much").fetch_one(&mut inside).await.unwrap();
    assert!(rows >= 6000, "reading goes on");
    let written = sql(&mut inside, "INSERT INTO much VALUES ('x')").await;
    inside.close().await.unwrap();
    written.err().map(|error| error.as_database_error().unwrap().message().to_owned())
}

const READ_ONLY: &str = "cannot execute INSERT in a read-only transaction";

#[tokio::test]
async fn over_it_writes_are_refused_until_somebody_has_made_room() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 60, everybody(LIMIT));
    let (one, small) = (resource(&key, 1, 1), resource(&key, 2, 1));
    ensure(&driver, &small).await;
    let (name, _) = login(&key, &one);
    let mut unaware = filled(server, &driver, &key, &one).await;
    // It even is at changing its own role.
    sql(&mut unaware, &format!("BEGIN; ALTER ROLE {name} IN DATABASE {name} SET work_mem = '1MB'")).await.unwrap();
    // As we are called where we read it for a baseline.
    let mut reading = enter(server, &key, &one).await.unwrap();
    sql(&mut reading, "SET application_name = 'sidestage'").await.unwrap();
    // Whoever copies or removes it holds its name.
    let mut copying = super::admin(server, &format!("sst_{}_sidestage", key.instance())).await;
    let hold = format!("SELECT pg_advisory_lock(hashtextextended('{name}', 0))");
    sql(&mut copying, &hold).await.unwrap();
    assert_eq!(suspended(&driver, &one).await, None);
    sql(&mut copying, "SELECT pg_advisory_unlock_all()").await.unwrap();
    copying.close().await.unwrap();
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes));
    assert_eq!(suspended(&driver, &small).await, None);
    ends(unaware).await;
    reading.ping().await.unwrap();
    assert_eq!(refusal(server, &key, &one).await.as_deref(), Some(READ_ONLY));

    // Whoever says so may write, and is left alone while the work lasts.
    let mut inside = enter(server, &key, &one).await.unwrap();
    sql(&mut inside, "BEGIN READ WRITE; DELETE FROM much; COMMIT").await.unwrap();
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes), "what was deleted still takes room");
    sql(&mut inside, "SET default_transaction_read_only = off").await.unwrap();
    let begun = Instant::now();
    while suspended(&driver, &one).await.is_some() {
        // Whatever still sees the deleted rows, such as the server's own analysis of the table, keeps them.
        sql(&mut inside, "VACUUM FULL much").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays too large");
    }
    sql(&mut inside, MORE).await.unwrap();
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes), "and over it again");
    ends(inside).await;
    let mut inside = enter(server, &key, &one).await.unwrap();
    sql(&mut inside, "BEGIN READ WRITE; DROP TABLE much; COMMIT").await.unwrap();
    assert_eq!(suspended(&driver, &one).await, None);
    inside.close().await.unwrap();
    let mut inside = enter(server, &key, &one).await.unwrap();
    sql(&mut inside, "CREATE TABLE again (n int)").await.unwrap();
    inside.close().await.unwrap();
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn it_outlives_every_restart_and_a_higher_limit_lifts_it() {
    let server = shared::start("quota").await;
    let (driver, key) = instance(&server, 1, everybody(LIMIT));
    let one = resource(&key, 1, 1);
    filled(&server, &driver, &key, &one).await;
    suspended(&driver, &one).await;
    server.stop().await;
    server.revive().await.unwrap();
    assert_eq!(refusal(&server, &key, &one).await.as_deref(), Some(READ_ONLY), "nobody has measured since");
    let (driver, _) = instance(&server, 1, everybody(LIMIT));
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes));
    let (driver, _) = instance(&server, 1, everybody(10 * LIMIT));
    assert_eq!(suspended(&driver, &one).await, None);
    assert_eq!(refusal(&server, &key, &one).await, None);

    // Cut between the change of the role and the end of its sessions: the next look ends them.
    let (driver, _) = instance(&server, 1, everybody(LIMIT));
    suspended(&driver, &one).await;
    let early = enter(&server, &key, &one).await.unwrap();
    let registry = format!("sst_{}_sidestage", key.instance());
    let mut behind = super::admin(&server, &registry).await;
    sql(&mut behind, "UPDATE databases SET suspended_at = 'infinity'").await.unwrap();
    suspended(&driver, &one).await;
    ends(early).await;
    server.destroy().await.unwrap();
}

#[tokio::test]
async fn trusted_code_is_left_alone_and_foreign_code_gets_no_further_than_twice_as_much() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 61, Quota { trusted: None, foreign: Some(LIMIT) });
    let (ours, theirs) = (resource(&key, 1, 1), foreign(&key, 2, 1));
    let mut at_home = filled(server, &driver, &key, &ours).await;
    filled(server, &driver, &key, &theirs).await;
    assert_eq!(suspended(&driver, &theirs).await, Some(Suspended::Writes));
    let mut inside = enter(server, &key, &theirs).await.unwrap();
    sql(&mut inside, "SET default_transaction_read_only = off").await.unwrap();
    let (name, _) = login(&key, &theirs);
    for _ in 0..2 {
        sql(&mut at_home, MORE).await.unwrap();
        sql(&mut inside, MORE).await.unwrap();
    }
    // It even holds what would be changed of its role.
    let mut holding = enter(server, &key, &theirs).await.unwrap();
    for held in [
        "BEGIN READ WRITE",
        &format!("ALTER ROLE {name} PASSWORD 'x'"),
        &format!("ALTER ROLE {name} IN DATABASE {name} SET work_mem = '1MB'"),
        &format!("ALTER DATABASE {name} CONNECTION LIMIT 50"),
    ] {
        sql(&mut holding, held).await.unwrap();
    }
    assert_eq!(suspended(&driver, &theirs).await, Some(Suspended::Closed));
    ends(inside).await;
    ends(holding).await;
    let said = enter(server, &key, &theirs).await.map(drop).unwrap_err().to_string();
    assert!(said.contains("is not permitted to log in"), "{said}");
    assert_eq!(suspended(&driver, &ours).await, None);
    sql(&mut at_home, MORE).await.unwrap();
    at_home.close().await.unwrap();

    // A reset is the way out.
    let next = foreign(&key, 2, 2);
    ensure(&driver, &next).await;
    driver.remove(&theirs.id).await.unwrap();
    assert_eq!(suspended(&driver, &next).await, None);
    enter(server, &key, &next).await.unwrap().close().await.unwrap();
    driver.clear().await.unwrap();
}

/// Changes its own role for as long as it can, and begins again where it is thrown out.
async fn changing(server: &Server, key: &InstanceKey, resource: &Resource) {
    let (name, _) = login(key, resource);
    let change = format!("ALTER ROLE {name} IN DATABASE {name} SET work_mem = '1MB'");
    while let Ok(mut inside) = enter(server, key, resource).await {
        let _ = sql(&mut inside, "SET default_transaction_read_only = off").await;
        // Two at once refuse each other now and then.
        while sql(&mut inside, &change).await.is_ok() || inside.ping().await.is_ok() {}
    }
}

#[tokio::test]
async fn a_role_that_changes_itself_all_the_time_is_shut_out_all_the_same() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 64, everybody(LIMIT / 4));
    let theirs = foreign(&key, 1, 1);
    filled(server, &driver, &key, &theirs).await;
    let changing = futures_util::future::join_all((0..4).map(|_| changing(server, &key, &theirs)));
    // A change of its own that comes in between leaves it to the next look.
    let looking = async { while suspended(&driver, &theirs).await != Some(Suspended::Closed) {} };
    let shut_out = async { tokio::join!(changing, looking) };
    tokio::time::timeout(Duration::from_secs(60), shut_out).await.expect("it is not shut out");
    let said = enter(server, &key, &theirs).await.map(drop).unwrap_err().to_string();
    assert!(said.contains("is not permitted to log in"), "{said}");
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn what_undoes_it_for_good_is_done_again() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 62, everybody(LIMIT));
    let one = resource(&key, 1, 1);
    filled(server, &driver, &key, &one).await;
    suspended(&driver, &one).await;
    let (name, _) = login(&key, &one);
    let mut inside = enter(server, &key, &one).await.unwrap();
    let undo = format!("ALTER ROLE {name} IN DATABASE {name} SET default_transaction_read_only = off");
    for text in ["BEGIN READ WRITE", &undo, "COMMIT"] {
        sql(&mut inside, text).await.unwrap();
    }
    assert_eq!(refusal(server, &key, &one).await, None);
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes));
    assert_eq!(refusal(server, &key, &one).await.as_deref(), Some(READ_ONLY));
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn what_is_suspended_is_carried_on_and_made_a_baseline() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 63, everybody(LIMIT));
    let one = resource(&key, 1, 1);
    filled(server, &driver, &key, &one).await;
    suspended(&driver, &one).await;
    ensure(&driver, &template("much@1", DatabaseFrom::Env(one.id.clone()))).await;
    let two = going_on(&key, 2, &one);
    ensure(&driver, &two).await;
    assert_eq!(refusal(server, &key, &two).await, None, "nobody has measured the copy");
    assert_eq!(suspended(&driver, &two).await, Some(Suspended::Writes));
    assert_eq!(suspended(&driver, &one).await, Some(Suspended::Writes));
    assert_eq!(refusal(server, &key, &two).await.as_deref(), Some(READ_ONLY));
    driver.remove(&one.id).await.unwrap();
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn a_server_of_the_operators_holds_it_with_the_documented_rights() {
    for (name, bin_dir) in versions() {
        let mut theirs = Theirs::granted(&format!("upstream-quota-{name}"), bin_dir).await;
        let before = theirs.all().await;
        let (upstream, _, key) = theirs.instance(1).await;
        let driver = Postgres::on(&upstream, key.clone(), allowance(everybody(LIMIT)));
        let (ours, big, hidden) = (resource(&key, 1, 1), foreign(&key, 2, 1), foreign(&key, 3, 1));
        let unaware = filled(&theirs.server, &driver, &key, &ours).await;
        assert_eq!(suspended(&driver, &ours).await, Some(Suspended::Writes));
        ends(unaware).await;
        assert_eq!(refusal(&theirs.server, &key, &ours).await.as_deref(), Some(READ_ONLY));

        let mut grows = filled(&theirs.server, &driver, &key, &big).await;
        for _ in 0..2 {
            sql(&mut grows, MORE).await.unwrap();
        }
        // One that lets nobody measure it, which is no way past its limit.
        ensure(&driver, &hidden).await;
        let mut hides = enter(&theirs.server, &key, &hidden).await.unwrap();
        let database = login(&key, &hidden).0;
        sql(&mut hides, &format!("REVOKE CONNECT ON DATABASE {database} FROM {database}")).await.unwrap();
        assert_eq!(suspended(&driver, &hidden).await, Some(Suspended::Closed), "{name}");
        assert_eq!(suspended(&driver, &big).await, Some(Suspended::Closed), "{name}");
        ends(grows).await;
        ends(hides).await;
        let said = enter(&theirs.server, &key, &big).await.map(drop).unwrap_err().to_string();
        assert!(said.contains("is not permitted to log in"), "{said}");
        let lifted = Postgres::on(&upstream, key.clone(), allowance(everybody(10 * LIMIT)));
        assert_eq!(suspended(&lifted, &big).await, None);
        enter(&theirs.server, &key, &big).await.unwrap().close().await.unwrap();
        driver.clear().await.unwrap();
        assert_eq!(theirs.all().await, before, "{name}");
        theirs.server.destroy().await.unwrap();
    }
}
