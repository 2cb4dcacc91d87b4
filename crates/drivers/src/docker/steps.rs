//! The log of a build, the same for both builders: its steps with number, duration and cache hits, what they print
//! cleaned and without secrets, and the one line that tells of a failure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use planner::resource::Failure;

use super::output::plain;
use crate::{Log, Veil};

/// How many of its last lines a failed step is told with.
const LAST: usize = 5;

/// Bytes of one line that are kept.
const LINE: usize = 8 << 10;

/// Takes pieces of output, gives whole lines. What a carriage return overwrote is left out, as on a terminal.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    returned: bool,
    cut: bool,
}

impl Lines {
    fn push(&mut self, piece: &[u8], veil: &Veil) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in piece {
            if byte == b'\n' {
                lines.extend(self.finish(veil));
                continue;
            }
            if std::mem::take(&mut self.returned) && byte != b'\r' {
                self.buffer.clear();
                self.cut = false;
            }
            match byte {
                b'\r' => self.returned = true,
                _ if self.buffer.len() < LINE + veil.longest() => self.buffer.push(byte),
                _ => self.cut = true,
            }
        }
        lines
    }

    /// The line as far as it came; none if nothing did.
    fn finish(&mut self, veil: &Veil) -> Option<String> {
        let buffer = std::mem::take(&mut self.buffer);
        let cut = std::mem::take(&mut self.cut);
        self.returned = false;
        let mut text = veil.hide(&plain(&String::from_utf8_lossy(&buffer))).into_owned();
        if cut {
            // A secret that was cut in two is not recognised, so its beginning goes too.
            text.truncate(text.floor_char_boundary(text.len().saturating_sub(veil.longest())));
            text.push_str(" … [the rest of this line is cut]");
        }
        (!text.trim().is_empty()).then_some(text)
    }
}

/// A step that began.
struct Step {
    number: usize,
    /// `[3/5] RUN npm ci`.
    name: String,
    lines: Lines,
    last: VecDeque<String>,
}

/// Follows the steps of one build. `Key` tells them apart.
pub(super) struct Steps<'a, Key: Ord> {
    log: &'a Log,
    veil: Veil,
    steps: BTreeMap<Key, Step>,
}

impl<'a, Key: Ord> Steps<'a, Key> {
    pub(super) fn new(log: &'a Log, veil: Veil) -> Self {
        Steps { log, veil, steps: BTreeMap::new() }
    }

    /// A line that belongs to no step.
    pub(super) fn note(&self, text: &str) {
        self.log.line(&plain(text));
    }

    /// The step begins; nothing if it has begun.
    pub(super) fn begin(&mut self, key: Key, name: &str) {
        let number = self.steps.len() + 1;
        let name: String = super::one_line(&plain(name)).chars().take(300).collect();
        let name = self.veil.hide(&name).into_owned();
        let std::collections::btree_map::Entry::Vacant(entry) = self.steps.entry(key) else { return };
        self.log.line(&format!("#{number} {name}"));
        entry.insert(Step { number, name, lines: Lines::default(), last: VecDeque::new() });
    }

    /// The step printed this.
    pub(super) fn say(&mut self, key: &Key, piece: &[u8]) {
        if let Some(step) = self.steps.get_mut(key) {
            for line in step.lines.push(piece, &self.veil) {
                step.keep(self.log, line);
            }
        }
    }

    fn flush(&mut self, key: &Key) {
        if let Some(step) = self.steps.get_mut(key)
            && let Some(line) = step.lines.finish(&self.veil)
        {
            step.keep(self.log, line);
        }
    }

    /// The step is done; none took no time, since its result was there.
    pub(super) fn end(&mut self, key: &Key, took: Option<Duration>) {
        self.flush(key);
        let Some(step) = self.steps.get(key) else { return };
        let how = took.map_or_else(|| "CACHED".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
        self.log.line(&format!("#{} {} … {how}", step.number, step.name));
    }

    /// The one line for a build that failed in this step, or in none, with the builder's message.
    pub(super) fn failure(&mut self, key: Option<&Key>, message: &str) -> Failure {
        let message = self.veil.hide(&super::one_line(&plain(message))).into_owned();
        self.log.line(&format!("ERROR: {message}"));
        key.into_iter().for_each(|key| self.flush(key));
        let Some(step) = key.and_then(|key| self.steps.get(key)) else { return failed("", &message, "") };
        let said: Vec<String> = step.last.iter().map(|line| line.trim().chars().take(200).collect()).collect();
        let last = if said.is_empty() { String::new() } else { format!("; it said last: {}", said.join(" | ")) };
        failed(&step.name, &message, &last)
    }
}

impl Step {
    fn keep(&mut self, log: &Log, line: String) {
        log.line(&format!("#{} {line}", self.number));
        self.last.push_back(line);
        if self.last.len() > LAST {
            self.last.pop_front();
        }
    }
}

/// What a builder's message says of a step named `[3/5] RUN npm ci`.
fn failed(name: &str, message: &str, last: &str) -> Failure {
    let (place, text) = name.strip_prefix('[').and_then(|name| name.split_once("] ")).unwrap_or(("", name));
    if let Some(base) = base_of(text) {
        return base_failure(base, message);
    }
    let step = match (place, text) {
        ("", "") => String::new(),
        ("", text) => format!(" at {text}"),
        (place, text) => format!(" at step {place} ({})", text.chars().take(120).collect::<String>()),
    };
    if message.contains("no space left on device") {
        return Failure::transient(format!("the build failed{step}: no space left on device"));
    }
    let why = match code_of(message).filter(|_| !step.is_empty()) {
        Some("137") => "it was killed (code 137), probably at the build's memory limit",
        Some(code) => &format!("code {code}"),
        None => message,
    };
    Failure::permanent(format!("the build failed{step}: {why}{last}"))
}

/// The image that a step wants from a registry.
fn base_of(text: &str) -> Option<&str> {
    let asked = text.strip_prefix("load metadata for ");
    let base = asked.or_else(|| text.strip_prefix("FROM ")).or_else(|| text.strip_prefix("from "))?;
    let base = base.split_whitespace().find(|word| !word.starts_with("--"))?;
    Some(base.strip_prefix("docker.io/").map_or(base, |base| base.strip_prefix("library/").unwrap_or(base)))
}

/// The exit code in what either builder says.
fn code_of(message: &str) -> Option<&str> {
    let behind = |sign: &str| message.rsplit_once(sign).map(|(_, code)| code);
    let code = behind("returned a non-zero code: ").or_else(|| behind("exit code: "))?;
    let end = code.find(|c: char| !c.is_ascii_digit()).unwrap_or(code.len());
    (end > 0).then(|| &code[..end])
}

/// A base image that is not there and does not come.
fn base_failure(image: &str, message: &str) -> Failure {
    let missing = ["pull access denied", "manifest unknown", "not found", "does not exist", "no match for platform"];
    if missing.iter().any(|sign| message.contains(sign)) && !message.contains("lookup") {
        return Failure::permanent(format!(
            "the base image {image} does not exist, or its registry wants a login: {message}"
        ));
    }
    Failure::transient(format!("the base image {image} is not on this machine and could not be pulled: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]], veil: &Veil) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all: Vec<String> = pieces.iter().flat_map(|piece| lines.push(piece, veil)).collect();
        all.extend(lines.finish(veil));
        all
    }

    #[test]
    fn lines_are_whole_and_as_a_terminal_shows_them() {
        let none = Veil::default();
        assert_eq!(lines(&[b"a", b"b\r\nc", b"\n\n"], &none), ["ab", "c"]);
        assert_eq!(lines(&[b"10%\r", b"20%\r100%\ndone"], &none), ["100%", "done"]);
        let long = vec![b'x'; 3 * LINE];
        let cut = lines(&[&long], &none);
        assert!(cut[0].len() < LINE + 100 && cut[0].ends_with("[the rest of this line is cut]"));
    }

    #[test]
    fn secrets_are_hidden_also_where_a_line_is_cut() {
        let veil = Veil::over(["hunter22\nsecond-line", "hunter2", "ab"]);
        assert_eq!(lines(&[b"x hun", b"ter22 y hunter2 ab\nsecond-line"], &veil), ["x *** y *** ab", "***"]);
        for before in LINE - 12..LINE + 12 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(b"hunter22 and more that is cut off for sure");
            assert!(!lines(&[&text], &veil)[0].contains("hunt"), "{before}");
        }
    }

    #[test]
    fn failures_are_told_by_their_step() {
        let one = |name: &str, message: &str| failed(name, message, "").to_string();
        let builder = "process \"/bin/sh -c x\" did not complete successfully: exit code: 4";
        assert_eq!(one("[one 2/3] RUN x", builder), "the build failed at step one 2/3 (RUN x): code 4");
        assert!(one("[2/3] RUN x", "returned a non-zero code: 137").contains("memory limit"));
        let missing = one("load metadata for docker.io/a/b:1", "docker.io/a/b:1: not found");
        assert!(missing.starts_with("the base image a/b:1 does not exist"), "{missing}");
    }
}
