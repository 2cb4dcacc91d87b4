//! One build under way: the tar that goes to the engine, and the log that comes back.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use bollard::models::BuildInfo;
use bytes::Bytes;
use planner::resource::Failure;
use tokio::sync::mpsc::Sender;

use super::output::plain;
use crate::Log;
use crate::git::Context;

/// Name under which our version of the Dockerfile travels.
pub(super) const DOCKERFILE: &str = ".sidestage.Dockerfile";

/// The engine deletes from the context, before any COPY, what this file names and it needs itself.
const IGNORE: &str = ".dockerignore\n.sidestage.Dockerfile\n";

/// How many of its last lines a failed step is told with.
const LAST: usize = 5;

/// Copies the context into the request's body with our Dockerfile in it. Runs on a thread of its own.
pub(super) fn feed(context: Context, dockerfile: &str, out: &Sender<io::Result<Bytes>>) -> io::Result<()> {
    let copied = copy(context.tar, dockerfile, Feed { out, buffer: Vec::with_capacity(Feed::CHUNK) });
    if let Err(error) = &copied {
        // Aborts the request: half a context must never become an image.
        let _ = out.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }
    copied
}

fn copy(source: Box<dyn Read + Send>, dockerfile: &str, out: Feed<'_>) -> io::Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut archive = tar::Archive::new(source);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || path == Path::new(".dockerignore") || path == Path::new(DOCKERFILE) {
            continue;
        }
        let mut header = entry.header().clone();
        if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name()?) {
            tar.append_link(&mut header, &path, target)?;
        } else {
            header.set_size(entry.size());
            tar.append_data(&mut header, &path, &mut entry)?;
        }
    }
    // What went wrong while the source was read shows at its very end.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    for (name, content) in [(DOCKERFILE, dockerfile), (".dockerignore", IGNORE)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())?;
    }
    tar.into_inner()?.flush()
}

/// Hands what is written to the request's body in chunks.
struct Feed<'a> {
    out: &'a Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Feed<'_> {
    const CHUNK: usize = 64 << 10;
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(Self::CHUNK));
        self.out.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Follows the engine's account of a build: writes the log, keeps what a failure is told with.
pub(super) struct Progress<'a> {
    log: &'a Log,
    partial: String,
    step: Option<Step>,
    last: VecDeque<String>,
    image: Option<String>,
    /// Short ids of the last image of each finished stage.
    pub(super) stages: Vec<String>,
}

struct Step {
    /// `3/9`.
    place: String,
    text: String,
    since: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Progress { log, partial: String::new(), step: None, last: VecDeque::new(), image: None, stages: Vec::new() }
    }

    pub(super) fn take(&mut self, info: &BuildInfo) {
        if let Some(text) = &info.stream {
            self.partial.push_str(text);
            while let Some(end) = self.partial.find('\n') {
                let line: String = self.partial.drain(..=end).collect();
                self.line(&plain(&line));
            }
        }
        // Pulling a base image tells of every layer many times a second.
        let noise = ["Downloading", "Extracting", "Waiting", "Verifying Checksum", "Pulling fs layer"];
        if let Some(status) = info.status.as_deref().filter(|status| !noise.contains(status)) {
            let layer = info.id.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
            self.log.line(&plain(&format!("{layer}{status}")));
        }
    }

    fn line(&mut self, line: &str) {
        if let Some((place, text)) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            self.finish();
            if text.to_ascii_uppercase().starts_with("FROM ") {
                self.stages.extend(self.image.take());
            }
            self.step = Some(Step { place: place.to_owned(), text: text.trim().to_owned(), since: Instant::now() });
            self.last.clear();
        } else if let Some(id) = line.strip_prefix(" ---> ") {
            if id.starts_with("Running in ") {
                return;
            }
            if !id.contains(' ') {
                self.image = Some(id.to_owned());
                return;
            }
        } else if line.starts_with("Removing intermediate container ") || line.is_empty() {
            return;
        } else {
            self.last.push_back(line.to_owned());
            if self.last.len() > LAST {
                self.last.pop_front();
            }
        }
        self.log.line(line);
    }

    /// Notes how long the step took that ends now.
    pub(super) fn finish(&mut self) {
        if let Some(step) = self.step.take() {
            self.log.line(&format!("  step {} took {:.1} s", step.place, step.since.elapsed().as_secs_f64()));
        }
    }

    /// The one line for a build that the engine gave up with this message.
    pub(super) fn failure(&mut self, message: &str) -> Failure {
        let message = super::one_line(&plain(message));
        self.log.line(&message);
        let Some(step) = self.step.take() else { return Failure::permanent(format!("the build failed: {message}")) };
        let base = step.text.strip_prefix("FROM ").or_else(|| step.text.strip_prefix("from "));
        if let Some(base) = base {
            return base_failure(base, &message);
        }
        if message.contains("no space left on device") {
            return Failure::transient(format!("the build failed at step {}: no space left on device", step.place));
        }
        let why = match message.split_once("returned a non-zero code: ") {
            Some((_, "137")) => "it was killed (code 137), probably at the build's memory limit".to_owned(),
            Some((_, code)) => format!("code {code}"),
            None => message,
        };
        let said: Vec<String> = self.last.iter().map(|line| line.trim().chars().take(200).collect()).collect();
        let last = if said.is_empty() { String::new() } else { format!("; it said last: {}", said.join(" | ")) };
        let text: String = step.text.chars().take(120).collect();
        Failure::permanent(format!("the build failed at step {} ({text}): {why}{last}", step.place))
    }
}

/// A base image that is not there and does not come.
fn base_failure(base: &str, message: &str) -> Failure {
    let image = base.split_whitespace().find(|word| !word.starts_with("--")).unwrap_or(base);
    let missing = ["pull access denied", "manifest unknown", "not found", "does not exist", "no match for platform"];
    if missing.iter().any(|sign| message.contains(sign)) && !message.contains("lookup") {
        return Failure::permanent(format!(
            "the base image {image} does not exist, or its registry wants a login: {message}"
        ));
    }
    Failure::transient(format!("the base image {image} is not on this machine and could not be pulled: {message}"))
}
