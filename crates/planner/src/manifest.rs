//! `.sidestage.toml`: what one environment is made of. It grants nothing.

use serde::{Deserialize, Serialize};

/// A manifest that parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {}

impl Manifest {
    /// Parses the bytes of `.sidestage.toml`; none means no file, all defaults.
    ///
    /// # Errors
    /// One line: what is wrong, at which key and line, and what to do.
    pub fn parse(bytes: Option<&[u8]>) -> Result<Manifest, String> {
        let _ = bytes;
        Ok(Manifest::default())
    }
}
