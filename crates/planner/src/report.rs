//! What people see of each commit: one state, one reason, and the view that all pages and listings show.

use std::collections::BTreeMap;

use crate::decide::{Eyes, Obstacle};
use crate::desired::{Desired, failed_for_good, first_failure};
use crate::facts::{EnvRow, Listed, RefRow};
use crate::identity::{EnvId, ProjectName, Time, Trust};
use crate::plan::{Plan, backend_name};
use crate::policy::StageMode;
use crate::resource::{Action, Failure, Kind, Owner, Phase, Reason, Resource, ResourceId, Run};
use crate::sleep::Level;
use crate::spec::Origin;
use crate::standing::Commit;
use crate::view::State;

mod baselines;
mod build;
mod data;
mod memory;

/// Everything that is reported on, as of one moment.
#[derive(Debug)]
pub struct Report<'r, 'a> {
    /// What is known.
    pub eyes: &'r Eyes<'a>,
    /// What should exist.
    pub desired: &'r Desired<'a>,
    waiting: BTreeMap<&'r ResourceId, &'r str>,
}

/// One commit as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status<'a> {
    /// The environment that is shown: the one that serves, else the one that would.
    pub env: &'a EnvId,
    /// At which trust.
    pub trust: Trust,
    /// What is remembered of it.
    pub row: Option<&'a EnvRow>,
    /// The state.
    pub state: State,
    /// One line: why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Time,
}

type Told = (State, Option<String>, Time);

impl<'r, 'a> Report<'r, 'a> {
    /// Reports on a plan.
    #[must_use]
    pub fn new(eyes: &'r Eyes<'a>, desired: &'r Desired<'a>, plan: &'r Plan) -> Report<'r, 'a> {
        let waiting = plan.waiting.iter().map(|(id, why)| (id, why.as_str())).collect();
        Report { eyes, desired, waiting }
    }

    /// The state of one commit.
    #[must_use]
    pub fn status(&self, commit: &Commit<'a>) -> Status<'a> {
        let standing = &self.eyes.standing;
        let serves = |trust| standing.row(commit, trust).is_some_and(|row| row.serving().is_some());
        let lives = |trust| standing.row(commit, trust).is_some_and(EnvRow::is_live);
        let mut trust = standing.trust(commit);
        if trust == Trust::Trusted && !serves(trust) && serves(Trust::Approved) {
            trust = Trust::Approved;
        } else if trust == Trust::Untrusted {
            // What is held, or on its way out, is still what stands behind the name.
            let known = |trust: &Trust| standing.row(commit, *trust).is_some();
            let all = [Trust::Trusted, Trust::Approved];
            let own = if commit.is_own() { Trust::Trusted } else { trust };
            trust = all.into_iter().find(|trust| lives(*trust)).unwrap_or(own);
            if trust == Trust::Untrusted && commit.open.is_empty() {
                trust = all.into_iter().find(known).unwrap_or(trust);
            }
        }
        let (env, row) = (commit.ids.at(trust), standing.row(commit, trust));
        let (state, reason, since) = match row {
            Some(row) if row.is_live() => self.living(env, row),
            _ => self.not_living(commit, trust, env, row),
        };
        Status { env, trust, row, state, reason, since }
    }

    fn living(&self, env: &EnvId, row: &EnvRow) -> Told {
        let (state, reason, since) = match row.serving() {
            Some(generation) => self.serving(env, row, generation),
            None => self.coming_up(env, row),
        };
        let held = row
            .held
            .map(|held| format!("its removal ({}) is held: `sidestage gc --confirm` lets it happen", why(held)));
        let commit = self.eyes.standing.commit(&row.of.project, &row.of.sha);
        let left = commit.and_then(Commit::left_by).filter(|_| row.of.trust == Trust::Trusted);
        (state, held.or(reason).or(left.map(RefRow::whereabouts)), since)
    }

    fn serving(&self, env: &EnvId, row: &EnvRow, generation: u32) -> Told {
        let ready = row.ready.as_ref().map_or(Time(0), |ready| ready.at);
        let last = crate::sleep::last_sign(row);
        let lifetime = &self.eyes.standing.policy.lifetime;
        let next = self.next_generation(env, row);
        let level = self.desired.levels.of.get(env).copied().unwrap_or(Level::Awake);
        match level {
            Level::Dozing => return (State::Dozing, next, last.after(lifetime.idle)),
            Level::Asleep | Level::Cold => {
                let slept = row.slept.unwrap_or_else(|| last.after(lifetime.sleep));
                return (State::Asleep, next, slept.min(self.eyes.standing.now));
            }
            Level::Awake => {}
        }
        let Ok(blueprint) = self.eyes.blueprints.get(env, generation) else {
            return (State::Ready, next, ready);
        };
        // It serves while its web process does, whatever becomes of the others; their troubles are shown.
        let down = blueprint.of(Kind::Container).filter(|part| !self.is_up(&part.id));
        let failures = down.filter_map(|part| self.eyes.ledger.failure(&part.id, &part.fingerprint));
        let failed = failures.min_by_key(|failed| failed.id.name != "web");
        let trouble = failed.map(|failed| format!("{}; started again", self.words(blueprint, failed)));
        let trouble = trouble.or_else(|| self.short_of_memory(blueprint));
        if blueprint.web().is_some_and(|web| self.is_reachable(web)) {
            let unplaced = "it has no place of its own: none of its refs can spare one";
            let unplaced = row.admitted.is_none().then(|| unplaced.to_owned());
            return (State::Ready, trouble.or(next).or(unplaced), ready);
        }
        match failed.filter(|failed| failed.id.name == "web") {
            Some(failed) => (State::Failed, trouble, failed.at),
            None => (State::Waking, self.blocked_part(env, generation).or(trouble).or(next), last),
        }
    }

    /// A word on the generation that comes up beside the one that serves.
    fn next_generation(&self, env: &EnvId, row: &EnvRow) -> Option<String> {
        if row.again.is_some()
            && let Err(Obstacle::Blocked(why) | Obstacle::Failed(why)) = self.eyes.startable(&row.of, row.chosen())
        {
            return Some(format!("the next generation cannot begin: {why}"));
        }
        let coming = row.coming()?;
        let blueprint = self.eyes.blueprints.get(env, coming).ok()?;
        Some(match first_failure(blueprint, self.eyes.ledger) {
            Some(failed) if failed.waiting => format!("generation {coming} is {}", failed.text),
            Some(failed) => format!("generation {coming} has failed: {}", self.words(blueprint, failed)),
            None => format!("generation {coming} is coming up"),
        })
    }

    /// Whether visitors can reach it: it is up, and none of its companions rests. While an environment falls asleep and is
    /// woken at once the cache may stop before the application does, which would answer with an error. A companion that
    /// failed or was deleted closes nothing.
    #[must_use]
    pub fn is_reachable(&self, part: &Resource) -> bool {
        let mut companions = part.needs.iter().filter(|need| need.kind == Kind::Container);
        self.is_up(&part.id) && !companions.any(|companion| self.rests(companion))
    }

    /// Whether it was lowered, or may be on its way down, rather than having ended by itself.
    fn rests(&self, id: &ResourceId) -> bool {
        let ledger = self.eyes.ledger;
        let Some(seen) = self.eyes.inventory.seen.get(id) else { return false };
        let lowered = match seen.run {
            Run::Running => false,
            Run::Paused => true,
            Run::Stopped => ledger.failure(id, &seen.fingerprint).is_none(),
        };
        let call = ledger.call_for(id).is_some_and(|call| matches!(call.action, Action::Rest(..)));
        // A removal that is under way is none: what drifted is replaced beside visitors.
        let removed = seen.phase == Phase::Removing && ledger.lowering_failure(id).is_none();
        lowered || call || (ledger.is_unsure(id) && !removed)
    }

    /// Whether it runs, and nothing is being done to it.
    #[must_use]
    pub fn is_up(&self, id: &ResourceId) -> bool {
        let seen = self.eyes.inventory.seen.get(id);
        let runs = seen.is_some_and(|observed| observed.run == Run::Running && observed.phase == Phase::Whole);
        runs && !self.eyes.ledger.is_busy(id)
    }

    fn coming_up(&self, env: &EnvId, row: &EnvRow) -> Told {
        let Some(begun) = &row.begun else { return (State::Queued, None, Time(0)) };
        let blueprint = match self.eyes.blueprints.get(env, begun.generation) {
            Ok(blueprint) => blueprint,
            Err(why) => return (State::Blocked, Some(why.to_owned()), begun.at),
        };
        let failed = first_failure(blueprint, self.eyes.ledger);
        if failed_for_good(blueprint, self.eyes.ledger) {
            return (
                State::Failed,
                failed.map(|failed| self.words(blueprint, failed)),
                failed.map_or(begun.at, |failed| failed.at),
            );
        }
        if let Some(failed) = failed.filter(|failed| failed.waiting) {
            return (State::Queued, Some(failed.text.clone()), begun.at);
        }
        let trying = failed.map(|failed| format!("{}; tried again soon", self.words(blueprint, failed)));
        let images = blueprint.of(Kind::Image).map(|image| &image.id);
        let Some(image) = images.into_iter().find(|image| !self.eyes.is_there(image)) else {
            let blocked = self.blocked_part(env, begun.generation);
            return (State::Starting, trying.or(blocked), begun.at);
        };
        match self.eyes.ledger.call_for(image) {
            Some(call) => (State::Building, trying, call.since),
            None => {
                let waits = self.waiting.get(image).map(|why| (*why).to_owned());
                (State::Queued, trying.or(waits).or_else(|| Some("the build is about to begin".to_owned())), begun.at)
            }
        }
    }

    /// What keeps a generation from going on, if it is a backend.
    fn blocked_part(&self, env: &EnvId, generation: u32) -> Option<String> {
        let blueprint = self.eyes.blueprints.get(env, generation).ok()?;
        let backends = blueprint.parts.iter().map(|part| part.id.backend);
        let silent = backends.into_iter().find(|backend| !self.eyes.inventory.known.contains(backend))?;
        Some(format!("{} does not answer", backend_name(silent)))
    }

    fn not_living(&self, commit: &Commit<'a>, trust: Trust, env: &'a EnvId, row: Option<&EnvRow>) -> Told {
        let standing = &self.eyes.standing;
        let claim = standing.claim(commit, trust).filter(|_| trust != Trust::Untrusted);
        let listed = commit.open.iter().chain(&commit.closed).map(|(_, listed)| *listed);
        let pushed = listed.max_by_key(|listed| listed.sequence).map_or(Time(0), |listed| listed.at);
        let asked = row.and_then(|row| row.asked).map_or(pushed, |asked| asked.at);
        if claim.is_some() && !commit.open.is_empty() {
            if self.eyes.wanted.contains(env) {
                let (state, reason) = self.queued(commit, trust, env);
                return (state, Some(reason), asked);
            }
            if let Some(waiting) = standing.ci(commit) {
                let state = if waiting.red { State::Blocked } else { State::Queued };
                return (state, Some(waiting.why), asked);
            }
            return (State::Superseded, Some("a newer commit came before it was begun".to_owned()), asked);
        }
        if let Some(gone) = row.and_then(|row| row.gone) {
            // Nothing is called gone before a listing has shown it gone.
            let left = !self.eyes.sees_all() || self.eyes.inventory.of(&Owner::Env(env.clone())).next().is_some();
            let state = match gone.reason {
                _ if left => State::Removing,
                Reason::Expired => State::Expired,
                Reason::Superseded => State::Superseded,
                _ => State::Removed,
            };
            // Of a fork's commit that nobody approves now, that is what counts.
            if trust != Trust::Untrusted || left {
                return (state, Some(why(gone.reason).to_owned()), gone.at);
            }
        }
        if commit.open.is_empty() {
            return (State::Removed, Some(why(Reason::Closed).to_owned()), pushed);
        }
        let project = standing.policy.projects.get(commit.project);
        if trust == Trust::Untrusted {
            let forks = project.is_some_and(|project| project.forks);
            let reason = if forks {
                "it comes from outside: a maintainer has to approve exactly this commit".to_owned()
            } else {
                format!("it comes from outside, and {}", never(commit.project))
            };
            return (State::Blocked, Some(reason), pushed);
        }
        let off = project.is_none_or(|project| project.stage == StageMode::Off);
        let of = Origin { project: commit.project.clone(), sha: commit.sha, trust };
        let reason = match self.eyes.startable(&of, None) {
            _ if off => Some("`stage` of the project is \"off\"".to_owned()),
            Err(Obstacle::Failed(why) | Obstacle::Blocked(why)) => Some(why),
            _ => commit.open.iter().find_map(|(of, _)| of.skipped.clone()),
        };
        (State::Unstaged, reason, pushed)
    }

    /// Wanted and not begun: why.
    fn queued(&self, commit: &Commit<'a>, trust: Trust, env: &EnvId) -> (State, String) {
        let of = Origin { project: commit.project.clone(), sha: commit.sha, trust };
        let row = self.eyes.standing.row(commit, trust);
        match self.eyes.startable(&of, row.and_then(EnvRow::chosen)) {
            Err(Obstacle::Failed(why)) => return (State::Failed, why),
            Err(Obstacle::Blocked(why)) => return (State::Blocked, why),
            Err(Obstacle::Unread(why)) => return (State::Queued, why),
            Ok(_) => {}
        }
        if self.eyes.waiting.contains(env) {
            return (State::Queued, self.quota());
        }
        let backends = crate::plan::BACKENDS;
        let silent = backends.into_iter().find(|backend| !self.eyes.inventory.known.contains(backend));
        (
            State::Queued,
            silent.map_or("about to begin".to_owned(), |silent| format!("{} does not answer", backend_name(silent))),
        )
    }

    /// 'N of M', and who holds them.
    fn quota(&self) -> String {
        let holders = self.eyes.holders();
        let names: Vec<String> = holders.iter().filter_map(|id| self.name_of(id)).collect();
        let (taken, all) = (holders.len(), self.eyes.standing.policy.limits.environments);
        format!("{taken} of {all} places are taken, by {}", names.join(", "))
    }

    /// `shop pr/7 0a1b2c3`.
    #[must_use]
    pub fn name_of(&self, id: &EnvId) -> Option<String> {
        let row = self.eyes.standing.facts.envs.get(id)?;
        let commit = self.eyes.standing.commit(&row.of.project, &row.of.sha)?;
        let first = commit.open.iter().chain(&commit.closed).min_by_key(|(of, _)| of.first);
        let of = first.map(|(of, _)| format!("{} ", of.name)).unwrap_or_default();
        Some(format!("{} {of}{}", row.of.project, row.of.sha.short()))
    }
}

impl Eyes<'_> {
    /// Seen, and complete.
    #[must_use]
    pub fn is_there(&self, id: &ResourceId) -> bool {
        self.inventory.seen.get(id).is_some_and(|observed| observed.phase == Phase::Whole)
    }

    /// The failure of reading a commit, if there was one.
    #[must_use]
    pub fn unreadable(&self, of: &RefRow, listed: &Listed) -> Option<&Failure> {
        self.ledger.reads.get(&(of.project.clone(), listed.sha)).and_then(|reading| reading.failure.as_ref())
    }
}

/// A reason in words.
#[must_use]
pub fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Closed => "no open pull request, branch or tag has it any more",
        Reason::Expired => "nobody visited it for too long; stage it again to get a new one",
        Reason::Superseded => "newer commits took its place",
        Reason::Person => "a person removed it",
        Reason::Revoked => "its approval was revoked",
        Reason::Trust => "how far it is trusted has changed",
        Reason::Replaced => "a newer generation is ready",
        Reason::Cold => "nobody visited it for long",
        Reason::Drift => "it differed from what is wanted",
        Reason::Unwanted => "nobody wants it any more",
        Reason::Vanished => "its data vanished",
        Reason::TakenOut => "its project was taken out of the configuration",
        Reason::Orphan => "nobody knows it",
    }
}

/// Why no approval helps, and who can change that.
#[must_use]
pub(crate) fn never(project: &ProjectName) -> String {
    format!("`forks` of {project} is \"never\": only the operator can let code from outside run, in the configuration")
}
