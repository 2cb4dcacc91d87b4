//! Places of the quota: who gets one, who builds without, who waits, who makes room.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::gone::go;
use super::{Draft, Eyes};
use crate::facts::{EnvRow, Fact, RefRow};
use crate::identity::{EnvId, ProjectName, Ref, Trust};
use crate::resource::Reason;
use crate::standing::Commit;

/// A wanted commit that has not been begun and could be.
#[derive(Debug)]
pub(super) struct Candidate<'e, 'a> {
    pub(super) id: &'a EnvId,
    pub(super) commit: &'e Commit<'a>,
    pub(super) trust: Trust,
    pub(super) row: Option<&'a EnvRow>,
    /// Its place in the order of events.
    pub(super) claim: u64,
}

/// What a candidate gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A place of its own.
    Own,
    /// It replaces a commit of the same ref, and needs none until it is ready.
    Guest,
    /// None yet.
    Waits,
}

impl<'a> Eyes<'a> {
    /// Places taken.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<&'a EnvId> {
        let rows = self.facts().envs.iter();
        let holds = rows.filter(|(id, row)| row.admitted.is_some() && (row.is_live() || self.wanted.contains(id)));
        holds.map(|(id, _)| id).collect()
    }

    /// Who waits for being begun, the longest waiting first, and what each gets.
    pub(super) fn places(&self) -> Vec<(Candidate<'_, 'a>, Place)> {
        let mut candidates: Vec<Candidate<'_, 'a>> =
            self.standing.commits().filter_map(|commit| self.candidate(commit)).collect();
        candidates.sort_by_key(|candidate| (candidate.claim, candidate.id));
        if candidates.is_empty() {
            return Vec::new();
        }
        let mut free = self.policy().limits.environments.saturating_sub(self.holders().len());
        let mut hosting: BTreeSet<(&ProjectName, &Ref)> = BTreeSet::new();
        let mut places = Vec::new();
        for candidate in candidates {
            let place = if candidate.row.is_some_and(|row| row.admitted.is_some()) {
                Place::Own
            } else if free > 0 {
                free -= 1;
                Place::Own
            } else if let Some(host) = self.host(candidate.commit, candidate.id, &hosting) {
                hosting.insert(host);
                Place::Guest
            } else {
                Place::Waits
            };
            places.push((candidate, place));
        }
        places
    }

    fn candidate<'e>(&'e self, commit: &'e Commit<'a>) -> Option<Candidate<'e, 'a>> {
        let trust = self.standing.trust(commit);
        let id = commit.ids.at(trust);
        let row = self.standing.row(commit, trust);
        if !self.wanted.contains(id) || row.is_some_and(EnvRow::is_live) {
            return None;
        }
        let claim = self.standing.claim(commit, trust)?;
        let of = crate::spec::Origin { project: commit.project.clone(), sha: commit.sha, trust };
        self.startable(&of, row.and_then(EnvRow::chosen)).ok()?;
        Some(Candidate { id, commit, trust, row, claim })
    }

    /// A ref in which it may build without a place: one that holds one, and where nobody else builds so.
    fn host(
        &self,
        commit: &Commit<'a>,
        id: &EnvId,
        hosting: &BTreeSet<(&ProjectName, &Ref)>,
    ) -> Option<(&'a ProjectName, &'a Ref)> {
        let hosts = commit.open.iter().map(|(of, _)| *of).filter(|of| {
            let lives: Vec<_> = self.lives_of(of).into_iter().filter(|(other, _)| *other != id).collect();
            let held = lives.iter().any(|(_, row)| row.admitted.is_some());
            let guests = lives.iter().any(|(_, row)| row.admitted.is_none());
            held && !guests && !hosting.contains(&(&of.project, &of.name))
        });
        hosts.map(|of| (&of.project, &of.name)).next()
    }

    /// Live environments of a ref's commits, in the order of pushes.
    fn lives_of(&self, of: &'a RefRow) -> Vec<(&'a EnvId, &'a EnvRow)> {
        let commits = of.commits.iter().filter_map(|listed| self.standing.commit(&of.project, &listed.sha));
        let lives = commits.flat_map(|commit| {
            [Trust::Trusted, Trust::Approved]
                .map(|trust| Some((commit.ids.at(trust), self.standing.row(commit, trust)?)))
        });
        lives.flatten().filter(|(_, row)| row.is_live()).collect()
    }

    pub(super) fn waiting_for_a_place(&self) -> BTreeSet<&'a EnvId> {
        let places = self.places();
        places.iter().filter(|(_, place)| *place == Place::Waits).map(|(candidate, _)| candidate.id).collect()
    }

    /// Whether a newer commit that is ready stands before it in every open ref that has it.
    fn is_outdated(&self, id: &EnvId, commit: &Commit<'a>) -> bool {
        commit.open.iter().all(|(of, listed)| {
            let newer = of.commits.iter().filter(|other| other.sequence > listed.sequence);
            let newer = newer.filter_map(|other| self.standing.commit(&of.project, &other.sha));
            let mut rows = newer.flat_map(|commit| {
                [Trust::Trusted, Trust::Approved].map(|trust| (commit.ids.at(trust), self.standing.row(commit, trust)))
            });
            rows.any(|(other, row)| other != id && row.is_some_and(|row| row.serving().is_some()))
        })
    }
}

/// What is ready without a place takes that of the oldest of its refs that can be spared. Is there none, it stays as it
/// is, and shown; with a free place it takes that.
pub(super) fn displace(eyes: &Eyes<'_>) -> Vec<Fact> {
    let rows = eyes.facts().envs.iter();
    let guests = rows.filter(|(_, row)| row.is_live() && row.admitted.is_none());
    let mut guests: Vec<(&EnvId, &EnvRow)> = guests.collect();
    guests.sort_by_key(|(id, row)| (row.begun.as_ref().map(|begun| begun.asked), *id));
    let mut draft = Draft::default();
    let mut free = eyes.policy().limits.environments.saturating_sub(eyes.holders().len());
    for (id, row) in guests {
        if free > 0 {
            free -= 1;
            draft.edit(id, row).admitted = Some(eyes.now());
        } else if row.serving().is_some()
            && let Some((oldest, spared)) =
                eyes.spared_for(id, row).filter(|(oldest, _)| !draft.0.contains_key(*oldest))
        {
            go(eyes, draft.edit(oldest, spared), Reason::Superseded);
            draft.edit(id, row).admitted = Some(eyes.now());
        }
    }
    draft.facts(eyes)
}

impl<'a> Eyes<'a> {
    /// The oldest holder of a place, in the refs of a guest, that can be spared.
    fn spared_for(&self, guest: &EnvId, row: &EnvRow) -> Option<(&'a EnvId, &'a EnvRow)> {
        let commit = self.commit_of(&row.of)?;
        let siblings = commit.open.iter().flat_map(|(of, _)| self.lives_of(of));
        let spared = siblings.filter(|(id, row)| {
            let kept = *id == guest || row.admitted.is_none() || row.pinned || row.held.is_some();
            !kept && self.commit_of(&row.of).is_some_and(|commit| self.is_outdated(id, commit))
        });
        let last_push = |row: &EnvRow| {
            let commit = self.commit_of(&row.of);
            commit.and_then(|commit| commit.open.iter().map(|(_, listed)| listed.sequence).max())
        };
        spared.min_by_key(|(id, row)| (last_push(row), Reverse(row.of.trust), *id))
    }
}
