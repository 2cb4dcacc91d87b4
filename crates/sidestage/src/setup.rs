//! What the operator decides while everything runs: secrets, and a configuration that is read anew.
//!
//! Each change is prepared, judged by the core, written, and only then applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use console::Confidential;
use edge::tls::Tls;
use planner::facts::Row;
use planner::identity::ProjectName;
use planner::policy::Policy;
use planner::secrets::{Place, SecretView};

use crate::clock::now;
use crate::config::Config;
use crate::forges::{Forges, Set};
use crate::state_dir::StateDir;
use crate::vault::{Files, Vault};

/// Configuration and secrets as they hold now.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// Secrets of projects.
    pub vault: Vault,
    /// One a project.
    pub forges: Forges,
    /// Where mirrors are.
    pub dir: Arc<StateDir>,
    /// The certificate, where we end TLS ourselves.
    pub tls: Option<Tls>,
}

/// A change that is prepared, and not judged yet.
pub enum Change {
    /// A secret is set or taken away by this row; with what the person is told beside it.
    Secret(Place, Row, &'static str),
    /// The configuration is another.
    Config(Box<Reload>),
}

/// A configuration that was read and can be applied.
pub struct Reload {
    config: Config,
    files: Files,
    forges: Set,
    difference: Vec<String>,
}

impl Change {
    /// What is to be written before it is applied.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        match self {
            Change::Secret(_, row, _) => Some(row),
            Change::Config(_) => None,
        }
    }

    /// What the person is told, given what the core said.
    #[must_use]
    pub fn said(&self, judged: &str) -> String {
        match self {
            Change::Secret(_, _, note) => format!("{judged}{note}"),
            Change::Config(reload) if reload.difference.is_empty() => "nothing has changed".to_owned(),
            Change::Config(reload) => reload.difference.join("\n"),
        }
    }
}

impl Setup {
    /// What the core is told of it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let mut policy = self.config.policy();
        self.vault.fill(&mut policy);
        policy
    }

    /// When to look at a project's forge, if it goes with others: those on GitHub do.
    #[must_use]
    pub fn pace(&self, project: &ProjectName) -> Option<tokio::sync::watch::Receiver<u64>> {
        let of = self.config.project.iter().find(|of| of.name == *project)?;
        of.github.as_ref().map(|_| self.forges.pace())
    }

    /// What secrets of a project are set.
    #[must_use]
    pub fn secrets(&self, project: &ProjectName) -> Vec<SecretView> {
        self.vault.list(project)
    }

    /// Sets a secret, or takes it away.
    ///
    /// # Errors
    /// One line for the person: why not.
    pub fn secret(&self, place: &Place, value: Option<Confidential>, by: &str) -> Result<Change, String> {
        let Some(Confidential(value)) = value else {
            self.vault.not_in_a_file(place)?;
            return Ok(Change::Secret(place.clone(), Vault::removal(place), ""));
        };
        self.vault.check(place, &value)?;
        let row = self.vault.seal(place.clone(), &value, by, now())?;
        Ok(Change::Secret(place.clone(), row, Vault::note(&value)))
    }

    /// Reads the configuration anew.
    ///
    /// # Errors
    /// One line: what is wrong with it. Nothing changes then.
    pub fn reload(&self) -> Result<Change, String> {
        let file = self.config.file.as_ref().ok_or("this instance has no configuration file to read")?;
        let read = || {
            let new = Config::read(file)?;
            let files = Files::read(&new)?;
            let config = self.config.with(&new);
            let forges = self.forges.renewed(&self.config, &config, &self.dir)?;
            let mut difference = self.config.difference(&new);
            difference.extend(self.vault.difference(&files));
            anyhow::Ok(Change::Config(Box::new(Reload { config, files, forges, difference })))
        };
        read().map_err(|error| format!("{error:#}; nothing has changed"))
    }

    /// Makes it so. Its row has been written.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Secret(place, row, _) => self.vault.take(&place, &row),
            Change::Config(reload) => {
                let Reload { config, files, forges, difference } = *reload;
                difference.iter().for_each(|line| tracing::info!(line, "the configuration was read anew"));
                self.vault.take_files(files, &config);
                self.forges.replace(forges);
                self.config = config;
                if let Some(tls) = &self.tls {
                    tls.reload();
                }
            }
        }
    }

    /// Secrets of projects that nobody remembers, to be taken away.
    #[must_use]
    pub fn forgotten(&self, known: &BTreeSet<&ProjectName>) -> Vec<Change> {
        let gone = self.vault.forgotten(|project| known.contains(project));
        gone.into_iter().map(|(place, row)| Change::Secret(place, row, "")).collect()
    }
}
