//! What Sidestage remembers inside PostgreSQL: a database of its own with a row for each database of an environment.
//! It lives and dies with the databases it tells of, so a lost store loses none of them.

use planner::identity::{EnvId, InstanceKey, ProjectName, Sha, Trust};
use planner::names;
use planner::resource::{Fingerprint, Observed, Outputs, Phase, Run, Suspended};
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

/// The sealed template of a baseline with extensions.
pub(crate) fn extended(key: &InstanceKey, version: &str) -> String {
    format!("sst_{}_with_{}", key.instance(), super::template::hashed(version))
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
ALTER TABLE databases ADD COLUMN IF NOT EXISTS template text NOT NULL DEFAULT '';
-- A copy of another environment's, and which one is closed for it at the moment.
ALTER TABLE databases ADD COLUMN IF NOT EXISTS carried boolean NOT NULL DEFAULT false;
ALTER TABLE databases ADD COLUMN IF NOT EXISTS carrying text;
-- Since when it is suspended; for ever until sessions from before are to be ended. See quota.rs.
ALTER TABLE databases ADD COLUMN IF NOT EXISTS suspended_at timestamptz;
CREATE INDEX IF NOT EXISTS databases_by_env ON databases (env);
CREATE TABLE IF NOT EXISTS baselines (
    version     text PRIMARY KEY,
    database    text NOT NULL UNIQUE,
    sealed_at   timestamptz NOT NULL DEFAULT now()
);";

const COLUMNS: &str = "r.env, r.generation, r.project, r.sha, r.trust, r.fingerprint, r.baseline, r.carried, \
     r.complete AND d.oid IS NOT NULL AS whole, d.oid IS NOT NULL AS there, \
     CASE WHEN r.suspended_at IS NULL THEN NULL WHEN NOT a.rolcanlogin THEN 'closed' \
     WHEN EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = a.oid \
     AND 'default_transaction_read_only=on' = ANY (s.setconfig)) THEN 'writes' END AS suspended \
     FROM databases r LEFT JOIN pg_database d ON d.datname = r.name LEFT JOIN pg_roles a ON a.rolname = r.name";

/// A row, and whether there is a database to it.
pub(crate) struct Entry {
    pub(crate) env: EnvId,
    pub(crate) generation: u32,
    pub(crate) observed: Observed,
    /// The database exists, complete or not.
    pub(crate) there: bool,
    /// It is a copy of another environment's.
    pub(crate) carried: bool,
}

/// What a row says of its database.
pub(crate) fn observed(fingerprint: String, whole: bool, outputs: Outputs) -> Observed {
    let phase = if whole { Phase::Whole } else { Phase::Partial };
    Observed { fingerprint: Fingerprint(fingerprint), phase, run: Run::Running, uses: Vec::new(), outputs }
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
        let suspended = match row.try_get("suspended").ok()? {
            Some("closed") => Some(Suspended::Closed),
            Some(_) => Some(Suspended::Writes),
            None => None,
        };
        let baseline = Some(text("baseline")?);
        let outputs = Outputs { baseline, commit: Some(commit), suspended, ..Outputs::default() };
        let observed = observed(text("fingerprint")?, whole, outputs);
        Some(Entry {
            env: text("env")?.parse().ok()?,
            generation: u32::try_from(row.try_get::<i64, _>("generation").ok()?).ok()?,
            observed,
            there: row.try_get("there").ok()?,
            carried: row.try_get("carried").ok()?,
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

/// A database that is about to be made.
pub(crate) struct Begun<'a> {
    pub(crate) env: &'a EnvId,
    pub(crate) generation: u32,
    pub(crate) of: &'a planner::spec::Origin,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) baseline: &'a str,
    /// The version of the template that it is copied from, as [`super::template::version`] writes it.
    pub(crate) template: String,
    /// It is copied from another environment's.
    pub(crate) carried: bool,
}

/// Says what is about to be made, before the first of it is.
pub(crate) async fn begin(connection: &mut PgConnection, begun: &Begun<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO databases (name, env, generation, project, sha, trust, fingerprint, baseline, template, carried) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (name) DO UPDATE SET project = $4, sha = $5, trust = $6, \
         fingerprint = $7, baseline = $8, template = $9, carried = $10, complete = false, made_at = now()",
    )
    .bind(names::database(begun.env, begun.generation))
    .bind(begun.env.as_str())
    .bind(i64::from(begun.generation))
    .bind(begun.of.project.as_str())
    .bind(begun.of.sha.to_string())
    .bind(begun.of.trust.as_str())
    .bind(&begun.fingerprint.0)
    .bind(begun.baseline)
    .bind(&begun.template)
    .bind(begun.carried)
    .execute(connection)
    .await?;
    Ok(())
}

/// The database of a sealed template.
pub(crate) async fn sealed(connection: &mut PgConnection, version: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT database FROM baselines WHERE version = $1")
        .bind(version)
        .fetch_optional(connection)
        .await
}

/// Versions with extensions from which no database was made that there is or is being made.
pub(crate) async fn unused(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT version FROM baselines b WHERE version LIKE '%+%' \
         AND NOT EXISTS (SELECT FROM databases d WHERE d.template = b.version) \
         AND NOT EXISTS (SELECT FROM stock s WHERE s.name <> 'main' AND s.version || '+' || s.extensions = b.version)",
    )
    .fetch_all(connection)
    .await
}

/// Holds a name until the connection goes back to the pool. A call that was lost holds it for as long as the server
/// works at it, so whoever comes next finds its work done, not half done.
pub(crate) async fn lock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))").bind(name).execute(connection).await?;
    Ok(())
}

/// Holds a name if nobody else does.
pub(crate) async fn try_lock(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))").bind(name).fetch_one(connection).await
}

/// Lets a name go before that.
pub(crate) async fn unlock(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))").bind(name).execute(connection).await?;
    Ok(())
}
