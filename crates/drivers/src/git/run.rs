//! Runs git: argument vectors, an environment of our own, an end in any case.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

/// The most that is read of an answer, in bytes. Listings of trees are streamed and have limits of their own.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The most that is read of what git complains about.
const LONGEST_COMPLAINT: u64 = 64 << 10;

/// Git as we run it, with the configuration file that replaces those of the machine and of the user.
#[derive(Debug, Clone)]
pub(super) struct Git {
    config: PathBuf,
}

/// Why git did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be started.
    #[error("git cannot be run ({0}); is it installed?")]
    Run(io::Error),
    /// A file or pipe failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was killed because it took too long.
    #[error("git did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It ended with a code; the text is its last complaint.
    #[error("{0}")]
    Refused(String),
    /// What it was to take in does not pass its checks; the text is what it found.
    #[error("{0}")]
    Unsound(String),
    /// Its answer is longer than anything that we would use.
    #[error("git's answer has more than {LONGEST_ANSWER} bytes")]
    TooLong,
}

impl Git {
    /// With this file as its only configuration beside that of the repositories.
    pub(super) fn new(config: PathBuf) -> Git {
        Git { config }
    }

    /// A command on this repository, not yet started: nothing of our environment reaches it but the search path.
    pub(super) fn command<S: AsRef<OsStr>>(&self, repository: &Path, args: &[S]) -> std::process::Command {
        let mut command = std::process::Command::new("git");
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .env("GIT_CONFIG_GLOBAL", &self.config)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C");
        command.arg("--git-dir").arg(repository).args(args).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command whose output is read by the caller. It is killed when the child is dropped.
    pub(super) fn start<S: AsRef<OsStr>>(&self, repository: &Path, args: &[S]) -> Result<Child, Error> {
        tokio::process::Command::from(self.command(repository, args)).kill_on_drop(true).spawn().map_err(Error::Run)
    }

    /// Runs a command to its end and returns what it printed.
    pub(super) async fn run<S: AsRef<OsStr>>(
        &self,
        repository: &Path,
        args: &[S],
        limit: Duration,
    ) -> Result<Vec<u8>, Error> {
        let mut child = self.start(repository, args)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let talk = async {
            let (printed, complaint) =
                tokio::try_join!(read(stdout, LONGEST_ANSWER + 1), read(stderr, LONGEST_COMPLAINT))?;
            if printed.len() as u64 > LONGEST_ANSWER {
                return Err(Error::TooLong);
            }
            ended(&mut child, &complaint).await?;
            Ok(printed)
        };
        // The future holds the child: past the limit both are dropped, and the process is killed.
        tokio::time::timeout(limit, talk).await.map_err(|_| Error::Late(limit))?
    }
}

/// Waits for the end of a process that has been listened to.
pub(super) async fn ended(child: &mut Child, complaint: &[u8]) -> Result<(), Error> {
    if child.wait().await?.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(complaint);
    let line = telling_line(&text);
    Err(if text.contains("fsck error") { Error::Unsound(line) } else { Error::Refused(line) })
}

/// Reads a pipe up to a limit.
pub(super) async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The line that says what is wrong, without git's own prefix: the first error, since what follows from it is told
/// behind it, else the last line. It may quote a repository, so it is cleaned.
fn telling_line(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next_back());
    let line = line.unwrap_or("git failed without a word");
    clean(line.trim_start_matches("fatal: ").trim_start_matches("error: "), 300)
}

/// Text of a repository as one line of at most so many characters, without control characters.
pub(crate) fn clean(text: &str, longest: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(longest).collect::<String>().trim().to_owned()
}
