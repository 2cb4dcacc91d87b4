//! What each state is called and means, for somebody who came by a link.

use planner::view::State;

pub(super) fn headline(state: State) -> &'static str {
    match state {
        State::Unstaged => "Not staged",
        State::Blocked => "Blocked",
        State::Queued => "In the queue",
        State::Building => "Being built",
        State::Starting => "Starting",
        State::Ready => "Ready",
        State::Dozing | State::Asleep => "Asleep",
        State::Waking => "Waking up",
        State::Failed => "Failed",
        State::Superseded => "Superseded",
        State::Expired => "Expired",
        State::Removing => "Being removed",
        State::Removed => "Removed",
    }
}

pub(super) fn explanation(state: State) -> &'static str {
    match state {
        State::Unstaged => "Nobody has asked for a running copy of this commit.",
        State::Blocked => "This commit does not run until what stands in its way is settled.",
        State::Queued => "A running copy of this commit has been asked for and waits for its turn.",
        State::Building => "The image of this commit is being built.",
        State::Starting => "The running copy of this commit is starting for the first time.",
        State::Ready => "The running copy of this commit is up.",
        State::Dozing | State::Asleep => "Nobody was here for a while, so it sleeps. It wakes at the next visit.",
        State::Waking => "Nobody was here for a while, so it slept. It is starting again.",
        State::Failed => "The running copy of this commit could not be made or does not stay up.",
        State::Superseded => "A newer commit has taken this one's place.",
        State::Expired => "Nobody was here for so long that it was removed.",
        State::Removing => "The running copy of this commit is being removed.",
        State::Removed => "The running copy of this commit was removed.",
    }
}
