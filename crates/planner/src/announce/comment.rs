//! The one comment of a pull request.

use std::fmt::Write as _;

use super::{Milestone, Of, Wanted, inert, milestone};
use crate::fingerprint::digest;
use crate::forge::{Content, Place};
use crate::identity::{Ref, Sha};
use crate::units::show_duration;
use crate::view::{CommitView, RefView};

/// Commits that the table shows at most.
const ROWS: usize = 8;

impl Of<'_> {
    /// None: nobody staged anything, or something is just on its way out.
    pub(super) fn comment(&self, of: &RefView, number: u64) -> Option<Wanted> {
        let told = self.told(&Place::Comment(number)).is_some_and(|row| row.shown.is_some());
        let staged = of.commits.iter().any(|commit| milestone(commit).is_staged());
        let going = of.commits.iter().any(|commit| milestone(commit) == Milestone::Going);
        if !of.open || going || !told && !staged {
            return None;
        }
        // What is under way is no reason to write again: how it ends is.
        let settled = of.commits.iter().filter_map(|commit| match milestone(commit) {
            Milestone::Unstaged | Milestone::UnderWay | Milestone::Going => None,
            Milestone::Ready => Some(format!("{} ready {}", commit.sha, commit.url)),
            other => Some(format!("{} {other:?} {}", commit.sha, commit.reason.as_deref().unwrap_or_default())),
        });
        let mut parts: Vec<String> = settled.collect();
        parts.push(of.alias_url.clone());
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let content = Content::Comment { body: self.body(of) };
        Some(Wanted { content, hash: digest(&parts, 16), last: false })
    }

    fn body(&self, of: &RefView) -> String {
        let mut body = String::new();
        let ready = of.commits.iter().find(|commit| milestone(commit) == Milestone::Ready);
        match ready {
            Some(commit) => {
                let _ = writeln!(body, "**Sidestage**: [open it]({}) as of `{}`\n", commit.url, commit.sha.short());
            }
            None => body.push_str("**Sidestage**: on its way\n\n"),
        }
        self.table(of, &mut body);
        for commit in of.commits.iter().filter(|commit| milestone(commit) == Milestone::Failed).take(1) {
            self.failure(commit, &mut body);
        }
        if let Some(head) =
            of.commits.first().filter(|head| milestone(head) == Milestone::Waiting && self.settings.forks)
        {
            let _ = writeln!(body, "\n`{}` is not staged.\n\n{}", head.sha.short(), self.waiting(of, head));
        }
        let ttl = self.policy.lifetime.ttl;
        let rule = if ttl == std::time::Duration::MAX {
            "Removed when the pull request closes".to_owned()
        } else {
            format!("Removed {} after the last visit, and when the pull request closes", days(ttl))
        };
        let alias = ready.map(|_| format!("[{0}]({0}) is always the newest commit that was ready. ", of.alias_url));
        let _ = writeln!(body, "\n<sub>{}{rule}. `/stage help` lists the commands.</sub>", alias.unwrap_or_default());
        body
    }

    fn table(&self, of: &RefView, body: &mut String) {
        body.push_str("| Commit | | State | Data | |\n| --- | --- | --- | --- | --- |\n");
        for commit in of.commits.iter().take(ROWS) {
            let is = milestone(commit);
            let state = match is {
                Milestone::Ready => format!("[ready]({})", commit.url),
                Milestone::UnderWay => "on its way".to_owned(),
                Milestone::Waiting => "waits for a maintainer".to_owned(),
                Milestone::Blocked | Milestone::Gone => {
                    let why = commit.reason.as_deref().map(|why| format!(": {}", inert::text(why))).unwrap_or_default();
                    format!("{}{why}", commit.state.as_str())
                }
                _ => commit.state.as_str().to_owned(),
            };
            let logs = is.is_staged().then(|| self.page(&commit.sha)).flatten();
            let logs = logs.map(|page| format!("[logs]({page})")).unwrap_or_default();
            let data = if is.is_staged() { self.data(commit) } else { String::new() };
            let (sha, subject) = (commit.sha.short(), inert::text(&commit.subject));
            let _ = writeln!(body, "| `{sha}` | {subject} | {state} | {data} | {logs} |");
        }
        if of.commits.len() > ROWS {
            let _ = writeln!(body, "\nand {} older ones", of.commits.len() - ROWS);
        }
    }

    /// Where the data came from, who let it run, and who asked for it.
    fn data(&self, commit: &CommitView) -> String {
        let from = commit.data.as_ref().map(|data| data.from.clone());
        let approval = self.facts.approvals.get(&(self.project.clone(), commit.sha));
        let approval = approval.filter(|_| commit.trust.is_foreign()).map(|approval| &approval.by);
        let row = self.facts.envs.get(&commit.env).filter(|row| row.asked.is_some_and(|asked| asked.person));
        let asked = row.and_then(|row| row.by.as_ref()).filter(|by| Some(*by) != approval);
        let approval = approval.map(|by| format!("approved by {by}"));
        let asked = asked.map(|by| format!("asked for by {by}"));
        let all: Vec<String> = from.into_iter().chain(approval).chain(asked).collect();
        inert::text(&all.join(", "))
    }

    fn failure(&self, commit: &CommitView, body: &mut String) {
        let reason = commit.reason.as_deref().unwrap_or_default();
        // Reasons are one line; what a step said last stands in it between bars.
        let lines = reason.replace(" | ", "\n");
        let _ = writeln!(body, "\n`{}` failed:\n\n{}", commit.sha.short(), inert::block(&lines));
    }

    /// What a commit from outside waits for: nothing of the contributor, one step of a maintainer.
    pub(super) fn waiting(&self, of: &RefView, head: &CommitView) -> String {
        let mut text = String::from(
            "It comes from outside the project, so a maintainer decides about exactly this commit. \
             There is nothing to do for the contributor.\n\n",
        );
        let page = self.page(&head.sha).map(|page| format!("[Review and stage]({page}), or comment "));
        let page = page.unwrap_or_else(|| "Comment ".to_owned());
        let _ = writeln!(text, "Maintainers: {page}this line:\n\n```text\n/stage approve {}\n```", head.sha);
        if let Some(link) = self.compare(&of.name, &head.sha) {
            let _ = writeln!(text, "\n[What changed since the last approval]({link})");
        }
        text
    }

    /// From the commit that was approved last in this pull request.
    fn compare(&self, of: &Ref, head: &Sha) -> Option<String> {
        let approvals = self.facts.approvals.values().filter(|approval| {
            approval.project == *self.project && approval.refs.contains(of) && approval.sha != *head
        });
        let last = approvals.max_by_key(|approval| approval.sequence)?;
        let pull = self.facts.refs.get(&(self.project.clone(), of.clone()))?.pull.as_ref()?;
        let (repository, _) = pull.url.split_once("/pull/")?;
        Some(format!("{repository}/compare/{}...{head}", last.sha))
    }
}

/// `5 days` rather than `5d`, where it is whole days.
fn days(duration: std::time::Duration) -> String {
    let day = 24 * 3600;
    match (duration.as_secs() / day, duration.as_secs() % day) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => show_duration(duration),
    }
}
