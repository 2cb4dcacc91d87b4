//! Logs for people: builds and jobs from files, containers from the engine.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use drivers::Veil;
use drivers::docker::Docker;
use futures_util::StreamExt;
use planner::identity::EnvId;
use planner::resource::{Kind, ResourceId};
use planner::spec::Origin;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, oneshot};

use crate::calls::Writing;
use crate::state_dir::StateDir;

/// How often the end of a followed file is looked at.
const POLL: Duration = Duration::from_millis(200);

/// So many of a container's last lines are shown.
const TAIL: usize = 10_000;

type Reply = oneshot::Sender<Result<mpsc::Receiver<String>, String>>;

/// Where logs are read.
pub struct Logs {
    dir: Arc<StateDir>,
    docker: Docker,
    writing: Writing,
}

impl Logs {
    /// Over the state directory's files and the engine's containers.
    #[must_use]
    pub fn new(dir: Arc<StateDir>, docker: Docker, writing: Writing) -> Logs {
        Logs { dir, docker, writing }
    }

    /// Answers with the log of a resource, or with what there is instead. `of`: whose secrets are hidden in it.
    pub fn open(
        &self,
        found: Option<ResourceId>,
        of: Option<&Origin>,
        (env, name): (&EnvId, &str),
        follow: bool,
        reply: Reply,
    ) {
        let veil = of.map(|of| self.docker.secrets().veil(of)).unwrap_or_default();
        let cron = name.strip_prefix("cron.").map(|name| self.dir.cron_log(env, name)).filter(|log| log.exists());
        if let (None, Some(path)) = (&found, cron) {
            let (chunks, chunked) = mpsc::channel(16);
            tokio::spawn(read(path, follow.then(|| self.writing.clone()), veil, chunks));
            let _ = reply.send(Ok(chunked));
            return;
        }
        let Some(id) = found else {
            let _ = reply.send(Err(format!("environment {env} has no log {name:?}")));
            return;
        };
        let (chunks, chunked) = mpsc::channel(16);
        match id.kind {
            Kind::Image | Kind::Job => {
                let writing = follow.then(|| self.writing.clone());
                tokio::spawn(read(self.dir.log(&id), writing, veil, chunks));
            }
            _ => {
                tokio::spawn(print(self.docker.clone(), env.clone(), id, follow, chunks));
            }
        }
        let _ = reply.send(Ok(chunked));
    }
}

impl Logs {
    /// Answers with the log of making a part of a baseline's version.
    pub fn of_baseline(&self, found: Option<&ResourceId>, version: &str, follow: bool, reply: Reply) {
        let Some(id) = found else {
            let _ = reply.send(Err(format!("{version} has no such log; there are: database, objects")));
            return;
        };
        let (chunks, chunked) = mpsc::channel(16);
        let writing = follow.then(|| self.writing.clone());
        tokio::spawn(read(self.dir.log(id), writing, Veil::default(), chunks));
        let _ = reply.send(Ok(chunked));
    }
}

/// Sends what a container prints; where there is none, a line that says so.
async fn print(docker: Docker, env: EnvId, id: ResourceId, follow: bool, chunks: mpsc::Sender<String>) {
    match docker.logs(&env, id.generation, &id.name, TAIL, follow).await {
        Ok(mut printed) => {
            while let Some(chunk) = printed.next().await {
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        }
        Err(failure) => drop(chunks.send(format!("{failure}\n")).await),
    }
}

/// Sends a file's content; when it is followed, also what is appended until nobody writes it any more. A build that
/// waits for its turn has no file yet, and is waited for.
async fn read(path: PathBuf, follow: Option<Writing>, veil: Veil, chunks: mpsc::Sender<String>) {
    // It was written without secrets; those that were set since are hidden here.
    let mut veiled = veil.stream();
    let mut at = 0;
    let mut half = Vec::new();
    while !chunks.is_closed() {
        // Asked before the file is read, so that the last lines are not missed.
        let written = follow.as_ref().is_some_and(|writing| {
            writing.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) || !path.exists()
        });
        if let Ok(mut file) = File::open(&path).await {
            // A log that was started anew is shorter than what we have read of the old one.
            if file.metadata().await.is_ok_and(|meta| meta.len() < at) {
                at = 0;
                veiled = veil.stream();
            }
            let mut bytes = std::mem::take(&mut half);
            if file.seek(SeekFrom::Start(at)).await.is_ok()
                && let Ok(count) = file.read_to_end(&mut bytes).await
            {
                at += count as u64;
            }
            half = incomplete_tail(&mut bytes);
            let text = veiled.push(&String::from_utf8_lossy(&bytes));
            if !text.is_empty() && chunks.send(text).await.is_err() {
                return;
            }
        }
        if !written {
            return drop(chunks.send(veiled.rest()).await);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes off the first bytes of a character whose rest has not been written yet.
fn incomplete_tail(bytes: &mut Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.split_off(error.valid_up_to()),
        _ => Vec::new(),
    }
}
