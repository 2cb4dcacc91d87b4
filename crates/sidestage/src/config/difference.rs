//! What a configuration that was read anew changes, for people, and what of it needs a restart.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Config;

/// Top-level keys that apply at once. Everything else is wired at the start.
const AT_ONCE: [&str; 5] = ["addresses", "github", "lifetime", "limits", "project"];
/// Limits that the drivers are given at the start.
const AT_START: [&str; 6] = ["connections", "database", "disk", "objects", "pids", "suspend_trusted"];

/// Keys of `[database]` that apply at once.
const SPARES: [&str; 2] = ["spares", "spare_disk"];

/// The keys of a file by their dotted names. Entries of arrays of tables go by their name, not by their place.
type Leaves = BTreeMap<String, String>;

impl Config {
    /// What `new` changes, one line a key. Nothing if nothing does.
    #[must_use]
    pub fn difference(&self, new: &Config) -> Vec<String> {
        let (mut before, after) = (leaves(&self.text), leaves(&new.text));
        before.retain(|key, _| !needs_restart(key));
        before.extend(leaves(&self.started).into_iter().filter(|(key, _)| needs_restart(key)));
        let mut lines = Vec::new();
        for project in &new.project {
            if !self.project.iter().any(|old| old.name == project.name) {
                lines.push(format!("project.{}: added", project.name));
            }
        }
        for project in &self.project {
            if !new.project.iter().any(|left| left.name == project.name) {
                lines.push(format!(
                    "project.{}: taken out; what it has stays until `sidestage gc --confirm`",
                    project.name
                ));
            }
        }
        let in_both = |key: &&String| {
            let name = key.strip_prefix("project.").and_then(|rest| rest.split('.').next());
            name.is_none_or(|name| {
                let has = |config: &Config| config.project.iter().any(|project| project.name.as_str() == name);
                has(self) && has(new)
            })
        };
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).filter(in_both).collect();
        for key in keys {
            let shown = |leaves: &Leaves| leaves.get(key).cloned().unwrap_or_else(|| "(default)".to_owned());
            let (old, now) = (shown(&before), shown(&after));
            if old != now {
                let restart = if needs_restart(key) { " (needs a restart)" } else { "" };
                lines.push(format!("{key}: {old} -> {now}{restart}"));
            }
        }
        lines
    }

    /// This configuration with what `new` changes and applies at once.
    #[must_use]
    pub fn with(&self, new: &Config) -> Config {
        let (mut config, kept) = (self.clone(), &self.limits);
        config.addresses.clone_from(&new.addresses);
        config.project.clone_from(&new.project);
        config.github.clone_from(&new.github);
        config.lifetime.clone_from(&new.lifetime);
        config.limits.clone_from(&new.limits);
        config.text.clone_from(&new.text);
        (config.database.spares, config.database.spare_disk) = (new.database.spares, new.database.spare_disk);
        (config.limits.connections, config.limits.disk, config.limits.pids) = (kept.connections, kept.disk, kept.pids);
        (config.limits.objects, config.limits.suspend_trusted) = (kept.objects, kept.suspend_trusted);
        config.limits.database = kept.database;
        config
    }
}

fn needs_restart(key: &str) -> bool {
    let mut parts = key.split('.');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let spares = first == "database" && SPARES.contains(&second);
    !AT_ONCE.contains(&first) && !spares || (first == "limits" && AT_START.contains(&second))
}

fn leaves(text: &str) -> Leaves {
    let mut leaves = Leaves::new();
    let table: Table = toml::from_str(text).unwrap_or_default();
    table.into_iter().for_each(|(key, value)| collect(key, value, &mut leaves));
    leaves
}

fn collect(at: String, value: Value, leaves: &mut Leaves) {
    match value {
        Value::Table(table) => {
            table.into_iter().for_each(|(key, value)| collect(format!("{at}.{key}"), value, leaves));
        }
        Value::Array(entries) if entries.iter().any(Value::is_table) => {
            for (place, entry) in entries.into_iter().enumerate() {
                let name = ["name", "host"].iter().find_map(|key| entry.get(key)?.as_str().map(str::to_owned));
                collect(format!("{at}.{}", name.unwrap_or_else(|| place.to_string())), entry, leaves);
            }
        }
        value => drop(leaves.insert(at, value.to_string())),
    }
}
