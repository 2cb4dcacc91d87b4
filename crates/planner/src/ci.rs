//! What commits wait for: statuses and check runs of CI.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::facts::{EnvRow, Facts};
use crate::forge::{Check, Checks};
use crate::identity::{ProjectName, Sha, Time, Trust};
use crate::resource::Failure;
use crate::standing::{Commit, Standing};

/// As long as nobody tells of a change, CI is asked this often.
const EVERY: Duration = Duration::from_secs(60);
/// An answer that did not come by then is lost.
const LOST: Duration = Duration::from_secs(120);

/// Why a commit does not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// It will not come by waiting: something is red.
    pub red: bool,
    /// One line.
    pub why: String,
}

/// When CI is asked again about what is waited for.
#[derive(Debug, Default)]
pub(crate) struct Asking(BTreeMap<(ProjectName, Sha), Time>);

impl Asking {
    /// Commits to ask about now, and when to look again.
    pub(crate) fn due(&mut self, standing: &Standing<'_>, now: Time) -> (Vec<(ProjectName, Sha)>, Option<Time>) {
        let waiting: BTreeSet<(ProjectName, Sha)> = standing
            .commits()
            .filter(|commit| standing.waits(commit))
            .map(|commit| (commit.project.clone(), commit.sha))
            .collect();
        self.0.retain(|key, _| waiting.contains(key));
        let due = waiting.into_iter().filter(|key| {
            let next = self.0.entry(key.clone()).or_default();
            let due = *next <= now;
            if due {
                *next = now.after(LOST);
            }
            due
        });
        let due = due.collect();
        (due, self.0.values().min().copied())
    }

    /// The project was looked at: something may have changed.
    pub(crate) fn look(&mut self, project: &ProjectName) {
        self.0.iter_mut().filter(|((of, _), _)| of == project).for_each(|(_, next)| *next = Time(0));
    }

    /// An answer came.
    pub(crate) fn answered(
        &mut self,
        facts: &mut Facts,
        key: (ProjectName, Sha),
        checks: Result<Checks, Failure>,
        now: Time,
    ) {
        if let Some(next) = self.0.get_mut(&key) {
            *next = now.after(EVERY);
        }
        // What was said last holds while nobody answers.
        if let Ok(checks) = checks {
            facts.put_checks(key, checks);
        }
    }
}

impl<'a> Standing<'a> {
    /// Somebody wants it, and CI has not let it yet.
    fn waits(&self, commit: &Commit<'a>) -> bool {
        let trust = self.trust(commit);
        let live = self.row(commit, trust).is_some_and(EnvRow::is_live);
        let wanted = trust != Trust::Untrusted && !commit.open.is_empty() && self.claim(commit, trust).is_some();
        wanted && !live && self.ci(commit).is_some()
    }

    /// What the commit waits for before anything of it begins; none if nothing.
    #[must_use]
    pub fn ci(&self, commit: &Commit<'a>) -> Option<Waiting> {
        let names = &self.policy.projects.get(commit.project)?.forge.wait_for;
        if names.is_empty() {
            return None;
        }
        let Some(checks) = self.facts.checks.get(&(commit.project.clone(), commit.sha)) else {
            return Some(Waiting { red: false, why: format!("waiting for {}", names.join(", ")) });
        };
        let of = |wanted: Option<Check>| names.iter().filter(move |name| checks.get(*name).copied() == wanted);
        if let Some(name) = of(Some(Check::Red)).next() {
            return Some(Waiting { red: true, why: format!("{name} has failed: it is staged once that is green") });
        }
        let missing: Vec<&str> = of(None).chain(of(Some(Check::Pending))).map(String::as_str).collect();
        let awaited = of(Some(Check::Awaiting)).next().is_some()
            || of(None).next().is_some() && checks.values().any(|check| *check == Check::Awaiting);
        if awaited {
            let why = "waiting for CI that itself awaits approval: let its workflows run on the pull request's page";
            return Some(Waiting { red: false, why: why.to_owned() });
        }
        (!missing.is_empty()).then(|| Waiting { red: false, why: format!("waiting for {}", missing.join(", ")) })
    }
}
