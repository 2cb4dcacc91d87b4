//! When a generation begins, and which one.

use super::admit::{Candidate, Place};
use super::{Draft, Eyes};
use crate::blueprint::{Blueprint, blueprint};
use crate::facts::{Begun, EMPTY, EnvRow, Fact};
use crate::identity::{EnvId, Time, Trust};
use crate::resource::{Kind, Phase, Reason, ResourceId};
use crate::spec::Origin;

/// Begins what is wanted and has a place, or needs none yet, and the next generations that people asked for. Only with
/// every backend known: what a lost store left must be seen first.
pub(super) fn begin(eyes: &Eyes<'_>) -> Vec<Fact> {
    if !eyes.sees_all() {
        return Vec::new();
    }
    let mut draft = Draft::default();
    let mut used = Vec::new();
    for (candidate, place) in eyes.places() {
        if place != Place::Waits {
            used.extend(eyes.begin_first(&candidate, place, &mut draft));
        }
    }
    for (id, row) in &eyes.facts().envs {
        let may = row.is_live() && row.held.is_none() && !eyes.is_left(row);
        let asked = row.again.is_some() && eyes.startable(&row.of, row.chosen()).is_ok();
        let lost = eyes.has_lost_source(row) && eyes.startable(&row.of, None).is_ok();
        if may && (asked || lost) {
            eyes.begin_again(id, row, draft.edit(id, row));
        }
    }
    let mut facts = draft.facts(eyes);
    facts.extend(used);
    facts
}

impl Eyes<'_> {
    fn begin_first(&self, candidate: &Candidate<'_, '_>, place: Place, draft: &mut Draft) -> Option<Fact> {
        let of =
            Origin { project: candidate.commit.project.clone(), sha: candidate.commit.sha, trust: candidate.trust };
        let new = EnvRow::new(of);
        let before = candidate.row.unwrap_or(&new);
        let asked = before.asked.map(|asked| asked.at).or_else(|| {
            let listed = candidate.commit.open.iter().map(|(_, listed)| listed);
            listed.max_by_key(|listed| listed.sequence).map(|listed| listed.at)
        });
        let asked = asked.unwrap_or(self.now());
        let begun = self.first_generation(candidate.id, before, asked);
        let approved = candidate.trust == Trust::Approved;
        let approval = self.facts().approvals.get(&(before.of.project.clone(), before.of.sha)).filter(|_| approved);
        let used = approval.map(|approval| {
            let mut approval = approval.clone();
            approval.used = Some(begun.generation);
            Fact::Approval(Box::new(approval))
        });
        let row = draft.edit(candidate.id, before);
        (row.begun, row.ready, row.past, row.gone, row.again) = (Some(begun), None, row.gone, None, None);
        // A pin is about the commit: it outlasts a rise in trust.
        let rises = candidate.trust == Trust::Trusted;
        let served = self.standing.row(candidate.commit, Trust::Approved).filter(|row| rises && row.is_live());
        if let Some(served) = served {
            row.pinned |= served.pinned;
            row.extended = row.extended.max(served.extended);
        }
        if place == Place::Own {
            row.admitted = row.admitted.or(Some(self.now()));
        }
        used
    }

    /// The next generation beside the one there is; its data is made anew.
    pub(super) fn begin_again(&self, id: &EnvId, before: &EnvRow, row: &mut EnvRow) {
        let generation = self.next_generation(id, before);
        let again = before.again.as_ref();
        let same = before.begun.as_ref().map_or(0, |begun| begun.rebuilt);
        let rebuilt = if again.is_some_and(|again| again.rebuild) { generation } else { same };
        let asked = again.map_or(self.now(), |again| again.at);
        let cause = if again.is_some() {
            Reason::Person
        } else if self.has_lost_source(before) {
            Reason::Replaced
        } else {
            Reason::Vanished
        };
        let mut begun = self.anew(before, generation, asked, rebuilt);
        begun.cause = Some(cause);
        row.begun = Some(begun);
        (row.again, row.held, row.let_go) = (None, None, false);
    }

    fn next_generation(&self, id: &EnvId, row: &EnvRow) -> u32 {
        let begun = row.begun.as_ref().map_or(0, |begun| begun.generation);
        let gone = row.gone.map_or(0, |gone| gone.generation);
        self.highest_seen(id).max(begun).max(gone) + 1
    }

    pub(super) fn highest_seen(&self, id: &EnvId) -> u32 {
        self.seen_of(id).map(|(id, _)| id.generation).max().unwrap_or(0)
    }

    /// The first generation since it was unwanted or unknown: the next one, or one that a lost store left whole.
    fn first_generation(&self, id: &EnvId, row: &EnvRow, asked: Time) -> Begun {
        let never = row.gone.is_none() && row.begun.is_none();
        if let Some(found) = self.found(id, row, asked).filter(|_| never) {
            return found;
        }
        let generation = self.next_generation(id, row);
        // `rebuild` of what is not there begins with a new image too.
        let rebuilt = if row.again.as_ref().is_some_and(|again| again.rebuild) { generation } else { 0 };
        let begun = self.anew(row, generation, asked, rebuilt);
        if never { self.carried(&row.of, begun) } else { begun }
    }

    /// A generation that starts from what a person has chosen, else from what its manifest names. Where that is not there
    /// it waits for the version that it had.
    fn anew(&self, row: &EnvRow, generation: u32, asked: Time, rebuilt: u32) -> Begun {
        let source = self.buildable(&row.of).ok();
        let versions = source.and_then(|source| self.versions(&row.of, source, row.chosen()).ok());
        let (baseline, objects) = versions.unwrap_or_else(|| match &row.begun {
            Some(begun) => (begun.baseline.clone(), begun.objects().to_owned()),
            None => (EMPTY.to_owned(), EMPTY.to_owned()),
        });
        let objects = Some(objects).filter(|objects| *objects != baseline);
        let (filled, released) = (false, false);
        let at = self.now();
        Begun { generation, at, asked, baseline, objects, carried: None, rebuilt, filled, released, cause: None }
    }

    /// The highest generation that exists, if it is whole: all its data there, nothing of it on its way out. Whether it
    /// ever served nobody knows, so it is ready once its containers have answered; they start side by side, and visitors wait.
    pub(super) fn found(&self, id: &EnvId, row: &EnvRow, asked: Time) -> Option<Begun> {
        let generation = self.highest_seen(id);
        let source = self.buildable(&row.of).ok().filter(|_| generation > 0)?;
        let address = self.standing.address(&row.of);
        let version = |kind: Kind| {
            let mut seen = self.seen_of(id).filter(|(id, _)| id.generation == generation && id.kind == kind);
            seen.find_map(|(_, observed)| observed.outputs.baseline.clone())
        };
        let (database, objects) = (version(Kind::Database), version(Kind::Bucket));
        let baseline = database.or_else(|| objects.clone()).unwrap_or_else(|| EMPTY.to_owned());
        let mut begun = Begun {
            generation,
            at: self.now(),
            asked,
            objects: objects.filter(|objects| *objects != baseline),
            baseline,
            carried: None,
            rebuilt: 0,
            filled: true,
            released: false,
            cause: None,
        };
        let draw = |begun: &Begun| blueprint(self.facts(), self.policy(), &row.of, begun, source, &address).ok();
        // Which image it was begun with is not written anywhere; the fingerprints of its containers tell.
        let fits = |rebuilt: &u32| {
            let drawn = draw(&Begun { rebuilt: *rebuilt, ..begun.clone() });
            drawn.is_some_and(|drawn| drawn.web().is_some_and(|web| self.has_same(web)))
        };
        begun.rebuilt = (0..=generation).find(fits).unwrap_or(0);
        let drawn = draw(&begun)?;
        let of_it = |seen: &ResourceId| seen.generation == generation;
        let leaving = self.seen_of(id).any(|(id, observed)| of_it(id) && observed.phase == Phase::Removing);
        if leaving || !drawn.data().all(|part| self.is_whole(&part.id)) {
            return None;
        }
        // A release that is still there was not over when the store was lost.
        let job = drawn.of(Kind::Job).any(|part| self.inventory.seen.contains_key(&part.id));
        begun.released = !job && self.has_all_containers(&drawn);
        Some(begun)
    }

    fn has_same(&self, part: &crate::resource::Resource) -> bool {
        self.inventory.seen.get(&part.id).is_some_and(|observed| observed.fingerprint == part.fingerprint)
    }

    fn has_all_containers(&self, drawn: &Blueprint) -> bool {
        drawn.web().is_some() && drawn.of(Kind::Container).all(|part| self.has_same(part))
    }
}
