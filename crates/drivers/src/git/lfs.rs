//! Files that git keeps as pointers (Git LFS): the pointer's text, and the store that holds what it points to.
//!
//! A pointer is told by its content, not by attributes: those decide nothing about what is in a build.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use planner::resource::Failure;
use sha2::{Digest, Sha256};

/// Bytes of a pointer, as its specification has it; one of the shortest.
pub(super) const SIZES: std::ops::Range<u64> = 100..1024;
const FIRST_LINE: &str = "version https://git-lfs.github.com/spec/v1";

/// What a pointer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    /// SHA-256 of the content, 64 hex digits in lower case.
    pub(super) oid: String,
    /// Bytes of the content.
    pub(super) size: u64,
}

impl Pointer {
    /// Reads a file's content; none if it is no pointer. One with extensions is none either: its object is not the
    /// content, and what would make it so is a program.
    pub(super) fn read(content: &[u8]) -> Option<Pointer> {
        let mut lines = std::str::from_utf8(content).ok()?.strip_suffix('\n')?.split('\n');
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        if FIRST_LINE.split_once(' ').is_none_or(|(key, version)| value(key) != Some(version)) {
            return None;
        }
        let oid = value("oid")?.strip_prefix("sha256:")?.to_owned();
        let size = value("size")?.parse().ok()?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (lines.next().is_none() && oid.len() == 64 && oid.bytes().all(hex)).then_some(Pointer { oid, size })
    }

    /// Where a store keeps the object.
    fn place(&self, store: &Path) -> PathBuf {
        store.join("objects").join(&self.oid[..2]).join(&self.oid[2..4]).join(&self.oid)
    }

    /// Opens the object. Its end is an error unless all of it was there and was what the pointer says.
    pub(super) fn open(&self, store: &Path) -> io::Result<impl Read + use<>> {
        let file = File::open(self.place(store))?;
        Ok(Checked { file: file.take(self.size), left: self.size, hash: Some(Sha256::new()), oid: self.oid.clone() })
    }

    /// Whether the object of this file is there and is what the pointer says. Reads all of it.
    ///
    /// # Errors
    /// Permanent: it is not there, or it is something else. Transient: it cannot be read.
    pub(super) fn check(&self, path: &str, store: &Path) -> Result<(), Failure> {
        let Pointer { oid, size } = self;
        let (place, store_is) = (self.place(store), store.display());
        let refuse =
            |why: String| Err(Failure::permanent(format!("{path} is an LFS file, and its object {oid} {why}")));
        match std::fs::metadata(&place) {
            Ok(found) if found.is_file() && found.len() == *size => {}
            Ok(found) if found.is_file() => {
                return refuse(format!("has {} bytes instead of {size} in {store_is}; push it again", found.len()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::transient(format!("the LFS object {oid} of {path} cannot be read: {error}")));
            }
            _ => {
                return refuse(format!(
                    "is not in {store_is}; push it (git lfs push --all origin), or name the file in .dockerignore"
                ));
            }
        }
        match self.open(store).and_then(|mut object| io::copy(&mut object, &mut io::sink())) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                refuse(format!("is damaged in {store_is}: its SHA-256 is another; push it again"))
            }
            Err(error) => Err(Failure::transient(format!("the LFS object {oid} of {path} cannot be read: {error}"))),
        }
    }
}

/// An object that is hashed on its way.
struct Checked {
    file: io::Take<File>,
    left: u64,
    /// None once it was compared.
    hash: Option<Sha256>,
    oid: String,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        self.left = self.left.saturating_sub(count as u64);
        if count == 0
            && !buffer.is_empty()
            && let Some(hash) = self.hash.take()
            && (self.left > 0 || HEXLOWER.encode(&hash.finalize()) != self.oid)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the LFS object {} changed while it was read", self.oid),
            ));
        }
        Ok(count)
    }
}
