//! `run`, `psql` and `dump`: hands inside an environment.

use std::io::{self, Read, Write};
use std::process::Stdio;

use bytes::Bytes;
use clap::Args;
use console::inside::{Access, Begin, Ended, Frame, NEVER_RAN};
use futures_util::{SinkExt, StreamExt};
use planner::oneoff::NAMED;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::Client;
use super::target::Target;
use super::terminal::{Raw, size};
use super::{Failed, Plain, Screen};

/// How much input is sent at once, in bytes.
const PIECE: usize = 64 << 10;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The project (may be left out when there is one), the commit, and, instead of a command, `:name` for one that the
    /// manifest names (`:cron.name` for one of its cron jobs)
    #[arg(num_args = 1..=3, value_names = ["PROJECT", "COMMIT", "NAME"], required = true)]
    target: Vec<String>,
    /// The process whose image, variables and memory it gets
    #[arg(short, long, value_name = "PROCESS")]
    process: Option<String>,
    /// The command and its arguments, as they are: no shell looks at them
    #[arg(last = true)]
    words: Vec<String>,
}

/// Options of `psql`.
#[derive(Debug, Args)]
pub struct Psql {
    #[command(flatten)]
    plain: Plain,
    /// Arguments for psql
    #[arg(last = true)]
    words: Vec<String>,
}

/// Runs something once inside; returns its exit code.
pub(super) async fn run(client: &Client, run: Run, screen: &mut Screen) -> Result<u8, Failed> {
    let Run { mut target, process, mut words } = run;
    if words.is_empty() {
        words.extend(target.pop_if(|last| last.starts_with(NAMED)));
    }
    if words.is_empty() {
        return Err(Failed::Usage("name what to run: `sidestage run pr-7 -- bin/console`, or `:name`".to_owned()));
    }
    let target = Target::find(&client.view().await?, &target)?;
    let mut socket = client.socket(&format!("{}/run", target.path())).await?;
    let terminal = screen.terminal.then(size).flatten();
    let begin = Begin { process, words, terminal };
    let text = serde_json::to_string(&begin).map_err(|error| Failed::Refused(error.to_string()))?;
    socket.send(Message::text(text)).await.map_err(|_| broken())?;
    let ended = converse(socket, terminal.is_some(), screen).await?;
    if let Some(why) = ended.why {
        writeln!(screen.err, "error: {why}")?;
    }
    Ok(u8::try_from(ended.code).unwrap_or(1))
}

/// Passes on what comes in and out until the end.
async fn converse(
    socket: WebSocketStream<tokio::net::UnixStream>,
    terminal: bool,
    screen: &mut Screen,
) -> Result<Ended, Failed> {
    let (mut sink, mut source) = socket.split();
    let mut raw = None;
    let mut input = None;
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        tokio::select! {
            message = source.next() => match message {
                Some(Ok(Message::Binary(message))) => match Frame::decode(message) {
                    Some(Frame::Stdout(bytes)) => {
                        if input.is_none() {
                            // It runs: from now on it gets what is typed, Ctrl-C too.
                            raw = terminal.then(Raw::begin).transpose()?;
                            input = Some(listen(screen.input.take()));
                        }
                        screen.out.write_all(&bytes)?;
                        screen.out.flush()?;
                    }
                    Some(Frame::Stderr(bytes)) => {
                        screen.err.write_all(&bytes)?;
                        screen.err.flush()?;
                    }
                    Some(Frame::Ended(ended)) => {
                        drop(raw);
                        return Ok(ended);
                    }
                    _ => return Err(broken()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err(broken()),
            },
            Some(bytes) = next(&mut input) => {
                sink.send(Message::Binary(Frame::Stdin(bytes).encode())).await.map_err(|_| broken())?;
            }
            Some(()) = resized.recv(), if terminal => {
                if let Some((columns, rows)) = size() {
                    sink.send(Message::Binary(Frame::Size(columns, rows).encode())).await.map_err(|_| broken())?;
                }
            }
        }
    }
}

fn broken() -> Failed {
    Failed::Refused("the controller broke off, and what ran is ended: look at its log and try again".to_owned())
}

/// The next piece of input; never of none.
async fn next(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Reads input in a thread of its own, which nobody waits for: a read of a terminal cannot be called off. The last piece
/// is empty.
fn listen(input: Option<Box<dyn Read + Send>>) -> mpsc::Receiver<Bytes> {
    let (pieces, heard) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = input.unwrap_or_else(|| Box::new(io::empty()));
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.unwrap_or(0),
            };
            if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() || count == 0 {
                return;
            }
        }
    });
    heard
}

/// Runs the server's own `psql`; returns its exit code.
pub(super) async fn psql(client: &Client, psql: &Psql, screen: &mut Screen) -> Result<u8, Failed> {
    let access = access(client, &psql.plain, false).await?;
    let mut program = program(&access, "psql");
    // A person at it may write, also where its quota has suspended the writes of everybody else: that makes room again.
    program.args(&psql.words).env("PGOPTIONS", "-c default_transaction_read_only=off");
    // Ctrl-C is for psql, which goes on.
    let _ours = signal(SignalKind::interrupt())?;
    ended(&mut program, &access, screen).await
}

/// Writes a copy of the database in PostgreSQL's custom format.
pub(super) async fn dump(client: &Client, plain: &Plain, screen: &mut Screen) -> Result<u8, Failed> {
    if screen.columns.is_some() {
        return Err(Failed::Usage(
            "a dump is no text: write it to a file, `sidestage dump pr-7 > shop.dump`".to_owned(),
        ));
    }
    let access = access(client, plain, true).await?;
    let mut program = program(&access, "pg_dump");
    program.args(["--format=custom", "--no-owner", "--no-privileges"]).stdin(Stdio::null()).stdout(Stdio::piped());
    ended(&mut program, &access, screen).await
}

async fn access(client: &Client, plain: &Plain, dump: bool) -> Result<Access, Failed> {
    let target = Target::find(&client.view().await?, &plain.target)?;
    client.post(&format!("{}/database", target.path()), &json!({ "dump": dump })).await
}

/// A program of the server's, told by its environment, which other users cannot read, whose database it is for.
fn program(access: &Access, name: &str) -> Command {
    let mut program = Command::new(access.bin_dir.join(name));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        program.env_remove(name);
    }
    program
        .env("PGHOST", &access.host)
        .env("PGPORT", access.port.to_string())
        .env("PGUSER", &access.user)
        .env("PGPASSWORD", &access.password)
        .env("PGDATABASE", &access.database)
        .kill_on_drop(true);
    program
}

/// Runs it to its end, with what it writes into a pipe going to the screen.
async fn ended(program: &mut Command, access: &Access, screen: &mut Screen) -> Result<u8, Failed> {
    let mut child = program.spawn().map_err(|error| {
        let place = access.bin_dir.display();
        Failed::Refused(format!(
            "PostgreSQL's client cannot be run from {place} ({error}): is postgresql-client installed?"
        ))
    })?;
    if let Some(mut out) = child.stdout.take() {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = out.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            screen.out.write_all(&buffer[..count])?;
        }
        screen.out.flush()?;
    }
    let status = child.wait().await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::try_from(NEVER_RAN).unwrap_or(1)))
}
