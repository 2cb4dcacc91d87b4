//! Runs SQL of the operator's in a template that is being made: a dump, or a masking script. It runs as a role that owns
//! this one database and reaches no other, and `psql` obeys none of the commands by which a script could reach the machine.

use std::io::Seek;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use planner::resource::Failure;
use regex::Regex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};

use super::judge::{Judge, pattern, said_of};
use super::progress::Progress;
use super::tools::{Login, Tools};
use crate::Log;

/// What is made belongs to whoever owns the database, in each clone of it too. Its losing in a crash costs nothing.
const AS_OWNER: &str = "-c role=pg_database_owner -c synchronous_commit=off -c maintenance_work_mem=256MB";
const CHUNK: usize = 256 << 10;

/// SQL that comes from somewhere.
pub(super) struct Stream {
    /// What people know it by, in messages.
    pub(super) name: String,
    pub(super) from: Box<dyn AsyncRead + Send + Unpin>,
    /// The program that writes it, if one does. Its own failure is the reason then.
    pub(super) writer: Option<Child>,
    /// The file that the program reads, whose position tells how far it is; else what we read tells.
    pub(super) position: Option<std::fs::File>,
    /// Bytes of that in all, where known.
    pub(super) total: Option<u64>,
}

/// One database that is being filled.
pub(super) struct Loader<'a> {
    pub(super) tools: &'a Tools,
    pub(super) login: &'a Login,
    pub(super) log: &'a Log,
}

impl Loader<'_> {
    /// Runs all of it. Owners, rights, publications and the like, which a template does not have, are left out and counted.
    ///
    /// # Errors
    /// Permanent: the first statement that the server refuses, with its line.
    pub(super) async fn load(&self, mut stream: Stream) -> Result<(), Failure> {
        let mut psql = self.psql(&["--echo-errors"])?;
        let (Some(input), Some(errors)) = (psql.stdin.take(), psql.stderr.take()) else {
            return Err(Failure::transient("psql has no pipes"));
        };
        let mut judge = Judge::default();
        let judged = async {
            let mut lines = BufReader::new(errors).split(b'\n');
            while let Some(line) = lines.next_segment().await.map_err(|error| broken(&error))? {
                judge.hear(&String::from_utf8_lossy(&line)).map_err(|why| because(&stream.name, &why))?;
            }
            judge.end().map_err(|why| because(&stream.name, &why))
        };
        let mut progress = Progress::of(stream.total);
        let pumped = pump(&mut stream.from, input, stream.position.as_ref(), &mut progress, self.log);
        // Whatever is refused ends both; what is dropped ends the programs.
        let (judged, pumped) = tokio::try_join!(judged, async { Ok(pumped.await) })?;
        let () = judged;
        if let Some(writer) = &mut stream.writer {
            let complaint = complaint(writer).await;
            let status = writer.wait().await.map_err(|error| broken(&error))?;
            if !status.success() {
                return Err(because(&stream.name, &complaint));
            }
        }
        pumped.map_err(|error| broken(&error))?;
        let status = psql.wait().await.map_err(|error| broken(&error))?;
        if !status.success() && status.code() != Some(3) {
            return Err(Failure::transient(format!("psql ended with {status} while it loaded {}", stream.name)));
        }
        for (what, count) in judge.left_out() {
            self.log.line(&format!("left out, since a baseline has none: {what} ({count})"));
        }
        Ok(())
    }

    /// Runs a script of the operator's on the copy, all of it or nothing.
    ///
    /// # Errors
    /// Permanent: the statement that the server refuses, with its line.
    pub(super) async fn mask(&self, script: &Path) -> Result<(), Failure> {
        let name = format!("the masking script {}", script.display());
        let unread = |error| Failure::permanent(format!("{name} cannot be read: {error}"));
        let mut file = tokio::fs::File::open(script).await.map_err(unread)?;
        let mut psql = self.psql(&["--single-transaction", "--set=ON_ERROR_STOP=1"])?;
        let (Some(mut input), Some(mut errors)) = (psql.stdin.take(), psql.stderr.take()) else {
            return Err(Failure::transient("psql has no pipes"));
        };
        let mut said = Vec::new();
        // It stops to read at the first error, so writing may fail.
        let (_, heard) = tokio::join!(
            async {
                let _ = tokio::io::copy(&mut file, &mut input).await;
                drop(input);
            },
            errors.read_to_end(&mut said)
        );
        heard.map_err(|error| broken(&error))?;
        let status = psql.wait().await.map_err(|error| broken(&error))?;
        if status.success() {
            return Ok(());
        }
        Err(because(&name, &said_of(&String::from_utf8_lossy(&said))))
    }

    /// `psql` in the database, without what its user has configured. A script cannot guess the word that would give it
    /// the commands of `psql` back.
    fn psql(&self, more: &[&str]) -> Result<Child, Failure> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Failure::transient(format!("no randomness: {error}")))?;
        let word = data_encoding::HEXLOWER.encode(&random);
        let mut command = self.tools.inside("psql", self.login, AS_OWNER);
        command
            .args(["--no-psqlrc", "--quiet", "--no-password", "--set=VERBOSITY=default"])
            .args(more)
            .arg(format!("--command=\\restrict {word}"))
            .arg("--file=-")
            .stdin(Stdio::piped());
        self.tools.spawn(&mut command)
    }
}

/// Copies until the end, and tells how far it is. What `psql` no longer takes is no failure here: it has said why.
async fn pump(
    from: &mut (dyn AsyncRead + Send + Unpin),
    mut to: ChildStdin,
    position: Option<&std::fs::File>,
    progress: &mut Progress,
    log: &Log,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    let mut first = beginning(from, &mut buffer).await?;
    let mut filled = first;
    while filled > 0 {
        let begins = std::mem::take(&mut first) > 0;
        let cleared = if begins { cleared(&buffer[..filled]) } else { None };
        if to.write_all(cleared.as_deref().unwrap_or(&buffer[..filled])).await.is_err() {
            break;
        }
        done += filled as u64;
        let at = position.and_then(|mut file| file.stream_position().ok());
        progress.at(at.unwrap_or(done), log);
        filled = from.read(&mut buffer).await?;
    }
    Ok(())
}

/// Enough of the beginning to hold what `pg_dump` says first.
async fn beginning(from: &mut (dyn AsyncRead + Send + Unpin), buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < 4096 {
        let read = from.read(&mut buffer[filled..]).await?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    Ok(filled)
}

/// Newer dumps restrict `psql` themselves, which has been done already. The line stays, so that others keep their numbers.
fn cleared(head: &[u8]) -> Option<Vec<u8>> {
    static RESTRICT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\\restrict [A-Za-z0-9]+$"));
    let limit = head.len().min(4096);
    let text = std::str::from_utf8(&head[..limit]).ok()?;
    let found = RESTRICT.find(text)?;
    let mut head = head.to_vec();
    head[found.range()].fill(b' ');
    Some(head)
}

/// What a program that has closed its output says of why.
async fn complaint(writer: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(errors) = &mut writer.stderr {
        let _ = errors.take(64 << 10).read_to_end(&mut said).await;
    }
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains("error:")).or_else(|| said.lines().next());
    line.unwrap_or("it said nothing").trim().to_owned()
}

fn because(name: &str, why: &str) -> Failure {
    Failure::permanent(format!("{name}, {why}"))
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::transient(format!("psql: {error}"))
}
