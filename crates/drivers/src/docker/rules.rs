//! What a Dockerfile may hold: nothing that the classic builder cannot do, said before the build with line and way out;
//! and for foreign code nothing that reaches beyond its own tree and public base images.

use std::collections::BTreeMap;

use super::dockerfile::{Dockerfile, Instruction};

impl Dockerfile {
    /// What needs BuildKit across instructions; each by itself was checked while reading. One line with its number.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut arguments = Vec::new();
        for instruction in &self.instructions {
            if instruction.keyword == "ARG" {
                arguments.push(instruction.rest.split('=').next().unwrap_or_default().trim().to_owned());
            }
            let automatic = ["BUILDPLATFORM", "TARGETPLATFORM", "BUILDARCH", "TARGETARCH", "BUILDOS", "TARGETOS"];
            let platform = instruction.flags.iter().find(|(name, _)| name == "platform").map(|(_, value)| value);
            let named = platform.and_then(|value| {
                automatic.iter().find(|name| value.contains(**name) && !arguments.iter().any(|known| known == **name))
            });
            if let Some(name) = named {
                return Err(instruction.needs_buildkit(&format!("the automatic variable {name}"), "without --platform"));
            }
        }
        Ok(())
    }

    /// What foreign code must not do at build: reach the network through the engine, or other images than its base.
    /// Answers the base images that it names, in order.
    pub(super) fn check_foreign(&self, args: &BTreeMap<String, String>) -> Result<Vec<(usize, String)>, String> {
        let mut stages: Vec<Option<String>> = Vec::new();
        let mut arguments: BTreeMap<String, String> = BTreeMap::new();
        let mut bases = Vec::new();
        for instruction in &self.instructions {
            let refuse = |what: &str| Err(format!("{}: foreign code may not {what}", instruction.place()));
            match instruction.keyword.as_str() {
                "ARG" if stages.is_empty() => {
                    let (name, default) = instruction.rest.split_once('=').unwrap_or((&instruction.rest, ""));
                    let value = args.get(name.trim()).map_or_else(|| unquote(default), Clone::clone);
                    arguments.insert(name.trim().to_owned(), value);
                }
                "FROM" => {
                    let (image, alias) = instruction.from();
                    let image = fill(image, &arguments).ok_or_else(|| {
                        format!("{}: the base image cannot be told from {image}", instruction.place())
                    })?;
                    let known = stages.iter().flatten().any(|stage| stage.eq_ignore_ascii_case(&image));
                    if !known && image != "scratch" {
                        bases.push((instruction.line, image));
                    }
                    stages.push(alias.map(str::to_ascii_lowercase));
                }
                "ONBUILD" => return refuse("use ONBUILD"),
                "ADD" if ["://", "git@", "$", "github.com/"].iter().any(|sign| instruction.rest.contains(sign)) => {
                    return refuse("ADD what lies outside its own tree; COPY it from there");
                }
                "COPY" => {
                    let from =
                        instruction.flags.iter().find(|(name, _)| name == "from").map(|(_, value)| value.as_str());
                    let current = stages.len().saturating_sub(1);
                    let earlier = |from: &str| {
                        let named = |stage: &Option<String>| stage.as_deref() == Some(&from.to_ascii_lowercase());
                        from.parse::<usize>().map_or_else(|_| stages[..current].iter().any(named), |n| n < current)
                    };
                    if from.is_some_and(|from| !earlier(from)) {
                        return refuse("COPY --from anything but an earlier stage of its own");
                    }
                }
                _ => {}
            }
        }
        Ok(bases)
    }
}

impl Instruction {
    fn place(&self) -> String {
        format!("Dockerfile line {}", self.line)
    }

    fn needs_buildkit(&self, what: &str, instead: &str) -> String {
        format!(
            "{}: {what} needs BuildKit, and images are built with the engine's classic builder; write it {instead}",
            self.place()
        )
    }

    /// Image and alias of a `FROM`.
    fn from(&self) -> (&str, Option<&str>) {
        let mut words = self.rest.split_whitespace();
        let image = words.next().unwrap_or_default();
        let alias = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| words.next());
        (image, alias)
    }

    /// What needs BuildKit in this instruction: one line with its number and what to do.
    pub(super) fn check(&self) -> Result<(), String> {
        let allowed: &[&str] = match self.keyword.as_str() {
            "COPY" => &["from", "chown"],
            "ADD" => &["chown"],
            "FROM" => &["platform"],
            "HEALTHCHECK" => return Ok(()),
            _ => &[],
        };
        if let Some((name, _)) = self.flags.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            return Err(self.needs_buildkit(&format!("{} --{name}", self.keyword), "without it"));
        }
        if matches!(self.keyword.as_str(), "RUN" | "COPY" | "ADD") && has_heredoc(&self.rest) {
            let instead = "as one line, or as a script in the repository";
            return Err(self.needs_buildkit("a heredoc (<<)", instead));
        }
        let git = self.keyword == "ADD" && (self.rest.starts_with("git@") || self.rest.starts_with("git://"));
        if git
            || (self.keyword == "ADD" && self.rest.split_whitespace().next().is_some_and(|word| word.ends_with(".git")))
        {
            return Err(self.needs_buildkit("ADD of a git repository", "as RUN git clone"));
        }
        if self.keyword == "LABEL" && self.rest.contains("sidestage.") {
            return Err(format!("{}: labels that begin with `sidestage.` are reserved", self.place()));
        }
        Ok(())
    }
}

/// A word `<<EOF`, `<<-EOF` or `3<<EOF` outside of quotes; `<<<` and `1 << 2` are none.
fn has_heredoc(rest: &str) -> bool {
    let mut quote = None;
    let mut word = String::new();
    let mut found = false;
    let mut escaped = false;
    for c in rest.chars().chain([' ']) {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c.is_whitespace() => {
                found |= is_heredoc(&word);
                word.clear();
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            None => {}
        }
        word.push(c);
    }
    found
}

fn is_heredoc(word: &str) -> bool {
    let Some(rest) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else { return false };
    let name = rest.strip_prefix('-').unwrap_or(rest).trim_matches(['"', '\'']);
    !name.is_empty() && !name.contains('<') && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

/// Fills `$NAME` and `${NAME}`; none if a name is unknown or anything else stands behind the `$`.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let mut parts = text.split('$');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (name, behind) = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
                part.split_at(end)
            }
        };
        out.push_str(values.get(name)?);
        out.push_str(behind);
    }
    (!out.is_empty() && !out.contains(['\\', '"', '\''])).then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Dockerfile {
        Dockerfile::read(text.as_bytes()).unwrap()
    }

    fn refused(text: &str) -> String {
        match Dockerfile::read(text.as_bytes()) {
            Ok(file) => file.check().unwrap_err(),
            Err(why) => why,
        }
    }

    #[test]
    fn says_what_needs_buildkit_and_where() {
        for (text, line, what) in [
            ("FROM a\nRUN --mount=type=cache,target=/x y", 2, "RUN --mount"),
            ("FROM a\n\nRUN cat <<EOF > /a\nhello\nEOF", 3, "heredoc"),
            ("FROM a\nCOPY <<-\"EOF\" /a\nhello\nEOF", 2, "heredoc"),
            ("FROM a\nCOPY --link a b", 2, "COPY --link"),
            ("FROM a\nCOPY --chmod=755 a b", 2, "COPY --chmod"),
            ("FROM --platform=$BUILDPLATFORM a", 1, "BUILDPLATFORM"),
            ("FROM a\nADD https://x/y.git /y", 2, "git repository"),
        ] {
            let why = refused(text);
            assert!(why.starts_with(&format!("Dockerfile line {line}: ")), "{why}");
            assert!(why.contains(what) && why.contains("BuildKit"), "{why}");
        }
        for text in [
            "FROM a\nRUN x <<<y",
            "FROM a\nRUN echo $((1 << 2))",
            "FROM a\nRUN sh -c 'cat <<EOF'",
            "# syntax=x\nFROM a",
        ] {
            read(text).check().unwrap();
        }
    }

    #[test]
    fn says_what_is_no_dockerfile() {
        assert_eq!(refused("FROM a\nFOO b"), "Dockerfile line 2: there is no instruction \"FOO\"");
        assert!(refused("# nothing").contains("no FROM"));
        assert!(refused("FROM a\nLABEL sidestage.kind=container").contains("reserved"));
        assert!(Dockerfile::read(b"FROM \xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn refuses_what_foreign_code_must_not_do() {
        let none = BTreeMap::new();
        for text in [
            "FROM a\nADD http://127.0.0.1/ /x",
            "FROM a\nADD [\"https://x\", \"/x\"]",
            "FROM a\nARG U\nADD $U /x",
            "FROM a\nCOPY --from=other:1 / /",
            "FROM a\nCOPY --from=0 / /",
            "FROM a AS x\nCOPY --from=x / /",
            "FROM a\nONBUILD RUN x",
            "FROM $X",
            "ARG X=a\nFROM ${X:-b}",
        ] {
            assert!(read(text).check_foreign(&none).is_err(), "{text}");
        }
        let text = "ARG X=b\nFROM a AS One\nFROM $X:1\nCOPY --from=one / /\nCOPY --from=0 / /\nFROM one\nFROM scratch";
        let bases = read(text).check_foreign(&none).unwrap();
        assert_eq!(bases, [(2, "a".to_owned()), (3, "b:1".to_owned())]);
    }
}
