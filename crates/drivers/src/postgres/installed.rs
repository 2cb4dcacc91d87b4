//! Which PostgreSQL is installed, and as whom it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, geteuid};

use super::error::ServerError;

/// The oldest major version that has `pg_database_owner`, on which the isolation of environments rests.
const OLDEST: u32 = 14;

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The folder of `postgres` and `initdb`.
    pub(crate) bin: PathBuf,
    /// The major version.
    pub(crate) major: u32,
}

impl Installed {
    /// What `bin_dir` holds, or else the newest of Debian's places and `PATH`; with `wanted`, the newest of that major version.
    pub(crate) fn find(bin_dir: Option<&Path>, wanted: Option<u32>) -> Result<Installed, ServerError> {
        let folders = match bin_dir {
            Some(folder) => vec![folder.to_owned()],
            None => usual_places(),
        };
        let found: Vec<Installed> = folders.iter().filter_map(|folder| Installed::at(folder)).collect();
        // Of equals the first: Debian's own place before a link to it in PATH.
        let newest = found.iter().rev().max_by_key(|installed| installed.major);
        let Some(newest) = newest else {
            return Err(ServerError::NotInstalled { looked: join(&folders) });
        };
        if newest.major < OLDEST {
            return Err(ServerError::TooOld { bin: newest.bin.clone(), major: newest.major, oldest: OLDEST });
        }
        match wanted {
            None => Ok(newest.clone()),
            Some(major) => found
                .iter()
                .find(|installed| installed.major == major)
                .cloned()
                .ok_or(ServerError::OtherMajor { data: major, installed: newest.major }),
        }
    }

    /// The folder of the newest client's programs: all that is needed for a server elsewhere. Where there are none, those
    /// who want to run them are told.
    pub(crate) fn client() -> PathBuf {
        let version = |folder: &PathBuf| version(&folder.join("psql"));
        let found = usual_places().into_iter().filter_map(|folder| Some((version(&folder)?, folder)));
        found.max_by_key(|(major, _)| *major).map_or_else(|| PathBuf::from("/usr/bin"), |(_, folder)| folder)
    }

    /// Whether this library of the server's is there to be loaded. Distributions put them beside the programs, or below.
    pub(crate) fn has_library(&self, name: &str) -> bool {
        let file = format!("{name}.so");
        let Some(above) = self.bin.parent() else { return false };
        ["lib", "lib/postgresql", "lib64", "lib64/pgsql"].iter().any(|folder| above.join(folder).join(&file).is_file())
    }

    fn at(bin: &Path) -> Option<Installed> {
        if !bin.join("initdb").is_file() {
            return None;
        }
        Some(Installed { bin: bin.to_owned(), major: version(&bin.join("postgres"))? })
    }
}

/// The major version that a program says to be of.
fn version(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    major(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in the likes of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `18beta1`.
fn major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for root in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            places.push(entry.path().join("bin"));
        }
    }
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    places
}

fn join(folders: &[PathBuf]) -> String {
    match folders {
        [one] => one.display().to_string(),
        _ => "/usr/lib/postgresql/*/bin and PATH".to_owned(),
    }
}

/// The account that the server runs as: PostgreSQL refuses to run as root.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// We are root and become this user to run the server.
    pub(crate) switch: bool,
}

impl Account {
    /// `user` when we are root, else ourselves.
    pub(crate) fn find(user: &str) -> Result<Account, ServerError> {
        let uid = geteuid();
        let switch = uid.is_root();
        let found = if switch { User::from_name(user) } else { User::from_uid(uid) };
        let unknown = || ServerError::NoAccount { user: if switch { user.to_owned() } else { uid.to_string() } };
        let user = found.ok().flatten().ok_or_else(unknown)?;
        if user.uid.is_root() {
            return Err(ServerError::NoAccount { user: user.name });
        }
        Ok(Account { name: user.name, uid: user.uid, gid: user.gid, switch })
    }
}
