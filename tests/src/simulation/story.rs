//! One seed from its hostile beginning to its end, when nothing of ours may remain.

use std::collections::BTreeMap;

use planner::command::{BaselineAct, Command};
use planner::identity::{EnvId, Time};
use planner::view::State;

use super::oracle::{commits, waits_for_image};
use super::run::{Errand, Sim, Violation};

/// What a seed came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Steps of the core.
    pub steps: u64,
    /// Calls started.
    pub calls: u64,
    /// Environments that opened in the end.
    pub woken: u64,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: Tally) {
        self.steps += other.steps;
        self.calls += other.calls;
        self.woken += other.woken;
    }
}

/// Plays a seed.
///
/// # Errors
/// The first rule that was broken.
pub fn play(seed: u64, tracing: bool) -> Result<Tally, Violation> {
    let mut sim = Sim::new(seed, tracing);
    sim.found();
    sim.errand(2_000, Errand::Act);
    while sim.acts < sim.settings.acts {
        let end = Time(sim.world.now.0 + 600_000);
        sim.run_until(end)?;
    }
    let woken = sim.finish()?;
    Ok(Tally { steps: u64::from(sim.steps), calls: u64::from(sim.calls), woken })
}

impl Sim {
    /// Faults are over, time runs on: everything settles, wakes when knocked at, and goes when all refs are closed.
    pub fn finish(&mut self) -> Result<u64, Violation> {
        self.calm = true;
        self.world.faults = 0;
        self.world.down.clear();
        let all = self.settings.all.clone();
        self.reconfigure(|policy| policy.projects = all);
        let end = Time(self.world.now.0 + 5_000);
        self.run_until(end)?;
        self.poll_all();
        self.settle("settle")?;
        if self.world.rng.chance(500) {
            self.ask_for_heads();
            self.settle("settle after everybody asked")?;
        }
        let (world, view) = (&self.world, self.view.clone());
        let judged = self.oracle.judge_settled(world, &view).and_then(|()| self.oracle.judge_asked(world, &view));
        judged.map_err(|what| self.violation(what))?;
        let woken = self.knock_everywhere()?;
        self.close_all()?;
        Ok(woken)
    }

    fn poll_all(&mut self) {
        for project in self.settings.policy.projects.keys().cloned().collect::<Vec<_>>() {
            self.hint(&project);
        }
    }

    /// Runs on until nothing has been called for some time and nothing waits, across a day for orphans.
    fn settle(&mut self, what: &str) -> Result<(), Violation> {
        self.say(|| format!("*** {what}"));
        for day in 0..3 {
            self.quiet(what)?;
            if day < 2 {
                self.world.now = Time(self.world.now.0 + 13 * 3_600_000);
                self.poll_all();
            }
        }
        Ok(())
    }

    fn quiet(&mut self, what: &str) -> Result<(), Violation> {
        self.last_call = self.world.now;
        for _ in 0..60 {
            let end = Time(self.world.now.0 + 100_000);
            self.run_until(end)?;
            let still = self.world.now.since(self.last_call).as_secs() >= 100 && !self.world.is_busy();
            if !still {
                continue;
            }
            // Backing off: the clock runs on to the next try, unless that is a matter of days.
            // What waits for a place may wait for ever; what has one waits for an image by CI.
            let waits = |one: &planner::view::CommitView| one.state == State::Queued && !waits_for_image(one);
            let unsettled = commits(&self.view).any(|one| !one.state.is_settled() && !waits(one));
            let retry = self.wake_at().filter(|at| at.since(self.world.now).as_secs() < 3 * 3_600);
            match retry {
                Some(at) if unsettled => self.world.now = at.max(self.world.now),
                None if unsettled => {}
                _ => return Ok(()),
            }
        }
        let loops: BTreeMap<String, &str> =
            commits(&self.view).map(|one| (one.sha.short(), one.state.as_str())).collect();
        Err(self.violation(format!("{what}: not quiet after 100 minutes; {loops:?}")))
    }

    fn ask_for_heads(&mut self) {
        let projects: Vec<_> = self.forge.repositories.keys().cloned().collect();
        for project in projects {
            for head in self.forge.heads(&project, &std::collections::BTreeSet::new()) {
                let (project, sha) = (project.clone(), head.sha);
                self.ask(if head.foreign {
                    Command::Approve { project, sha }
                } else {
                    Command::Stage { project, sha }
                });
            }
        }
    }

    /// Whoever visits what sleeps finds it open a little later, one after the other.
    fn knock_everywhere(&mut self) -> Result<u64, Violation> {
        let view = self.view.clone();
        let alive = |state| matches!(state, State::Ready | State::Dozing | State::Asleep);
        let envs: Vec<EnvId> = commits(&view).filter(|one| alive(one.state)).map(|one| one.env.clone()).collect();
        for env in envs.iter().take(4) {
            self.send(1, planner::event::Event::Knock(env.clone()));
            let end = Time(self.world.now.0 + 100_000);
            self.run_until(end)?;
            let went = commits(&self.view)
                .any(|one| one.env == *env && matches!(one.state, State::Superseded | State::Expired));
            let judged = if went { Ok(()) } else { self.oracle.judge_woken(env, &self.tables.clone()) };
            judged.map_err(|what| self.violation(what))?;
        }
        Ok(envs.len() as u64)
    }

    /// All refs close, an administrator confirms, a day passes.
    fn close_all(&mut self) -> Result<(), Violation> {
        for repository in self.forge.repositories.values_mut() {
            repository.refs.values_mut().for_each(|branch| branch.open = false);
        }
        self.poll_all();
        let end = Time(self.world.now.0 + 60_000);
        self.run_until(end)?;
        self.remove_left_behind();
        self.ask(Command::Gc { confirm: true });
        self.settle("all refs closed")?;
        let names: Vec<String> = self.view.baselines.iter().map(|baseline| baseline.name.clone()).collect();
        for name in names {
            self.ask(Command::Baseline { name, act: BaselineAct::Remove(None) });
        }
        self.quiet("baselines removed")?;
        self.judge_nothing()?;
        self.reconfigure(|policy| policy.projects.clear());
        let end = Time(self.world.now.0 + 10_000);
        self.run_until(end)?;
        self.quiet("no projects")?;
        self.judge_nothing()
    }

    fn judge_nothing(&mut self) -> Result<(), Violation> {
        let (world, tables) = (&self.world, self.tables.clone());
        self.oracle.judge_nothing(world, &tables).map_err(|what| self.violation(what))
    }

    /// What a person asked for by the name of a branch or tag outlives that: only its time, or a person, ends it.
    fn remove_left_behind(&mut self) {
        let view = self.view.clone();
        for project in &view.projects {
            let open = project.refs.iter().filter(|of| of.open);
            let live = open.flat_map(|of| &of.commits).filter(|commit| commit.generation > 0);
            for commit in live {
                self.ask(Command::Remove { project: project.name.clone(), sha: commit.sha });
            }
        }
    }
}
