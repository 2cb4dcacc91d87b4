//! What a file of the operator's is: a dump of which format, made from which version, or plain SQL. Its content tells,
//! not its name.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use planner::resource::Failure;

/// As much of a file as tells what it is.
const BEGINNING: u64 = 16 << 10;
/// Where a tar archive says that it is one.
const USTAR: std::ops::Range<usize> = 257..262;
/// The head of each entry of a tar archive.
const TAR_BLOCK: usize = 512;

/// The formats that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `pg_dump --format=custom`
    Custom,
    /// `pg_dump --format=directory`
    Directory,
    /// `pg_dump --format=tar`
    Tar,
    /// `pg_dump --format=plain`, or statements that a person has written.
    Text,
}

/// What is known of a file before it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dump {
    pub(super) format: Format,
    /// The version of the server that it was made from, such as `15.18 (Debian 15.18-0+deb12u1)`, where it says so.
    pub(super) made_from: Option<String>,
    /// Bytes, of all files together.
    pub(super) bytes: u64,
}

impl Dump {
    /// Looks at the beginning of a file, or into a folder.
    ///
    /// # Errors
    /// Permanent: it cannot be read, is packed, empty, of a whole server, or nothing of the kind.
    pub(super) fn look(path: &Path) -> Result<Dump, Failure> {
        let shown = path.display();
        let unread = |error| Failure::permanent(format!("{shown} cannot be read: {error}"));
        let meta = fs::metadata(path).map_err(unread)?;
        if meta.is_dir() {
            let head = beginning(&path.join("toc.dat")).map_err(|_| {
                Failure::permanent(format!("{shown} is a folder without toc.dat, so it is no dump of pg_dump's"))
            })?;
            return Ok(Dump { format: Format::Directory, made_from: archive_version(&head), bytes: size_of(path) });
        }
        let head = beginning(path).map_err(unread)?;
        let (format, made_from) = told_by(&head).map_err(|why| Failure::permanent(format!("{shown} {why}")))?;
        Ok(Dump { format, made_from, bytes: meta.len() })
    }

    /// Refuses what a newer server has written.
    ///
    /// # Errors
    /// Permanent, with both versions.
    pub(super) fn admit(&self, path: &Path, ours: u32) -> Result<(), Failure> {
        let Some(theirs) = self.made_from.as_deref() else { return Ok(()) };
        match major(theirs) {
            Some(major) if major > ours => Err(Failure::permanent(format!(
                "{} was made from PostgreSQL {major}, and this server is PostgreSQL {ours}: load it into a server of \
                 version {major} or newer ([database] bin_dir)",
                path.display()
            ))),
            _ => Ok(()),
        }
    }
}

fn beginning(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(BEGINNING).read_to_end(&mut head)?;
    Ok(head)
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

fn told_by(head: &[u8]) -> Result<(Format, Option<String>), &'static str> {
    if head.starts_with(b"PGDMP") {
        return Ok((Format::Custom, archive_version(head)));
    }
    if head.get(USTAR) == Some(b"ustar".as_slice()) {
        if !head.starts_with(b"toc.dat\0") {
            return Err("is a tar archive, and none that pg_dump has made: unpack it first");
        }
        return Ok((Format::Tar, archive_version(&head[TAR_BLOCK..])));
    }
    if [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"PK\x03\x04"].iter().any(|m| head.starts_with(m)) {
        return Err("is packed: unpack it first (pg_dump's own formats may be packed inside)");
    }
    if head.is_empty() {
        return Err("is empty");
    }
    let text = String::from_utf8_lossy(head);
    if head.contains(&0) {
        return Err("is neither SQL nor a dump of pg_dump's");
    }
    if text.contains("-- PostgreSQL database cluster dump") {
        return Err("is a dump of a whole server (pg_dumpall): make one of the one database with pg_dump");
    }
    let line = text.lines().find_map(|line| line.strip_prefix("-- Dumped from database version "));
    Ok((Format::Text, line.map(|version| version.trim().to_owned())))
}

/// The version of the server, from the head of an archive. Laid out as `ReadHead` of PostgreSQL's `pg_backup_archiver.c`
/// reads it; none when it is not as expected.
fn archive_version(head: &[u8]) -> Option<String> {
    let mut rest = Head { bytes: head.strip_prefix(b"PGDMP")?, width: 0 };
    let version = (rest.byte()?, rest.byte()?);
    let _revision = rest.byte()?;
    rest.width = rest.byte()?.into();
    let _offsets = rest.byte()?;
    let _format = rest.byte()?;
    // How it is packed: a number, and from 1.15 on a byte.
    if version >= (1, 15) { rest.byte().map(drop) } else { rest.number().map(drop) }?;
    // When it was made: second, minute, hour, day, month, year, summer time.
    for _ in 0..7 {
        rest.number()?;
    }
    let _database = rest.text()?;
    rest.text()
}

struct Head<'a> {
    bytes: &'a [u8],
    /// Bytes of a number, after its sign.
    width: usize,
}

impl Head<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// A sign, then the bytes, lowest first.
    fn number(&mut self) -> Option<i64> {
        let negative = self.byte()? != 0;
        let (digits, rest) = self.bytes.split_at_checked(self.width)?;
        self.bytes = rest;
        let number =
            digits.iter().rev().try_fold(0_i64, |sum, byte| sum.checked_mul(256)?.checked_add((*byte).into()))?;
        Some(if negative { -number } else { number })
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The major version in the likes of `15.18 (Debian 15.18-0+deb12u1)`, `18beta1`.
pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
