//! What a forge with pull requests and people says, and what it is told to show.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::{EnvId, ProjectName, Sha};

/// An account of a forge. The number decides; the login is for people's eyes, and may pass to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Person {
    /// The account's number.
    pub id: u64,
    /// Its name now.
    pub login: String,
}

/// What a forge says of a pull request beside its head: facts for the filters, none of which grants anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pull {
    /// Who opened it; none if the account is gone.
    pub author: Option<Person>,
    /// The author is no human. Its branches are foreign unless the operator lists it.
    pub bot: bool,
    /// Not yet meant to be looked at.
    pub draft: bool,
    /// Names of its labels. They ask, and never approve.
    pub labels: BTreeSet<String>,
    /// The branch that it is to go into.
    pub base: String,
    /// The number of the repository that its head lies in; none if that is gone.
    pub repository: Option<u64>,
    /// It changes no file outside of `skip.paths`. False as long as that is not known.
    pub skipped_paths: bool,
    /// Its page, for links.
    pub url: String,
}

/// The last word of one status or check run of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Queued or at work.
    Pending,
    /// It will not begin before somebody with a right to do so lets it (workflows of a first contribution).
    Awaiting,
    /// Success, neutral or skipped.
    Green,
    /// Anything else.
    Red,
}

/// What the statuses and check runs of one commit say, by their names. A name that is not here has said nothing yet.
pub type Checks = BTreeMap<String, Check>;

/// A person asked for something on the forge itself, in a comment or by a button. What they may is not known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Where.
    pub project: ProjectName,
    /// On which pull request; none of a button on a commit that belongs to none (of a fork's, which is found by the sha).
    pub pull: Option<u64>,
    /// Who: always the sender of the event, never the author of what it is about.
    pub person: Person,
    /// The first line, as typed; of a button what the button stands for, in the same words.
    pub line: String,
    /// The comment, for an answer. None of a button.
    pub comment: Option<u64>,
    /// The commit that the person saw, when the forge says so: of buttons. A comment has none.
    pub sha: Option<Sha>,
}

/// One thing that a forge shows for us. The same place again replaces what it shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The one comment of a pull request, edited in place.
    Comment(u64),
    /// An answer to one comment on a pull request, written once: pull request, comment.
    Answer(u64, u64),
    /// The deployment of an environment.
    Deployment(EnvId),
    /// The check of a commit.
    Check(Sha),
}

/// What is to stand at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub place: Place,
    /// What.
    pub content: Content,
    /// What the forge called it when it was told last. A hint: if it is wrong or missing, what is there is found and adopted.
    pub known: Option<u64>,
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Content {
    /// Of [`Place::Comment`] and [`Place::Answer`].
    Comment {
        /// Markdown. The forge's driver adds a hidden mark that says whose it is.
        body: String,
    },
    /// Of [`Place::Deployment`].
    Deployment {
        /// The commit in full.
        sha: Sha,
        /// `report.environment` of the project.
        environment: String,
        /// How far it is.
        state: Deployed,
        /// One line, cut at 140 characters.
        text: String,
        /// Where the environment is, once it is ready.
        url: Option<String>,
        /// Where its log is.
        log_url: Option<String>,
    },
    /// Of [`Place::Check`].
    Check {
        /// How far it is.
        state: Checked,
        /// One line.
        title: String,
        /// Markdown.
        summary: String,
        /// Where to go on.
        url: Option<String>,
        /// A button for those who may write.
        button: Option<Button>,
    },
}

/// States of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Deployed {
    Queued,
    InProgress,
    Success,
    Failure,
    Error,
    Inactive,
}

/// States of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Checked {
    Queued,
    InProgress,
    Success,
    Failure,
    Neutral,
}

/// A button on a check. Pressed, it comes back as [`Said::line`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What stands on it, at most 20 characters.
    pub label: String,
    /// What it does, at most 40 characters.
    pub text: String,
    /// What it stands for: `approve` or `stage`; at most 20 characters. It acts on the check's own commit.
    pub act: String,
}
