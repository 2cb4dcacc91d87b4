//! What a lost or restored store has left: an environment whose sha a project's own ref still points to is taken up
//! again. Foreign code and older commits are orphans until somebody asks for them or approves them again.

use super::{Draft, Eyes};
use crate::facts::{Asked, EnvRow, Fact};
use crate::identity::Trust;
use crate::spec::Origin;

/// Takes up what is there; `begin` then finds out which generation it is.
pub(super) fn adopt(eyes: &Eyes<'_>) -> Vec<Fact> {
    if !eyes.sees_all() {
        return Vec::new();
    }
    let mut draft = Draft::default();
    for commit in eyes.standing.commits() {
        let head =
            commit.open.iter().find(|(of, listed)| !of.foreign && of.head().is_some_and(|head| head.sha == listed.sha));
        let Some((_, head)) = head else { continue };
        let id = commit.ids.at(Trust::Trusted);
        let of = Origin { project: commit.project.clone(), sha: commit.sha, trust: Trust::Trusted };
        let row = eyes.standing.row(commit, Trust::Trusted);
        let unknown = row.is_none_or(|row| row.begun.is_none() && row.gone.is_none() && row.admitted.is_none());
        if unknown && eyes.highest_seen(id) > 0 && eyes.buildable(&of).is_ok() {
            let new = EnvRow::new(of);
            let row = draft.edit(id, row.unwrap_or(&new));
            let taken_up = Asked { sequence: head.sequence, at: eyes.now(), person: false };
            (row.asked, row.admitted) = (row.asked.or(Some(taken_up)), Some(eyes.now()));
        }
    }
    for (id, row) in eyes.facts().envs.iter().filter(|(_, row)| row.is_live()) {
        eyes.catch_up(id, row, &mut draft);
    }
    draft.facts(eyes)
}

impl Eyes<'_> {
    /// A store restored from a backup knows an older generation than there is.
    fn catch_up(&self, id: &crate::identity::EnvId, row: &EnvRow, draft: &mut Draft) {
        let Some(begun) = row.begun.as_ref().filter(|begun| begun.generation < self.highest_seen(id)) else { return };
        match self.found(id, row, begun.asked) {
            Some(begun) => draft.edit(id, row).begun = Some(begun),
            None => self.begin_again(id, row, draft.edit(id, row)),
        }
    }
}
