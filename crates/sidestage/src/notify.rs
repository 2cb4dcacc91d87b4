//! `sidestage notify`, for post-receive hooks: a socket of its own, open to all, that takes a project's name and the
//! commits that were pushed, has the forge looked at, and answers whoever pushed with URLs and states.

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use console::{Ask, Doors};
use planner::identity::Sha;
use planner::view::{CommitView, State, View};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// The most that one request may hold, in bytes.
const REQUEST: u64 = 64 << 10;
/// How long one connection may last without `--wait`, and with it.
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(30 * 60)];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    project: String,
    shas: Vec<Sha>,
    wait: bool,
}

/// Makes the socket, open to all.
///
/// # Errors
/// When it cannot be made.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let listener = crate::bind::unix(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("cannot open {} to all", path.display()))?;
    Ok(listener)
}

/// Answers hooks until told to stop.
pub async fn serve(listener: UnixListener, doors: Doors, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(16));
    loop {
        let (stream, place) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match (accepted, places.clone().acquire_owned().await) {
                (Ok((stream, _)), Ok(place)) => (stream, place),
                _ => continue,
            },
        };
        let doors = doors.clone();
        tokio::spawn(async move {
            // Whoever pushed has gone, or sent nonsense: there is nobody to tell.
            let _ = tokio::time::timeout(PATIENCE[1], answer(stream, doors)).await;
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, mut doors: Doors) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE[0], BufReader::new(read.take(REQUEST)).read_line(&mut line)).await??;
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return Ok(write.write_all(format!("not a notification: {error}\n").as_bytes()).await?),
    };
    let (reply, looked) = oneshot::channel();
    doors.ask.send(Ask::Look(request.project.clone(), reply)).await?;
    if let Err(refusal) = looked.await? {
        return Ok(write.write_all(format!("{refusal}\n").as_bytes()).await?);
    }
    let mut told = vec![None; request.shas.len()];
    loop {
        let view = doors.view.borrow_and_update().clone();
        let mut settled = true;
        for (sha, told) in request.shas.iter().zip(&mut told) {
            let found = find(&view, &request.project, sha);
            let state = found.map_or(State::Unstaged, |commit| commit.state);
            settled &= found.is_none() || state.is_settled();
            if told.replace(state) != Some(state) {
                let nowhere = || format!("{}: no watched ref points to it\n", sha.short());
                write.write_all(found.map_or_else(nowhere, line_of).as_bytes()).await?;
            }
        }
        if settled || !request.wait {
            return Ok(());
        }
        doors.view.changed().await?;
    }
}

fn find<'a>(view: &'a View, project: &str, sha: &Sha) -> Option<&'a CommitView> {
    let project = view.projects.iter().find(|found| found.name.as_str() == project)?;
    project.refs.iter().flat_map(|found| &found.commits).find(|commit| commit.sha == *sha)
}

fn line_of(commit: &CommitView) -> String {
    let reason = commit.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{} {}{reason} {}\n", commit.sha.short(), commit.state.as_str(), commit.url)
}

/// The hook's side: reads git's `old new ref` lines from standard input and prints the answer.
///
/// # Errors
/// When nobody listens, or the input is not git's. A hook should not fail a push for that: git ignores its exit code.
pub async fn send(socket: &Path, project: &str, wait: bool) -> anyhow::Result<()> {
    let request = Request { project: project.to_owned(), shas: pushed().await?, wait };
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no controller on {}: start it with `sidestage serve`; it will see the push then", socket.display())
    })?;
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    let next = async |lines: &mut tokio::io::Lines<_>| {
        tokio::time::timeout(PATIENCE[usize::from(wait)], lines.next_line())
            .await
            .context("no answer from the controller")?
            .map_err(anyhow::Error::from)
    };
    while let Some(line) = next(&mut lines).await? {
        println!("{line}");
    }
    Ok(())
}

/// The commits of git's lines; none from a terminal. Deleted refs have no commit.
async fn pushed() -> anyhow::Result<Vec<Sha>> {
    if std::io::stdin().is_terminal() {
        return Ok(Vec::new());
    }
    let mut text = String::new();
    tokio::io::stdin().take(REQUEST).read_to_string(&mut text).await?;
    let mut shas = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let [_, new, _] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            bail!("{line:?} is not a line of a post-receive hook: expected `old new ref`");
        };
        let sha: Sha = new.parse()?;
        if sha != Sha::from_bytes([0; 20]) && !shas.contains(&sha) {
            shas.push(sha);
        }
    }
    Ok(shas)
}
