//! What people may ask for. Comments, console, API and CLI all parse into [`Command`]; [`authorize`] judges it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::{Recipe, version_name};
use crate::identity::{ProjectName, Sha, Trust};
use crate::secrets::Place;

/// One request of a person about one commit, or about the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Command {
    /// Wanted running: a first time, again after removal or expiry, or again after failure. Of what lives it is a visit.
    Stage {
        project: ProjectName,
        sha: Sha,
    },
    /// Foreign code may run at exactly this sha; staging is part of it.
    Approve {
        project: ProjectName,
        sha: Sha,
    },
    /// Takes an approval back; the environment goes.
    Revoke {
        project: ProjectName,
        sha: Sha,
    },
    /// Lives at least this much longer.
    Extend {
        project: ProjectName,
        sha: Sha,
        by: Duration,
    },
    Pin {
        project: ProjectName,
        sha: Sha,
    },
    Unpin {
        project: ProjectName,
        sha: Sha,
    },
    /// Next generation, data anew.
    Reset {
        project: ProjectName,
        sha: Sha,
        /// From this baseline, or this version of one (`shop@3`); none is what the manifest names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        baseline: Option<String>,
    },
    /// Next generation with a new image, built without cache.
    Rebuild {
        project: ProjectName,
        sha: Sha,
    },
    Sleep {
        project: ProjectName,
        sha: Sha,
    },
    Wake {
        project: ProjectName,
        sha: Sha,
    },
    Remove {
        project: ProjectName,
        sha: Sha,
    },
    /// Runs something once inside: a command as typed, or `:name` of the manifest. Of what sleeps it is a visit.
    Run {
        project: ProjectName,
        sha: Sha,
        /// The process that it is made like; the web process if none.
        process: Option<String>,
        words: Vec<String>,
    },
    /// Access to the database as its owner: `psql`.
    Psql {
        project: ProjectName,
        sha: Sha,
    },
    /// A copy of the database.
    Dump {
        project: ProjectName,
        sha: Sha,
    },
    /// The image that CI builds of it is there: what waits for it looks at once.
    Announce {
        project: ProjectName,
        sha: Sha,
    },
    /// A secret gets a value. It never comes here: whoever keeps it asks by this.
    #[serde(skip)]
    SetSecret(Place),
    /// A secret is not set any more.
    #[serde(skip)]
    RemoveSecret(Place),
    /// Something about a baseline.
    #[serde(skip)]
    Baseline {
        name: String,
        act: BaselineAct,
    },
    /// The configuration is read anew.
    #[serde(skip)]
    Reload,
    /// Removes orphans now, and with `confirm` what the guard holds.
    Gc {
        confirm: bool,
    },
}

/// What is done to a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaselineAct {
    /// Its next version is made from this, and later ones too.
    Create(Box<Creation>),
    /// Its next version is made, from what the last was made from.
    Refresh,
    /// This version becomes the one that new generations start from.
    Use(u32),
    /// A version goes, or all of it.
    Remove(Option<u32>),
}

/// A baseline as an admin describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// What it is made from.
    pub recipe: Recipe,
    /// When it is refreshed by itself: five fields, in UTC.
    pub every: Option<String>,
    /// By how much a refresh may shrink before it is kept back, in percent.
    pub max_shrink: u8,
}

impl BaselineAct {
    fn verb(&self) -> &'static str {
        match self {
            BaselineAct::Create(_) => "baseline create",
            BaselineAct::Refresh => "baseline refresh",
            BaselineAct::Use(_) => "baseline use",
            BaselineAct::Remove(_) => "baseline rm",
        }
    }

    fn detail(&self, name: &str) -> String {
        match self {
            BaselineAct::Create(creation) => {
                let Recipe { database, objects, .. } = &creation.recipe;
                format!("{name} from {database} and {objects}").chars().take(500).collect()
            }
            BaselineAct::Refresh | BaselineAct::Remove(None) => name.to_owned(),
            BaselineAct::Use(number) | BaselineAct::Remove(Some(number)) => version_name(name, *number),
        }
    }
}

impl Command {
    /// The commit that it is about, if it is about one.
    #[must_use]
    pub fn commit(&self) -> Option<(&ProjectName, &Sha)> {
        match self {
            Command::Stage { project, sha }
            | Command::Approve { project, sha }
            | Command::Revoke { project, sha }
            | Command::Extend { project, sha, .. }
            | Command::Pin { project, sha }
            | Command::Unpin { project, sha }
            | Command::Reset { project, sha, .. }
            | Command::Rebuild { project, sha }
            | Command::Sleep { project, sha }
            | Command::Wake { project, sha }
            | Command::Run { project, sha, .. }
            | Command::Psql { project, sha }
            | Command::Dump { project, sha }
            | Command::Remove { project, sha }
            | Command::Announce { project, sha } => Some((project, sha)),
            Command::SetSecret(_)
            | Command::RemoveSecret(_)
            | Command::Baseline { .. }
            | Command::Reload
            | Command::Gc { .. } => None,
        }
    }

    /// The project that it is about, if it is about one.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectName> {
        match self {
            Command::SetSecret(place) | Command::RemoveSecret(place) => Some(&place.project),
            _ => self.commit().map(|(project, _)| project),
        }
    }

    /// What of it the audit log keeps beside the verb.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Command::Run { process, words, .. } => {
                let process = process.as_ref().map(|process| format!("-p {process} ")).unwrap_or_default();
                Some(format!("{process}{}", words.join(" ")).chars().take(500).collect())
            }
            Command::SetSecret(place) | Command::RemoveSecret(place) => {
                Some(format!("{} for {} code", place.name, place.class))
            }
            Command::Baseline { name, act } => Some(act.detail(name)),
            Command::Reset { baseline, .. } => baseline.as_ref().map(|baseline| format!("to {baseline}")),
            _ => None,
        }
    }

    /// The word for it, as typed.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Stage { .. } => "stage",
            Command::Approve { .. } => "approve",
            Command::Revoke { .. } => "revoke",
            Command::Extend { .. } => "extend",
            Command::Pin { .. } => "pin",
            Command::Unpin { .. } => "unpin",
            Command::Reset { .. } => "reset",
            Command::Rebuild { .. } => "rebuild",
            Command::Sleep { .. } => "sleep",
            Command::Wake { .. } => "wake",
            Command::Remove { .. } => "remove",
            Command::Run { .. } => "run",
            Command::Psql { .. } => "psql",
            Command::Dump { .. } => "dump",
            Command::Announce { .. } => "announce",
            Command::SetSecret(_) => "secret set",
            Command::RemoveSecret(_) => "secret rm",
            Command::Baseline { act, .. } => act.verb(),
            Command::Reload => "config reload",
            Command::Gc { .. } => "gc",
        }
    }
}

/// What a person is allowed, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks only.
    Look,
    /// Stages and manages environments of trusted code.
    Write,
    /// Approves and revokes foreign code too.
    Approve,
    /// Everything.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A name for the audit log: a login, `cli`, `console`.
    pub name: String,
    /// The role that holds now.
    pub role: Role,
}

/// Whether the actor may do this to code of that trust. The error is one line for the person.
///
/// # Errors
/// Names the role that is needed and the one there is.
pub fn authorize(actor: &Actor, command: &Command, trust: Trust) -> Result<(), String> {
    let needed = match command {
        Command::Approve { .. } | Command::Revoke { .. } => Role::Approve,
        Command::Remove { .. } | Command::Run { .. } | Command::Psql { .. } | Command::Dump { .. }
            if trust.is_foreign() =>
        {
            Role::Approve
        }
        Command::SetSecret(_)
        | Command::RemoveSecret(_)
        | Command::Baseline { .. }
        | Command::Reload
        | Command::Gc { .. } => Role::Admin,
        _ => Role::Write,
    };
    if actor.role >= needed {
        return Ok(());
    }
    Err(format!("{} needs the role {needed:?}, and {} has {:?}", command.verb(), actor.name, actor.role).to_lowercase())
}
