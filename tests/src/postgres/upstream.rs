//! A PostgreSQL of the operator's: with the documented rights and no more, beside other people's databases.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use drivers::postgres::{
    Allowance, Postgres, Server, ServerError, ServerSettings, Strategy, Upstream, UpstreamSettings,
};
use drivers::{Driver, Scope};
use planner::identity::InstanceKey;
use planner::resource::{Phase, Resource};
use planner::spec::{DatabaseFrom, Spec};
use sqlx::{Connection, PgConnection};

use super::baselines::{beginning_with, template};
use super::clones::{going_on, small, spare};
use super::{admin, connect, ensure, login, resource, shared, sql};
use crate::conformance::{Suite, conforms};

/// What the example configuration tells an operator to run.
const RIGHTS: &str = "
    CREATE ROLE keeper LOGIN CREATEDB CREATEROLE PASSWORD 'keep''it';
    REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
    GRANT CONNECT ON DATABASE postgres TO keeper;";
pub(super) const PASSWORD: &str = "keep'it";

/// Whoever has a password gets in; with which right is for the databases to say.
const OPEN: &str = "local all sidestage peer map=own\nhost all all all scram-sha-256\n";

/// A server of somebody else's, with a database and a role that are not ours.
pub(super) struct Theirs {
    pub(super) server: Server,
    pub(super) boss: PgConnection,
}

impl Theirs {
    async fn start(name: &str, bin_dir: Option<PathBuf>) -> Theirs {
        let server = Server::start(ServerSettings { bin_dir, ..shared::settings(name) }).await.unwrap();
        let boss = admin(&server, "postgres").await;
        let mut theirs = Theirs { server, boss };
        theirs.rules(OPEN).await;
        for text in ["CREATE ROLE somebody", "CREATE DATABASE theirs OWNER somebody"] {
            sql(&mut theirs.boss, text).await.unwrap();
        }
        sql(&mut theirs.boss, "REVOKE CONNECT ON DATABASE theirs FROM PUBLIC").await.unwrap();
        theirs
    }

    /// As above, with the rights of the example.
    pub(super) async fn granted(name: &str, bin_dir: Option<PathBuf>) -> Theirs {
        let mut theirs = Theirs::start(name, bin_dir).await;
        sql(&mut theirs.boss, RIGHTS).await.unwrap();
        theirs
    }

    /// Its `pg_hba.conf`.
    pub(super) async fn rules(&mut self, text: &str) {
        std::fs::write(self.server.settings().home.join("pg_hba.conf"), text).unwrap();
        self.reload().await;
    }

    /// Has it read its settings, and waits until new connections are judged by them.
    pub(super) async fn reload(&mut self) {
        let now: String = sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&mut self.boss).await.unwrap();
        sql(&mut self.boss, "SELECT pg_reload_conf()").await.unwrap();
        let begun = Instant::now();
        loop {
            let mut fresh = admin(&self.server, "postgres").await;
            let read = sqlx::query_scalar("SELECT pg_conf_load_time() > $1::timestamptz").bind(&now);
            if read.fetch_one(&mut fresh).await.unwrap() {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "the settings are not read");
        }
    }

    pub(super) fn url(&self, host: &str, more: &str) -> String {
        format!("postgres://keeper@{host}:{}/postgres{more}", self.server.settings().port)
    }

    pub(super) async fn open(&self, url: String, byte: u8) -> Result<(Upstream, Postgres, InstanceKey), ServerError> {
        let key = InstanceKey::new([byte; 32]);
        let settings =
            UpstreamSettings { url, password: Some(PASSWORD.to_owned()), extensions: ["citext".to_owned()].into() };
        let upstream = Upstream::open(settings, &key).await?;
        let driver = Postgres::on(&upstream, key.clone(), Allowance::default());
        Ok((upstream, driver, key))
    }

    /// The driver of an instance with this key.
    pub(super) async fn instance(&self, byte: u8) -> (Upstream, Postgres, InstanceKey) {
        self.open(self.url("127.0.0.1", ""), byte).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Why it cannot be used, in one line.
    pub(super) async fn refusal(&self, url: String) -> String {
        let error = self.open(url, 9).await.map(drop).expect_err("it can be used").to_string();
        assert!(error.starts_with("[database] url (") && !error.contains('\n'), "{error}");
        error
    }

    /// All that is on it, with its rights.
    pub(super) async fn all(&mut self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', datname, datdba::regrole, datacl, datallowconn) FROM pg_database \
                   UNION ALL SELECT concat_ws(' ', rolname, rolvaliduntil, rolcanlogin) FROM pg_roles \
                   UNION ALL SELECT concat_ws(' ', roleid::regrole, member::regrole) FROM pg_auth_members \
                   UNION ALL SELECT concat_ws(' ', setdatabase, setrole, setconfig) FROM pg_db_role_setting ORDER BY 1";
        sqlx::query_scalar(sql).fetch_all(&mut self.boss).await.unwrap()
    }
}

/// The distribution's PostgreSQL, which grants to whoever makes a role all of it, and 18, which does not.
pub(super) fn versions() -> [(&'static str, Option<PathBuf>); 2] {
    [("distribution", None), ("newest", Some(xtask::wheels::POSTGRES18.install().unwrap()))]
}

#[tokio::test]
async fn conforms_with_the_documented_rights_beside_what_is_not_ours() {
    for (name, bin_dir) in versions() {
        let mut theirs = Theirs::granted(&format!("upstream-{name}"), bin_dir).await;
        let before = theirs.all().await;
        let ((_, driver, key), (_, stranger, _)) = (theirs.instance(1).await, theirs.instance(2).await);
        let super_user: bool =
            sqlx::query_scalar("SELECT bool_or(rolsuper OR rolreplication) FROM pg_roles WHERE rolname = 'keeper'")
                .fetch_one(&mut theirs.boss)
                .await
                .unwrap();
        assert!(!super_user);
        let folder = tempfile::tempdir().unwrap();
        let filled = |version: &str| template(version, DatabaseFrom::File(small(&folder)));
        conforms(&Suite {
            driver: &driver,
            stranger: &stranger,
            resources: vec![filled("shop@1"), spare("shop@1", 1)],
            neighbours: vec![resource(&key, 1, 1), resource(&key, 1, 2)],
        })
        .await;
        conforms(&Suite {
            driver: &driver,
            stranger: &stranger,
            resources: vec![resource(&key, 1, 1)],
            neighbours: vec![resource(&key, 2, 1), resource(&key, 2, 2)],
        })
        .await;
        driver.clear().await.unwrap();
        stranger.clear().await.unwrap();
        assert_eq!(theirs.all().await, before, "{name}");
        theirs.server.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn spares_are_claimed_data_are_carried_and_used_databases_go() {
    for (name, bin_dir) in versions() {
        let theirs = Theirs::granted(&format!("upstream-data-{name}"), bin_dir).await;
        let (_, driver, key) = theirs.instance(1).await;
        let folder = tempfile::tempdir().unwrap();
        ensure(&driver, &template("shop@1", DatabaseFrom::File(small(&folder)))).await;
        ensure(&driver, &spare("shop@1", 1)).await;
        let one = beginning_with(&key, 1, "shop@1");
        ensure(&driver, &one).await;
        assert!(!driver.inventory(&Scope::All).await.unwrap().keys().any(|id| id.name == "spare-1"), "it was claimed");
        let mut inside = enter(&theirs.server, &key, &one).await;
        sql(&mut inside, "CREATE TABLE mine (n int); ALTER TABLE t ADD COLUMN m int; CREATE EXTENSION hstore")
            .await
            .unwrap();

        // Its session goes on while it is copied from.
        let mut two = going_on(&key, 2, &one);
        if let Spec::Database { extensions, .. } = &mut two.spec {
            extensions.insert("citext".to_owned());
        }
        ensure(&driver, &two).await;
        inside.ping().await.expect_err("its session has ended");
        let mut inside = enter(&theirs.server, &key, &two).await;
        sql(&mut inside, "INSERT INTO t (m) VALUES ('7'::citext::int); DROP TABLE mine").await.unwrap();
        enter(&theirs.server, &key, &one).await.close().await.unwrap();

        let choice = driver.strategy("shop@1").await.unwrap();
        assert_ne!(choice.strategy, Strategy::Clone);
        assert!(choice.lacks.iter().any(|lack| lack.contains("shares blocks")), "{:?}", choice.lacks);
        assert!(choice.better.is_none_or(|better| better.contains("without url")));
        // Half made, as a crash leaves it: completed, in spite of a role that is there already.
        let registry = format!("sst_{}_sidestage", key.instance());
        sql(&mut admin(&theirs.server, &registry).await, "UPDATE databases SET complete = false").await.unwrap();
        ensure(&driver, &one).await;
        assert_eq!(driver.inventory(&Scope::All).await.unwrap()[&one.id].phase, Phase::Whole);
        // With a session in it.
        driver.remove(&two.id).await.unwrap();
        driver.clear().await.unwrap();
        theirs.server.destroy().await.unwrap();
    }
}

async fn enter(server: &Server, key: &InstanceKey, resource: &Resource) -> PgConnection {
    let (name, password) = login(key, resource);
    connect(server, &name, &password, &name).await.unwrap()
}

#[tokio::test]
async fn each_missing_right_is_refused_with_the_statement_that_gives_it() {
    for (name, bin_dir) in versions() {
        let newest = bin_dir.is_some();
        let mut theirs = Theirs::start(&format!("upstream-rights-{name}"), bin_dir).await;
        sql(&mut theirs.boss, "CREATE ROLE keeper LOGIN NOINHERIT PASSWORD 'keep''it'").await.unwrap();
        sql(&mut theirs.boss, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC").await.unwrap();
        sql(&mut theirs.boss, "GRANT CONNECT ON DATABASE theirs TO PUBLIC").await.unwrap();
        let mut told = Vec::new();
        let url = theirs.url("127.0.0.1", "");
        while let Err(error) = theirs.open(url.clone(), 9).await {
            let text = error.to_string();
            let (_, statement) =
                text.split_once("run there as its administrator: ").unwrap_or_else(|| panic!("{text}"));
            sql(&mut theirs.boss, statement).await.unwrap();
            told.push(statement.to_owned());
            assert!(told.len() < 10, "{told:?}");
            assert!(!theirs.all().await.iter().any(|entry| entry.contains("probe")), "something is left of it");
        }
        let mut expected = vec![
            "GRANT CONNECT ON DATABASE \"postgres\" TO \"keeper\"",
            "ALTER ROLE \"keeper\" CREATEROLE",
            "ALTER ROLE \"keeper\" INHERIT",
            "ALTER ROLE \"keeper\" CREATEDB",
            "REVOKE CONNECT, TEMPORARY ON DATABASE \"template1\", \"theirs\" FROM PUBLIC",
        ];
        if newest {
            // There each membership says for itself whether rights come with it.
            expected.remove(2);
        }
        assert_eq!(told, expected, "{name}");

        // Who came in like everybody is told how to stay in.
        sql(
            &mut theirs.boss,
            "GRANT CONNECT ON DATABASE postgres TO PUBLIC; REVOKE CONNECT ON DATABASE postgres FROM keeper",
        )
        .await
        .unwrap();
        let text = theirs.refusal(url.clone()).await;
        let (_, statements) = text.split_once("administrator: ").unwrap();
        assert!(statements.ends_with("\"postgres\" FROM PUBLIC; GRANT CONNECT ON DATABASE \"postgres\" TO \"keeper\""));
        sql(&mut theirs.boss, statements).await.unwrap();

        // What may be missing is told of.
        sql(&mut theirs.boss, "ALTER ROLE keeper INHERIT").await.unwrap();
        let (upstream, ..) = theirs.instance(9).await;
        let allowed: Vec<&str> =
            upstream.lacks().iter().filter_map(|lack| lack.split_once("allow it: ")).map(|l| l.1).collect();
        assert_eq!(allowed.len(), 2, "{allowed:?}");
        for statement in allowed {
            sql(&mut theirs.boss, statement.trim_end_matches(')')).await.unwrap();
        }
        let (upstream, driver, key) = theirs.instance(9).await;
        assert_eq!(upstream.lacks().len(), 3, "{:?}", upstream.lacks());
        let one = resource(&key, 1, 1);
        ensure(&driver, &one).await;
        let shown: String = sqlx::query_scalar("SHOW temp_file_limit")
            .fetch_one(&mut enter(&theirs.server, &key, &one).await)
            .await
            .unwrap();
        assert_eq!(shown, "1GB");
        driver.clear().await.unwrap();

        theirs.rules("local all sidestage peer map=own\nhost all keeper all scram-sha-256\n").await;
        let text = theirs.refusal(url).await;
        assert!(text.contains("let them in from this machine in its pg_hba.conf"), "{text}");
        theirs.server.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn an_environment_reaches_its_own_database_and_no_other() {
    let theirs = Theirs::granted("upstream-isolation", None).await;
    let (_, driver, key) = theirs.instance(1).await;
    let (mine, other) = (resource(&key, 1, 1), resource(&key, 2, 1));
    ensure(&driver, &mine).await;
    ensure(&driver, &other).await;
    let ((me, password), registry) = (login(&key, &mine), format!("sst_{}_sidestage", key.instance()));
    let base = format!("sst_{}_base_default_1", key.instance());
    for database in [&login(&key, &other).0, &registry, &base, "postgres", "template1", "theirs"] {
        // Past the pass-through, with nothing but rights between them.
        let error = connect(&theirs.server, &me, &password, database).await.expect_err(database);
        assert!(error.as_database_error().is_some(), "{database}: {error}");
    }
    let mut inside = enter(&theirs.server, &key, &mine).await;
    for denied in [
        "CREATE ROLE x",
        "CREATE DATABASE x",
        "SET ROLE keeper",
        "ALTER ROLE keeper PASSWORD 'x'",
        "ALTER ROLE somebody LOGIN",
        &format!("DROP DATABASE {registry}"),
        "COPY (SELECT 1) TO PROGRAM 'id'",
    ] {
        let error = sql(&mut inside, denied).await.expect_err(denied);
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{denied}: {error}");
    }
    inside.close().await.unwrap();
    driver.clear().await.unwrap();
    theirs.server.destroy().await.unwrap();
}
