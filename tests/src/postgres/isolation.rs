//! What an environment's role may do, and what it may not, each tried as that role.

use std::net::Ipv4Addr;

use drivers::Driver;
use sqlx::{Connection, PgConnection};

use super::{admin, connect, ensure, instance, login, resource, shared, sql};

/// What an ordinary application and its migrations do.
const ABLE: &[&str] = &[
    "CREATE TABLE t (id serial PRIMARY KEY, n int)",
    "INSERT INTO t (n) SELECT generate_series(1, 100)",
    "ALTER TABLE t ADD COLUMN m text",
    "TRUNCATE t",
    "CREATE VIEW v AS SELECT * FROM t",
    "CREATE MATERIALIZED VIEW mv AS SELECT * FROM t",
    "REFRESH MATERIALIZED VIEW mv",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE mood AS ENUM ('well', 'unwell'); ALTER TYPE mood ADD VALUE 'so-so'",
    "CREATE TABLE p (d date) PARTITION BY RANGE (d); CREATE TABLE p1 PARTITION OF p DEFAULT",
    "CREATE SCHEMA s; ALTER SCHEMA s RENAME TO s2; DROP SCHEMA s2",
    "CREATE TEMPORARY TABLE tt (n int)",
    "CREATE EXTENSION citext; CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore",
    "SELECT lo_unlink(lo_create(0))",
    "SELECT pg_advisory_lock(1)",
    "SET ROLE pg_database_owner; RESET ROLE",
    "VACUUM t",
    "ANALYZE t",
    "REINDEX TABLE t",
    "LISTEN c; UNLISTEN c; NOTIFY c, 'x'",
    "ALTER SCHEMA public RENAME TO application; CREATE SCHEMA public",
    "DROP SCHEMA application CASCADE",
];

/// What would reach other environments, the server or the host. `{me}`, `{other}`, `{base}` and `{registry}` are databases.
const DENIED: &[&str] = &[
    "DROP DATABASE {other}",
    "ALTER DATABASE {other} ALLOW_CONNECTIONS false",
    "ALTER DATABASE {other} CONNECTION LIMIT 0",
    "ALTER DATABASE {base} IS_TEMPLATE false",
    "DROP DATABASE {registry}",
    "ALTER DATABASE {me} RENAME TO mine",
    "ALTER DATABASE {me} ALLOW_CONNECTIONS false",
    "DROP DATABASE {me}",
    "CREATE DATABASE more",
    "CREATE DATABASE more TEMPLATE {base}",
    "CREATE DATABASE more TEMPLATE {other}",
    "CREATE ROLE friend",
    "ALTER ROLE {me} CONNECTION LIMIT 1000",
    "ALTER ROLE {me} SUPERUSER",
    "ALTER ROLE {me} CREATEDB",
    "ALTER ROLE {other} PASSWORD 'known'",
    "DROP ROLE {other}",
    "GRANT {other} TO {me}",
    "SET ROLE {other}",
    "SET ROLE sidestage",
    "SET SESSION AUTHORIZATION sidestage",
    "GRANT pg_read_server_files TO {me}",
    "GRANT pg_execute_server_program TO {me}",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE EXTENSION file_fdw",
    "CREATE TABLE leak (t text); COPY leak FROM PROGRAM 'id'",
    "CREATE TABLE leak (t text); COPY leak FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/sidestage-should-not-be'",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(lo_create(0), '/tmp/sidestage-should-not-be')",
    "ALTER SYSTEM SET shared_buffers = '1GB'",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "CHECKPOINT",
    "CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION now()",
    "CREATE PUBLICATION all_of_it FOR ALL TABLES",
    "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p",
    "SELECT pg_create_physical_replication_slot('slot')",
    "SET temp_file_limit = '-1'",
    "SET log_min_messages = 'debug5'",
    "SET session_preload_libraries = '/tmp/evil.so'",
    "LOAD '/tmp/evil.so'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/evil.so', 'f'",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_user_mapping",
    "SELECT pg_database_size('{other}')",
    "CREATE TABLESPACE t LOCATION '/tmp'",
    "SELECT pg_promote()",
    "SELECT pg_switch_wal()",
    "SELECT pg_terminate_backend({pid})",
    "SELECT pg_cancel_backend({pid})",
];

/// For want of a right; and for one's own database, that it is the one in use.
const REFUSED: &[&str] = &["42501", "22023", "55006"];

#[tokio::test]
async fn each_role_has_its_own_database_and_nothing_else() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 20);
    let (mine, theirs) = (resource(&key, 1, 1), resource(&key, 2, 1));
    ensure(&driver, &mine).await;
    ensure(&driver, &theirs).await;
    let ((me, password), (other, other_password)) = (login(&key, &mine), login(&key, &theirs));
    let registry = format!("sst_{}_sidestage", key.instance());
    let base = format!("sst_{}_base_default_1", key.instance());

    let mut victim = connect(server, &other, &other_password, &other).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut victim).await.unwrap();
    let mut tenant = connect(server, &me, &password, &me).await.unwrap();
    for text in ABLE {
        sql(&mut tenant, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let places =
        [("{me}", &me), ("{other}", &other), ("{base}", &base), ("{registry}", &registry), ("{pid}", &pid.to_string())];
    for text in DENIED {
        let text = places.iter().fold((*text).to_owned(), |text, (place, name)| text.replace(place, name));
        let error = sql(&mut tenant, &text).await.expect_err(&text);
        let code = error.as_database_error().unwrap_or_else(|| panic!("{text}: {error}")).code().unwrap().into_owned();
        assert!(REFUSED.contains(&code.as_str()), "{text}: {code} {error}");
    }
    others_see_nothing(&mut tenant, pid).await;
    no_other_door(server, &me, &password, &[&other, &base, &registry, "postgres", "template1"]).await;

    victim.ping().await.unwrap();
    tenant.close().await.unwrap();
    victim.close().await.unwrap();
    driver.clear().await.unwrap();
}

/// Of other environments' sessions, what they are doing is hidden.
async fn others_see_nothing(tenant: &mut PgConnection, pid: i32) {
    let query: Option<String> = sqlx::query_scalar("SELECT query FROM pg_stat_activity WHERE pid = $1")
        .bind(pid)
        .fetch_one(tenant)
        .await
        .unwrap();
    assert_eq!(query.as_deref(), Some("<insufficient privilege>"));
}

/// Its password opens one database; a wrong one, or the superuser's name, none.
async fn no_other_door(server: &drivers::postgres::Server, me: &str, password: &str, closed: &[&str]) {
    for database in closed {
        let error = connect(server, me, password, database).await.expect_err(database);
        assert!(error.as_database_error().is_some(), "{database}: {error}");
    }
    connect(server, me, "wrong", me).await.expect_err("a wrong password");
    connect(server, me, "", me).await.expect_err("no password");
    for database in ["postgres", "sidestage", me] {
        connect(server, "sidestage", password, database).await.expect_err("the superuser over the network");
    }
}

#[tokio::test]
async fn a_role_has_so_many_connections_and_no_more() {
    let server = shared::server().await;
    let key = planner::identity::InstanceKey::new([21; 32]);
    let allowance = drivers::postgres::Allowance { connections: 2, ..Default::default() };
    let driver = drivers::postgres::Postgres::new(server, key.clone(), allowance);
    let resource = resource(&key, 1, 1);
    ensure(&driver, &resource).await;
    let (name, password) = login(&key, &resource);
    let mut first = connect(server, &name, &password, &name).await.unwrap();
    let _second = connect(server, &name, &password, &name).await.unwrap();
    // The owner may say what it likes of the database; the role's limit holds.
    sql(&mut first, &format!("ALTER DATABASE {name} CONNECTION LIMIT 50")).await.unwrap();
    let error = connect(server, &name, &password, &name).await.expect_err("a third connection");
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "53300", "{error}");
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn an_owner_cannot_keep_its_database_from_being_removed() {
    let server = shared::server().await;
    let (driver, key) = instance(server, 22);
    let resource = resource(&key, 1, 1);
    ensure(&driver, &resource).await;
    let (name, password) = login(&key, &resource);
    let mut tenant = connect(server, &name, &password, &name).await.unwrap();
    sql(&mut tenant, &format!("ALTER DATABASE {name} IS_TEMPLATE true")).await.unwrap();
    sql(&mut tenant, &format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC")).await.unwrap();
    sql(&mut tenant, "BEGIN; CREATE TABLE held (n int)").await.unwrap();
    // While its session goes on, in the middle of a transaction.
    driver.remove(&resource.id).await.unwrap();
    tenant.ping().await.expect_err("its session has ended");
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_database WHERE datname = $1) + (SELECT count(*) FROM pg_roles WHERE rolname = $1)",
    )
    .bind(&name)
    .fetch_one(&mut admin(server, "postgres").await)
    .await
    .unwrap();
    assert_eq!(left, 0);
    driver.clear().await.unwrap();
}

#[tokio::test]
async fn the_server_listens_where_it_was_told_and_nowhere_else() {
    let server = shared::server().await;
    let port = server.settings().port;
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    std::net::TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port)).expect_err("another address of this machine");
}
