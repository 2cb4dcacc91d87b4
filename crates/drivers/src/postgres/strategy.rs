//! How a template is copied: through the server's log, file by file, or by sharing blocks. What is fastest depends on the
//! file system, the server's version, and on how much and how many files there are.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::ioctl_ficlone;
use serde::Serialize;

use super::progress::shown;

/// The first version that can share blocks.
const SHARES: u32 = 180_000;
/// The first version that can choose at all.
const CHOOSES: u32 = 150_000;

/// The ways of `CREATE DATABASE … TEMPLATE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Pages go through the server's log: best for what is small.
    WalLog,
    /// Files are copied.
    FileCopy,
    /// Files share their blocks until one of them changes.
    Clone,
}

/// Which way is taken, why, what it costs, and what would be better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The way.
    pub strategy: Strategy,
    /// For people, one line.
    pub why: String,
    /// About how long one clone takes on a quiet machine.
    pub expected: Duration,
    /// Bytes of disk that one clone takes before anything is written to it.
    pub disk: u64,
    /// What the operator could do about it; none if nothing is better.
    pub better: Option<String>,
    /// What a server of the operator's cannot give, in words that go on after "it cannot". Nothing of one of our own.
    pub lacks: Vec<String>,
}

/// How much is to be copied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) bytes: u64,
    /// Tables, indexes and sequences.
    pub(super) relations: u64,
}

/// What server and file system can do.
#[derive(Debug, Clone)]
pub(super) struct Ability {
    /// As `server_version_num`.
    pub(super) version: u32,
    /// Why blocks cannot be shared; none if they can.
    pub(super) unshared: Option<String>,
    /// What a server of the operator's cannot give; none of one of our own.
    pub(super) lacks: Option<Vec<String>>,
}

impl Strategy {
    /// The end of `CREATE DATABASE`.
    pub(super) fn clause(self, version: u32) -> &'static str {
        match self {
            _ if version < CHOOSES => "",
            Strategy::WalLog => " STRATEGY wal_log",
            Strategy::FileCopy | Strategy::Clone => " STRATEGY file_copy",
        }
    }

    /// What has to be set before, for this session.
    pub(super) fn setting(self, version: u32) -> Option<&'static str> {
        match self {
            _ if version < SHARES => None,
            Strategy::Clone => Some("SET file_copy_method = 'clone'"),
            Strategy::WalLog | Strategy::FileCopy => Some("SET file_copy_method = 'copy'"),
        }
    }

    /// About how long it takes: constants, each file and each byte have their price. Measured on ext4 and XFS with a disk
    /// that syncs in 2 ms; what matters is their order.
    fn expected(self, weight: Weight) -> Duration {
        let (files, gigabytes) = (weight.relations as f64 * 1.6, weight.bytes as f64 / 1e9);
        let milliseconds = match self {
            Strategy::WalLog => 40.0 + 2400.0 * gigabytes,
            Strategy::FileCopy => 45.0 + 0.19 * files + 650.0 * gigabytes,
            Strategy::Clone => 15.0 + 0.14 * files + 10.0 * gigabytes,
        };
        Duration::from_micros((milliseconds * 1e3) as u64)
    }

    fn name(self) -> &'static str {
        match self {
            Strategy::WalLog => "copied through the server's log",
            Strategy::FileCopy => "copied file by file",
            Strategy::Clone => "cloned by sharing blocks",
        }
    }
}

/// The fastest way that there is.
pub(super) fn choose(ability: &Ability, weight: Weight) -> Choice {
    let all = match ability {
        Ability { version, .. } if *version < CHOOSES => &[Strategy::FileCopy][..],
        Ability { unshared: Some(_), .. } => &[Strategy::WalLog, Strategy::FileCopy],
        Ability { unshared: None, .. } => &[Strategy::Clone, Strategy::WalLog, Strategy::FileCopy],
    };
    let strategy = all.iter().copied().min_by_key(|way| way.expected(weight)).unwrap_or(Strategy::FileCopy);
    let expected = strategy.expected(weight);
    let size = format!("{} in about {} files", shown(weight.bytes), weight.relations * 8 / 5);
    let why = match &ability.unshared {
        None if strategy == Strategy::WalLog => format!("{}: {size} is little in many files", strategy.name()),
        None => format!("{}: the file system can, and {size} is fastest that way", strategy.name()),
        Some(reason) => format!("{}: {reason}; {size} is fastest that way", strategy.name()),
    };
    let disk = if strategy == Strategy::Clone { 300_000 } else { weight.bytes };
    let best = Strategy::Clone.expected(weight);
    let better = ability.unshared.as_ref().filter(|_| best * 2 < expected).map(|_| {
        let server = match ability {
            Ability { lacks: Some(_), .. } => "a PostgreSQL 18 that Sidestage runs itself ([database] without url) on ",
            Ability { version, .. } if *version < SHARES => "PostgreSQL 18 or newer ([database] bin_dir) and ",
            _ => "",
        };
        format!(
            "{server}storage that shares blocks (`sidestage storage create --size 50G`): about {} ms a clone, and no disk",
            best.as_millis()
        )
    });
    let lacks = ability.lacks.clone().unwrap_or_default();
    Choice { strategy, why, expected, disk, better, lacks }
}

/// Why files in this folder cannot share their blocks, for a server of this version. None if they can.
pub(super) fn unshared(folder: Option<&Path>, version: u32) -> Option<String> {
    if version < SHARES {
        return Some(format!("PostgreSQL {} cannot share blocks, 18 can", version / 10_000));
    }
    let Some(folder) = folder else {
        return Some("whether the server's file system shares blocks cannot be seen from here".to_owned());
    };
    let tried = tempfile::tempfile_in(folder).and_then(|from: File| {
        std::io::Write::write_all(&mut &from, &[7; 8192])?;
        let to = tempfile::tempfile_in(folder)?;
        ioctl_ficlone(&to, &from).map_err(std::io::Error::from)
    });
    tried.err().map(|_| format!("the file system of {} does not share blocks", folder.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn chosen(version: u32, reflink: bool, megabytes: u64, relations: u64) -> Choice {
        let unshared = (!reflink).then(|| "ext4".to_owned());
        choose(&Ability { version, unshared, lacks: None }, Weight { bytes: megabytes * MB, relations })
    }

    #[test]
    fn what_is_measured_to_be_fastest_is_chosen() {
        // Size and files of the databases of the measurement, and what was fastest there.
        for (megabytes, relations, shared, else_) in [
            (8, 300, Strategy::WalLog, Strategy::WalLog),
            (59, 2400, Strategy::WalLog, Strategy::WalLog),
            (1070, 330, Strategy::Clone, Strategy::FileCopy),
            (4270, 350, Strategy::Clone, Strategy::FileCopy),
        ] {
            assert_eq!(chosen(180_006, true, megabytes, relations).strategy, shared, "{megabytes} MB");
            assert_eq!(chosen(180_006, false, megabytes, relations).strategy, else_, "{megabytes} MB");
            assert_eq!(chosen(150_018, false, megabytes, relations).strategy, else_, "{megabytes} MB");
        }
        assert_eq!(chosen(180_006, true, 55, 200).strategy, Strategy::Clone);
        assert_eq!(chosen(140_000, false, 8, 300).strategy, Strategy::FileCopy, "there is no other");
    }

    #[test]
    fn what_would_be_better_is_said_when_it_is_much_better() {
        let old = chosen(150_018, false, 4270, 350);
        let better = old.better.unwrap();
        assert!(better.contains("PostgreSQL 18") && better.contains("storage create"), "{better}");
        assert_eq!(old.disk, 4270 * MB);
        let new = chosen(180_006, false, 4270, 350).better.unwrap();
        assert!(!new.contains("PostgreSQL 18") && new.contains("storage create"), "{new}");
        let best = chosen(180_006, true, 4270, 350);
        assert!(best.better.is_none() && best.disk < MB, "{best:?}");
    }
}
