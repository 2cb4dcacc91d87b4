//! Acts. The outside world behind [`Driver`] and [`Forge`]: container engine, PostgreSQL, object store, git, GitHub.
//!
//! Nothing here decides: a driver is told a [`Resource`] in full and makes it so, as often as asked.

pub mod docker;
pub mod git;
pub mod github;
mod lock;
mod log;
pub mod objects;
pub mod postgres;
mod quota;
mod secrets;
mod veil;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use planner::command::Role;
use planner::event::{Head, Source};
use planner::forge::{Checks, Person, Report, Said};
use planner::identity::{ProjectName, Ref, Sha};
use planner::resource::{Failure, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::Origin;

pub use lock::Lock;
pub use log::Log;
pub use quota::Quota;
pub use secrets::{Secrets, Values};
pub use veil::{SHORTEST, Veil, Veiled};

/// What a listing covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything of this instance on the backend.
    All,
    /// What belongs to one owner.
    Owner(Owner),
}

/// What a backend holds of ours.
pub type Listing = BTreeMap<ResourceId, Observed>;

/// What acts on one backend. All calls may be repeated, lost or made twice at once for different ids;
/// the executor never runs two for one id at a time.
#[async_trait]
pub trait Driver: Send + Sync {
    /// All of ours and only ours, as of the call's beginning.
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure>;
    /// Makes it exist, complete and running as `resource.run` says; returns when that is so (a container: healthy; a job:
    /// exited with 0). Again: adopts what is under way. `needs` holds what was last observed of `resource.needs`.
    async fn ensure(&self, resource: &Resource, needs: &Listing, log: &Log) -> Result<Observed, Failure>;
    /// Lowers a container to at most `run`. Absent, or lower already, is success.
    async fn rest(&self, id: &ResourceId, run: Run) -> Result<(), Failure>;
    /// Makes it be gone. Absent is success; may return while it is still `Removing`.
    async fn remove(&self, id: &ResourceId) -> Result<(), Failure>;
}

/// Where commits come from, and where reports go.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Every open ref that is watched, in full, and those of `also` that exist: branches and tags that people asked for,
    /// be they merged or not. An error says nothing about any ref.
    async fn heads(&self, also: &BTreeSet<Ref>) -> Result<Vec<Head>, Failure>;
    /// Returns soon after something may have changed since [`Forge::heads`] looked last; where the forge tells nobody, never.
    /// A reason to look, nothing more.
    async fn changed(&self);
    /// The branch or tag of the project's own that a person means: `main`, `v5.2.1`, `branch/main`, `tag/v5.2.1`, or the
    /// full sha that one points to now. What a ref reaches is not enough: only its tip is vouched for.
    /// Permanent: there is none, with the nearest names, or a branch and a tag have the name.
    async fn find(&self, name: &str) -> Result<Head, Failure>;
    /// Fetches exactly this commit into the project's mirror and reads what it is made of.
    async fn read(&self, sha: &Sha) -> Result<Source, Failure>;
    /// Opens the source of a build: `folder` of the commit's tree and the Dockerfile's path in there.
    async fn context(&self, of: &Origin, folder: &str, dockerfile: &str) -> Result<git::Context, Failure>;
    /// Lets the mirror go of every commit that is not among these.
    async fn forget_all_but(&self, known: &BTreeSet<Sha>) -> Result<(), Failure>;
    /// What the person may do in this project now, asked of the forge anew or a few seconds ago; none if nothing. An error
    /// is no permission either.
    async fn role(&self, person: &Person) -> Result<Option<Role>, Failure>;
    /// What the statuses and check runs of these commits say now.
    async fn checks(&self, shas: &BTreeSet<Sha>) -> Result<BTreeMap<Sha, Checks>, Failure>;
    /// Shows a report and returns the forge's number for it. Again: changes what is there; what a lost call left is found
    /// and adopted. Permanent: it cannot be shown there (a locked conversation, a permission that is missing).
    async fn report(&self, report: &Report) -> Result<u64, Failure>;
}

/// A delivery of a webhook whose signature was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The forge's name for it: the same when it is delivered again.
    pub id: String,
    /// The event, and its action if it has one: `pull_request.opened`. For the log.
    pub event: String,
    /// Projects that have to be looked at. None of them: it is about nothing that is watched.
    pub look: BTreeSet<ProjectName>,
    /// A person asked for something. Judged after that look.
    pub said: Option<Said>,
}

/// A delivery that is not believed, or cannot be: one line for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No signature, or a wrong one: nothing of the body was looked at.
    #[error("{0}")]
    Unsigned(&'static str),
    /// Signed, and not what the forge's documentation says.
    #[error("{0}")]
    Malformed(String),
}
