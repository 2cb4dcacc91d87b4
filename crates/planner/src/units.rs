//! Durations (`15m`, `10h`, `never`) and sizes (`512m`, `1g`) as people write them.

use std::time::Duration;

const DURATIONS: [(char, u64); 5] = [('w', 7 * 86_400), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
const SIZES: [(char, u64); 4] = [('t', 1 << 40), ('g', 1 << 30), ('m', 1 << 20), ('k', 1 << 10)];

/// Reads `90s`, `15m`, `10h`, `5d` or `2w`.
///
/// # Errors
/// What a duration looks like, without the place where it was read.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    scaled(text, &DURATIONS)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not a duration: write a whole number with its unit, such as \"90s\", \"15m\", \"10h\", \"5d\" or \"2w\""))
}

/// Reads a duration, or `never`, which is [`Duration::MAX`].
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_lifetime(text: &str) -> Result<Duration, String> {
    if text == "never" {
        return Ok(Duration::MAX);
    }
    parse_duration(text).map_err(|error| format!("{error}, or \"never\""))
}

/// Reads `64k`, `512m`, `1g` or `2t` as bytes; the units are powers of 1024.
///
/// # Errors
/// What a size looks like, without the place where it was read.
pub fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES).ok_or_else(|| {
        format!("{text:?} is not a size: write a whole number with its unit, such as \"64k\", \"512m\" or \"1g\"")
    })
}

/// Writes a duration so that [`parse_lifetime`] reads it back; parts of a second are cut off.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    if duration == Duration::MAX {
        return "never".to_owned();
    }
    shown(duration.as_secs(), &DURATIONS, "s")
}

/// Writes bytes so that people can read them: `512m`, `1g`; bytes that are no whole unit as a plain number.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    shown(bytes, &SIZES, "")
}

/// Writes bytes roughly, for people: `950 B`, `12.5 MB`, `4.0 GB`; powers of 1024.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn round_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    match UNITS.iter().find(|(_, scale)| bytes >= *scale) {
        Some((name, scale)) => format!("{:.1} {name}", bytes as f64 / *scale as f64),
        None => format!("{bytes} B"),
    }
}

/// A whole number with one unit behind it; none if it is anything else or does not fit.
fn scaled(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The number in the largest unit that divides it.
fn shown(number: u64, units: &[(char, u64)], smallest: &str) -> String {
    match units.iter().find(|(_, scale)| number > 0 && number.is_multiple_of(*scale)) {
        Some((name, scale)) => format!("{}{name}", number / scale),
        None => format!("{number}{smallest}"),
    }
}

/// For `#[serde(with = "planner::units::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `15m`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_duration(*duration))
    }

    /// Reads `15m`.
    ///
    /// # Errors
    /// When it is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "planner::units::lifetime")]`: a duration or `never`.
pub mod lifetime {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    pub use super::duration::serialize;

    /// Reads `5d` or `never`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse_lifetime(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "planner::units::size")]`.
pub mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `512m`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_size(*bytes))
    }

    /// Reads `512m`.
    ///
    /// # Errors
    /// When it is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::parse_size(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "planner::units::some_size")]`: a size that is given.
pub mod some_size {
    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads `512m`.
    ///
    /// # Errors
    /// When it is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        super::parse_size(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
    }
}
