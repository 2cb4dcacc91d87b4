//! The arrows between the rooms, from `cargo metadata`.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::{Value, json};
use xtask::arrows::wrong;

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn rooms_depend_on_the_planner_and_never_on_each_other() {
    assert_eq!(wrong(&metadata()), Vec::<String>::new());
}

#[test]
fn a_wrong_arrow_is_seen() {
    for (room, dependency) in [
        ("drivers", json!({"name": "edge", "path": "/crates/edge", "kind": null})),
        ("edge", json!({"name": "console", "path": "/crates/console", "kind": "dev"})),
        ("planner", json!({"name": "drivers", "path": "/crates/drivers", "kind": null})),
        ("planner", json!({"name": "tokio", "kind": null})),
        ("xtask", json!({"name": "planner", "path": "/crates/planner", "kind": null})),
    ] {
        let mut metadata = metadata();
        let packages = metadata["packages"].as_array_mut().unwrap();
        let package = packages.iter_mut().find(|package| package["name"] == room).unwrap();
        package["dependencies"].as_array_mut().unwrap().push(dependency);
        assert_eq!(wrong(&metadata).len(), 1, "{room}: {:?}", wrong(&metadata));
    }
}

#[test]
fn a_room_without_a_plan_is_seen() {
    let mut metadata = metadata();
    metadata["packages"].as_array_mut().unwrap().push(json!({"name": "common", "dependencies": []}));
    assert_eq!(wrong(&metadata).len(), 1);
}
