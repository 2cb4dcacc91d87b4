//! What reads a Dockerfile here, and what it understands: the engine's classic builder, the frontend within its
//! BuildKit, or one that the Dockerfile names and that could be had.

use std::time::{Duration, Instant};

use planner::identity::Trust;
use planner::resource::Failure;

use super::dockerfile::Instruction;
use super::{Docker, lock};
use crate::Log;

/// How long a named frontend may take to arrive, and how long it is not asked for again if it did not.
const PULL: Duration = Duration::from_secs(60);
const ABSENT: Duration = Duration::from_secs(600);

/// What reads a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frontend {
    /// The engine's classic builder, because of this.
    Classic(&'static str),
    /// The one in the engine's BuildKit.
    Own {
        /// It understands Dockerfile syntax `1.<minor>`.
        minor: u32,
        /// What the file names instead, and why that is not used.
        instead_of: Option<String>,
    },
    /// The image that the file names in `# syntax=`.
    Named(String),
}

/// From which minor version of Dockerfile syntax on something is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// By the classic builder too.
    Ever,
    /// Syntax `1.<minor>`.
    Minor(u32),
}

impl Frontend {
    /// What the engine's BuildKit reads by itself; none if the engine is too old to have it at hand.
    fn own_of(version: &str) -> Option<u32> {
        // Docker's major version, and the minor version of the syntax that its BuildKit came with.
        let known = [(29, 19), (28, 13), (27, 8), (26, 7), (25, 6), (24, 5), (23, 4), (20, 2)];
        let major: u32 = version.split('.').next()?.parse().ok()?;
        known.iter().find(|(since, _)| major >= *since).map(|(_, minor)| *minor)
    }

    pub(super) fn is_classic(&self) -> bool {
        matches!(self, Frontend::Classic(_))
    }

    pub(super) fn knows(&self, since: Since) -> bool {
        match (self, since) {
            (_, Since::Ever) | (Frontend::Named(_), _) => true,
            (Frontend::Classic(_), Since::Minor(_)) => false,
            (Frontend::Own { minor, .. }, Since::Minor(needed)) => *minor >= needed,
        }
    }

    /// Fails unless it is understood: one line with the instruction's number and what to do.
    pub(super) fn demand(&self, of: &Instruction, what: &str, since: Since, instead: &str) -> Result<(), String> {
        if self.knows(since) {
            return Ok(());
        }
        let place = of.place();
        Err(match (self, since) {
            (Frontend::Own { minor, instead_of }, Since::Minor(needed)) => {
                let way_out = instead_of.clone().unwrap_or_else(|| {
                    "or begin the file with `# syntax=docker/dockerfile:1`, which must be an image that can be pulled"
                        .to_owned()
                });
                format!(
                    "{place}: {what} needs Dockerfile syntax 1.{needed}, and this engine's own builder knows 1.{minor}; \
                     write it {instead}, {way_out}"
                )
            }
            (Frontend::Classic(because), _) => {
                format!("{place}: {what} needs BuildKit, and {because}; write it {instead}")
            }
            _ => format!("{place}: {what} is not understood here; write it {instead}"),
        })
    }
}

impl Docker {
    /// Chooses what reads the Dockerfile of a build at this trust that names this syntax.
    pub(super) async fn frontend(&self, trust: Trust, syntax: Option<&str>, log: &Log) -> Result<Frontend, Failure> {
        if trust.is_foreign() {
            // BuildKit applies none of the limits that foreign code is held to, and its cache knows no trust.
            return Ok(Frontend::Classic("foreign code is built with the engine's classic builder"));
        }
        let Some(minor) = self.buildkit().await? else {
            return Ok(Frontend::Classic("this engine has no other than its classic builder"));
        };
        let Some(syntax) = syntax else { return Ok(Frontend::Own { minor, instead_of: None }) };
        match self.named_frontend(syntax, log).await? {
            None => Ok(Frontend::Named(syntax.to_owned())),
            Some(why) => {
                log.line(&format!("note: `# syntax={syntax}` is left out and the engine's own builder used: {why}"));
                let instead_of = Some(format!("or make {syntax} available, which the file names ({why})"));
                Ok(Frontend::Own { minor, instead_of })
            }
        }
    }

    /// Minor version of the syntax that the engine's BuildKit understands; none without BuildKit.
    async fn buildkit(&self) -> Result<Option<u32>, Failure> {
        let version = self.engine().await?.version().await;
        let version = version.map_err(|error| self.fail("asking for the engine's version", &error))?;
        let components = version.components.unwrap_or_default();
        // Others speak the engine's API without having its BuildKit.
        let is_docker = components.is_empty() || components.iter().any(|component| component.name == "Engine");
        let is_linux = version.os.as_deref() == Some("linux");
        Ok(version.version.filter(|_| is_docker && is_linux).and_then(|version| Frontend::own_of(&version)))
    }

    /// Makes sure that the frontend's image is there; or why it is not.
    async fn named_frontend(&self, syntax: &str, log: &Log) -> Result<Option<String>, Failure> {
        if self.is_here(syntax).await? {
            return Ok(None);
        }
        let known = lock(&self.inner.no_frontends).get(syntax).filter(|(at, _)| at.elapsed() < ABSENT).cloned();
        if let Some((_, why)) = known {
            return Ok(Some(why));
        }
        let pulled = tokio::time::timeout(PULL, self.pull(syntax, log)).await;
        let why = match pulled {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(Failure::Waiting { .. })) => "its registry has no such image".to_owned(),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => format!("it did not arrive within {}", super::spoken(PULL)),
        };
        lock(&self.inner.no_frontends).insert(syntax.to_owned(), (Instant::now(), why.clone()));
        Ok(Some(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_told_by_their_version() {
        for (version, minor) in [("20.10.24+dfsg1", Some(2)), ("23.0.1", Some(4)), ("30.1.0", Some(19))] {
            assert_eq!(Frontend::own_of(version), minor);
        }
        assert_eq!([Frontend::own_of("19.03.1"), Frontend::own_of("dev")], [None, None]);
    }
}
