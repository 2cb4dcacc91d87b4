//! The forges of all projects.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use drivers::git::GitForge;
use drivers::github::{self, GitHub, Settings, Watched};
use drivers::{Forge, docker};
use planner::identity::ProjectName;
use planner::resource::Failure;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::{Config, Project};
use crate::state_dir::StateDir;

/// GitHub is polled this often where no webhooks come in, and where they do; and up to so much later, so that not all
/// instances ask at once. A poll of up to a hundred repositories costs one point of 5,000 an hour.
pub const POLL: [(Duration, Duration); 2] =
    [(Duration::from_secs(65), Duration::from_secs(10)), (Duration::from_secs(600), Duration::from_secs(60))];

/// One forge for each project. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Forges {
    all: Arc<RwLock<Set>>,
    instance: Arc<str>,
    pace: watch::Receiver<u64>,
}

/// Forges by project.
pub type All = BTreeMap<ProjectName, Arc<dyn Forge>>;

/// Forges of one configuration.
#[derive(Clone, Default)]
pub struct Set {
    all: All,
    /// The connection to GitHub, if a project lies there, and what it was made from.
    github: Option<(Settings, Arc<GitHub>)>,
}

impl Forges {
    /// The forges of this configuration.
    ///
    /// # Errors
    /// One line about the first project that cannot have one, or about a file that `[github]` names.
    pub fn open(config: &Config, dir: &StateDir, instance: &str) -> anyhow::Result<Forges> {
        let set = renewed(&Set::default(), None, config, dir, instance)?;
        let all = Arc::new(RwLock::new(set));
        let (tick, pace) = watch::channel(0);
        let weak = Arc::downgrade(&all);
        tokio::spawn(async move {
            loop {
                let Some(all) = weak.upgrade() else { return };
                let told = all.read().unwrap_or_else(PoisonError::into_inner).told();
                drop(all);
                let (at_least, jitter) = POLL[usize::from(told)];
                tokio::time::sleep(at_least + jitter.mul_f64(fraction())).await;
                tick.send_modify(|ticks: &mut u64| *ticks += 1);
            }
        });
        Ok(Forges { all, instance: instance.into(), pace })
    }

    /// The forges that take the place of these with another configuration; those of which nothing changed stay the same.
    ///
    /// # Errors
    /// As [`Forges::open`].
    pub fn renewed(&self, before: &Config, after: &Config, dir: &StateDir) -> anyhow::Result<Set> {
        let set = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        renewed(&set, Some(before), after, dir, &self.instance)
    }

    /// Puts these in the place of all.
    pub fn replace(&self, set: Set) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = set;
    }

    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> All {
        self.all.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The forge of one project.
    #[must_use]
    pub fn get(&self, project: &ProjectName) -> Option<Arc<dyn Forge>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).all.get(project).cloned()
    }

    /// The connection to GitHub, if a project lies there.
    #[must_use]
    pub fn github(&self) -> Option<Arc<GitHub>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).github.as_ref().map(|(_, github)| github.clone())
    }

    /// When it is time to ask GitHub: for all of its projects at once, so that one query serves them.
    #[must_use]
    pub fn pace(&self) -> watch::Receiver<u64> {
        self.pace.clone()
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

impl Set {
    /// Whether GitHub tells of changes.
    fn told(&self) -> bool {
        self.github.as_ref().is_some_and(|(_, github)| github.is_told())
    }
}

fn renewed(set: &Set, before: Option<&Config>, after: &Config, dir: &StateDir, instance: &str) -> anyhow::Result<Set> {
    let settings = after.connection(instance)?;
    let same = set.github.as_ref().filter(|(known, _)| Some(known) == settings.as_ref());
    let github = match (same, settings) {
        (Some(same), _) => Some(same.clone()),
        (None, Some(settings)) => {
            let github = GitHub::new(settings.clone()).map_err(anyhow::Error::msg)?;
            Some((settings, github))
        }
        (None, None) => None,
    };
    let forges = after.project.iter().map(|project| {
        let alike = |old: &&Project| old.name == project.name && old.reads_like(project);
        let alike = before.and_then(|before| before.project.iter().find(alike));
        let known = alike.filter(|_| project.github.is_none() || same.is_some());
        let known = known.and_then(|_| set.all.get(&project.name).cloned());
        let connection = github.as_ref().map(|(_, github)| github);
        Ok((project.name.clone(), known.map_or_else(|| open(project, dir, connection), Ok)?))
    });
    Ok(Set { all: forges.collect::<anyhow::Result<All>>()?, github })
}

fn open(project: &Project, dir: &StateDir, connection: Option<&Arc<GitHub>>) -> anyhow::Result<Arc<dyn Forge>> {
    let wrong = |why: String| anyhow::anyhow!("[[project]] {}: {why}", project.name);
    let mirror = dir.mirrors().join(format!("{}.git", project.name));
    if let (Some(repository), Some(connection)) = (&project.github, connection) {
        let watched = Watched {
            project: project.name.clone(),
            repository: repository.clone(),
            bases: project.branches.clone(),
            refs: github::globs(&project.refs).map_err(|why| wrong(format!("refs: {why}")))?,
            approvers: project.approvers()?,
            bots: project.bots.clone(),
            labels: !project.skip.labels.is_empty(),
            skip_paths: match project.skip.paths.as_slice() {
                [] => None,
                paths => Some(github::globs(paths).map_err(wrong)?),
            },
            waits: !project.wait_for.is_empty(),
            mirror,
        };
        return Ok(connection.forge(watched));
    }
    let source = project.git.clone().ok_or_else(|| wrong("git or github is missing".to_owned()))?;
    let forge = GitForge::new(source, mirror, project.branches.clone(), &project.refs).map_err(wrong)?;
    Ok(Arc::new(forge.with(project.source)))
}

/// Between 0 and 1. Without randomness from the system all ask at once, which is no harm.
fn fraction() -> f64 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
