//! Judges calls: who may run, what must be there first, what must not go, how many at once.

use std::time::Duration;

use planner::event::CallId;
use planner::identity::{Time, Trust};
use planner::resource::{Action, Kind, Owner, Resource, ResourceId, Run};

use super::told::is_complete;
use super::{Flight, Oracle, World};

/// Removals and rests count as under way at least this long.
const SHORT: Duration = Duration::from_secs(20);

impl Oracle {
    pub(super) fn judge_action(
        &mut self,
        now: Time,
        call: CallId,
        action: &Action,
        world: &World,
    ) -> Result<(), String> {
        let id = action.id();
        if self.flights.contains_key(&call) {
            return Err(format!("call number {} is used twice", call.0));
        }
        if let Some((_, other)) = self.flights.iter().find(|(_, f)| f.action.id() == id && self.is_within(now, f)) {
            return Err(format!("a second call for {id} while {} is under way", verb(&other.action)));
        }
        if self.unsettled.contains_key(id) {
            return Err(format!("{} of {id} before a listing has told what became of the last call", verb(action)));
        }
        if self.told.known.get(&id.backend) != Some(&true) {
            return Err(format!("{} of {id} while its backend is unknown", verb(action)));
        }
        match action {
            Action::Ensure(resource) => {
                self.judge_release(resource, world)?;
                self.judge_trust(now, resource)?;
                self.judge_needs(resource, world)?;
                self.judge_origin(resource, world)?;
                self.judge_baseline(resource, world)?;
                self.judge_data(resource, world)
            }
            Action::Rest(id, run) => self.judge_rest(now, id, *run, world),
            Action::Remove(id, reason) => {
                self.judge_dependents(id, world)?;
                self.justified(now, world, id, *reason)
            }
        }
    }

    pub(super) fn is_within(&self, now: Time, flight: &Flight) -> bool {
        let limit = match &flight.action {
            Action::Ensure(resource) => resource.deadline,
            _ => SHORT,
        };
        now.since(flight.since) < limit
    }

    fn judge_trust(&mut self, now: Time, resource: &Resource) -> Result<(), String> {
        let id = &resource.id;
        let Some(of) = resource.spec.of().cloned() else { return Ok(()) };
        match &id.owner {
            Owner::Env(env) if *env != self.key.env(&of.project, &of.sha, of.trust) => {
                return Err(format!("{id} is made of another commit: {of:?}"));
            }
            Owner::Project(project, trust) if *project != of.project || *trust != of.trust || of.trust.is_foreign() => {
                return Err(format!("{id} is shared, and made of {of:?}"));
            }
            _ => {}
        }
        let strange =
            resource.needs.iter().chain(used_image(resource)).find(|need| !self.may_need(&of.trust, id, need));
        if let Some(need) = strange {
            return Err(format!("{id} would use {need}, which is another's"));
        }
        let env = self.key.env(&of.project, &of.sha, of.trust);
        if self.said.commits.get(&(of.project.clone(), of.sha)).is_some_and(|said| said.removed) {
            return Err(format!("{id} is ensured, and a person removed it"));
        }
        if self.spared.contains(&env) {
            return Ok(());
        }
        if !self.said.may_run(&of.project, &of.sha, of.trust, &self.policy) {
            return Err(format!("{id} is ensured, and {} may not run as {}", of.sha.short(), of.trust));
        }
        if of.trust == Trust::Approved {
            if !self.approval_holds(now, &of.project, &of.sha) {
                return Err(format!("{id} is ensured on an approval that has expired"));
            }
            if let Some(said) = self.said.commits.get_mut(&(of.project.clone(), of.sha)) {
                said.approval_used = true;
            }
        }
        Ok(())
    }

    /// A generation that has never been ready starts its processes after its release command is done.
    fn judge_release(&self, resource: &Resource, world: &World) -> Result<(), String> {
        let id = &resource.id;
        let (Owner::Env(env), Kind::Container, Some(of)) = (&id.owner, id.kind, resource.spec.of()) else {
            return Ok(());
        };
        let manifest = self.manifests.get(&(of.project.clone(), of.sha));
        let releases = manifest.is_some_and(|manifest| manifest.release.is_some());
        if id.name != "web" || !releases || self.generation_was_ready(world, env, id.generation) {
            return Ok(());
        }
        let done = world
            .completed
            .iter()
            .any(|(job, _)| job.kind == Kind::Job && job.owner == id.owner && job.generation == id.generation);
        if done { Ok(()) } else { Err(format!("{id} is started before its release was done")) }
    }

    fn may_need(&self, trust: &Trust, id: &ResourceId, need: &ResourceId) -> bool {
        match &need.owner {
            // Whose data are carried on is judged by itself.
            Owner::Env(_) if matches!(id.kind, Kind::Database | Kind::Bucket) && need.kind == id.kind => true,
            Owner::Env(_) => need.owner == id.owner && (need.generation == id.generation || need.kind == Kind::Image),
            Owner::Project(_, Trust::Trusted) => *trust == Trust::Trusted,
            Owner::Project(..) => false,
            Owner::Baseline(_) | Owner::Instance => true,
        }
    }

    fn judge_needs(&self, resource: &Resource, world: &World) -> Result<(), String> {
        for need in &resource.needs {
            let there = world.things.get(need).is_some_and(|thing| is_complete(need, &thing.observed));
            let job_done = need.kind == Kind::Job && world.completed.iter().any(|(id, _)| id == need);
            if !there && !job_done && !self.told.complete(need) {
                return Err(format!("{} is ensured before its need {need} is complete", resource.id));
            }
        }
        Ok(())
    }

    /// Data is made once.
    fn judge_data(&self, resource: &Resource, world: &World) -> Result<(), String> {
        let id = &resource.id;
        if !matches!(id.kind, Kind::Database | Kind::Bucket | Kind::Volume)
            || self.told.exists(id)
            || world.things.contains_key(id)
        {
            return Ok(());
        }
        let Owner::Env(env) = &id.owner else { return Ok(()) };
        if self.births.contains_key(id) {
            return Err(format!("{id} is made again, and its generation has been ready"));
        }
        let made = world.completed.iter().any(|(one, _)| one == id);
        let job = |one: &ResourceId| one.kind == Kind::Job && one.owner == id.owner && one.generation == id.generation;
        let job_seen = self.told.listed.values().any(|(_, seen)| seen.keys().any(job));
        if made && (self.jobs.iter().any(job) || job_seen) {
            return Err(format!("{id} is made again under a release that was started"));
        }
        let all_known = super::super::world::BACKENDS.iter().all(|backend| self.told.known.get(backend) == Some(&true));
        if !all_known {
            return Err(format!("{id} of {env} is made while a backend is unknown"));
        }
        Ok(())
    }

    fn judge_rest(&self, now: Time, id: &ResourceId, run: Run, world: &World) -> Result<(), String> {
        let Owner::Env(env) = &id.owner else { return Err(format!("{id} cannot rest")) };
        let serving = self.open.get(env).is_some_and(|upstream| upstream.generation == id.generation);
        if serving && id.name == "web" {
            return Err(format!("{id} is lowered to {run:?} while its route is open"));
        }
        let _ = (now, world);
        Ok(())
    }

    fn judge_dependents(&self, id: &ResourceId, world: &World) -> Result<(), String> {
        if !matches!(id.kind, Kind::Network | Kind::Image | Kind::Database | Kind::Bucket | Kind::Volume) {
            return Ok(());
        }
        if self.told.known.get(&planner::resource::Backend::Engine) != Some(&true) {
            return Err(format!("{id} is removed while the engine is unknown"));
        }
        let depends = |one: &ResourceId, uses: &[ResourceId]| {
            uses.contains(id)
                || (id.kind != Kind::Image
                    && matches!(one.kind, Kind::Container | Kind::Job)
                    && one.owner == id.owner
                    && one.generation == id.generation)
        };
        let user = world.things.iter().find(|(one, thing)| depends(one, &thing.observed.uses) && self.told.exists(one));
        if let Some((user, _)) = user {
            return Err(format!("{id} is removed under {user}"));
        }
        let flight = self.flights.values().find(|flight| match &flight.action {
            Action::Ensure(resource) => resource.needs.contains(id),
            _ => false,
        });
        match flight {
            Some(flight) => Err(format!("{id} is removed under a call for {}", flight.action.id())),
            None => Ok(()),
        }
    }

    pub(super) fn judge_lanes(&self, now: Time) -> Result<(), String> {
        let under_way: Vec<&Action> =
            self.flights.values().filter(|flight| self.is_within(now, flight)).map(|flight| &flight.action).collect();
        let count = |wanted: fn(&Action) -> bool| under_way.iter().filter(|action| wanted(action)).count();
        let limits = &self.policy.limits;
        let lanes = [
            ("build", count(is_build), limits.builds),
            ("job", count(|action| is_ensure(action, Kind::Job)), 2),
            ("start and wake", count(|action| is_ensure(action, Kind::Container)), 4 + 3 * limits.awake),
            ("baseline", count(|action| is_of_baseline(action, "main")), 2),
            ("spare", count(|action| is_of_baseline(action, "spare")), 1),
            ("rest", count(|action| matches!(action, Action::Rest(..))), 4),
            ("remove", count(|action| matches!(action, Action::Remove(..))), 4),
        ];
        for (lane, calls, limit) in lanes {
            if calls > limit {
                return Err(format!("{calls} calls in the {lane} lane, which takes {limit}"));
            }
        }
        Ok(())
    }
}

fn is_ensure(action: &Action, kind: Kind) -> bool {
    matches!(action, Action::Ensure(resource) if resource.id.kind == kind)
}

/// Making what a baseline's version owns.
fn is_of_baseline(action: &Action, name: &str) -> bool {
    let Action::Ensure(resource) = action else { return false };
    matches!(resource.id.owner, Owner::Baseline(_)) && resource.id.name.starts_with(name)
}

/// What CI has built is pulled in another lane.
fn is_build(action: &Action) -> bool {
    matches!(action, Action::Ensure(resource) if matches!(resource.spec, planner::spec::Spec::Image(_)))
}

fn used_image(resource: &Resource) -> Option<&ResourceId> {
    match &resource.spec {
        planner::spec::Spec::Container(container) | planner::spec::Spec::Job(container) => match &container.image {
            planner::spec::ImageSource::Built(id) => Some(id),
            planner::spec::ImageSource::Named(_) => None,
        },
        _ => None,
    }
}

/// The word for an action.
pub fn verb(action: &Action) -> &'static str {
    match action {
        Action::Ensure(_) => "ensure",
        Action::Rest(..) => "rest",
        Action::Remove(..) => "remove",
    }
}
