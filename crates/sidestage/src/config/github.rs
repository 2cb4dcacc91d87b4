//! `[github]`, and what of a project is about its repository there.

use std::path::Path;

use anyhow::{Context, bail};
use drivers::github::{Access, Approvers, GitHub, Hidden, Settings};

use super::secret_file::{read_lines, read_password};
use super::tables::GitHubTable;
use super::{Config, Project};
use crate::state_dir;

impl GitHubTable {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let url = self.url.as_str();
        let host = url.split("://").nth(1).unwrap_or_default();
        // A token in clear over a network would be everybody's.
        let near = host.starts_with("127.") || host.starts_with("localhost");
        if host.is_empty() || host.contains(['/', '@', '?']) || !(url.starts_with("https://") || near) {
            bail!("[github] url: {url:?} must be https:// and a host, such as \"https://github.example.org\"");
        }
        for (key, file) in [
            ("private_key_file", &self.private_key_file),
            ("webhook_secret_file", &self.webhook_secret_file),
            ("token_file", &self.token_file),
        ] {
            if let Some(file) = file.as_ref().filter(|file| !file.is_absolute()) {
                bail!("[github] {key}: {} must be an absolute path", file.display());
            }
        }
        match (self.app_id.is_some(), self.private_key_file.is_some(), self.token_file.is_some()) {
            (true, true, true) => bail!("[github]: an App or a token_file, not both"),
            (true, false, _) => bail!("[github] app_id needs private_key_file"),
            (false, true, _) => bail!("[github] private_key_file needs app_id"),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// How GitHub is reached: what `[github]` names, else what `sidestage github connect` left in `state_dir`, else as
    /// nobody. None if no project lies there.
    ///
    /// # Errors
    /// One line about a file. Never what stands in it.
    pub fn connection(&self, instance: &str) -> anyhow::Result<Option<Settings>> {
        let used = self.project.iter().any(|project| project.github.is_some());
        used.then(|| self.github_settings(instance)).transpose()
    }

    /// Whether the files that `[github]` names, or `sidestage github connect` has left, can be used, with a project there or
    /// none yet.
    pub(super) fn check_github(&self) -> anyhow::Result<()> {
        let settings = self.github_settings("")?;
        match settings.access {
            Access::Nobody => Ok(()),
            _ => GitHub::new(settings).map(drop).map_err(anyhow::Error::msg),
        }
    }

    fn github_settings(&self, instance: &str) -> anyhow::Result<Settings> {
        let table = &self.github;
        let made = state_dir::github(&self.state_dir);
        let key = |id, path: &Path| {
            let key = read_lines(path).context("[github] private_key_file")?;
            anyhow::Ok(Access::App { id, key: Hidden(key) })
        };
        let (access, secret) = match (table.app_id, &table.private_key_file, &table.token_file) {
            (_, _, Some(token)) => (Access::Token(Hidden(read_password(token).context("[github] token_file")?)), None),
            (Some(id), Some(path), _) => (key(id, path)?, None),
            _ if made.app_id().exists() => {
                let text = std::fs::read_to_string(made.app_id()).context("[github]")?;
                let id = text.trim().parse().with_context(|| format!("{} holds no number", made.app_id().display()))?;
                (key(id, &made.key())?, Some(made.webhook_secret()).filter(|file| file.exists()))
            }
            _ => (Access::Nobody, None),
        };
        let webhook_secrets = match table.webhook_secret_file.clone().or(secret) {
            Some(path) => {
                let text = read_lines(&path).context("[github] webhook_secret_file")?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                let secrets: Vec<Hidden> = lines.map(|line| Hidden(line.to_owned())).collect();
                if secrets.is_empty() || secrets.len() > 2 || secrets.iter().any(|secret| secret.0.len() < 16) {
                    bail!(
                        "[github] {}: one secret of at least 16 characters, or two on two lines while they are exchanged",
                        path.display()
                    );
                }
                secrets
            }
            None => Vec::new(),
        };
        let url = table.url.trim_end_matches('/').to_owned();
        Ok(Settings { url, access, webhook_secrets, instance: instance.to_owned() })
    }
}

impl Project {
    pub(super) fn check_github(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let Some(github) = &self.github else {
            if self.git.is_none() {
                bail!("[[project]] {name}: git = \"/srv/git/{name}.git\" or github = \"owner/{name}\" is missing");
            }
            let keys = [
                ("wait_for", !self.wait_for.is_empty()),
                ("approvers", self.approvers.is_some()),
                ("bots", !self.bots.is_empty()),
                ("skip", self.skip != super::tables::Skip::default()),
                ("report", self.report != planner::policy::ReportSettings::default()),
            ];
            if let Some((key, _)) = keys.iter().find(|(_, used)| *used) {
                bail!("[[project]] {name}: {key} is for repositories on GitHub: set github, or take {key} out");
            }
            return Ok(());
        };
        if self.git.is_some() {
            bail!("[[project]] {name}: git or github, not both");
        }
        let part = |part: &str| {
            (1..=100).contains(&part.len())
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !github.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name)) {
            bail!("[[project]] {name}: github = {github:?} must be \"owner/name\"");
        }
        if self.source.submodules || self.source.lfs {
            bail!("[[project]] {name}: source: not yet: submodules and lfs are fetched from git repositories only");
        }
        self.approvers()?;
        drivers::github::globs(&self.skip.paths)
            .map_err(|why| anyhow::anyhow!("[[project]] {name}: skip.paths: {why}"))?;
        let environment = &self.report.environment;
        let fits = (1..=60).contains(&environment.len())
            && environment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            bail!("[[project]] {name}: report.environment: {environment:?} must be 1 to 60 of a-z, 0-9 and hyphens");
        }
        Ok(())
    }

    /// Who approves foreign code.
    ///
    /// # Errors
    /// One line about the key.
    pub fn approvers(&self) -> anyhow::Result<Approvers> {
        let Some(text) = &self.approvers else { return Ok(Approvers::default()) };
        text.parse().map_err(|why| anyhow::anyhow!("[[project]] {}: approvers: {why}", self.name))
    }
}
