//! The judge: knows what was said, what the world holds and what the core was told, and none of the core's code.
//!
//! It judges each step when it is decided. `Err` is one line: which rule was broken by what.

mod actions;
mod baselines;
mod doors;
mod end;
mod reasons;
mod said;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use planner::command::Command;
use planner::event::{Began, CallId, Event, Step};
use planner::identity::{EnvId, InstanceKey, ProjectName, Sha, Time, Trust};
use planner::manifest::Manifest;
use planner::policy::{Policy, ProjectPolicy, StageMode};
use planner::resource::{Action, Failure, Owner, Reason, ResourceId};
use planner::secrets::SecretClass;
use planner::tables::Upstream;
use planner::view::State;

pub use end::{commits, waits_for_image};
pub use said::Said;
use told::Told;

use super::world::World;

/// A commit at a trust.
pub type Of = (ProjectName, Sha, Trust);

/// A call that was started and has not returned.
#[derive(Debug, Clone)]
struct Flight {
    action: Action,
    since: Time,
}

/// The oracle's memory.
#[derive(Debug, Clone)]
pub struct Oracle {
    key: InstanceKey,
    /// The configuration, with the projects that were taken out of it as they were.
    policy: Policy,
    /// Projects that were taken out of the configuration, with the environments that there were of them.
    taken_out: BTreeMap<ProjectName, BTreeSet<EnvId>>,
    /// What was said.
    pub said: Said,
    told: Told,
    /// Every environment that could be, by id.
    names: BTreeMap<EnvId, Of>,
    flights: BTreeMap<CallId, Flight>,
    /// Why what may be removed, up to which generation.
    excuses: BTreeMap<(EnvId, Reason), u32>,
    /// Highest generation of each environment that a call was made for or that was seen.
    highest: BTreeMap<EnvId, u32>,
    /// Open doors of the last tables.
    open: BTreeMap<EnvId, Upstream>,
    /// Generations whose door has been open.
    served: BTreeSet<(EnvId, u32)>,
    /// Things whose rest or removal failed, and when: until a later listing nobody knows what they are.
    doubtful: BTreeMap<ResourceId, Time>,
    /// Things whose last call failed, and the listing that had begun last by then: they rest until a later one.
    unsettled: BTreeMap<ResourceId, u64>,
    /// Births of data when their generation first served.
    births: BTreeMap<ResourceId, u64>,
    /// Environments that were shown as having been ready: what answers and is not known to cannot be held against anybody.
    shown: BTreeSet<EnvId>,
    /// Environments that the guard has ever held: when their ref is open again they go on, though it had forgotten them.
    spared: BTreeSet<EnvId>,
    /// Up to which generation an environment was shown as gone while nothing held it.
    went: BTreeMap<EnvId, u32>,
    /// Environments that the last view calls held.
    held: BTreeSet<EnvId>,
    /// Jobs that a call was made for in this life of Sidestage.
    jobs: BTreeSet<ResourceId>,
    /// When the store was lost last.
    lost: Option<Time>,
    /// Somebody asked for orphans to be removed.
    gc: bool,
    /// Manifests of commits that were read.
    pub manifests: BTreeMap<(ProjectName, Sha), Arc<Manifest>>,
    /// Environments that lived in the last view.
    living: BTreeSet<EnvId>,
    /// Held environments that a person let go.
    released: BTreeSet<EnvId>,
    /// Environments whose data somebody outside took, by generation.
    pub robbed: BTreeSet<(EnvId, u32)>,
    /// What is known of baselines.
    pub data: baselines::Data,
}

impl Oracle {
    /// At the beginning of a story.
    pub fn new(key: InstanceKey, policy: Policy) -> Oracle {
        Oracle {
            key,
            policy,
            taken_out: BTreeMap::new(),
            said: Said::default(),
            told: Told::default(),
            names: BTreeMap::new(),
            flights: BTreeMap::new(),
            excuses: BTreeMap::new(),
            highest: BTreeMap::new(),
            open: BTreeMap::new(),
            served: BTreeSet::new(),
            doubtful: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            births: BTreeMap::new(),
            shown: BTreeSet::new(),
            spared: BTreeSet::new(),
            went: BTreeMap::new(),
            held: BTreeSet::new(),
            jobs: BTreeSet::new(),
            lost: None,
            gc: false,
            manifests: BTreeMap::new(),
            living: BTreeSet::new(),
            released: BTreeSet::new(),
            robbed: BTreeSet::new(),
            data: baselines::Data::default(),
        }
    }

    /// A commit exists: its environments have names from now on.
    pub fn know(&mut self, project: &ProjectName, sha: &Sha) {
        for trust in [Trust::Untrusted, Trust::Approved, Trust::Trusted] {
            self.names.insert(self.key.env(project, sha, trust), (project.clone(), *sha, trust));
        }
    }

    /// The configuration is another one.
    pub fn configure(&mut self, policy: &Policy) {
        let before = std::mem::replace(&mut self.policy, policy.clone());
        for (name, project) in before.projects {
            if !policy.projects.contains_key(&name) {
                let known = || self.highest.keys().filter(|env| self.names.get(*env).is_some_and(|of| of.0 == name));
                self.taken_out.entry(name.clone()).or_insert_with(|| known().cloned().collect());
                self.policy.projects.insert(name, ProjectPolicy { stage: StageMode::Off, ..project });
            }
        }
        let back: Vec<ProjectName> =
            self.taken_out.keys().filter(|name| policy.projects.contains_key(*name)).cloned().collect();
        for name in back {
            self.taken_out.remove(&name);
            self.held.retain(|env| self.names.get(env).is_none_or(|of| of.0 != name));
            // When nothing of it lived it was forgotten who had asked for what.
            let commits = self.said.commits.iter_mut().filter(|((project, _), _)| *project == name);
            commits.for_each(|(_, said)| said.forgotten = true);
        }
    }

    /// A listing begins.
    pub fn begins(&mut self, began: Began) {
        self.told.begins(began);
    }

    /// The events that the core is about to get.
    pub fn hear(&mut self, now: Time, events: &[Event], world: &World) {
        // Past its deadline a call counts as lost: it may still land, and nobody waits for it.
        let over: Vec<CallId> =
            self.flights.iter().filter(|(_, flight)| !self.is_within(now, flight)).map(|(call, _)| *call).collect();
        over.iter().for_each(|call| drop(self.flights.remove(call)));
        self.excuse_all(now, world);
        for event in events {
            if let Event::Policy(policy) = event {
                self.configure(policy);
            }
            if let Event::Refs { project, .. } | Event::Found { project, .. } = event
                && self.taken_out.contains_key(project)
            {
                continue;
            }
            self.said.hear(now, event, &self.policy);
            if matches!(event, Event::Refs { .. }) {
                self.note_idle();
            }
            let about = match event {
                Event::Returned { call, .. } => self.flights.get(call).map(|flight| &flight.action),
                _ => None,
            };
            self.told.hear(event, about);
            match event {
                Event::Returned { call, result } => {
                    // What is only waited for was not touched.
                    let failed = result.as_ref().is_err_and(|failure| !matches!(failure, Failure::Waiting { .. }));
                    let flight = self.flights.remove(call).filter(|_| failed);
                    if let Some(flight) = &flight {
                        self.unsettled.insert(flight.action.id().clone(), self.told.begun());
                    }
                    if let Some(Flight { action: Action::Rest(id, _) | Action::Remove(id, _), .. }) = flight {
                        self.doubtful.insert(id, now);
                    }
                }
                Event::Listed { backend, began, seen: Ok(seen) } => {
                    self.unsettled.retain(|id, begun| id.backend != *backend || *begun >= began.ticket);
                    self.doubtful.retain(|id, since| id.backend != *backend || *since >= began.at);
                    for id in seen.keys() {
                        self.note_generation(id);
                    }
                }
                Event::Refs { .. } | Event::Found { .. } | Event::Asked { .. } | Event::Policy(_) => {
                    self.excuse_all(now, world);
                }
                _ => {}
            }
        }
    }

    /// What nobody watches, and is not listed any more, may be closed if nothing of it lives.
    fn note_idle(&mut self) {
        for ((project, _), said) in self.said.refs.iter_mut().filter(|(_, said)| said.lost) {
            let lives = |sha: &Sha| self.living.contains(&self.key.env(project, sha, Trust::Trusted));
            said.idle |= !said.list.iter().any(lives);
        }
        self.note_forgotten();
    }

    /// A ref that nobody watches closes when nothing of it lives and nobody waits for its head: who asked for its older
    /// commits is forgotten then, unless another ref has them.
    fn note_forgotten(&mut self) {
        let waits = |project: &ProjectName, sha: &Sha| {
            let said = self.said.commits.get(&(project.clone(), *sha));
            let env = self.key.env(project, sha, Trust::Trusted);
            said.is_some_and(|said| said.asked && !said.forgotten) && !self.excuses.keys().any(|(one, _)| *one == env)
        };
        let refs = self.said.refs.iter().filter(|(_, said)| said.open && said.idle);
        let closed = refs.filter(|((project, _), said)| said.list.last().is_none_or(|head| !waits(project, head)));
        let listed = closed.flat_map(|((project, _), said)| said.list.iter().map(move |sha| (project.clone(), *sha)));
        let elsewhere =
            |(project, sha): &(ProjectName, Sha)| self.said.places(project, sha).any(|(_, said, _)| !said.idle);
        let forgotten: Vec<_> = listed.filter(|of| !elsewhere(of)).collect();
        for of in forgotten {
            self.said.commits.entry(of).or_default().forgotten = true;
        }
    }

    fn note_generation(&mut self, id: &ResourceId) {
        if let Owner::Env(env) = &id.owner {
            let highest = self.highest.entry(env.clone()).or_default();
            *highest = (*highest).max(id.generation);
        }
    }

    /// Judges what the core decided.
    pub fn judge(&mut self, now: Time, step: &Step, world: &World) -> Result<(), String> {
        for (request, result) in &step.replies {
            let key = self.key.clone();
            if let Some(command) = self.said.answered(now, *request, result.is_ok(), &key)
                && result.is_ok()
            {
                self.granted(&command);
            }
        }
        self.excuse_all(now, world);
        let held_before = self.held.clone();
        if let Some((tables, view)) = &step.publish {
            self.note_copies(step);
            self.judge_offers(view, world)?;
            self.judge_guard(view)?;
            self.judge_begun(view)?;
            self.note_held(view);
            self.note_shown(view);
            self.note_closed();
            self.judge_doors(now, tables, world)?;
        }
        self.note_copies(step);
        self.judge_copies()?;
        self.judge_held(step, &held_before, world)?;
        if let Some((_, view)) = &step.publish {
            self.note_gone(view, &held_before);
        }
        for (call, action) in &step.start {
            self.judge_action(now, *call, action, world)?;
            self.flights.insert(*call, Flight { action: action.clone(), since: now });
            if let Action::Ensure(resource) = action {
                self.note_generation(&resource.id);
                if resource.id.kind == planner::resource::Kind::Job {
                    self.jobs.insert(resource.id.clone());
                }
            }
        }
        self.judge_lanes(now)
    }

    fn granted(&mut self, command: &Command) {
        self.data.granted(command);
        let Some((project, sha)) = command.commit() else {
            self.gc |= matches!(command, Command::Gc { .. });
            if matches!(command, Command::Gc { confirm: true }) {
                self.released.extend(self.held.iter().cloned());
            }
            return;
        };
        let reason = match command {
            // What a person resets is of no use any more, ready or not.
            Command::Remove { .. } | Command::Reset { .. } | Command::Rebuild { .. } => Reason::Person,
            Command::Revoke { .. } => Reason::Revoked,
            _ => return,
        };
        for trust in [Trust::Approved, Trust::Trusted] {
            if reason == Reason::Revoked && trust == Trust::Trusted {
                continue;
            }
            self.excuse(&self.key.env(project, sha, trust), reason);
        }
    }

    fn note_shown(&mut self, view: &planner::view::View) {
        use planner::view::State;
        let serves = |state| matches!(state, State::Ready | State::Dozing | State::Asleep | State::Waking);
        let before = std::mem::take(&mut self.shown);
        let known = |one: &planner::view::CommitView| {
            serves(one.state) || one.state == State::Failed && before.contains(&one.env)
        };
        self.shown = commits(view).filter(|one| known(one)).map(|one| one.env.clone()).collect();
    }

    /// What no open ref has goes, unless the guard holds it, and its pin with it.
    fn note_closed(&mut self) {
        let pinned = self.said.commits.iter().filter(|(_, said)| said.pinned).map(|(of, _)| of.clone());
        for (project, sha) in pinned.collect::<Vec<_>>() {
            let open = !self.said.listed.contains(&project) || self.said.places(&project, &sha).next().is_some();
            let envs = [Trust::Approved, Trust::Trusted].map(|trust| self.key.env(&project, &sha, trust));
            if !open && !envs.iter().any(|env| self.held.contains(env)) {
                self.said.commits.entry((project, sha)).or_default().pinned = false;
            }
        }
    }

    /// What is shown on its way out, and was not held.
    fn note_gone(&mut self, view: &planner::view::View, held: &BTreeSet<EnvId>) {
        let gone = |state| matches!(state, State::Removing | State::Removed | State::Expired);
        for commit in commits(view)
            .filter(|one| gone(one.state) && (!held.contains(&one.env) || self.released.contains(&one.env)))
        {
            let went = self.went.entry(commit.env.clone()).or_default();
            *went = (*went).max(commit.generation);
        }
    }

    fn note_held(&mut self, view: &planner::view::View) {
        let refs = view.projects.iter().flat_map(|project| &project.refs);
        let held = refs.flat_map(|one| &one.commits).filter(|commit| commit.held);
        self.held = held.map(|commit| commit.env.clone()).collect();
        // Of a commit that is handed over only one environment is shown.
        let held = self.held.iter().filter_map(|env| self.names.get(env));
        let envs = held.flat_map(|(project, sha, _)| {
            [Trust::Approved, Trust::Trusted].map(|trust| self.key.env(project, sha, trust))
        });
        self.spared.extend(envs.collect::<Vec<_>>());
        for commit in commits(view).filter(|commit| commit.generation > 0) {
            let highest = self.highest.entry(commit.env.clone()).or_default();
            *highest = (*highest).max(commit.generation);
        }
    }

    /// Nothing begins of a project that was taken out of the configuration, nor of what its ref has left behind.
    fn judge_begun(&self, view: &planner::view::View) -> Result<(), String> {
        for commit in commits(view) {
            let known = self.highest.get(&commit.env).copied().unwrap_or(0);
            let Some((project, sha, trust)) = self.names.get(&commit.env) else { continue };
            if commit.generation <= known || self.spared.contains(&commit.env) {
                continue;
            }
            if self.taken_out.get(project).is_some_and(|there| !there.contains(&commit.env)) {
                return Err(format!("{} begins, and its project is not in the configuration", sha.short()));
            }
            if known == 0 && self.lacks_secret(project, sha, *trust) {
                return Err(format!("{} begins, and a secret that it names is not set", sha.short()));
            }
            if *trust == Trust::Trusted && self.said.is_left_behind(project, sha) {
                return Err(format!("{} begins, and its branch or tag has left it", sha.short()));
            }
        }
        Ok(())
    }

    /// The manifest names the secret, and it is not set for this class of code.
    fn lacks_secret(&self, project: &ProjectName, sha: &Sha, trust: Trust) -> bool {
        let manifest = self.manifests.get(&(project.clone(), *sha));
        let names = manifest.is_some_and(|manifest| manifest.env.values().any(|value| value.contains("${TOKEN}")));
        let secrets = self.policy.projects.get(project).map(|project| &project.secrets);
        let set = secrets.and_then(|secrets| secrets.get(&SecretClass::of(trust)));
        names && set.is_none_or(|set| !set.contains_key("TOKEN"))
    }

    /// Names of a commit's further applications.
    fn apps(&self, project: &ProjectName, sha: &Sha) -> Vec<&String> {
        let manifest = self.manifests.get(&(project.clone(), *sha));
        manifest.into_iter().flat_map(|manifest| manifest.apps.keys()).collect()
    }

    /// More than half of the environments, and more than three, do not go in one pass, unless a person sent them.
    fn judge_guard(&mut self, view: &planner::view::View) -> Result<(), String> {
        let mut living = BTreeSet::new();
        let mut going = BTreeSet::new();
        for commit in commits(view) {
            match commit.state {
                State::Unstaged | State::Blocked | State::Superseded => {}
                State::Removing | State::Removed | State::Expired => drop(going.insert(commit.env.clone())),
                // Nothing of it was ever begun.
                State::Queued | State::Failed if commit.generation == 0 => {}
                _ => drop(living.insert(commit.env.clone())),
            }
        }
        let person = |env: &EnvId| {
            let named = [Reason::Person, Reason::Revoked, Reason::Superseded, Reason::Trust];
            named.iter().any(|reason| self.excuses.contains_key(&(env.clone(), *reason))) || self.released.contains(env)
        };
        let gone = self.living.iter().filter(|env| going.contains(*env) && !person(env)).count();
        if gone > 3 && gone * 2 > self.living.len() {
            return Err(format!("{gone} of {} environments go in one pass", self.living.len()));
        }
        self.living = living;
        Ok(())
    }

    /// What the guard holds back stays, until a person lets it go or its reason is gone.
    fn judge_held(&self, step: &Step, held: &BTreeSet<EnvId>, world: &World) -> Result<(), String> {
        for (_, action) in &step.start {
            let Action::Remove(id, reason @ (Reason::Closed | Reason::Expired | Reason::Vanished)) = action else {
                continue;
            };
            let Owner::Env(env) = &id.owner else { continue };
            // What is held and has lost its data while it came up begins again.
            let served = *reason != Reason::Vanished || self.all_have_answered(world, env, id.generation);
            // What had gone before the guard held the next generation is no matter of the guard.
            let went = self.went.get(env).is_some_and(|went| id.generation <= *went);
            if served && !went && held.contains(env) && !self.released.contains(env) {
                return Err(format!("{id} goes though the guard holds it"));
            }
        }
        Ok(())
    }

    /// What was shown of facts before a death is shown after it.
    pub fn judge_memory(&self, shown: &planner::view::View, restored: &planner::view::View) -> Result<(), String> {
        let after: BTreeMap<(&EnvId, Sha), _> =
            commits(restored).map(|commit| ((&commit.env, commit.sha), commit)).collect();
        let open = shown.projects.iter().flat_map(|project| &project.refs).filter(|one| one.open);
        for commit in open.flat_map(|one| &one.commits) {
            let what = commit.sha.short();
            if commit.state == State::Removing {
                // Shown because its things are still seen, and a new life has not looked yet.
                continue;
            }
            let Some(after) = after.get(&(&commit.env, commit.sha)) else {
                return Err(format!("{what} is shown, and not by the rows that were written"));
            };
            let facts = |one: &planner::view::CommitView| (one.generation, one.pinned, one.held, one.trust);
            if facts(commit) != facts(after) {
                let (before, after) = (facts(commit), facts(after));
                return Err(format!(
                    "{what} is {before:?} (generation, pinned, held, trust), and {after:?} by its rows"
                ));
            }
            let visits = (commit.visited.unwrap_or_default(), after.visited.unwrap_or_default());
            if visits.0.since(visits.1).as_secs() > 61 {
                return Err(format!("{what} was visited, and its rows do not know"));
            }
        }
        Ok(())
    }

    /// Sidestage died. What is published, told and under way is forgotten.
    pub fn crash(&mut self, store_lost: Option<Time>) {
        self.said.crash();
        self.told = Told::default();
        self.flights.clear();
        self.doubtful.clear();
        self.unsettled.clear();
        self.open.clear();
        self.jobs.clear();
        self.living.clear();
        if store_lost.is_some() {
            self.lost = store_lost;
            self.data.lose();
            // Nobody remembers which generations there were.
            self.births.clear();
            // Generations count from what is seen again.
            self.went.clear();
            self.said = Said::default();
        }
    }
}
