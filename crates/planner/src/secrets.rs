//! Secrets of projects as the planner knows them: names and versions. Values never come here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::{ProjectName, Time, Trust};

/// For whom a secret is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretClass {
    /// Code of the project's own.
    Trusted,
    /// Code from outside, approved: dummies.
    Foreign,
}

impl SecretClass {
    /// What code of this trust gets.
    #[must_use]
    pub fn of(trust: Trust) -> SecretClass {
        if trust.is_foreign() { SecretClass::Foreign } else { SecretClass::Trusted }
    }

    /// The word used by `--for`, rows and pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SecretClass::Trusted => "trusted",
            SecretClass::Foreign => "foreign",
        }
    }
}

impl fmt::Display for SecretClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which secret: a name has one value for each project and class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Whose.
    pub project: ProjectName,
    /// For which code.
    pub class: SecretClass,
    /// The variable.
    pub name: String,
}

/// `shop trusted NPM_TOKEN`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.project, self.class, self.name)
    }
}

/// A secret as people see it: never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// The variable.
    pub name: String,
    /// For which code.
    pub class: SecretClass,
    /// Who set it, or the file that it stands in.
    pub by: String,
    /// When.
    pub at: Time,
}

/// Whether a secret may be called so: a variable of a shell, and none that is ours to give.
///
/// # Errors
/// Why not, as the end of a sentence that begins with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=128).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !fits {
        return Err("is no name of a secret: letters, digits and `_`, not a digit first".to_owned());
    }
    if crate::injected::is_reserved(name) {
        return Err("is given by Sidestage, and cannot be a secret".to_owned());
    }
    Ok(())
}

/// Secrets by name, each with its version: an opaque digest that differs when the value does.
pub type Versions = BTreeMap<String, String>;

/// One short digest over names and versions, for the label of what was created with them; none of none.
#[must_use]
pub fn digest(secrets: &Versions) -> Option<String> {
    let parts: Vec<&str> = secrets.iter().flat_map(|(name, version)| [name.as_str(), version.as_str()]).collect();
    (!parts.is_empty()).then(|| crate::fingerprint::digest(&parts, 16))
}
