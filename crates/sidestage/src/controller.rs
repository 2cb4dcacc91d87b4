//! Runs the core: one loop, one copy of the facts in memory. It takes in what happens, steps the core, and does what
//! the step says: persist, publish, start, in this order. It decides nothing.

mod asks;
mod changes;
mod deliveries;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use console::{Ask, Turned};
use drivers::docker::Docker;
use drivers::{Delivery, Listing};
use edge::Visits;
use futures_util::StreamExt;
use planner::command::{Actor, Role};
use planner::core::Core;
use planner::event::{CallId, Event, Head, RequestId, Step};
use planner::facts::Row;
use planner::forge::Said;
use planner::identity::{EnvId, ProjectName, Sha, Time};
use planner::oneoff::What;
use planner::resource::{Backend, Resource};
use planner::tables::Tables;
use planner::view::View;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::calls::Calls;
use crate::clock::now;
use crate::connecting::Connecting;
use crate::databases::Databases;
use crate::housekeeping;
use crate::inside::Inside;
use crate::listings::Listings;
use crate::logs::Logs;
use crate::setup::{Change, Setup};
use crate::store::Store;
use crate::watch::Watch;

use deliveries::Deliveries;

/// Everything is listed this often, whatever events say.
const LISTING: Duration = Duration::from_secs(30);
/// Visits are taken from the edge this often.
const VISITS: Duration = Duration::from_secs(10);

/// What comes into the loop from tasks that it started.
#[derive(Debug)]
pub enum Input {
    /// For the core.
    Event(Event),
    /// A forge was asked for its refs, for these people.
    Looked(ProjectName, Event, Vec<Answer>),
    /// Something changed at a backend: list it again.
    Dirty(Backend),
    /// What a one-off container of this environment, like this process, is made of, and what it needs.
    OneOff(EnvId, Option<String>, What, oneshot::Sender<Result<(Resource, Listing), String>>),
    /// A forge delivered a webhook.
    Delivered(Delivery, oneshot::Sender<Result<(), Turned>>),
    /// GitHub made an App for us.
    Connected(Reply),
    /// What the person who asked in that delivery may is known.
    Said(String, Said, Option<Role>),
    /// A branch or tag that a person named was found, and is to be staged.
    Found(ProjectName, Head, Actor, StagedRef),
}

/// The way back to somebody who named a branch or tag.
pub type StagedRef = oneshot::Sender<Result<(Sha, String), String>>;

/// The way back to somebody who asked for something.
type Reply = oneshot::Sender<Result<String, String>>;

/// The way back to somebody who asked for a look.
pub type Answer = oneshot::Sender<Result<(), String>>;

/// The receiving ends of what edge and console send, and the sending ends of what they show.
#[derive(Debug)]
pub struct Ends {
    /// Requests of people.
    pub ask: mpsc::Receiver<Ask>,
    /// Environments somebody waits for.
    pub knock: mpsc::Receiver<EnvId>,
    /// Visits as the edge counts them.
    pub visits: Arc<Visits>,
    /// Tables of the edge.
    pub tables: watch::Sender<Arc<Tables>>,
    /// What people see.
    pub view: watch::Sender<Arc<View>>,
}

/// The loop's state beside the core: what is under way, and who waits for an answer.
pub struct Controller {
    core: Core,
    store: Store,
    calls: Calls,
    listings: Listings,
    logs: Logs,
    watches: BTreeMap<ProjectName, Watch>,
    setup: Setup,
    /// What was asked for and is not judged yet.
    changes: BTreeMap<RequestId, Change>,
    /// What was applied, and is answered when the view shows it.
    applied: Vec<(RequestId, Result<String, String>)>,
    /// Secrets that nobody remembers.
    forgotten: Vec<Change>,
    ends: Ends,
    input: mpsc::UnboundedSender<Input>,
    inputs: mpsc::UnboundedReceiver<Input>,
    pending: Vec<Event>,
    answers: BTreeMap<RequestId, Reply>,
    requests: u64,
    reading: BTreeSet<(ProjectName, Sha)>,
    looks: Vec<(ProjectName, Answer)>,
    deliveries: Deliveries,
    connecting: Connecting,
    inside: Arc<Inside>,
    databases: Databases,
}

/// The parts that the controller is made of.
pub struct Parts {
    /// The core, restored.
    pub core: Core,
    /// What it was restored from.
    pub rows: Vec<Row>,
    /// Where its rows go.
    pub store: Store,
    /// Where calls go.
    pub calls: Calls,
    /// Where listings come from.
    pub listings: Listings,
    /// Where logs are read.
    pub logs: Logs,
    /// What the operator decides.
    pub setup: Setup,
    /// Ends of the doors.
    pub ends: Ends,
    /// What runs inside environments.
    pub inside: Arc<Inside>,
    /// Where their databases are.
    pub databases: Databases,
    /// Whose events say that something changed.
    pub engine: Docker,
    /// The loop's own mailbox, whose sender calls and listings hold.
    pub mailbox: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
}

impl Controller {
    /// Puts the parts together and begins to watch the forges.
    #[must_use]
    pub fn new(parts: Parts) -> Controller {
        let Parts { core, rows, store, calls, listings, logs, setup, ends, inside, databases, engine, mailbox } = parts;
        let (input, inputs) = mailbox;
        follow(&engine, input.clone());
        let start = |(name, forge)| {
            let watch = Watch::start(&name, &forge, setup.pace(&name), input.clone());
            (name, watch)
        };
        let watches = setup.forges.all().into_iter().map(start).collect();
        Controller {
            core,
            store,
            calls,
            listings,
            logs,
            watches,
            setup,
            changes: BTreeMap::new(),
            applied: Vec::new(),
            forgotten: Vec::new(),
            ends,
            input,
            inputs,
            pending: Vec::new(),
            answers: BTreeMap::new(),
            requests: 0,
            reading: BTreeSet::new(),
            looks: Vec::new(),
            deliveries: Deliveries::restore(&rows),
            connecting: Connecting::default(),
            inside,
            databases,
        }
    }

    /// Runs until told to stop. Calls under way are dropped then: the next start finds in a listing what they did.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut listing = interval(LISTING);
        listing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut visits = interval(VISITS);
        self.redeliver();
        let mut sweep = interval_at(Instant::now() + housekeeping::FIRST, housekeeping::EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wake_at = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(input) = self.inputs.recv() => self.take(input),
                Some(ask) = self.ends.ask.recv() => self.asked(ask),
                Some(env) = self.ends.knock.recv() => self.pending.push(Event::Knock(env)),
                _ = listing.tick() => self.listings.all(&mut self.core),
                _ = visits.tick() => self.visits(),
                _ = sweep.tick() => self.sweep(),
                () = until(wake_at) => {}
            }
            self.drain();
            let mut step = self.core.step(now(), std::mem::take(&mut self.pending));
            wake_at = step.wake_at;
            step.replies.append(&mut self.applied);
            let granted = self.granted(&mut step);
            self.keep_deliveries(&mut step);
            if !self.persist(&step, &shutdown).await {
                break;
            }
            self.perform(step);
            if !granted.is_empty() {
                self.apply(granted);
                wake_at = Some(now());
            }
        }
        self.store.close().await;
    }

    /// Takes whatever else has queued up, so that one step and one transaction serve it all.
    fn drain(&mut self) {
        while let Ok(input) = self.inputs.try_recv() {
            self.take(input);
        }
        while let Ok(ask) = self.ends.ask.try_recv() {
            self.asked(ask);
        }
        while let Ok(env) = self.ends.knock.try_recv() {
            self.pending.push(Event::Knock(env));
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => {
                match &event {
                    Event::Returned { call, .. } => self.calls.returned(*call),
                    Event::Listed { backend, .. } => self.listings.returned(*backend, &mut self.core),
                    Event::Read { project, sha, .. } => {
                        self.reading.remove(&(project.clone(), *sha));
                    }
                    _ => {}
                }
                self.pending.push(event);
            }
            Input::Looked(project, event, answers) => {
                self.pending.push(event);
                self.looks.extend(answers.into_iter().map(|answer| (project.clone(), answer)));
            }
            Input::Dirty(backend) => self.listings.dirty(backend, &mut self.core),
            Input::OneOff(env, process, what, reply) => drop(reply.send(self.one_off(&env, process.as_deref(), what))),
            Input::Delivered(delivery, answer) => self.delivered(delivery, answer),
            Input::Connected(applied) => self.reconnect(applied),
            Input::Said(id, said, role) => self.said(id, said, role),
            Input::Found(project, head, actor, reply) => self.found(project, head, actor, reply),
        }
    }

    fn visits(&mut self) {
        let visits = self.ends.visits.snapshot(now());
        if !visits.is_empty() {
            self.pending.push(Event::Visits(visits));
        }
    }

    /// Deletes what nobody needs any more, unless too little is known to say what that is.
    fn sweep(&mut self) {
        if let Some(keeps) = self.core.keeps() {
            self.forgotten = self.setup.forgotten(&keeps.projects.keys().collect());
            let (dir, forges) = (self.calls.dir(), self.setup.forges.all());
            tokio::spawn(async move { housekeeping::sweep(&dir, &forges, &keeps).await });
        }
    }

    /// Nothing happens before it is written: a full disk stops the loop here, while the edge goes on serving.
    /// False when told to stop meanwhile.
    async fn persist(&self, step: &Step, shutdown: &CancellationToken) -> bool {
        let mut pause = Duration::from_millis(100);
        while let Err(failure) = self.store.write(&step.persist).await {
            error!(%failure, "cannot write the store; nothing is started until it can: is the disk full?");
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
                () = shutdown.cancelled() => return false,
            }
        }
        true
    }

    fn perform(&mut self, step: Step) {
        if let Some((tables, view)) = step.publish {
            self.ends.tables.send_replace(tables);
            self.ends.view.send_replace(view);
        }
        for call in step.cancel {
            self.calls.cancel(call);
        }
        for (call, action) in step.start {
            self.start(call, action);
        }
        let mut requested = self.core.requested(now());
        for (project, watch) in &self.watches {
            watch.also(requested.remove(project).unwrap_or_default());
        }
        for backend in step.look {
            self.listings.dirty(backend, &mut self.core);
        }
        for (project, report) in step.tell {
            self.tell(project, report);
        }
        for (project, sha) in step.read {
            self.read(project, sha);
        }
        self.ask_ci(step.checks);
        for (request, reply) in step.replies {
            if let Some(answer) = self.answers.remove(&request) {
                let _ = answer.send(reply);
            }
        }
        self.answer_looks();
        self.perform_deliveries();
    }

    fn start(&mut self, call: CallId, action: planner::resource::Action) {
        let seen = &self.core.inventory().seen;
        self.calls.start(call, action, seen, &self.input);
    }

    fn read(&mut self, project: ProjectName, sha: Sha) {
        let Some(forge) = self.setup.forges.get(&project) else {
            warn!(%project, "no forge for a project that has commits");
            return;
        };
        if self.reading.insert((project.clone(), sha)) {
            let input = self.input.clone();
            tokio::spawn(async move {
                let source = forge.read(&sha).await;
                let _ = input.send(Input::Event(Event::Read { project, sha, source }));
            });
        }
    }

    /// Asks what CI says: one request for all commits of a project.
    fn ask_ci(&self, waiting: Vec<(ProjectName, Sha)>) {
        let mut by_project: BTreeMap<ProjectName, BTreeSet<Sha>> = BTreeMap::new();
        for (project, sha) in waiting {
            by_project.entry(project).or_default().insert(sha);
        }
        for (project, shas) in by_project {
            let Some(forge) = self.setup.forges.get(&project) else { continue };
            let input = self.input.clone();
            tokio::spawn(async move {
                let said = forge.checks(&shas).await;
                for sha in shas {
                    let checks = said.clone().map(|mut said| said.remove(&sha).unwrap_or_default());
                    let project = project.clone();
                    let _ = input.send(Input::Event(Event::Checks { project, sha, checks }));
                }
            });
        }
    }

    /// A look is over when the project's refs are known and no commit of it is still being read.
    fn answer_looks(&mut self) {
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.looks)
            .into_iter()
            .partition(|(project, _)| !self.reading.iter().any(|(reading, _)| reading == project));
        self.looks = waiting;
        for (_, answer) in done {
            let _ = answer.send(Ok(()));
        }
    }
}

/// Has the engine listed whenever it tells of something, for as long as the loop lives.
fn follow(engine: &Docker, input: mpsc::UnboundedSender<Input>) {
    let mut events = engine.events();
    tokio::spawn(async move {
        while events.next().await.is_some() {
            if input.send(Input::Dirty(Backend::Engine)).is_err() {
                return;
            }
        }
    });
}

async fn until(time: Option<Time>) {
    match time {
        Some(time) => sleep_until(Instant::now() + time.since(now())).await,
        None => std::future::pending().await,
    }
}
