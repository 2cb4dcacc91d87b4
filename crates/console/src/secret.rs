//! Random tokens. Only their digests are kept, so looking one up tells nothing by its timing.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

/// 32 random bytes, as text that fits a URL and a cookie.
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn random() -> Result<Secret, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Secret(BASE64URL_NOPAD.encode(&bytes)))
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    pub(crate) fn reveal(self) -> String {
        self.0
    }
}

/// What is remembered of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(token: &str) -> Digest {
        Digest(Sha256::digest(token.as_bytes()).into())
    }
}
