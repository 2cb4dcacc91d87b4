//! Which commit was meant. Names are resolved here, from what is shown; only a full sha goes to the controller.

use planner::identity::{ProjectName, Ref, Sha};
use planner::view::{CommitView, ProjectView, RefView, View};

use super::Failed;

/// A commit of a project.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) project: ProjectName,
    pub(super) sha: Sha,
}

/// Whether the commit was named by all its digits.
pub(super) fn is_full(words: &[String]) -> bool {
    words.last().is_some_and(|word| word.parse::<Sha>().is_ok())
}

/// The project of that name.
pub(super) fn project<'v>(view: &'v View, name: &str) -> Result<&'v ProjectView, Failed> {
    view.projects
        .iter()
        .find(|project| project.name.as_str() == name)
        .ok_or_else(|| Failed::Usage(format!("no project {name:?}; there are: {}", names(view))))
}

fn names(view: &View) -> String {
    let names: Vec<_> = view.projects.iter().map(|project| project.name.as_str()).collect();
    if names.is_empty() { "none yet".to_owned() } else { names.join(", ") }
}

impl Target {
    /// From `[PROJECT] COMMIT`.
    pub(super) fn find(view: &View, words: &[String]) -> Result<Target, Failed> {
        let (project, word) = split(view, words)?;
        let sha = match word.parse() {
            Ok(sha) => sha,
            Err(_) => head(project, word)?,
        };
        Ok(Target { project: project.name.clone(), sha })
    }

    /// What is shown of it.
    pub(super) fn commit<'v>(&self, view: &'v View) -> Option<&'v CommitView> {
        let project = view.projects.iter().find(|project| project.name == self.project)?;
        project.refs.iter().flat_map(|of| &of.commits).find(|commit| commit.sha == self.sha)
    }

    /// Its resource of the API.
    pub(super) fn path(&self) -> String {
        format!("/api/v1/environments/{}/{}", self.project, self.sha)
    }

    pub(super) fn short(&self) -> String {
        format!("{} {}", self.project, self.sha.short())
    }

    pub(super) fn unknown(&self) -> Failed {
        Failed::Refused(format!("{} knows no commit {}: push it, or see `sidestage ls`", self.project, self.sha))
    }
}

/// The project and the word for one of its commits.
fn split<'v, 'w>(view: &'v View, words: &'w [String]) -> Result<(&'v ProjectView, &'w str), Failed> {
    match words {
        [project, word] => Ok((self::project(view, project)?, word)),
        [word] => match view.projects.as_slice() {
            [only] => Ok((only, word)),
            _ => Err(Failed::Usage(format!("name the project before {word:?}; there are: {}", names(view)))),
        },
        _ => Err(Failed::Usage("name a project and a commit".to_owned())),
    }
}

/// Project and name, when nothing that is shown goes by that name: perhaps a branch or tag that is not watched.
pub(super) fn unlisted<'v, 'w>(view: &'v View, words: &'w [String]) -> Option<(&'v ProjectName, &'w str)> {
    let (project, word) = split(view, words).ok()?;
    let listed = word.parse::<Sha>().is_ok() || project.refs.iter().any(|of| goes_by(&of.name, word));
    (!listed && begun_with(project, word).is_empty()).then_some((&project.name, word))
}

/// The head of the ref that goes by that name.
fn head(project: &ProjectView, word: &str) -> Result<Sha, Failed> {
    let called: Vec<_> = project.refs.iter().filter(|of| goes_by(&of.name, word)).collect();
    // A name in full, `branch/7`, is meant as such; otherwise what is open comes before what is closed.
    let exact = called.iter().find(|of| of.name.to_string() == word).copied();
    let open: Vec<_> = called.iter().copied().filter(|of| of.open).collect();
    let meant = if open.is_empty() { called } else { open };
    let newest = |of: &RefView| of.commits.first().map(|commit| commit.sha);
    let empty = || Failed::Refused(format!("{word} has no commit yet"));
    match (exact, meant.as_slice()) {
        (Some(of), _) => newest(of).ok_or_else(empty),
        (None, [of]) => newest(of).ok_or_else(empty),
        (None, []) => Err(unknown(project, word)),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|of| of.name.to_string()).collect();
            Err(Failed::Usage(format!("{word:?} may be {}: type one of them", names.join(" or "))))
        }
    }
}

fn goes_by(of: &Ref, word: &str) -> bool {
    match of {
        Ref::Pull(number) => {
            let bare = word.strip_prefix("pr-").or(word.strip_prefix("pr/")).or(word.strip_prefix('#')).unwrap_or(word);
            bare == number.to_string()
        }
        Ref::Branch(name) => word == name || word.strip_prefix("branch/") == Some(name),
        Ref::Tag(name) => word == name || word.strip_prefix("tag/") == Some(name),
    }
}

/// Nothing goes by that name: perhaps a sha was cut short, which never decides anything, so it is spelt out.
fn unknown(project: &ProjectView, word: &str) -> Failed {
    let full = begun_with(project, word);
    if full.is_empty() {
        return Failed::Usage(format!(
            "{} has no pull request, branch or tag {word:?}: see `sidestage ls {0}`, or name the commit by all 40 digits",
            project.name
        ));
    }
    Failed::Usage(format!("a commit is named by all 40 digits; {word} may be {}", full.join(" or ")))
}

/// The known commits whose ids begin with these digits, at least four of them.
fn begun_with(project: &ProjectView, word: &str) -> Vec<String> {
    let lower = word.to_ascii_lowercase();
    let hex = word.len() >= 4 && lower.bytes().all(|b| b.is_ascii_hexdigit());
    let mut full: Vec<_> =
        project.refs.iter().flat_map(|of| &of.commits).map(|commit| commit.sha.to_string()).collect();
    full.retain(|sha| hex && sha.starts_with(&lower));
    full.sort_unstable();
    full.dedup();
    full
}
