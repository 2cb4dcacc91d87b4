//! The core and GitHub's driver in front of the fake GitHub, over a world in memory in which everything works at once. It does
//! what the controller does, without engine and without waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use drivers::Forge;
use drivers::github::GitHubForge;
use planner::command::{Actor, Command};
use planner::core::Core;
use planner::event::{Event, RequestId, Source};
use planner::facts::{Row, Table};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time};
use planner::manifest::Manifest;
use planner::plan::BACKENDS;
use planner::policy::StageMode;
use planner::resource::{Action, Failure, Kind, Observed, Outputs, Owner, Phase, ResourceId};
use planner::view::{CommitView, State as Seen};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::fakehub::{Hub, Opening, Target};
use crate::github::{connected, watched};
use crate::simulation::settings::Settings;

pub(super) const SHOP: &str = "acme/shop";
const START: Time = Time(1_790_000_000_000);
/// More rounds than this without rest would be a fault of ours.
const ROUNDS: usize = 300;
/// What becomes due within this time is waited for.
const SOON: Duration = Duration::from_secs(600);

type Delivered = (HeaderMap, Bytes);

/// Everything of one story.
pub(super) struct House {
    pub(super) hub: Hub,
    pub(super) forge: Arc<GitHubForge>,
    pub(super) core: Core,
    pub(super) now: Time,
    /// The store.
    rows: BTreeMap<(Table, String), Row>,
    /// What exists.
    seen: BTreeMap<ResourceId, Observed>,
    /// Commits whose build fails, with the last words of the step.
    pub(super) broken: BTreeMap<Sha, String>,
    inbox: mpsc::UnboundedReceiver<Delivered>,
    heard: BTreeSet<String>,
    requests: u64,
    pending: Vec<Event>,
    replies: BTreeMap<RequestId, Result<String, String>>,
    /// Commits are read by git, not made up.
    pub(super) by_git: bool,
    /// The last wake-up that the core asked for.
    wake_at: Option<Time>,
    settings: Settings,
    _folder: tempfile::TempDir,
}

pub(super) fn shop() -> ProjectName {
    "shop".parse().unwrap()
}

fn key() -> InstanceKey {
    InstanceKey::new([7; 32])
}

pub(super) fn opening<'a>(branch: &'a str, title: &'a str) -> Opening<'a> {
    Opening { on: SHOP, by: "ada", from: SHOP, branch, title, draft: false }
}

impl House {
    /// A repository on the hub, `ada` its admin and `grace` with write, and Sidestage in front of it.
    pub(super) async fn open(mode: StageMode) -> House {
        let hub = Hub::start().await;
        hub.repository(SHOP, &[("Dockerfile", "FROM scratch\n")]).await;
        hub.grant(SHOP, "ada", "admin");
        hub.grant(SHOP, "grace", "write");
        let folder = tempfile::tempdir().unwrap();
        let forge = connect(&hub, folder.path());
        let mut settings = Settings::calm(&["shop"]);
        settings.policy.console_url = Some("https://console.example.org".to_owned());
        settings.policy.limits.environments = 100;
        let project = settings.policy.projects.get_mut(&shop()).unwrap();
        (project.stage, project.forge.pulls, project.keep) = (mode, true, 2);
        let core = Core::restore(key(), settings.policy.clone(), &[]).unwrap();
        let (sender, inbox) = mpsc::unbounded_channel();
        hub.send_to(Target { url: listen(sender).await, secret: hub.world(|world| world.app.secret.clone()) });
        let (rows, seen, broken) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let heard = BTreeSet::new();
        let (requests, wake_at, now, _folder) = (0, None, START, folder);
        let (pending, replies, by_git) = (Vec::new(), BTreeMap::new(), false);
        let mut house = House {
            hub,
            forge,
            core,
            now,
            rows,
            seen,
            broken,
            inbox,
            heard,
            requests,
            pending,
            replies,
            by_git,
            wake_at,
            settings,
            _folder,
        };
        house.list();
        house.pass().await;
        house
    }

    /// Sidestage ends, and another begins with what was stored.
    pub(super) fn restart(&mut self) {
        let rows: Vec<Row> = self.rows.values().cloned().collect();
        self.core = Core::restore(key(), self.settings.policy.clone(), &rows).unwrap();
        self.forge = connect(&self.hub, self._folder.path());
        self.list();
    }

    /// As on a first day, with whatever is on the hub now.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        self.restart();
    }

    /// Looks at GitHub, takes in what it sent, and goes on until nothing happens any more.
    pub(super) async fn pass(&mut self) {
        self.look().await;
        self.settle().await;
    }

    /// Takes in what GitHub sent, without looking by itself, and goes on until nothing happens any more.
    pub(super) async fn settle(&mut self) {
        let mut listed = false;
        for _ in 0..ROUNDS {
            self.hub.delivered().await;
            let mut busy = false;
            while let Ok((headers, body)) = self.inbox.try_recv() {
                busy = true;
                self.deliver(&headers, &body).await;
            }
            busy |= self.turn().await;
            // What is tried again within minutes is waited for, as the loop would.
            let soon = self.wake_at.filter(|at| *at > self.now && at.since(self.now) < SOON);
            match (busy, listed, soon) {
                (true, ..) => listed = false,
                (false, false, _) => {
                    self.list();
                    listed = true;
                }
                (false, true, Some(at)) => (self.now, listed) = (at, false),
                (false, true, None) => return,
            }
        }
        panic!("no rest after {ROUNDS} rounds: {:#?}", self.core.view());
    }

    async fn look(&mut self) {
        let event = match self.forge.heads(&BTreeSet::new()).await {
            Ok(heads) => Event::Refs { project: shop(), heads },
            Err(failure) => Event::NoRefs { project: shop(), why: failure.to_string() },
        };
        self.pending.push(event);
        self.turn().await;
    }

    async fn deliver(&mut self, headers: &HeaderMap, body: &Bytes) {
        let delivery = self.forge.connection().accept(headers, body).unwrap_or_else(|refusal| panic!("{refusal}"));
        let known = !self.heard.insert(delivery.id);
        if !delivery.look.is_empty() {
            self.look().await;
        }
        if let Some(said) = delivery.said.filter(|_| !known) {
            let role = self.forge.role(&said.person).await.unwrap_or(None);
            let request = self.request();
            self.pending.push(Event::Said { request, said, role });
            self.turn().await;
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// A person asks in the console or by the CLI.
    pub(super) async fn asks(&mut self, actor: Actor, command: Command) -> Result<String, String> {
        let request = self.request();
        self.pending.push(Event::Asked { request, actor, command });
        self.turn().await;
        self.replies.remove(&request).expect("it is answered")
    }

    /// Every backend tells what it holds.
    fn list(&mut self) {
        for backend in BACKENDS {
            let began = self.core.begin_listing(self.now);
            let seen = self.seen.iter().filter(|(id, _)| id.backend == backend);
            let seen = Ok(seen.map(|(id, observed)| (id.clone(), observed.clone())).collect());
            self.pending.push(Event::Listed { backend, began, seen });
        }
    }

    /// One step, and all that it asks for, at once. Whether anything happened.
    async fn turn(&mut self) -> bool {
        let events = std::mem::take(&mut self.pending);
        let mut busy = events.iter().any(|event| !matches!(event, Event::Listed { .. }));
        let step = self.core.step(self.now, events);
        for row in step.persist {
            let place = (row.table, row.key.clone());
            match row.value {
                Some(_) => drop(self.rows.insert(place, row)),
                None => drop(self.rows.remove(&place)),
            }
        }
        self.wake_at = step.wake_at;
        self.replies.extend(step.replies);
        busy |= !(step.read.is_empty() && step.start.is_empty() && step.tell.is_empty());
        for (project, sha) in step.read {
            let source = self.read(&sha).await;
            self.pending.push(Event::Read { project, sha, source });
        }
        for (call, action) in step.start {
            let result = self.act(action);
            self.pending.push(Event::Returned { call, result });
        }
        for (project, report) in step.tell {
            let result = self.forge.report(&report).await;
            self.pending.push(Event::Told { project, place: report.place, result });
        }
        busy
    }

    /// What a commit is made of. Reading it by git is another test's matter.
    async fn read(&self, sha: &Sha) -> Result<Source, Failure> {
        if self.by_git {
            return self.forge.read(sha).await;
        }
        let manifest = Manifest::parse(None).map(Arc::new);
        Ok(Source {
            tree: *sha,
            subject: "A change".to_owned(),
            author: "Ada".to_owned(),
            manifest,
            ancestors: Vec::new(),
        })
    }

    /// Everything works at once, but for what is broken.
    fn act(&mut self, action: Action) -> Result<Option<Observed>, Failure> {
        match action {
            Action::Ensure(resource) => {
                let broken = self.broken.iter().find(|(sha, _)| resource.id.name.starts_with(&sha.to_string()[..12]));
                if let (Kind::Image, Some((_, words))) = (resource.id.kind, broken) {
                    return Err(Failure::permanent(words.clone()));
                }
                let address = (resource.id.kind == Kind::Container).then(|| [10, 0, 0, 1].into());
                let id = Some(format!("id-{}", resource.id));
                let outputs = Outputs { id, address, ..Outputs::default() };
                let (phase, run, uses) = (Phase::Whole, resource.run, resource.needs);
                let observed = Observed { fingerprint: resource.fingerprint, phase, run, uses, outputs };
                self.seen.insert(resource.id, observed.clone());
                Ok(Some(observed))
            }
            Action::Rest(id, run) => {
                if let Some(observed) = self.seen.get_mut(&id) {
                    observed.run = observed.run.min(run);
                }
                Ok(None)
            }
            Action::Remove(id, _) => {
                self.seen.remove(&id);
                Ok(None)
            }
        }
    }

    pub(super) fn commits(&self) -> Vec<(Ref, CommitView)> {
        let view = self.core.view();
        let refs = view.projects.into_iter().flat_map(|project| project.refs);
        refs.flat_map(|of| of.commits.into_iter().map(move |commit| (of.name.clone(), commit))).collect()
    }

    pub(super) fn state(&self, sha: &str) -> Option<Seen> {
        self.commits().into_iter().find(|(_, commit)| commit.sha.to_string() == sha).map(|(_, commit)| commit.state)
    }

    /// Commits with a web process.
    pub(super) fn running(&self) -> BTreeSet<String> {
        let webs = self.seen.keys().filter(|id| id.kind == Kind::Container && id.name == "web");
        let envs = webs.filter_map(|id| match &id.owner {
            Owner::Env(env) => self.core.origin(env).map(|of| of.sha.to_string()),
            _ => None,
        });
        envs.collect()
    }

    /// How many environments there are, by owner.
    pub(super) fn environments(&self) -> usize {
        let owners: BTreeSet<&Owner> =
            self.seen.keys().map(|id| &id.owner).filter(|owner| matches!(owner, Owner::Env(_))).collect();
        owners.len()
    }

    /// Lines of the audit log with this verb.
    pub(super) fn audited(&self, verb: &str) -> Vec<String> {
        let rows = self.rows.values().filter(|row| row.table == Table::Audit).filter_map(|row| row.value.clone());
        rows.filter(|row| row.contains(&format!("\"verb\":\"{verb}\""))).collect()
    }

    /// Comments of ours on a pull request.
    pub(super) fn comments(&self, number: u64) -> Vec<String> {
        self.hub.world(|world| {
            let repo = world.repos.values().find(|repo| repo.installed).unwrap();
            let ours =
                repo.comments.iter().filter(|comment| comment.number == number && comment.author == world.app.bot);
            ours.map(|comment| comment.body.clone()).collect()
        })
    }

    /// Last states of deployments, by commit.
    pub(super) fn deployments(&self) -> Vec<(String, String)> {
        self.hub.world(|world| {
            let repo = world.repos.values().find(|repo| repo.installed).unwrap();
            let last = |of: &crate::fakehub::Deployment| {
                let state =
                    of.statuses.last().map(|(_, _, sent)| sent["state"].as_str().unwrap_or_default().to_owned());
                (of.sha.clone(), state.unwrap_or_default())
            };
            repo.deployments.iter().map(last).collect()
        })
    }
}

/// A driver as after a start.
fn connect(hub: &Hub, folder: &std::path::Path) -> Arc<GitHubForge> {
    connected(hub).forge(watched("shop", SHOP, folder))
}

/// Takes webhooks in, as the console does, and hands them on.
async fn listen(sender: mpsc::UnboundedSender<Delivered>) -> String {
    async fn take(
        State(sender): State<mpsc::UnboundedSender<Delivered>>,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let _ = sender.send((headers, body));
        StatusCode::ACCEPTED
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks/github", listener.local_addr().unwrap());
    let app = Router::new().fallback(take).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}
