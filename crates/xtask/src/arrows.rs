//! Which room may depend on which.

use serde_json::Value;

/// Each room and the rooms that it may depend on. `tests` may know all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("planner", &[]),
    ("drivers", &["planner"]),
    ("edge", &["planner"]),
    ("console", &["planner"]),
    ("sidestage", &["planner", "drivers", "edge", "console"]),
    ("xtask", &[]),
];

/// What would let the planner do I/O, read a clock or roll dice, or make it wait.
const NOT_IN_PLANNER: &[&str] = &[
    "async-trait",
    "bollard",
    "chrono",
    "futures-util",
    "getrandom",
    "hyper",
    "jiff",
    "nix",
    "rand",
    "reqwest",
    "sqlx",
    "tempfile",
    "time",
    "tokio",
    "tracing",
    "uuid",
];

/// Dependencies that should not be, one line each, from the output of `cargo metadata --no-deps --format-version 1`.
#[must_use]
pub fn wrong(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let packages = list(metadata, "packages");
    for (room, allowed) in ALLOWED {
        let Some(package) = packages.iter().find(|package| text(package, "name") == *room) else {
            wrong.push(format!("there is no room {room}"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let name = text(dependency, "name");
            if dependency.get("path").is_some_and(Value::is_string) && !allowed.contains(&name) {
                wrong.push(format!("{room} must not depend on {name}"));
            }
            // What its unit tests use is not in it.
            let built_in = dependency.get("kind").is_none_or(Value::is_null);
            if *room == "planner" && built_in && NOT_IN_PLANNER.contains(&name) {
                wrong.push(format!("planner decides and does nothing else: it must not depend on {name}"));
            }
        }
    }
    for package in packages {
        let name = text(package, "name");
        if name != "tests" && !ALLOWED.iter().any(|(room, _)| *room == name) {
            wrong.push(format!("{name} is no room of the plan: add it, with what it may depend on"));
        }
    }
    wrong
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
