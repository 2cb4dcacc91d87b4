//! Changes of the index that are committed together: while one waits for the disk, others gather, and share the next wait.

use std::sync::{Mutex, PoisonError};
use std::{fmt, io};

use futures_util::future::BoxFuture;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::oneshot;

use super::index::Put;
use super::trouble::Trouble;

/// A change. Anything else than `Done` undoes what it did, and nothing else.
pub(super) type Change =
    Box<dyn for<'t> FnOnce(&'t mut Transaction<'static, Sqlite>) -> BoxFuture<'t, Result<Put, Trouble>> + Send>;

type Answer = oneshot::Sender<Result<Put, Trouble>>;

/// Those who wait.
#[derive(Default)]
pub(super) struct Together {
    asked: Mutex<Vec<(Change, Answer)>>,
    turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl Together {
    /// Does a change within a transaction of the writer's. When it returns, the change is safe on the disk or not there.
    pub(super) async fn change(&self, writer: &SqlitePool, change: Change) -> Result<Put, Trouble> {
        let (answer, answered) = oneshot::channel();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((change, answer));
        let turn = self.turn.lock().await;
        // Nothing, when another's turn has taken ours along.
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let committed = if asked.is_empty() { Ok(()) } else { commit(writer, asked).await };
        drop(turn);
        match (answered.await, committed) {
            (Ok(put), _) => put,
            (Err(_), Err(trouble)) => Err(trouble),
            (Err(_), Ok(())) => Err(Trouble::Io(io::Error::other("the transaction with this change failed"))),
        }
    }
}

/// All of them in one transaction. Whoever is not answered was cut off by an error of the transaction itself.
async fn commit(writer: &SqlitePool, asked: Vec<(Change, Answer)>) -> Result<(), Trouble> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let mut ended = Vec::new();
    // Who has gone away meanwhile has taken along the bytes that the change would name.
    for (change, answer) in asked.into_iter().filter(|(_, answer)| !answer.is_closed()) {
        sqlx::query("SAVEPOINT change").execute(&mut *tx).await?;
        let put = change(&mut tx).await;
        if !matches!(put, Ok(Put::Done(_))) {
            sqlx::query("ROLLBACK TO change").execute(&mut *tx).await?;
        }
        sqlx::query("RELEASE change").execute(&mut *tx).await?;
        ended.push((answer, put));
    }
    tx.commit().await?;
    for (answer, put) in ended {
        // Nobody waits: it is done all the same.
        let _ = answer.send(put);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    /// Writes a number, and ends like this.
    fn writing(number: i64, end: fn() -> Result<Put, Trouble>) -> Change {
        Box::new(move |tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO numbers VALUES (?)").bind(number).execute(&mut **tx).await?;
                end()
            })
        })
    }

    #[tokio::test]
    async fn each_change_of_a_group_ends_for_itself() {
        let writer = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        sqlx::query("CREATE TABLE numbers (n INTEGER UNIQUE)").execute(&writer).await.unwrap();
        let together = Arc::new(Together::default());
        let busy = together.turn.lock().await;
        let ends: [fn() -> Result<Put, Trouble>; 4] = [
            || Ok(Put::Done(Vec::new())),
            || Ok(Put::Full(1)),
            || Err(Trouble::Row("broken".to_owned())),
            || Ok(Put::Done(Vec::new())),
        ];
        let mut waiting = Vec::new();
        for (number, end) in (1..).zip(ends) {
            let (shared, writer) = (together.clone(), writer.clone());
            waiting.push(tokio::spawn(async move { shared.change(&writer, writing(number, end)).await }));
            while together.asked.lock().unwrap().len() < waiting.len() {
                tokio::task::yield_now().await;
            }
        }
        // Of somebody who goes away before it is its turn.
        let gone = tokio::time::timeout(std::time::Duration::ZERO, together.change(&writer, writing(5, ends[0]))).await;
        assert!(gone.is_err());
        drop(busy);
        let mut told = Vec::new();
        for one in waiting {
            told.push(one.await.unwrap());
        }
        assert!(matches!(told[..], [Ok(Put::Done(_)), Ok(Put::Full(1)), Err(Trouble::Row(_)), Ok(Put::Done(_))]));
        let kept: Vec<(i64,)> = sqlx::query_as("SELECT n FROM numbers ORDER BY n").fetch_all(&writer).await.unwrap();
        assert_eq!(kept, [(1,), (4,)]);
    }
}
