//! Judges the tables: where visitors would be sent, and whether what served still does.

use std::collections::{BTreeMap, BTreeSet};

use planner::identity::{EnvId, Time, Trust};
use planner::resource::{Action, Kind, Owner, Phase, ResourceId, Run};
use planner::tables::{Door, EnvRoute, Route, Tables, Upstream};

use super::{Oracle, World};
use crate::simulation::world::Life;

impl Oracle {
    pub(super) fn judge_doors(&mut self, now: Time, tables: &Tables, world: &World) -> Result<(), String> {
        let mut open = BTreeMap::new();
        let mut generations = BTreeMap::new();
        for (host, route) in &tables.routes {
            match route {
                Route::Env(route) => {
                    self.judge_host(host, route)?;
                    let front = self.front(host, route);
                    if let Door::Open(upstream) = &route.door {
                        self.judge_open(route, &front, upstream, world)?;
                        let generation = *generations.entry(route.env.clone()).or_insert(upstream.generation);
                        if generation != upstream.generation {
                            return Err(format!("{} is open at two generations at once", route.sha.short()));
                        }
                        if front == "web" {
                            open.insert(route.env.clone(), upstream.clone());
                        }
                    }
                }
                Route::Alias { to, .. } => {
                    if !matches!(tables.routes.get(to), Some(Route::Env(_))) {
                        return Err(format!("alias {host} leads to {to}, which is no environment"));
                    }
                }
                Route::Objects { .. } => {}
            }
            let label = host.strip_suffix(&format!(".{}", self.policy.domain));
            if let Some(label) = label
                && !tables.zone.names.iter().any(|name| name == label)
            {
                return Err(format!("{host} has a route and no name in the zone"));
            }
        }
        self.judge_darkness(now, &open, world)?;
        for (env, upstream) in &open {
            self.served.insert((env.clone(), upstream.generation));
            self.note_births(env, upstream.generation, world);
        }
        if open.len() > self.policy.limits.awake {
            return Err(format!("{} environments are awake, and {} may be", open.len(), self.policy.limits.awake));
        }
        self.open = open;
        Ok(())
    }

    fn judge_host(&self, host: &str, route: &EnvRoute) -> Result<(), String> {
        let known = self.names.get(&route.env);
        match known {
            Some((_, sha, _)) if *sha == route.sha && host.starts_with(&sha.to_string()) => Ok(()),
            _ => Err(format!("{host} is the route of {} ({})", route.env, route.sha)),
        }
    }

    /// Which container a host is for: `<sha>--api` is that of the application, all others are the web process's.
    fn front(&self, host: &str, route: &EnvRoute) -> String {
        let label = host.split('.').next().unwrap_or(host);
        let part = label.split("--").nth(1).unwrap_or_default();
        let of = self.names.get(&route.env);
        let apps = of.map(|(project, sha, _)| self.apps(project, sha)).unwrap_or_default();
        apps.into_iter().find(|app| *app == part).cloned().unwrap_or_else(|| "web".to_owned())
    }

    fn judge_open(&self, route: &EnvRoute, front: &str, upstream: &Upstream, world: &World) -> Result<(), String> {
        let name = &upstream.container;
        let wrong = |why: &str| Err(format!("route of {} to {name}: {why}", route.sha.short()));
        let Some(life) = world.lives.get(name) else { return wrong("no such container ever ran") };
        if life.id.owner != Owner::Env(route.env.clone()) || life.id.generation != upstream.generation {
            return wrong(&format!("it is {}", life.id));
        }
        if life.id.name != front {
            return wrong(&format!("it is not {front}"));
        }
        let Some((project, sha, trust)) = self.names.get(&route.env) else { return wrong("no such environment") };
        if !self.spared.contains(&route.env) && !self.may_serve(project, sha, *trust) {
            return wrong(&format!("it may not run as {trust}"));
        }
        // What a lost store left is taken up as it is.
        if self.lost.is_none() && !self.generation_was_ready(world, &route.env, upstream.generation) {
            return wrong("its generation has never answered");
        }
        let silent = self.apps(project, sha).into_iter().find(|app| {
            let id = ResourceId { name: (*app).clone(), ..life.id.clone() };
            !world.healthy.contains(&id)
        });
        if let Some(app) = silent.filter(|_| self.lost.is_none()) {
            return wrong(&format!("its application {app} has never answered"));
        }
        // Started anew by a call that nobody waits for any more, it is elsewhere until a listing says so.
        if Some(upstream.address.ip()) != life.address && self.was_told_since(life.since) {
            return wrong("it listens at another address");
        }
        if let Some(down) = life.down
            && self.was_told_since(down)
            && !self.is_running_by_return(&life.id)
        {
            return wrong("it does not run, and a listing said so");
        }
        if self.doubtful.contains_key(&life.id) {
            return wrong("lowering it failed, and no listing has shown since what it is");
        }
        let companion = ResourceId { name: "cache".to_owned(), ..life.id.clone() };
        let lowered = self.flights.values().find_map(|flight| match &flight.action {
            Action::Remove(id, _) => (*id == life.id).then_some(id),
            Action::Rest(id, run) => (*run != Run::Running && [&life.id, &companion].contains(&id)).then_some(id),
            Action::Ensure(_) => None,
        });
        if let Some(id) = lowered {
            return wrong(&format!("{} is being lowered or removed", id.name));
        }
        // A paused process has not ended by itself, and hangs whoever asks it.
        let seen = [self.told.last(&companion), world.things.get(&companion).map(|thing| &thing.observed)];
        if seen.iter().all(|seen| seen.is_some_and(|seen| seen.run == Run::Paused)) {
            return wrong("its companion is paused");
        }
        Ok(())
    }

    /// Handing over keeps the old trust serving until the new one is ready.
    fn may_serve(&self, project: &planner::identity::ProjectName, sha: &planner::identity::Sha, trust: Trust) -> bool {
        self.said.may_run(project, sha, trust, &self.policy)
    }

    fn was_told_since(&self, moment: Time) -> bool {
        self.told.listed.get(&planner::resource::Backend::Engine).is_some_and(|(began, _)| began.at > moment)
    }

    fn is_running_by_return(&self, id: &ResourceId) -> bool {
        self.told.returned.get(id).is_some_and(|(_, observed)| observed.run == Run::Running)
    }

    /// What served keeps serving.
    fn judge_darkness(&self, now: Time, open: &BTreeMap<EnvId, Upstream>, world: &World) -> Result<(), String> {
        for (env, upstream) in &self.open {
            if open.contains_key(env) {
                continue;
            }
            let Some(life) = world.lives.get(&upstream.container) else { continue };
            if !self.may_darken(now, env, upstream, life, open, world) {
                return Err(format!("{} served and serves no more, for no reason", life.id));
            }
        }
        Ok(())
    }

    fn may_darken(
        &self,
        now: Time,
        env: &EnvId,
        upstream: &Upstream,
        life: &Life,
        open: &BTreeMap<EnvId, Upstream>,
        world: &World,
    ) -> bool {
        let Some((project, sha, trust)) = self.names.get(env) else { return true };
        let told = self.told.last(&life.id);
        let gone =
            life.down.is_some() || told.is_none_or(|seen| seen.run != Run::Running || seen.phase != Phase::Whole);
        let other = told.is_some_and(|seen| seen.outputs.id.as_ref() != Some(&upstream.container));
        let drift = world.things.get(&life.id).is_none_or(|thing| thing.observed.fingerprint.0 == "drifted");
        let doomed = self.excuses.iter().any(|((one, _), cap)| one == env && *cap >= upstream.generation);
        let fallen = !self.said.may_run(project, sha, *trust, &self.policy);
        let visited = self.said.visits.get(env).copied().unwrap_or_default();
        let idle = now.since(visited).as_secs() + 61 >= self.policy.lifetime.idle.as_secs();
        let slept = self.said.commits.get(&(project.clone(), *sha)).is_some_and(|said| said.slept);
        let lively = |at: &Time| now.since(*at) <= self.policy.lifetime.idle;
        let visited_lately = self.said.visits.iter().filter(|(_, at)| lively(at)).map(|(env, _)| env);
        let awake = self.policy.limits.awake;
        // What has just become ready counts as visited.
        let crowd: BTreeSet<&EnvId> = visited_lately.chain(open.keys()).collect();
        let crowded = open.len() >= awake || crowd.len() > awake;
        let released = self.released.contains(env) && self.taken_out.contains_key(project);
        let robbed = self.robbed.contains(&(env.clone(), upstream.generation));
        let companion = ResourceId { name: "cache".to_owned(), ..life.id.clone() };
        let alone = self.told.last(&companion).is_some_and(|seen| seen.run != Run::Running);
        let copied = self.data.copied.contains(&(env.clone(), upstream.generation));
        alone || copied || gone || other || drift || doomed || fallen || idle || slept || crowded || robbed || released
    }

    /// The data of a generation that serves is the data that it began to serve with.
    fn note_births(&mut self, env: &EnvId, generation: u32, world: &World) {
        let owner = Owner::Env(env.clone());
        for (id, thing) in &world.things {
            if !matches!(id.kind, Kind::Database | Kind::Bucket | Kind::Volume)
                || id.generation != generation
                || id.owner != owner
            {
                continue;
            }
            // A call of long ago may still land and make it again; that the core does is judged when it calls.
            self.births.entry(id.clone()).or_insert(thing.born);
        }
    }
}
