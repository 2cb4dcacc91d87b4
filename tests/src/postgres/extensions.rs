//! Extensions: made by the administrator in sealed templates, and only those that the operator offers.

use std::collections::BTreeSet;

use drivers::postgres::{Allowance, Postgres, Server, ServerSettings};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::InstanceKey;
use planner::resource::{Failure, Resource};
use planner::spec::Spec;
use sqlx::Connection;

use super::clones::{cut, going_on, lived_in, writes};
use super::{admin, connect, ensure, login, resource, shared, sql};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn with(key: &InstanceKey, sha: u8, names: &[&str]) -> Resource {
    let mut resource = resource(key, sha, 1);
    if let Spec::Database { extensions, .. } = &mut resource.spec {
        *extensions = set(names);
    }
    resource
}

fn instance(server: &Server, byte: u8) -> (Postgres, InstanceKey) {
    let key = InstanceKey::new([byte; 32]);
    (Postgres::new(server, key.clone(), Allowance::default()), key)
}

/// Templates of an instance that hold extensions.
async fn templates(server: &Server, key: &InstanceKey) -> Vec<String> {
    let mut behind = admin(server, "postgres").await;
    let like = format!("sst_{}_with_%", key.instance());
    sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE datname LIKE $1 ORDER BY 1")
        .bind(like)
        .fetch_all(&mut behind)
        .await
        .unwrap()
}

async fn refusal(driver: &Postgres, resource: &Resource) -> String {
    match driver.ensure(resource, &Listing::new(), &Log::none()).await.unwrap_err() {
        Failure::Permanent { text } if !text.contains('\n') => text,
        other => panic!("{other:?}"),
    }
}

/// What a schema of Rails says at its beginning, by a role that may not make such a thing, is a notice.
#[tokio::test]
async fn extensions_are_there_before_the_tenant_is() {
    let settings = ServerSettings {
        extensions: set(&["pg_stat_statements", "citext", "postgres_fdw", "earthdistance"]),
        ..shared::settings("extensions")
    };
    let server = Server::start(settings.clone()).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let one = with(&key, 1, &["pg_stat_statements", "earthdistance"]);
    ensure(&driver, &one).await;
    let (name, password) = login(&key, &one);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    for extension in ["pg_stat_statements", "earthdistance", "cube"] {
        sql(&mut inside, &format!("CREATE EXTENSION IF NOT EXISTS {extension}")).await.unwrap();
    }
    // It needs the library that is loaded at the start, and shows what the role itself did.
    let seen: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%IF NOT EXISTS cube%'")
            .fetch_one(&mut inside)
            .await
            .unwrap();
    assert_eq!(seen, 1);
    // An extension of the same server that was not asked for, which no tenant may make.
    sql(&mut inside, "CREATE EXTENSION postgres_fdw").await.expect_err("only the administrator may");
    // What the administrator made is not the tenant's.
    sql(&mut inside, "DROP EXTENSION pg_stat_statements").await.expect_err("it is not the tenant's");
    inside.close().await.unwrap();

    // Nothing of it is in databases that did not ask, and the server is not started again for the list it already has.
    let plain = resource(&key, 2, 1);
    ensure(&driver, &plain).await;
    let (name, password) = login(&key, &plain);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    sql(&mut inside, "SELECT * FROM pg_stat_statements").await.expect_err("it did not ask");
    inside.close().await.unwrap();
    let pid = server.pid();
    let server = Server::start(settings.clone()).await.unwrap();
    assert_eq!(server.pid(), pid);
    let server = Server::start(ServerSettings { extensions: set(&["citext"]), ..settings }).await.unwrap();
    assert_ne!(server.pid(), pid, "what is loaded at the start has changed");
    server.destroy().await.unwrap();
}

#[tokio::test]
async fn a_template_serves_all_who_ask_for_the_same_and_goes_after_the_last() {
    let settings = ServerSettings { extensions: set(&["citext", "hstore"]), ..shared::settings("templates") };
    let server = Server::start(settings).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let [one, two, three] =
        [with(&key, 1, &["citext"]), with(&key, 2, &["citext"]), with(&key, 3, &["citext", "hstore"])];
    tokio::join!(ensure(&driver, &one), ensure(&driver, &two), ensure(&driver, &three));
    let made = templates(&server, &key).await;
    assert_eq!(made.len(), 2, "{made:?}");
    driver.remove(&one.id).await.unwrap();
    assert_eq!(templates(&server, &key).await, made, "another database was made from it");
    driver.remove(&two.id).await.unwrap();
    assert_eq!(templates(&server, &key).await.len(), 1);

    // One that is half made, as a crash leaves it, is made anew.
    let mut behind = admin(&server, &format!("sst_{}_sidestage", key.instance())).await;
    sql(&mut behind, "DELETE FROM baselines WHERE version LIKE '%+%'").await.unwrap();
    behind.close().await.unwrap();
    ensure(&driver, &with(&key, 4, &["citext", "hstore"])).await;
    assert_eq!(templates(&server, &key).await.len(), 1);

    driver.clear().await.unwrap();
    assert_eq!(templates(&server, &key).await, Vec::<String>::new());
    server.destroy().await.unwrap();
}

#[tokio::test]
async fn what_is_not_offered_or_not_installed_is_said() {
    let settings = ServerSettings { extensions: set(&["citext", "vector", "nosuch"]), ..shared::settings("offered") };
    let server = Server::start(settings).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let text = refusal(&driver, &with(&key, 1, &["citext", "dblink"])).await;
    assert!(text.contains("dblink") && text.contains("citext, nosuch, vector"), "{text}");
    let text = refusal(&driver, &with(&key, 1, &["nosuch"])).await;
    assert!(text.contains("nosuch is not installed") && text.contains("postgresql-contrib"), "{text}");
    assert_eq!(templates(&server, &key).await, Vec::<String>::new());
    // The half made row goes as every other.
    driver.remove(&with(&key, 1, &[]).id).await.unwrap();
    assert_eq!(driver.inventory(&Scope::All).await.unwrap(), Listing::new());
    server.destroy().await.unwrap();
}

/// A commit after that one, whose manifest names these.
fn after(key: &InstanceKey, sha: u8, from: &Resource, names: &[&str]) -> Resource {
    let mut resource = going_on(key, sha, from);
    if let Spec::Database { extensions, .. } = &mut resource.spec {
        *extensions = set(names);
    }
    resource
}

/// Who has made the extension in a database, as seen from in there; nobody if it is not there.
async fn maker(server: &Server, key: &InstanceKey, resource: &Resource, extension: &str) -> Option<String> {
    let (name, password) = login(key, resource);
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    let found = sqlx::query_scalar("SELECT extowner::regrole::text FROM pg_extension WHERE extname = $1");
    let found = found.bind(extension).fetch_optional(&mut inside).await.unwrap();
    inside.close().await.unwrap();
    found
}

#[tokio::test]
async fn data_are_carried_on_to_a_commit_that_asks_for_more_extensions() {
    let offered = set(&["hstore", "earthdistance", "pg_stat_statements", "nosuch"]);
    let settings = ServerSettings { extensions: offered, ..shared::settings("more-extensions") };
    let server = Server::start(settings).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let one = lived_in(&server, &driver, &key).await;

    // What any owner may make, the new owner makes in the copy.
    let two = after(&key, 2, &one, &["hstore"]);
    ensure(&driver, &two).await;
    let owner = Some(login(&key, &two).0);
    assert_eq!(maker(&server, &key, &two, "hstore").await, owner);
    assert_eq!(maker(&server, &key, &one, "hstore").await, None, "the one before has none");

    // What only the administrator may make is there before the data are, whose reading disturbs nobody.
    let (name, password) = login(&key, &two);
    let mut busy = connect(&server, &name, &password, &name).await.unwrap();
    let three = after(&key, 3, &two, &["pg_stat_statements", "earthdistance", "hstore"]);
    for polls in [5, 50, 200] {
        cut(&driver, &three, polls).await;
    }
    ensure(&driver, &three).await;
    busy.ping().await.unwrap();
    busy.close().await.unwrap();
    for extension in ["pg_stat_statements", "earthdistance", "cube", "hstore"] {
        assert_eq!(maker(&server, &key, &three, extension).await.as_deref(), Some("sidestage"), "{extension}");
    }
    let (name, password) = login(&key, &three);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    for text in [
        "SELECT * FROM pg_stat_statements",
        "ALTER TABLE t ADD COLUMN m hstore; REFRESH MATERIALIZED VIEW s.mv; CREATE SCHEMA mine",
        "SELECT lo_unlink(17); ALTER EXTENSION citext UPDATE",
    ] {
        sql(&mut inside, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    sql(&mut inside, "DROP EXTENSION pg_stat_statements").await.expect_err("it is not the tenant's");
    inside.close().await.unwrap();
    // Each goes on by itself, all with the first row.
    for env in [&one, &two, &three] {
        assert_eq!(writes(&server, &key, env).await.unwrap(), 2);
    }
    // And so on: what the copy has got is known.
    let four = after(&key, 4, &three, &["pg_stat_statements", "earthdistance", "hstore"]);
    ensure(&driver, &four).await;
    assert_eq!(writes(&server, &key, &four).await.unwrap(), 3);

    // What is missing on the server is told of, and the source is as it was.
    let text = refusal(&driver, &after(&key, 5, &four, &["nosuch"])).await;
    assert!(text.contains("nosuch is not installed"), "{text}");
    let text = refusal(&driver, &after(&key, 5, &four, &["dblink"])).await;
    assert!(text.contains("does not offer the extension dblink"), "{text}");
    assert_eq!(writes(&server, &key, &four).await.unwrap(), 4);
    driver.clear().await.unwrap();
    server.destroy().await.unwrap();
}
