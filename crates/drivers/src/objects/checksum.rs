//! Digests of what streams by: MD5 for the ETag, and the one checksum that the client asked for.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Result};
use serde::{Deserialize, Serialize};

/// A checksum that is kept and returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    pub(super) algorithm: String,
    /// Base64; of an upload in parts that has no checksum of the whole, `<of the parts' checksums>-<parts>`.
    pub(super) value: String,
    /// Whether it covers all bytes, not the parts' checksums.
    pub(super) whole: bool,
}

/// The running digest of one algorithm.
enum Running {
    Crc32(Crc32),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    fn new(algorithm: &str) -> Option<Running> {
        Some(match algorithm {
            "CRC32" => Running::Crc32(Crc32::new()),
            "CRC32C" => Running::Crc32c(Crc32c::new()),
            "CRC64NVME" => Running::Crc64Nvme(Crc64Nvme::new()),
            "SHA1" => Running::Sha1(Sha1::new()),
            "SHA256" => Running::Sha256(Sha256::new()),
            _ => return None,
        })
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Running::Crc32(digest) => digest.update(data),
            Running::Crc32c(digest) => digest.update(data),
            Running::Crc64Nvme(digest) => digest.update(data),
            Running::Sha1(digest) => digest.update(data),
            Running::Sha256(digest) => digest.update(data),
        }
    }

    fn finish(self) -> String {
        match self {
            Running::Crc32(digest) => BASE64_STANDARD.encode(digest.finalize()),
            Running::Crc32c(digest) => BASE64_STANDARD.encode(digest.finalize()),
            Running::Crc64Nvme(digest) => BASE64_STANDARD.encode(digest.finalize()),
            Running::Sha1(digest) => BASE64_STANDARD.encode(digest.finalize()),
            Running::Sha256(digest) => BASE64_STANDARD.encode(digest.finalize()),
        }
    }
}

/// What a client says of the bytes that it sends.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Base64 of the MD5.
    pub(super) md5: Option<String>,
    /// Algorithm, and its value unless that comes in a trailer or not at all.
    pub(super) checksum: Option<(String, Option<String>)>,
    /// How many bytes there should be.
    pub(super) length: Option<u64>,
}

const ALGORITHMS: [&str; 5] = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];

/// The header or trailer that carries a checksum.
fn header_of(algorithm: &str) -> String {
    format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase())
}

/// The algorithm that the request announces for its trailer, or that its SDK names.
pub(super) fn announced(headers: &http::HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase);
    let trailers = text("x-amz-trailer").unwrap_or_default();
    let named = text("x-amz-sdk-checksum-algorithm").unwrap_or_default();
    ALGORITHMS
        .into_iter()
        .find(|algorithm| {
            trailers.split(',').any(|name| name.trim() == header_of(algorithm))
                || named == algorithm.to_ascii_lowercase()
        })
        .map(str::to_owned)
}

/// The checksum among those fields of an input that is set.
macro_rules! claimed {
    ($input:expr) => {
        [
            ("CRC32", &$input.checksum_crc32),
            ("CRC32C", &$input.checksum_crc32c),
            ("CRC64NVME", &$input.checksum_crc64nvme),
            ("SHA1", &$input.checksum_sha1),
            ("SHA256", &$input.checksum_sha256),
        ]
        .into_iter()
        .find_map(|(algorithm, value)| Some((algorithm.to_owned(), value.clone()?)))
    };
}
pub(super) use claimed;

/// Sets the checksum fields of an output.
macro_rules! report {
    ($output:expr, $sum:expr) => {
        if let Some(sum) = $sum {
            let field = match sum.algorithm.as_str() {
                "CRC32" => &mut $output.checksum_crc32,
                "CRC32C" => &mut $output.checksum_crc32c,
                "CRC64NVME" => &mut $output.checksum_crc64nvme,
                "SHA1" => &mut $output.checksum_sha1,
                _ => &mut $output.checksum_sha256,
            };
            *field = Some(sum.value.clone());
        }
    };
}
pub(super) use report;

/// `FULL_OBJECT` or `COMPOSITE`.
pub(super) fn kind(sum: &Sum) -> dto::ChecksumType {
    let text = if sum.whole { dto::ChecksumType::FULL_OBJECT } else { dto::ChecksumType::COMPOSITE };
    dto::ChecksumType::from_static(text)
}

/// Digests under way.
pub(super) struct Digests {
    md5: Md5,
    checksum: Option<(String, Running)>,
    length: u64,
}

/// Digests of all bytes.
pub(super) struct Digested {
    md5: [u8; 16],
    /// The checksum that was asked for.
    pub(super) checksum: Option<Sum>,
    /// How many bytes there were.
    pub(super) length: u64,
}

impl Digests {
    /// # Errors
    /// `InvalidRequest` for an algorithm that does not exist.
    pub(super) fn new(algorithm: Option<&str>) -> S3Result<Digests> {
        let checksum = match algorithm {
            None => None,
            Some(name) => Some((name.to_owned(), Running::new(name).ok_or_else(|| unknown(name))?)),
        };
        Ok(Digests { md5: Md5::new(), checksum, length: 0 })
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.md5.update(data);
        if let Some((_, running)) = &mut self.checksum {
            running.update(data);
        }
        self.length += data.len() as u64;
    }

    pub(super) fn finish(self) -> Digested {
        let checksum =
            self.checksum.map(|(algorithm, running)| Sum { algorithm, value: running.finish(), whole: true });
        Digested { md5: self.md5.finalize(), checksum, length: self.length }
    }
}

impl Digested {
    /// Lower-case hex of the MD5, as in an ETag.
    pub(super) fn etag(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.md5)
    }

    /// # Errors
    /// What the client says of its bytes is not true of those that arrived.
    pub(super) fn check(&self, claims: &Claims, trailers: Option<&http::HeaderMap>) -> S3Result {
        if let Some(length) = claims.length
            && length != self.length
        {
            return Err(S3ErrorCode::IncompleteBody.into());
        }
        if let Some(claim) = &claims.md5 {
            let claim = BASE64_STANDARD.decode(claim).ok().filter(|bytes| bytes.len() == 16);
            let claim = claim.ok_or_else(|| S3Error::new(S3ErrorCode::InvalidDigest))?;
            if claim != self.md5 {
                return Err(mismatch("Content-MD5"));
            }
        }
        if let (Some((algorithm, in_header)), Some(sum)) = (&claims.checksum, &self.checksum) {
            let name = header_of(algorithm);
            let in_trailer = trailers.and_then(|map| map.get(&name)).and_then(|value| value.to_str().ok());
            let claim = in_header.as_deref().or(in_trailer);
            if claim.is_some_and(|claim| claim != sum.value) {
                return Err(mismatch(&name));
            }
        }
        Ok(())
    }
}

fn mismatch(header: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::BadDigest, format!("{header} is not that of the bytes that arrived"))
}

fn unknown(algorithm: &str) -> S3Error {
    let text = format!("checksum algorithm {algorithm} does not exist; use one of {}", ALGORITHMS.join(", "));
    S3Error::with_message(S3ErrorCode::InvalidRequest, text)
}

/// ETag of an object in parts: the MD5 of the parts' MD5s, and their number.
pub(super) fn etag_of_parts<'a>(etags: impl Iterator<Item = &'a str>) -> String {
    let (mut md5, mut count) = (Md5::new(), 0);
    for etag in etags {
        md5.update(&data_encoding::HEXLOWER.decode(etag.as_bytes()).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", data_encoding::HEXLOWER.encode(&md5.finalize()))
}

/// Checksum of an object in parts, of its parts' checksums. None unless every part has one.
pub(super) fn sum_of_parts(algorithm: &str, parts: &[Option<Sum>]) -> Option<Sum> {
    let mut running = Running::new(algorithm)?;
    for part in parts {
        let part = part.as_ref().filter(|sum| sum.algorithm == algorithm)?;
        running.update(&BASE64_STANDARD.decode(&part.value).ok()?);
    }
    let value = format!("{}-{}", running.finish(), parts.len());
    Some(Sum { algorithm: algorithm.to_owned(), value, whole: false })
}
