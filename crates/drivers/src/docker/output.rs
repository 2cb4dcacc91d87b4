//! What containers print: cleaned for logs and reasons, its last lines, and the stream that a console follows.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::future::ready;
use futures_util::{Stream, StreamExt};
use planner::identity::EnvId;
use planner::names;
use planner::resource::Failure;
use planner::spec::Origin;

use super::{Docker, is_absent, labels};

/// How many of its last lines a container that ended is told with.
const LAST: usize = 5;

/// How long reading them may take.
const READ: Duration = Duration::from_secs(10);

/// Text of containers without escape sequences and control characters. Newlines and tabs stay.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    // A control sequence ends with its first character from @ to ~.
                    chars.by_ref().find(|c| ('@'..='~').contains(c));
                } else if chars.next_if_eq(&']').is_some() {
                    chars.by_ref().find(|c| *c == '\u{7}' || *c == '\u{1b}');
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            // Characters that reorder the text around them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    let end = out.trim_end_matches('\n').len();
    if text.ends_with('\n') && end < out.len() {
        out.truncate(end);
    }
    out
}

impl Docker {
    /// Follows what a container of ours prints, from its last `tail` lines on: text in pieces, escape sequences removed.
    ///
    /// # Errors
    /// When there is no such container, or the engine does not answer.
    pub async fn logs(
        &self,
        env: &EnvId,
        generation: u32,
        name: &str,
        tail: usize,
        follow: bool,
    ) -> Result<Pin<Box<dyn Stream<Item = String> + Send>>, Failure> {
        let container = names::container(env, generation, name);
        let absent = || Failure::permanent(format!("there is no container {name} in generation {generation} of {env}"));
        let engine = self.engine().await?.clone();
        let seen = match engine.inspect_container(&container, None).await {
            Err(error) if is_absent(&error) => return Err(absent()),
            seen => seen.map_err(|error| self.fail("reading the log", &error))?,
        };
        let labels = seen.config.and_then(|config| config.labels).unwrap_or_default();
        let ours = labels::read(&self.inner.instance, &labels).ok_or_else(absent)?;
        let id = seen.id.ok_or_else(absent)?;
        let veil = ours.commit.map(|(project, _, trust)| self.settings().secrets.veil_of(&project, trust));
        let mut veiled = veil.unwrap_or_default().stream();
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow).tail(&tail.to_string()).build();
        let pieces = engine.logs(&id, Some(options));
        let printed = pieces
            .take_while(|piece| ready(piece.is_ok()))
            .filter_map(|piece| ready(piece.ok()))
            .map(|piece| Some(lines(&String::from_utf8_lossy(piece.as_ref()))));
        let whole = printed.chain(futures_util::stream::iter([None]));
        let shown = whole.map(move |piece| match piece {
            Some(piece) => veiled.push(&piece),
            None => veiled.rest(),
        });
        Ok(shown.filter(|text| ready(!text.is_empty())).boxed())
    }

    /// The last lines of a container of this commit for a reason: ` ; it said last: a | b`, or nothing.
    pub(super) async fn last_words(&self, container: &str, of: &Origin) -> String {
        let read = async {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&LAST.to_string()).build();
            let mut pieces = self.engine().await.ok()?.logs(container, Some(options));
            let (mut veiled, mut last) = (self.settings().secrets.veil(of).stream(), VecDeque::new());
            let mut keep = |text: &str| {
                for line in text.lines() {
                    last.push_back(line.trim().chars().take(200).collect::<String>());
                }
                while last.len() > LAST {
                    last.pop_front();
                }
            };
            while let Some(Ok(piece)) = pieces.next().await {
                keep(&veiled.push(&lines(&String::from_utf8_lossy(piece.as_ref()))));
            }
            keep(&veiled.rest());
            Some(last)
        };
        let last = tokio::time::timeout(READ, read).await.ok().flatten().unwrap_or_default();
        let said: Vec<String> = last.into_iter().filter(|line| !line.is_empty()).collect();
        if said.is_empty() { String::new() } else { format!("; it said last: {}", said.join(" | ")) }
    }
}

/// A piece of a log as clean text that keeps its line ends.
pub(super) fn lines(piece: &str) -> String {
    let mut clean = plain(piece);
    if piece.ends_with('\n') {
        clean.push('\n');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\n"), "red");
        assert_eq!(plain("\u{1b}]0;title\u{7}a\u{202e}b\u{0}\tc"), "ab\tc");
        assert_eq!(lines("a\r\nb\n"), "a\nb\n");
    }
}
