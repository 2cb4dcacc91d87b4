//! Refs: which are watched, and which one a person means.

use std::collections::{BTreeSet, HashSet};

use planner::event::Head;
use planner::identity::{Ref, Sha};
use planner::resource::Failure;

use super::GitForge;
use super::mirror::QUICK;
use super::run::{Error, clean};

/// How like a name must be to the one that was typed to be worth a mention; 1 is the same.
const LIKE: f64 = 0.7;
/// Names that are mentioned at most.
const MOST_LIKE: usize = 3;

/// A ref as the repository has it.
pub(super) struct Listed {
    full: String,
    /// The commit, behind an annotated tag too.
    sha: Sha,
    subject: String,
}

impl Listed {
    /// A branch or tag as a head: refs of the project's own.
    fn own(&self) -> Option<Head> {
        let head =
            |name: Ref, title: &str| Head { name, sha: self.sha, foreign: false, title: title.to_owned(), pull: None };
        if let Some(branch) = self.full.strip_prefix("refs/heads/") {
            return Some(head(Ref::Branch(branch.to_owned()), branch));
        }
        self.full.strip_prefix("refs/tags/").map(|tag| head(Ref::Tag(tag.to_owned()), tag))
    }

    /// Reads a line of [`GitForge::list`]; none if it is no ref to a commit.
    fn read(line: &[u8]) -> Option<Result<Listed, Error>> {
        let fields: Vec<&[u8]> = line.splitn(6, |byte| *byte == 0).collect();
        let text = |at: usize| std::str::from_utf8(fields.get(at)?).ok();
        // A name that is no text cannot be shown, typed or stored.
        let full = text(0)?.to_owned();
        let sha = match (text(1)?, text(3)?) {
            ("commit", _) => text(2)?,
            (_, "commit") => text(4)?,
            _ => return None,
        };
        let subject = clean(&String::from_utf8_lossy(fields.get(5)?), 200);
        // Were they passed over, all refs of such a repository would seem closed.
        let sha = sha.parse().map_err(|_| Error::Refused("it names commits by SHA-256, which is not supported".into()));
        Some(sha.map(|sha| Listed { full, sha, subject }))
    }
}

/// A branch by its name.
fn tip<'a>(all: &'a [Listed], branch: &str) -> Option<&'a Listed> {
    all.iter().find(|listed| listed.full.strip_prefix("refs/heads/") == Some(branch))
}

impl GitForge {
    /// All refs that point to commits, of versions the newest first.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Error> {
        const FORMAT: &str = "--format=%(refname)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)%00%(contents:subject)";
        let source = self.mirror.source();
        let args = ["for-each-ref", FORMAT, "--sort=-version:refname", "refs/heads", "refs/tags", "refs/pull"];
        let lines = self.mirror.git.run(&source, &args, QUICK).await?;
        lines.split(|byte| *byte == b'\n').filter_map(Listed::read).collect()
    }

    /// What the bases point to now.
    pub(super) async fn base_tips(&self) -> Result<Vec<Sha>, Failure> {
        let all = self.list().await.map_err(|error| self.mirror.unanswered(&error))?;
        let tips = self.bases.iter().filter_map(|base| tip(&all, base));
        Ok(tips.map(|listed| listed.sha).collect())
    }

    /// Full names of branches and pull requests whose tips no base reaches.
    pub(super) async fn unmerged(&self, all: &[Listed]) -> Result<HashSet<String>, Error> {
        let merged =
            self.bases.iter().filter_map(|base| tip(all, base)).map(|base| format!("--no-merged={}", base.sha));
        let mut args = vec!["for-each-ref".to_owned(), "--format=%(refname)".to_owned()];
        args.extend(merged);
        args.extend(["refs/heads".to_owned(), "refs/pull".to_owned()]);
        let lines = self.mirror.git.run(&self.mirror.source(), &args, QUICK).await?;
        Ok(lines.split(|byte| *byte == b'\n').filter_map(|line| String::from_utf8(line.to_vec()).ok()).collect())
    }

    /// The ref as the planner knows it, if it is one that is staged.
    pub(super) fn head(&self, listed: &Listed, unmerged: &HashSet<String>, also: &BTreeSet<Ref>) -> Option<Head> {
        let sha = listed.sha;
        let open = || unmerged.contains(&listed.full);
        if let Some(head) = listed.own() {
            let watched = match &head.name {
                Ref::Branch(branch) if !self.bases.contains(branch) => open(),
                Ref::Branch(name) | Ref::Tag(name) => self.refs.is_match(name),
                Ref::Pull(_) => false,
            };
            return (watched || also.contains(&head.name)).then_some(head);
        }
        let text = listed.full.strip_prefix("refs/pull/")?.strip_suffix("/head")?;
        // `07` would be a second name of 7.
        let number: u64 = text.parse().ok().filter(|number: &u64| number.to_string() == text)?;
        open().then(|| Head { name: Ref::Pull(number), sha, foreign: true, title: listed.subject.clone(), pull: None })
    }

    /// The branch or tag that a person means by a name: `branch/x` and `tag/x` say which; a full sha is one of a tip.
    pub(super) async fn pick(&self, all: &[Listed], name: &str) -> Result<Head, Failure> {
        let own = || all.iter().filter_map(Listed::own);
        if let Some(head) = name.parse().ok().and_then(|wanted: Ref| own().find(|head| head.name == wanted)) {
            return Ok(head);
        }
        if let Ok(sha) = name.parse::<Sha>() {
            let tips = own().filter(|head| head.sha == sha);
            return match tips.min_by_key(|head| !matches!(head.name, Ref::Branch(_))) {
                Some(head) => Ok(head),
                None => Err(Failure::permanent(self.no_tip(&sha).await)),
            };
        }
        let mut named = own().filter(|head| head.title == name);
        match (named.next(), named.next()) {
            (Some(head), None) => Ok(head),
            (Some(_), Some(_)) => {
                Err(Failure::permanent(format!("{name} is both a branch and a tag: write branch/{name} or tag/{name}")))
            }
            (None, _) => {
                let names: Vec<String> = own().map(|head| head.title).collect();
                Err(Failure::permanent(unknown(name, &names)))
            }
        }
    }

    /// Why a commit that no branch or tag points to is not staged by its sha.
    async fn no_tip(&self, sha: &Sha) -> String {
        let args = [
            "for-each-ref",
            "--count=1",
            "--format=%(refname:short)",
            "--contains",
            &sha.to_string(),
            "refs/heads",
            "refs/tags",
        ];
        let within = self.mirror.git.run(&self.mirror.source(), &args, QUICK).await.unwrap_or_default();
        match clean(&String::from_utf8_lossy(&within), 200) {
            name if name.is_empty() => format!("no branch or tag points to the commit {sha}"),
            name => format!(
                "the commit {sha} is part of {name}, and no branch or tag points to it now; only what one points to is \
                 staged: push a tag to it"
            ),
        }
    }
}

/// The line for a name that nothing has, with those that may have been meant.
pub(crate) fn unknown(name: &str, names: &[String]) -> String {
    let wanted = name.strip_prefix("branch/").or_else(|| name.strip_prefix("tag/")).unwrap_or(name);
    let begin: Vec<&str> = names.iter().map(String::as_str).filter(|known| known.starts_with(wanted)).collect();
    let like = |known: &str| strsim::jaro_winkler(&wanted.to_lowercase(), &known.to_lowercase());
    let mut near: Vec<(f64, &str)> = names.iter().map(|known| (like(known), known.as_str())).collect();
    near.retain(|(like, _)| *like >= LIKE);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near =
        if begin.is_empty() || wanted.is_empty() { near.into_iter().map(|(_, known)| known).collect() } else { begin };
    let mut shown: Vec<&str> = Vec::new();
    for known in near {
        if !shown.contains(&known) && shown.len() < MOST_LIKE {
            shown.push(known);
        }
    }
    let name = clean(name, 100);
    if shown.is_empty() {
        return format!("no branch or tag {name}");
    }
    format!("no branch or tag {name}; nearest: {}", shown.join(", "))
}
