//! Webhooks: taken in, stored, and only then answered; what a person asked for in one is judged after a look at the forge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use console::Turned;
use drivers::{Delivery, Refusal};
use http::HeaderMap;
use planner::command::{Actor, Command, Role};
use planner::event::{Event, RequestId, Step};
use planner::facts::{Row, Table};
use planner::forge::Said;
use planner::identity::{ProjectName, Time};
use planner::resource::Failure;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Controller, Input, Reply};
use crate::clock::now;

/// GitHub can deliver again for three days, an Enterprise Server for seven.
const KEPT: Duration = Duration::from_secs(8 * 24 * 3600);
/// How often what a person asked for is tried, when the forge does not say what they may.
const TRIES: u32 = 60;
/// Between two of these, at most.
const PAUSE: Duration = Duration::from_secs(60);

/// GitHub keeps deliveries for so long.
const LONGEST_AWAY: Duration = Duration::from_secs(3 * 24 * 3600);
/// Deliveries may be minutes late.
const MARGIN: Duration = Duration::from_secs(600);

/// The way back to whoever delivered.
pub(super) type Taken = oneshot::Sender<Result<(), Turned>>;

/// A delivery, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    at: Time,
    event: String,
    /// What a person asked for, as long as it is not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Said>,
}

/// What was delivered lately, and what is being done about it.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    known: BTreeMap<String, Kept>,
    unsaved: Vec<Row>,
    /// To be answered when it is stored.
    answers: Vec<Taken>,
    look: BTreeSet<ProjectName>,
    /// What is to be judged, by the delivery that it came in.
    begin: Vec<String>,
    judging: BTreeMap<RequestId, String>,
}

impl Deliveries {
    /// From the store. What was not decided before a restart is begun again.
    pub(super) fn restore(rows: &[Row]) -> Deliveries {
        let rows = rows.iter().filter(|row| row.table == Table::Deliveries);
        let kept = rows.filter_map(|row| Some((row.key.clone(), serde_json::from_str(row.value.as_ref()?).ok()?)));
        let known: BTreeMap<String, Kept> = kept.collect();
        let begin = known.iter().filter(|(_, kept)| kept.said.is_some()).map(|(id, _)| id.clone()).collect();
        Deliveries { known, begin, ..Deliveries::default() }
    }

    fn put(&mut self, id: &str, kept: Kept) {
        let value = serde_json::to_string(&kept).unwrap_or_default();
        self.unsaved.push(Row { table: Table::Deliveries, key: id.to_owned(), value: Some(value) });
        self.known.insert(id.to_owned(), kept);
    }

    fn take(&mut self, delivery: Delivery, answer: Taken) {
        // One that comes again is a reason to look all the same; what a person asked for is asked once.
        self.look.extend(delivery.look);
        self.answers.push(answer);
        if self.known.contains_key(&delivery.id) {
            return;
        }
        if delivery.said.is_some() {
            self.begin.push(delivery.id.clone());
        }
        self.put(&delivery.id, Kept { at: now(), event: delivery.event, said: delivery.said });
        let old = |kept: &Kept| kept.said.is_none() && now().since(kept.at) > KEPT;
        let forgotten: Vec<String> =
            self.known.iter().filter(|(_, kept)| old(kept)).map(|(id, _)| id.clone()).take(100).collect();
        for id in forgotten {
            self.known.remove(&id);
            self.unsaved.push(Row { table: Table::Deliveries, key: id, value: None });
        }
    }
}

impl Controller {
    /// Judges a delivery beside the loop: a signature over 25 MB takes its time.
    pub(super) fn webhook(&self, headers: HeaderMap, body: Bytes, reply: Taken) {
        let Some(github) = self.setup.forges.github().filter(|github| github.is_told()) else {
            let _ = reply.send(Err(Turned::Unexpected));
            return;
        };
        let input = self.input.clone();
        let judge = move || match github.accept(&headers, &body) {
            Ok(delivery) => drop(input.send(Input::Delivered(delivery, reply))),
            Err(refusal) => {
                warn!(%refusal, "a delivery was refused");
                let turned = match refusal {
                    Refusal::Unsigned(line) => Turned::Unsigned(line.to_owned()),
                    Refusal::Malformed(line) => Turned::Malformed(line),
                };
                let _ = reply.send(Err(turned));
            }
        };
        drop(tokio::task::spawn_blocking(judge));
    }

    pub(super) fn delivered(&mut self, delivery: Delivery, answer: Taken) {
        info!(id = delivery.id, event = delivery.event, "a delivery was taken");
        self.deliveries.take(delivery, answer);
    }

    /// What was delivered goes into the step's transaction; what was asked in it and is decided is remembered as such.
    pub(super) fn keep_deliveries(&mut self, step: &mut Step) {
        for (request, _) in &step.replies {
            let Some(id) = self.deliveries.judging.remove(request) else { continue };
            let Some(kept) = self.deliveries.known.get(&id).cloned() else { continue };
            self.deliveries.put(&id, Kept { said: None, ..kept });
        }
        step.persist.append(&mut self.deliveries.unsaved);
    }

    /// Everything delivered has been stored: its senders hear so, and the forge is looked at.
    pub(super) fn perform_deliveries(&mut self) {
        for answer in std::mem::take(&mut self.deliveries.answers) {
            let _ = answer.send(Ok(()));
        }
        for id in std::mem::take(&mut self.deliveries.begin) {
            self.judge(id);
        }
        for project in std::mem::take(&mut self.deliveries.look) {
            if let Some(watch) = self.watches.get(&project) {
                watch.look(oneshot::channel().0);
            }
        }
    }

    /// Looks at the project, so that what the person saw is known, then asks what they may.
    fn judge(&self, id: String) {
        let Some(said) = self.deliveries.known.get(&id).and_then(|kept| kept.said.clone()) else { return };
        let (Some(watch), Some(forge)) = (self.watches.get(&said.project), self.setup.forges.get(&said.project)) else {
            let _ = self.input.send(Input::Said(id, said, None));
            return;
        };
        let (answer, looked) = oneshot::channel();
        watch.look(answer);
        let input = self.input.clone();
        tokio::spawn(async move {
            // A look that failed leaves the refs as they were: what is not known there is refused.
            let _ = looked.await;
            let mut role = forge.role(&said.person).await;
            for tries in 1..TRIES {
                if !matches!(role, Err(Failure::Transient { .. })) {
                    break;
                }
                tokio::time::sleep(PAUSE.min(Duration::from_secs(5) * tries)).await;
                role = forge.role(&said.person).await;
            }
            let role: Option<Role> = role.unwrap_or_else(|failure| {
                warn!(%failure, person = said.person.login, "what a person may is not known, so nothing");
                None
            });
            let _ = input.send(Input::Said(id, said, role));
        });
    }

    /// The person's role is known: the core decides.
    pub(super) fn said(&mut self, id: String, said: Said, role: Option<Role>) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.deliveries.judging.insert(request, id);
        self.pending.push(Event::Said { request, said, role });
    }

    /// While we were away nobody took deliveries: GitHub sends again what was lost since the last one that is known.
    /// Every project is looked at anyway; this is for what people asked meanwhile.
    pub(super) fn redeliver(&self) {
        let Some(github) = self.setup.forges.github().filter(|github| github.is_told()) else { return };
        let last = self.deliveries.known.values().map(|kept| kept.at).max();
        let Some(last) = last else { return };
        let away = now().since(last).min(LONGEST_AWAY) + MARGIN;
        tokio::spawn(async move {
            match github.redeliver(std::time::SystemTime::now() - away).await {
                Ok(0) => {}
                Ok(some) => info!(some, "deliveries that were lost come again"),
                Err(failure) => warn!(%failure, "whether deliveries were lost is not known"),
            }
        });
    }

    /// GitHub made an App: its key is kept, and the connection made anew.
    pub(super) fn connected(&self, code: String, state: String, reply: oneshot::Sender<Result<String, String>>) {
        let (connecting, config, input) = (self.connecting.clone(), self.setup.config.clone(), self.input.clone());
        tokio::spawn(async move {
            let mut done = connecting.finish(&config, &code, &state).await;
            if done.is_ok() {
                let (answer, applied) = oneshot::channel();
                let _ = input.send(Input::Connected(answer));
                if let Ok(Err(why)) = applied.await {
                    done = Err(format!("the App is kept, but not used yet: {why}"));
                }
            }
            let _ = reply.send(done);
        });
    }

    /// Has the configuration read anew, whose App is there now.
    pub(super) fn reconnect(&mut self, applied: Reply) {
        let actor = Actor { name: "github connect".to_owned(), role: Role::Admin };
        let change = self.setup.reload();
        self.change(actor, Command::Reload, change, applied);
    }

    /// What the connection lacks.
    pub(super) fn check_github(&self, reply: oneshot::Sender<Result<Vec<(bool, String)>, String>>) {
        let Some(github) = self.setup.forges.github() else {
            let _ = reply.send(Err("no project is on GitHub: set github = \"owner/name\" in a [[project]]".to_owned()));
            return;
        };
        let config = &self.setup.config;
        let console = config.console_url();
        let environments = config.policy().projects.into_iter().filter(|(_, project)| project.forge.pulls);
        let environments = environments.map(|(name, project)| (name, project.forge.report.environment)).collect();
        tokio::spawn(async move {
            let findings = github.inspect(&console, &environments).await;
            let _ = reply.send(Ok(findings.into_iter().map(|finding| (finding.good, finding.line)).collect()));
        });
    }
}
