//! The keys of the manifest, table by table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::section::{Entry, Place, Section, document, shown};
use super::template::{Names, check_arg, check_name, check_note, check_variable};
use super::{BuildRecipe, Link, Manifest, Process, Release, Service};
use crate::spec::Health;

/// Longest `start_timeout`.
const LONGEST_START: Duration = Duration::from_secs(30 * 60);
/// Longest `[release] timeout`.
const LONGEST_RELEASE: Duration = Duration::from_secs(2 * 3600);
/// The least memory that engines accept.
const LEAST_MEMORY: u64 = 6 << 20;
/// Processes and companions together: the network of a generation has 13 addresses, and web, release and what takes
/// their place need some.
const MOST_CONTAINERS: usize = 10;
/// Links and writable folders.
const MOST_ITEMS: usize = 20;
/// Names of processes and companions that mean something else: containers of ours, and words of the log's reader.
const RESERVED: [&str; 5] = ["web", "release", "data", "build", "localhost"];

/// Reads the whole file.
pub(super) fn manifest(text: &str) -> Result<Manifest, String> {
    let mut file = document(text)?;
    let mut manifest = Manifest {
        database: baseline(&mut file, "database", &["carry", "extensions"])?,
        objects: baseline(&mut file, "objects", &["public"])?,
        ..Manifest::default()
    };
    let names = Names { database: manifest.database.is_some(), objects: manifest.objects.is_some() };

    if let Some(entry) = file.take("port") {
        manifest.port = entry.port()?;
    }
    manifest.command = match file.take("command") {
        // `[command.NAME]` are commands for people to run, `command = [...]` is the web process.
        Some(entry) if entry.is_table() => return Err(entry.place.not_yet()),
        entry => entry.map(|entry| command(entry, &names)).transpose()?,
    };
    if let Some(entry) = file.take("health") {
        manifest.health = Health::Path(path(entry)?);
    }
    if let Some(entry) = file.take("start_timeout") {
        manifest.start_timeout = entry.duration(LONGEST_START)?;
    }
    manifest.memory = memory(&mut file)?;
    manifest.tmp = file.take("tmp").map(tmp).transpose()?.unwrap_or_default();
    manifest.build = file.take("build").map(build).transpose()?.unwrap_or_default();
    manifest.release = file.take("release").map(|entry| release(entry, &names)).transpose()?;
    manifest.env = file.take("env").map(|entry| variables(entry, &names)).transpose()?.unwrap_or_default();
    if let Some(entry) = file.take("process") {
        manifest.processes =
            by_name(entry, r#"[process.worker] with command = ["bin/worker"]"#, |section| process(section, &names))?;
    }
    if let Some(entry) = file.take("service") {
        let place = entry.place.clone();
        manifest.services =
            by_name(entry, r#"[service.cache] with image = "redis:7""#, |section| service(section, &names))?;
        distinct(&place, &manifest)?;
    }
    if let Some(entry) = file.take("link") {
        manifest.links = links(entry, &manifest.env)?;
    }
    file.finish(&["app", "cron"])?;
    Ok(manifest)
}

/// What [`is_name`] wants.
const NAME: &str = "a-z, 0-9 and inner hyphens, a letter first";

/// Whether this may name a process, a companion or a baseline.
fn is_name(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `[database]` or `[objects]`: the baseline's name, none for `false`.
fn baseline(file: &mut Section<'_>, table: &'static str, later: &[&'static str]) -> Result<Option<String>, String> {
    let default = Some("default".to_owned());
    let Some(entry) = file.take(table) else { return Ok(default) };
    let mut section = entry.section(r#"baseline = "default""#)?;
    let name = match section.take("baseline") {
        None => default,
        Some(entry) => entry
            .string_or_false()?
            .map(|(place, name)| {
                if is_name(&name, 32) {
                    Ok(name)
                } else {
                    Err(place.error(format!("is no possible name of a baseline: {NAME}")))
                }
            })
            .transpose()?,
    };
    section.finish(later)?;
    Ok(name)
}

fn memory(section: &mut Section<'_>) -> Result<Option<u64>, String> {
    section.take("memory").map(|entry| entry.size(LEAST_MEMORY)).transpose()
}

fn command(entry: Entry<'_>, names: &Names) -> Result<Vec<String>, String> {
    let (place, words) = entry.command()?;
    words.iter().try_for_each(|word| names.check(&place, word))?;
    Ok(words)
}

fn variables(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, String>, String> {
    let checked = |(name, (place, value)): (String, (Place, String))| {
        check_variable(&place, &name)?;
        names.check(&place, &value)?;
        Ok((name, value))
    };
    entry.strings(r#"NAME = "value""#)?.into_iter().map(checked).collect()
}

/// The path of a URL.
fn path(entry: Entry<'_>) -> Result<String, String> {
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

fn build(entry: Entry<'_>) -> Result<BuildRecipe, String> {
    let mut section = entry.section(r#"[build] with dockerfile = "Dockerfile""#)?;
    let mut recipe = BuildRecipe::default();
    if let Some(entry) = section.take("dockerfile") {
        let place = entry.place.clone();
        recipe.dockerfile = relative(entry)?;
        if recipe.dockerfile == "." {
            return Err(place.error("must name a file"));
        }
    }
    if let Some(entry) = section.take("context") {
        recipe.context = relative(entry)?;
    }
    if let Some(entry) = section.take("target") {
        let (place, target) = entry.string()?;
        let fits = !target.is_empty() && target.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !fits || target.len() > 128 {
            return Err(place.error(format!("must be the name of a stage of the Dockerfile, not {}", shown(&target))));
        }
        recipe.target = Some(target);
    }
    if let Some(entry) = section.take("args") {
        for (name, (place, value)) in entry.strings(r#"{ NODE_ENV = "staging" }"#)? {
            check_name(&place, &name)?;
            check_arg(&place, &value)?;
            recipe.args.insert(name, value);
        }
    }
    section.finish(&["image", "secrets"])?;
    Ok(recipe)
}

/// A path within the tree, in normal form; `.` is its root.
fn relative(entry: Entry<'_>) -> Result<String, String> {
    let (place, path) = entry.string()?;
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let leaves = path.starts_with('/') || parts.contains(&"..");
    if path.is_empty() || path.len() > 1024 || leaves || path.contains(char::is_control) {
        return Err(place.error(format!("must be a path within the repository, without `..`, not {}", shown(&path))));
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

fn release(entry: Entry<'_>, names: &Names) -> Result<Release, String> {
    const EXAMPLE: &str = r#"command = ["bin/migrate"]"#;
    let mut section = entry.section(&format!("[release] with {EXAMPLE}"))?;
    let command = command(section.need("command", EXAMPLE)?, names)?;
    let timeout = section.take("timeout").map(|entry| entry.duration(LONGEST_RELEASE)).transpose()?;
    section.finish(&[])?;
    Ok(Release { command, timeout: timeout.unwrap_or(Duration::from_secs(600)) })
}

/// Tables by name: `[process.NAME]`, `[service.NAME]`.
fn by_name<T>(
    entry: Entry<'_>,
    example: &str,
    read: impl Fn(Section<'_>) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let place = entry.place.clone();
    let mut found = BTreeMap::new();
    for (name, entry) in entry.section(example)?.all() {
        let place = entry.place.clone();
        if !is_name(&name, 20) {
            return Err(place.error(format!("is no possible name: at most 20 of {NAME}")));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(place.error("is a reserved name; take another"));
        }
        found.insert(name, read(entry.section(example)?)?);
    }
    if found.len() > MOST_CONTAINERS {
        return Err(place.error(format!("has {} tables, and at most {MOST_CONTAINERS} are possible", found.len())));
    }
    Ok(found)
}

fn process(mut section: Section<'_>, names: &Names) -> Result<Process, String> {
    let command = command(section.need("command", r#"command = ["bin/worker"]"#)?, names)?;
    let memory = memory(&mut section)?;
    section.finish(&[])?;
    Ok(Process { command, memory })
}

fn service(mut section: Section<'_>, names: &Names) -> Result<Service, String> {
    let (place, image) = section.need("image", r#"image = "redis:7""#)?.string()?;
    if image.is_empty() || image.len() > 255 || !image.chars().all(|c| c.is_ascii_graphic()) {
        return Err(place.error(format!("must be an image such as \"redis:7\", not {}", shown(&image))));
    }
    let command = section.take("command").map(|entry| command(entry, names)).transpose()?;
    let env = section.take("env").map(|entry| variables(entry, names)).transpose()?.unwrap_or_default();
    let port = section.take("port").map(Entry::port).transpose()?;
    let health = match section.take("health") {
        None if port.is_some() => Health::Port,
        None => Health::Alive,
        Some(entry) if port.is_none() => return Err(entry.place.error("needs a port to ask; add port = …")),
        Some(entry) => Health::Path(path(entry)?),
    };
    let memory = memory(&mut section)?;
    section.finish(&["data"])?;
    Ok(Service { image, command, env, port, health, memory, data: None })
}

/// Processes and companions share names (of containers and hosts) and the addresses of one network.
fn distinct(place: &Place, manifest: &Manifest) -> Result<(), String> {
    if let Some(name) = manifest.services.keys().find(|name| manifest.processes.contains_key(*name)) {
        return Err(place.error(format!("and process both have {name:?}; rename one")));
    }
    let count = manifest.services.len() + manifest.processes.len();
    if count > MOST_CONTAINERS {
        return Err(place
            .error(format!("and process have {count} tables together, and at most {MOST_CONTAINERS} are possible")));
    }
    Ok(())
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
    section.finish(&[])?;
    Ok(Link { name, path, note: note.map(|(_, note)| note) })
}

/// One line of text for people.
fn line(entry: Entry<'_>, longest: usize) -> Result<(Place, String), String> {
    let (place, text) = entry.string()?;
    let fits = (1..=longest).contains(&text.chars().count()) && !text.contains(char::is_control);
    if fits { Ok((place, text)) } else { Err(place.error(format!("must be one line of 1 to {longest} characters"))) }
}
