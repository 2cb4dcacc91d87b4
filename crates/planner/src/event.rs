//! What comes into the core and what leaves it: the doors of [`crate::core::Core::step`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Actor, Command, Role};
use crate::facts::Row;
use crate::forge::{Checks, Place, Pull, Report, Said};
use crate::identity::{EnvId, ProjectName, Ref, Sha, Time};
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::resource::{Action, Backend, Failure, Observed, ResourceId};
use crate::tables::Tables;
use crate::view::View;

/// Identifies one call to a driver, from `start` to `Returned`. Grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Identifies one request of a person, so that its answer finds the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A ref as a forge lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which ref.
    pub name: Ref,
    /// What it points to now.
    pub sha: Sha,
    /// From outside the project.
    pub foreign: bool,
    /// Title of the pull request, or the ref's short name.
    pub title: String,
    /// What the forge says of a pull request beside that; none of branches and tags, and of forges that know no more.
    #[serde(default)]
    pub pull: Option<Box<Pull>>,
}

/// What a commit is made of, read by git from the project's mirror. Never changes for a sha.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Hash of its tree: same tree, same recipe, same trust is one build.
    pub tree: Sha,
    /// First line of its message.
    pub subject: String,
    /// Its author's name.
    pub author: String,
    /// The commits before it, first parents only, the nearest first: as many as the forge tells, and none unless the
    /// manifest carries data on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Sha>,
    /// The manifest, or the one line that says what is wrong with it.
    pub manifest: Result<Arc<Manifest>, String>,
}

/// Something happened, or was seen. An event is a reason to look; only listings and returned calls say what exists.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Event {
    /// A forge listed all open refs of a project.
    Refs { project: ProjectName, heads: Vec<Head> },
    /// A forge did not answer: nothing is concluded, and the view says so. One line.
    NoRefs { project: ProjectName, why: String },
    /// A person asked for a branch or tag that is not watched, and the forge knows it: it is listed from now on (see
    /// [`Core::requested`](crate::core::Core::requested)). To be sent together with the command that asks for its commit.
    Found { project: ProjectName, head: Head },
    /// The configuration was read anew.
    Policy(Box<Policy>),
    /// A commit was read. The executor reads every sha that [`Step::read`] asks for.
    Read { project: ProjectName, sha: Sha, source: Result<Source, Failure> },
    /// A person asked for something; answered in [`Step::replies`].
    Asked { request: RequestId, actor: Actor, command: Command },
    /// A person asked for something on the forge, after which the project's refs were listed; `role`: what the forge lets
    /// them do here, none if nothing. Answered in [`Step::replies`], an empty line if there is nothing to answer.
    Said { request: RequestId, said: Said, role: Option<Role> },
    /// What the statuses and check runs of a commit say, which [`Step::checks`] asked for.
    Checks { project: ProjectName, sha: Sha, checks: Result<Checks, Failure> },
    /// A report of [`Step::tell`] was shown, under this number of the forge's; or not, and why.
    Told { project: ProjectName, place: Place, result: Result<u64, Failure> },
    /// Somebody requests a page of an environment that is not open: wake it, and let the visit count.
    Knock(EnvId),
    /// The edge's snapshot: last request, or now while a stream is open.
    Visits(Vec<(EnvId, Time)>),
    /// A full listing of one backend that began at this point of the sequence of calls (see [`Step::start`]).
    Listed { backend: Backend, began: Began, seen: Result<BTreeMap<ResourceId, Observed>, Failure> },
    /// A call returned. `Ok(Some)` from ensure; `Ok(None)` from rest and remove.
    Returned { call: CallId, result: Result<Option<Observed>, Failure> },
}

/// When a listing began: the time, and the last call started before it. A listing is as of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Began {
    /// When.
    pub at: Time,
    /// [`Core::begin_listing`](crate::core::Core::begin_listing) hands it out.
    pub ticket: u64,
}

/// What the executor does after a step, in this order.
#[derive(Debug, Default)]
pub struct Step {
    /// Written in one transaction before anything below happens.
    pub persist: Vec<Row>,
    /// Tables for the edge and the view for people, when they differ from the last.
    pub publish: Option<(Arc<Tables>, Arc<View>)>,
    /// Calls to make.
    pub start: Vec<(CallId, Action)>,
    /// Calls to cut: builds, and waiting for a job. They return [`Failure::Cancelled`].
    pub cancel: Vec<CallId>,
    /// Commits to read.
    pub read: Vec<(ProjectName, Sha)>,
    /// Commits whose statuses and check runs are waited for.
    pub checks: Vec<(ProjectName, Sha)>,
    /// What forges are to show. Each is answered by [`Event::Told`].
    pub tell: Vec<(ProjectName, Report)>,
    /// Backends to list again as soon as may be: what a call did there is not known, or what it removed may linger.
    pub look: BTreeSet<Backend>,
    /// Answers to people: a line of success or of refusal.
    pub replies: Vec<(RequestId, Result<String, String>)>,
    /// When to step again if nothing happens before.
    pub wake_at: Option<Time>,
}
