//! Why things may be removed: the oracle's own small model of what is wanted.

use planner::identity::{EnvId, ProjectName, Sha, Time, Trust};
use planner::resource::{Kind, Owner, Reason, ResourceId};

use super::said::APPROVAL;
use super::{Oracle, World};

impl Oracle {
    /// An environment's present generations may go for this reason, now and later.
    pub(super) fn excuse(&mut self, env: &EnvId, reason: Reason) {
        let highest = self.highest.get(env).copied().unwrap_or(0);
        let cap = self.excuses.entry((env.clone(), reason)).or_default();
        *cap = (*cap).max(highest);
    }

    /// Notes for every environment that exists which reasons hold at this moment.
    pub(super) fn excuse_all(&mut self, now: Time, world: &World) {
        let mut held = Vec::new();
        for env in self.highest.keys() {
            let Some((project, sha, trust)) = self.names.get(env) else { continue };
            for reason in [Reason::Closed, Reason::Expired, Reason::Superseded, Reason::Trust] {
                if self.holds(now, world, env, (project, sha, *trust), reason) {
                    held.push((env.clone(), reason));
                }
            }
        }
        for (env, reason) in held {
            self.excuse(&env, reason);
        }
    }

    fn holds(&self, now: Time, world: &World, env: &EnvId, of: (&ProjectName, &Sha, Trust), reason: Reason) -> bool {
        let (project, sha, trust) = of;
        match reason {
            Reason::Closed => {
                let left = self.said.is_left_behind(project, sha) && self.robbed.iter().any(|(one, _)| one == env);
                let closed = self.said.sure_places(project, sha).next().is_none();
                let closed = closed && self.said.listed.contains(project);
                closed || left
            }
            Reason::Expired => self.has_expired(now, env, project, sha),
            Reason::Superseded => self.is_superseded(world, env, project, sha),
            Reason::Trust => match trust {
                Trust::Trusted => !self.said.sure_places(project, sha).any(|(_, said, _)| !said.foreign),
                // Handed over upwards once the trusted one serves, or no foreign ref has it any more.
                _ => {
                    let foreign = self.said.places(project, sha).any(|(_, said, _)| said.foreign);
                    let trusted = self.said.may_run(project, sha, Trust::Trusted, &self.policy);
                    let taken_over = self.was_ready(world, &self.key.env(project, sha, Trust::Trusted));
                    !foreign || (trusted && (taken_over || !self.shown.contains(env)))
                }
            },
            _ => false,
        }
    }

    /// The truth: its web process has answered in some generation.
    pub(super) fn was_ready(&self, world: &World, env: &EnvId) -> bool {
        world.answered.contains_key(env)
    }

    fn has_expired(&self, now: Time, env: &EnvId, project: &ProjectName, sha: &Sha) -> bool {
        let said = self.said.commits.get(&(project.clone(), *sha));
        if said.is_some_and(|said| said.pinned) {
            return false;
        }
        let visited = self.said.visits.get(env).copied().unwrap_or_default();
        let extended = said.map(|said| said.extended).unwrap_or_default();
        // The last minute of visits may be lost with a crash.
        let _ = extended;
        now.since(visited).as_secs() + 61 >= self.policy.lifetime.ttl.as_secs()
    }

    /// A newer commit took its place in every open ref that has it. Visits protect for a day unless places are short.
    fn is_superseded(&self, world: &World, env: &EnvId, project: &ProjectName, sha: &Sha) -> bool {
        if self.said.commits.get(&(project.clone(), *sha)).is_some_and(|said| said.pinned) {
            return false;
        }
        let served = self.shown.contains(env);
        let mut places = self.said.places(project, sha).filter(|(_, said, _)| !said.idle).peekable();
        places.peek().is_some()
            && places.all(|(_, said, back)| {
                said.list.iter().rev().take(back).any(|newer| {
                    let ids = [Trust::Approved, Trust::Trusted].map(|trust| self.key.env(project, newer, trust));
                    let ready = ids.iter().any(|id| self.was_ready(world, id));
                    let runs = self.said.is_runnable(project, newer, &self.policy);
                    ready || (!served && runs)
                })
            })
    }

    /// Whether this removal is justified now.
    pub(super) fn justified(&self, now: Time, world: &World, id: &ResourceId, reason: Reason) -> Result<(), String> {
        if let Owner::Baseline(version) = &id.owner {
            return self.judge_drop(id, version, reason, world);
        }
        let Owner::Env(env) = &id.owner else {
            return match reason {
                Reason::Unwanted | Reason::Orphan => self.judge_spare(id),
                _ => Err(format!("{id} is shared and cannot be removed as {reason:?}")),
            };
        };
        let capped = |reason: Reason| self.excuses.get(&(env.clone(), reason)).is_some_and(|cap| *cap >= id.generation);
        let ok = match reason {
            // What the guard has kept of a closed ref that is open again is old news there.
            Reason::Superseded => capped(reason) || self.spared.contains(env) && capped(Reason::Closed),
            Reason::Closed | Reason::Expired | Reason::Person | Reason::Revoked | Reason::Trust => capped(reason),
            Reason::Replaced => self.is_replaced(world, env, id),
            Reason::Cold => self.may_go_cold(id),
            Reason::Drift => self.has_drifted(id),
            Reason::Unwanted => id.kind == Kind::Image || self.is_needless(world, env, id),
            // What is left of generations before the one that was robbed is of no use either.
            Reason::Vanished => self.robbed.iter().any(|(one, generation)| one == env && *generation >= id.generation),
            Reason::TakenOut => self.released.contains(env),
            Reason::Orphan => self.is_orphan(now, env, id),
        };
        if ok { Ok(()) } else { Err(format!("{id} is removed as {reason:?}, and that does not hold")) }
    }

    /// The last images of a project are kept for a while: at least three others are there when one goes.
    fn judge_spare(&self, id: &ResourceId) -> Result<(), String> {
        let Owner::Project(project, _) = &id.owner else { return Ok(()) };
        let others = self.told.images_of(&id.owner).filter(|other| *other != id).count();
        if others < 3 && !self.taken_out.contains_key(project) {
            return Err(format!("{id} goes, and only {others} others of its project are kept"));
        }
        Ok(())
    }

    /// Replaced: a later generation of the environment has been ready, or has been begun and this one never served.
    fn is_replaced(&self, world: &World, env: &EnvId, id: &ResourceId) -> bool {
        let later_ready =
            world.answered.get(env).is_some_and(|all| all.last().is_some_and(|last| *last > id.generation));
        let served = self.served.contains(&(env.clone(), id.generation));
        later_ready || (!served && self.highest.get(env).is_some_and(|highest| *highest > id.generation))
    }

    pub(super) fn generation_was_ready(&self, world: &World, env: &EnvId, generation: u32) -> bool {
        world.answered.get(env).is_some_and(|all| all.contains(&generation))
    }

    /// The web process of that generation and all its further applications have answered.
    pub(super) fn all_have_answered(&self, world: &World, env: &EnvId, generation: u32) -> bool {
        let Some((project, sha, _)) = self.names.get(env) else { return false };
        let answered = |app: &&String| {
            let mut healthy = world.healthy.iter().filter(|id| id.owner == Owner::Env(env.clone()));
            healthy.any(|id| id.generation == generation && id.name == **app)
        };
        self.generation_was_ready(world, env, generation) && self.apps(project, sha).iter().all(answered)
    }

    fn may_go_cold(&self, id: &ResourceId) -> bool {
        matches!(id.kind, Kind::Container | Kind::Network | Kind::Job)
    }

    /// Differs from what was wanted, ended by itself or was cut off, as the core was told last.
    fn has_drifted(&self, id: &ResourceId) -> bool {
        matches!(id.kind, Kind::Container | Kind::Job)
    }

    /// The release job of a ready generation, and whatever a failed one need not run.
    fn is_needless(&self, world: &World, env: &EnvId, id: &ResourceId) -> bool {
        id.kind == Kind::Job && self.generation_was_ready(world, env, id.generation)
    }

    /// Nobody speaks for it any more: not wanted, or lost with the store; after a day, or when a person said so.
    fn is_orphan(&self, now: Time, env: &EnvId, id: &ResourceId) -> bool {
        let Some((project, sha, trust)) = self.names.get(env) else { return true };
        let heads = self.said.places(project, sha).any(|(_, said, back)| back == 0 && !said.foreign);
        let removed = self.said.commits.get(&(project.clone(), *sha)).is_some_and(|said| said.removed);
        if *trust == Trust::Trusted && heads && !removed {
            // What a project's own ref points to is taken up again, whatever was forgotten.
            return false;
        }
        let lost = self.lost.is_some_and(|lost| now > lost);
        let highest = self.highest.get(env).copied().unwrap_or(0);
        lost || !self.said.may_run(project, sha, *trust, &self.policy)
            || id.generation < highest
            || self.excuses.iter().any(|((one, _), cap)| one == env && *cap >= id.generation)
    }

    /// Whether an approval was still fresh enough to begin with.
    pub(super) fn approval_holds(&self, now: Time, project: &ProjectName, sha: &Sha) -> bool {
        self.said
            .commits
            .get(&(project.clone(), *sha))
            .is_some_and(|said| said.approved.is_some_and(|at| said.approval_used || now.since(at) <= APPROVAL))
    }
}
