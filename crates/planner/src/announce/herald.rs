//! Who tells forges: what differs from what they show, each place once at a time, and again after a while if that failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ToldRow, Wanted, wanted};
use crate::facts::Facts;
use crate::fingerprint::digest;
use crate::forge::{Content, Place, Report};
use crate::identity::{ProjectName, Ref, Sha, Time};
use crate::ledger::backoff;
use crate::policy::Policy;
use crate::resource::Failure;
use crate::view::View;

/// Reports under way at once.
const MOST: usize = 8;
/// When a report that was never answered is told again.
const LOST: Duration = Duration::from_secs(300);
/// A place that was written so often is written seldom from then on.
const OFTEN: u32 = 6;

type Key = (ProjectName, Place);

/// What is being told, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Herald {
    trying: BTreeMap<Key, Trying>,
    /// What was looked at last: the facts, by their version, and the view.
    from: Option<(u64, Arc<View>)>,
    wanted: BTreeMap<Key, Wanted>,
}

#[derive(Debug, Default)]
struct Trying {
    attempts: u32,
    next: Time,
    under_way: Option<Sent>,
}

/// What a report under way says.
#[derive(Debug)]
struct Sent {
    at: Time,
    hash: String,
    sha: Option<Sha>,
    last: bool,
}

impl Herald {
    /// What is to be told now, and when to look again.
    pub(crate) fn tell(
        &mut self,
        view: &Arc<View>,
        facts: &mut Facts,
        policy: &Policy,
        now: Time,
    ) -> (Vec<(ProjectName, Report)>, Option<Time>) {
        if !policy.projects.values().any(|project| project.forge.pulls) {
            return (Vec::new(), None);
        }
        let same = |(version, seen): &(u64, Arc<View>)| *version == facts.version && Arc::ptr_eq(seen, view);
        if !self.from.as_ref().is_some_and(same) {
            self.wanted = wanted(view, facts, policy);
            self.answers(facts);
            forget(facts);
            self.from = Some((facts.version, view.clone()));
            let (wanted, told) = (&self.wanted, &facts.told);
            self.trying.retain(|key, trying| {
                trying.under_way.is_some() || wanted.contains_key(key) && told_differs(told, key, wanted)
            });
        }
        self.due(facts, now)
    }

    /// Answers that were not given yet.
    fn answers(&mut self, facts: &Facts) {
        for row in facts.told.values().filter(|row| row.shown.is_none()) {
            let Some(body) = &row.answer else { continue };
            let wanted =
                Wanted { content: Content::Comment { body: body.clone() }, hash: digest(&[body], 16), last: false };
            self.wanted.insert((row.project.clone(), row.place.clone()), wanted);
        }
    }

    fn due(&mut self, facts: &Facts, now: Time) -> (Vec<(ProjectName, Report)>, Option<Time>) {
        let is_lost = |sent: &Sent| now >= sent.at.after(LOST);
        let mut free = MOST.saturating_sub(
            self.trying.values().filter(|trying| trying.under_way.as_ref().is_some_and(|sent| !is_lost(sent))).count(),
        );
        let (mut reports, mut wake_at) = (Vec::new(), None::<Time>);
        for (key, wanted) in &self.wanted {
            if !told_differs(&facts.told, key, &self.wanted) {
                continue;
            }
            let row = facts.told.get(key);
            let trying = self.trying.entry(key.clone()).or_default();
            let lost = trying.under_way.as_ref().map(|sent| sent.at.after(LOST));
            let due = lost.unwrap_or(trying.next).max(row.map_or(Time(0), calm));
            if due > now {
                wake_at = Some(wake_at.map_or(due, |at| at.min(due)));
                continue;
            }
            if free == 0 {
                continue;
            }
            free -= 1;
            let sha = match &wanted.content {
                Content::Deployment { sha, .. } => Some(*sha),
                _ => None,
            };
            trying.under_way = Some(Sent { at: now, hash: wanted.hash.clone(), sha, last: wanted.last });
            let known = row.and_then(|row| row.id);
            reports.push((key.0.clone(), Report { place: key.1.clone(), content: wanted.content.clone(), known }));
        }
        (reports, wake_at)
    }

    /// A report was shown, or not.
    pub(crate) fn told(
        &mut self,
        facts: &mut Facts,
        project: ProjectName,
        place: Place,
        result: &Result<u64, Failure>,
        now: Time,
    ) {
        let key = (project, place);
        let Some(trying) = self.trying.get_mut(&key) else { return };
        let Some(sent) = trying.under_way.take() else { return };
        // Whatever becomes of it, the wanted is looked at again.
        self.from = None;
        let id = match result {
            Ok(id) => Some(*id),
            // What is refused for good is not tried again until something else is to be shown.
            Err(Failure::Permanent { .. }) => None,
            Err(_) => {
                trying.attempts += 1;
                let name = format!("{} {:?}", key.0, key.1);
                trying.next = now.after(backoff(&name, trying.attempts));
                return;
            }
        };
        self.trying.remove(&key);
        if sent.last {
            facts.drop_told(&key);
            return;
        }
        let known = facts.told.get(&key).cloned();
        let row = known.unwrap_or_else(|| ToldRow::new(&key.0, key.1.clone()));
        let (writes, id) = (row.writes + 1, id.or(row.id));
        facts.put_told(ToldRow { shown: Some(sent.hash), id, writes, at: now, sha: sent.sha.or(row.sha), ..row });
    }
}

fn told_differs(told: &BTreeMap<Key, ToldRow>, key: &Key, wanted: &BTreeMap<Key, Wanted>) -> bool {
    let shown = told.get(key).and_then(|row| row.shown.as_ref());
    wanted.get(key).is_some_and(|wanted| shown != Some(&wanted.hash))
}

/// Before when a place is not written again: what goes to and fro is told ever more seldom.
fn calm(row: &ToldRow) -> Time {
    let over = row.writes.saturating_sub(OFTEN);
    if row.writes < OFTEN { Time(0) } else { row.at.after(Duration::from_secs(300 << over.min(8))) }
}

/// Rows of what is not known any more.
fn forget(facts: &mut Facts) {
    let open = |project: &ProjectName, sha: &Sha| {
        let mut refs = facts.refs.values().filter(|row| row.project == *project && row.is_open());
        refs.any(|row| row.commits.iter().any(|listed| listed.sha == *sha))
    };
    let known = |row: &ToldRow| match &row.place {
        Place::Comment(number) | Place::Answer(number, _) => {
            facts.refs.contains_key(&(row.project.clone(), Ref::Pull(*number)))
        }
        Place::Check(sha) => open(&row.project, sha),
        Place::Deployment(_) => true,
    };
    let gone: Vec<Key> = facts.told.iter().filter(|(_, row)| !known(row)).map(|(key, _)| key.clone()).collect();
    gone.iter().for_each(|key| facts.drop_told(key));
}
