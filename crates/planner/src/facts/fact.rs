//! Decisions as rows, and how they are taken over.

use super::{Approval, BaselineRow, Condemned, EnvRow, Facts, ImageRow};
use crate::identity::{EnvId, ProjectName, Ref, Sha};
use crate::resource::{Owner, ResourceId};

/// One decision, as a row.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An environment as it is from now on.
    Env(Box<EnvRow>),
    /// An environment that nobody needs to remember any more.
    NoEnv(EnvId),
    /// An approval as it is from now on.
    Approval(Box<Approval>),
    /// An approval that nobody needs to remember any more.
    NoApproval(ProjectName, Sha),
    /// A ref that nobody needs to remember any more.
    NoRef(ProjectName, Ref),
    /// A commit that nobody needs to remember any more.
    NoSource(ProjectName, Sha),
    /// An orphan's removal.
    Condemned(Condemned),
    /// An orphan that is gone or is none any more.
    Pardoned(Owner),
    /// A shared image as it is from now on.
    Image(ImageRow),
    /// A shared image that is gone.
    NoImage(ResourceId),
    /// A baseline as it is from now on.
    Baseline(Box<BaselineRow>),
    /// A baseline that nobody needs to remember any more.
    NoBaseline(String),
    /// A project that is not in the configuration, and of which nothing is left.
    NoProject(ProjectName),
}

impl Facts {
    /// Takes over a decision.
    pub fn accept(&mut self, fact: Fact) {
        match fact {
            Fact::Env(row) => self.put_env(*row),
            Fact::NoEnv(id) => self.drop_env(&id),
            Fact::Approval(row) => self.put_approval(*row),
            Fact::NoApproval(project, sha) => self.drop_approval(&(project, sha)),
            Fact::NoRef(project, name) => self.drop_ref(&(project, name)),
            Fact::NoSource(project, sha) => self.drop_source(&(project, sha)),
            Fact::Condemned(row) => self.condemn(row),
            Fact::Pardoned(owner) => self.pardon(&owner),
            Fact::Image(row) => self.put_image(row),
            Fact::NoImage(id) => self.drop_image(&id),
            Fact::Baseline(row) => self.put_baseline(*row),
            Fact::NoBaseline(name) => self.drop_baseline(&name),
            Fact::NoProject(name) => self.drop_project(&name),
        }
    }
}
