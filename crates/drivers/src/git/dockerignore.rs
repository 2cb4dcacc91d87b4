//! `.dockerignore` as Docker reads it: the last line that matches a path, or one of the folders above it, decides.
//!
//! What counts is what a build with BuildKit sees; the older client also skips whole folders in which an exception with
//! a wildcard would have kept a file. The syntax is Go's `filepath.Match` with `**` added, quirks included, since
//! people's files rely on them. No crate fits: the globs of git and of the common crates differ in what `*`, `**` and a
//! lone name match.

use regex::Regex;

/// The patterns of one file.
#[derive(Debug, Default)]
pub struct Dockerignore {
    patterns: Vec<Pattern>,
    /// The folder looked at last and each one above it, with the patterns that cover it.
    above: Vec<(String, Vec<bool>)>,
}

#[derive(Debug)]
struct Pattern {
    /// Begins with `!`: what it matches is kept.
    keeps: bool,
    form: Form,
}

/// What is compared; the first three are forms of their own and not only shortcuts: `**x` is any path that ends so.
#[derive(Debug)]
enum Form {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(Regex),
}

impl Dockerignore {
    /// Reads the file.
    ///
    /// # Errors
    /// One line naming the pattern that is malformed, and its line; not the file.
    pub fn read(text: &str) -> Result<Dockerignore, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // A comment begins in the first column; blanks are cut only afterwards.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let pattern = Pattern::read(line.trim()).map_err(|why| format!("line {}: {why}", number + 1))?;
            patterns.push(pattern);
        }
        Ok(Dockerignore { patterns, above: Vec::new() })
    }

    /// Whether this file, by its path without a leading slash, is left out. Quick when asked folder by folder.
    pub fn excludes(&mut self, path: &str) -> bool {
        let inside = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        while self.above.last().is_some_and(|(folder, _)| !inside(folder)) {
            self.above.pop();
        }
        let known = self.above.last().map_or(0, |(folder, _)| folder.len() + 1);
        for (end, _) in path.match_indices('/').filter(|(end, _)| *end >= known) {
            let folder = &path[..end];
            let (_, matched) = self.judge(folder);
            self.above.push((folder.to_owned(), matched));
        }
        self.judge(path).0
    }

    /// Whether something below this folder, which is left out itself, may be kept all the same.
    pub(super) fn may_keep_below(&self, folder: &str) -> bool {
        let below = |text: &str| text.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.patterns.iter().filter(|pattern| pattern.keeps).any(|pattern| match &pattern.form {
            Form::Exact(text) => below(text),
            Form::Prefix(_) | Form::Suffix(_) | Form::Regex(_) => true,
        })
    }

    /// Whether a path right below the folder looked at last is left out, and the patterns that cover it.
    ///
    /// A pattern that would change nothing is not asked, and so does not cover what lies below: behind `x/y` an
    /// exception for `x` comes too late for `x/y`, since when `x` was met there was nothing to be an exception to.
    fn judge(&self, path: &str) -> (bool, Vec<bool>) {
        let above = self.above.last().map(|(_, matched)| matched);
        let mut excluded = false;
        let mut covers = |(at, pattern): (usize, &Pattern)| {
            let covered = above.is_some_and(|above| above[at]) || (pattern.keeps == excluded && pattern.matches(path));
            if covered {
                excluded = !pattern.keeps;
            }
            covered
        };
        let matched = self.patterns.iter().enumerate().map(&mut covers).collect();
        (excluded, matched)
    }
}

impl Pattern {
    fn read(line: &str) -> Result<Pattern, String> {
        let (keeps, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            return Err("`!` names nothing; write what to keep behind it".to_owned());
        }
        let pattern = cleaned(pattern);
        Ok(Pattern { keeps, form: Form::read(&pattern).ok_or_else(|| format!("{pattern:?} is not a pattern"))? })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact(text) => path == text,
            Form::Prefix(text) => path.starts_with(text.as_str()),
            Form::Suffix(text) => path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path),
            Form::Regex(regex) => regex.is_match(path),
        }
    }
}

impl Form {
    /// None if it is malformed: a class that does not end, a backslash with nothing behind.
    fn read(pattern: &str) -> Option<Form> {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return Some(Form::Exact(pattern.to_owned()));
        }
        if let Some(rest) = pattern.strip_prefix("**").filter(|rest| plain(rest)) {
            return Some(Form::Suffix(rest.to_owned()));
        }
        if let Some(rest) = pattern.strip_suffix("**").filter(|rest| plain(rest)) {
            return Some(Form::Prefix(rest.to_owned()));
        }
        Regex::new(&translated(pattern)?).ok().map(Form::Regex)
    }
}

/// The pattern as a regular expression.
fn translated(pattern: &str) -> Option<String> {
    let mut regex = "^".to_owned();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                regex.push_str(if chars.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '\\' => regex.push_str(&regex::escape(&chars.next()?.to_string())),
            '[' => regex.push_str(&class(&mut chars)?),
            other => regex.push_str(&regex::escape(&other.to_string())),
        }
    }
    regex.push('$');
    Some(regex)
}

/// What stands between `[` and `]`: characters and ranges, `^` first for all others.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut class = if chars.next_if_eq(&'^').is_some() { "[^" } else { "[" }.to_owned();
    let member = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        other => Some(other),
    };
    let empty = class.len();
    loop {
        if class.len() > empty && chars.next_if_eq(&']').is_some() {
            class.push(']');
            return Some(class);
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { member(chars)? } else { low };
        // Hexadecimal, so that no character means anything to the regular expression.
        class.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", low as u32, high as u32));
    }
}

/// The shortest form of a path pattern: no `.`, no `..` that can be resolved, single slashes, none at either end.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let rooted = pattern.starts_with('/');
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}
