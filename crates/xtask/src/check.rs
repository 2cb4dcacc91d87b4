//! What must hold before a commit: format, lints, arrows, licences.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, succeeds, to_end, workspace};

/// Longer files get a line in the report: one noun a file.
const LONG: usize = 400;

pub(crate) fn all() -> Result<()> {
    to_end(cargo().args(["fmt", "--all", "--check"]))?;
    to_end(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    arrows()?;
    report_long_files()?;
    if succeeds(cargo().args(["deny", "--version"])) {
        to_end(cargo().args(["deny", "check"]))?;
    } else {
        eprintln!("xtask: cargo-deny is not at hand, licences and bans were not checked");
    }
    eprintln!("xtask: all checks passed");
    Ok(())
}

fn arrows() -> Result<()> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let wrong = xtask::arrows::wrong(&serde_json::from_str(&metadata).context("cargo metadata")?);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn report_long_files() -> Result<()> {
    let mut folders = vec![workspace().join("crates"), workspace().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = fs::read_to_string(&path)?.lines().count();
                if lines > LONG {
                    eprintln!("xtask: {lines} lines: {}", path.strip_prefix(workspace()).unwrap_or(&path).display());
                }
            }
        }
    }
    Ok(())
}
