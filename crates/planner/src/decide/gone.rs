//! What goes, and why; what is held back; where a place passes on to.

use std::collections::BTreeSet;

use super::{Draft, Eyes};
use crate::facts::{EnvRow, Fact, Gone};
use crate::identity::{EnvId, Trust};
use crate::resource::Reason;
use crate::standing::DAY;

/// Judges every environment that lives or was sent away.
///
/// More than half of them, and more than three, gone in one pass for any reason but a person's look like a mistake of
/// ours or of a forge: they are held, and run on, until a person confirms or the reason is gone. The row makes it last,
/// since a pass later the count is another and the same removals would slip through.
pub(super) fn gone(eyes: &Eyes<'_>) -> Vec<Fact> {
    let rows = &eyes.facts().envs;
    let judged: Vec<(&EnvId, &EnvRow, Reason)> =
        rows.iter().filter_map(|(id, row)| Some((id, row, eyes.verdict(id, row)?))).collect();
    let counts = |row, reason| reason != Reason::TakenOut && is_guarded(row, reason);
    let guarded = judged.iter().filter(|(_, row, reason)| counts(row, *reason)).count();
    let live = rows.values().filter(|row| row.is_live()).count();
    let too_many = Eyes::is_too_many(guarded, live);
    let named: BTreeSet<&EnvId> = judged.iter().map(|(id, ..)| *id).collect();
    let mut draft = Draft::default();
    let mut leaving = Vec::new();
    for (id, row, reason) in &judged {
        // A project that was taken out by mistake costs nothing, however little it has.
        let taken_out = *reason == Reason::TakenOut;
        let held = row.held.is_some_and(|held| held != Reason::TakenOut);
        if is_guarded(row, *reason) && (held || too_many || taken_out) && !row.let_go {
            let kept = draft.edit(id, row);
            if row.coming().is_some() && eyes.has_vanished(id, row) {
                // What is held goes on: without its data it would neither come up nor fail.
                eyes.begin_again(id, row, kept);
            }
            kept.held = Some(*reason);
        } else if *reason == Reason::Vanished {
            eyes.begin_again(id, row, draft.edit(id, row));
        } else {
            go(eyes, draft.edit(id, row), *reason);
            leaving.push((*id, *row));
        }
    }
    for (id, row) in rows {
        // Data that nobody could look for has not come back.
        let unseen = row.held == Some(Reason::Vanished) && !eyes.has_data(id, row);
        let stays = !named.contains(id) && !unseen;
        if stays && (row.held.is_some() || row.let_go) {
            let back = row.held == Some(Reason::TakenOut);
            let row = draft.edit(id, row);
            (row.held, row.let_go) = (None, false);
            row.extended = row.extended.max(back.then(|| eyes.now().after(DAY)));
        }
        if stays && row.admitted.is_some() && !row.is_live() && !eyes.wanted.contains(id) {
            draft.edit(id, row).admitted = None;
            leaving.push((id, row));
        }
    }
    for (id, row) in leaving {
        if row.admitted.is_some() {
            eyes.pass_on(id, row, &mut draft);
        }
    }
    draft.facts(eyes)
}

/// Reasons that an outage of a forge, a wrong clock or a wrong PostgreSQL could bring about for many at once. Data of a
/// generation that only comes up is nobody's loss; held back, the generation could neither go on nor begin again.
fn is_guarded(row: &EnvRow, reason: Reason) -> bool {
    match reason {
        Reason::Closed | Reason::Expired | Reason::TakenOut => true,
        Reason::Vanished => row.coming().is_none(),
        _ => false,
    }
}

pub(super) fn go(eyes: &Eyes<'_>, row: &mut EnvRow, reason: Reason) {
    let sequence = row.sent.map_or(eyes.facts().last_sequence(), |sent| sent.sequence);
    let generation = row.begun.as_ref().map_or(0, |begun| begun.generation);
    let generation = generation.max(row.gone.map_or(0, |gone| gone.generation));
    row.gone = Some(Gone { reason, sequence, generation, at: eyes.now() });
    // Gone for a higher trust's sake it may come back by itself; else somebody has to ask again.
    let outranked = reason == Reason::Trust && row.of.trust == Trust::Approved;
    row.asked = row.asked.filter(|asked| outranked || asked.sequence > sequence);
    (row.ready, row.held, row.again, row.sent, row.admitted) = (None, None, None, None, None);
    (row.visited, row.stored, row.slept, row.extended) = (None, None, None, None);
    (row.pinned, row.let_go) = (false, false);
}

impl<'a> Eyes<'a> {
    /// Why this environment goes, or why its next generation begins; none if it stays as it is.
    fn verdict(&self, id: &EnvId, row: &EnvRow) -> Option<Reason> {
        if let Some(sent) = row.sent {
            return Some(sent.reason);
        }
        if !row.is_live() {
            return None;
        }
        if self.is_revoked(row) {
            return Some(Reason::Revoked);
        }
        if self.facts().taken_out.contains(&row.of.project) {
            return Some(Reason::TakenOut);
        }
        let commit = self.commit_of(&row.of)?;
        if commit.open.is_empty() {
            return Some(Reason::Closed);
        }
        let trust = self.standing.trust(commit);
        if row.of.trust != trust {
            // A higher trust takes over from what serves once it serves itself; a fall closes at once.
            let serves = row.serving().is_some();
            let rises = serves && trust == Trust::Trusted && self.standing.holds(commit, row.of.trust);
            let served = self.standing.row(commit, trust).is_some_and(|row| row.serving().is_some());
            if !rises || served {
                return Some(Reason::Trust);
            }
        }
        // A project that has just come back has lost nothing: its environments get another day.
        let back = row.held == Some(Reason::TakenOut);
        if !back && row.expires(&self.policy().lifetime).is_some_and(|expires| expires <= self.now()) {
            return Some(Reason::Expired);
        }
        if !self.wanted.contains(id) {
            return Some(Reason::Superseded);
        }
        // What its branch or tag has left behind does not begin again.
        self.has_vanished(id, row).then_some(if self.is_left(row) { Reason::Closed } else { Reason::Vanished })
    }

    /// The branch or tag that a person asked for has left it behind: nothing of it begins any more.
    pub(super) fn is_left(&self, row: &EnvRow) -> bool {
        let left = self.commit_of(&row.of).is_some_and(|commit| commit.left_by().is_some());
        left && row.of.trust == Trust::Trusted
    }

    fn is_revoked(&self, row: &EnvRow) -> bool {
        let approval = self.facts().approvals.get(&(row.of.project.clone(), row.of.sha));
        row.of.trust == Trust::Approved && approval.is_none_or(|approval| approval.revoked.is_some())
    }

    /// Data that was complete once is missing, and every backend that could say so has said so.
    fn has_vanished(&self, id: &EnvId, row: &EnvRow) -> bool {
        let Some(begun) = row.begun.as_ref().filter(|begun| begun.filled) else { return false };
        let Ok(blueprint) = self.blueprints.get(id, begun.generation) else { return false };
        blueprint.data().any(|part| {
            let missing = !self.inventory.seen.contains_key(&part.id);
            missing && self.inventory.known.contains(&part.id.backend) && !self.ledger.is_busy(&part.id)
        })
    }

    /// All its data is there.
    fn has_data(&self, id: &EnvId, row: &EnvRow) -> bool {
        let generation = row.begun.as_ref().map_or(0, |begun| begun.generation);
        let blueprint = self.blueprints.get(id, generation);
        blueprint.is_ok_and(|blueprint| blueprint.data().all(|part| self.is_whole(&part.id)))
    }

    /// A place passes to the newest wanted commit of a ref of the one that leaves.
    fn pass_on(&self, id: &EnvId, row: &EnvRow, draft: &mut Draft) {
        let Some(commit) = self.commit_of(&row.of) else { return };
        let refs = commit.open.iter().map(|(of, _)| *of);
        let siblings = refs.flat_map(|of| of.commits.iter().map(move |listed| (listed.sequence, &of.project, listed)));
        let mut siblings: Vec<_> = siblings.collect();
        siblings.sort_by_key(|(sequence, ..)| std::cmp::Reverse(*sequence));
        for (_, project, listed) in siblings {
            let Some(sibling) = self.standing.commit(project, &listed.sha) else { continue };
            let trust = self.standing.trust(sibling);
            let heir = sibling.ids.at(trust);
            let current = draft.0.get(heir).or_else(|| self.facts().envs.get(heir));
            if heir == id || !self.wanted.contains(heir) {
                continue;
            }
            let new = EnvRow::new(crate::spec::Origin { project: project.clone(), sha: listed.sha, trust });
            let current = current.cloned().unwrap_or(new);
            if current.admitted.is_none() {
                draft.edit(heir, &current).admitted = Some(self.now());
                return;
            }
        }
    }
}
