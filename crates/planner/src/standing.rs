//! What holds for each commit now: who points to it, how far it is trusted, whether anybody wants it to run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::blueprint::{Address, address};
use crate::facts::{EnvRow, Facts, Ids, Listed, RefRow};
use crate::hosts;
use crate::identity::{EnvId, ProjectName, Ref, Sha, Time, Trust};
use crate::policy::{Policy, StageMode};
use crate::resource::Reason;
use crate::spec::Origin;

/// What was visited within this time is kept whatever was pushed since.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A commit or pull request that says so does not stage itself.
pub const SKIP: &str = "[skip staging]";

/// A commit that some ref points to or pointed to, or that has an environment.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The project.
    pub project: &'a ProjectName,
    /// The commit.
    pub sha: Sha,
    /// Its environments by trust.
    pub ids: &'a Ids,
    /// The open refs that have it in their list.
    pub open: Vec<(&'a RefRow, &'a Listed)>,
    /// The closed ones.
    pub closed: Vec<(&'a RefRow, &'a Listed)>,
}

impl Commit<'_> {
    /// Whether it is the project's own as far as its refs tell: an older commit of such a ref runs once a person asks.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.open.iter().any(|(of, _)| !of.foreign)
    }

    /// Whether an open ref of the project's own points to it.
    fn is_own_head(&self) -> bool {
        let points = |of: &RefRow| of.head().is_some_and(|head| head.sha == self.sha) && !of.vanished;
        self.open.iter().any(|(of, _)| !of.foreign && points(of))
    }

    /// The branch or tag that a person asked for, and that has left this commit behind: it lives on by its own lifetime,
    /// and nothing of it begins any more.
    #[must_use]
    pub fn left_by(&self) -> Option<&'_ RefRow> {
        let watched = self.open.iter().any(|(of, _)| !of.foreign && of.requested.is_none());
        let asked = self.open.iter().map(|(of, _)| *of).find(|of| !of.foreign && of.requested.is_some());
        asked.filter(|_| !watched && !self.is_own_head())
    }
}

/// Everything that holds, as of one moment.
#[derive(Debug)]
pub struct Standing<'a> {
    /// The facts that it follows from.
    pub facts: &'a Facts,
    /// The operator's decisions.
    pub policy: &'a Policy,
    /// The moment.
    pub now: Time,
    by_project: BTreeMap<&'a ProjectName, BTreeMap<Sha, Commit<'a>>>,
}

/// Whether anything is remembered of an environment of the commit.
fn has_env(facts: &Facts, ids: &Ids) -> bool {
    [Trust::Trusted, Trust::Approved, Trust::Untrusted].iter().any(|trust| facts.envs.contains_key(ids.at(*trust)))
}

impl<'a> Standing<'a> {
    /// Looks at all facts once.
    #[must_use]
    pub fn new(facts: &'a Facts, policy: &'a Policy, now: Time) -> Standing<'a> {
        let mut by_project: BTreeMap<&'a ProjectName, BTreeMap<Sha, Commit<'a>>> = BTreeMap::new();
        for ((project, sha), ids) in &facts.ids {
            let commit = Commit { project, sha: *sha, ids, open: Vec::new(), closed: Vec::new() };
            by_project.entry(project).or_default().insert(*sha, commit);
        }
        for row in facts.refs.values() {
            // A project that is not in the configuration any more has no open refs.
            let open = row.is_open() && policy.projects.contains_key(&row.project);
            for listed in &row.commits {
                let commit = by_project.get_mut(&row.project).and_then(|commits| commits.get_mut(&listed.sha));
                let Some(commit) = commit else { continue };
                if open { commit.open.push((row, listed)) } else { commit.closed.push((row, listed)) }
            }
        }
        // Names outlast what they name.
        for commits in by_project.values_mut() {
            commits
                .retain(|_, commit| !commit.open.is_empty() || !commit.closed.is_empty() || has_env(facts, commit.ids));
        }
        Standing { facts, policy, now, by_project }
    }

    /// The commit of that sha, if it is known.
    #[must_use]
    pub fn commit(&self, project: &ProjectName, sha: &Sha) -> Option<&Commit<'a>> {
        self.by_project.get(project)?.get(sha)
    }

    /// All commits.
    pub fn commits(&self) -> impl Iterator<Item = &Commit<'a>> {
        self.by_project.values().flat_map(BTreeMap::values)
    }

    /// What is remembered of the commit's environment at this trust.
    #[must_use]
    pub fn row(&self, commit: &Commit<'a>, trust: Trust) -> Option<&'a EnvRow> {
        self.facts.envs.get(commit.ids.at(trust))
    }

    fn is_live(&self, commit: &Commit<'a>, trust: Trust) -> bool {
        self.row(commit, trust).is_some_and(EnvRow::is_live)
    }

    /// Whether this trust holds for the commit, whatever higher one does too.
    #[must_use]
    pub fn holds(&self, commit: &Commit<'a>, trust: Trust) -> bool {
        match trust {
            Trust::Untrusted => true,
            Trust::Approved => self.is_approved(commit),
            Trust::Trusted => {
                let listed = commit.open.iter().any(|(of, _)| !of.foreign);
                let row = self.row(commit, Trust::Trusted);
                let asked = row.is_some_and(|row| row.asked.is_some_and(|asked| asked.person));
                let kept = row.is_some_and(EnvRow::is_live) || asked && commit.left_by().is_none();
                commit.is_own_head() || (listed && kept)
            }
        }
    }

    /// An approval of this sha stands: it was used in time, or can still be.
    fn is_approved(&self, commit: &Commit<'a>) -> bool {
        let allowed = self.policy.projects.get(commit.project).is_some_and(|project| project.forks);
        let approval = self.facts.approvals.get(&(commit.project.clone(), commit.sha));
        let stands = approval.is_some_and(|approval| {
            approval.revoked.is_none() && (self.now < approval.until || self.is_live(commit, Trust::Approved))
        });
        allowed && stands && !commit.open.is_empty()
    }

    /// The trust at which the commit is or would be staged: the highest that holds. One whose environment nobody wants
    /// does not outrank one that lives.
    #[must_use]
    pub fn trust(&self, commit: &Commit<'a>) -> Trust {
        let approved = self.holds(commit, Trust::Approved);
        if self.holds(commit, Trust::Trusted) {
            let lives_on = approved && self.is_live(commit, Trust::Approved);
            let outranked = lives_on && self.claim(commit, Trust::Trusted).is_none();
            return if outranked { Trust::Approved } else { Trust::Trusted };
        }
        if approved { Trust::Approved } else { Trust::Untrusted }
    }

    /// Who asked last for the commit at this trust, as a place in the order of events: a person, or a push that stages
    /// by itself. What came before it went counts no more, except when it went only for another trust's sake.
    #[must_use]
    pub fn claim(&self, commit: &Commit<'a>, trust: Trust) -> Option<u64> {
        let row = self.row(commit, trust);
        let mode = self.policy.projects.get(commit.project).map_or(StageMode::Off, |project| project.stage);
        let source = self.facts.sources.get(&(commit.project.clone(), commit.sha));
        let marked = source.is_some_and(|source| source.subject.contains(SKIP));
        let pushed = commit.open.iter().filter(|(of, listed)| {
            mode != StageMode::Off && trust == Trust::Trusted && !of.foreign && listed.automatic && !marked
        });
        // A wish is about the commit: one that has not been fulfilled yet outlasts a rise in trust.
        let waiting = self.row(commit, Trust::Approved).filter(|row| trust == Trust::Trusted && !row.is_live());
        let asked = row.into_iter().chain(waiting).filter_map(|row| row.asked).map(|asked| asked.sequence);
        let approval = self.facts.approvals.get(&(commit.project.clone(), commit.sha));
        let approved = approval.filter(|_| trust == Trust::Approved).map(|approval| approval.sequence);
        let last = pushed.map(|(_, listed)| listed.sequence).chain(asked).chain(approved).max()?;
        let after = row.and_then(|row| row.gone).filter(|gone| gone.reason != Reason::Trust);
        after.is_none_or(|gone| last > gone.sequence).then_some(last)
    }

    /// The labels of a project's refs, in the order of first sight.
    #[must_use]
    pub fn labels(&self, project: &ProjectName) -> BTreeMap<Ref, String> {
        let mut refs: Vec<&RefRow> = self.facts.refs.values().filter(|row| row.project == *project).collect();
        refs.sort_by_key(|row| row.first);
        hosts::labels(refs.into_iter().map(|row| &row.name))
    }

    /// The address of a commit; its alias is that of the ref first seen.
    #[must_use]
    pub fn address(&self, of: &Origin) -> Address {
        let commit = self.commit(&of.project, &of.sha);
        let refs = commit.map(|commit| commit.open.iter().chain(&commit.closed));
        let first = refs.and_then(|refs| refs.min_by_key(|(row, _)| (!row.is_open(), row.first)));
        let labels = self.labels(&of.project);
        let first = first.and_then(|(row, _)| Some((&row.name, labels.get(&row.name)?.as_str())));
        address(self.policy, of, first)
    }

    /// Environments that their refs want, with `keep` ready ones each, or what the project says if none is given.
    #[must_use]
    pub fn wanted(&self, keep: Option<usize>) -> BTreeSet<&'a EnvId> {
        let mut wanted = BTreeSet::new();
        let open = self.facts.refs.values().filter(|row| row.is_open());
        for row in open {
            let Some(project) = self.policy.projects.get(&row.project) else { continue };
            self.wanted_by(row, keep.unwrap_or(project.keep).max(1), &mut wanted);
        }
        wanted
    }

    /// Of one ref: the newest runnable commit, the newest that have been ready, what a person asked for until it has been
    /// ready, what was visited in the last day, what is pinned. Five broken pushes never cost the one that works.
    fn wanted_by(&self, of: &'a RefRow, keep: usize, wanted: &mut BTreeSet<&'a EnvId>) {
        let (mut newest, mut ready) = (true, 0);
        for listed in of.commits.iter().rev() {
            let Some(commit) = self.commit(&of.project, &listed.sha) else { continue };
            let trust = self.trust(commit);
            if trust == Trust::Untrusted {
                continue;
            }
            let row = self.row(commit, trust);
            let claimed = self.claim(commit, trust).is_some() && self.ci(commit).is_none();
            let runnable = claimed || row.is_some_and(EnvRow::is_live);
            let serves = row.is_some_and(|row| row.serving().is_some());
            let asked = row.is_some_and(|row| row.asked.is_some_and(|asked| asked.person) && runnable && !serves);
            let dear =
                row.is_some_and(|row| row.pinned && row.is_live() || serves && row.visited_within(DAY, self.now));
            let wants = (runnable && newest) || (serves && ready < keep) || asked || dear;
            wanted.extend(Some(commit.ids.at(trust)).filter(|_| wants));
            // A rise in trust is another environment; the old one serves until the new one is ready, and counts as ready
            // itself: a push that overtakes the new one does not cost the old one.
            let rises = trust == Trust::Trusted && !serves && self.holds(commit, Trust::Approved);
            let before = self.row(commit, Trust::Approved).filter(|row| rises && row.serving().is_some());
            let stays =
                before.is_some_and(|row| wants || ready < keep || row.pinned || row.visited_within(DAY, self.now));
            wanted.extend(Some(commit.ids.at(Trust::Approved)).filter(|_| stays));
            newest &= !runnable;
            ready += usize::from(serves || before.is_some());
        }
    }
}
