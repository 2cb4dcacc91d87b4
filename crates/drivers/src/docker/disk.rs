//! A filesystem of a fixed size in a file: what bounds the data of a companion on any engine and filesystem.
//!
//! The engine mounts a device, and which one a file gets differs from boot to boot: a link of ours names it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use planner::resource::Failure;
use tokio::process::Command;

/// One such file, with the link to its device.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    file: PathBuf,
    link: PathBuf,
}

impl Disk {
    /// The disk of this name in a folder.
    pub(super) fn new(folder: &Path, name: &str) -> Disk {
        Disk { file: folder.join(format!("{name}.img")), link: folder.join(format!("{name}.dev")) }
    }

    /// What the engine mounts.
    pub(super) fn link(&self) -> &Path {
        &self.link
    }

    /// Whether it is there, complete.
    pub(super) fn is_there(&self) -> bool {
        self.file.exists()
    }

    /// Makes it, empty, unless it is there. It takes up what is written to it, and `size` at most.
    pub(super) async fn make(&self, size: u64) -> Result<(), Failure> {
        if self.is_there() {
            return Ok(());
        }
        let draft = self.file.with_extension("draft");
        self.draft(&draft, size).map_err(|error| self.failed("making the file", &error))?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], &draft).await?;
        // An empty volume gets what the image has there, and some databases refuse a folder that is not empty.
        run("debugfs", &["-w", "-R", "rmdir lost+found"], &draft).await?;
        // Half a filesystem never bears the name.
        std::fs::rename(&draft, &self.file).map_err(|error| self.failed("naming the file", &error))
    }

    fn draft(&self, draft: &Path, size: u64) -> io::Result<()> {
        if let Some(folder) = draft.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        std::fs::File::create(draft)?.set_len(size)
    }

    /// Gives it a device, unless it has one, and lets the link name it.
    pub(super) async fn attach(&self) -> Result<(), Failure> {
        if !self.is_there() {
            return Err(Failure::transient(format!("{} is gone, and the data in it", self.file.display())));
        }
        let said = run("losetup", &["--find", "--show", "--nooverlap"], &self.file).await?;
        let device = PathBuf::from(said.trim());
        if std::fs::read_link(&self.link).is_ok_and(|named| named == device) {
            return Ok(());
        }
        let draft = self.link.with_extension("link");
        let linked = remove(&draft).and_then(|()| symlink(&device, &draft));
        linked
            .and_then(|()| std::fs::rename(&draft, &self.link))
            .map_err(|error| self.failed("naming the device", &error))
    }

    /// Takes its device away and removes it. Absent is success.
    pub(super) async fn remove(&self) -> Result<(), Failure> {
        if self.is_there() {
            let said = run("losetup", &["--noheadings", "--output", "NAME", "--associated"], &self.file).await?;
            for device in said.split_whitespace() {
                run("losetup", &["--detach"], Path::new(device)).await?;
            }
        }
        let all =
            [self.link.clone(), self.file.with_extension("draft"), self.link.with_extension("link"), self.file.clone()];
        all.iter().try_for_each(|path| remove(path)).map_err(|error| self.failed("removing the file", &error))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Failure {
        Failure::transient(format!("{doing} {}: {error}", self.file.display()))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs a program of the system on a file; what it printed.
async fn run(program: &str, arguments: &[&str], file: &Path) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).arg(file).stdin(Stdio::null()).kill_on_drop(true);
    // Programs of administrators are not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    let done = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).output().await;
    let done = done.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::permanent(format!(
            "data of companions needs the program {program}: install the packages e2fsprogs and mount"
        )),
        _ => Failure::transient(format!("{program}: {error}")),
    })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = super::one_line(&String::from_utf8_lossy(&done.stderr));
    Err(Failure::transient(format!("{program} {}: {said}", file.display())))
}
