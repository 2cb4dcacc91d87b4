//! What forges and people have said so far, in the oracle's own simple words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use planner::command::Command;
use planner::event::{Event, Head, RequestId};
use planner::identity::{EnvId, InstanceKey, ProjectName, Ref, Sha, Time, Trust};
use planner::policy::{Policy, StageMode};

/// An approval must be used within this time.
pub const APPROVAL: Duration = Duration::from_secs(7 * 86_400);

/// One ref as last listed.
#[derive(Debug, Clone, Default)]
pub struct RefSaid {
    /// Listed the last time.
    pub open: bool,
    /// From outside.
    pub foreign: bool,
    /// Its commits since it was opened, the newest last.
    pub list: Vec<Sha>,
    /// Nobody watches it: a person asked for it, and it was found then.
    pub requested: Option<Time>,
    /// It was asked for, and is not listed any more.
    pub lost: bool,
    /// Nothing of it was known to live when it was lost: it may be closed by now.
    pub idle: bool,
    /// What it had before it was found again while it was idle: forgotten, if it had closed.
    pub vague: BTreeSet<Sha>,
}

/// One commit's say.
#[derive(Debug, Clone, Default)]
pub struct CommitSaid {
    /// Approved when, until revoked.
    pub approved: Option<Time>,
    /// It was approved while it was foreign beyond doubt: no ref of the project's own had it.
    pub surely_approved: bool,
    /// A call for it was made at trust `approved` while the approval was fresh.
    pub approval_used: bool,
    /// Pinned.
    pub pinned: bool,
    /// Slept by a person, until visited.
    pub slept: bool,
    /// Somebody asked for it by name, and nobody removed it since.
    pub asked: bool,
    /// All refs that had it have closed since somebody asked: what had not been begun by then is forgotten.
    pub forgotten: bool,
    /// A person removed it, and nobody asked or pushed since.
    pub removed: bool,
    /// Pushed while the project stages by itself.
    pub automatic: bool,
    /// Extended by this much in all.
    pub extended: Duration,
}

/// Everything said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Refs of all projects.
    pub refs: BTreeMap<(ProjectName, Ref), RefSaid>,
    /// Commits that somebody spoke of.
    pub commits: BTreeMap<(ProjectName, Sha), CommitSaid>,
    /// Last visits that were delivered.
    pub visits: BTreeMap<EnvId, Time>,
    /// Visits delivered lately: a crash may lose those of the last minute.
    pub fresh: Vec<(EnvId, Time, Time)>,
    /// Requests that wait for their answer.
    pub pending: BTreeMap<RequestId, Command>,
    /// Projects whose forge has been listed since the store was new.
    pub seen: BTreeSet<ProjectName>,
    /// Refs whose list may be shorter than thought (a crash before it was stored).
    pub listed: BTreeSet<ProjectName>,
}

impl Said {
    /// Takes an event in. Commands count once they are answered.
    pub fn hear(&mut self, now: Time, event: &Event, policy: &Policy) {
        match event {
            Event::Refs { project, heads } => {
                let automatic = policy.projects.get(project).is_some_and(|one| one.stage == StageMode::Automatic);
                let later = !self.seen.insert(project.clone());
                self.listed.insert(project.clone());
                let mut left = BTreeSet::new();
                for ((owner, name), said) in &mut self.refs {
                    if owner == project && said.open && !heads.iter().any(|head| head.name == *name) {
                        if let Some(found) = said.requested {
                            // Listings that began before it was found do not know of it.
                            said.lost = now.since(found) >= Duration::from_secs(300);
                            continue;
                        }
                        said.open = false;
                        left.extend(said.list.iter().copied());
                        said.list = said.list.last().copied().into_iter().collect();
                        said.vague.clear();
                    }
                }
                for head in heads {
                    self.listed(project, head, automatic && later);
                }
                for sha in left {
                    if self.places(project, &sha).next().is_none() {
                        self.commits.entry((project.clone(), sha)).or_default().forgotten = true;
                    }
                }
            }
            Event::Found { project, head } if policy.projects.contains_key(project) => {
                let key = (project.clone(), head.name.clone());
                let watched = self.refs.get(&key).is_some_and(|said| said.open && said.requested.is_none());
                self.listed(project, head, false);
                if let Some(said) = self.refs.get_mut(&key).filter(|_| !watched) {
                    said.requested = Some(now);
                }
            }
            Event::Knock(env) => self.visit(env, now, now),
            Event::Visits(visits) => visits.iter().for_each(|(env, at)| self.visit(env, *at, now)),
            Event::Asked { request, command, .. } => {
                self.pending.insert(*request, command.clone());
            }
            _ => {}
        }
    }

    /// A ref points to this now.
    fn listed(&mut self, project: &ProjectName, head: &Head, automatic: bool) {
        let said = self.refs.entry((project.clone(), head.name.clone())).or_default();
        let reopened = !said.open;
        if said.idle {
            said.vague.extend(said.list.iter().copied());
        }
        said.vague.remove(&head.sha);
        (said.open, said.lost, said.idle, said.foreign) = (true, false, false, head.foreign);
        if reopened {
            said.requested = None;
        }
        if reopened || said.list.last() != Some(&head.sha) {
            let commit = self.commits.entry((project.clone(), head.sha)).or_default();
            commit.removed = false;
            commit.automatic |= automatic && !head.foreign && said.requested.is_none();
            said.list.retain(|sha| *sha != head.sha);
            said.list.push(head.sha);
        }
    }

    /// Only branches and tags that nobody watches have it, and they have moved on or are gone.
    pub fn is_left_behind(&self, project: &ProjectName, sha: &Sha) -> bool {
        let mut own = self.places(project, sha).filter(|(_, said, _)| !said.foreign).peekable();
        own.peek().is_some() && own.all(|(_, said, back)| said.requested.is_some() && (said.lost || back > 0))
    }

    fn visit(&mut self, env: &EnvId, at: Time, now: Time) {
        let last = self.visits.entry(env.clone()).or_default();
        *last = (*last).max(at.min(now));
        self.fresh.push((env.clone(), at, now));
        self.fresh.retain(|(_, _, told)| now.since(*told) < Duration::from_secs(300));
    }

    /// A request was answered; one that was granted holds.
    pub fn answered(&mut self, now: Time, request: RequestId, granted: bool, key: &InstanceKey) -> Option<Command> {
        let command = self.pending.remove(&request)?;
        if !granted {
            return Some(command);
        }
        let Some((project, sha)) = command.commit() else { return Some(command) };
        let commit = (project.clone(), *sha);
        let own = self.places(project, sha).any(|(_, said, _)| !said.foreign);
        let asks = matches!(
            command,
            Command::Approve { .. } | Command::Stage { .. } | Command::Reset { .. } | Command::Rebuild { .. }
        );
        let said = self.commits.entry(commit.clone()).or_default();
        said.forgotten &= !asks;
        match &command {
            Command::Approve { .. } => {
                said.approved = Some(now);
                said.surely_approved = !own;
                said.approval_used = false;
                said.asked = true;
            }
            Command::Revoke { .. } => {
                said.approved = None;
                said.surely_approved = false;
            }
            Command::Stage { .. } | Command::Reset { .. } | Command::Rebuild { .. } => said.asked = true,
            Command::Pin { .. } => said.pinned = true,
            Command::Unpin { .. } => said.pinned = false,
            Command::Extend { by, .. } => said.extended = said.extended.saturating_add(*by),
            Command::Remove { .. } => {
                said.asked = false;
                said.pinned = false;
                said.removed = true;
                said.automatic = false;
            }
            Command::Sleep { .. } => said.slept = true,
            Command::Wake { .. } | Command::Announce { .. } | Command::Gc { .. } => {}
            Command::Run { .. } | Command::Psql { .. } | Command::Dump { .. } => {}
            Command::SetSecret(_) | Command::RemoveSecret(_) | Command::Baseline { .. } | Command::Reload => {}
        }
        if said.asked {
            said.removed = false;
        }
        let visits = asks || matches!(command, Command::Wake { .. });
        if visits {
            said.slept = false;
            for trust in [Trust::Approved, Trust::Trusted] {
                self.visit(&key.env(&commit.0, &commit.1, trust), now, now);
            }
        }
        Some(command)
    }

    /// The open refs that a commit is in, with its distance from the head.
    pub fn places<'a>(
        &'a self,
        project: &'a ProjectName,
        sha: &'a Sha,
    ) -> impl Iterator<Item = (&'a Ref, &'a RefSaid, usize)> + 'a {
        self.refs.iter().filter(move |((owner, _), said)| owner == project && said.open).filter_map(
            move |((_, name), said)| {
                let back = said.list.iter().rev().position(|one| one == sha)?;
                Some((name, said, back))
            },
        )
    }

    /// As [`Said::places`], without those that may have closed or may have forgotten it.
    pub fn sure_places<'a>(
        &'a self,
        project: &'a ProjectName,
        sha: &'a Sha,
    ) -> impl Iterator<Item = (&'a Ref, &'a RefSaid, usize)> + 'a {
        self.places(project, sha).filter(move |(_, said, _)| !said.idle && !said.vague.contains(sha))
    }

    /// Whether the commit may run at this trust by what was said. `Trusted`: in the list of an open ref of the project's own.
    pub fn may_run(&self, project: &ProjectName, sha: &Sha, trust: Trust, policy: &Policy) -> bool {
        let Some(rules) = policy.projects.get(project) else { return false };
        match trust {
            Trust::Untrusted => false,
            Trust::Trusted => self.places(project, sha).any(|(_, said, _)| !said.foreign),
            Trust::Approved => {
                rules.forks
                    && self.commits.get(&(project.clone(), *sha)).is_some_and(|said| said.approved.is_some())
                    && self.places(project, sha).next().is_some()
            }
        }
    }

    /// Whether it may run at some trust, and somebody or its push asks for that.
    pub fn is_runnable(&self, project: &ProjectName, sha: &Sha, policy: &Policy) -> bool {
        let said = self.commits.get(&(project.clone(), *sha));
        let wanted = said.is_some_and(|said| (said.asked || said.automatic) && !said.removed);
        wanted && [Trust::Approved, Trust::Trusted].iter().any(|trust| self.may_run(project, sha, *trust, policy))
    }

    /// After a crash the last minute of visits may be lost.
    pub fn crash(&mut self) {
        self.pending.clear();
        self.fresh.clear();
    }
}
