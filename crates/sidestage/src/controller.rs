//! Runs the core: one loop, one copy of the facts in memory. It takes in what happens, steps the core, and does what
//! the step says: persist, publish, start, in this order. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use console::Ask;
use console::inside::{Access, Begin};
use drivers::Listing;
use drivers::docker::Docker;
use edge::Visits;
use futures_util::StreamExt;
use planner::command::{Actor, Command};
use planner::core::Core;
use planner::event::{CallId, Event, Head, RequestId, Step};
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
use crate::databases::Databases;
use crate::housekeeping;
use crate::inside::Inside;
use crate::listings::Listings;
use crate::logs::Logs;
use crate::setup::{Change, Setup};
use crate::store::Store;
use crate::watch::Watch;

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
    inside: Arc<Inside>,
    databases: Databases,
}

/// The parts that the controller is made of.
pub struct Parts {
    /// The core, restored.
    pub core: Core,
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
        let Parts { core, store, calls, listings, logs, setup, ends, inside, databases, engine, mailbox } = parts;
        let (input, inputs) = mailbox;
        follow(&engine, input.clone());
        let forges = setup.forges.all();
        let watches =
            forges.iter().map(|(name, forge)| (name.clone(), Watch::start(name, forge, input.clone()))).collect();
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
            inside,
            databases,
        }
    }

    /// Runs until told to stop. Calls under way are dropped then: the next start finds in a listing what they did.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut listing = interval(LISTING);
        listing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut visits = interval(VISITS);
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
            Input::Found(project, head, actor, reply) => self.found(project, head, actor, reply),
        }
    }

    /// A branch or tag was found: the core hears of it and of the wish in one step.
    fn found(&mut self, project: ProjectName, head: Head, actor: Actor, reply: StagedRef) {
        let sha = head.sha;
        let (answer, answered) = oneshot::channel::<Result<String, String>>();
        tokio::spawn(async move {
            if let Ok(said) = answered.await {
                let _ = reply.send(said.map(|line| (sha, line)));
            }
        });
        self.pending.push(Event::Found { project: project.clone(), head });
        self.command(actor, Command::Stage { project, sha }, answer);
    }

    fn command(&mut self, actor: Actor, command: Command, answer: Reply) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.answers.insert(request, answer);
        self.pending.push(Event::Asked { request, actor, command });
        request
    }

    /// Has a change judged, if it could be prepared.
    fn change(&mut self, actor: Actor, command: Command, change: Result<Change, String>, answer: Reply) {
        match change {
            Ok(change) => {
                let request = self.command(actor, command, answer);
                self.changes.insert(request, change);
            }
            Err(why) => drop(answer.send(Err(why))),
        }
    }

    /// The changes that the core allows, their rows among what is written. They are answered when they are applied.
    fn granted(&mut self, step: &mut Step) -> Vec<(Option<RequestId>, Change, String)> {
        let mut granted: Vec<_> = self.forgotten.drain(..).map(|change| (None, change, String::new())).collect();
        for (request, reply) in std::mem::take(&mut step.replies) {
            match (self.changes.remove(&request), reply) {
                (Some(change), Ok(judged)) => granted.push((Some(request), change, judged)),
                (_, reply) => step.replies.push((request, reply)),
            }
        }
        step.persist.extend(granted.iter().filter_map(|(_, change, _)| change.row().cloned()));
        granted
    }

    /// Applies what has been written; the core hears of it before anything else.
    fn apply(&mut self, granted: Vec<(Option<RequestId>, Change, String)>) {
        let before = self.setup.forges.all();
        for (request, change, judged) in granted {
            self.applied.extend(request.map(|request| (request, Ok(change.said(&judged)))));
            self.setup.apply(change);
        }
        let forges = self.setup.forges.all();
        self.watches.retain(|name, _| forges.contains_key(name));
        for (name, forge) in forges {
            if !before.get(&name).is_some_and(|known| Arc::ptr_eq(known, &forge)) {
                let watch = Watch::start(&name, &forge, self.input.clone());
                self.watches.insert(name, watch);
            }
        }
        self.pending.push(Event::Policy(Box::new(self.setup.policy())));
    }

    /// Looks for a branch or tag by name, beside the loop.
    fn find(&self, project: &str, name: String, actor: Actor, reply: StagedRef) {
        let forges = self.setup.forges.all();
        let Some((project, forge)) = forges.into_iter().find(|(of, _)| of.as_str() == project) else {
            let _ = reply.send(Err(format!("no project {project:?} in the configuration")));
            return;
        };
        let input = self.input.clone();
        tokio::spawn(async move {
            match drivers::Forge::find(&*forge, &name).await {
                Ok(head) => drop(input.send(Input::Found(project, head, actor, reply))),
                Err(failure) => drop(reply.send(Err(failure.to_string()))),
            }
        });
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Command(actor, command, answer) => drop(self.command(actor, command, answer)),
            Ask::Run(run) => {
                let (answer, judged) = oneshot::channel();
                let Begin { process, words, .. } = run.begin.clone();
                let command = Command::Run { project: run.project.clone(), sha: run.sha, process, words };
                self.command(run.actor.clone(), command, answer);
                self.inside.serve(*run, judged);
            }
            Ask::Database { actor, project, sha, dump, reply } => {
                let (answer, judged) = oneshot::channel();
                let access = self.access(&project, &sha);
                let command = if dump { Command::Dump { project, sha } } else { Command::Psql { project, sha } };
                self.command(actor, command, answer);
                tokio::spawn(async move {
                    let judged = judged.await.unwrap_or_else(|_| Err("the controller is stopping".to_owned()));
                    let _ = reply.send(judged.and(access));
                });
            }
            Ask::StageRef { actor, project, name, reply } => self.find(&project, name, actor, reply),
            Ask::Logs { env, name, follow, reply } => {
                let found = self.core.log(&env, &name);
                self.logs.open(found, self.core.origin(&env), (&env, &name), follow, reply);
            }
            Ask::Secrets(project, reply) => drop(reply.send(Ok(self.setup.secrets(&project)))),
            Ask::Secret { actor, place, value, reply } => {
                let is_set = value.is_some();
                let change = self.setup.secret(&place, value, &actor.name);
                let command = if is_set { Command::SetSecret(place) } else { Command::RemoveSecret(place) };
                self.change(actor, command, change, reply);
            }
            Ask::Reload(actor, reply) => {
                let change = self.setup.reload();
                self.change(actor, Command::Reload, change, reply);
            }
            Ask::Plan(reply) => drop(reply.send(self.core.plan_lines(None))),
            Ask::Look(project, answer) => match self.watches.iter().find(|(name, _)| name.as_str() == project) {
                Some((_, watch)) => watch.look(answer),
                None => drop(answer.send(Err(format!("no project {project:?} in the configuration")))),
            },
        }
    }

    fn one_off(&self, env: &EnvId, process: Option<&str>, what: What) -> Result<(Resource, Listing), String> {
        let resource = self.core.one_off(env, process, what)?;
        let seen = &self.core.inventory().seen;
        let needs = resource.needs.iter().filter_map(|id| Some((id.clone(), seen.get(id)?.clone()))).collect();
        Ok((resource, needs))
    }

    /// How the commit's database is reached.
    fn access(&self, project: &ProjectName, sha: &Sha) -> Result<Access, String> {
        let view = self.ends.view.borrow();
        let shown = view.projects.iter().filter(|shown| shown.name == *project);
        let mut commits = shown.flat_map(|shown| &shown.refs).flat_map(|of| &of.commits);
        let commit = commits.find(|commit| commit.sha == *sha).ok_or("the commit is not known")?;
        let generation = self.core.database(&commit.env)?;
        Ok(self.databases.access(&commit.env, generation))
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
        for (project, sha) in step.read {
            self.read(project, sha);
        }
        for (request, reply) in step.replies {
            if let Some(answer) = self.answers.remove(&request) {
                let _ = answer.send(reply);
            }
        }
        self.answer_looks();
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
                let source = drivers::Forge::read(&*forge, &sha).await;
                let _ = input.send(Input::Event(Event::Read { project, sha, source }));
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
