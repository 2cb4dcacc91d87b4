//! The registry's rows of what baselines own: sealed templates, and clones of them made ahead.

use std::collections::BTreeSet;

use planner::identity::InstanceKey;
use planner::resource::{Fingerprint, Observed, Outputs, Phase, ResourceId};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use super::registry;
use super::template::hashed;

/// What a version's template is called, beside its spares.
pub(super) const MAIN: &str = "main";

/// Forward only, and safe to run at every start.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS stock (
    version     text NOT NULL,
    name        text NOT NULL,
    database    text NOT NULL UNIQUE,
    fingerprint text NOT NULL,
    extensions  text NOT NULL DEFAULT '',
    complete    boolean NOT NULL DEFAULT false,
    bytes       bigint,
    tables      bigint,
    relations   bigint,
    made_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version, name)
);";

const COLUMNS: &str = "s.version, s.name, s.fingerprint, s.extensions, s.bytes, s.tables, s.relations, \
     s.complete AND d.oid IS NOT NULL AS whole FROM stock s LEFT JOIN pg_database d ON d.datname = s.database";

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) version: String,
    pub(super) name: String,
    pub(super) extensions: BTreeSet<String>,
    pub(super) relations: u64,
    pub(super) observed: Observed,
}

impl Item {
    fn read(row: &PgRow) -> Option<Item> {
        let text = |column: &str| row.try_get::<String, _>(column).ok();
        let number =
            |column: &str| row.try_get::<Option<i64>, _>(column).ok().flatten().and_then(|n| u64::try_from(n).ok());
        let whole = row.try_get("whole").ok()?;
        let version = text("version")?;
        let outputs = Outputs {
            baseline: Some(version.clone()),
            bytes: number("bytes"),
            tables: number("tables"),
            ..Outputs::default()
        };
        let observed = registry::observed(text("fingerprint")?, whole, outputs);
        Some(Item {
            name: text("name")?,
            extensions: set(&text("extensions")?),
            relations: number("relations").unwrap_or(0),
            observed,
            version,
        })
    }

    pub(super) fn id(&self) -> ResourceId {
        ResourceId::spare(&self.version, self.name.clone())
    }

    pub(super) fn whole(&self) -> bool {
        self.observed.phase == Phase::Whole
    }
}

/// The database behind a row. Names of databases are open to every environment, so they tell nothing.
pub(super) fn database(key: &InstanceKey, version: &str, name: &str) -> String {
    match name {
        MAIN => format!("sst_{}_base_{}", key.instance(), hashed(version)),
        _ => format!("sst_{}_spare_{}", key.instance(), hashed(&format!("{version}/{name}"))),
    }
}

/// As one column.
pub(super) fn joined(extensions: &BTreeSet<String>) -> String {
    extensions.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn set(column: &str) -> BTreeSet<String> {
    column.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// All rows, or those of one version.
pub(super) async fn list(connection: &mut PgConnection, version: Option<&str>) -> Result<Vec<Item>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} WHERE $1::text IS NULL OR s.version = $1");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(version).fetch_all(connection).await?;
    Ok(rows.iter().filter_map(Item::read).collect())
}

/// One row.
pub(super) async fn find(
    connection: &mut PgConnection,
    version: &str,
    name: &str,
) -> Result<Option<Item>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} WHERE s.version = $1 AND s.name = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(version).bind(name).fetch_optional(connection).await?;
    Ok(row.as_ref().and_then(Item::read))
}

/// Says what is about to be made, before the first of it is.
pub(super) async fn begin(
    connection: &mut PgConnection,
    (version, name, database): (&str, &str, &str),
    fingerprint: &Fingerprint,
    extensions: &BTreeSet<String>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO stock (version, name, database, fingerprint, extensions) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (version, name) DO UPDATE SET database = $3, fingerprint = $4, extensions = $5, complete = false, \
         bytes = NULL, tables = NULL, relations = NULL, made_at = now()",
    )
    .bind(version)
    .bind(name)
    .bind(database)
    .bind(&fingerprint.0)
    .bind(joined(extensions))
    .execute(connection)
    .await?;
    Ok(())
}

/// How large a template is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) bytes: u64,
    pub(super) tables: u64,
    /// Tables, indexes and sequences, the server's own too: each is a file or three.
    pub(super) relations: u64,
}

/// The last step of a template: from here on it is one.
pub(super) async fn seal(
    connection: &mut PgConnection,
    version: &str,
    database: &str,
    size: Size,
) -> Result<(), sqlx::Error> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut transaction = connection.begin().await?;
    sqlx::query("DELETE FROM baselines WHERE version = $1 OR database = $2")
        .bind(version)
        .bind(database)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO baselines (version, database) VALUES ($1, $2)")
        .bind(version)
        .bind(database)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "UPDATE stock SET complete = true, bytes = $2, tables = $3, relations = $4 WHERE version = $1 AND name = 'main'",
    )
    .bind(version)
    .bind(number(size.bytes))
    .bind(number(size.tables))
    .bind(number(size.relations))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// The first step of a removal: from here on nothing is made of it. False when there is no such row.
pub(super) async fn doom(connection: &mut PgConnection, version: &str, name: &str) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let doomed = sqlx::query("UPDATE stock SET complete = false WHERE version = $1 AND name = $2")
        .bind(version)
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    if name == MAIN {
        sqlx::query("DELETE FROM baselines WHERE version = $1").bind(version).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(doomed.rows_affected() > 0)
}

/// The last step of a removal.
pub(super) async fn forget(connection: &mut PgConnection, version: &str, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM stock WHERE version = $1 AND name = $2")
        .bind(version)
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes a whole spare off the shelf, within the caller's transaction: its database. Two callers never get the same.
pub(super) async fn claim(
    connection: &mut PgConnection,
    version: &str,
    extensions: &BTreeSet<String>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "DELETE FROM stock WHERE (version, name) = (\
             SELECT s.version, s.name FROM stock s JOIN pg_database d ON d.datname = s.database \
             WHERE s.version = $1 AND s.name <> 'main' AND s.extensions = $2 AND s.complete \
             AND EXISTS (SELECT FROM baselines b WHERE b.version = $1) \
             ORDER BY s.made_at LIMIT 1 FOR UPDATE OF s SKIP LOCKED) RETURNING database",
    )
    .bind(version)
    .bind(joined(extensions))
    .fetch_optional(connection)
    .await
}

/// Whether there is something to claim.
pub(super) async fn any(
    connection: &mut PgConnection,
    version: &str,
    extensions: &BTreeSet<String>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM stock WHERE version = $1 AND name <> 'main' AND extensions = $2 AND complete)",
    )
    .bind(version)
    .bind(joined(extensions))
    .fetch_one(connection)
    .await
}
