//! What Sidestage remembers inside PostgreSQL: a database of its own with a row for each database of an environment.
//! It lives and dies with the databases it tells of, so a lost store loses none of them.

use planner::identity::{EnvId, InstanceKey, ProjectName, Sha, Trust};
use planner::names;
use planner::resource::{Fingerprint, Observed, Outputs, Phase, Run};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

/// The registry's database of an instance.
pub(crate) fn database(key: &InstanceKey) -> String {
    format!("sst_{}_sidestage", key.instance())
}

/// The sealed template behind a baseline's version.
pub(crate) fn template(key: &InstanceKey, name: &str, version: u32) -> String {
    format!("sst_{}_base_{name}_{version}", key.instance())
}

/// Forward only, and safe to run at every start.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS databases (
    name        text PRIMARY KEY,
    env         text NOT NULL,
    generation  bigint NOT NULL,
    project     text NOT NULL,
    sha         text NOT NULL,
    trust       text NOT NULL,
    fingerprint text NOT NULL,
    baseline    text NOT NULL,
    complete    boolean NOT NULL DEFAULT false,
    made_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS databases_by_env ON databases (env);
CREATE TABLE IF NOT EXISTS baselines (
    version     text PRIMARY KEY,
    database    text NOT NULL UNIQUE,
    sealed_at   timestamptz NOT NULL DEFAULT now()
);";

const COLUMNS: &str = "r.env, r.generation, r.project, r.sha, r.trust, r.fingerprint, r.baseline, \
     r.complete AND d.oid IS NOT NULL AS whole, d.oid IS NOT NULL AS there \
     FROM databases r LEFT JOIN pg_database d ON d.datname = r.name";

/// A row, and whether there is a database to it.
pub(crate) struct Entry {
    pub(crate) env: EnvId,
    pub(crate) generation: u32,
    pub(crate) observed: Observed,
    /// The database exists, complete or not.
    pub(crate) there: bool,
}

impl Entry {
    /// None for a row that this version cannot read; it is not ours to judge then.
    fn read(row: &PgRow) -> Option<Entry> {
        let text = |column: &str| row.try_get::<String, _>(column).ok();
        let commit = (
            text("project")?.parse::<ProjectName>().ok()?,
            text("sha")?.parse::<Sha>().ok()?,
            text("trust")?.parse::<Trust>().ok()?,
        );
        let whole = row.try_get("whole").ok()?;
        let outputs = Outputs { baseline: Some(text("baseline")?), commit: Some(commit), ..Outputs::default() };
        let observed = Observed {
            fingerprint: Fingerprint(text("fingerprint")?),
            phase: if whole { Phase::Whole } else { Phase::Partial },
            run: Run::Running,
            uses: Vec::new(),
            outputs,
        };
        Some(Entry {
            env: text("env")?.parse().ok()?,
            generation: u32::try_from(row.try_get::<i64, _>("generation").ok()?).ok()?,
            observed,
            there: row.try_get("there").ok()?,
        })
    }
}

/// All rows, or those of one environment.
pub(crate) async fn list(connection: &mut PgConnection, env: Option<&EnvId>) -> Result<Vec<Entry>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} WHERE $1::text IS NULL OR r.env = $1");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(env.map(EnvId::as_str)).fetch_all(connection).await?;
    Ok(rows.iter().filter_map(Entry::read).collect())
}

/// The row of one database.
pub(crate) async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Entry>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} WHERE r.name = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(name).fetch_optional(connection).await?;
    Ok(row.as_ref().and_then(Entry::read))
}

/// Says what is about to be made, before the first of it is.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    env: &EnvId,
    generation: u32,
    of: &planner::spec::Origin,
    fingerprint: &Fingerprint,
    baseline: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO databases (name, env, generation, project, sha, trust, fingerprint, baseline) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO UPDATE SET \
         project = $4, sha = $5, trust = $6, fingerprint = $7, baseline = $8, complete = false, made_at = now()",
    )
    .bind(names::database(env, generation))
    .bind(env.as_str())
    .bind(i64::from(generation))
    .bind(of.project.as_str())
    .bind(of.sha.to_string())
    .bind(of.trust.as_str())
    .bind(&fingerprint.0)
    .bind(baseline)
    .execute(connection)
    .await?;
    Ok(())
}

/// Holds a name until the connection goes back to the pool. A call that was lost holds it for as long as the server
/// works at it, so whoever comes next finds its work done, not half done.
pub(crate) async fn lock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))").bind(name).execute(connection).await?;
    Ok(())
}
