//! Versions of baselines: found again, complete or kept back, refreshed by the clock, dropped when nobody needs them.

use std::collections::BTreeSet;

use super::{Eyes, REMEMBERED};
use crate::facts::{BaselineRow, EMPTY, Fact, Facts, Recipe, Size, Stand, Version, parse_version, version_name};
use crate::identity::{EnvId, Time};
use crate::manifest::next_fire;
use crate::resource::{Inventory, Kind, Owner, ResourceId};
use crate::spec::{DatabaseFrom, ObjectsFrom};

/// Everything that there is to decide about baselines, one kind of decision at a time.
pub(super) fn baselines(eyes: &Eyes<'_>) -> Vec<Fact> {
    let rules: [fn(&Eyes<'_>) -> Vec<BaselineRow>; 4] = [recovered, sealed, refreshed, dropped];
    let changed = rules.iter().map(|rule| rule(eyes)).find(|rows| !rows.is_empty()).unwrap_or_default();
    let mut facts: Vec<Fact> = changed.into_iter().map(|row| Fact::Baseline(Box::new(row))).collect();
    if facts.is_empty() {
        facts.extend(forgotten(eyes).cloned().map(Fact::NoBaseline));
    }
    facts
}

/// What a lost or restored store has left: a version that is whole is taken up, and the highest is the current one. What
/// is not whole, and nobody uses, is an orphan, since nobody knows what it was made from.
fn recovered(eyes: &Eyes<'_>) -> Vec<BaselineRow> {
    if !eyes.sees_all() {
        return Vec::new();
    }
    let mut rows: Vec<BaselineRow> = Vec::new();
    for version in versions_seen(eyes.inventory) {
        let Some((name, number)) = parse_version(version).filter(|_| version != EMPTY) else { continue };
        let known = eyes.facts().baselines.get(name);
        if known.is_some_and(|row| row.versions.contains_key(&number)) {
            continue;
        }
        let new = known.is_none_or(|row| number > row.highest);
        let used = is_used(eyes.facts(), eyes.inventory, version);
        let whole = eyes.has_version(version);
        if !(new && whole || used) {
            continue;
        }
        let place = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            rows.push(known.cloned().unwrap_or_else(|| BaselineRow::new(name)));
            rows.len() - 1
        });
        let row = &mut rows[place];
        row.removed = None;
        row.versions.insert(number, found(eyes, version, whole));
        if whole && number > row.highest.max(row.current.unwrap_or(0)) {
            row.take(number);
        }
        row.highest = row.highest.max(number);
    }
    rows
}

fn found(eyes: &Eyes<'_>, version: &str, whole: bool) -> Version {
    let now = eyes.now();
    let stand =
        if whole { Stand::Sealed } else { Stand::Kept("it was found half made after a loss of the store".to_owned()) };
    Version { recipe: None, by: None, asked: now, sealed: Some(now), stand, size: eyes.size(version) }
}

/// Versions of which anything is seen, in order of their numbers.
fn versions_seen(inventory: &Inventory) -> Vec<&str> {
    let versions: BTreeSet<&str> = inventory
        .seen
        .keys()
        .filter_map(|id| match &id.owner {
            Owner::Baseline(version) => Some(version.as_str()),
            _ => None,
        })
        .collect();
    let mut versions: Vec<&str> = versions.into_iter().collect();
    versions.sort_by_key(|version| parse_version(version));
    versions
}

/// A version whose both halves are complete is judged: it becomes the current one, or is kept back.
fn sealed(eyes: &Eyes<'_>) -> Vec<BaselineRow> {
    let mut rows = Vec::new();
    for row in eyes.facts().baselines.values() {
        let Some((number, version)) = row.making() else { continue };
        let name = version_name(&row.name, number);
        let Some(recipe) = version.recipe.as_ref().filter(|_| eyes.has_version(&name)) else { continue };
        let size = eyes.size(&name);
        let before = row.current.and_then(|current| row.versions.get(&current)).map(|version| &version.size);
        let mut row = row.clone();
        let doubt = doubt(recipe, &size, before, row.max_shrink);
        if let Some(version) = row.versions.get_mut(&number) {
            (version.sealed, version.size) = (Some(eyes.now()), size);
            version.stand = doubt.clone().map_or(Stand::Sealed, Stand::Kept);
        }
        if doubt.is_none() {
            row.take(number);
        }
        rows.push(row);
    }
    rows
}

/// Why a complete version is not to be taken by itself.
fn doubt(recipe: &Recipe, size: &Size, before: Option<&Size>, max_shrink: u8) -> Option<String> {
    if recipe.database != DatabaseFrom::Empty && size.tables == Some(0) {
        return Some("no table was read, though a database was to be".to_owned());
    }
    if recipe.objects != ObjectsFrom::Empty && size.count == Some(0) {
        return Some("no object was read, though objects were to be".to_owned());
    }
    let before = before?;
    if let (Some(old), Some(new)) = (before.tables, size.tables)
        && new < old
    {
        return Some(format!("it has {new} tables, and the current one has {old}"));
    }
    let measures = [
        ("its database", before.database, size.database, true),
        ("its objects", before.objects, size.objects, true),
        ("the number of its objects", before.count, size.count, false),
    ];
    measures.into_iter().find_map(|(what, old, new, bytes)| {
        let (old, new) = (old?, new?);
        let least = u128::from(old) * u128::from(100 - max_shrink.min(100)) / 100;
        let shown = |number| if bytes { crate::units::round_size(number) } else { u64::to_string(&number) };
        let shrank = u128::from(new) < least;
        shrank.then(|| format!("{what} shrank from {} to {}, by more than {max_shrink} %", shown(old), shown(new)))
    })
}

/// What the clock refreshes.
fn refreshed(eyes: &Eyes<'_>) -> Vec<BaselineRow> {
    let now = eyes.now();
    let due = |row: &&BaselineRow| row.removed.is_none() && row.due.is_some_and(|due| due <= now);
    let rows = eyes.facts().baselines.values().filter(due).cloned();
    let begin = |mut row: BaselineRow| {
        row.due = next_due(row.every.as_deref(), now);
        row.trouble = None;
        let recipe = row.recipe.clone().ok_or_else(|| "nobody knows what it was made from".to_owned());
        match recipe.and_then(|recipe| resolved(recipe, eyes.facts())) {
            _ if eyes.is_making(&row) => row.trouble = Some("the one before was not done yet".to_owned()),
            Ok(recipe) => drop(row.begin(recipe, None, now)),
            Err(why) => row.trouble = Some(why),
        }
        row
    };
    rows.map(begin).collect()
}

/// When a schedule fires next.
pub(crate) fn next_due(every: Option<&str>, now: Time) -> Option<Time> {
    next_fire(every?, now.0 / 60_000).map(|minute| Time(minute * 60_000))
}

/// A recipe whose environments are those generations of theirs that serve now.
///
/// # Errors
/// The environment does not serve any more.
pub(crate) fn resolved(mut recipe: Recipe, facts: &Facts) -> Result<Recipe, String> {
    let serving = |id: &mut ResourceId| {
        let Owner::Env(env) = &id.owner else { return Ok(()) };
        let generation = facts.envs.get(env).and_then(crate::facts::EnvRow::serving);
        id.generation = generation.ok_or("the environment that it is made from is not there any more")?;
        Ok::<(), String>(())
    };
    if let DatabaseFrom::Env(id) = &mut recipe.database {
        serving(id)?;
    }
    if let ObjectsFrom::Env(id) = &mut recipe.objects {
        serving(id)?;
    }
    Ok(recipe)
}

/// Unused old versions go: the current one and the one before it stay, and whatever is used. So do those that were kept
/// back or could not be made, until a person or the next refresh is done with them.
fn dropped(eyes: &Eyes<'_>) -> Vec<BaselineRow> {
    if !eyes.sees_all() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for row in eyes.facts().baselines.values() {
        let spare = |(number, version): &(&u32, &Version)| {
            let kept = row.current == Some(**number) || row.before == Some(**number) || !version.is_sealed();
            let used = is_used(eyes.facts(), eyes.inventory, &version_name(&row.name, **number));
            // Where none is current a person has to say which one is.
            !kept && !used && row.current.is_some()
        };
        let spare: Vec<u32> = row.versions.iter().filter(spare).map(|(number, _)| *number).collect();
        if !spare.is_empty() {
            let mut row = row.clone();
            spare.into_iter().for_each(|number| row.drop_version(number));
            rows.push(row);
        }
    }
    rows
}

/// Removed long ago, and nothing of it is left.
fn forgotten<'e>(eyes: &Eyes<'e>) -> impl Iterator<Item = &'e String> {
    let (now, all) = (eyes.now(), eyes.sees_all());
    let over = move |row: &&BaselineRow| all && row.removed.is_some_and(|removed| now >= removed.after(REMEMBERED));
    let seen: BTreeSet<&str> =
        versions_seen(eyes.inventory).into_iter().filter_map(parse_version).map(|(name, _)| name).collect();
    let rows = eyes.facts().baselines.values().filter(over);
    rows.map(|row| &row.name).filter(move |name| !seen.contains(name.as_str()))
}

/// Environments that start from a version, are about to, or have data that once began with it.
pub(crate) fn users<'a>(facts: &'a Facts, inventory: &'a Inventory, version: &str) -> BTreeSet<&'a EnvId> {
    let live = facts.envs.iter().filter(|(_, row)| {
        let ready = row.ready.as_ref().map(|ready| &ready.begun);
        let mut begun = ready.into_iter().chain(&row.begun).filter(|_| row.is_live());
        let chosen = row.again.as_ref().and_then(|again| again.baseline.as_deref()) == Some(version);
        chosen || begun.any(|begun| begun.baseline == version || begun.objects() == version)
    });
    let seen = inventory.seen.iter().filter_map(|(id, observed)| match &id.owner {
        Owner::Env(env) if observed.outputs.baseline.as_deref() == Some(version) => Some(env),
        _ => None,
    });
    live.map(|(env, _)| env).chain(seen).collect()
}

/// Whether anything depends on a version.
pub(crate) fn is_used(facts: &Facts, inventory: &Inventory, version: &str) -> bool {
    !users(facts, inventory, version).is_empty()
}

impl Eyes<'_> {
    /// Both halves of a version are there, complete.
    pub(crate) fn has_version(&self, version: &str) -> bool {
        [ResourceId::template(version), ResourceId::snapshot(version)].iter().all(|id| self.is_whole(id))
    }

    /// What the halves of a version measure.
    pub(crate) fn size(&self, version: &str) -> Size {
        let outputs = |id: &ResourceId| self.inventory.seen.get(id).map(|observed| observed.outputs.clone());
        let database = outputs(&ResourceId::template(version)).unwrap_or_default();
        let objects = outputs(&ResourceId::snapshot(version)).unwrap_or_default();
        Size { database: database.bytes, tables: database.tables, objects: objects.bytes, count: objects.objects }
    }

    /// A version is being made, and nothing has failed for good.
    pub(crate) fn is_making(&self, row: &BaselineRow) -> bool {
        row.making().is_some_and(|(number, _)| {
            let version = version_name(&row.name, number);
            let owner = Owner::Baseline(version);
            !self.ledger.failures().any(|failed| failed.id.owner == owner && failed.permanent)
        })
    }

    /// Whether any row knows what belongs to this version, or that it was dropped.
    pub(super) fn knows_version(&self, version: &str) -> bool {
        version == EMPTY
            || parse_version(version)
                .is_some_and(|(name, number)| self.facts().baselines.get(name).is_some_and(|row| number <= row.highest))
    }

    /// The version that a baseline's name stands for now, or that version itself. Its data is there.
    ///
    /// # Errors
    /// One line: why it cannot be started from, and what to do.
    pub(crate) fn version_of(&self, wanted: &str) -> Result<String, String> {
        let version = version_of(self.facts(), wanted)?;
        let parts = [ResourceId::template(&version), ResourceId::snapshot(&version)];
        let missing = parts.iter().find(|id| version != EMPTY && !self.is_there(id));
        match missing.map(|id| id.kind) {
            None => Ok(version),
            Some(kind) => {
                let what = if kind == Kind::Database { "the database" } else { "the objects" };
                let name = parse_version(&version).map_or(wanted, |(name, _)| name).to_owned();
                Err(format!(
                    "{what} of {version} cannot be found; `sidestage baseline refresh {name}` makes another version"
                ))
            }
        }
    }
}

/// The version that a baseline's name stands for, or that version itself.
///
/// # Errors
/// There is none.
pub(crate) fn version_of(facts: &Facts, wanted: &str) -> Result<String, String> {
    if wanted == crate::facts::EMPTY_NAME || wanted == EMPTY {
        return Ok(EMPTY.to_owned());
    }
    let (name, number) = parse_version(wanted).map_or((wanted, None), |(name, number)| (name, Some(number)));
    let row = facts.baselines.get(name).filter(|row| row.removed.is_none());
    let sealed = |number: &u32| row.is_some_and(|row| row.versions.get(number).is_some_and(Version::is_sealed));
    match number {
        Some(number) if sealed(&number) => Ok(wanted.to_owned()),
        Some(_) => Err(format!("there is no version {wanted}; `sidestage baseline show {name}` lists them")),
        None => match row.and_then(|row| row.current).filter(sealed) {
            Some(number) => Ok(version_name(name, number)),
            // Until an admin fills it.
            None if name == crate::facts::DEFAULT => Ok(EMPTY.to_owned()),
            None => Err(format!(
                "the baseline {name} has no version to start from yet; an admin makes it with `sidestage baseline create {name}`"
            )),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        Recipe { database: DatabaseFrom::File("/dump".into()), ..Recipe::empty() }
    }

    #[test]
    fn what_reads_nothing_loses_tables_or_shrinks_is_doubted() {
        let size = |database, tables| Size { database: Some(database), tables: Some(tables), ..Size::default() };
        let judged = |new: Size, old: Option<Size>| doubt(&recipe(), &new, old.as_ref(), 50);
        assert_eq!(judged(size(1 << 30, 200), None), None);
        assert!(judged(size(9 << 20, 0), None).unwrap().contains("no table"));
        assert_eq!(judged(size(600 << 20, 200), Some(size(1000 << 20, 200))), None, "it may shrink by half");
        assert!(judged(size(400 << 20, 200), Some(size(1000 << 20, 200))).unwrap().contains("shrank"));
        assert!(judged(size(1 << 30, 199), Some(size(1 << 30, 200))).unwrap().contains("199 tables"));
        let empty = Recipe { objects: ObjectsFrom::Folder("/files".into()), ..Recipe::empty() };
        let none = Size { count: Some(0), ..Size::default() };
        assert!(doubt(&empty, &none, None, 50).unwrap().contains("no object"));
        assert_eq!(
            doubt(&Recipe::empty(), &Size { tables: Some(0), ..none }, None, 50),
            None,
            "nothing was to be read"
        );
    }
}
