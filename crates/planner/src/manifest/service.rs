//! Tables by name: `[process.NAME]`, `[app.NAME]`, `[service.NAME]`, `[cron.NAME]`, `[command.NAME]`.

use std::collections::BTreeMap;

use super::build::{build, image};
use super::read::{NAME, command, is_name, memory, path, variables};
use super::schedule;
use super::section::{Entry, Place, Section, shown};
use super::template::{Args, Names};
use super::{App, BuildRecipe, Cron, MOST_CONTAINERS, MOST_ITEMS, Manifest, Process, Service};
use crate::spec::Health;

/// Names of processes and companions that mean something else: containers of ours, and words of the log's reader.
const RESERVED: [&str; 5] = ["web", "release", "data", "build", "localhost"];
/// The longest name of an application: it is a part of a host's label.
const LONGEST_APP: usize = 10;
/// The least data that holds a filesystem.
const LEAST_DATA: u64 = 16 << 20;

/// Tables by name, each name checked.
pub(super) fn by_name<T>(
    entry: Entry<'_>,
    longest: usize,
    example: &str,
    read: impl Fn(Section<'_>) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let place = entry.place.clone();
    let mut found = BTreeMap::new();
    for (name, entry) in entry.section(example)?.all() {
        let place = entry.place.clone();
        if !is_name(&name, longest) {
            return Err(place.error(format!("is no possible name: at most {longest} of {NAME}")));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(place.error("is a reserved name; take another"));
        }
        found.insert(name, read(entry.section(example)?)?);
    }
    if found.len() > MOST_ITEMS {
        return Err(place.error(format!("has {} tables, and at most {MOST_ITEMS} are possible", found.len())));
    }
    Ok(found)
}

pub(super) fn processes(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, Process>, String> {
    by_name(entry, 20, r#"[process.worker] with command = ["bin/worker"]"#, |mut section| {
        let command = command(section.need("command", r#"command = ["bin/worker"]"#)?, names)?;
        let memory = memory(&mut section)?;
        section.finish()?;
        Ok(Process { command, memory })
    })
}

/// Names of applications, which others may name before they are read.
pub(super) fn app_names(entry: &Entry<'_>) -> Vec<String> {
    entry.keys()
}

pub(super) fn apps(entry: Entry<'_>, names: &Names, args: &Args) -> Result<BTreeMap<String, App>, String> {
    by_name(entry, LONGEST_APP, r#"[app.api] with build = { context = "api" }"#, |section| app(section, names, args))
}

fn app(mut section: Section<'_>, names: &Names, args: &Args) -> Result<App, String> {
    let port = section.take("port").map(Entry::port).transpose()?.unwrap_or(8080);
    let health = match section.take("health") {
        None => Health::Port,
        Some(entry) => Health::Path(path(entry)?),
    };
    let command = section.take("command").map(|entry| command(entry, names)).transpose()?;
    let memory = memory(&mut section)?;
    let place = section.place();
    let pulled = image(&mut section)?;
    let recipe = section.take("build").map(|entry| build(entry, args)).transpose()?;
    let build = match (pulled, recipe) {
        (Some(_), Some(BuildRecipe { image: Some(_), .. })) => {
            return Err(place.error("has image twice, its own and that of build; remove one"));
        }
        (Some(image), recipe) => Some(BuildRecipe { image: Some(image), ..recipe.unwrap_or_default() }),
        (None, recipe) => recipe,
    };
    section.finish()?;
    Ok(App { port, health, command, memory, build })
}

pub(super) fn services(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, Service>, String> {
    by_name(entry, 20, r#"[service.cache] with image = "redis:7""#, |section| service(section, names))
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
    let data = section.take("data").map(|entry| entry.size(LEAST_DATA)).transpose()?;
    section.finish()?;
    Ok(Service { image, command, env, port, health, memory, data })
}

pub(super) fn crons(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, Cron>, String> {
    const EXAMPLE: &str = r#"[cron.close] with schedule = "*/5 * * * *" and command = ["bin/close"]"#;
    by_name(entry, 20, EXAMPLE, |mut section| {
        let (place, schedule) = section.need("schedule", r#"schedule = "*/5 * * * *""#)?.string()?;
        schedule::check(&schedule).map_err(|why| place.error(why))?;
        let command = command(section.need("command", r#"command = ["bin/close"]"#)?, names)?;
        section.finish()?;
        Ok(Cron { schedule, command })
    })
}

pub(super) fn commands(entry: Entry<'_>, names: &Names) -> Result<BTreeMap<String, Vec<String>>, String> {
    by_name(entry, 40, r#"[command.sample-data] with command = ["bin/sample-data"]"#, |mut section| {
        let command = command(section.need("command", r#"command = ["bin/sample-data"]"#)?, names)?;
        section.finish()?;
        Ok(command)
    })
}

/// Processes, applications and companions share names (of containers and hosts) and the addresses of one network.
pub(super) fn distinct(places: &BTreeMap<&str, Place>, manifest: &Manifest) -> Result<(), String> {
    let names = [
        ("process", manifest.processes.keys().collect::<Vec<_>>()),
        ("app", manifest.apps.keys().collect()),
        ("service", manifest.services.keys().collect()),
    ];
    let count: usize = names.iter().map(|(_, names)| names.len()).sum();
    let mut taken = BTreeMap::new();
    for (table, names) in names {
        let Some(place) = places.get(table) else { continue };
        for name in names {
            if let Some(other) = taken.insert(name, table) {
                return Err(place.error(format!("and {other} both have {name:?}; rename one")));
            }
        }
        if count > MOST_CONTAINERS {
            return Err(place.error(format!(
                "is one of process, app and service, which have {count} tables together, and at most {MOST_CONTAINERS} are possible"
            )));
        }
    }
    Ok(())
}
