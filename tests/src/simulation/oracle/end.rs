//! Judges the end: faults off, time has run on. What exists must be what open refs, approvals and commands say.

use std::collections::BTreeSet;

use planner::identity::{EnvId, Trust};
use planner::resource::{Kind, Owner, Phase, Reason, ResourceId, Run};
use planner::tables::{Door, EnvRoute, Route, Tables};
use planner::view::{CommitView, State, View};

use super::{Oracle, World};
use crate::simulation::world::Fate;

impl Oracle {
    /// Everything has settled: inventory, view and what was said must agree.
    pub fn judge_settled(&self, world: &World, view: &View) -> Result<(), String> {
        for (id, thing) in &world.things {
            self.judge_thing(id, thing.observed.phase, view)?;
        }
        for project in &view.projects {
            for one in &project.refs {
                for commit in &one.commits {
                    self.judge_commit(&project.name, commit, world)?;
                }
            }
        }
        self.judge_baselines(view)?;
        self.judge_places(view)
    }

    fn judge_thing(&self, id: &ResourceId, phase: Phase, view: &View) -> Result<(), String> {
        let half = matches!(phase, Phase::Partial | Phase::Lost);
        if half && self.may_be_half(id, view) {
            return Ok(());
        }
        if phase == Phase::Removing || half && !matches!(id.owner, Owner::Env(_)) {
            return Err(format!("{id} is left {phase:?}"));
        }
        let Owner::Env(env) = &id.owner else { return Ok(()) };
        let Some((project, sha, trust)) = self.names.get(env) else {
            return Err(format!("{id} is nobody's"));
        };
        let shown = commits(view).find(|commit| commit.env == *env);
        // What a lost store left is an orphan; too many of them wait for a person, and the view says so.
        let orphaned = self.lost.is_some() && view.warnings.iter().any(|line| line.contains("known by nothing"));
        // Of a commit that is handed over only one environment is shown; the guard may hold both.
        let twin = commits(view).any(|commit| commit.sha == *sha && commit.held);
        if shown.is_none() && (orphaned || twin) {
            return Ok(());
        }
        if !self.spared.contains(env) && !self.said.may_run(project, sha, *trust, &self.policy) {
            return Err(format!("{id} is left, and {} may not run as {trust}", sha.short()));
        }
        let Some(shown) = shown else { return Err(format!("{id} is left, and the view does not show it")) };
        // Nobody knows what served before the store was lost: it is kept as it is until the next generation is ready.
        let unknown = self.lost.is_some() && id.generation < shown.generation && shown.state == State::Failed;
        // A release that was cut off when something else of its generation failed for good stays for its logs.
        let cut = id.kind == Kind::Job && phase == Phase::Lost && shown.state == State::Failed;
        if half && !unknown && !cut {
            return Err(format!("{id} is left {phase:?}"));
        }
        if !lives(shown.state) {
            return Err(format!("{id} is left of an environment that is {}", shown.state.as_str()));
        }
        if id.kind != Kind::Image && id.generation != shown.generation && shown.state != State::Failed {
            return Err(format!("{id} is left of generation {}, and {} is current", id.generation, shown.generation));
        }
        Ok(())
    }

    fn judge_commit(
        &self,
        project: &planner::identity::ProjectName,
        commit: &CommitView,
        world: &World,
    ) -> Result<(), String> {
        let what = format!("{} ({})", commit.sha.short(), commit.state.as_str());
        if !commit.state.is_settled() && commit.state != State::Queued {
            return Err(format!("{what} has not settled: {:?}", commit.reason));
        }
        let fate = world.fates.get(&(project.clone(), commit.sha)).copied().unwrap_or(Fate::Good);
        // Code from outside is built here, whatever CI does.
        let built = fate == Fate::NoImage && commit.trust != Trust::Trusted;
        let sound = matches!(fate, Fate::Good | Fate::FlakyBuild(_)) || built;
        if commit.state == State::Failed && sound {
            return Err(format!("{what} is sound: {:?}", commit.reason));
        }
        let serves = matches!(commit.state, State::Ready | State::Dozing | State::Asleep);
        if serves && !sound && self.lost.is_none() {
            return Err(format!("{what} cannot have been ready: {fate:?}"));
        }
        let needs_reason = matches!(
            commit.state,
            State::Blocked | State::Queued | State::Failed | State::Superseded | State::Expired | State::Removed
        );
        if needs_reason && commit.reason.is_none() {
            return Err(format!("{what} gives no reason"));
        }
        if serves {
            self.judge_alive(commit, world)?;
        }
        let running = world.things.iter().find(|(id, thing)| {
            id.owner == Owner::Env(commit.env.clone())
                && id.kind == Kind::Container
                && thing.observed.run != Run::Stopped
        });
        match running {
            Some((id, _)) if commit.state == State::Failed && !self.was_ready(world, &commit.env) => {
                Err(format!("{what} failed for good, and {id} runs"))
            }
            _ => Ok(()),
        }
    }

    fn judge_alive(&self, commit: &CommitView, world: &World) -> Result<(), String> {
        let mine = world.things.iter().filter(|(id, _)| id.owner == Owner::Env(commit.env.clone()));
        let web = mine.clone().find(|(id, _)| id.kind == Kind::Container && id.name == "web");
        let run = web.map(|(_, thing)| thing.observed.run);
        let what = commit.sha.short();
        if let Some((id, _)) = mine.clone().find(|(id, _)| id.kind == Kind::Job && id.generation == commit.generation) {
            return Err(format!("{id} is left, and its generation is ready"));
        }
        let data = |id: &ResourceId| {
            let data = matches!(id.kind, Kind::Database | Kind::Bucket | Kind::Volume);
            data && id.owner == Owner::Env(commit.env.clone()) && id.generation == commit.generation
        };
        let lost = world.completed.iter().find(|(id, _)| data(id) && !world.things.contains_key(id));
        // What the guard holds runs on as it is.
        if let Some((id, _)) = lost.filter(|_| !commit.held) {
            return Err(format!("{what} serves without its {}", id.kind.as_str()));
        }
        match commit.state {
            State::Ready if run != Some(Run::Running) => {
                Err(format!("{what} is ready, and its web process is {run:?}"))
            }
            State::Dozing if run != Some(Run::Paused) => Err(format!("{what} dozes, and its web process is {run:?}")),
            State::Asleep if run.is_some_and(|run| run != Run::Stopped) => {
                Err(format!("{what} is asleep, and its web process is {run:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A place that is free is given to somebody who waits for one.
    fn judge_places(&self, view: &View) -> Result<(), String> {
        let (taken, all) = view.places;
        let waiting = commits(view).find(|commit| commit.state == State::Queued && !waits_for_image(commit));
        match waiting {
            Some(commit) if taken < all => Err(format!(
                "{} waits while {taken} of {all} places are taken: {:?}",
                commit.sha.short(),
                commit.reason
            )),
            _ => Ok(()),
        }
    }

    /// Somebody asked for these commits, nothing stands in the way: they live, or wait for a place.
    pub fn judge_asked(&self, world: &World, view: &View) -> Result<(), String> {
        for ((project, sha), said) in &self.said.commits {
            let heads = self.said.places(project, sha).any(|(_, said, back)| back == 0 && !said.lost);
            let heads = heads && !self.taken_out.contains_key(project);
            if !said.asked || said.forgotten || !heads || world.fates.get(&(project.clone(), *sha)) != Some(&Fate::Good)
            {
                continue;
            }
            let trusts = [Trust::Trusted, Trust::Approved];
            let may = |trust: &Trust| {
                let approved = said.surely_approved && self.approval_holds(world.now, project, sha);
                let own = self.said.sure_places(project, sha).any(|(_, said, _)| !said.foreign);
                let sure = *trust == Trust::Trusted && own || approved;
                let set = !self.lacks_secret(project, sha, *trust);
                sure && set && self.said.may_run(project, sha, *trust, &self.policy)
            };
            if !trusts.iter().any(may) {
                continue;
            }
            let envs = trusts.map(|trust| self.key.env(project, sha, trust));
            // Outranked foreign code comes back; a ref of the project's own that closed has forgotten who asked.
            let lasts = |one: &EnvId, reason: &Reason| *reason != Reason::Trust || *one == envs[0];
            let doomed = self.excuses.keys().any(|(one, reason)| envs.contains(one) && lasts(one, reason));
            let shown = commits(view).find(|commit| envs.contains(&commit.env));
            // An older commit of an own ref that was approved runs as foreign code: it waits for the secrets of that class.
            let own = self.said.places(project, sha).any(|(_, said, back)| back == 0 && !said.foreign);
            let lacks = |commit: &CommitView| {
                commit.state == State::Blocked
                    && commit.trust == Trust::Approved
                    && !own
                    && self.lacks_secret(project, sha, Trust::Approved)
            };
            let without =
                |commit: &CommitView| commit.state == State::Blocked && self.lacks_baseline(project, sha, view);
            let fine = shown.is_some_and(|commit| {
                lives(commit.state) || commit.state == State::Queued || lacks(commit) || without(commit)
            });
            if !fine && !doomed {
                return Err(format!(
                    "{} was asked for and is {:?}",
                    sha.short(),
                    shown.map(|one| (one.state, &one.reason))
                ));
            }
        }
        Ok(())
    }

    /// After a knock and some time the door is open.
    pub fn judge_woken(&self, env: &EnvId, tables: &Tables) -> Result<(), String> {
        // At a full quota a newer commit may take its place at any time; what lost its data while it was held cannot wake.
        let displaced = self.excuses.contains_key(&(env.clone(), planner::resource::Reason::Superseded));
        if displaced || self.robbed.iter().any(|(robbed, _)| robbed == env) {
            return Ok(());
        }
        let routes = tables.routes.values().filter_map(|route| match route {
            Route::Env(route) => Some(&**route),
            _ => None,
        });
        let routes: Vec<&EnvRoute> = routes.collect();
        let route = routes.iter().find(|route| route.env == *env);
        let others = routes.iter().filter(|route| matches!(route.door, Door::Open(_)) && route.env != *env);
        let open = others.map(|route| &route.env).collect::<BTreeSet<_>>().len();
        match route {
            Some(route) if matches!(route.door, Door::Open(_)) => Ok(()),
            // Those that were visited or became ready later put it to sleep again.
            _ if open >= self.policy.limits.awake => Ok(()),
            other => {
                Err(format!("{env} was knocked at and does not open: {:?}", other.map(|r| (&r.door, &r.page.state))))
            }
        }
    }

    /// All refs are closed and time has passed: nothing of ours remains but the last images of each project, and those not
    /// either once it is not configured any more.
    pub fn judge_nothing(&self, world: &World, tables: &Tables) -> Result<(), String> {
        let kept = |id: &ResourceId| match &id.owner {
            Owner::Project(project, _) => id.kind == Kind::Image && !self.taken_out.contains_key(project),
            _ => false,
        };
        let mut leaked = world.things.iter().filter(|(id, _)| !kept(id));
        if let Some((id, thing)) = leaked.next() {
            return Err(format!("{} things leaked, {id} ({:?}) among them", leaked.count() + 1, thing.observed.phase));
        }
        let open = tables
            .routes
            .iter()
            .find(|(_, route)| matches!(route, Route::Env(one) if matches!(one.door, Door::Open(_))));
        match open {
            Some((host, _)) => Err(format!("{host} is open and nothing exists")),
            None => Ok(()),
        }
    }
}

/// All commits that the view shows.
pub fn commits(view: &View) -> impl Iterator<Item = &CommitView> {
    view.projects.iter().flat_map(|project| &project.refs).flat_map(|one| &one.commits)
}

/// It has a place, and CI has not pushed its image yet.
pub fn waits_for_image(commit: &CommitView) -> bool {
    let reason = commit.reason.as_deref().unwrap_or_default();
    commit.state == State::Queued && reason.starts_with("waiting for")
}

fn lives(state: State) -> bool {
    matches!(state, State::Ready | State::Dozing | State::Asleep | State::Waking | State::Failed)
}
