//! Baselines: named data that environments start from, in numbered versions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::identity::Time;
use crate::spec::{DatabaseFrom, ObjectsFrom};

/// The baseline that always exists. Its first version is empty, whatever an admin makes later.
pub const DEFAULT: &str = "default";
/// What people call that empty version.
pub const EMPTY_NAME: &str = "empty";
/// The empty version. It needs no template and no snapshot, and is never dropped.
pub const EMPTY: &str = "default@1";
/// Of how much a refresh may shrink before it is kept back, in percent.
pub const MAX_SHRINK: u8 = 50;

/// What a baseline's version is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Its database.
    pub database: DatabaseFrom,
    /// SQL of the operator's that is run on the copy before it is sealed.
    #[serde(default)]
    pub mask: Option<PathBuf>,
    /// Extensions that the administrator makes before it is sealed.
    #[serde(default)]
    pub extensions: BTreeSet<String>,
    /// Its objects.
    pub objects: ObjectsFrom,
}

impl Recipe {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Recipe {
        let (database, objects) = (DatabaseFrom::Empty, ObjectsFrom::Empty);
        Recipe { database, mask: None, extensions: BTreeSet::new(), objects }
    }
}

/// How far a version is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stand {
    /// It is being made, or could not be.
    Making,
    /// Complete and good to start from.
    Sealed,
    /// Complete, and not taken by itself: one line says why.
    Kept(String),
}

/// What a complete version measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Bytes of its database.
    pub database: Option<u64>,
    /// Tables of its database.
    pub tables: Option<u64>,
    /// Bytes of its objects.
    pub objects: Option<u64>,
    /// How many objects.
    pub count: Option<u64>,
}

/// One version of a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What it is made from; none if it was found after a loss of the store.
    pub recipe: Option<Recipe>,
    /// Who asked for it; none if the schedule did, or nobody knows.
    pub by: Option<String>,
    /// When it was asked for.
    pub asked: Time,
    /// When it was complete.
    pub sealed: Option<Time>,
    /// How far it is.
    pub stand: Stand,
    /// What it measures, once it is complete.
    pub size: Size,
}

impl Version {
    /// Just asked for.
    #[must_use]
    pub fn new(recipe: Recipe, by: Option<String>, asked: Time) -> Version {
        let (sealed, stand, size) = (None, Stand::Making, Size::default());
        Version { recipe: Some(recipe), by, asked, sealed, stand, size }
    }

    /// Environments may start from it.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.stand == Stand::Sealed
    }

    /// Its database holds something, as far as is known: cloning it ahead is worth while.
    #[must_use]
    pub fn has_database(&self) -> bool {
        match &self.recipe {
            Some(recipe) => recipe.database != DatabaseFrom::Empty,
            None => self.size.tables.is_none_or(|tables| tables > 0),
        }
    }
}

/// A baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineRow {
    /// Its name.
    pub name: String,
    /// What the next refresh is made from; none of one that was found after a loss of the store.
    pub recipe: Option<Recipe>,
    /// When it is refreshed by itself: five fields, in UTC.
    pub every: Option<String>,
    /// By how much a refresh may shrink before it is kept back, in percent.
    pub max_shrink: u8,
    /// The version that new generations start from; none until one is complete.
    pub current: Option<u32>,
    /// The one that was current before.
    pub before: Option<u32>,
    /// The highest number given out: none is used twice.
    pub highest: u32,
    /// Its versions by number. Those that are not here are gone, or go.
    pub versions: BTreeMap<u32, Version>,
    /// When the schedule refreshes it next.
    pub due: Option<Time>,
    /// Why the last refresh by the schedule could not begin.
    pub trouble: Option<String>,
    /// Since when it is removed. The row stays for a while, so that no number is used twice.
    pub removed: Option<Time>,
}

impl BaselineRow {
    /// Of this name, with nothing in it. `default` has had its empty version before.
    #[must_use]
    pub fn new(name: &str) -> BaselineRow {
        BaselineRow {
            name: name.to_owned(),
            recipe: None,
            every: None,
            max_shrink: MAX_SHRINK,
            current: None,
            before: None,
            highest: u32::from(name == DEFAULT),
            versions: BTreeMap::new(),
            due: None,
            trouble: None,
            removed: None,
        }
    }

    /// Begins the next version, beside the others. What was begun before and is of no use gives way.
    pub fn begin(&mut self, recipe: Recipe, by: Option<String>, now: Time) -> u32 {
        self.versions.retain(|_, version| version.is_sealed());
        self.highest += 1;
        self.versions.insert(self.highest, Version::new(recipe, by, now));
        self.highest
    }

    /// The version that is being made, or could not be.
    #[must_use]
    pub fn making(&self) -> Option<(u32, &Version)> {
        let mut making = self.versions.iter().filter(|(_, version)| version.stand == Stand::Making);
        making.next_back().map(|(number, version)| (*number, version))
    }

    /// The version becomes the one that new generations start from.
    pub fn take(&mut self, number: u32) {
        if self.current != Some(number) {
            self.before = self.current.filter(|before| self.versions.contains_key(before));
            self.current = Some(number);
        }
    }

    /// Drops a version.
    pub fn drop_version(&mut self, number: u32) {
        self.versions.remove(&number);
        self.current = self.current.filter(|current| *current != number);
        self.before = self.before.filter(|before| *before != number);
    }
}

/// `shop@3`.
#[must_use]
pub fn version_name(name: &str, number: u32) -> String {
    format!("{name}@{number}")
}

/// Name and number of a version.
#[must_use]
pub fn parse_version(version: &str) -> Option<(&str, u32)> {
    let (name, number) = version.rsplit_once('@')?;
    let canonical = number.parse().ok().filter(|parsed: &u32| *parsed > 0 && parsed.to_string() == number)?;
    (!name.is_empty()).then_some((name, canonical))
}

/// What the version is called to people: the empty one is `empty`.
#[must_use]
pub fn shown_version(version: &str) -> &str {
    if version == EMPTY { EMPTY_NAME } else { version }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_names_that_read_back() {
        assert_eq!(parse_version(&version_name("shop", 3)), Some(("shop", 3)));
        for odd in ["shop", "shop@", "shop@0", "shop@03", "@3", "shop@+3"] {
            assert_eq!(parse_version(odd), None, "{odd}");
        }
        assert_eq!((shown_version(EMPTY), shown_version("shop@1")), ("empty", "shop@1"));
    }

    #[test]
    fn a_number_is_never_used_twice_and_the_last_current_one_is_remembered() {
        let mut row = BaselineRow::new("shop");
        for expected in 1..=3 {
            let number = row.begin(Recipe::empty(), None, Time(1));
            assert_eq!(number, expected);
            row.versions.get_mut(&number).unwrap().stand = Stand::Sealed;
            row.take(number);
        }
        assert_eq!((row.current, row.before), (Some(3), Some(2)));
        row.drop_version(3);
        assert_eq!(row.begin(Recipe::empty(), None, Time(2)), 4, "3 was used");
        assert_eq!(BaselineRow::new(DEFAULT).begin(Recipe::empty(), None, Time(1)), 2, "1 is the empty one");
    }
}
