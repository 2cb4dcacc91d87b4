//! The store: rows come back as they were written, all of a step or none, and its schema only grows.

use planner::facts::{Row, Table};
use sidestage::store::{MIGRATIONS, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

fn row(table: Table, key: &str, value: Option<&str>) -> Row {
    Row { table, key: key.to_owned(), value: value.map(str::to_owned) }
}

#[tokio::test]
async fn rows_come_back_and_deleted_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    let rows: Vec<Row> = Table::ALL.into_iter().map(|table| row(table, "k", Some("{\"a\":1}"))).collect();
    store.write(&rows).await.unwrap();
    store.write(&[row(Table::Refs, "k", None), row(Table::Sources, "k", Some("2"))]).await.unwrap();
    store.close().await;

    let mut expected: Vec<Row> = rows.into_iter().filter(|row| row.table != Table::Refs).collect();
    expected.iter_mut().filter(|row| row.table == Table::Sources).for_each(|row| row.value = Some("2".to_owned()));
    assert_eq!(Store::open(&path).await.unwrap().load().await.unwrap(), expected);
}

#[tokio::test]
async fn a_step_is_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db")).await.unwrap();
    let broken = [row(Table::Refs, "good", Some("1")), row(Table::Refs, "bad", Some("not json"))];
    assert!(store.write(&broken).await.is_err());
    assert_eq!(store.load().await.unwrap(), []);
}

#[tokio::test]
async fn the_audit_log_takes_additions_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db")).await.unwrap();
    store.write(&[row(Table::Audit, "1", Some("{\"by\":\"ada\"}"))]).await.unwrap();
    for change in [row(Table::Audit, "1", None), row(Table::Audit, "1", Some("{\"by\":\"eve\"}"))] {
        let error = store.write(&[change]).await.unwrap_err().to_string();
        assert!(error.contains("append only"), "{error}");
    }
}

/// Rows as each version of the schema wrote them: a migration is tried on the data of all before it.
const SAMPLES: [&str; 6] = [
    "INSERT INTO refs VALUES ('shop pr/1', '{}'); INSERT INTO audit VALUES ('1', '{}');",
    "INSERT INTO refs VALUES ('shop pr/2', '{}'); INSERT INTO projects VALUES ('shop', '{}'); INSERT INTO images VALUES ('i', '{}');",
    "INSERT INTO refs VALUES ('shop pr/3', '{}'); INSERT INTO secrets VALUES ('shop trusted A', '{}');",
    "INSERT INTO refs VALUES ('shop pr/4', '{}'); INSERT INTO baselines VALUES ('shop', '{}');",
    "INSERT INTO refs VALUES ('shop pr/5', '{}'); INSERT INTO told VALUES ('shop comment 1', '{}');",
    "INSERT INTO refs VALUES ('shop pr/6', '{}'); INSERT INTO deliveries VALUES ('1-2', '{}');",
];

#[tokio::test]
async fn every_migration_keeps_the_data_of_the_versions_before() {
    let migrations: Vec<_> = MIGRATIONS.iter().collect();
    assert_eq!(migrations.len(), SAMPLES.len(), "each migration brings rows as its version writes them");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let pool =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path).create_if_missing(true)).await.unwrap();
    for (migration, sample) in migrations.iter().zip(SAMPLES) {
        sqlx::raw_sql(migration.sql.clone()).execute(&pool).await.unwrap();
        sqlx::raw_sql(sample).execute(&pool).await.unwrap();
    }
    let (refs,): (i64,) = sqlx::query_as("SELECT count(*) FROM refs").fetch_one(&pool).await.unwrap();
    assert_eq!(refs, i64::try_from(SAMPLES.len()).unwrap());
}
