//! The typed rows.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Role;
use crate::event::Source;
use crate::identity::{EnvId, ProjectName, Ref, Sha, Time};
use crate::policy::Lifetime;
use crate::resource::{Owner, Reason, ResourceId};
use crate::spec::Origin;

/// A ref with the commits that it pointed to, the head last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRow {
    /// The project.
    pub project: ProjectName,
    /// Which ref.
    pub name: Ref,
    /// Its place in the order of first sight: of several refs with one slug the first keeps it.
    pub first: u64,
    /// Since when it is closed.
    pub closed: Option<Time>,
    /// From outside the project.
    pub foreign: bool,
    /// Title of the pull request, or the ref's short name.
    pub title: String,
    /// In the order of pushes, the head last. Never empty.
    pub commits: Vec<Listed>,
    /// Nobody watches it: a person asked for it, and found it at that time. A move of it asks for nothing by itself.
    #[serde(default)]
    pub requested: Option<Time>,
    /// It was asked for, and the forge does not have it any more.
    #[serde(default)]
    pub vanished: bool,
    /// Why it does not stage itself, if a filter says so.
    #[serde(default)]
    pub skipped: Option<String>,
    /// What the forge says of a pull request beside that.
    #[serde(default)]
    pub pull: Option<Box<crate::forge::Pull>>,
}

/// An image that several environments may share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Which.
    pub id: ResourceId,
    /// When it was wanted last; none while it is.
    pub left: Option<Time>,
    /// The head of a ref used it when the ref closed: kept at least until then.
    pub kept: Option<Time>,
}

impl RefRow {
    /// What the ref points to now, or pointed to last.
    #[must_use]
    pub fn head(&self) -> Option<&Listed> {
        self.commits.last()
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Where it is now, in words: `tag v5 has moved to 1a2b3c4`, `tag v5 is gone`.
    #[must_use]
    pub fn whereabouts(&self) -> String {
        let name = match &self.name {
            Ref::Pull(number) => format!("pull request {number}"),
            Ref::Branch(name) => format!("branch {name}"),
            Ref::Tag(name) => format!("tag {name}"),
        };
        match self.head().filter(|_| !self.vanished) {
            Some(head) => format!("{name} has moved to {}", head.sha.short()),
            None => format!("{name} is gone"),
        }
    }
}

/// A commit in the list of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The commit.
    pub sha: Sha,
    /// Its place in the order of events: of the last push, or of reopening.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// Pushed after the first sight, while the project stages automatically: asks for itself.
    pub automatic: bool,
}

/// A commit that was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceRow {
    /// The project.
    pub project: ProjectName,
    /// The commit.
    pub sha: Sha,
    /// What it is made of.
    pub source: Arc<Source>,
}

/// What is remembered of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvRow {
    /// Which commit, at which trust.
    pub of: Origin,
    /// Somebody asked for it, by a command. Forgotten when it goes.
    pub asked: Option<Asked>,
    /// The person who asked for it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when it holds a place of the quota.
    pub admitted: Option<Time>,
    /// The generation that is wanted.
    pub begun: Option<Begun>,
    /// The generation that was ready last. Sticky until it goes.
    pub ready: Option<Ready>,
    /// It goes, or went. While this stands nothing of it is wanted.
    pub gone: Option<Gone>,
    /// Why it went before it was begun again: what is left of those generations goes for that reason.
    pub past: Option<Gone>,
    /// A person sent it away.
    pub sent: Option<Sent>,
    /// Its removal is held back by the guard, for this reason.
    pub held: Option<Reason>,
    /// A person has confirmed that what holds it back may happen.
    pub let_go: bool,
    /// A person asked for the next generation.
    pub again: Option<Again>,
    /// The last visit.
    pub visited: Option<Time>,
    /// The last visit that is in the store.
    pub stored: Option<Time>,
    /// A person put it to sleep at that time; the next visit wakes it.
    pub slept: Option<Time>,
    /// Kept until unpinned.
    pub pinned: bool,
    /// Lives at least until then.
    pub extended: Option<Time>,
}

impl EnvRow {
    /// Nothing known yet.
    #[must_use]
    pub fn new(of: Origin) -> EnvRow {
        EnvRow {
            of,
            asked: None,
            by: None,
            admitted: None,
            begun: None,
            ready: None,
            gone: None,
            past: None,
            sent: None,
            held: None,
            let_go: false,
            again: None,
            visited: None,
            stored: None,
            slept: None,
            pinned: false,
            extended: None,
        }
    }

    /// A generation is wanted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.begun.is_some() && self.gone.is_none()
    }

    /// The generation that serves, if there is one.
    #[must_use]
    pub fn serving(&self) -> Option<u32> {
        self.ready.as_ref().filter(|_| self.is_live()).map(|ready| ready.begun.generation)
    }

    /// The generation that comes up, if one does.
    #[must_use]
    pub fn coming(&self) -> Option<u32> {
        let begun = self.begun.as_ref().filter(|_| self.is_live())?;
        (self.serving() != Some(begun.generation)).then_some(begun.generation)
    }

    /// The last sign of interest: a visit, being asked for, or having become ready.
    #[must_use]
    pub fn last(&self) -> Time {
        let asked = self.asked.map(|asked| asked.at);
        let begun = self.begun.as_ref().map(|begun| begun.at);
        let ready = self.ready.as_ref().map(|ready| ready.at);
        [self.visited, asked, begun, ready].into_iter().flatten().max().unwrap_or_default()
    }

    /// When it goes if nobody visits; none if it is pinned or never does.
    #[must_use]
    pub fn expires(&self, lifetime: &Lifetime) -> Option<Time> {
        let at = self.last().after(lifetime.ttl).max(self.extended.unwrap_or_default());
        (!self.pinned && at.0 != u64::MAX).then_some(at)
    }

    /// Whether it was visited within this time.
    #[must_use]
    pub fn visited_within(&self, span: Duration, now: Time) -> bool {
        self.visited.is_some_and(|visited| now < visited.after(span))
    }
}

/// A person asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its place in the order of events.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// Whether by a person, or taken up from what exists.
    pub person: bool,
}

/// A generation that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its number, from 1.
    pub generation: u32,
    /// When.
    pub at: Time,
    /// When it was asked for: what people wait from.
    pub asked: Time,
    /// The baseline version that its database is made from, and its bucket unless `objects` says otherwise.
    pub baseline: String,
    /// The baseline version that its bucket is made from, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<String>,
    /// The generation whose data it starts from, instead of the baseline's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// The generation that asked for a new image; 0 for the tree's ordinary one.
    pub rebuilt: u32,
    /// All its data was seen complete: it is never made again.
    pub filled: bool,
    /// It was found with containers after the store was lost: its release is over.
    pub released: bool,
    /// Why the generation before it is of no use any more, if it never was ready.
    pub cause: Option<Reason>,
}

impl Begun {
    /// The baseline version that its bucket is made from.
    #[must_use]
    pub fn objects(&self) -> &str {
        self.objects.as_deref().unwrap_or(&self.baseline)
    }
}

/// The generation of another environment whose data was carried on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Whose.
    pub env: EnvId,
    /// Which.
    pub generation: u32,
    /// The commit, for people.
    pub sha: Sha,
    /// Its database is carried on.
    pub database: bool,
    /// Its objects are.
    pub objects: bool,
}

/// A generation that became ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Which, as it was begun.
    pub begun: Begun,
    /// When.
    pub at: Time,
    /// Milliseconds since it was asked for; none if it was taken up from what exists.
    pub took: Option<u64>,
}

/// An environment that goes or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Why.
    pub reason: Reason,
    /// Its place in the order of events: only what was said later can want it again.
    pub sequence: u64,
    /// The highest generation that it had.
    pub generation: u32,
    /// When.
    pub at: Time,
}

/// A person's removal or revocation, not yet decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Which of the two.
    pub reason: Reason,
    /// Its place in the order of events.
    pub sequence: u64,
}

/// The next generation was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// When.
    pub at: Time,
    /// With a new image, built without cache.
    pub rebuild: bool,
    /// From this baseline, or this version of one; none is what the manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// Foreign code may run at exactly this sha.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The project.
    pub project: ProjectName,
    /// The commit.
    pub sha: Sha,
    /// Its place in the order of events: approving is asking for it, too.
    pub sequence: u64,
    /// The pull requests that pointed to it then.
    pub refs: Vec<Ref>,
    /// Who.
    pub by: String,
    /// Their role then.
    pub role: Role,
    /// When.
    pub at: Time,
    /// A generation must begin before that.
    pub until: Time,
    /// The generation that began by it last.
    pub used: Option<u32>,
    /// Since when it is taken back.
    pub revoked: Option<Time>,
}

/// An orphan whose removal is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Whose things.
    pub owner: Owner,
    /// When it was decided.
    pub at: Time,
}
