//! Hides values of secrets in text that people read: as they are, and in the forms in which programs like to print them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands in the place of a value.
const HIDDEN: &str = "***";
/// A shorter value is not hidden: it would hide words that have nothing to do with it.
pub const SHORTEST: usize = 4;
/// A shorter value is hidden as it is, but not in other forms.
const SHORTEST_FORM: usize = 6;
/// Of a longer value (a key, a certificate) only itself, its lines and its base64 are hidden.
const LONGEST_FORM: usize = 1024;
/// Where programs break lines of base64.
const WRAPPED: [usize; 2] = [64, 76];
/// A shorter line of a value of several lines is not hidden by itself.
const SHORTEST_LINE: usize = 6;

/// What JavaScript's `encodeURIComponent` and most others leave as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const LENIENT: &AsciiSet = &COMPONENT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// Values to hide. Cheap to clone; of no values it costs nothing to look through.
#[derive(Clone, Default)]
pub struct Veil(Option<Arc<Patterns>>);

struct Patterns {
    search: AhoCorasick,
    /// Sorted, to find those that begin with the end of a text.
    sorted: Vec<String>,
    longest: usize,
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Veil(…)")
    }
}

impl Veil {
    /// Hides these values.
    #[must_use]
    pub fn over<'a>(values: impl IntoIterator<Item = &'a str>) -> Veil {
        let mut all = BTreeSet::new();
        values.into_iter().for_each(|value| add_forms(value, &mut all));
        let sorted: Vec<String> = all.into_iter().collect();
        let longest = sorted.iter().map(String::len).max().unwrap_or(0);
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&sorted);
        match search {
            Ok(search) if !sorted.is_empty() => Veil(Some(Arc::new(Patterns { search, sorted, longest }))),
            Ok(_) => Veil::default(),
            // Only a search over gigabytes of values cannot be built, and none of them is that long.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// The text without the values.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            Some(patterns) if patterns.search.is_match(text) => {
                let mut out = String::with_capacity(text.len());
                patterns.search.replace_all_with(text, &mut out, |_, _, out| {
                    out.push_str(HIDDEN);
                    true
                });
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Bytes of the longest text that is hidden.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.as_ref().map_or(0, |patterns| patterns.longest)
    }

    /// For a text that comes in pieces.
    #[must_use]
    pub fn stream(&self) -> Veiled {
        Veiled { veil: self.clone(), held: String::new() }
    }
}

/// A text that comes in pieces. What may be the beginning of a value is held back until it is known.
#[derive(Debug)]
pub struct Veiled {
    veil: Veil,
    held: String,
}

impl Veiled {
    /// Takes the next piece, and gives what can be shown by now.
    pub fn push(&mut self, piece: &str) -> String {
        let Some(patterns) = &self.veil.0 else { return piece.to_owned() };
        self.held.push_str(piece);
        let mut out = String::with_capacity(self.held.len());
        let (mut at, mut open) = (0, patterns.open(&self.held, 0));
        for found in patterns.search.find_iter(&self.held) {
            // It may yet become a longer one.
            if found.start() >= open {
                break;
            }
            out.push_str(&self.held[at..found.start()]);
            out.push_str(HIDDEN);
            at = found.end();
            // What is a part of it begins nothing else.
            if open < at {
                open = patterns.open(&self.held, at);
            }
        }
        out.push_str(&self.held[at..open]);
        self.held.drain(..open);
        out
    }

    /// Gives what was held back: nothing comes any more.
    pub fn rest(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        self.veil.hide(&held).into_owned()
    }
}

impl Patterns {
    /// Where behind `from` the text ends with the beginning of a pattern; its end if it does not.
    fn open(&self, text: &str, from: usize) -> usize {
        let first = text.len().saturating_sub(self.longest.saturating_sub(1)).max(from);
        (first..text.len())
            .filter(|at| text.is_char_boundary(*at))
            .find(|at| {
                let end = &text[*at..];
                let next = self.sorted.partition_point(|pattern| pattern.as_str() <= end);
                self.sorted.get(next).is_some_and(|pattern| pattern.starts_with(end))
            })
            .unwrap_or(text.len())
    }
}

/// A value in all forms that are hidden.
fn add_forms(value: &str, all: &mut BTreeSet<String>) {
    let value = value.trim();
    if value.len() < SHORTEST {
        return;
    }
    all.insert(value.to_owned());
    if value.contains('\n') {
        all.extend(value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE).map(str::to_owned));
    }
    if value.len() < SHORTEST_FORM {
        return;
    }
    add_base64(value, all);
    if value.len() > LONGEST_FORM {
        return;
    }
    for set in [NON_ALPHANUMERIC, COMPONENT, LENIENT] {
        let encoded = utf8_percent_encode(value, set).to_string();
        all.insert(encoded.replace("%20", "+"));
        all.insert(lower_escapes(&encoded));
        all.insert(encoded);
    }
    if let Ok(quoted) = serde_json::to_string(value) {
        all.extend(quoted.get(1..quoted.len() - 1).map(str::to_owned));
    }
}

fn add_base64(value: &str, all: &mut BTreeSet<String>) {
    for encoding in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        let encoded = encoding.encode(value);
        for width in WRAPPED.into_iter().filter(|width| encoded.len() > *width) {
            let lines = encoded.as_bytes().chunks(width).filter(|line| line.len() >= SHORTEST_LINE);
            all.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        all.insert(encoded);
        if value.len() > LONGEST_FORM {
            continue;
        }
        // Within something longer, such as `user:value`, it begins at any of three places, and shares its first and its
        // last digit with what is beside it.
        for (before, first) in [(0, 0), (1, 2), (2, 3)] {
            let shifted = encoding.encode([&[0; 2][..before], value.as_bytes()].concat());
            let whole = (before + value.len()) * 8 / 6;
            all.extend(shifted.get(first..whole).map(str::to_owned));
        }
    }
}

/// `%2F` as `%2f`.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        out.push('%');
        out.push_str(&digits.to_ascii_lowercase());
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_hidden_of_no_values_and_of_short_ones() {
        assert!(Veil::default().0.is_none());
        let veil = Veil::over(["", "on", " x "]);
        assert_eq!(veil.hide("on and x"), "on and x");
        assert_eq!(veil.stream().push("on"), "on");
    }

    #[test]
    fn the_longest_value_is_hidden_whole() {
        let veil = Veil::over(["pass", "password", "word-of-mouth"]);
        assert_eq!(veil.hide("a password, a pass, a word-of-mouth"), "a ***, a ***, a ***");
        let mut stream = veil.stream();
        assert_eq!(stream.push("my pass"), "my ");
        assert_eq!(stream.push("wor"), "");
        assert_eq!(stream.push("d; pass"), "***; ");
        assert_eq!(stream.push("able\n"), "***able\n");
        assert_eq!(stream.push("end pass"), "end ");
        assert_eq!(stream.rest(), "***");
    }
}
