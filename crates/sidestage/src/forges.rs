//! The forges of all projects.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use drivers::git::GitForge;
use drivers::{Forge, docker};
use planner::identity::ProjectName;
use planner::resource::Failure;
use tokio::runtime::Handle;

use crate::config::{Config, Project};
use crate::state_dir::StateDir;

/// One forge for each project. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Forges(Arc<RwLock<All>>);

/// Forges by project.
pub type All = BTreeMap<ProjectName, Arc<dyn Forge>>;

impl Forges {
    /// The forges of this configuration.
    ///
    /// # Errors
    /// One line about the first project that cannot have one.
    pub fn open(config: &Config, dir: &StateDir) -> anyhow::Result<Forges> {
        let forges = config.project.iter().map(|project| Ok((project.name.clone(), open(project, dir)?)));
        Ok(Forges(Arc::new(RwLock::new(forges.collect::<anyhow::Result<All>>()?))))
    }

    /// The forges that take the place of these with another configuration; those of which nothing changed stay the same.
    ///
    /// # Errors
    /// As [`Forges::open`].
    pub fn renewed(&self, before: &Config, after: &Config, dir: &StateDir) -> anyhow::Result<All> {
        let all = self.all();
        let forges = after.project.iter().map(|project| {
            let known = before.project.iter().find(|old| old.name == project.name && old.reads_like(project));
            let forge = known.and_then(|_| all.get(&project.name).cloned());
            Ok((project.name.clone(), forge.map_or_else(|| open(project, dir), Ok)?))
        });
        forges.collect()
    }

    /// Puts these in the place of all.
    pub fn replace(&self, all: All) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> All {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The forge of one project.
    #[must_use]
    pub fn get(&self, project: &ProjectName) -> Option<Arc<dyn Forge>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(project).cloned()
    }

    /// The engine's driver reads a build's source through the forge of its project.
    #[must_use]
    pub fn contexts(&self) -> docker::Contexts {
        let (forges, runtime) = (self.clone(), Handle::current());
        Arc::new(move |build| {
            let of = &build.of;
            let forge = forges.get(&of.project);
            let forge = forge.ok_or_else(|| Failure::permanent(format!("no project {}", of.project)))?;
            runtime.block_on(forge.context(of, &build.context, &build.dockerfile))
        })
    }
}

fn open(project: &Project, dir: &StateDir) -> anyhow::Result<Arc<dyn Forge>> {
    let mirror = dir.mirrors().join(format!("{}.git", project.name));
    let forge = GitForge::new(project.git.clone(), mirror, project.branches.clone(), &project.refs)
        .map_err(|why| anyhow::anyhow!("[[project]] {}: {why}", project.name))?;
    Ok(Arc::new(forge.with(project.source)))
}
