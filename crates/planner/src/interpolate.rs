//! `${NAME}` in `[env]`, `env` and commands: once, no defaults, no nesting, no shell.
//!
//! `$` without `{` is itself and `$${` a plain `${`. `${random:N}` is N hex digits and `${random_base64:N}` N bytes in
//! base64, fixed per environment and variable.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};

use crate::identity::{EnvId, InstanceKey};

/// The most digits or bytes that one random part may have.
pub const LONGEST_RANDOM: usize = 1024;

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Stands for itself.
    Text(&'a str),
    /// `${NAME}`: the value of that name.
    Name(&'a str),
    /// `${random:N}`: this many hex digits.
    Hex(usize),
    /// `${random_base64:N}`: this many bytes.
    Base64(usize),
}

/// Splits a template into its parts.
///
/// # Errors
/// One line naming what is malformed, without the place where the template stands.
pub fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${`: the first `$` goes, the rest is text.
            found.push(Piece::Text(&rest[..at - 1]));
            found.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        found.push(Piece::Text(&rest[..at]));
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or("`${` without `}`: close it, or write `$${` for a plain `${`")?;
        found.push(placeholder(&inner[..end])?);
        rest = &inner[end + 1..];
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    Ok(found)
}

/// What stands between `${` and `}`.
fn placeholder(inner: &str) -> Result<Piece<'_>, String> {
    let is_name = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && text.starts_with(|c: char| !c.is_ascii_digit())
    };
    let shown: String = inner.chars().take(60).flat_map(char::escape_debug).collect();
    match inner.split_once(':') {
        None if is_name(inner) && !inner.is_empty() => Ok(Piece::Name(inner)),
        Some((form @ ("random" | "random_base64"), count)) => {
            let count = Some(count)
                .filter(|count| count.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|count| count.parse().ok())
                .filter(|count| (1..=LONGEST_RANDOM).contains(count))
                .ok_or_else(|| format!("`${{{shown}}}`: the number must be 1 to {LONGEST_RANDOM}"))?;
            Ok(if form == "random" { Piece::Hex(count) } else { Piece::Base64(count) })
        }
        _ => Err(format!(
            "`${{{shown}}}`, which is neither `${{NAME}}` nor `${{random:N}}` nor `${{random_base64:N}}`; there are no defaults and no nesting, and a plain `${{` is written `$${{`"
        )),
    }
}

/// Where the random parts of one variable come from: fixed per environment and variable, derived from the instance key.
#[derive(Debug, Clone, Copy)]
pub struct Random<'a> {
    /// The instance's secret.
    pub key: &'a InstanceKey,
    /// The environment.
    pub env: &'a EnvId,
    /// The variable's name.
    pub variable: &'a str,
}

impl Random<'_> {
    /// The first `length` bytes of the stream that belongs to the variable's n-th random part.
    fn bytes(&self, part: usize, length: usize) -> Vec<u8> {
        let part = part.to_string();
        let block = |n: usize| self.key.derive("random", &[self.env.as_str(), self.variable, &part, &n.to_string()]);
        (0..length.div_ceil(32)).flat_map(block).take(length).collect()
    }
}

/// Replaces every `${…}` of a template, once: what a value contains is data. Without `random`, random parts are refused.
///
/// # Errors
/// One line naming the unknown or malformed name.
pub fn fill(template: &str, values: &BTreeMap<String, String>, random: Option<Random<'_>>) -> Result<String, String> {
    let mut filled = String::with_capacity(template.len());
    let mut part = 0;
    let mut bytes = |length: usize| {
        let random = random.ok_or("a random part cannot stand here")?;
        part += 1;
        Ok::<_, String>(random.bytes(part, length))
    };
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Name(name) => {
                filled.push_str(values.get(name).ok_or_else(|| format!("`${{{name}}}`: there is no such variable"))?);
            }
            Piece::Hex(digits) => filled.push_str(&HEXLOWER.encode(&bytes(digits.div_ceil(2))?)[..digits]),
            Piece::Base64(length) => filled.push_str(&BASE64.encode(&bytes(length)?)),
        }
    }
    Ok(filled)
}
