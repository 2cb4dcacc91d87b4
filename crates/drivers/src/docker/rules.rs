//! What a Dockerfile may hold: nothing that the builder at hand does not understand, said before the build with line and
//! way out; and for foreign code nothing that reaches beyond its own tree and public base images.

use std::collections::BTreeMap;

use super::dockerfile::{Dockerfile, HEREDOCS, Instruction};
use super::frontend::{Frontend, Since};

impl Dockerfile {
    /// What is not understood across instructions; each by itself was checked while reading. One line with its number.
    pub(super) fn check(&self, frontend: &Frontend) -> Result<(), String> {
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
                let what = format!("the automatic variable {name}");
                frontend.demand(instruction, &what, Since::Minor(0), "without --platform")?;
            }
        }
        Ok(())
    }

    /// Secrets that it mounts, by id, with the line where.
    pub(super) fn secrets(&self) -> Vec<(usize, &str)> {
        let mounts = self.instructions.iter().flat_map(|instruction| {
            let mounts = instruction.flags.iter().filter(|(name, _)| instruction.keyword == "RUN" && name == "mount");
            mounts.map(|(_, value)| (instruction.line, value))
        });
        let secret = |value: &str| part(value, "type") == Some("secret");
        mounts.filter(|(_, value)| secret(value)).filter_map(|(line, value)| Some((line, part(value, "id")?))).collect()
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
    pub(super) fn place(&self) -> String {
        format!("Dockerfile line {}", self.line)
    }

    /// Image and alias of a `FROM`.
    fn from(&self) -> (&str, Option<&str>) {
        let mut words = self.rest.split_whitespace();
        let image = words.next().unwrap_or_default();
        let alias = words.next().filter(|word| word.eq_ignore_ascii_case("as")).and_then(|_| words.next());
        (image, alias)
    }

    /// What this frontend does not understand of this instruction: one line with its number and what to do.
    pub(super) fn check(&self, frontend: &Frontend) -> Result<(), String> {
        for (name, value) in &self.flags {
            let what = format!("{} --{name}", self.keyword);
            match flag(&self.keyword, name) {
                Some(since) => frontend.demand(self, &what, since, "without it")?,
                // A frontend that the file names may be newer than this list.
                None if matches!(frontend, Frontend::Named(_)) => {}
                None => return Err(format!("{}: there is no {what}; write it without", self.place())),
            }
            self.check_value(frontend, name, value)?;
        }
        if !self.heredocs().is_empty() {
            frontend.demand(self, "a heredoc (<<)", HEREDOCS, "as one line, or as a script in the repository")?;
        }
        let first = self.rest.split_whitespace().next().unwrap_or_default();
        let git = ["git@", "git://"].iter().any(|sign| first.starts_with(sign)) || first.ends_with(".git");
        if self.keyword == "ADD" && git {
            frontend.demand(self, "ADD of a git repository", Since::Minor(6), "as RUN git clone")?;
        }
        if self.keyword == "LABEL" && self.rest.contains("sidestage.") {
            return Err(format!("{}: labels that begin with `sidestage.` are reserved", self.place()));
        }
        Ok(())
    }

    /// What no builder here does, and what is newer than the flag itself.
    fn check_value(&self, frontend: &Frontend, name: &str, value: &str) -> Result<(), String> {
        let refuse = |what: &str| Err(format!("{}: {what}", self.place()));
        match (self.keyword.as_str(), name) {
            ("RUN", "network") if value == "host" => {
                refuse("a build does not get the host's network; leave --network out")
            }
            ("RUN", "security") if value != "sandbox" => refuse("a build gets no privileges; leave --security out"),
            ("RUN", "mount") if part(value, "type") == Some("ssh") => {
                refuse("there is no SSH agent at a build; give the key as a build secret, --mount=type=secret")
            }
            ("RUN", "mount") if part(value, "type") == Some("secret") && part(value, "env").is_some() => {
                let what = "a secret as a variable (env=)";
                frontend.demand(self, what, Since::Minor(10), "without env= and read the file /run/secrets/<id>")
            }
            _ => Ok(()),
        }
    }

    /// The heredocs that begin in it: words `<<EOF`, `<<-EOF` or `3<<EOF` outside of quotes; `<<<` and `1 << 2` are none.
    pub(super) fn heredocs(&self) -> Vec<Heredoc> {
        let first = self.rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let keyword = if self.keyword == "ONBUILD" { first.as_str() } else { &self.keyword };
        if !matches!(keyword, "RUN" | "COPY" | "ADD") {
            return Vec::new();
        }
        let mut quote = None;
        let mut word = String::new();
        let mut found = Vec::new();
        let mut escaped = false;
        for c in self.rest.chars().chain([' ']) {
            match quote {
                _ if escaped => escaped = false,
                _ if c == '\\' => escaped = true,
                Some(open) if c == open => quote = None,
                Some(_) => {}
                None if c.is_whitespace() => {
                    found.extend(Heredoc::of(&word));
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
}

/// Where the lines of a heredoc end.
pub(super) struct Heredoc {
    /// The line that ends it.
    pub(super) name: String,
    /// Tabs in front of its lines do not count.
    pub(super) tabs: bool,
}

impl Heredoc {
    fn of(word: &str) -> Option<Heredoc> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (tabs, name) = rest.strip_prefix('-').map_or((false, rest), |name| (true, name));
        let name = name.trim_matches(['"', '\'']);
        let is_name = !name.contains('<') && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        is_name.then(|| Heredoc { name: name.to_owned(), tabs })
    }
}

/// The value of a key in `type=secret,id=NAME`.
fn part<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    value.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='))
}

/// Since when an instruction has this flag; none if it has not.
fn flag(keyword: &str, name: &str) -> Option<Since> {
    Some(match (keyword, name) {
        ("COPY", "from" | "chown") | ("ADD", "chown") | ("FROM", "platform") | ("HEALTHCHECK", _) => Since::Ever,
        ("COPY" | "ADD", "chmod") | ("RUN", "mount") => Since::Minor(2),
        ("RUN", "network") => Since::Minor(3),
        ("COPY" | "ADD", "link") => Since::Minor(4),
        ("ADD", "checksum" | "keep-git-dir") => Since::Minor(6),
        ("ADD", "unpack") => Since::Minor(17),
        ("COPY" | "ADD", "exclude") => Since::Minor(19),
        ("COPY", "parents") | ("RUN", "security") => Since::Minor(20),
        _ => return None,
    })
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

    const CLASSIC: Frontend = Frontend::Classic("of a test");

    fn read(text: &str) -> Dockerfile {
        Dockerfile::read(text.as_bytes(), &CLASSIC).unwrap()
    }

    fn check(text: &str, frontend: &Frontend) -> Result<(), String> {
        Dockerfile::read(text.as_bytes(), frontend)?.check(frontend)
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
            let why = check(text, &CLASSIC).unwrap_err();
            assert!(why.starts_with(&format!("Dockerfile line {line}: ")), "{why}");
            assert!(why.contains(what) && why.contains("BuildKit"), "{why}");
        }
        for text in [
            "FROM a\nRUN x <<<y",
            "FROM a\nRUN echo $((1 << 2))",
            "FROM a\nRUN sh -c 'cat <<EOF'",
            "# syntax=x\nFROM a",
        ] {
            check(text, &CLASSIC).unwrap();
        }
    }

    #[test]
    fn says_what_a_frontend_is_too_old_for() {
        let own = |minor| Frontend::Own { minor, instead_of: None };
        let named = Frontend::Named("docker/dockerfile:1".to_owned());
        for (text, minor, what) in [
            ("FROM a\nRUN --mount=type=cache,target=/x y", 2, "--mount"),
            ("FROM --platform=$BUILDPLATFORM a\nCOPY --chmod=755 a b", 2, "--chmod"),
            ("FROM a\nRUN --network=none y", 3, "RUN --network"),
            ("FROM a\nRUN <<EOF\nFOO\nEOF", 4, "heredoc"),
            ("FROM a\nCOPY --link --from=x a b", 4, "COPY --link"),
            ("FROM a\nRUN --mount=type=secret,id=A,env=A y", 10, "env="),
        ] {
            check(text, &own(minor)).unwrap();
            check(text, &named).unwrap();
            let why = check(text, &own(minor - 1)).unwrap_err();
            assert!(why.contains(&format!("syntax 1.{minor}")) && why.contains(what), "{why}");
        }
        for text in ["RUN --network=host y", "RUN --security=insecure y", "RUN --mount=type=ssh y"] {
            let why = check(&format!("FROM a\n{text}"), &named).unwrap_err();
            assert!(why.starts_with("Dockerfile line 2: "), "{why}");
        }
    }

    #[test]
    fn says_what_is_no_dockerfile() {
        let refused = |text: &str| check(text, &CLASSIC).unwrap_err();
        assert_eq!(refused("FROM a\nFOO b"), "Dockerfile line 2: there is no instruction \"FOO\"");
        assert!(refused("# nothing").contains("no FROM"));
        assert!(refused("FROM a\nUSER --x b").contains("there is no USER --x"));
        assert!(refused("FROM a\nLABEL sidestage.kind=container").contains("reserved"));
        assert!(Dockerfile::read(b"FROM \xff", &CLASSIC).unwrap_err().contains("UTF-8"));
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
