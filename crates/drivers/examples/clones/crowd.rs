//! Many clones of one baseline at once, what they take of the disk, and what somebody notices who works beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use planner::names;
use planner::resource::{Owner, Resource};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection, Executor};
use tokio::task::JoinSet;

use super::{Bench, Result};

/// At once.
const CROWD: usize = 8;
/// Environments on one small disk.
const MANY: usize = 30;
/// In so many turns.
const TURNS: usize = 5;
/// How long somebody works undisturbed, for comparison, and at least as long beside clones and claims, in each turn.
const WATCHED: Duration = Duration::from_secs(3);

impl Bench {
    /// Beside as many `createdb` at once.
    pub(super) async fn at_once(&mut self, version: &str, what: &str, source: &str) -> Result<()> {
        let environments: Vec<Resource> = (0..CROWD).map(|_| self.environment(version)).collect();
        let begun = Instant::now();
        let mut making = JoinSet::new();
        for environment in environments.clone() {
            let driver = self.driver.clone();
            making.spawn(async move { super::ensured(&driver, environment).await });
        }
        while let Some(made) = making.join_next().await {
            made?.map_err(|failure| failure.to_string())?;
        }
        let ours = begun.elapsed().as_secs_f64() * 1e3;
        for environment in &environments {
            self.remove(environment).await?;
        }
        let begun = Instant::now();
        let by_hand = |name: String| self.program("createdb").args(["--template", source, &name]).spawn();
        let children =
            (0..CROWD).map(|number| by_hand(format!("by_hand_{number}"))).collect::<std::io::Result<Vec<_>>>()?;
        for mut child in children {
            child.wait()?;
        }
        let peer = begun.elapsed().as_secs_f64() * 1e3;
        for number in 0..CROWD {
            self.program("dropdb").args(["--if-exists", &format!("by_hand_{number}")]).status()?;
        }
        let case = format!("{CROWD} clones of {what} at once, {}", self.name);
        println!(
            "{}",
            json!({ "case": case, "ours": ours, "peer": peer, "peer_name": "createdb -T", "unit": "ms", "goal": 1.1 })
        );
        Ok(())
    }

    /// Thirty environments, cloned ahead and then claimed: their disk beside whole copies, and the queries of one that runs
    /// already beside its quiet ones.
    pub(super) async fn many(&mut self, version: &str, what: &str, bytes: u64) -> Result<()> {
        let running = self.environment(version);
        self.ensure(running.clone()).await?;
        let before = self.used()?;
        let mut environments = Vec::new();
        let (mut quiet, mut clones, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        // By turns, so that a busy moment of the machine meets all.
        for _ in 0..TURNS {
            let spares = (1..=MANY / TURNS).map(|number| super::spare(version, &format!("spare-{number}")));
            let claimed: Vec<Resource> = (0..MANY / TURNS).map(|_| self.environment(version)).collect();
            quiet.push(self.beside(&running, Vec::new()).await?);
            clones.push(self.beside(&running, spares.collect()).await?);
            claims.push(self.beside(&running, claimed.clone()).await?);
            environments.extend(claimed);
        }
        let (ours, peer) = ((self.used()?.saturating_sub(before)) as f64 / 1e6, bytes as f64 * MANY as f64 / 1e6);
        let case = format!("disk of {MANY} clones of {what}, {}", self.name);
        println!(
            "{}",
            json!({ "case": case, "ours": ours, "peer": peer, "peer_name": "whole copies", "unit": "MB", "goal": 2000.0 / peer })
        );
        let peer = super::median(quiet);
        for (what_happens, times) in [("clones", clones), ("claims", claims)] {
            let case = format!("p99 of queries beside {what_happens} of {what}, {}", self.name);
            let ours = super::median(times);
            println!(
                "{}",
                json!({ "case": case, "ours": ours, "peer": peer, "peer_name": "the same, undisturbed", "unit": "ms", "goal": 2.0 })
            );
        }
        for environment in environments.iter().chain([&running]) {
            self.remove(environment).await?;
        }
        Ok(())
    }

    /// The p99 of a running environment's queries while these are made, one after another.
    async fn beside(&self, running: &Resource, made: Vec<Resource>) -> Result<f64> {
        let (begun, pause) = (Instant::now(), WATCHED / u32::try_from(made.len().max(1))?);
        let worker = Worker::begin(self.connect(running).await?);
        for resource in made {
            let begun = Instant::now();
            self.ensure(resource).await?;
            // Evenly over the time, as far as it reaches.
            tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
        }
        tokio::time::sleep(WATCHED.saturating_sub(begun.elapsed())).await;
        worker.end().await
    }

    async fn connect(&self, environment: &Resource) -> Result<PgConnection> {
        let Owner::Env(env) = &environment.id.owner else { return Err("no environment".into()) };
        let name = names::database(env, 1);
        let options = PgConnectOptions::new()
            .host("127.0.0.1")
            .port(self.server.settings().port)
            .username(&name)
            .password(&names::database_password(&self.key, env, 1))
            .database(&name)
            .ssl_mode(PgSslMode::Disable);
        let mut connection = PgConnection::connect_with(&options).await?;
        connection.execute("CREATE TABLE IF NOT EXISTS work (n bigserial PRIMARY KEY, what text)").await?;
        Ok(connection)
    }

    /// Bytes in use where clones share their blocks.
    fn used(&self) -> Result<u64> {
        let at = rustix::fs::statvfs(self.server.settings().home.join("storage"))?;
        Ok((at.f_blocks - at.f_bfree) * at.f_frsize)
    }
}

/// Somebody who writes and reads a row, again and again.
struct Worker {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<std::result::Result<Vec<f64>, sqlx::Error>>,
}

impl Worker {
    fn begin(mut connection: PgConnection) -> Worker {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                connection.execute("INSERT INTO work (what) VALUES ('x')").await?;
                connection.execute("SELECT * FROM work ORDER BY n DESC LIMIT 10").await?;
                times.push(begun.elapsed().as_secs_f64() * 1e3);
                // As often as somebody's page needs it; a loop without a pause would measure itself.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            connection.close().await?;
            Ok(times)
        });
        Worker { stop, task }
    }

    /// The time that 99 of 100 took at most, in milliseconds.
    async fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.task.await??;
        times.sort_by(f64::total_cmp);
        Ok(times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN))
    }
}
