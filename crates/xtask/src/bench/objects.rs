//! Puts and gets through the object store beside `rclone serve s3`, and what a store in front of another S3 server costs.

use anyhow::{Context, Result};

use super::{Options, Row, told};
use crate::needs;
use crate::run::{cargo, output};

/// All cases.
pub(super) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_DATA)?;
    let rclone = xtask::wheels::RCLONE.install()?.join("rclone");
    let folder = std::env::temp_dir().join(format!("sidestage-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "drivers", "--example", "throughput"]);
    if !options.dev {
        command.arg("--release");
    }
    let printed = output(command.arg("--").arg(&folder).arg(options.rounds.to_string()).arg(rclone));
    let _ = std::fs::remove_dir_all(&folder);
    told(options, &printed?)
}
