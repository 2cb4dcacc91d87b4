//! Who and what things are: shas, projects, refs, trust, environments, time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// A value that did not parse: what it was meant to be and why it is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}: {why}")]
pub struct Invalid {
    /// The kind of value, such as "sha".
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

fn invalid(what: &'static str, value: &str, why: &'static str) -> Invalid {
    Invalid { what, value: value.chars().take(80).collect(), why }
}

/// Milliseconds since the Unix epoch. The planner never reads a clock; it is told the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// This much later, without overflow (`never` is [`Duration::MAX`]).
    #[must_use]
    pub fn after(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A full 40-hex commit id. Nothing shorter ever decides anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha([u8; 20]);

impl Sha {
    /// From the raw 20 bytes of git's object id.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Sha(bytes)
    }

    /// The first 7 hex digits, for people's eyes only.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(7);
        hex
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 20]>::try_from(bytes).ok())
            .ok_or_else(|| invalid("sha", text, "a commit is named by all 40 hex digits"))?;
        Ok(Sha(bytes))
    }
}

/// The name of a watched repository: its `[[project]] name`, its identity for good. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectName(Arc<str>);

impl ProjectName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(ProjectName(text.into()))
        } else {
            Err(invalid("project name", text, "1 to 32 of a-z, 0-9 and inner hyphens"))
        }
    }
}

/// How far a commit is trusted. Ordered: a higher trust outranks a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Foreign and not approved at this sha: runs nothing, still has a page.
    Untrusted,
    /// Foreign, approved at this sha.
    Approved,
    /// Head of a ref of the project's own.
    Trusted,
}

impl Trust {
    /// Code that came from outside the project, approved or not.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        self != Trust::Trusted
    }

    /// The word used in labels, rows and pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Trust::Untrusted => "untrusted",
            Trust::Approved => "approved",
            Trust::Trusted => "trusted",
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Trust {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Trust::Untrusted, Trust::Approved, Trust::Trusted]
            .into_iter()
            .find(|trust| trust.as_str() == text)
            .ok_or_else(|| invalid("trust", text, "untrusted, approved or trusted"))
    }
}

/// A pull request, branch or tag. Written `pr/7`, `branch/main`, `tag/v1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ref {
    /// A pull request by number.
    Pull(u64),
    /// A branch by full name; may hold slashes and odd characters.
    Branch(String),
    /// A tag by full name.
    Tag(String),
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ref::Pull(number) => write!(f, "pr/{number}"),
            Ref::Branch(name) => write!(f, "branch/{name}"),
            Ref::Tag(name) => write!(f, "tag/{name}"),
        }
    }
}

impl FromStr for Ref {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || invalid("ref", text, "pr/<number>, branch/<name> or tag/<name>");
        match text.split_once('/') {
            Some(("pr", number)) => number.parse().map(Ref::Pull).map_err(|_| bad()),
            Some(("branch", name)) if !name.is_empty() => Ok(Ref::Branch(name.to_owned())),
            Some(("tag", name)) if !name.is_empty() => Ok(Ref::Tag(name.to_owned())),
            _ => Err(bad()),
        }
    }
}

/// The identity of an environment: 16 characters of base32, an HMAC of project, sha and trust
/// under the instance's key, so two instances on one engine or one PostgreSQL never meet. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvId(Arc<str>);

impl EnvId {
    /// The id as text: 16 of `a-z2-7`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EnvId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
        if fits { Ok(EnvId(text.into())) } else { Err(invalid("environment id", text, "16 characters of a-z and 2-7")) }
    }
}

/// The secret from which every name and password of this instance is derived. A file of its own in `state_dir`.
#[derive(Clone)]
pub struct InstanceKey([u8; 32]);

impl InstanceKey {
    /// From the 32 bytes of the key file.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        InstanceKey(bytes)
    }

    /// HMAC-SHA256 over the parts, each preceded by its length so that no two lists of parts collide.
    #[must_use]
    pub fn derive(&self, purpose: &str, parts: &[&str]) -> [u8; 32] {
        // A key of any length is valid for HMAC, so this cannot fail; an empty key would only be weak.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// A lower-case base32 name of `length` characters (at most 51) for these parts.
    #[must_use]
    pub fn name(&self, purpose: &str, parts: &[&str], length: usize) -> String {
        let mut name = BASE32_NOPAD.encode(&self.derive(purpose, parts)).to_ascii_lowercase();
        name.truncate(length);
        name
    }

    /// This instance's own name, 16 characters: labels and the image repository carry it.
    #[must_use]
    pub fn instance(&self) -> String {
        self.name("instance", &[], 16)
    }

    /// The environment of this commit at this trust.
    #[must_use]
    pub fn env(&self, project: &ProjectName, sha: &Sha, trust: Trust) -> EnvId {
        EnvId(self.name("env", &[project.as_str(), &sha.to_string(), trust.as_str()], 16).into())
    }

    /// A password for a purpose, 32 base32 characters.
    #[must_use]
    pub fn password(&self, purpose: &str, parts: &[&str]) -> String {
        self.name(purpose, parts, 32)
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceKey(…)")
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Sha, ProjectName, Ref, EnvId);
