//! Judges data: what each environment's begin with, which versions are offered, what becomes of those that nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use planner::command::{BaselineAct, Command};
use planner::event::Step;
use planner::facts::{EMPTY, EMPTY_NAME, parse_version};
use planner::identity::{EnvId, ProjectName, Sha, Trust};
use planner::resource::{Action, Kind, Owner, Phase, Reason, Resource, ResourceId};
use planner::spec::{DataFrom, DatabaseFrom, Spec};
use planner::view::{VersionState, VersionView, View};

use super::{Oracle, World};

/// What the judge remembers of baselines.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Versions that were ever shown as good to start from.
    offered: BTreeSet<String>,
    /// The version that is shown as current, by baseline, and the one before it.
    current: BTreeMap<String, (String, Option<String>)>,
    /// Tables and bytes of versions as they were shown last.
    sizes: BTreeMap<String, (u64, u64)>,
    /// Versions that an admin has taken by hand.
    taken: BTreeSet<String>,
    /// Baselines, and versions of them, that an admin has removed.
    removed: BTreeSet<String>,
    /// Baselines that people have chosen for a commit, by name.
    chosen: BTreeMap<(ProjectName, Sha), BTreeSet<String>>,
    /// Commits before a commit.
    pub ancestors: BTreeMap<(ProjectName, Sha), Vec<Sha>>,
    /// Generations whose data are being copied.
    pub copied: BTreeSet<(EnvId, u32)>,
}

impl Data {
    /// Nobody remembers anything of what there was.
    pub fn lose(&mut self) {
        let ancestors = std::mem::take(&mut self.ancestors);
        *self = Data { ancestors, ..Data::default() };
    }

    /// A person's command was granted.
    pub fn granted(&mut self, command: &Command) {
        match command {
            Command::Baseline { name, act } => match act {
                BaselineAct::Create(_) | BaselineAct::Refresh => {}
                BaselineAct::Use(number) => drop(self.taken.insert(format!("{name}@{number}"))),
                BaselineAct::Remove(Some(number)) => drop(self.removed.insert(format!("{name}@{number}"))),
                BaselineAct::Remove(None) => {
                    self.removed.insert(name.clone());
                    self.current.remove(name);
                }
            },
            Command::Reset { project, sha, baseline: Some(baseline) } => {
                let name = parse_version(baseline).map_or(baseline.as_str(), |(name, _)| name);
                let name = if baseline == EMPTY { EMPTY_NAME } else { name };
                self.chosen.entry((project.clone(), *sha)).or_default().insert(name.to_owned());
            }
            _ => {}
        }
    }
}

impl Oracle {
    /// What the view says of baselines: nothing is offered that read nothing, lost tables or shrank.
    pub(super) fn judge_offers(&mut self, view: &View, world: &World) -> Result<(), String> {
        for baseline in &view.baselines {
            for version in baseline.versions.iter().filter(|version| version.version != EMPTY) {
                let size = (version.tables.unwrap_or(0), version.database.unwrap_or(0));
                let good = matches!(version.state, VersionState::Current | VersionState::Ready);
                if good && !self.data.offered.contains(&version.version) {
                    self.judge_offer(version, size, world)?;
                }
                if good {
                    self.data.offered.insert(version.version.clone());
                    self.data.sizes.insert(version.version.clone(), size);
                }
            }
            let Some(current) = baseline.current.clone().filter(|current| current != EMPTY) else { continue };
            let before = self.data.current.get(&baseline.name).cloned();
            match before {
                Some((last, _)) if last == current => {}
                Some((last, _)) => {
                    self.judge_swap(&last, &current)?;
                    self.data.current.insert(baseline.name.clone(), (current, Some(last)));
                }
                None => drop(self.data.current.insert(baseline.name.clone(), (current, None))),
            }
        }
        Ok(())
    }

    fn judge_offer(&self, version: &VersionView, size: (u64, u64), world: &World) -> Result<(), String> {
        let name = &version.version;
        let whole = [ResourceId::template(name), ResourceId::snapshot(name)]
            .iter()
            .all(|id| world.completed.iter().any(|(one, _)| one == id));
        if !whole {
            return Err(format!("{name} is offered, and was never complete"));
        }
        // A dump with nothing in it comes to one byte.
        if size == (0, 1) && !self.data.taken.contains(name) && self.lost.is_none() {
            return Err(format!("{name} is offered, and it read nothing"));
        }
        Ok(())
    }

    fn judge_swap(&self, last: &str, current: &str) -> Result<(), String> {
        let (Some(old), Some(new)) = (self.data.sizes.get(last), self.data.sizes.get(current)) else { return Ok(()) };
        let shrank = new.0 < old.0 || new.1 * 2 < old.1;
        if shrank && !self.data.taken.contains(current) && !self.data.taken.contains(last) && self.lost.is_none() {
            return Err(format!(
                "{current} took the place of {last}, though it lost tables or shrank: {new:?} of {old:?}"
            ));
        }
        Ok(())
    }

    /// What an environment's data begin with.
    pub(super) fn judge_origin(&self, resource: &Resource, world: &World) -> Result<(), String> {
        let (Spec::Database { of, from, .. } | Spec::Bucket { of, from, .. }) = &resource.spec else { return Ok(()) };
        let id = &resource.id;
        if self.told.exists(id) || world.things.contains_key(id) {
            return Ok(());
        }
        let commit = (of.project.clone(), of.sha);
        let manifest = self.manifests.get(&commit);
        match from {
            DataFrom::Carry { from, .. } => {
                let Owner::Env(env) = &from.owner else { return Err(format!("{id} is carried on from {from}")) };
                let source = self.names.get(env);
                let own = source.is_some_and(|(project, _, trust)| *project == of.project && *trust == Trust::Trusted);
                if of.trust.is_foreign() || !own {
                    return Err(format!("{id} of {} code is carried on from {from}", of.trust));
                }
                let known = self.data.ancestors.get(&commit);
                let follows = source.is_some_and(|(_, sha, _)| known.is_some_and(|known| known.contains(sha)));
                if !follows || manifest.is_none_or(|manifest| !manifest.carry) {
                    return Err(format!("{id} is carried on from {from}, and does not follow it"));
                }
                if self.lost.is_none() && !self.generation_was_ready(world, env, from.generation) {
                    return Err(format!("{id} is carried on from {from}, which was never ready"));
                }
                Ok(())
            }
            DataFrom::Baseline(version) => self.judge_version(resource, &commit, of.trust, version, world),
        }
    }

    fn judge_version(
        &self,
        resource: &Resource,
        commit: &(ProjectName, Sha),
        trust: Trust,
        version: &str,
        world: &World,
    ) -> Result<(), String> {
        let id = &resource.id;
        let project = self.policy.projects.get(&commit.0).ok_or("an environment of no project")?;
        let name = parse_version(version).map_or(version, |(name, _)| name);
        let empty = version == EMPTY;
        if trust.is_foreign() {
            let fits = if project.fork_baseline == EMPTY_NAME { empty } else { name == project.fork_baseline };
            if !fits {
                return Err(format!("{id} of foreign code begins with {version}"));
            }
        } else {
            let manifest = self.manifests.get(commit);
            let named = manifest.and_then(|manifest| {
                if id.kind == Kind::Database { manifest.database.clone() } else { manifest.objects.clone() }
            });
            let chosen = self.data.chosen.get(commit);
            let wanted = |one: &str| named.as_deref() == Some(one) || chosen.is_some_and(|chosen| chosen.contains(one));
            let fits = if empty { wanted(EMPTY_NAME) || wanted("default") } else { wanted(name) };
            if !fits || !empty && !project.baselines.contains(name) {
                return Err(format!("{id} begins with {version}, and its manifest names {named:?}"));
            }
        }
        if empty {
            return Ok(());
        }
        if !self.data.offered.contains(version) {
            return Err(format!("{id} begins with {version}, which was never offered"));
        }
        let part =
            if id.kind == Kind::Database { ResourceId::template(version) } else { ResourceId::snapshot(version) };
        let whole = world.things.get(&part).is_some_and(|thing| thing.observed.phase == Phase::Whole);
        if whole || self.told.complete(&part) {
            Ok(())
        } else {
            Err(format!("{id} begins with {version}, which is not there"))
        }
    }

    /// Template and snapshot are made once; clones ahead are of what is offered.
    pub(super) fn judge_baseline(&self, resource: &Resource, world: &World) -> Result<(), String> {
        let Owner::Baseline(version) = &resource.id.owner else { return Ok(()) };
        let id = &resource.id;
        let there = self.told.exists(id) || world.things.contains_key(id);
        match &resource.spec {
            Spec::Template { .. } | Spec::Snapshot(_) if !there && self.data.offered.contains(version) => {
                Err(format!("{id} is made again, and {version} has been offered"))
            }
            Spec::Spare { .. } if !self.data.offered.contains(version) => {
                Err(format!("{id} is made ahead of {version}, which is not offered"))
            }
            _ => Ok(()),
        }
    }

    /// What a baseline owns goes only when its version is of no use.
    pub(super) fn judge_drop(
        &self,
        id: &ResourceId,
        version: &str,
        reason: Reason,
        world: &World,
    ) -> Result<(), String> {
        if id.name != "main" {
            return Ok(());
        }
        let uses = |(user, thing): (&ResourceId, &crate::simulation::world::Thing)| {
            let of_it = thing.observed.outputs.baseline.as_deref() == Some(version);
            of_it && matches!(user.owner, Owner::Env(_)) && self.told.exists(user)
        };
        if let Some((user, _)) = world.things.iter().find(|(user, thing)| uses((user, thing))) {
            return Err(format!("{id} is dropped under {user}"));
        }
        let name = parse_version(version).map_or(version, |(name, _)| name);
        let person = self.data.removed.contains(name) || self.data.removed.contains(version);
        let dear = self
            .data
            .current
            .get(name)
            .is_some_and(|(current, before)| current == version || before.as_deref() == Some(version));
        if dear && !person {
            return Err(format!("{id} is dropped, and it is the current version or the one before"));
        }
        let whole =
            [ResourceId::template(version), ResourceId::snapshot(version)].iter().all(|id| self.told.complete(id));
        if reason == Reason::Orphan && whole && !person {
            return Err(format!("{id} goes as an orphan, and its version is whole"));
        }
        Ok(())
    }

    /// Notes whose data are copied once this step's calls have begun.
    pub(super) fn note_copies(&mut self, step: &Step) {
        let under_way = self.flights.values().map(|flight| &flight.action);
        let all = under_way.chain(step.start.iter().map(|(_, action)| action));
        let copied = all.filter_map(|action| match action {
            Action::Ensure(resource) => match &resource.spec {
                Spec::Database { from: DataFrom::Carry { from, .. }, .. }
                | Spec::Bucket { from: DataFrom::Carry { from, .. }, .. }
                | Spec::Template { from: DatabaseFrom::Env(from), .. } => Some(from),
                _ => None,
            },
            _ => None,
        });
        let copied = copied.filter_map(|from| match &from.owner {
            Owner::Env(env) => Some((env.clone(), from.generation)),
            _ => None,
        });
        self.data.copied = copied.collect();
    }

    /// Visitors of what is copied are held.
    pub(super) fn judge_copies(&self) -> Result<(), String> {
        let open =
            self.open.iter().find(|(env, upstream)| self.data.copied.contains(&((*env).clone(), upstream.generation)));
        match open {
            Some((env, upstream)) => {
                Err(format!("{env} is open at generation {}, whose data are being copied", upstream.generation))
            }
            None => Ok(()),
        }
    }

    /// Everything has settled: versions are made or have failed, and clones ahead are there.
    pub(super) fn judge_baselines(&self, view: &View) -> Result<(), String> {
        let versions = view.baselines.iter().flat_map(|baseline| &baseline.versions);
        for version in versions {
            let (name, state) = (&version.version, version.state.as_str());
            if version.state == VersionState::Making || version.state == VersionState::Lost {
                return Err(format!("{name} is {state}: {:?}", version.reason));
            }
            if matches!(version.state, VersionState::Failed | VersionState::Kept) && version.reason.is_none() {
                return Err(format!("{name} is {state}, and gives no reason"));
            }
            let (there, wanted) = version.spares;
            if there != wanted {
                return Err(format!("{there} of {wanted} clones of {name} are there"));
            }
        }
        Ok(())
    }

    /// A version that could not be made leaves what it has, until a person or a refresh is done with it.
    pub(super) fn may_be_half(&self, id: &ResourceId, view: &View) -> bool {
        let Owner::Baseline(version) = &id.owner else { return false };
        let shown = view.baselines.iter().flat_map(|baseline| &baseline.versions).find(|one| one.version == *version);
        let orphaned = self.lost.is_some() && view.warnings.iter().any(|line| line.contains("known by nothing"));
        shown.map_or(orphaned, |shown| shown.state == VersionState::Failed)
    }

    /// What the commit would begin with is not on the list, or not there.
    pub(super) fn lacks_baseline(&self, project: &ProjectName, sha: &Sha, view: &View) -> bool {
        let commit = (project.clone(), *sha);
        let manifest = self.manifests.get(&commit);
        let forks = self.policy.projects.get(project).map(|project| project.fork_baseline.as_str());
        let named = manifest.into_iter().flat_map(|manifest| [&manifest.database, &manifest.objects]).flatten();
        let mut all = named.map(String::as_str).chain(forks);
        let listed = |name: &str| self.policy.projects.get(project).is_some_and(|one| one.baselines.contains(name));
        let chosen = self.data.chosen.contains_key(&commit);
        let current = |name: &str| view.baselines.iter().any(|one| one.name == name && one.current.is_some());
        chosen || all.any(|name| name == "big" && !(listed(name) && current(name)))
    }
}
