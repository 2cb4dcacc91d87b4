//! Secrets of projects: sealed in the store, open in memory for whoever creates containers, builds images or shows logs.
//!
//! Values are set by people, or stand in a file that the configuration names. Nothing gives one out: the planner and people
//! get names and versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use data_encoding::BASE64;
use drivers::{SHORTEST, Secrets};
use planner::facts::{Row, Table};
use planner::identity::{InstanceKey, ProjectName, Time};
use planner::policy::Policy;
use planner::secrets::{Place, SecretClass, SecretView, Versions};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::config::{self, Config};

/// The most that one value may measure, in bytes.
const LONGEST: usize = 32 << 10;
/// The most that all values of one project and class may measure together: every log is searched for them.
const MOST: usize = 256 << 10;
/// So many former values are kept, sealed: what was created with one may still print it.
const FORMER: usize = 3;

const CLASSES: [SecretClass; 2] = [SecretClass::Trusted, SecretClass::Foreign];

/// A secret that a person set, as the store has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    place: Place,
    by: String,
    at: Time,
    /// Nonce and ciphertext in base64, the present value first.
    values: Vec<String>,
}

/// What stands in the files that a configuration names, by project: secrets of its trusted code.
#[derive(Default)]
pub struct Files(BTreeMap<ProjectName, SecretFile>);

struct SecretFile {
    path: PathBuf,
    modified: Time,
    values: BTreeMap<String, String>,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One line: project, file, line, what is wrong and what to do. Never a value.
    pub fn read(config: &Config) -> anyhow::Result<Files> {
        let mut files = BTreeMap::new();
        for project in &config.project {
            let Some(path) = &project.secrets else { continue };
            let file = SecretFile::read(path.clone());
            files.insert(project.name.clone(), file.with_context(|| format!("[[project]] {}: secrets", project.name))?);
        }
        Ok(Files(files))
    }
}

impl SecretFile {
    fn read(path: PathBuf) -> anyhow::Result<SecretFile> {
        let values = config::read_secrets(&path)?;
        if let Some((name, why)) = values.iter().find_map(|(name, value)| Some((name, fits(value).err()?))) {
            bail!("{}: the value of {name} {why}", path.display());
        }
        if values.values().map(String::len).sum::<usize>() > MOST {
            bail!("{}: all values together may measure {} KB", path.display(), MOST >> 10);
        }
        let modified = std::fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(SecretFile { path, modified: Time::default().after(modified), values })
    }
}

/// All secrets of all projects.
pub struct Vault {
    key: InstanceKey,
    sealing: LessSafeKey,
    set: BTreeMap<Place, (Sealed, String)>,
    files: Files,
    open: Secrets,
}

impl Vault {
    /// Opens what the store has, and gives the values to `open`. What another instance's key has sealed counts as not set:
    /// whoever needs it is told how to set it.
    ///
    /// # Errors
    /// A row that does not parse.
    pub fn open(key: InstanceKey, rows: &[Row], open: Secrets) -> Result<Vault, String> {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &key.derive("vault", &[]));
        let sealing = LessSafeKey::new(unbound.map_err(|_| "the key of the vault has a wrong length")?);
        let mut vault = Vault { key, sealing, set: BTreeMap::new(), files: Files::default(), open };
        for row in rows.iter().filter(|row| row.table == Table::Secrets) {
            let Some(value) = &row.value else { continue };
            let sealed: Sealed = planner::facts::parse(row, value)?;
            let place = sealed.place.clone();
            let mut values = sealed.values.iter().map(|value| vault.unseal(&place, value));
            let Some(Some(value)) = values.next() else {
                error!(secret = %place, "it was sealed with another instance's key and counts as not set; set it again");
                continue;
            };
            vault.open.hide(&place.project, place.class, values.flatten());
            vault.set.insert(place.clone(), (sealed, value));
            vault.show(&place.project, place.class);
        }
        Ok(vault)
    }

    /// Whether a person may set it to this value.
    ///
    /// # Errors
    /// One line for the person: why not.
    pub fn check(&self, place: &Place, value: &str) -> Result<(), String> {
        let Place { project, class, name } = place;
        fits(value).map_err(|why| format!("the value {why}"))?;
        self.not_in_a_file(place)?;
        let mut all = self.values(project, *class);
        all.insert(name.clone(), value.to_owned());
        if all.values().map(String::len).sum::<usize>() > MOST {
            return Err(format!("all secrets of {project} for {class} code together may measure {} KB", MOST >> 10));
        }
        Ok(())
    }

    /// Whether it is for a person to change.
    ///
    /// # Errors
    /// One line: the file in which it stands.
    pub fn not_in_a_file(&self, place: &Place) -> Result<(), String> {
        let file = self.file(&place.project, place.class).filter(|file| file.values.contains_key(&place.name));
        file.map_or(Ok(()), |file| {
            Err(format!(
                "{} stands in {}: change it there, then `sidestage config reload`",
                place.name,
                file.path.display()
            ))
        })
    }

    /// A warning for whoever sets this value, as the end of a line; mostly empty.
    #[must_use]
    pub fn note(value: &str) -> &'static str {
        if value.trim().len() < SHORTEST { "; logs show it, since so short a value cannot be hidden" } else { "" }
    }

    /// The row of a secret with a new value, to be written and then taken up by [`Vault::take`].
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal(&self, place: Place, value: &str, by: &str, at: Time) -> Result<Row, String> {
        let mut values = vec![self.seal_value(&place, value)?];
        let former = self.set.get(&place).map(|(sealed, _)| sealed.values.as_slice()).unwrap_or_default();
        values.extend(former.iter().take(FORMER).cloned());
        let key = place.to_string();
        let sealed = Sealed { place, by: by.to_owned(), at, values };
        let value = serde_json::to_string(&sealed).map_err(|error| error.to_string())?;
        Ok(Row { table: Table::Secrets, key, value: Some(value) })
    }

    /// The row that takes a secret away.
    #[must_use]
    pub fn removal(place: &Place) -> Row {
        Row { table: Table::Secrets, key: place.to_string(), value: None }
    }

    /// Takes up a row of this secret that was written.
    pub fn take(&mut self, place: &Place, row: &Row) {
        let sealed = row.value.as_ref().and_then(|value| serde_json::from_str::<Sealed>(value).ok());
        let opened = sealed.and_then(|sealed| Some((self.unseal(place, sealed.values.first()?)?, sealed)));
        match opened {
            Some((value, sealed)) => drop(self.set.insert(place.clone(), (sealed, value))),
            None => drop(self.set.remove(place)),
        }
        self.show(&place.project, place.class);
    }

    /// Takes up what stands in the files of this configuration. A project that was taken out keeps what it had: what runs of
    /// it may have to start again.
    pub fn take_files(&mut self, files: Files, config: &Config) {
        let before = std::mem::replace(&mut self.files, files);
        let mut changed: Vec<ProjectName> = self.files.0.keys().cloned().collect();
        for (project, file) in before.0 {
            if config.project.iter().any(|configured| configured.name == project) {
                changed.push(project);
            } else {
                self.files.0.entry(project).or_insert(file);
            }
        }
        changed.iter().for_each(|project| self.show(project, SecretClass::Trusted));
    }

    /// What these files change, for people: names, one line a project.
    #[must_use]
    pub fn difference(&self, files: &Files) -> Vec<String> {
        let mut lines = Vec::new();
        for (project, new) in &files.0 {
            let old = self.files.0.get(project).map(|file| &file.values).cloned().unwrap_or_default();
            let added = new.values.keys().filter(|name| !old.contains_key(*name)).map(|name| format!("{name} added"));
            let changed = new.values.iter().filter(|(name, value)| old.get(*name).is_some_and(|old| old != *value));
            let removed = old.keys().filter(|name| !new.values.contains_key(*name));
            let all: Vec<String> = added
                .chain(changed.map(|(name, _)| format!("{name} changed")))
                .chain(removed.map(|name| format!("{name} removed")))
                .collect();
            if !all.is_empty() {
                lines.push(format!("project.{project}, {}: {}", new.path.display(), all.join(", ")));
            }
        }
        lines
    }

    /// Tells the planner which secrets are set.
    pub fn fill(&self, policy: &mut Policy) {
        for (name, project) in &mut policy.projects {
            let versions = CLASSES.map(|class| (class, self.versions(name, class)));
            project.secrets = versions.into_iter().filter(|(_, versions)| !versions.is_empty()).collect();
        }
    }

    /// What is set for a project, for people.
    #[must_use]
    pub fn list(&self, project: &ProjectName) -> Vec<SecretView> {
        let mut all = BTreeMap::new();
        for (place, (sealed, _)) in self.set.iter().filter(|(place, _)| place.project == *project) {
            all.insert((place.name.clone(), place.class), (sealed.by.clone(), sealed.at));
        }
        if let Some(file) = self.files.0.get(project) {
            let by = (file.path.display().to_string(), file.modified);
            all.extend(file.values.keys().map(|name| ((name.clone(), SecretClass::Trusted), by.clone())));
        }
        all.into_iter().map(|((name, class), (by, at))| SecretView { name, class, by, at }).collect()
    }

    /// Rows of projects of which nothing is known any more, to be deleted.
    #[must_use]
    pub fn forgotten(&self, is_known: impl Fn(&ProjectName) -> bool) -> Vec<(Place, Row)> {
        let gone = self.set.keys().filter(|place| !is_known(&place.project));
        gone.map(|place| (place.clone(), Vault::removal(place))).collect()
    }

    fn file(&self, project: &ProjectName, class: SecretClass) -> Option<&SecretFile> {
        self.files.0.get(project).filter(|_| class == SecretClass::Trusted)
    }

    /// All values; a file's goes before one that was set.
    fn values(&self, project: &ProjectName, class: SecretClass) -> BTreeMap<String, String> {
        let set = self.set.iter().filter(|(place, _)| place.project == *project && place.class == class);
        let mut values: BTreeMap<String, String> =
            set.map(|(place, (_, value))| (place.name.clone(), value.clone())).collect();
        values.extend(self.file(project, class).into_iter().flat_map(|file| file.values.clone()));
        values
    }

    /// What tells a value from another, and nothing else about it.
    fn versions(&self, project: &ProjectName, class: SecretClass) -> Versions {
        let version = |name: &str, value: &str| {
            self.key.name("secret version", &[project.as_str(), class.as_str(), name, value], 16)
        };
        self.values(project, class).into_iter().map(|(name, value)| (name.clone(), version(&name, &value))).collect()
    }

    fn show(&self, project: &ProjectName, class: SecretClass) {
        self.open.set(project, class, self.values(project, class));
    }

    fn seal_value(&self, place: &Place, value: &str) -> Result<String, String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| format!("the system has no randomness to give: {error}"))?;
        let mut sealed = value.as_bytes().to_vec();
        let bound = Aad::from(place.to_string());
        self.sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed)
            .map_err(|_| "the value is too long to be sealed".to_owned())?;
        Ok(BASE64.encode(&[&nonce[..], &sealed].concat()))
    }

    fn unseal(&self, place: &Place, sealed: &str) -> Option<String> {
        let bytes = BASE64.decode(sealed.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let value = self.sealing.open_in_place(nonce, Aad::from(place.to_string()), &mut sealed).ok()?;
        String::from_utf8(value.to_vec()).ok()
    }
}

/// Whether a process could be given this value.
///
/// # Errors
/// Why not, as the end of a sentence.
fn fits(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("holds a NUL, which no variable can".to_owned());
    }
    if value.len() > LONGEST {
        return Err(format!("measures {} KB; {} KB are the most", value.len() >> 10, LONGEST >> 10));
    }
    Ok(())
}
