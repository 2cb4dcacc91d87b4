//! A loop with state in place of the real one: it keeps a view, obeys commands the way people would see it, and
//! publishes before it answers, as the real one does.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use console::inside::{Ended, Frame, Session};
use console::{Ask, Doors, Links, Settings};
use planner::command::{Actor, Command};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time, Trust};
use planner::secrets::{Place, SecretView};
use planner::view::{BaselineView, CommitView, DataView, ProjectView, RefView, State, VersionState, VersionView, View};
use tokio::sync::{mpsc, oneshot, watch};

thread_local! {
    /// Each test has its own thread, and its server runs on it.
    static CLOCK: Cell<u64> = const { Cell::new(1_800_000_000_000) };
}

/// The test's own clock.
pub(crate) fn now() -> Time {
    CLOCK.with(|clock| Time(clock.get()))
}

/// Lets time pass.
pub(crate) fn pass(seconds: u64) {
    CLOCK.with(|clock| clock.set(clock.get() + seconds * 1000));
}

pub(crate) const INSTANCE: &str = "abcdefghijklmnop";

/// A sha whose every byte is this.
pub(crate) fn sha(byte: u8) -> Sha {
    Sha::from_bytes([byte; 20])
}

pub(crate) fn commit(byte: u8, subject: &str, state: State) -> CommitView {
    let project: ProjectName = "shop".parse().unwrap();
    CommitView {
        sha: sha(byte),
        subject: subject.to_owned(),
        author: "Ada".to_owned(),
        trust: Trust::Trusted,
        env: InstanceKey::new([1; 32]).env(&project, &sha(byte), Trust::Trusted),
        url: format!("http://{}.staging.localhost:8080", sha(byte)),
        state,
        reason: None,
        since: now(),
        generation: 0,
        next: None,
        asked: None,
        took: None,
        pinned: false,
        visited: None,
        expires: None,
        held: false,
        logs: vec![],
        links: vec![],
        stale: false,
        approvable: false,
        apps: vec![],
        commands: vec![],
        cron: vec![],
        processes: vec![],
        data: None,
    }
}

/// Data of which something is more than it may be.
pub(crate) fn over(what: &str) -> DataView {
    DataView {
        from: "shop@3".to_owned(),
        at: now(),
        database: Some(5 << 30),
        objects: None,
        over: Some(what.to_owned()),
    }
}

pub(crate) fn reference(name: Ref, title: &str, commits: Vec<CommitView>) -> RefView {
    let foreign = commits.iter().any(|commit| commit.trust.is_foreign());
    let alias_url = "http://alias.staging.localhost:8080".to_owned();
    RefView { name, open: true, title: title.to_owned(), foreign, alias_url, commits }
}

pub(crate) fn view(refs: Vec<RefView>) -> View {
    View {
        at: now(),
        domain: "staging.localhost:8080".to_owned(),
        projects: vec![ProjectView { name: "shop".parse().unwrap(), refs }],
        places: (1, 20),
        baselines: vec![],
        warnings: vec![],
    }
}

/// The view most tests use: #7 unstaged (01…), #9 foreign (09…), main ready (0a…).
pub(crate) fn usual() -> View {
    let mut foreign = commit(9, "Help from outside", State::Blocked);
    (foreign.trust, foreign.approvable) = (Trust::Untrusted, true);
    foreign.reason = Some("not approved at this commit".to_owned());
    let mut main = commit(10, "Merge everything", State::Ready);
    main.generation = 1;
    main.logs = vec!["build".to_owned(), "web".to_owned()];
    view(vec![
        reference(Ref::Pull(7), "Change the price", vec![commit(1, "Cheaper", State::Unstaged)]),
        reference(Ref::Pull(9), "Help", vec![foreign]),
        reference(Ref::Branch("main".to_owned()), "main", vec![main]),
    ])
}

/// A baseline with a version of every kind: failed, kept back, being made, current and used, and the one before it.
pub(crate) fn shop() -> BaselineView {
    let version = |number: u32, state: VersionState, reason: Option<&str>| VersionView {
        version: format!("shop@{number}"),
        number,
        state,
        reason: reason.map(str::to_owned),
        by: (number != 4).then(|| "ann".to_owned()),
        asked: Some(now()),
        sealed: (!matches!(state, VersionState::Making | VersionState::Failed)).then(now),
        database: Some(u64::from(number) << 30),
        tables: Some(u64::from(number) * 10),
        objects: Some(5 << 20),
        count: Some(7),
        users: if state == VersionState::Current { vec!["shop 0a0a0a0".to_owned()] } else { Vec::new() },
        spares: if state == VersionState::Current { (1, 2) } else { (0, 0) },
        logs: vec!["database".to_owned(), "objects".to_owned()],
    };
    let versions = vec![
        version(5, VersionState::Making, Some("waits: 1 before it; 2 baselines at once")),
        version(4, VersionState::Kept, Some("it has 40 tables, and the current one has 50")),
        version(3, VersionState::Failed, Some("line 7: relation \"goods\" does not exist")),
        version(2, VersionState::Current, None),
        version(1, VersionState::Ready, None),
    ];
    BaselineView {
        name: "shop".to_owned(),
        current: Some("shop@2".to_owned()),
        database: Some("/srv/<shop>.dump".to_owned()),
        objects: Some("/srv/files".to_owned()),
        mask: Some("/srv/mask.sql".to_owned()),
        extensions: Vec::new(),
        every: Some("0 3 * * *".to_owned()),
        due: Some(now().after(std::time::Duration::from_secs(2 * 3600))),
        trouble: Some("the one before was not done yet".to_owned()),
        max_shrink: 40,
        projects: vec!["shop".parse().unwrap()],
        versions,
    }
}

/// The fake itself, held by the test.
pub(crate) struct Fake {
    pub(crate) doors: Doors,
    pub(crate) links: Links,
    state: Arc<Shared>,
}

struct Shared {
    show: watch::Sender<Arc<View>>,
    done: Mutex<Vec<(Actor, Command)>>,
    log: Mutex<Vec<String>>,
    /// Who set which secret.
    secrets: Mutex<BTreeMap<Place, String>>,
    /// Kept open so that a followed log does not end.
    followers: Mutex<Vec<mpsc::Sender<String>>>,
    /// Builds end by themselves, in the state and for the reason given here.
    ends: Mutex<Option<(State, Option<String>)>>,
}

impl Fake {
    pub(crate) fn new(view: View) -> Fake {
        let (show, shown) = watch::channel(Arc::new(view));
        let (ask, asked) = mpsc::channel(16);
        let state = Arc::new(Shared {
            show,
            done: Mutex::default(),
            log: Mutex::default(),
            secrets: Mutex::default(),
            followers: Mutex::default(),
            ends: Mutex::default(),
        });
        tokio::spawn(obey(state.clone(), asked));
        Fake { doors: Doors { view: shown, ask, now }, links: Links::new(now), state }
    }

    /// From now on what is begun ends by itself like this.
    pub(crate) fn ends_as(&self, state: State, reason: Option<&str>) {
        *self.state.ends.lock().unwrap() = Some((state, reason.map(str::to_owned)));
    }

    /// What every log says.
    pub(crate) fn logs(&self, chunks: &[&str]) {
        *self.state.log.lock().unwrap() = chunks.iter().map(|&chunk| chunk.to_owned()).collect();
    }

    /// What was asked for and by whom, in order.
    pub(crate) fn done(&self) -> Vec<(Actor, Command)> {
        self.state.done.lock().unwrap().clone()
    }

    pub(crate) fn set(&self, sha: Sha, change: impl FnMut(&mut CommitView)) {
        self.state.change(sha, change);
    }

    /// Sends more to those who follow a log.
    pub(crate) async fn log_more(&self, text: &str) {
        let followers = self.state.followers.lock().unwrap().clone();
        for follower in followers {
            follower.send(text.to_owned()).await.unwrap();
        }
    }

    pub(crate) fn settings(&self, url: &str) -> Settings {
        Settings { url: url.to_owned(), instance: INSTANCE.to_owned(), version: "1.2.3", links: self.links.clone() }
    }
}

impl Shared {
    fn change(&self, sha: Sha, mut change: impl FnMut(&mut CommitView)) {
        let mut view = View::clone(&self.show.borrow());
        view.at = Time(view.at.0 + 1);
        let commits = view.projects.iter_mut().flat_map(|project| &mut project.refs).flat_map(|of| &mut of.commits);
        commits.filter(|commit| commit.sha == sha).for_each(&mut change);
        self.show.send_replace(Arc::new(view));
    }

    fn find(&self, sha: Sha) -> Option<CommitView> {
        let view = self.show.borrow();
        let mut commits = view.projects.iter().flat_map(|project| &project.refs).flat_map(|of| &of.commits);
        commits.find(|commit| commit.sha == sha).cloned()
    }

    fn state(&self, sha: Sha) -> Option<State> {
        self.find(sha).map(|commit| commit.state)
    }

    fn obey(&self, command: &Command) -> Result<String, String> {
        let Some((project, sha)) = command.commit() else { return Ok("removed 2 orphans".to_owned()) };
        let trust = self
            .find(*sha)
            .map(|commit| commit.trust)
            .ok_or(format!("{project} knows no commit {sha}: push it first"))?;
        let begin = |commit: &mut CommitView| {
            commit.state = State::Building;
            commit.reason = None;
            commit.since = now();
            commit.generation += 1;
        };
        match command {
            Command::Stage { .. } if trust == Trust::Untrusted => {
                return Err(format!(
                    "{sha} is foreign code: approve it first with `sidestage approve {project} {sha}`"
                ));
            }
            Command::Approve { .. } => self.change(*sha, |commit| {
                commit.trust = Trust::Approved;
                begin(commit);
            }),
            Command::Reset { .. } | Command::Rebuild { .. } if self.state(*sha) == Some(State::Ready) => {
                self.change(*sha, |commit| {
                    commit.generation += 1;
                    commit.next = Some(State::Building);
                });
            }
            Command::Stage { .. } | Command::Reset { .. } | Command::Rebuild { .. } => self.change(*sha, begin),
            Command::Pin { .. } => self.change(*sha, |commit| commit.pinned = true),
            Command::Unpin { .. } => self.change(*sha, |commit| commit.pinned = false),
            Command::Remove { .. } | Command::Revoke { .. } => {
                self.change(*sha, |commit| commit.state = State::Removing);
            }
            Command::Wake { .. } => self.change(*sha, |commit| commit.state = State::Waking),
            _ => {}
        }
        Ok(format!("{} {project} {sha}", command.verb()))
    }

    /// What is under way comes to its end.
    fn end(&self, command: &Command) {
        let Some((state, reason)) = self.ends.lock().unwrap().clone() else { return };
        if let Some((_, sha)) = command.commit() {
            self.change(*sha, |commit| {
                if let Some(next) = &mut commit.next {
                    if state == State::Failed {
                        *next = state;
                    } else {
                        commit.next = None;
                    }
                } else {
                    commit.state = state;
                }
                commit.reason.clone_from(&reason);
            });
        }
    }
}

async fn obey(state: Arc<Shared>, mut asked: mpsc::Receiver<Ask>) {
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Command(actor, command, reply) => {
                state.done.lock().unwrap().push((actor, command.clone()));
                let _ = reply.send(state.obey(&command));
                tokio::task::yield_now().await;
                state.end(&command);
            }
            Ask::Logs { name, follow, reply, .. } => logs(&state, &name, follow, reply).await,
            Ask::Plan(reply) => drop(reply.send(vec!["build shop:01 \u{202e}now".to_owned()])),
            // The one tag that it knows beside its view, at the commit of #7.
            Ask::StageRef { actor, name, reply, .. } => {
                let said = if name == "v5.2.1" {
                    let command = Command::Stage { project: "shop".parse().unwrap(), sha: sha(1) };
                    state.done.lock().unwrap().push((actor, command.clone()));
                    let said = state.obey(&command);
                    state.end(&command);
                    said.map(|line| (sha(1), line))
                } else {
                    Err(format!("no branch or tag {name}; nearest: v5.2.1"))
                };
                let _ = reply.send(said);
            }
            Ask::Run(run) => {
                let known = run.begin.words == [":sample"];
                let _ = run.reply.send(if known { Ok(session()) } else { Err("nothing runs here".to_owned()) });
            }
            Ask::Database { reply, .. } => drop(reply.send(Err("there is no database here".to_owned()))),
            Ask::Secrets(project, reply) => {
                let kept = state.secrets.lock().unwrap();
                let of = kept.iter().filter(|(place, _)| place.project == project);
                let seen = of.map(|(Place { class, name, .. }, by)| {
                    let (class, name, by) = (*class, name.clone(), by.clone());
                    SecretView { name, class, by, at: now() }
                });
                let _ = reply.send(Ok(seen.collect()));
            }
            Ask::Secret { actor, place, value, reply } => {
                let said = format!("{place}: {}", value.as_ref().map_or(0, |value| value.0.len()));
                let mut kept = state.secrets.lock().unwrap();
                kept.remove(&place);
                kept.extend(value.map(|_| (place, actor.name)));
                let _ = reply.send(Ok(said));
            }
            Ask::Reload(_, reply) => drop(reply.send(Ok("limits.awake: 8 -> 4".to_owned()))),
            Ask::BaselineLogs { version, reply, .. } => drop(reply.send(Err(format!("{version} has no log")))),
            Ask::Cloning(version, reply) => drop(reply.send(Err(format!("{version} is not cloned here")))),
            Ask::Connect { reply, .. } => drop(reply.send(Err("nothing is connected here".to_owned()))),
            Ask::Connected { reply, .. } => drop(reply.send(Err("nothing is connected here".to_owned()))),
            Ask::CheckGitHub(reply) => drop(reply.send(Err("no project is on GitHub".to_owned()))),
            Ask::Webhook { reply, .. } => drop(reply.send(Err(console::Turned::Unexpected))),
            Ask::Look(project, reply) => drop(reply.send(if project == "shop" { Ok(()) } else { Err("?".to_owned()) })),
        }
    }
}

/// Something that prints a line and ends well.
fn session() -> Session {
    let (input, _) = mpsc::channel(1);
    let (show, output) = mpsc::channel(2);
    show.try_send(Frame::Stdout("filled\u{202e}\n".into())).unwrap();
    show.try_send(Frame::Ended(Ended { code: 0, why: None })).unwrap();
    Session { input, output }
}

type LogReply = oneshot::Sender<Result<mpsc::Receiver<String>, String>>;

async fn logs(state: &Shared, name: &str, follow: bool, reply: LogReply) {
    if !matches!(name, "build" | "web") {
        let _ = reply.send(Err(format!("no log {name:?}; there are: build, web")));
        return;
    }
    let (send, receive) = mpsc::channel(16);
    let chunks = state.log.lock().unwrap().clone();
    let _ = reply.send(Ok(receive));
    for chunk in chunks {
        let _ = send.send(chunk).await;
    }
    if follow {
        state.followers.lock().unwrap().push(send);
    }
}
