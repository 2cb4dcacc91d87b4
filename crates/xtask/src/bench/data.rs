//! Databases of environments beside `createdb -T`: with the distribution's PostgreSQL, and with PostgreSQL 18 on storage
//! that shares blocks.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Options, Row};
use crate::needs;
use crate::run::{cargo, output};

/// Bytes of the storage: a baseline of 4 GB, a whole copy of it, and what stays free. The file is sparse.
const STORAGE: &str = "16000000000";

/// All cases.
pub(super) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_DATA)?;
    let newest = xtask::postgres18::install()?;
    let mut rows = Vec::new();
    for more in [vec![], vec![newest.display().to_string(), STORAGE.to_owned()]] {
        // Open to the server's own user.
        let folder = std::env::temp_dir().join(format!("sidestage-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let told = clones(options, &folder, &more);
        let _ = std::fs::remove_dir_all(&folder);
        for line in told?.lines() {
            let told: Value = serde_json::from_str(line).with_context(|| format!("not a row: {line}"))?;
            let case = told["case"].as_str().unwrap_or_default().to_owned();
            if !options.wants(&case) {
                continue;
            }
            let number = |key: &str| told[key].as_f64().unwrap_or(f64::NAN);
            let (ours, peer, goal) = (number("ours"), number("peer"), number("goal"));
            let peer_name = told["peer_name"].as_str().unwrap_or("createdb -T").to_owned();
            let unit = if told["unit"] == "MB" { "MB" } else { "ms" };
            rows.push(Row { case, ours, peer, peer_name, unit, goal });
        }
    }
    Ok(rows)
}

fn clones(options: &Options, folder: &Path, more: &[String]) -> Result<String> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "drivers", "--example", "clones"]);
    if !options.dev {
        command.arg("--release");
    }
    command.arg("--").arg(folder).arg(options.rounds.to_string()).args(more);
    output(&mut command)
}
