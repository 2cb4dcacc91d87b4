//! What GitHub publishes about its own interface (packages `@octokit/*` of npm), for tests to judge by. A cache that stays.

use std::process::Command;

use anyhow::{Context, Result};

use crate::images::npm_registry;
use crate::run::{quietly, workspace};

const SCRIPT: &str = "crates/xtask/src/oracles.mjs";

/// Fetches what is absent into `target/xtask/octokit`.
pub(crate) fn fetch() -> Result<()> {
    let folder = workspace().join("target/xtask/octokit");
    if folder.join("openapi.json").exists() {
        return Ok(());
    }
    eprintln!("xtask: fetching GitHub's schemas from npm (once)");
    let set = std::env::var("NPM_CONFIG_REGISTRY").ok();
    let registry = set.or_else(npm_registry).unwrap_or_else(|| "https://registry.npmjs.org".to_owned());
    let mut node = Command::new("node");
    node.arg(workspace().join(SCRIPT)).arg(registry.trim_end_matches('/')).arg(folder);
    quietly(&mut node, "octokit.log").context("GitHub's schemas cannot be fetched from npm")
}
