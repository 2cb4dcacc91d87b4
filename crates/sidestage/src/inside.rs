//! Hands inside: wakes an environment, runs something once in it for whoever asked, and keeps it awake meanwhile. And its
//! clock: cron jobs run the same way, while somebody else keeps it awake.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use console::inside::{Ended, Frame, NEVER_RAN, Run, Session};
use drivers::docker::{Docker, Ends, OneOff, Piece};
use drivers::{Listing, Log, Veil};
use edge::Visits;
use futures_util::StreamExt;
use planner::identity::{EnvId, ProjectName, Sha};
use planner::manifest;
use planner::oneoff::What;
use planner::resource::{Failure, Resource};
use planner::view::{CommitView, State, View};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::calls::Writing;
use crate::clock::now;
use crate::controller::Input;
use crate::state_dir::StateDir;

/// How long one command may run.
pub const LONGEST: Duration = Duration::from_secs(30 * 60);
/// How long an environment may take to be there.
const WAKING: Duration = Duration::from_secs(15 * 60);
/// Commands at once in one environment; each may take as much memory as its process.
pub const MOST: usize = 4;
/// A cron job's log begins anew above this size, in bytes.
const LOG: u64 = 1 << 20;
/// What the exit code is of what was killed.
const KILLED: i64 = 137;

type Judged = oneshot::Receiver<Result<String, String>>;

/// What runs inside environments.
pub struct Inside {
    docker: Docker,
    visits: Arc<Visits>,
    view: watch::Receiver<Arc<View>>,
    input: mpsc::UnboundedSender<Input>,
    dir: Arc<StateDir>,
    writing: Writing,
    busy: Mutex<BTreeMap<EnvId, Vec<String>>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// Something runs in an environment until this is dropped.
struct Busy {
    inside: Arc<Inside>,
    env: EnvId,
    name: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.inside.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = busy.get_mut(&self.env) {
            if let Some(at) = names.iter().position(|name| *name == self.name) {
                names.swap_remove(at);
            }
            if names.is_empty() {
                busy.remove(&self.env);
            }
        }
    }
}

impl Inside {
    /// Nothing runs yet. `input` is the loop's mailbox, which knows what things are made of. What runs is ended by the
    /// token, and a task of the tracker until it is gone.
    #[must_use]
    pub fn new(
        docker: Docker,
        visits: Arc<Visits>,
        view: watch::Receiver<Arc<View>>,
        input: mpsc::UnboundedSender<Input>,
        dir: Arc<StateDir>,
        writing: Writing,
        (shutdown, tasks): (CancellationToken, TaskTracker),
    ) -> Arc<Inside> {
        Arc::new(Inside { docker, visits, view, input, dir, writing, busy: Mutex::default(), shutdown, tasks })
    }

    /// Runs what a person asked for, once the loop has judged it.
    pub fn serve(self: &Arc<Self>, run: Run, judged: Judged) {
        self.tasks.spawn(self.clone().served(run, judged));
    }

    async fn served(self: Arc<Self>, run: Run, judged: Judged) {
        let Run { project, sha, begin, mut reply, .. } = run;
        let waited = async {
            judged.await.map_err(|_| "the controller is stopping".to_owned())??;
            let env = self.commit(&project, &sha).ok_or("the commit is not known any more")?.env;
            // From now on it is visited.
            let visit = self.visits.begin(&env);
            self.until_ready(&project, &sha).await?;
            Ok::<_, String>((env, visit))
        };
        let waited = tokio::select! {
            waited = waited => waited,
            () = reply.closed() => return,
            () = self.shutdown.cancelled() => return,
        };
        let started = match waited {
            Ok((env, visit)) => {
                self.start(&env, begin.process, &begin.words, begin.terminal).await.map(|started| (started, visit))
            }
            Err(why) => Err(why),
        };
        let ((oneoff, _busy), _visit) = match started {
            Ok(started) => started,
            Err(why) => return drop(reply.send(Err(why))),
        };
        let ((input, inputs), (outputs, output)) = (mpsc::channel(16), mpsc::channel(16));
        if reply.send(Ok(Session { input, output })).is_ok() {
            info!(%project, %sha, "a command runs inside");
            attend(oneoff, inputs, outputs, LONGEST, &self.shutdown).await;
        }
    }

    /// Starts it in an environment that is ready.
    async fn start(
        self: &Arc<Self>,
        env: &EnvId,
        process: Option<String>,
        words: &[String],
        terminal: Option<(u16, u16)>,
    ) -> Result<((OneOff, Ends), Busy), String> {
        let what = What::read(words)?;
        let busy = self.begin(env, &what)?;
        let (reply, answer) = oneshot::channel();
        let stopping = || "the controller is stopping".to_owned();
        self.input.send(Input::OneOff(env.clone(), process, what, reply)).map_err(|_| stopping())?;
        let (resource, needs): (Resource, Listing) = answer.await.map_err(|_| stopping())??;
        let oneoff = self.docker.run(&resource, &needs, terminal).await.map_err(|failure| failure.to_string())?;
        Ok((oneoff, busy))
    }

    /// Takes a place in the environment. A cron job never runs twice at once.
    fn begin(self: &Arc<Self>, env: &EnvId, what: &What) -> Result<Busy, String> {
        let name = match what {
            What::Cron(name) => format!("cron.{name}"),
            What::Command(_) | What::Words(_) => "a command".to_owned(),
        };
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let names = busy.entry(env.clone()).or_default();
        if matches!(what, What::Cron(_)) && names.contains(&name) {
            return Err(format!("{name} runs already; wait for its end"));
        }
        if names.len() >= MOST {
            return Err(format!("{MOST} commands run in this environment already; wait for the end of one"));
        }
        names.push(name.clone());
        Ok(Busy { inside: self.clone(), env: env.clone(), name })
    }

    fn commit(&self, project: &ProjectName, sha: &Sha) -> Option<CommitView> {
        let view = self.view.borrow();
        let project = view.projects.iter().find(|shown| shown.name == *project)?;
        project.refs.iter().flat_map(|of| &of.commits).find(|commit| commit.sha == *sha).cloned()
    }

    async fn until_ready(&self, project: &ProjectName, sha: &Sha) -> Result<(), String> {
        let mut view = self.view.clone();
        let end = tokio::time::Instant::now() + WAKING;
        loop {
            view.mark_unchanged();
            let commit = self.commit(project, sha).ok_or("the commit is not known any more")?;
            match commit.state {
                State::Ready => return Ok(()),
                State::Queued | State::Building | State::Starting | State::Waking | State::Dozing | State::Asleep => {}
                other => {
                    let why = commit.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                    return Err(format!("{} is {}{why}", sha.short(), other.as_str()));
                }
            }
            match tokio::time::timeout_at(end, view.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the controller is stopping".to_owned()),
                Err(_) => return Err(format!("{} is still {} after 15 min", sha.short(), commit.state.as_str())),
            }
        }
    }

    /// Runs what is due, minute by minute, for as long as the process lives.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let minute = now().0 / 60_000 + 1;
            tokio::time::sleep(Duration::from_millis((minute * 60_000).saturating_sub(now().0))).await;
            self.tick(minute);
        }
    }

    /// Starts the cron jobs of this minute since the Unix epoch, of environments that are awake.
    pub fn tick(self: &Arc<Self>, minute: u64) {
        let view = self.view.borrow().clone();
        let mut seen = BTreeSet::new();
        for project in &view.projects {
            for commit in project.refs.iter().flat_map(|of| &of.commits) {
                if commit.state != State::Ready || !seen.insert(&commit.env) {
                    continue;
                }
                for (name, _) in commit.cron.iter().filter(|(_, schedule)| manifest::fires(schedule, minute)) {
                    let veil = self.docker.secrets().veil_of(&project.name, commit.trust);
                    self.tasks.spawn(self.clone().cron(commit.env.clone(), name.clone(), veil));
                }
            }
        }
    }

    /// One run of a cron job, into its log, in which the veil hides the secrets that it knows.
    async fn cron(self: Arc<Self>, env: EnvId, name: String, veil: Veil) {
        let path = self.dir.cron_log(&env, &name);
        let log = match append(&path) {
            Ok(log) => log,
            Err(failure) => {
                warn!(%failure, path = %path.display(), "cannot write a log");
                Log::none()
            }
        };
        let log = log.behind(&veil);
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        let begun = Instant::now();
        log.line(&format!("{}  cron.{name} begins", humantime::format_rfc3339_seconds(SystemTime::now())));
        let words = [format!(":cron.{name}")];
        let ended = match self.start(&env, None, &words, None).await {
            Ok((oneoff, _busy)) => {
                let (_, inputs) = mpsc::channel(1);
                let (outputs, mut output) = mpsc::channel(16);
                let (ended, ()) = tokio::join!(to_end(oneoff, inputs, outputs, LONGEST, &self.shutdown), async {
                    while let Some(Frame::Stdout(text) | Frame::Stderr(text)) = output.recv().await {
                        log.write(&String::from_utf8_lossy(&text));
                    }
                });
                ended
            }
            Err(why) => Some(Ended { code: NEVER_RAN, why: Some(why) }),
        };
        let told = match ended {
            Some(Ended { code: NEVER_RAN, why }) => format!("did not run: {}", why.unwrap_or_default()),
            Some(Ended { code, why }) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                format!("ended with code {code} after {:.1} s{why}", begun.elapsed().as_secs_f64())
            }
            None => "was cut off".to_owned(),
        };
        log.line(&format!("{}  cron.{name} {told}", humantime::format_rfc3339_seconds(SystemTime::now())));
        log.end();
        self.writing.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
    }
}

fn append(path: &PathBuf) -> io::Result<Log> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG) { Log::create(path) } else { Log::append(path) }
}

/// Connects what runs with whoever asked for it, until it ends, its time is up, the other side is gone or all is to stop;
/// then it is removed. The end is told as the last frame.
pub async fn attend(
    oneoff: (OneOff, Ends),
    inputs: mpsc::Receiver<Frame>,
    outputs: mpsc::Sender<Frame>,
    longest: Duration,
    stop: &CancellationToken,
) {
    let told = outputs.clone();
    if let Some(ended) = to_end(oneoff, inputs, outputs, longest, stop).await {
        let _ = told.send(Frame::Ended(ended)).await;
    }
}

/// As [`attend`], and returns how it ended; none if nobody wants to know.
async fn to_end(
    (oneoff, ends): (OneOff, Ends),
    inputs: mpsc::Receiver<Frame>,
    outputs: mpsc::Sender<Frame>,
    longest: Duration,
    stop: &CancellationToken,
) -> Option<Ended> {
    enum Over {
        Ended(Result<drivers::docker::End, Failure>),
        Late,
        Alone,
    }
    let Ends { input, mut output } = ends;
    let print = async {
        while let Some(piece) = output.next().await {
            let frame = match piece {
                Piece::Out(bytes) => Frame::Stdout(bytes),
                Piece::Err(bytes) => Frame::Stderr(bytes),
            };
            if outputs.send(frame).await.is_err() {
                return;
            }
        }
    };
    let feed = async {
        feed(&oneoff, input, inputs).await;
        // Without input it goes on; that the other side is gone is told by the outputs.
        std::future::pending().await
    };
    let over = tokio::select! {
        ended = async { print.await; oneoff.end().await } => Over::Ended(ended),
        over = feed => over,
        () = outputs.closed() => Over::Alone,
        () = stop.cancelled() => Over::Alone,
        () = tokio::time::sleep(longest) => Over::Late,
    };
    match over {
        Over::Ended(Ok(end)) => Some(Ended { code: end.code, why: end.why }),
        Over::Ended(Err(failure)) => Some(Ended { code: NEVER_RAN, why: Some(failure.to_string()) }),
        Over::Late => {
            let why = format!("it was killed after {} min, which is the most", longest.as_secs() / 60);
            let killed = oneoff.kill().await;
            let why = killed.err().map_or(why, |failure| failure.to_string());
            Some(Ended { code: KILLED, why: Some(why) })
        }
        Over::Alone => {
            if let Err(failure) = oneoff.kill().await {
                warn!(%failure, "a command whose caller is gone could not be killed");
            }
            None
        }
    }
}

/// Hands over what comes in: input, its end, sizes of the terminal. What has ended takes no more.
async fn feed(oneoff: &OneOff, input: Pin<Box<dyn AsyncWrite + Send>>, mut inputs: mpsc::Receiver<Frame>) {
    let mut input = Some(input);
    while let Some(frame) = inputs.recv().await {
        match frame {
            Frame::Size(columns, rows) => oneoff.resize((columns, rows)).await,
            Frame::Stdin(bytes) => {
                let Some(open) = &mut input else { continue };
                if bytes.is_empty() {
                    let _ = open.shutdown().await;
                    input = None;
                } else if open.write_all(&bytes).await.is_err() || open.flush().await.is_err() {
                    input = None;
                }
            }
            _ => {}
        }
    }
    if let Some(mut open) = input {
        let _ = open.shutdown().await;
    }
}
