//! Serves people: pages and JSON API over the view that it was last given.

use std::sync::Arc;

use planner::command::{Actor, Command};
use planner::identity::{EnvId, Time};
use planner::view::View;
use tokio::sync::{mpsc, oneshot, watch};

/// The doors between the console and the loop.
#[derive(Debug, Clone)]
pub struct Doors {
    /// What to show.
    pub view: watch::Receiver<Arc<View>>,
    /// Requests of people.
    pub ask: mpsc::Sender<Ask>,
    /// The clock.
    pub now: fn() -> Time,
}

/// One request to the loop, with the way back. An `Err` is one line for the person.
#[derive(Debug)]
pub enum Ask {
    /// Do something; answered when it is decided and stored, not when it is done.
    Command(Actor, Command, oneshot::Sender<Result<String, String>>),
    /// The log of one container, job or `build` of an environment, as chunks of text. Ends at its present end unless `follow`.
    Logs {
        /// Whose.
        env: EnvId,
        /// One of `CommitView::logs`.
        name: String,
        /// Go on until the other side hangs up.
        follow: bool,
        /// The chunks.
        reply: oneshot::Sender<Result<mpsc::Receiver<String>, String>>,
    },
    /// What a pass would do now, one line a step, in order, with what waits and why.
    Plan(oneshot::Sender<Vec<String>>),
    /// Look at a project's forge now; answered when its refs have been listed and decided about.
    Look(String, oneshot::Sender<Result<(), String>>),
}
