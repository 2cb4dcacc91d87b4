//! The database server of a stage, as its superuser sees it: what waits, what there is, how to hold something up.

use planner::names;
use planner::resource::{Kind, Owner};
use sidestage::config::Config;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::stage::Stage;

/// A superuser, who connects anew for each question.
pub(super) struct Superuser(PgConnectOptions);

/// A database that nobody can copy for as long as this lives.
pub(super) struct Held(PgConnection);

impl Superuser {
    pub(super) fn of(config: &Config) -> Superuser {
        let socket = sidestage::state_dir::services(&config.state_dir).join("postgres/run");
        Superuser(PgConnectOptions::new_without_pgpass().socket(socket).username("sidestage").database("postgres"))
    }

    /// Holds up whoever wants to copy this database: a comment that is being written locks what it is about.
    pub(super) async fn hold(&self, database: &str) -> Held {
        let mut connection = self.0.connect().await.unwrap();
        let comment = format!("BEGIN; COMMENT ON DATABASE \"{database}\" IS 'held'");
        sqlx::raw_sql(AssertSqlSafe(comment)).execute(&mut connection).await.unwrap();
        Held(connection)
    }

    /// Waits until so many sessions are at statements that contain this.
    pub(super) async fn sees(&self, sessions: i64, part: &str) {
        let count = "SELECT count(*) FROM pg_stat_activity \
                     WHERE state = 'active' AND pid <> pg_backend_pid() AND strpos(query, $1) > 0";
        crate::objects::until(&format!("{sessions} sessions at {part}"), async || {
            let mut connection = self.0.connect().await.unwrap();
            sqlx::query_scalar::<_, i64>(count).bind(part).fetch_one(&mut connection).await.unwrap() == sessions
        })
        .await;
    }

    pub(super) async fn drop(&self, database: &str) {
        let drop = format!("DROP DATABASE \"{database}\" WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut self.0.connect().await.unwrap()).await.unwrap();
    }

    pub(super) async fn names(&self, from: &str) -> Vec<String> {
        let sql = format!("SELECT {from} ORDER BY 1");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut self.0.connect().await.unwrap()).await.unwrap()
    }

    /// The database of the only template beside the empty one.
    pub(super) async fn template(&self) -> String {
        let named =
            "datname::text FROM pg_database WHERE datname LIKE '%\\_base\\_%' AND datname NOT LIKE '%\\_default\\_%'";
        let found = self.names(named).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

impl Held {
    pub(super) async fn let_go(self) {
        self.0.close().await.unwrap();
    }
}

/// The server, the programs beside it and the folder of objects hold what Sidestage knows of, and nothing else.
pub(super) async fn nothing_leaks(stage: &Stage) {
    let config = stage.instance().config();
    let superuser = Superuser::of(config);
    let listed = stage.world().await;
    let databases = || listed.keys().filter(|id| id.kind == Kind::Database);
    let mut envs: Vec<String> = databases()
        .filter_map(|id| match &id.owner {
            Owner::Env(env) => Some(names::database(env, id.generation)),
            _ => None,
        })
        .collect();
    envs.sort();
    // The registry and the empty baseline are nobody's.
    let there = superuser.names("datname::text FROM pg_database WHERE datname LIKE 'sst\\_%'").await;
    assert_eq!(there.len(), databases().count() + 2, "{there:#?}\n{listed:#?}");
    assert!(envs.iter().all(|env| there.contains(env)), "{there:#?}");
    assert_eq!(superuser.names("rolname::text FROM pg_roles WHERE rolname LIKE 'sst\\_%'").await, envs);
    let home = sidestage::state_dir::services(&config.state_dir);
    assert_eq!(clients_in(&home), [""; 0], "programs of a load are left");
    objects_are_known(&config.state_dir.join("objects")).await;
}

/// Programs of PostgreSQL's clients that run in this folder.
fn clients_in(folder: &std::path::Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let inside =
        processes.filter(|process| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)));
    let names = inside.filter_map(|process| std::fs::read_to_string(process.join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name == "psql" || name.starts_with("pg_")).collect()
}

/// Every blob in the folder has a row, and every row its blob.
async fn objects_are_known(folder: &std::path::Path) {
    let named = "SELECT count(*) FROM (SELECT blob FROM objects WHERE blob IS NOT NULL UNION SELECT blob FROM parts)";
    crate::objects::until("as many blobs as rows", async || {
        let blobs = crate::objects::files(&folder.join("blobs")).len();
        crate::objects::durability::rows(folder, named).await == i64::try_from(blobs).unwrap()
    })
    .await;
}
