//! A table of the manifest, read key by key: whoever reads it names what is wanted, and what is left over is an error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::FILE;
use crate::units;

/// A place in the file: the line (from 1) and the key that stands there, such as `service.cache.port`.
#[derive(Debug, Clone)]
pub(super) struct Place {
    line: usize,
    key: String,
}

impl Place {
    /// The error of this place.
    pub(super) fn error(&self, what: impl Display) -> String {
        format!("{FILE} line {}: {} {what}", self.line, self.key)
    }
}

/// The file's text, for the lines of its spans.
#[derive(Clone, Copy)]
pub(super) struct Text<'t>(&'t str);

impl Text<'_> {
    fn line(self, offset: usize) -> usize {
        1 + self.0.as_bytes()[..offset.min(self.0.len())].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// One value and its place.
pub(super) struct Entry<'t> {
    pub(super) place: Place,
    text: Text<'t>,
    value: DeValue<'t>,
}

/// One table: its entries are taken out one after another, and [`Section::finish`] refuses what nobody took.
pub(super) struct Section<'t> {
    place: Place,
    text: Text<'t>,
    table: DeTable<'t>,
    known: Vec<&'static str>,
}

/// The whole file as a table.
///
/// # Errors
/// What TOML says of it, with the line.
pub(super) fn document(text: &str) -> Result<Section<'_>, String> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = Text(text).line(error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', ", ");
        // `command = [...]` and `[command.NAME]` are one key to TOML.
        let twice = message.contains("duplicate key") || message.contains("cannot extend");
        let both = twice && text.contains("[command.");
        let hint =
            if both { "; beside [command.NAME], the command of the web process is written [process.web]" } else { "" };
        format!("{FILE} line {line}: not TOML: {message}{hint}")
    })?;
    Ok(Section {
        place: Place { line: 1, key: String::new() },
        text: Text(text),
        table: table.into_inner(),
        known: Vec::new(),
    })
}

impl<'t> Section<'t> {
    /// Takes an entry out, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.known.push(key);
        let (name, value) = self.table.remove_entry(key)?;
        Some(self.entry(&name, value))
    }

    /// Takes an entry out that must be there.
    pub(super) fn need(&mut self, key: &'static str, example: &str) -> Result<Entry<'t>, String> {
        self.take(key).ok_or_else(|| self.place.error(format!("lacks {key}; add {example}")))
    }

    /// Takes all entries out, in the order of the file.
    pub(super) fn all(mut self) -> Vec<(String, Entry<'t>)> {
        let mut entries: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries.into_iter().map(|(name, value)| (name.get_ref().to_string(), self.entry(&name, value))).collect()
    }

    /// Refuses whatever is left.
    pub(super) fn finish(self) -> Result<(), String> {
        let Some(name) = self.table.keys().min_by_key(|name| name.span().start) else { return Ok(()) };
        let candidates = self.known.iter().copied();
        let hint = match nearest(name.get_ref(), candidates.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here are {}", candidates.collect::<Vec<_>>().join(", ")),
        };
        Err(self.at(name).error(format!("is not a key of the manifest; {hint}")))
    }

    /// Where it begins.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    fn at(&self, name: &Spanned<std::borrow::Cow<'t, str>>) -> Place {
        let key = shown_key(name.get_ref());
        let key = if self.place.key.is_empty() { key } else { format!("{}.{key}", self.place.key) };
        Place { line: self.text.line(name.span().start), key }
    }

    fn entry(&self, name: &Spanned<std::borrow::Cow<'t, str>>, value: Spanned<DeValue<'t>>) -> Entry<'t> {
        Entry { place: self.at(name), text: self.text, value: value.into_inner() }
    }
}

impl<'t> Entry<'t> {
    fn wanted(&self, what: &str) -> String {
        let found = match &self.value {
            DeValue::Integer(number) => format!("the integer {}", number.as_str()),
            DeValue::Float(number) => format!("the float {}", number.as_str()),
            DeValue::Boolean(value) => format!("{value}"),
            DeValue::String(text) => format!("the string {}", shown(text)),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Datetime(_) => "a date".to_owned(),
        };
        self.place.error(format!("must be {what}, not {found}"))
    }

    /// Its keys, if it is a table.
    pub(super) fn keys(&self) -> Vec<String> {
        let DeValue::Table(table) = &self.value else { return Vec::new() };
        table.keys().map(|name| name.get_ref().to_string()).collect()
    }

    /// Takes one key out of a table.
    pub(super) fn take_entry(&mut self, key: &str) -> Option<Entry<'t>> {
        let DeValue::Table(table) = &mut self.value else { return None };
        let (name, value) = table.remove_entry(key)?;
        let place = Place { line: self.text.line(name.span().start), key: format!("{}.{key}", self.place.key) };
        Some(Entry { place, text: self.text, value: value.into_inner() })
    }

    /// `true` or `false`.
    pub(super) fn boolean(self) -> Result<bool, String> {
        match self.value {
            DeValue::Boolean(value) => Ok(value),
            _ => Err(self.wanted("true or false")),
        }
    }

    /// An array of strings, perhaps empty, each with its place.
    pub(super) fn list(self, example: &str) -> Result<Vec<(Place, String)>, String> {
        let wanted = format!("an array of strings, such as {example}");
        self.items(&wanted)?.into_iter().map(|item| item.string_or(&wanted)).collect()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// A table.
    pub(super) fn section(self, example: &str) -> Result<Section<'t>, String> {
        let wanted = self.wanted(&format!("a table, such as {example}"));
        let DeValue::Table(table) = self.value else { return Err(wanted) };
        Ok(Section { place: self.place, text: self.text, table, known: Vec::new() })
    }

    /// An array; each item has a place of its own.
    fn items(self, wanted: &str) -> Result<Vec<Entry<'t>>, String> {
        let wanted = self.wanted(wanted);
        let DeValue::Array(items) = self.value else { return Err(wanted) };
        let entry = |item: Spanned<DeValue<'t>>| {
            let place = Place { line: self.text.line(item.span().start), key: self.place.key.clone() };
            Entry { place, text: self.text, value: item.into_inner() }
        };
        Ok(items.into_iter().map(entry).collect())
    }

    /// An array of tables.
    pub(super) fn sections(self, example: &str) -> Result<Vec<Section<'t>>, String> {
        let items = self.items(&format!("an array of tables, such as {example}"))?;
        items.into_iter().map(|item| item.section(example)).collect()
    }

    /// A string.
    pub(super) fn string(self) -> Result<(Place, String), String> {
        self.string_or("a string")
    }

    /// A string; `what` says in an error what it is to hold.
    fn string_or(self, what: &str) -> Result<(Place, String), String> {
        let wanted = self.wanted(what);
        let DeValue::String(text) = self.value else { return Err(wanted) };
        if text.contains('\0') {
            return Err(self.place.error("holds a NUL, which no process can be given; remove it"));
        }
        Ok((self.place, text.into_owned()))
    }

    /// A string, or `false`, which is none.
    pub(super) fn string_or_false(self) -> Result<Option<(Place, String)>, String> {
        if matches!(self.value, DeValue::Boolean(false)) {
            return Ok(None);
        }
        self.string_or("a string or false").map(Some)
    }

    /// An array of strings, not empty, the first of them not empty either.
    pub(super) fn command(self) -> Result<(Place, Vec<String>), String> {
        const WANTED: &str = r#"an array of strings, such as ["bin/web", "--port", "8080"]"#;
        let place = self.place.clone();
        let words = self.items(WANTED)?.into_iter().map(|item| Ok(item.string_or(WANTED)?.1));
        let words = words.collect::<Result<Vec<_>, String>>()?;
        if words.first().is_none_or(String::is_empty) {
            return Err(place.error(format!("is empty; write {WANTED}")));
        }
        Ok((place, words))
    }

    /// A TCP port.
    pub(super) fn port(self) -> Result<u16, String> {
        let wanted = self.wanted("a port from 1 to 65535");
        let DeValue::Integer(number) = self.value else { return Err(wanted) };
        u16::from_str_radix(number.as_str(), number.radix()).ok().filter(|port| *port > 0).ok_or(wanted)
    }

    /// A duration within bounds.
    pub(super) fn duration(self, longest: Duration) -> Result<Duration, String> {
        let (place, text) = self.string_or(r#"a duration such as "2m""#)?;
        let duration = units::parse_duration(&text).map_err(|error| place.error(format!("= {error}")))?;
        if duration.is_zero() || duration > longest {
            return Err(place.error(format!("must be from 1s to {}, not {text}", units::show_duration(longest))));
        }
        Ok(duration)
    }

    /// A size of at least so much.
    pub(super) fn size(self, least: u64) -> Result<u64, String> {
        let (place, text) = self.string_or(r#"a size such as "512m""#)?;
        let bytes = units::parse_size(&text).map_err(|error| place.error(format!("= {error}")))?;
        if bytes < least {
            return Err(place.error(format!("must be at least {}, not {text}", units::show_size(least))));
        }
        Ok(bytes)
    }

    /// A table of strings by name, with their places.
    pub(super) fn strings(self, example: &str) -> Result<BTreeMap<String, (Place, String)>, String> {
        self.section(example)?
            .all()
            .into_iter()
            .map(|(name, entry)| {
                let example = match &entry.value {
                    DeValue::Integer(number) => format!("a string: write \"{}\"", number.as_str()),
                    DeValue::Boolean(value) => format!("a string: write \"{value}\""),
                    _ => "a string".to_owned(),
                };
                Ok((name, entry.string_or(&example)?))
            })
            .collect()
    }
}

/// The candidate that was probably meant, if one is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| {
        let distance = strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
        (distance <= 1.max(candidate.len() / 3)).then_some(distance)
    };
    candidates.filter_map(|candidate| Some((near(&candidate)?, candidate))).min().map(|(_, candidate)| candidate)
}

/// A string as an error shows it: quoted, escaped, not endless.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

/// A key as an error shows it: bare if TOML would take it bare.
fn shown_key(key: &str) -> String {
    let bare = (1..=60).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare { key.to_owned() } else { shown(key) }
}
