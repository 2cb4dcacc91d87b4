//! What can be done to a commit in its state, and the command that a pressed button means.

use std::time::Duration;

use planner::command::Command;
use planner::identity::{ProjectName, Sha, Trust};
use planner::view::{CommitView, State};

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Stage,
    Approve,
    Revoke,
    Extend,
    Pin,
    Unpin,
    Reset,
    Rebuild,
    Sleep,
    Wake,
    Remove,
}

impl Act {
    const ALL: [Act; 11] = [
        Act::Stage,
        Act::Approve,
        Act::Revoke,
        Act::Extend,
        Act::Pin,
        Act::Unpin,
        Act::Reset,
        Act::Rebuild,
        Act::Sleep,
        Act::Wake,
        Act::Remove,
    ];

    /// The word of the command, as in the form.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Act::Stage => "stage",
            Act::Approve => "approve",
            Act::Revoke => "revoke",
            Act::Extend => "extend",
            Act::Pin => "pin",
            Act::Unpin => "unpin",
            Act::Reset => "reset",
            Act::Rebuild => "rebuild",
            Act::Sleep => "sleep",
            Act::Wake => "wake",
            Act::Remove => "remove",
        }
    }

    pub(crate) fn parse(verb: &str) -> Option<Act> {
        Act::ALL.into_iter().find(|act| act.verb() == verb)
    }

    /// What stands on its button.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Act::Stage => "Stage it",
            Act::Approve => "Approve and stage",
            Act::Revoke => "Revoke approval",
            Act::Extend => "Extend by 3 days",
            Act::Pin => "Pin",
            Act::Unpin => "Unpin",
            Act::Reset => "Reset",
            Act::Rebuild => "Rebuild",
            Act::Sleep => "Sleep",
            Act::Wake => "Wake",
            Act::Remove => "Remove",
        }
    }

    /// What is lost by it: such an act is asked about first.
    pub(crate) fn loses(self) -> Option<&'static str> {
        match self {
            Act::Revoke => Some(
                "Its environment is removed with its database and its objects, and this commit may not run until it is approved again.",
            ),
            Act::Reset => Some(
                "A fresh database and a fresh bucket take the place of the present ones; what was entered there is lost.",
            ),
            Act::Rebuild => Some(
                "The image is built again without cache, and a fresh database and bucket take the place of the present ones; what was entered there is lost.",
            ),
            Act::Remove => Some(
                "Its containers, its database and its objects are removed. It stays removed until somebody stages it again.",
            ),
            _ => None,
        }
    }

    pub(crate) fn command(self, project: ProjectName, sha: Sha) -> Command {
        match self {
            Act::Stage => Command::Stage { project, sha },
            Act::Approve => Command::Approve { project, sha },
            Act::Revoke => Command::Revoke { project, sha },
            Act::Extend => Command::Extend { project, sha, by: Duration::from_secs(3 * 86_400) },
            Act::Pin => Command::Pin { project, sha },
            Act::Unpin => Command::Unpin { project, sha },
            Act::Reset => Command::Reset { project, sha, baseline: None },
            Act::Rebuild => Command::Rebuild { project, sha },
            Act::Sleep => Command::Sleep { project, sha },
            Act::Wake => Command::Wake { project, sha },
            Act::Remove => Command::Remove { project, sha },
        }
    }
}

/// The act that stands on the row itself, with its label.
pub(crate) fn primary(commit: &CommitView) -> Option<(Act, &'static str)> {
    if commit.trust == Trust::Untrusted {
        return commit.approvable.then_some((Act::Approve, Act::Approve.label()));
    }
    match commit.state {
        State::Unstaged | State::Superseded | State::Removed => Some((Act::Stage, Act::Stage.label())),
        State::Expired => Some((Act::Stage, "Stage again")),
        State::Failed | State::Blocked => Some((Act::Stage, "Try again")),
        _ => None,
    }
}

/// Whether its page answers with the application, at once or after waking.
pub(crate) fn opens(state: State) -> bool {
    matches!(state, State::Ready | State::Dozing | State::Asleep | State::Waking)
}

/// The acts of the menu.
pub(crate) fn secondary(commit: &CommitView) -> Vec<Act> {
    let exists = !matches!(
        commit.state,
        State::Unstaged | State::Blocked | State::Superseded | State::Expired | State::Removing | State::Removed
    );
    let mut acts = Vec::new();
    if commit.trust == Trust::Untrusted {
        return acts;
    }
    match commit.state {
        State::Ready => acts.push(Act::Sleep),
        State::Dozing => acts.extend([Act::Wake, Act::Sleep]),
        State::Asleep => acts.push(Act::Wake),
        State::Removing => acts.push(Act::Stage),
        _ => {}
    }
    if exists {
        acts.extend([Act::Extend, if commit.pinned { Act::Unpin } else { Act::Pin }, Act::Reset, Act::Rebuild]);
    }
    if commit.trust == Trust::Approved {
        acts.push(Act::Revoke);
    }
    if exists {
        acts.push(Act::Remove);
    }
    acts
}
