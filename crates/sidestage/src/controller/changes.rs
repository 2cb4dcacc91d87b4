//! What the operator changes: judged by the core, written with its decision, then applied.

use std::sync::Arc;

use planner::command::{Actor, Command};
use planner::event::{Event, RequestId, Step};

use super::{Controller, Reply};
use crate::setup::Change;
use crate::watch::Watch;

impl Controller {
    /// Has a change judged, if it could be prepared.
    pub(super) fn change(&mut self, actor: Actor, command: Command, change: Result<Change, String>, answer: Reply) {
        match change {
            Ok(change) => {
                let request = self.command(actor, command, answer);
                self.changes.insert(request, change);
            }
            Err(why) => drop(answer.send(Err(why))),
        }
    }

    /// The changes that the core allows, their rows among what is written. They are answered when they are applied.
    pub(super) fn granted(&mut self, step: &mut Step) -> Vec<(Option<RequestId>, Change, String)> {
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
    pub(super) fn apply(&mut self, granted: Vec<(Option<RequestId>, Change, String)>) {
        let before = self.setup.forges.all();
        for (request, change, judged) in granted {
            self.applied.extend(request.map(|request| (request, Ok(change.said(&judged)))));
            self.setup.apply(change);
        }
        let forges = self.setup.forges.all();
        self.watches.retain(|name, _| forges.contains_key(name));
        for (name, forge) in forges {
            if !before.get(&name).is_some_and(|known| Arc::ptr_eq(known, &forge)) {
                let watch = Watch::start(&name, &forge, self.setup.pace(&name), self.input.clone());
                self.watches.insert(name, watch);
            }
        }
        self.pending.push(Event::Policy(Box::new(self.setup.policy())));
    }
}
