//! Calls to the world: how each goes wrong, and what it does when it lands.

use std::time::Duration;

use planner::event::CallId;
use planner::resource::{Action, Failure, Kind, Observed, Owner, Phase, Resource, ResourceId, Run};
use planner::spec::{DataFrom, DatabaseFrom, Spec};

use super::world::{Due, World};

/// What may take so long is a baseline's.
const LONG: Duration = Duration::from_secs(3_600);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It works, or fails by itself.
    None,
    /// An error, and nothing was done.
    ErrorBefore,
    /// An error, though it was done.
    ErrorAfter,
    /// Done, and never answered.
    ReplyLost,
    /// Never done, never answered.
    NeverLands,
    /// Done long after its deadline, never answered.
    Late,
    /// Half done, then an error.
    Half,
    /// Half done, never answered.
    HalfLost,
}

/// A call under way.
#[derive(Debug, Clone)]
pub struct Call {
    /// The core's number for it.
    pub call: CallId,
    /// The life of Sidestage that it was made in: answers to an earlier one are lost.
    pub life: u32,
    /// What it does.
    pub action: Action,
    /// What becomes of it.
    pub trouble: Trouble,
    /// It has landed and waits for a job to end or a container to come up.
    pub waits: bool,
}

/// What an effect came to.
enum Outcome {
    Done(Option<Box<Observed>>),
    Failed(Failure),
    Waits,
}

impl World {
    /// Takes a call. Its effect and its answer come later, if they come.
    pub fn call(&mut self, life: u32, call: CallId, action: Action) {
        let trouble = self.draw_trouble(&action);
        let millis = self.duration(&action);
        let number = self.number();
        let late = match (&action, trouble) {
            // Of what may take a day nobody waits for the end of that.
            (Action::Ensure(resource), Trouble::Late) if resource.deadline < LONG => {
                u64::try_from(resource.deadline.as_millis()).unwrap_or(60_000) + self.rng.between(1, 300_000)
            }
            (_, Trouble::Late) => self.rng.between(60_000, 900_000),
            _ => millis,
        };
        if trouble != Trouble::NeverLands {
            self.calls.insert(number, Call { call, life, action, trouble, waits: false });
            self.later(late, Due::Land(number));
        }
    }

    /// Cuts a build, or the waiting for a job. The world may be quicker.
    pub fn cancel(&mut self, call: CallId, life: u32) {
        let Some(number) = self.calls.iter().find(|(_, c)| c.call == call && c.life == life).map(|(n, _)| *n) else {
            return;
        };
        let lands_all_the_same = self.rng.chance(100);
        if let Some(cut) = self.calls.get_mut(&number).filter(|_| lands_all_the_same) {
            cut.trouble = Trouble::ReplyLost;
        } else {
            self.calls.remove(&number);
        }
        let millis = self.rng.between(1, 800);
        self.later(millis, Due::Reply { life, call, result: Box::new(Err(Failure::Cancelled)) });
    }

    /// Sidestage died: nobody waits for answers any more, and some requests never left.
    pub fn forget_callers(&mut self) {
        let numbers: Vec<u64> = self.calls.keys().copied().collect();
        for number in numbers {
            let never_left = self.rng.chance(300);
            match self.calls.get_mut(&number) {
                Some(call) if !never_left && !call.waits => call.trouble = Trouble::ReplyLost,
                _ => drop(self.calls.remove(&number)),
            }
        }
    }

    fn draw_trouble(&mut self, action: &Action) -> Trouble {
        if !self.answers(action_backend(action)) {
            return if self.rng.chance(700) { Trouble::ErrorBefore } else { Trouble::NeverLands };
        }
        if !self.rng.chance(self.faults) {
            return Trouble::None;
        }
        let all = [
            Trouble::ErrorBefore,
            Trouble::ErrorAfter,
            Trouble::ReplyLost,
            Trouble::NeverLands,
            Trouble::Late,
            Trouble::Half,
            Trouble::HalfLost,
        ];
        all[self.rng.below(all.len() as u64) as usize]
    }

    fn duration(&mut self, action: &Action) -> u64 {
        match action {
            Action::Ensure(resource) => match resource.id.kind {
                Kind::Image => self.span(5_000, 90_000),
                Kind::Job | Kind::Container => self.span(50, 1_500),
                _ if resource.spec.of().is_none() => self.span(500, 60_000),
                _ => self.span(20, 3_000),
            },
            Action::Rest(..) => self.span(10, 1_000),
            Action::Remove(..) => self.span(10, 4_000),
        }
    }

    /// The call reaches its backend.
    pub fn land(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number).cloned() else { return };
        let outcome = match call.trouble {
            Trouble::ErrorBefore => Outcome::Failed(Failure::transient("the backend did not take the call")),
            Trouble::Half | Trouble::HalfLost => {
                self.half(&call.action);
                Outcome::Failed(Failure::transient("the connection broke half-way"))
            }
            _ => self.effect(&call.action),
        };
        match outcome {
            Outcome::Waits => {
                let timeout = wait_limit(&call.action);
                if let Some(call) = self.calls.get_mut(&number) {
                    call.waits = true;
                }
                // A process that never answers: the driver gives up by itself.
                if call.trouble == Trouble::None && !self.never_ends(call.action.id()) {
                    return;
                }
                self.calls.remove(&number);
                let failure = Failure::permanent("web did not answer within its start_timeout");
                self.answer(&call, Err(failure), timeout);
            }
            Outcome::Done(observed) => {
                self.calls.remove(&number);
                self.answer(&call, Ok(observed.map(|observed| *observed)), 0);
            }
            Outcome::Failed(failure) => {
                self.calls.remove(&number);
                self.answer(&call, Err(failure), 0);
            }
        }
    }

    fn never_ends(&self, id: &ResourceId) -> bool {
        let mute = |thing: &super::world::Thing| {
            thing.code.as_ref().and_then(|code| self.fates.get(code)).is_some_and(|fate| fate.is_mute(&id.name))
        };
        id.kind == Kind::Container && self.things.get(id).is_some_and(mute)
    }

    fn answer(&mut self, call: &Call, result: Result<Option<Observed>, Failure>, wait: u64) {
        let result = match call.trouble {
            Trouble::ReplyLost | Trouble::Late | Trouble::HalfLost | Trouble::NeverLands => return,
            Trouble::ErrorAfter => Err(Failure::transient("the connection broke")),
            _ => result,
        };
        let millis = wait + self.span(1, 400);
        self.later(millis, Due::Reply { life: call.life, call: call.call, result: Box::new(result) });
    }

    /// What was waited for has happened: the waiting calls are answered.
    pub fn wake_waiters(&mut self, id: &ResourceId) {
        let waiting: Vec<u64> =
            self.calls.iter().filter(|(_, c)| c.waits && c.action.id() == id).map(|(n, _)| *n).collect();
        for number in waiting {
            let Some(call) = self.calls.remove(&number) else { continue };
            let result = match self.things.get(id) {
                None => Err(Failure::transient("it was removed meanwhile")),
                Some(thing) => match thing.observed.phase {
                    Phase::Exited { code: 0, .. } if id.kind == Kind::Job => Ok(Some(thing.observed.clone())),
                    Phase::Exited { code, oom: false } if code < 128 => {
                        Err(Failure::permanent(format!("{} exited with {code}", id.name)))
                    }
                    Phase::Whole if thing.healthy => Ok(Some(thing.observed.clone())),
                    _ => Err(Failure::transient(format!("{} was cut off", id.name))),
                },
            };
            self.answer(&call, result, 0);
        }
    }

    /// Does half of it: a thing without what belongs to it.
    pub fn half(&mut self, action: &Action) {
        match action {
            Action::Ensure(resource) if !self.things.contains_key(&resource.id) => {
                let phase = if resource.id.kind == Kind::Container { Phase::Whole } else { Phase::Partial };
                if resource.id.kind != Kind::Image && self.needs_there(resource).is_ok() {
                    self.create(&resource.id, resource.fingerprint.clone(), phase, uses_of(resource));
                    self.label(resource);
                }
            }
            // A database without its role, a bucket with some of its objects.
            Action::Remove(id, _) if matches!(id.kind, Kind::Database | Kind::Bucket | Kind::Volume) => {
                if let Some(thing) = self.things.get_mut(id) {
                    thing.observed.phase = Phase::Partial;
                }
            }
            _ => {}
        }
    }

    fn effect(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Ensure(resource) => self.make(resource),
            Action::Rest(id, run) => {
                let job = id.kind == Kind::Job;
                let runs = self.things.get(id).is_some_and(|thing| thing.observed.run > Run::Stopped);
                if id.kind == Kind::Container || job && runs {
                    self.lower(id, *run, job.then_some(Phase::Lost));
                    if *run == Run::Stopped {
                        self.wake_waiters(id);
                    }
                }
                Outcome::Done(None)
            }
            Action::Remove(id, _) => self.unmake(id),
        }
    }

    fn unmake(&mut self, id: &ResourceId) -> Outcome {
        if matches!(id.kind, Kind::Network | Kind::Image | Kind::Volume) {
            let user = self.things.iter().find(|(_, thing)| thing.observed.uses.contains(id));
            if let Some((user, _)) = user {
                return Outcome::Failed(Failure::transient(format!("{id} is in use by {user}")));
            }
        }
        let slow = self.faults > 0 && self.rng.chance(200);
        let Some(thing) = self.things.get_mut(id) else { return Outcome::Done(None) };
        if slow {
            let born = thing.born;
            thing.observed.phase = Phase::Removing;
            self.lower(id, Run::Stopped, None);
            let millis = self.rng.between(500, 60_000);
            self.later(millis, Due::Vanishes { id: id.clone(), born });
        } else {
            self.erase(id);
        }
        Outcome::Done(None)
    }

    fn needs_there(&self, resource: &Resource) -> Result<(), Failure> {
        let data = matches!(resource.id.kind, Kind::Database | Kind::Bucket);
        let checked = |need: &&ResourceId| matches!(need.kind, Kind::Network | Kind::Image | Kind::Volume) || data;
        for need in resource.needs.iter().filter(checked) {
            let whole = self.things.get(need).is_some_and(|thing| thing.observed.phase == Phase::Whole);
            if !whole {
                return Err(Failure::transient(format!("no such {}: {need}", need.kind.as_str())));
            }
        }
        Ok(())
    }

    /// What the backend writes beside a thing: whose it is.
    fn label(&mut self, resource: &Resource) {
        let Some(of) = resource.spec.of().cloned() else { return };
        let baseline = match &resource.spec {
            Spec::Database { from, .. } | Spec::Bucket { from, .. } => Some(from.baseline().to_owned()),
            _ => None,
        };
        let Some(thing) = self.things.get_mut(&resource.id) else { return };
        thing.code = Some((of.project.clone(), of.sha));
        thing.observed.outputs.baseline = baseline;
        if matches!(resource.id.owner, planner::resource::Owner::Env(_)) {
            thing.observed.outputs.commit = Some((of.project, of.sha, of.trust));
        }
    }

    fn make(&mut self, resource: &Resource) -> Outcome {
        let id = &resource.id;
        if let Some(thing) = self.things.get(id) {
            if thing.observed.phase == Phase::Removing {
                return Outcome::Failed(Failure::transient(format!("{id} is being removed")));
            }
            let replaceable = matches!(id.kind, Kind::Job | Kind::Container);
            if replaceable && thing.observed.fingerprint != resource.fingerprint {
                return Outcome::Failed(Failure::transient(format!("another {id} is there")));
            }
        }
        if let Err(failure) = self.needs_there(resource) {
            return Outcome::Failed(failure);
        }
        match id.kind {
            Kind::Database | Kind::Bucket => self.make_data(resource),
            Kind::Network | Kind::Volume => self.make_plain(resource),
            Kind::Image => self.make_image(resource),
            Kind::Job => self.make_job(resource),
            Kind::Container => self.make_container(resource),
        }
    }

    fn there(&self, id: &ResourceId) -> Outcome {
        Outcome::Done(self.things.get(id).map(|thing| Box::new(thing.observed.clone())))
    }

    fn make_plain(&mut self, resource: &Resource) -> Outcome {
        let id = &resource.id;
        let born = match self.things.get_mut(id) {
            Some(thing) => {
                thing.observed.phase = Phase::Whole;
                thing.born
            }
            None => {
                let born = self.create(id, resource.fingerprint.clone(), Phase::Whole, Vec::new());
                self.label(resource);
                born
            }
        };
        self.completed.insert((id.clone(), born));
        self.there(id)
    }

    /// Data is made from what there is: a dump as it is now, a clone made ahead if there is one.
    fn make_data(&mut self, resource: &Resource) -> Outcome {
        let new = self.things.get(&resource.id).is_none_or(|thing| thing.observed.phase != Phase::Whole);
        let dump = match &resource.spec {
            Spec::Template { from: DatabaseFrom::File(path), .. } => self.dumps.get(path).copied(),
            _ => None,
        };
        if new && dump.is_some_and(|dump| dump.bad) {
            return Outcome::Failed(Failure::permanent("the dump cannot be loaded: unexpected end of file"));
        }
        if let (Spec::Database { from: DataFrom::Baseline(version), .. }, true) = (&resource.spec, new) {
            let owner = Owner::Baseline(version.clone());
            let spare = self.things.iter().find(|(id, thing)| {
                id.owner == owner && id.name.starts_with("spare") && thing.observed.phase == Phase::Whole
            });
            if let Some(spare) = spare.map(|(id, _)| id.clone()) {
                self.erase(&spare);
            }
        }
        let outcome = self.make_plain(resource);
        if let (Some(thing), Spec::Template { .. } | Spec::Snapshot(_), true) =
            (self.things.get_mut(&resource.id), &resource.spec, new)
        {
            let outputs = &mut thing.observed.outputs;
            outputs.bytes = Some(dump.map_or(0, |dump| dump.bytes));
            (outputs.tables, outputs.objects) = (Some(dump.map_or(0, |dump| dump.tables)), Some(0));
        }
        match outcome {
            Outcome::Done(_) => self.there(&resource.id),
            other => other,
        }
    }

    fn make_image(&mut self, resource: &Resource) -> Outcome {
        let of = resource.spec.of().map(|of| (of.project.clone(), of.sha));
        if self.things.get(&resource.id).is_none_or(|thing| thing.observed.phase != Phase::Whole) {
            if let (Spec::Pulled(pulled), Some(code)) = (&resource.spec, &of) {
                if self.pushed.get(code).is_none_or(|at| *at > self.now) {
                    return Outcome::Failed(Failure::waiting(format!("waiting for {}", pulled.reference)));
                }
            } else if let Some(Err(failure)) = of.map(|code| self.build_outcome(&code)) {
                return Outcome::Failed(failure);
            }
            self.create(&resource.id, resource.fingerprint.clone(), Phase::Whole, Vec::new());
            self.label(resource);
        }
        self.there(&resource.id)
    }

    fn make_job(&mut self, resource: &Resource) -> Outcome {
        let id = &resource.id;
        match self.things.get(id).map(|thing| thing.observed.phase) {
            Some(Phase::Exited { code: 0, .. }) => return self.there(id),
            Some(Phase::Exited { code, .. }) => {
                return Outcome::Failed(Failure::permanent(format!("{} exited with {code}", id.name)));
            }
            Some(Phase::Whole) => return Outcome::Waits,
            _ => {}
        }
        self.create(id, resource.fingerprint.clone(), Phase::Whole, uses_of(resource));
        self.label(resource);
        self.ignite(id);
        Outcome::Waits
    }

    fn make_container(&mut self, resource: &Resource) -> Outcome {
        let id = &resource.id;
        let state = self.things.get(id).map(|thing| (thing.observed.phase, thing.observed.run, thing.healthy));
        let secrets = secrets_of(resource);
        let down = state.is_some_and(|(_, run, _)| run == Run::Stopped);
        if down && self.things.get(id).is_some_and(|thing| thing.observed.outputs.secrets != secrets) {
            // What sleeps was created with other secrets: it is made anew.
            self.erase(id);
            return self.make_container(resource);
        }
        match state {
            Some((Phase::Whole, Run::Running, true)) => return self.there(id),
            Some((Phase::Whole, Run::Running, false)) => return Outcome::Waits,
            Some((Phase::Whole, Run::Paused, healthy)) => {
                self.thaw(id);
                if healthy {
                    return self.there(id);
                }
                // Frozen while it came up: it goes on from there.
                self.ignite(id);
                return Outcome::Waits;
            }
            Some(_) => {}
            None => {
                self.create(id, resource.fingerprint.clone(), Phase::Whole, uses_of(resource));
                self.label(resource);
                if let Some(thing) = self.things.get_mut(id) {
                    thing.observed.outputs.secrets = secrets;
                }
            }
        }
        if resource.run != Run::Running {
            return self.there(id);
        }
        self.ignite(id);
        Outcome::Waits
    }
}

fn action_backend(action: &Action) -> planner::resource::Backend {
    action.id().backend
}

fn wait_limit(action: &Action) -> u64 {
    match action {
        Action::Ensure(resource) => match &resource.spec {
            Spec::Container(container) | Spec::Job(container) => {
                u64::try_from(container.start_timeout.as_millis()).unwrap_or(60_000)
            }
            _ => 1_000,
        },
        _ => 1_000,
    }
}

/// What a container is labelled with of the secrets that it gets.
fn secrets_of(resource: &Resource) -> Option<String> {
    match &resource.spec {
        Spec::Container(container) => planner::secrets::digest(&container.secrets),
        _ => None,
    }
}

/// What the engine knows that a container cannot do without.
fn uses_of(resource: &Resource) -> Vec<ResourceId> {
    if !matches!(resource.id.kind, Kind::Job | Kind::Container) {
        return Vec::new();
    }
    let used = |need: &&ResourceId| matches!(need.kind, Kind::Network | Kind::Image | Kind::Volume);
    resource.needs.iter().filter(used).cloned().collect()
}
