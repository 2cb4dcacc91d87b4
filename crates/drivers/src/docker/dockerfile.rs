//! Reads a Dockerfile as the engine does, and writes it out again with our labels behind every `FROM`.
//!
//! What is written out holds no comments and no gaps within an instruction, so that nothing is left which the engine
//! could read differently from us. No crate fits: none knows `# escape=`, heredocs, line numbers and continuations.

use std::fmt::Write as _;

use super::frontend::{Frontend, Since};

/// All instructions there are.
const KNOWN: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The longest Dockerfile that is read.
const LIMIT: usize = 256 << 10;

/// One instruction with all its lines.
#[derive(Debug)]
pub(super) struct Instruction {
    /// Line of its first character, from 1.
    pub(super) line: usize,
    /// In capitals.
    pub(super) keyword: String,
    /// `--name=value` or `--name`, in front of the arguments.
    pub(super) flags: Vec<(String, String)>,
    /// Everything behind the flags, lines joined.
    pub(super) rest: String,
    /// The lines as they were written, without comments and gaps.
    raw: Vec<String>,
}

/// A Dockerfile that was read.
#[derive(Debug)]
pub(super) struct Dockerfile {
    escape: char,
    pub(super) instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// The frontend that its first lines name, as in `# syntax=docker/dockerfile:1`.
    pub(super) fn syntax(bytes: &[u8]) -> Result<Option<String>, String> {
        Ok(directives(text_of(bytes)?)?.1)
    }

    /// Reads it, and makes sure that this frontend understands it. An error is one line with the line's number.
    pub(super) fn read(bytes: &[u8], frontend: &Frontend) -> Result<Dockerfile, String> {
        let text = text_of(bytes)?;
        let (escape, _) = directives(text)?;
        let mut lines = text.lines().enumerate();
        let mut instructions = Vec::new();
        while let Some((index, line)) = lines.next() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut raw = vec![line.to_owned()];
            let mut joined = String::new();
            let mut open = take(line, escape, &mut joined);
            while open {
                let Some((_, next)) = lines.next() else { break };
                if next.trim().is_empty() || next.trim_start().starts_with('#') {
                    continue;
                }
                raw.push(next.to_owned());
                open = take(next, escape, &mut joined);
            }
            if open && let Some(last) = raw.last_mut() {
                // A file that ends within an instruction: without its last continuation it is complete.
                let end = last.trim_end().trim_end_matches(escape).len();
                last.truncate(end);
            }
            let mut instruction = Instruction::read(index + 1, &joined, raw)?;
            // At once: the lines of a heredoc that is not understood are no instructions, and would be told as such.
            instruction.check(frontend)?;
            if frontend.knows(HEREDOCS) {
                instruction.take_heredocs(&mut lines)?;
            }
            instructions.push(instruction);
        }
        if !instructions.iter().any(|instruction| instruction.keyword == "FROM") {
            return Err("the Dockerfile has no FROM".to_owned());
        }
        Ok(Dockerfile { escape, instructions })
    }

    /// How many stages it has.
    pub(super) fn stages(&self) -> usize {
        self.instructions.iter().filter(|instruction| instruction.keyword == "FROM").count()
    }

    /// Written out again: the same instructions on lines of their own, `labels` behind every `FROM`. For BuildKit also
    /// an argument that is part of the key of every `RUN`: labels are none there.
    pub(super) fn write(&self, labels: &[(&str, String)], frontend: &Frontend) -> String {
        let mut out = String::new();
        if let Frontend::Named(syntax) = frontend {
            let _ = writeln!(out, "# syntax={syntax}");
        }
        if self.escape != '\\' {
            let _ = writeln!(out, "# escape={}", self.escape);
        }
        let mut label = "LABEL".to_owned();
        for (key, value) in labels {
            let _ = write!(label, " {key}=\"{value}\"");
        }
        if !frontend.is_classic() {
            let values: Vec<&str> = labels.iter().map(|(_, value)| value.as_str()).collect();
            let _ = write!(label, "\nARG SIDESTAGE_LAYERS=\"{}\"", values.join("/"));
        }
        for instruction in &self.instructions {
            for line in &instruction.raw {
                let _ = writeln!(out, "{line}");
            }
            if instruction.keyword == "FROM" {
                let _ = writeln!(out, "{label}");
            }
        }
        out
    }
}

impl Instruction {
    fn read(line: usize, joined: &str, raw: Vec<String>) -> Result<Instruction, String> {
        let joined = joined.trim();
        let (keyword, mut rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let keyword = keyword.to_ascii_uppercase();
        if !KNOWN.contains(&keyword.as_str()) {
            let shown: String = keyword.chars().take(20).collect();
            return Err(format!("Dockerfile line {line}: there is no instruction {shown:?}"));
        }
        let mut flags = Vec::new();
        while let Some(flag) = rest.trim_start().strip_prefix("--") {
            let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            flags.push((name.to_owned(), value.to_owned()));
            rest = behind;
        }
        Ok(Instruction { line, keyword, flags, rest: rest.trim().to_owned(), raw })
    }

    /// Takes the lines of its heredocs, as they are, up to their ends.
    fn take_heredocs<'a>(&mut self, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<(), String> {
        for heredoc in self.heredocs() {
            loop {
                let Some((_, line)) = lines.next() else {
                    return Err(format!("{}: its heredoc has no end, a line {:?}", self.place(), heredoc.name));
                };
                self.raw.push(line.to_owned());
                let line = if heredoc.tabs { line.trim_start_matches('\t') } else { line };
                if line == heredoc.name {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What a heredoc needs.
pub(super) const HEREDOCS: Since = Since::Minor(4);

fn text_of(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > LIMIT {
        return Err(format!("the Dockerfile has {} bytes; at most {LIMIT} are read", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "the Dockerfile is not UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("the Dockerfile holds a NUL byte".to_owned());
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Appends a line without its continuation; true if the instruction goes on.
fn take(line: &str, escape: char, joined: &mut String) -> bool {
    let end = line.trim_end_matches([' ', '\t']);
    match end.strip_suffix(escape) {
        Some(content) => {
            joined.push_str(content);
            true
        }
        None => {
            joined.push_str(line);
            false
        }
    }
}

/// Escape character and syntax of the comments that begin a Dockerfile.
fn directives(text: &str) -> Result<(char, Option<String>), String> {
    let mut escape = '\\';
    let mut syntax = None;
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "escape" => {
                escape = match value.trim() {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(format!("Dockerfile line {}: escape is either \\ or `", index + 1)),
                };
            }
            "syntax" => syntax = Some(value.trim().chars().take(100).collect()),
            "check" => {}
            _ => break,
        }
    }
    Ok((escape, syntax))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CLASSIC: Frontend = Frontend::Classic("of a test");

    fn read(text: &str) -> Dockerfile {
        Dockerfile::read(text.as_bytes(), &CLASSIC).unwrap()
    }

    #[test]
    fn writes_labels_behind_every_from_and_keeps_the_rest() {
        let text = "# a note\nARG V=1\nFROM a:$V \\\n  # inside\n\n  AS one\nRUN x && \\\n    y\n\nFROM scratch\nCOPY --from=one /a /b \\";
        let labels = [("k", "v".to_owned()), ("l", "w".to_owned())];
        let written = "ARG V=1\nFROM a:$V \\\n  AS one\nLABEL k=\"v\" l=\"w\"\nRUN x && \\\n    y\nFROM scratch\nLABEL k=\"v\" l=\"w\"\nCOPY --from=one /a /b \n";
        assert_eq!(read(text).write(&labels, &CLASSIC), written);
        assert_eq!(read(text).instructions[1].rest, "a:$V   AS one");
        assert_eq!(read(text).instructions[1].line, 3);
    }

    #[test]
    fn keeps_another_escape_character() {
        let file = read("# escape=`\nFROM scratch\nRUN a `\n  b\nCOPY a \\\nUSER 1");
        assert_eq!(file.instructions.len(), 4);
        assert_eq!(
            file.write(&[("k", String::new())], &CLASSIC),
            "# escape=`\nFROM scratch\nLABEL k=\"\"\nRUN a `\n  b\nCOPY a \\\nUSER 1\n"
        );
    }

    #[test]
    fn keeps_heredocs_as_they_are_where_they_are_known() {
        let text = "# syntax=a/b:1\nFROM scratch\nCOPY <<one <<-\"two\" /to/\n# no comment\n\nFROM \\\none\n\tx\n\ttwo\nRUN y\n";
        let named = Frontend::Named(Dockerfile::syntax(text.as_bytes()).unwrap().unwrap());
        let file = Dockerfile::read(text.as_bytes(), &named).unwrap();
        assert_eq!(file.instructions.iter().map(|i| i.keyword.as_str()).collect::<Vec<_>>(), ["FROM", "COPY", "RUN"]);
        let labels = [("k", "v".to_owned()), ("l", "w".to_owned())];
        let ours = "FROM scratch\nLABEL k=\"v\" l=\"w\"\nARG SIDESTAGE_LAYERS=\"v/w\"\n";
        assert_eq!(file.write(&labels, &named), text.replace("FROM scratch\n", ours));
        let open = Dockerfile::read(b"FROM a\nRUN <<EOF\nls\n", &named).unwrap_err();
        assert_eq!(open, "Dockerfile line 2: its heredoc has no end, a line \"EOF\"");
    }
}
