//! Which complaints of `psql` during a load are expected: a template has no owners, rights or publications of its own.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// Statements that say what a template does not have, and that only a superuser or a role of the source's could run.
const LEFT_OUT: &[(&str, &str)] = &[
    (r"(?is)^\s*alter\s[^;]*[^;,\s]\s+owner\s+to\s[^;,]*;?\s*$", "owners"),
    (r"(?is)^\s*(grant|revoke)\s", "rights"),
    (r"(?is)^\s*alter\s+default\s+privileges\s", "rights"),
    (r"(?is)^\s*(create|alter|drop)\s+publication\s", "publications"),
    (r"(?is)^\s*(create|alter|drop)\s+subscription\s", "subscriptions"),
    (r"(?is)^\s*(create|alter|drop)\s+event\s+trigger\s", "event triggers"),
    (r"(?is)^\s*security\s+label\s", "security labels"),
    (
        r"(?is)^\s*comment\s+on\s+(extension|publication|subscription|event\s+trigger)\s",
        "comments on what is not its own",
    ),
    (r"(?is)^\s*set\s+default_tablespace\s", "tablespaces"),
];
/// `SET` of what only a newer server knows.
const UNKNOWN_SETTING: &str = "unrecognized configuration parameter";

/// Listens to what `psql --echo-errors` says.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pending: Option<Complaint>,
    left_out: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Complaint {
    line: String,
    text: String,
}

impl Judge {
    /// One line of it.
    ///
    /// # Errors
    /// `line 7: …`, when a statement was refused that is not among what is left out.
    pub(super) fn hear(&mut self, line: &str) -> Result<(), String> {
        let Some((number, said)) = located(line) else {
            return match line.strip_prefix("psql: error: ") {
                Some(text) => Err(text.to_owned()),
                None => Ok(()),
            };
        };
        if let Some(statement) = said.strip_prefix("STATEMENT:  ") {
            return match self.pending.take() {
                Some(complaint) => self.judge(&complaint, statement),
                None => Ok(()),
            };
        }
        if let Some(text) = said.strip_prefix("ERROR:  ").or_else(|| said.strip_prefix("FATAL:  ")) {
            self.end()?;
            self.pending = Some(Complaint { line: number.to_owned(), text: text.to_owned() });
        } else if let Some(text) = said.strip_prefix("error: ")
            // Ours is another word: this one came with the dump.
            && text != r"\unrestrict: wrong key"
        {
            self.end()?;
            return Err(format!("line {number}: {}", in_plain_words(text)));
        }
        Ok(())
    }

    /// Nothing follows.
    ///
    /// # Errors
    /// As [`Judge::hear`].
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.pending.take().map_or(Ok(()), |complaint| self.judge(&complaint, ""))
    }

    /// What was left out, and how many statements of it.
    pub(super) fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.left_out.iter().map(|(what, count)| (*what, *count))
    }

    fn judge(&mut self, complaint: &Complaint, statement: &str) -> Result<(), String> {
        static KNOWN: LazyLock<Vec<(Regex, &'static str)>> =
            LazyLock::new(|| LEFT_OUT.iter().map(|(text, what)| (pattern(text), *what)).collect());
        let known = KNOWN.iter().find(|(pattern, _)| pattern.is_match(statement));
        let lower = statement.trim_start().to_ascii_lowercase();
        let there = lower.starts_with("create schema ") && complaint.text.ends_with("already exists");
        let newer = lower.starts_with("set ") && complaint.text.starts_with(UNKNOWN_SETTING);
        if let Some((_, what)) = known {
            *self.left_out.entry(what).or_default() += 1;
        } else if !there && !newer {
            return Err(format!("line {}: {}", complaint.line, in_plain_words(&complaint.text)));
        }
        Ok(())
    }
}

/// A pattern of ours. One that this build cannot compile must not pass for one that never matches.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("{error}"))
}

/// The first error in what `psql` said when it stopped, with its line.
pub(super) fn said_of(text: &str) -> String {
    let mut errors = text.lines().filter_map(located).filter_map(|(number, said)| {
        let said = said.strip_prefix("ERROR:  ").or_else(|| said.strip_prefix("error: "))?;
        Some(format!("line {number}: {}", in_plain_words(said)))
    });
    let other = || text.lines().next().map(|line| in_plain_words(line.trim_start_matches("psql: error: ")));
    errors.next().or_else(other).unwrap_or_else(|| "psql failed without a word".to_owned())
}

/// Line number and words of `psql:<stdin>:7: ERROR:  …`.
fn located(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("psql:<stdin>:")?.split_once(": ")
}

fn in_plain_words(text: &str) -> String {
    if text.contains("backslash commands are restricted") {
        return "a command of psql's (a line that begins with a backslash) is not obeyed here: use SQL only, and a dump \
                without --create"
            .to_owned();
    }
    if text.contains(r"invalid command \restrict") {
        return r"psql does not know \restrict, without which a script could run commands on this machine: update \
                PostgreSQL to its latest minor version"
            .to_owned();
    }
    text.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Result<Vec<(&'static str, u64)>, String> {
        let mut judge = Judge::default();
        lines.iter().try_for_each(|line| judge.hear(line))?;
        judge.end()?;
        Ok(judge.left_out().collect())
    }

    #[test]
    fn owners_and_rights_are_left_out_and_other_errors_end_it() {
        let owner = [
            "psql:<stdin>:49: ERROR:  must be member of role \"shop\"",
            "psql:<stdin>:49: STATEMENT:  ALTER TABLE public.t OWNER TO shop;",
        ];
        let grant = [
            "psql:<stdin>:50: ERROR:  role \"x\" does not exist",
            "psql:<stdin>:50: STATEMENT:  GRANT SELECT ON TABLE t TO x;",
        ];
        assert_eq!(heard(&[owner, grant].concat()).unwrap(), [("owners", 1), ("rights", 1)]);
        let more =
            ["psql:<stdin>:9: ERROR:  x", "psql:<stdin>:9: STATEMENT:  ALTER TABLE t ADD COLUMN n int, OWNER TO x;"];
        heard(&more).expect_err("it does more than give an owner");
        let wrong = [
            "psql:<stdin>:3: ERROR:  invalid input syntax for type integer: \"a\"",
            "CONTEXT:  COPY t, line 1",
            "psql:<stdin>:3: STATEMENT:  copy t from stdin;",
        ];
        assert_eq!(heard(&wrong).unwrap_err(), "line 3: invalid input syntax for type integer: \"a\"");
        assert_eq!(heard(&["psql:<stdin>:9: error: \\unrestrict: wrong key"]).unwrap(), []);
        let command =
            heard(&["psql:<stdin>:9: error: backslash commands are restricted; only \\unrestrict is allowed"]);
        assert!(command.unwrap_err().starts_with("line 9: a command of psql's"));
        assert_eq!(heard(&["psql: error: connection to server failed"]).unwrap_err(), "connection to server failed");
    }
}
