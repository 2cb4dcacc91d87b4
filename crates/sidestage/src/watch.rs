//! Watches one forge: lists its refs when they changed, when somebody asks for a look, and every minute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use drivers::Forge;
use planner::event::Event;
use planner::identity::{ProjectName, Ref};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::controller::{Answer, Input};

/// Refs are listed at least this often.
const POLL: Duration = Duration::from_secs(60);

/// A task that lists one project's refs, one listing after the other, so that they arrive in their order.
#[derive(Debug)]
pub struct Watch {
    look: mpsc::UnboundedSender<Answer>,
    also: watch::Sender<BTreeSet<Ref>>,
}

impl Watch {
    /// Starts the task; it ends with the loop.
    #[must_use]
    pub fn start(
        project: &ProjectName,
        forge: &Arc<dyn Forge>,
        pace: Option<watch::Receiver<u64>>,
        input: mpsc::UnboundedSender<Input>,
    ) -> Watch {
        let (look, looks) = mpsc::unbounded_channel();
        let (also, asked_for) = watch::channel(BTreeSet::new());
        tokio::spawn(follow(project.clone(), forge.clone(), Pace::new(pace), input, looks, asked_for));
        Watch { look, also }
    }

    /// Branches and tags to list beside those that are watched: a person asked for them.
    pub fn also(&self, refs: BTreeSet<Ref>) {
        self.also.send_if_modified(|also| {
            let other = *also != refs;
            *also = refs;
            other
        });
    }

    /// Lists the refs now. Answered when they have been decided about.
    pub fn look(&self, answer: Answer) {
        let _ = self.look.send(answer);
    }
}

/// When it is time to look, whatever else happens.
enum Pace {
    /// By itself.
    Own(Interval),
    /// With others, once at the start.
    Shared(watch::Receiver<u64>),
}

impl Pace {
    fn new(shared: Option<watch::Receiver<u64>>) -> Pace {
        match shared {
            Some(mut shared) => {
                shared.mark_changed();
                Pace::Shared(shared)
            }
            None => {
                let mut poll = interval(POLL);
                poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
                Pace::Own(poll)
            }
        }
    }

    async fn next(&mut self) {
        match self {
            Pace::Own(poll) => drop(poll.tick().await),
            Pace::Shared(shared) => {
                if shared.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

async fn follow(
    project: ProjectName,
    forge: Arc<dyn Forge>,
    mut pace: Pace,
    input: mpsc::UnboundedSender<Input>,
    mut looks: mpsc::UnboundedReceiver<Answer>,
    also: watch::Receiver<BTreeSet<Ref>>,
) {
    loop {
        let mut answers = Vec::new();
        tokio::select! {
            () = pace.next() => {}
            () = forge.changed() => {}
            answer = looks.recv() => match answer {
                Some(answer) => answers.push(answer),
                None => return,
            },
        }
        while let Ok(answer) = looks.try_recv() {
            answers.push(answer);
        }
        let asked_for = also.borrow().clone();
        let sent = match forge.heads(&asked_for).await {
            Ok(heads) => {
                input.send(Input::Looked(project.clone(), Event::Refs { project: project.clone(), heads }, answers))
            }
            Err(failure) => {
                let why = failure.to_string();
                for answer in answers {
                    let _ = answer.send(Err(why.clone()));
                }
                input.send(Input::Event(Event::NoRefs { project: project.clone(), why }))
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
