//! Remembers: the planner's rows in SQLite, written in one transaction per step.
//!
//! There is one writer, the loop. What happens while a transaction is being committed queues up and goes into
//! the next step, hence the next transaction: that is the group commit.

use std::path::Path;
use std::time::Duration;

use planner::facts::{Row, Table};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row as _};

/// Migrations, forward only.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// The store of one instance.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens or creates the store and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or comes from a newer Sidestage.
    pub async fn open(path: &Path) -> Result<Store, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        MIGRATIONS.run(&pool).await?;
        Ok(Store { pool })
    }

    /// Every row but the audit log's, for the core; of the audit log the last one, whose key it goes on from.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn load(&self) -> Result<Vec<Row>, sqlx::Error> {
        let mut rows = Vec::new();
        for table in Table::ALL {
            let only_last = if table == Table::Audit { "ORDER BY key DESC LIMIT 1" } else { "" };
            let sql = format!("SELECT key, value FROM {} {only_last}", table.as_str());
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await? {
                rows.push(Row { table, key: row.try_get(0)?, value: Some(row.try_get(1)?) });
            }
        }
        Ok(rows)
    }

    /// Writes all rows or none, durably.
    ///
    /// # Errors
    /// When the database cannot be written: nothing was.
    pub async fn write(&self, rows: &[Row]) -> Result<(), sqlx::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await?;
        for row in rows {
            let table = row.table.as_str();
            let query = match &row.value {
                Some(value) => sqlx::query(AssertSqlSafe(format!(
                    "INSERT INTO {table} (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
                )))
                .bind(&row.key)
                .bind(value),
                None => sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE key = ?"))).bind(&row.key),
            };
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Closes the file; what was written stays.
    pub async fn close(self) {
        self.pool.close().await;
    }
}
