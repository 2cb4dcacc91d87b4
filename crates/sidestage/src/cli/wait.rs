//! Waits until what was asked for has happened, or cannot happen any more.

use std::io::{self, Write};
use std::time::Duration;

use console::text::{clean, span, took};
use indicatif::{ProgressBar, ProgressStyle};
use planner::units::show_duration;
use planner::view::{CommitView, State};
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, Pieces};
use super::target::Target;
use super::{Failed, Screen};

/// How something is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Staged: serving.
    Up,
    /// A newer generation, serving.
    Anew,
    /// Stopped until somebody comes.
    Asleep,
    /// Serving again.
    Awake,
    /// Not there any more.
    Gone,
}

enum Outcome {
    Done,
    Failed,
    Under,
}

impl Goal {
    /// Where this state leaves us. Answers come after the view that shows their effect, so a state that was there
    /// before counts as under way only where the goal is to leave it.
    fn judge(self, commit: Option<&CommitView>, before: u32) -> Outcome {
        let Some(commit) = commit else {
            return if self == Goal::Gone { Outcome::Done } else { Outcome::Failed };
        };
        let over = matches!(
            commit.state,
            State::Failed | State::Blocked | State::Superseded | State::Expired | State::Removed
        );
        let newer = commit.generation > before;
        let up = matches!(commit.state, State::Ready | State::Dozing);
        let (done, failed) = match self {
            Goal::Up | Goal::Awake => (up, over),
            // The older generation serves until the newer one is ready, and goes on if that one fails.
            Goal::Anew => (
                up && newer && commit.next.is_none(),
                matches!(commit.next, Some(State::Failed | State::Blocked))
                    || over && (newer || commit.state != State::Failed),
            ),
            Goal::Asleep => (commit.state == State::Asleep, over),
            Goal::Gone => (
                // Foreign code that is gone and not approved any more is blocked again.
                matches!(
                    commit.state,
                    State::Removed | State::Expired | State::Superseded | State::Unstaged | State::Blocked
                ),
                commit.held,
            ),
        };
        match (done, failed) {
            (true, _) => Outcome::Done,
            (false, true) => Outcome::Failed,
            (false, false) => Outcome::Under,
        }
    }
}

/// Between two tries to reach a controller that went away.
const RETRY: Duration = Duration::from_secs(1);

/// Follows one commit until the goal is reached. `before` is the generation before the command.
pub(super) async fn until(
    client: &Client,
    target: &Target,
    goal: Goal,
    before: u32,
    longest: Duration,
    screen: &mut Screen,
) -> Result<(), Failed> {
    let end = Instant::now().checked_add(longest);
    let mut progress = Progress::new(target.short(), screen.draw);
    let mut events: Option<Pieces> = None;
    loop {
        let view = match client.view().await {
            Ok(view) => view,
            Err(error) if end.is_some_and(|end| Instant::now() >= end) => return Err(error),
            // The controller restarts: what is under way goes on.
            Err(_) => {
                sleep(RETRY).await;
                continue;
            }
        };
        let commit = target.commit(&view);
        progress.show(commit, screen)?;
        match goal.judge(commit, before) {
            Outcome::Done => return progress.done(commit, screen),
            Outcome::Failed => return Err(progress.failed(commit)),
            Outcome::Under => {}
        }
        let next = next(client, &mut events);
        let late = match end {
            Some(end) => timeout_at(end, next).await.is_err(),
            None => {
                next.await;
                false
            }
        };
        if late {
            return Err(progress.late(commit, longest));
        }
    }
}

/// Done when the view may have changed.
async fn next(client: &Client, events: &mut Option<Pieces>) {
    if events.is_none() {
        // The first event comes at once, so nothing is missed between looking and listening.
        *events = client.stream("/api/v1/events").await.ok();
    }
    let more = match events {
        Some(events) => events.next().await,
        None => Ok(None),
    };
    if !matches!(more, Ok(Some(_))) {
        *events = None;
        sleep(RETRY).await;
    }
}

/// A spinner on a terminal, a line a state otherwise.
struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    shown: Option<String>,
    began: Instant,
}

impl Progress {
    fn new(name: String, draw: bool) -> Progress {
        let bar = draw.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { name, bar, shown: None, began: Instant::now() }
    }

    fn show(&mut self, commit: Option<&CommitView>, screen: &mut Screen) -> io::Result<()> {
        let Some(commit) = commit else { return Ok(()) };
        let line = format!("{}: {}", self.name, told(commit));
        if self.shown.as_ref() == Some(&line) {
            return Ok(());
        }
        self.shown = Some(line.clone());
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => writeln!(screen.err, "{line}")?,
        }
        Ok(())
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn done(&self, commit: Option<&CommitView>, screen: &mut Screen) -> Result<(), Failed> {
        self.clear();
        let state = commit.map_or("gone", |commit| commit.state.as_str());
        let after = took(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let serves = commit.filter(|commit| matches!(commit.state, State::Ready | State::Dozing | State::Asleep));
        let url = serves.map(|commit| format!(": {}", commit.url)).unwrap_or_default();
        Ok(writeln!(screen.out, "{} {state} after {after}{url}", self.name)?)
    }

    fn failed(&self, commit: Option<&CommitView>) -> Failed {
        self.clear();
        let told = commit.map_or("is not known any more: its pull request, branch or tag is gone".to_owned(), told);
        Failed::Refused(format!("{}: {told}", self.name))
    }

    fn late(&self, commit: Option<&CommitView>, longest: Duration) -> Failed {
        self.clear();
        let told = commit.map_or("not known".to_owned(), told);
        let for_long = commit.map(|commit| span(super::listing::now().since(commit.since))).unwrap_or_default();
        let longest = show_duration(longest);
        Failed::Refused(format!("{}: not done after {longest}, it goes on by itself; {told} for {for_long}", self.name))
    }
}

fn told(commit: &CommitView) -> String {
    let state = match commit.next {
        // The older generation goes on.
        Some(State::Failed | State::Blocked) => format!("{} as before", commit.state.as_str()),
        Some(next) => format!("{}, next {}", commit.state.as_str(), next.as_str()),
        None => commit.state.as_str().to_owned(),
    };
    commit.reason.as_ref().map_or(state.clone(), |reason| format!("{state}: {}", clean(reason)))
}
