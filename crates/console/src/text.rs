//! Text of repositories made harmless, and times in words. Escaping for HTML is maud's; this is about characters
//! that act: controls, escape sequences of terminals, and those that turn the direction of writing.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use planner::identity::Time;

/// What stands in for a character that must not act.
const INERT: char = '\u{FFFD}';

/// Whether a character changes how others are shown, or shows nothing itself.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// One line of text from a repository, for a page or a terminal: what acts becomes `�`.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(acts) {
        Cow::Owned(text.chars().map(|c| if acts(c) { INERT } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// What a path that a manifest gives must not hold as it is, beside what is not ASCII.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'\\').add(b'^').add(b'{').add(b'|').add(b'}');

/// The address of a path that a manifest gives, below a URL.
#[must_use]
pub fn below(url: &str, path: &str) -> String {
    format!("{}/{}", url.trim_end_matches('/'), utf8_percent_encode(path.trim_start_matches('/'), PATH))
}

/// Makes a log harmless chunk by chunk: keeps lines and tabs, drops escape sequences, replaces what else acts.
#[derive(Default)]
pub(crate) struct LogCleaner {
    parser: vte::Parser,
    out: Cleaned,
}

impl LogCleaner {
    /// The next chunk, which may begin or end within an escape sequence.
    pub(crate) fn clean(&mut self, chunk: &str) -> String {
        for line in chunk.split_inclusive('\n') {
            self.parser.advance(&mut self.out, line.as_bytes());
            // A sequence that is never closed hides at most the rest of its own line.
            if line.ends_with('\n') {
                self.parser = vte::Parser::default();
                self.out.end_line();
            }
        }
        std::mem::take(&mut self.out.text)
    }
}

#[derive(Default)]
struct Cleaned {
    text: String,
    returned: bool,
}

impl Cleaned {
    fn end_line(&mut self) {
        self.returned = false;
        self.text.push('\n');
    }
}

impl vte::Perform for Cleaned {
    fn print(&mut self, c: char) {
        // A carriage return within a line is how progress is redrawn; each drawing becomes a line.
        if std::mem::take(&mut self.returned) {
            self.text.push('\n');
        }
        self.text.push(if acts(c) { INERT } else { c });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.text.push('\t'),
            b'\r' => self.returned = !self.text.is_empty(),
            _ => {}
        }
    }
}

/// How long, in one unit: `12 s`, `3 min`, `5 h`, `4 d`.
#[must_use]
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something has been under way: `12 s`, `1:17`, `2:05:09`.
#[must_use]
pub(crate) fn clock(length: Duration) -> String {
    let seconds = length.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match seconds {
        0..60 => format!("{rest} s"),
        60..3600 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// How long something took, given in milliseconds: `840 ms`, `8.4 s`, `2 min 5 s`.
#[must_use]
pub fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

/// How long ago, or in how long.
#[must_use]
pub fn relative(now: Time, then: Time) -> String {
    if then > now {
        format!("in {}", span(then.since(now)))
    } else if now.since(then) < Duration::from_secs(3) {
        "just now".to_owned()
    } else {
        format!("{} ago", span(now.since(then)))
    }
}

/// The last moment of the year 9999; what lies beyond is never.
const LAST: u64 = 253_402_300_799_000;

/// A moment in RFC 3339 (UTC, whole seconds), or `None` for never.
#[must_use]
pub fn absolute(time: Time) -> Option<String> {
    (time.0 <= LAST).then(|| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(time.0)).to_string())
}
