//! What forges show of it: of each pull request one comment, of each environment a deployment, of a fork's head a check.
//!
//! Whatever is shown follows from view and facts alone. What was shown last is a row, so that nothing is written twice; what
//! a lost call left is found and adopted by the forge's driver. Frugal: visits and sleep change nothing here, and while
//! something is only under way the comment waits for how it ends.

mod comment;
mod herald;
pub mod inert;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::fingerprint::digest;
use crate::forge::{Button, Checked, Content, Deployed, Place};
use crate::identity::{ProjectName, Ref, Sha, Trust};
use crate::policy::{Policy, ProjectPolicy, When};
use crate::view::{CommitView, RefView, State, View};

pub(crate) use herald::Herald;

/// What a forge was told to show at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldRow {
    /// The project.
    pub project: ProjectName,
    /// Where.
    pub place: Place,
    /// The hash of what is shown there; none if nothing is yet.
    pub shown: Option<String>,
    /// What the forge calls it.
    pub id: Option<u64>,
    /// How often it was written.
    pub writes: u32,
    /// When it was written last.
    pub at: crate::identity::Time,
    /// Of a deployment: the commit.
    pub sha: Option<Sha>,
    /// Of an answer: its text.
    pub answer: Option<String>,
    /// Of an answer: to whom, by number.
    pub to: Option<u64>,
}

impl ToldRow {
    /// Nothing is shown there yet.
    #[must_use]
    pub fn new(project: &ProjectName, place: Place) -> ToldRow {
        let (project, at) = (project.clone(), crate::identity::Time(0));
        ToldRow { project, place, shown: None, id: None, writes: 0, at, sha: None, answer: None, to: None }
    }
}

/// What is to stand at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// That.
    pub content: Content,
    /// Of what makes it worth writing.
    pub hash: String,
    /// Nothing will ever be shown there again.
    pub last: bool,
}

/// How far a commit is, as far as anybody has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Milestone {
    /// Nobody staged it.
    Unstaged,
    /// It comes from outside, and nobody approved it.
    Waiting,
    /// Queued, building or starting.
    UnderWay,
    /// Ready; whether awake or asleep is nobody's business.
    Ready,
    Blocked,
    Failed,
    /// On its way out: told when it is gone.
    Going,
    Gone,
}

fn milestone(commit: &CommitView) -> Milestone {
    match commit.state {
        State::Unstaged => Milestone::Unstaged,
        State::Blocked if commit.trust == Trust::Untrusted => Milestone::Waiting,
        State::Blocked => Milestone::Blocked,
        State::Queued | State::Building | State::Starting => Milestone::UnderWay,
        State::Ready | State::Dozing | State::Asleep | State::Waking => Milestone::Ready,
        State::Failed => Milestone::Failed,
        State::Removing => Milestone::Going,
        State::Superseded | State::Expired | State::Removed => Milestone::Gone,
    }
}

impl Milestone {
    /// Somebody asked for it, and it is not gone.
    fn is_staged(self) -> bool {
        matches!(self, Milestone::UnderWay | Milestone::Ready | Milestone::Blocked | Milestone::Failed)
    }
}

/// What is to be shown, everywhere.
#[must_use]
pub fn wanted(view: &View, facts: &Facts, policy: &Policy) -> BTreeMap<(ProjectName, Place), Wanted> {
    let mut all = BTreeMap::new();
    for project in &view.projects {
        let Some(settings) = policy.projects.get(&project.name).filter(|settings| settings.forge.pulls) else {
            continue;
        };
        let of = Of { facts, policy, settings, project: &project.name };
        let mut put = |place: Place, wanted: Wanted| {
            all.entry((project.name.clone(), place)).or_insert(wanted);
        };
        for shown in &project.refs {
            let Ref::Pull(number) = shown.name else { continue };
            of.pull(shown, number).into_iter().for_each(|(place, wanted)| put(place, wanted));
        }
        of.over(&project.refs).into_iter().for_each(|(place, wanted)| put(place, wanted));
    }
    all
}

/// One project.
struct Of<'a> {
    facts: &'a Facts,
    policy: &'a Policy,
    settings: &'a ProjectPolicy,
    project: &'a ProjectName,
}

impl Of<'_> {
    fn told(&self, place: &Place) -> Option<&ToldRow> {
        self.facts.told.get(&(self.project.clone(), place.clone()))
    }

    fn pull(&self, of: &RefView, number: u64) -> Vec<(Place, Wanted)> {
        let report = &self.settings.forge.report;
        let mut all = Vec::new();
        if report.comment == When::Staged {
            all.extend(self.comment(of, number).map(|wanted| (Place::Comment(number), wanted)));
        }
        if report.deployment == When::Staged {
            let deployments = of.commits.iter().filter_map(|commit| self.deployment(commit));
            all.extend(deployments);
        }
        if report.check == When::Staged && of.open {
            let head = of.commits.first();
            all.extend(head.and_then(|head| self.check(of, head)).map(|(sha, wanted)| (Place::Check(sha), wanted)));
        }
        all
    }

    /// The environment's deployment. Superseded or removed is inactive, not failed.
    fn deployment(&self, commit: &CommitView) -> Option<(Place, Wanted)> {
        let place = Place::Deployment(commit.env.clone());
        let milestone = milestone(commit);
        let (state, text) = match milestone {
            Milestone::UnderWay => (Deployed::InProgress, "being built and started".to_owned()),
            Milestone::Ready => (Deployed::Success, "ready".to_owned()),
            Milestone::Failed | Milestone::Blocked => (Deployed::Failure, line(commit)),
            Milestone::Gone => (Deployed::Inactive, line(commit)),
            Milestone::Unstaged | Milestone::Waiting | Milestone::Going => return None,
        };
        let last = milestone == Milestone::Gone;
        if last && self.told(&place).is_none() {
            return None;
        }
        let ready = milestone == Milestone::Ready;
        let reason = if ready { String::new() } else { text.clone() };
        let content = Content::Deployment {
            sha: commit.sha,
            environment: self.settings.forge.report.environment.clone(),
            state,
            text,
            url: ready.then(|| commit.url.clone()),
            log_url: self.page(&commit.sha),
        };
        let hash = digest(&[&format!("{state:?}"), &reason, &commit.url], 16);
        Some((place, Wanted { content, hash, last }))
    }

    /// What was shown of environments and pull requests that are over.
    fn over(&self, refs: &[RefView]) -> Vec<(Place, Wanted)> {
        let known = |place: &Place| match place {
            Place::Deployment(env) => refs.iter().flat_map(|of| &of.commits).any(|commit| commit.env == *env),
            Place::Comment(number) => refs.iter().any(|of| of.name == Ref::Pull(*number)),
            Place::Answer(..) | Place::Check(_) => true,
        };
        let rows = self.facts.told.values().filter(|row| row.project == *self.project && !known(&row.place));
        let over = rows.filter_map(|row| {
            if let Place::Comment(_) = row.place {
                let body = "**Sidestage**: the pull request is closed, and what was staged for it is removed.";
                let content = Content::Comment { body: body.to_owned() };
                return Some((row.place.clone(), Wanted { content, hash: "over".to_owned(), last: false }));
            }
            let content = Content::Deployment {
                sha: row.sha?,
                environment: self.settings.forge.report.environment.clone(),
                state: Deployed::Inactive,
                text: "removed".to_owned(),
                url: None,
                log_url: None,
            };
            Some((row.place.clone(), Wanted { content, hash: "over".to_owned(), last: true }))
        });
        over.collect()
    }

    /// The check of a fork's head: neutral, and the one thing that is shown of a commit that nobody staged. It says the same
    /// for as long as it is there.
    fn check(&self, of: &RefView, head: &CommitView) -> Option<(Sha, Wanted)> {
        if !of.foreign || !self.settings.forks || milestone(head) != Milestone::Waiting {
            return None;
        }
        let button = Button {
            label: "Approve and stage".to_owned(),
            text: "Runs exactly this commit here".to_owned(),
            act: "approve".to_owned(),
        };
        let content = Content::Check {
            state: Checked::Neutral,
            title: "Not staged: it comes from outside".to_owned(),
            summary: self.waiting(of, head),
            url: self.page(&head.sha),
            button: Some(button),
        };
        Some((head.sha, Wanted { content, hash: "waits".to_owned(), last: false }))
    }

    /// The commit's page in the console.
    fn page(&self, sha: &Sha) -> Option<String> {
        let console = self.policy.console_url.as_ref()?;
        Some(format!("{console}/projects/{}/{sha}", self.project))
    }
}

/// Why, in one line.
fn line(commit: &CommitView) -> String {
    let reason = commit.reason.as_deref().unwrap_or(commit.state.as_str());
    reason.lines().next().unwrap_or_default().chars().take(140).collect()
}
