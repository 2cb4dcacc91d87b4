//! Storage that shares blocks, on a machine whose file system cannot: a file with an XFS in it, of a size that is set
//! aside for it, mounted through a loop device. Templates and their clones lie in there as a tablespace.
//!
//! Nothing of it is remembered but the file: what is mounted, the kernel says, so each step may be cut off and repeated.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, chown, geteuid};
use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;

use super::progress::shown;
use super::space::free;

/// The smallest that XFS and a few clones go into, in bytes.
const SMALLEST: u64 = 1 << 30;
/// What stays free on the disk beneath, in bytes.
const KEPT: u64 = 2_000_000_000;
/// The folder in it that belongs to PostgreSQL: the top itself stays root's.
const INSIDE: &str = "postgres";

/// One file with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The file.
    pub file: PathBuf,
    /// Where it is mounted while it is in use.
    pub mounted_at: PathBuf,
}

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageState {
    /// The file.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is mounted; none if it is not.
    pub mounted_at: Option<PathBuf>,
    /// Bytes that are free in it, while it is mounted.
    pub free: Option<u64>,
}

/// Why it cannot be made, mounted or removed. One line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Loop devices and mounts are root's.
    #[error("only root can {what} storage: run this as root or with sudo")]
    NotRoot {
        /// The verb.
        what: &'static str,
    },
    /// A program is missing.
    #[error("{program} is not installed: install it (Debian, Ubuntu: apt-get install xfsprogs mount)")]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
    /// It is there already.
    #[error("{} is there already: remove it first (sidestage storage rm), or choose another --path", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// It is not there.
    #[error("{} is not there: make it with `sidestage storage create --size 50G --path {}`", file.display(), file.display())]
    Absent {
        /// The file.
        file: PathBuf,
    },
    /// XFS needs more.
    #[error("{} is too small: at least {}", shown(*size), shown(SMALLEST))]
    TooSmall {
        /// Bytes asked for.
        size: u64,
    },
    /// The disk beneath has not so much.
    #[error(
        "{} has {} free, and storage of {} would leave too little: choose a smaller --size or another --path",
        folder.display(), shown(*free), shown(*size)
    )]
    NoSpace {
        /// The file's folder.
        folder: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes asked for.
        size: u64,
    },
    /// Databases are in it.
    #[error("{} is in use: {what}", file.display())]
    InUse {
        /// The file.
        file: PathBuf,
        /// By what, and what to do.
        what: String,
    },
    /// The configuration no longer names it.
    #[error(
        "{databases} in the storage at {}, which the configuration no longer names: put storage = \"{}\" back into [database]; \
         to do without it, remove the baselines and environments first",
        place.display(), file.display()
    )]
    TakenOut {
        /// How many lie there, in words.
        databases: String,
        /// Where it is mounted while it is in use.
        place: PathBuf,
        /// The file, as far as it is known.
        file: PathBuf,
    },
    /// A program refused.
    #[error("{program} failed: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// Its words.
        said: String,
    },
    /// The file system did.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Storage {
    /// Makes the file with an empty file system. It gets its name last. Its whole size is set aside: a file system that finds
    /// no room beneath itself loses data.
    ///
    /// # Errors
    /// What is missing or in the way.
    pub fn create(&self, size: u64) -> Result<(), StorageError> {
        as_root("create")?;
        if self.file.exists() {
            return Err(StorageError::Exists { file: self.file.clone() });
        }
        if size < SMALLEST {
            return Err(StorageError::TooSmall { size });
        }
        let folder = self.file.parent().unwrap_or(Path::new("/")).to_owned();
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        if let Some((free, _)) = free(&folder)
            && free < size.saturating_add(KEPT)
        {
            return Err(StorageError::NoSpace { folder, free, size });
        }
        let half = self.file.with_extension("new");
        let made = make(&half, size).and_then(|()| fs::rename(&half, &self.file).map_err(at(&self.file)));
        if made.is_err() {
            let _ = fs::remove_file(&half);
        }
        made
    }

    /// Mounts it if it is not mounted yet, and gives the folder inside to this user.
    ///
    /// # Errors
    /// What is missing or in the way.
    pub fn mount(&self, uid: Uid, gid: Gid) -> Result<(), StorageError> {
        if !self.file.is_file() {
            return Err(StorageError::Absent { file: self.file.clone() });
        }
        if self.mounted_from().is_none() {
            as_root("mount")?;
            fs::create_dir_all(&self.mounted_at).map_err(at(&self.mounted_at))?;
            let device = match self.devices()?.into_iter().next() {
                Some(device) => device,
                None => self.attach()?,
            };
            run("mount", ["-t", "xfs", "-o", "noatime,nodev,nosuid,noexec", &device, &text(&self.mounted_at)])?;
        }
        // The server's user passes through the top and works in a folder of its own.
        let inside = self.tablespace();
        fs::create_dir_all(&inside).map_err(at(&inside))?;
        let is = fs::metadata(&inside).map_err(at(&inside))?;
        if is.uid() != uid.as_raw() && geteuid().is_root() {
            chown(&inside, Some(uid), Some(gid)).map_err(|error| at(&inside)(error.into()))?;
            fs::set_permissions(&inside, fs::Permissions::from_mode(0o700)).map_err(at(&inside))?;
        }
        Ok(())
    }

    /// The tablespace's folder.
    pub(super) fn tablespace(&self) -> PathBuf {
        self.mounted_at.join(INSIDE)
    }

    /// Unmounts it. That it was not mounted is success.
    ///
    /// # Errors
    /// When something in it is in use.
    pub fn unmount(&self) -> Result<(), StorageError> {
        if self.mounted_from().is_some() {
            as_root("unmount")?;
            run("umount", [&text(&self.mounted_at)])?;
        }
        if self.file.is_file() {
            for device in self.devices()? {
                run("losetup", ["--detach", &device])?;
            }
        }
        match fs::remove_dir(&self.mounted_at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&self.mounted_at)(error)),
            _ => Ok(()),
        }
    }

    /// Deletes it, if no database is in it.
    ///
    /// # Errors
    /// When a server has it as a tablespace, or somebody uses it.
    pub fn remove(&self) -> Result<(), StorageError> {
        as_root("remove")?;
        if !self.file.is_file() {
            return Err(StorageError::Absent { file: self.file.clone() });
        }
        let in_use = |what: &str| StorageError::InUse { file: self.file.clone(), what: what.to_owned() };
        if self.mounted_from().is_none() {
            // Only in there is it to be seen whether databases are.
            self.mount(Uid::from_raw(0), Gid::from_raw(0))?;
        }
        if self.databases().is_some_and(|count| count > 0) {
            return Err(in_use("databases are in it; remove its baselines and environments first"));
        }
        self.unmount().map_err(|error| in_use(&error.to_string()))?;
        fs::remove_file(&self.file).map_err(at(&self.file))
    }

    /// Whether the server in this folder can do without storage: no database of it may lie there. Where nobody lets us look,
    /// it can.
    ///
    /// # Errors
    /// What lies there, and what to do.
    pub fn needless(home: &Path) -> Result<(), StorageError> {
        let storage = Storage { file: PathBuf::from("…"), mounted_at: home.join("storage") };
        let links = fs::read_dir(home.join("data/pg_tblspc")).into_iter().flatten().flatten();
        let used = links.filter_map(|link| fs::read_link(link.path()).ok()).any(|to| to == storage.tablespace());
        if !used {
            return Ok(());
        }
        let databases = match storage.databases() {
            Some(0) => return Ok(()),
            Some(1) => "a database lies".to_owned(),
            Some(count) => format!("{count} databases lie"),
            None => "databases may lie".to_owned(),
        };
        let file = storage.mounted_from().and_then(|device| backing(&device)).unwrap_or(storage.file);
        Err(StorageError::TakenOut { databases, place: storage.mounted_at, file })
    }

    /// How many lie in it; none if it is not mounted.
    fn databases(&self) -> Option<usize> {
        let versions = fs::read_dir(self.tablespace()).ok()?.flatten();
        let inside = versions.flat_map(|version| fs::read_dir(version.path()).into_iter().flatten().flatten());
        // Each in a folder of its number; others are for what is temporary.
        Some(inside.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count())
    }

    /// What there is.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn state(&self) -> Result<StorageState, StorageError> {
        let meta = fs::metadata(&self.file).map_err(|_| StorageError::Absent { file: self.file.clone() })?;
        let mounted = self.mounted_from().is_some();
        Ok(StorageState {
            file: self.file.clone(),
            size: meta.len(),
            mounted_at: mounted.then(|| self.mounted_at.clone()),
            free: mounted.then(|| free(&self.mounted_at)).flatten().map(|(free, _)| free),
        })
    }

    /// The device that is mounted there.
    fn mounted_from(&self) -> Option<String> {
        let place = text(&self.mounted_at);
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mut words = mounts.lines().map(|line| line.split(' '));
        words
            .find_map(|mut line| Some((line.next()?, line.next()?)).filter(|(_, at)| *at == place))
            .map(|(d, _)| d.to_owned())
    }

    /// Loop devices of the file. One that a cut start has left is taken up.
    fn devices(&self) -> Result<Vec<String>, StorageError> {
        let listed = run("losetup", ["--noheadings", "--output", "NAME", "--associated", &text(&self.file)])?;
        Ok(listed.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// Past the page cache of the file beneath, where that can be: else each page is kept twice.
    fn attach(&self) -> Result<String, StorageError> {
        let file = text(&self.file);
        let direct = run("losetup", ["--find", "--show", "--direct-io=on", &file]);
        let device = match direct {
            Ok(device) => device,
            Err(_) => run("losetup", ["--find", "--show", &file])?,
        };
        Ok(device.trim().to_owned())
    }
}

/// The file behind a loop device.
fn backing(device: &str) -> Option<PathBuf> {
    let name = device.strip_prefix("/dev/")?;
    let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
    Some(PathBuf::from(file.trim_end()))
}

fn make(half: &Path, size: u64) -> Result<(), StorageError> {
    let _ = fs::remove_file(half);
    let file = OpenOptions::new().create_new(true).write(true).open(half).map_err(at(half))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at(half))?;
    fallocate(&file, FallocateFlags::empty(), 0, size).map_err(|error| at(half)(error.into()))?;
    run("mkfs.xfs", ["-q", "-f", "-m", "reflink=1", &text(half)])?;
    file.sync_all().map_err(at(half))
}

fn as_root(what: &'static str) -> Result<(), StorageError> {
    if geteuid().is_root() { Ok(()) } else { Err(StorageError::NotRoot { what }) }
}

fn run<const N: usize>(program: &'static str, arguments: [&str; N]) -> Result<String, StorageError> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|_| StorageError::NoProgram { program })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    Err(StorageError::Failed { program, said })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let path = path.to_owned();
    move |source| StorageError::Io { path, source }
}
