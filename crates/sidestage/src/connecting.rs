//! Connecting GitHub, and looking whether a connection lacks anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use console::ConnectForm;
use data_encoding::HEXLOWER;
use drivers::github::connect;

use crate::config::Config;
use crate::state_dir;

/// GitHub's codes are good for an hour, so are our own.
const GOOD: Duration = Duration::from_secs(3600);

/// Forms that were shown and did not come back yet: whoever comes back with another state did not begin here.
#[derive(Debug, Clone, Default)]
pub struct Connecting(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Connecting {
    /// What is sent to GitHub, in both forms.
    ///
    /// # Errors
    /// One line: the organisation is none.
    pub fn begin(&self, config: &Config, organisation: Option<&str>) -> Result<ConnectForm, String> {
        let plain = |org: &&str| org.len() <= 100 && org.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if let Some(org) = organisation.filter(|org| !plain(org)) {
            return Err(format!("{org:?} is no organisation's name"));
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| format!("no randomness from the system: {error}"))?;
        let state = HEXLOWER.encode(&random);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, since| since.elapsed() < GOOD);
        open.insert(state.clone(), Instant::now());
        // Names of Apps are unique among all of GitHub's, and have at most 34 characters.
        let name: String = format!("Sidestage {}", config.domain).chars().take(34).collect();
        let team = config
            .project
            .iter()
            .any(|project| project.approvers.as_ref().is_some_and(|approvers| approvers.starts_with("team:")));
        let manifest =
            |merge| connect::manifest(&name, &config.console_url(), &config.github.url, merge, team).to_string();
        Ok(ConnectForm {
            url: connect::form_url(&config.github.url, organisation, &state),
            without_merge: manifest(false),
            with_merge: manifest(true),
        })
    }

    /// Takes the App that GitHub made and keeps it in `state_dir`. Returns where it is installed.
    ///
    /// # Errors
    /// One line: nobody began this here, GitHub's refusal, or a file that cannot be written.
    pub async fn finish(&self, config: &Config, code: &str, state: &str) -> Result<String, String> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(state);
        if begun.is_none_or(|since| since.elapsed() >= GOOD) {
            return Err("this was not begun here, or more than an hour ago: open /github/connect again".to_owned());
        }
        let table = &config.github;
        if table.app_id.is_some() || table.token_file.is_some() {
            return Err("[github] names an App or a token already: take that out first".to_owned());
        }
        let made = connect::exchange(&table.url, code).await.map_err(|failure| failure.to_string())?;
        state_dir::github(&config.state_dir).keep(&made).map_err(|error| format!("{error:#}"))?;
        Ok(format!("{}/installations/new", made.page))
    }
}
