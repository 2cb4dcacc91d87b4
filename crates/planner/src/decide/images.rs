//! Images that several environments may share: when each was wanted last, and for how long it is kept after that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Eyes;
use crate::facts::{Fact, Facts, ImageRow};
use crate::identity::{ProjectName, Time, Trust};
use crate::resource::{Backend, Kind, Owner, ResourceId};

/// How long the image of a ref's last head is kept once the ref has closed: what was merged may be wanted again.
const MERGED: Duration = Duration::from_secs(14 * 24 * 3600);

/// Of one project and trust, images kept that nobody wants any more: going back to one costs no build.
const LAST: usize = 3;

/// Writes down which shared images are wanted, and which no more.
pub(super) fn images(eyes: &Eyes<'_>) -> Vec<Fact> {
    let rows = &eyes.facts().images;
    let (wanted, merged) = (eyes.wanted_images(), eyes.merged_images());
    let seen = eyes.inventory.seen.keys().filter(|id| is_shared(id) && !wanted.contains(id));
    let mut facts = Vec::new();
    for id in wanted.iter().copied().chain(seen) {
        let kept = merged.get(id).copied().or(rows.get(id).and_then(|row| row.kept));
        let before = rows.get(id);
        let left = if wanted.contains(id) { None } else { Some(before.and_then(|row| row.left).unwrap_or(eyes.now())) };
        let row = ImageRow { id: id.clone(), left, kept };
        facts.extend((before != Some(&row)).then_some(Fact::Image(row)));
    }
    let gone = |id: &&ResourceId| !wanted.contains(id) && !eyes.inventory.seen.contains_key(id);
    let engine = eyes.inventory.known.contains(&Backend::Engine);
    facts.extend(rows.keys().filter(gone).filter(|_| engine).cloned().map(Fact::NoImage));
    facts
}

impl<'a> Eyes<'a> {
    fn wanted_images(&self) -> BTreeSet<&'a ResourceId> {
        let live = self.facts().envs.iter().filter(|(_, row)| row.is_live());
        let generations =
            live.flat_map(|(id, row)| row.serving().into_iter().chain(row.coming()).map(move |at| (id, at)));
        let drawn = generations.filter_map(|(id, at)| self.blueprints.get(id, at).ok());
        drawn.flat_map(|drawn| drawn.of(Kind::Image)).map(|part| &part.id).filter(|id| is_shared(id)).collect()
    }

    /// Images that the last heads of closed refs use still: for how long they are kept.
    fn merged_images(&self) -> BTreeMap<&'a ResourceId, Time> {
        let mut kept = BTreeMap::new();
        for of in self.facts().refs.values() {
            let (Some(closed), Some(head)) = (of.closed, of.head()) else { continue };
            let ids = self.facts().ids.get(&(of.project.clone(), head.sha)).map(|ids| ids.at(Trust::Trusted));
            let serving = ids.and_then(|id| Some((id, self.facts().envs.get(id)?.serving()?)));
            let Some(drawn) = serving.and_then(|(id, at)| self.blueprints.get(id, at).ok()) else { continue };
            for part in drawn.of(Kind::Image).filter(|part| is_shared(&part.id)) {
                let until = kept.entry(&part.id).or_insert(Time(0));
                *until = closed.after(MERGED).max(*until);
            }
        }
        kept
    }
}

/// Images that are kept though nobody wants them: the last few of each project and trust, and those of what was merged
/// lately. Of a project that was taken out of the configuration, as long as something of it lives.
#[must_use]
pub fn kept_images(facts: &Facts, now: Time) -> BTreeSet<&ResourceId> {
    let mut idle: BTreeMap<&Owner, Vec<(Time, &ImageRow)>> = BTreeMap::new();
    for row in facts.images.values() {
        let lives = |project: &ProjectName| {
            let live = || facts.envs.values().any(|row| row.of.project == *project && row.is_live());
            !facts.taken_out.contains(project) || live()
        };
        let known = matches!(&row.id.owner, Owner::Project(project, _) if lives(project));
        if let Some(left) = row.left.filter(|_| known) {
            idle.entry(&row.id.owner).or_default().push((left, row));
        }
    }
    let kept = idle.into_values().flat_map(|mut rows| {
        rows.sort_by_key(|(left, row)| (std::cmp::Reverse(*left), &row.id));
        let places = rows.into_iter().enumerate();
        places.filter(move |(place, (_, row))| *place < LAST || row.kept.is_some_and(|kept| now < kept))
    });
    kept.map(|(_, (_, row))| &row.id).collect()
}

fn is_shared(id: &ResourceId) -> bool {
    id.kind == Kind::Image && matches!(id.owner, Owner::Project(..))
}
