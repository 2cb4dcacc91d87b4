//! Calls to drivers: each in a task of its own, with its deadline, and a way to cut those that may be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drivers::{Driver, Listing, Log, Secrets, Veil};
use edge::Visits;
use futures_util::future::join_all;
use planner::event::{CallId, Event};
use planner::resource::{Action, Backend, Failure, Kind, Observed, Reason, Resource, ResourceId};
use planner::spec::Spec;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::controller::Input;
use crate::state_dir::StateDir;

/// How long a rest or a removal may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long a generation that another has replaced may take to answer what it has been asked.
const ANSWERS: Duration = Duration::from_secs(15);
/// How long after its deadline an ensure is waited for: drivers give up by themselves then, and say what they know. The
/// core waits a little longer still, so that their reason reaches it.
const LEEWAY: Duration = Duration::from_secs(5);
const _: () = assert!(LEEWAY.as_secs() < planner::ledger::GRACE.as_secs());

/// The drivers, and what is under way at them.
pub struct Calls {
    drivers: BTreeMap<Backend, Arc<dyn Driver>>,
    dir: Arc<StateDir>,
    secrets: Secrets,
    visits: Arc<Visits>,
    under_way: BTreeMap<CallId, CancellationToken>,
    writing: Writing,
}

/// Logs that are being written, for those who follow them.
pub type Writing = Arc<Mutex<BTreeSet<PathBuf>>>;

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

impl Calls {
    /// Nothing under way yet. No value of `secrets` gets into a log or into the reason of a failure. What has been replaced
    /// goes when `visits` knows of no request that it has not answered.
    #[must_use]
    pub fn new(
        drivers: BTreeMap<Backend, Arc<dyn Driver>>,
        dir: Arc<StateDir>,
        secrets: Secrets,
        visits: Arc<Visits>,
    ) -> Calls {
        Calls { drivers, dir, secrets, visits, under_way: BTreeMap::new(), writing: Writing::default() }
    }

    /// Which logs are being written.
    #[must_use]
    pub fn writing(&self) -> Writing {
        self.writing.clone()
    }

    /// Where the logs are.
    #[must_use]
    pub fn dir(&self) -> Arc<StateDir> {
        self.dir.clone()
    }

    /// Makes the call; its result comes back as [`Event::Returned`].
    pub fn start(&mut self, call: CallId, action: Action, seen: &Listing, input: &UnboundedSender<Input>) {
        let cut = CancellationToken::new();
        self.under_way.insert(call, cut.clone());
        let input = input.clone();
        let Some(driver) = self.drivers.get(&action.id().backend).cloned() else {
            let failure = Failure::permanent(format!("no driver for {:?}", action.id().backend));
            let _ = input.send(Input::Event(Event::Returned { call, result: Err(failure) }));
            return;
        };
        let needs = match &action {
            Action::Ensure(resource) => {
                resource.needs.iter().filter_map(|id| Some((id.clone(), seen.get(id)?.clone()))).collect()
            }
            Action::Rest(..) | Action::Remove(..) => Listing::new(),
        };
        let answered = self.answered(&action, seen);
        let veil = self.veil(&action);
        let (log, end) = self.log(&action);
        let log = log.behind(&veil);
        tokio::spawn(async move {
            let id = action.id().clone();
            let result = tokio::select! {
                result = perform(&*driver, action, &needs, &log, answered) => result,
                () = cut.cancelled() => Err(Failure::Cancelled),
            };
            let result = result.map_err(|failure| failure.map(|text| veil.hide(&text).into_owned()));
            if let Err(failure) = &result {
                log.line(&failure.to_string());
                warn!(%id, %failure, "call failed");
            }
            log.end();
            drop(end);
            let _ = input.send(Input::Event(Event::Returned { call, result }));
        });
    }

    /// Ends when nobody waits for answers any more of a generation that goes because another serves in its place. Its
    /// processes end together, since the one that answers may need the others.
    fn answered(&self, action: &Action, seen: &Listing) -> impl Future<Output = ()> + use<> {
        let replaced = match action {
            Action::Remove(id, Reason::Replaced | Reason::Superseded) => Some(id),
            _ => None,
        };
        let of_it = |id: &ResourceId| {
            replaced.is_some_and(|gone| gone.owner == id.owner && gone.generation == id.generation)
                && id.kind == Kind::Container
        };
        let asked = seen.iter().filter(|(id, _)| of_it(id));
        let asked: Vec<String> = asked.filter_map(|(_, seen)| seen.outputs.id.clone()).collect();
        let visits = self.visits.clone();
        async move {
            let answered = asked.iter().map(|container| visits.answered(container));
            let _ = tokio::time::timeout(ANSWERS, join_all(answered)).await;
        }
    }

    /// What hides the secrets that the thing may know.
    fn veil(&self, action: &Action) -> Veil {
        let Action::Ensure(resource) = action else { return Veil::default() };
        resource.spec.of().map(|of| self.secrets.veil(of)).unwrap_or_default()
    }

    /// Builds, jobs and baselines have a log that people read; the rest is read from the engine or not at all.
    fn log(&self, action: &Action) -> (Log, Option<End>) {
        let Action::Ensure(resource) = action else { return (Log::none(), None) };
        let baseline = matches!(resource.spec, Spec::Template { .. } | Spec::Snapshot(_));
        if !baseline && !matches!(resource.id.kind, Kind::Image | Kind::Job) {
            return (Log::none(), None);
        }
        let path = self.dir.log(&resource.id);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| Log::create(&path));
        match made {
            Ok(log) => (log, Some(End::begin(path, &self.writing))),
            Err(failure) => {
                warn!(%failure, path = %path.display(), "cannot write a log");
                (Log::none(), None)
            }
        }
    }

    /// Cuts a call; it returns [`Failure::Cancelled`].
    pub fn cancel(&mut self, call: CallId) {
        if let Some(cut) = self.under_way.get(&call) {
            cut.cancel();
        }
    }

    /// A call came back.
    pub fn returned(&mut self, call: CallId) {
        self.under_way.remove(&call);
    }
}

/// A log is being written until this is dropped.
struct End(PathBuf, Writing);

impl End {
    fn begin(path: PathBuf, writing: &Writing) -> End {
        writing.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        End(path, writing.clone())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

async fn perform(
    driver: &dyn Driver,
    action: Action,
    needs: &Listing,
    log: &Log,
    answered: impl Future<Output = ()>,
) -> Result<Option<Observed>, Failure> {
    match action {
        Action::Ensure(resource) => {
            let ensured = driver.ensure(&resource, needs, log);
            in_time(resource.deadline + LEEWAY, &resource.id, ensured).await.map(Some).inspect(|_| told(&resource))
        }
        Action::Rest(id, run) => in_time(DEADLINE, &id, driver.rest(&id, run)).await.map(|()| None),
        Action::Remove(id, reason) => {
            info!(%id, ?reason, "remove");
            let removed = async {
                answered.await;
                driver.remove(&id).await
            };
            in_time(DEADLINE, &id, removed).await.map(|()| None)
        }
    }
}

fn told(resource: &Resource) {
    info!(id = %resource.id, "ensured");
}

async fn in_time<T>(
    deadline: Duration,
    id: &ResourceId,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        Err(Failure::transient(format!("{} {}: no answer within {} s", id.kind.as_str(), id.name, deadline.as_secs())))
    })
}
