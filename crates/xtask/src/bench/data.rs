//! Databases of environments beside `createdb -T`: with the distribution's PostgreSQL, and with PostgreSQL 18 on storage
//! that shares blocks.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Options, Row, told};
use crate::needs;
use crate::run::{cargo, output};

/// Bytes of the storage: a baseline of 4 GB, a whole copy of it, and what stays free. The file is sparse.
const STORAGE: &str = "16000000000";

/// All cases.
pub(super) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_DATA)?;
    let newest = xtask::wheels::POSTGRES18.install()?;
    let mut rows = Vec::new();
    for more in [vec![], vec![newest.display().to_string(), STORAGE.to_owned()]] {
        // Open to the server's own user.
        let folder = std::env::temp_dir().join(format!("sidestage-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let printed = clones(options, &folder, &more);
        let _ = std::fs::remove_dir_all(&folder);
        rows.extend(told(options, &printed?)?);
    }
    Ok(rows)
}

fn clones(options: &Options, folder: &Path, more: &[String]) -> Result<String> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "drivers", "--example", "clones"]);
    if !options.dev {
        command.arg("--release");
    }
    let only = options.only.as_deref().unwrap_or_default();
    command.arg("--").arg(folder).arg(options.rounds.to_string()).arg(only).args(more);
    output(&mut command)
}
