//! The keys of the manifest, table by table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::build::{build, few};
use super::section::{Entry, Place, Section, document, shown};
use super::service::{app_names, apps, commands, crons, distinct, processes, services};
use super::template::{Args, Names, check_note, check_variable};
use super::{Link, MOST_ITEMS, Manifest, Release};
use crate::spec::Health;

/// Longest `start_timeout`.
const LONGEST_START: Duration = Duration::from_secs(30 * 60);
/// Longest `[release] timeout`.
const LONGEST_RELEASE: Duration = Duration::from_secs(2 * 3600);
/// The least memory that engines accept.
const LEAST_MEMORY: u64 = 6 << 20;

/// Reads the whole file.
pub(super) fn manifest(text: &str) -> Result<Manifest, String> {
    let mut file = document(text)?;
    let mut manifest = Manifest::default();
    database(&mut file, &mut manifest)?;
    objects(&mut file, &mut manifest)?;
    let app = file.take("app");
    let apps_there = app.as_ref().map(app_names).unwrap_or_default();
    let args = Args { apps: apps_there.clone() };
    let names = Names { database: manifest.database.is_some(), objects: manifest.objects.is_some(), apps: apps_there };

    if let Some(entry) = file.take("port") {
        manifest.port = entry.port()?;
    }
    match file.take("command") {
        // `[command.NAME]` are commands for people to run, `command = [...]` is the web process.
        Some(entry) if entry.is_table() => manifest.commands = commands(entry, &names)?,
        entry => manifest.command = entry.map(|entry| command(entry, &names)).transpose()?,
    }
    if let Some(entry) = file.take("health") {
        manifest.health = Health::Path(path(entry)?);
    }
    if let Some(entry) = file.take("start_timeout") {
        manifest.start_timeout = entry.duration(LONGEST_START)?;
    }
    manifest.memory = memory(&mut file)?;
    manifest.tmp = file.take("tmp").map(tmp).transpose()?.unwrap_or_default();
    manifest.build = file.take("build").map(|entry| build(entry, &args)).transpose()?.unwrap_or_default();
    manifest.release = file.take("release").map(|entry| release(entry, &names)).transpose()?;
    manifest.env = file.take("env").map(|entry| variables(entry, &names)).transpose()?.unwrap_or_default();
    containers(&mut file, app, &mut manifest, &names, &args)?;
    manifest.crons = file.take("cron").map(|entry| crons(entry, &names)).transpose()?.unwrap_or_default();
    if let Some(entry) = file.take("link") {
        manifest.links = links(entry, &manifest.env)?;
    }
    file.finish()?;
    Ok(manifest)
}

/// Processes, applications and companions.
fn containers(
    file: &mut Section<'_>,
    app: Option<Entry<'_>>,
    manifest: &mut Manifest,
    names: &Names,
    args: &Args,
) -> Result<(), String> {
    let mut places = BTreeMap::new();
    if let Some(mut entry) = file.take("process") {
        places.insert("process", entry.place.clone());
        web(&mut entry, manifest, names)?;
        manifest.processes = processes(entry, names)?;
    }
    if let Some(entry) = app {
        places.insert("app", entry.place.clone());
        manifest.apps = apps(entry, names, args)?;
    }
    if let Some(entry) = file.take("service") {
        places.insert("service", entry.place.clone());
        manifest.services = services(entry, names)?;
    }
    distinct(&places, manifest)
}

/// `[process.web]` is the web process by another name: a file with `[command.NAME]` tables cannot say `command = [...]`.
fn web(entry: &mut Entry<'_>, manifest: &mut Manifest, names: &Names) -> Result<(), String> {
    let Some(entry) = entry.take_entry("web") else { return Ok(()) };
    let mut section = entry.section(r#"[process.web] with command = ["bin/web"]"#)?;
    let own = command(section.need("command", r#"command = ["bin/web"]"#)?, names)?;
    let place = section.place();
    let memory = memory(&mut section)?;
    section.finish()?;
    if manifest.command.replace(own).is_some() {
        return Err(place.error("is the web process, whose command the file has already; remove one"));
    }
    if memory.is_some() && manifest.memory.is_some() {
        return Err(place.error("is the web process, whose memory the file has already; remove one"));
    }
    manifest.memory = manifest.memory.or(memory);
    Ok(())
}

/// What [`is_name`] wants.
pub(super) const NAME: &str = "a-z, 0-9 and single inner hyphens, a letter first";

/// Whether this may name a process, a companion, an application or a baseline. Two hyphens join the parts of a host.
pub(super) fn is_name(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn database(file: &mut Section<'_>, manifest: &mut Manifest) -> Result<(), String> {
    let Some(entry) = file.take("database") else { return Ok(()) };
    let mut section = entry.section(r#"baseline = "default""#)?;
    manifest.database = baseline(&mut section)?;
    if let Some(entry) = section.take("carry") {
        let place = entry.place.clone();
        manifest.carry = entry.boolean()?;
        if manifest.carry && manifest.database.is_none() {
            return Err(place.error("needs a database, and baseline = false; remove one"));
        }
    }
    if let Some(entry) = section.take("extensions") {
        manifest.extensions = extensions(entry, manifest.database.is_some())?;
    }
    section.finish()
}

fn extensions(entry: Entry<'_>, database: bool) -> Result<BTreeSet<String>, String> {
    let place = entry.place.clone();
    let mut found = BTreeSet::new();
    for (place, name) in entry.list(r#"["pg_stat_statements"]"#)? {
        let fits = (1..=63).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if !fits {
            return Err(place.error(format!("must name extensions of PostgreSQL, not {}", shown(&name))));
        }
        found.insert(name);
    }
    few(&place, found.len())?;
    if !database && !found.is_empty() {
        return Err(place.error("needs a database, and baseline = false; remove one"));
    }
    Ok(found)
}

fn objects(file: &mut Section<'_>, manifest: &mut Manifest) -> Result<(), String> {
    let Some(entry) = file.take("objects") else { return Ok(()) };
    let mut section = entry.section(r#"baseline = "default""#)?;
    manifest.objects = baseline(&mut section)?;
    if let Some(entry) = section.take("public") {
        let place = entry.place.clone();
        for (place, prefix) in entry.list(r#"["static/"]"#)? {
            let fits = (1..=200).contains(&prefix.len())
                && !prefix.starts_with('/')
                && !prefix.contains("//")
                && !prefix.contains(char::is_control);
            if !fits {
                return Err(place.error(format!(
                    "must hold beginnings of keys such as \"static/\", without a leading slash, not {}",
                    shown(&prefix)
                )));
            }
            manifest.public.push(prefix);
        }
        few(&place, manifest.public.len())?;
        if manifest.objects.is_none() && !manifest.public.is_empty() {
            return Err(place.error("needs a bucket, and baseline = false; remove one"));
        }
    }
    section.finish()
}

/// The baseline's name, none for `false`.
fn baseline(section: &mut Section<'_>) -> Result<Option<String>, String> {
    let Some(entry) = section.take("baseline") else { return Ok(Some("default".to_owned())) };
    let named = |(place, name): (Place, String)| {
        if is_name(&name, 32) {
            Ok(name)
        } else {
            Err(place.error(format!("is no possible name of a baseline: {NAME}")))
        }
    };
    entry.string_or_false()?.map(named).transpose()
}

pub(super) fn memory(section: &mut Section<'_>) -> Result<Option<u64>, String> {
    section.take("memory").map(|entry| entry.size(LEAST_MEMORY)).transpose()
}

pub(super) fn command(entry: Entry<'_>, names: &Names) -> Result<Vec<String>, String> {
    let (place, words) = entry.command()?;
    words.iter().try_for_each(|word| names.check(&place, word))?;
    Ok(words)
}

pub(super) fn variables(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, String>, String> {
    let checked = |(name, (place, value)): (String, (Place, String))| {
        check_variable(&place, &name)?;
        names.check(&place, &value)?;
        Ok((name, value))
    };
    entry.strings(r#"NAME = "value""#)?.into_iter().map(checked).collect()
}

/// The path of a URL.
pub(super) fn path(entry: Entry<'_>) -> Result<String, String> {
    let (place, path) = entry.string()?;
    // Two slashes would name another host to a browser, and a backslash is a slash to some.
    let fits = path.starts_with('/')
        && !path.starts_with("//")
        && path.len() <= 1024
        && path.chars().all(|c| c.is_ascii_graphic() && c != '\\' && c != '#');
    if fits {
        Ok(path)
    } else {
        Err(place.error(format!(
            "must be a path such as \"/healthz\", printable ASCII behind one slash, not {}",
            shown(&path)
        )))
    }
}

/// Writable folders: absolute, in normal form, distinct.
fn tmp(entry: Entry<'_>) -> Result<BTreeMap<String, u64>, String> {
    let place = entry.place.clone();
    let mut folders = BTreeMap::new();
    for (folder, entry) in entry.section(r#"{ "/app/tmp" = "64m" }"#)?.all() {
        let place = entry.place.clone();
        let bytes = entry.size(4096)?;
        let plain = folder.strip_suffix('/').unwrap_or(&folder);
        let fits = plain.starts_with('/')
            && plain.len() <= 255
            && plain[1..].split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !plain.contains(|c: char| c.is_control() || c == ':' || c == ',')
            && !["/proc", "/sys", "/dev"]
                .iter()
                .any(|taken| plain == *taken || plain.starts_with(&format!("{taken}/")));
        if !fits {
            return Err(place
                .error("must be the absolute path of a folder such as \"/app/tmp\", not below /proc, /sys or /dev"));
        }
        if folders.insert(plain.to_owned(), bytes).is_some() {
            return Err(place.error("is there twice; remove one"));
        }
    }
    if folders.len() > MOST_ITEMS {
        return Err(place.error(format!("holds {} folders, and at most {MOST_ITEMS} are possible", folders.len())));
    }
    Ok(folders)
}

fn release(entry: Entry<'_>, names: &Names) -> Result<Release, String> {
    const EXAMPLE: &str = r#"command = ["bin/migrate"]"#;
    let mut section = entry.section(&format!("[release] with {EXAMPLE}"))?;
    let command = command(section.need("command", EXAMPLE)?, names)?;
    let timeout = section.take("timeout").map(|entry| entry.duration(LONGEST_RELEASE)).transpose()?;
    section.finish()?;
    Ok(Release { command, timeout: timeout.unwrap_or(Duration::from_secs(600)) })
}

fn links(entry: Entry<'_>, env: &BTreeMap<String, String>) -> Result<Vec<Link>, String> {
    let place = entry.place.clone();
    let sections = entry.sections(r#"[[link]] with name = "Admin" and path = "/admin""#)?;
    if sections.len() > MOST_ITEMS {
        return Err(place.error(format!("is there {} times, and at most {MOST_ITEMS} are possible", sections.len())));
    }
    sections.into_iter().map(|section| link(section, env)).collect()
}

fn link(mut section: Section<'_>, env: &BTreeMap<String, String>) -> Result<Link, String> {
    let name = line(section.need("name", r#"name = "Admin""#)?, 60)?.1;
    let path = path(section.need("path", r#"path = "/admin""#)?)?;
    let note = section.take("note").map(|entry| line(entry, 200)).transpose()?;
    if let Some((place, note)) = &note {
        check_note(place, note, env)?;
    }
    section.finish()?;
    Ok(Link { name, path, note: note.map(|(_, note)| note) })
}

/// One line of text for people.
fn line(entry: Entry<'_>, longest: usize) -> Result<(Place, String), String> {
    let (place, text) = entry.string()?;
    let fits = (1..=longest).contains(&text.chars().count()) && !text.contains(char::is_control);
    if fits { Ok((place, text)) } else { Err(place.error(format!("must be one line of 1 to {longest} characters"))) }
}
