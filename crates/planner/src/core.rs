//! The product as one value: events in, effects out. No clock, no runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::announce::Herald;
use crate::ask::{Desk, ask, said};
use crate::blueprint::Blueprints;
use crate::ci::Asking;
use crate::decide::{self, Eyes, decide};
use crate::desired::{Desired, desired};
use crate::event::{Began, Event, RequestId, Step};
use crate::facts::{EnvRow, Facts, Row, parse_version};
use crate::heads::{found, heads, is_needed, leave};
use crate::identity::{EnvId, InstanceKey, ProjectName, Ref, Sha, Time, Trust};
use crate::ledger::{Ledger, backoff};
use crate::plan::{Plan, plan};
use crate::policy::Policy;
use crate::report::Report;
use crate::resource::{Failure, Inventory, Owner, ResourceId};
use crate::routes::{inside, routes};
use crate::sleep::Levels;
use crate::spec::Origin;
use crate::standing::Standing;
use crate::tables::{Tables, Zone};
use crate::view::View;
use crate::zone::zone;

/// When a read that was asked for and never answered is asked for again.
const READING: Duration = Duration::from_secs(120);
/// More rounds of decisions than this in one step would be a bug; the next step goes on.
const ROUNDS: usize = 64;

/// Facts, inventory, ledger and calls under way, and the rules that turn events into effects.
#[derive(Debug)]
pub struct Core {
    policy: Policy,
    facts: Facts,
    blueprints: Blueprints,
    inventory: Inventory,
    ledger: Ledger,
    published: Published,
    waiting: Vec<(ResourceId, String)>,
    herald: Herald,
    asking: Asking,
}

/// What was published last, and what it was made from.
#[derive(Debug, Default)]
struct Published {
    from: Option<(u64, u64, Levels)>,
    /// When time alone may change it.
    due: Option<Time>,
    tables: Arc<Tables>,
    view: Arc<View>,
    zone: Zone,
}

impl Core {
    /// From the rows of the store (none on a first start or after its loss). Starts nothing until every backend was listed.
    ///
    /// # Errors
    /// A row that does not parse: table, key and why.
    pub fn restore(key: InstanceKey, policy: Policy, rows: &[Row]) -> Result<Core, String> {
        let mut facts = Facts::new(key);
        let mut ledger = Ledger::default();
        for row in rows {
            facts.restore(row)?;
            ledger.restore(row)?;
        }
        let mut core = Core {
            policy: policy.clone(),
            facts,
            ledger,
            blueprints: Blueprints::default(),
            inventory: Inventory::default(),
            published: Published::default(),
            waiting: Vec::new(),
            herald: Herald::default(),
            asking: Asking::default(),
        };
        core.configure(policy);
        Ok(core)
    }

    /// Takes up a configuration. Limits apply from now on; what is made of them is drawn anew.
    fn configure(&mut self, policy: Policy) {
        self.ledger.configure(policy.projects.keys());
        self.policy = self.facts.configure(policy);
        self.blueprints = Blueprints::default();
        self.published.from = None;
    }

    /// Branches and tags that nobody watches and a person asked for: a forge is asked for these too, by project.
    #[must_use]
    pub fn requested(&self, now: Time) -> BTreeMap<ProjectName, BTreeSet<Ref>> {
        let mut requested: BTreeMap<ProjectName, BTreeSet<Ref>> = BTreeMap::new();
        for row in self.facts.refs.values().filter(|row| is_needed(&self.facts, row, now)) {
            requested.entry(row.project.clone()).or_default().insert(row.name.clone());
        }
        requested
    }

    /// To be called when a listing begins; the value goes into [`Event::Listed`].
    pub fn begin_listing(&mut self, now: Time) -> Began {
        self.ledger.begin_listing(now)
    }

    /// Applies the events, decides, and says what to do: persist, publish, start, in this order.
    pub fn step(&mut self, now: Time, events: Vec<Event>) -> Step {
        let replies = events.into_iter().filter_map(|event| self.hear(now, event)).collect();
        self.ledger.expire(&mut self.inventory, now);
        self.decide(now);
        let standing = Standing::new(&self.facts, &self.policy, now);
        let read = self.ledger.read(unread(&standing), now);
        let (checks, ask_again) = self.asking.due(&standing, now);

        let desired = desired(&self.facts, &self.blueprints, &self.ledger, &self.policy, now);
        let mut plan = plan(&desired, &self.inventory, &self.ledger, &self.policy, now);
        let cancel = plan.cancel.iter().copied().filter(|call| self.ledger.cancel(*call)).collect();
        let actions = std::mem::take(&mut plan.start);
        let start = actions.into_iter().map(|(action, lane)| (self.ledger.start(&action, lane, now), action)).collect();
        let (want, seen) = (&desired.want, &self.inventory.seen);
        self.ledger.forget_failures(|id| want.contains_key(id) || seen.contains_key(id));

        let eyes = Eyes::new(standing, &self.blueprints, &self.inventory, &self.ledger);
        let wake_at = next_time(&eyes, &plan, self.ledger.next_deadline());
        let publish = self.published.refresh(&eyes, &desired, &plan, wake_at);
        self.waiting = plan.waiting;
        let view = self.published.view.clone();
        let (tell, again) = self.herald.tell(&view, &mut self.facts, &self.policy, now);
        let wake_at = [wake_at, again, ask_again].into_iter().flatten().min();

        let mut persist = self.facts.take_unsaved();
        persist.extend(self.ledger.take_unsaved());
        let look = std::mem::take(&mut self.ledger.look);
        Step { persist, publish, start, cancel, read, checks, tell, look, replies, wake_at }
    }

    /// What people see now.
    #[must_use]
    pub fn view(&self) -> View {
        (*self.published.view).clone()
    }

    /// What exists, as far as it is known.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The commit of an environment, while it is remembered.
    #[must_use]
    pub fn origin(&self, env: &EnvId) -> Option<&Origin> {
        self.facts.envs.get(env).map(|row| &row.of)
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The facts, for whoever answers questions about them.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What wanted generations are made of.
    pub(crate) fn blueprints(&self) -> &Blueprints {
        &self.blueprints
    }

    /// Whose log one of [`CommitView::logs`](crate::view::CommitView::logs) is, in the newest generation that has it.
    #[must_use]
    pub fn log(&self, env: &EnvId, name: &str) -> Option<ResourceId> {
        let row = self.facts.envs.get(env)?;
        let generations = row.coming().into_iter().chain(row.serving());
        let mut drawn = generations.filter_map(|at| self.blueprints.get(env, at).ok());
        drawn.find_map(|drawn| drawn.log(name)).cloned()
    }

    /// Whose log one of [`VersionView::logs`](crate::view::VersionView::logs) is.
    #[must_use]
    pub fn baseline_log(&self, version: &str, name: &str) -> Option<ResourceId> {
        let (of, number) = parse_version(version)?;
        self.facts.baselines.get(of)?.versions.get(&number)?;
        match name {
            "database" => Some(ResourceId::template(version)),
            "objects" => Some(ResourceId::snapshot(version)),
            _ => None,
        }
    }

    /// What waits, and for what, for `sidestage plan`: one line each.
    #[must_use]
    pub fn plan_lines(&self, project: Option<&ProjectName>) -> Vec<String> {
        let mut lines = Vec::new();
        for shown in self.published.view.projects.iter().filter(|shown| project.is_none_or(|name| *name == shown.name))
        {
            let open = shown.refs.iter().filter(|of| of.open).count();
            let (taken, places) = self.published.view.places;
            lines.push(format!("{}: {open} open, {} fit", shown.name, places.saturating_sub(taken)));
            for of in &shown.refs {
                for commit in of.commits.iter().filter(|commit| !commit.state.is_settled()) {
                    let reason = commit.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                    lines.push(format!("{} {} {}{reason}", of.name, commit.sha.short(), commit.state.as_str()));
                    let owner = Owner::Env(commit.env.clone());
                    let parts = self.waiting.iter().filter(|(id, _)| id.owner == owner);
                    lines.extend(parts.map(|(id, why)| format!("  {} {}: {why}", id.kind.as_str(), id.name)));
                }
            }
        }
        lines
    }

    /// One event becomes facts, inventory and ledger.
    fn hear(&mut self, now: Time, event: Event) -> Option<(RequestId, Result<String, String>)> {
        match event {
            Event::Refs { project, heads: listed } => {
                heads(&mut self.facts, &self.policy, &project, listed, now);
                self.asking.look(&project);
                self.ledger.hear_forge(&project, None);
            }
            Event::NoRefs { project, why } => self.ledger.hear_forge(&project, Some(why)),
            Event::Found { project, head } => found(&mut self.facts, &project, head, now),
            Event::Policy(policy) => self.configure(*policy),
            Event::Read { project, sha, source } => {
                let failure = source.as_ref().err().cloned();
                if let Ok(source) = source
                    && !self.facts.sources.contains_key(&(project.clone(), sha))
                {
                    self.facts.put_source(&project, sha, Arc::new(source));
                }
                self.ledger.hear_read(project, sha, failure, now);
            }
            Event::Asked { request, actor, command } => {
                let Core { facts, ledger, policy, inventory, .. } = self;
                let answer = ask(Desk { facts, ledger, policy, inventory, now }, &actor, &command);
                return Some((request, answer));
            }
            Event::Said { request, said: heard, role } => {
                let Core { facts, ledger, policy, inventory, .. } = self;
                return Some((request, said(Desk { facts, ledger, policy, inventory, now }, &heard, role)));
            }
            Event::Told { project, place, result } => self.herald.told(&mut self.facts, project, place, &result, now),
            Event::Checks { project, sha, checks } => {
                self.asking.answered(&mut self.facts, (project, sha), checks, now);
            }
            Event::Knock(env) => self.facts.visit(&env, now, Duration::ZERO),
            Event::Visits(visits) => {
                for (env, at) in visits {
                    self.facts.visit(&env, at.min(now), self.policy.lifetime.idle);
                }
            }
            Event::Listed { backend, began, seen } => {
                self.ledger.listed(backend, began, seen, &mut self.inventory, now);
            }
            Event::Returned { call, result } => self.ledger.returned(call, result, &mut self.inventory, now),
        }
        None
    }

    /// Decides until there is nothing left to decide.
    fn decide(&mut self, now: Time) {
        for _ in 0..ROUNDS {
            leave(&mut self.facts, now);
            let standing = Standing::new(&self.facts, &self.policy, now);
            self.blueprints.refresh(&standing);
            let eyes = Eyes::new(standing, &self.blueprints, &self.inventory, &self.ledger);
            let decided = decide(&eyes);
            let orphans = decide::orphans(&eyes);
            self.ledger.see_orphans(orphans, now);
            if decided.is_empty() {
                break;
            }
            decided.into_iter().for_each(|fact| self.facts.accept(fact));
        }
        self.policy.projects.retain(|name, _| self.facts.projects.contains_key(name));
    }
}

/// Heads and wanted commits that have not been read.
fn unread(standing: &Standing<'_>) -> BTreeSet<(ProjectName, Sha)> {
    let unread = standing.commits().filter(|commit| {
        let key = (commit.project.clone(), commit.sha);
        let head = commit.open.iter().any(|(of, _)| of.head().is_some_and(|head| head.sha == commit.sha));
        let claimed = [Trust::Trusted, Trust::Approved].iter().any(|trust| {
            standing.claim(commit, *trust).is_some() || standing.row(commit, *trust).is_some_and(EnvRow::is_live)
        });
        !commit.open.is_empty() && !standing.facts.sources.contains_key(&key) && (head || claimed)
    });
    unread.map(|commit| (commit.project.clone(), commit.sha)).collect()
}

impl Ledger {
    /// What a forge said, or why it said nothing. One that is not configured any more counts no more.
    fn hear_forge(&mut self, project: &ProjectName, silent: Option<String>) {
        let Some(heard) = self.forges.get_mut(project).filter(|heard| **heard != silent) else { return };
        *heard = silent;
        self.version += 1;
    }

    fn hear_read(&mut self, project: ProjectName, sha: Sha, failure: Option<Failure>, now: Time) {
        self.version += 1;
        let key = (project, sha);
        let Some(failure) = failure else {
            self.reads.remove(&key);
            return;
        };
        let name = format!("{} {sha}", key.0);
        let reading = self.reads.entry(key).or_default();
        reading.attempts += 1;
        reading.since = None;
        reading.next = now.after(backoff(&name, reading.attempts));
        reading.failure = Some(failure);
    }

    /// Of what is unread, what is to be read now: each once, and again after a while if that failed.
    fn read(&mut self, unread: BTreeSet<(ProjectName, Sha)>, now: Time) -> Vec<(ProjectName, Sha)> {
        self.reads.retain(|key, _| unread.contains(key));
        let due = unread.into_iter().filter(|key| {
            let reading = self.reads.entry(key.clone()).or_default();
            let lost = reading.since.is_none_or(|since| now >= since.after(READING));
            let hopeless = matches!(reading.failure, Some(Failure::Permanent { .. }));
            let due = lost && !hopeless && reading.next <= now;
            if due {
                reading.since = Some(now);
            }
            due
        });
        due.collect()
    }

    fn see_orphans(&mut self, orphans: BTreeSet<Owner>, now: Time) {
        let before = self.orphans.len();
        self.orphans.retain(|owner, _| orphans.contains(owner));
        let left = self.orphans.len();
        for owner in orphans {
            self.orphans.entry(owner).or_insert(now);
        }
        self.version += u64::from(before != left || left != self.orphans.len());
    }
}

impl Published {
    /// Tables and view, if they differ from the last ones.
    fn refresh(
        &mut self,
        eyes: &Eyes<'_>,
        desired: &Desired<'_>,
        plan: &Plan,
        wake_at: Option<Time>,
    ) -> Option<(Arc<Tables>, Arc<View>)> {
        let from = (eyes.standing.facts.version, eyes.ledger.version, desired.levels.clone());
        let due = self.due.is_some_and(|due| due <= eyes.standing.now);
        if self.from.as_ref() == Some(&from) && !due {
            return None;
        }
        (self.from, self.due) = (Some(from), wake_at);
        let report = Report::new(eyes, desired, plan);
        let routes = routes(&report);
        let zone = zone(&routes, eyes.standing.policy, &self.zone, eyes.standing.now);
        self.zone = zone.clone();
        let tables = Tables { routes, zone, inside: inside(eyes.inventory) };
        let view = report.view();
        let same_view = self.view.at != Time(0) && View { at: self.view.at, ..view.clone() } == *self.view;
        if same_view && tables == *self.tables {
            return None;
        }
        (self.tables, self.view) = (Arc::new(tables), Arc::new(view));
        Some((self.tables.clone(), self.view.clone()))
    }
}

/// When to step again if nothing happens before: nothing ever waits for a poll.
fn next_time(eyes: &Eyes<'_>, plan: &Plan, deadline: Option<Time>) -> Option<Time> {
    let standing = &eyes.standing;
    let now = standing.now;
    let rows = standing.facts.envs.values();
    let ends = rows.flat_map(|row| {
        let live = row.is_live();
        let expires = row.expires(&standing.policy.lifetime).filter(|_| live);
        let kept = row.visited.map(|visited| visited.after(crate::standing::DAY)).filter(|_| live);
        let page = row.gone.map(|gone| gone.at.after(decide::REMEMBERED));
        [expires, kept, page]
    });
    let approvals = standing.facts.approvals.values().map(|approval| Some(approval.until));
    let closed = standing.facts.refs.values().map(|of| of.closed.map(|closed| closed.after(decide::REMEMBERED)));
    let images = standing.facts.images.values().map(|row| row.kept);
    let refreshes = standing.facts.baselines.values().map(|row| row.due.filter(|_| row.removed.is_none()));
    let orphans = eyes.ledger.orphans.values().map(|since| Some(since.after(decide::KEPT)));
    let reads = eyes.ledger.reads.values().map(|reading| match reading.since {
        Some(since) => Some(since.after(READING)),
        None => Some(reading.next),
    });
    let all = ends
        .chain(approvals)
        .chain(closed)
        .chain(orphans)
        .chain(images)
        .chain(refreshes)
        .chain(reads)
        .chain([plan.wake_at, deadline]);
    all.flatten().filter(|at| *at > now && at.0 != u64::MAX).min()
}
