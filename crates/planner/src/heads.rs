//! What a forge said about a project's refs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::Head;
use crate::facts::{EnvRow, Facts, Listed, RefRow};
use crate::identity::{ProjectName, Ref, Sha, Time, Trust};
use crate::policy::{ForgeSettings, Policy, StageMode};
use crate::standing::SKIP;

/// So long after it was found a branch or tag that a person asked for may be missing in listings that began before.
const FOUND: Duration = Duration::from_secs(5 * 60);

/// Commits kept in the list of a ref beyond those that live.
const LIST: usize = 30;

/// Takes over a complete listing of the open refs of a project.
///
/// At first sight of a project its heads are known, and nothing is staged; a head that appears or changes later is a
/// push, and stages itself if the project says so. A ref that is not listed any more is closed.
pub(crate) fn heads(facts: &mut Facts, policy: &Policy, project: &ProjectName, heads: Vec<Head>, now: Time) {
    let Some(settings) = policy.projects.get(project).filter(|_| !facts.taken_out.contains(project)) else { return };
    let calm = !facts.listed.contains(project);
    let automatic = settings.stage == StageMode::Automatic && !calm;
    let filters = settings.forge.clone();
    let mut heads: BTreeMap<Ref, Head> = heads.into_iter().map(|head| (head.name.clone(), head)).collect();
    let known: Vec<RefRow> = facts.refs.values().filter(|row| row.project == *project).cloned().collect();
    let mut closing = Vec::new();
    for row in known {
        match heads.remove(&row.name) {
            Some(head) => {
                let automatic = automatic && row.requested.is_none();
                let skipped = skipped(&filters, &head);
                // What a filter held back stages itself when it does no more: a draft that is ready.
                let lifted = row.skipped.is_some() && skipped.is_none() && automatic && row.is_open();
                let key = (row.project.clone(), row.name.clone());
                seen_again(
                    facts,
                    RefRow { skipped: skipped.clone(), ..row },
                    head,
                    automatic && skipped.is_none(),
                    now,
                );
                if lifted {
                    lift(facts, &key, now);
                }
            }
            None if is_needed(facts, &row, now) => {
                let vanished = row.requested.is_none_or(|found| now >= found.after(FOUND));
                facts.put_ref(RefRow { vanished, ..row });
            }
            None if row.is_open() => closing.push(row),
            None => {}
        }
    }
    for head in heads.into_values() {
        // A new ref on a commit that was known is no push of that commit.
        let automatic = automatic && !facts.ids.contains_key(&(project.clone(), head.sha));
        let skipped = skipped(&filters, &head);
        seen_first(facts, project, head, automatic && skipped.is_none(), skipped, now);
    }
    // Last, since a commit that another ref has taken over is not forgotten.
    closing.into_iter().for_each(|row| close(facts, row, now));
    facts.put_listed(project);
}

/// Takes up a branch or tag that nobody watches, since a person asked for it.
pub(crate) fn found(facts: &mut Facts, project: &ProjectName, head: Head, now: Time) {
    if !facts.projects.contains_key(project) || facts.taken_out.contains(project) {
        return;
    }
    let key = (project.clone(), head.name.clone());
    let watched = facts.refs.get(&key).is_some_and(|row| row.is_open() && row.requested.is_none());
    match facts.refs.get(&key).cloned() {
        Some(row) => seen_again(facts, row, head, false, now),
        None => seen_first(facts, project, head, false, None, now),
    }
    if let Some(row) = facts.refs.get(&key).filter(|_| !watched).cloned() {
        facts.put_ref(RefRow { requested: Some(now), ..row });
    }
}

/// Whether an open ref that a person asked for is still needed: something of it lives or is to live, or it was found just now.
pub(crate) fn is_needed(facts: &Facts, row: &RefRow, now: Time) -> bool {
    let Some(found) = row.requested.filter(|_| row.is_open()) else { return false };
    // Asked for again after it went, it waits for its place like any other.
    let later = |env: &EnvRow, sequence| env.gone.is_none_or(|gone| gone.sequence < sequence);
    let asks = |env: &EnvRow| env.asked.is_some_and(|asked| asked.person && later(env, asked.sequence));
    let wished = |env: &EnvRow| env.is_live() || asks(env);
    let head = row.head().map(|head| head.sha);
    let needed = |listed: &Listed| {
        let rows = envs(facts, &row.project, &listed.sha);
        rows.iter().any(|env| env.is_live() || Some(listed.sha) == head && wished(env))
    };
    now < found.after(FOUND) || row.commits.iter().any(needed)
}

/// Of a project that was taken out of the configuration, once nothing of it lives: its refs close, and if it comes back
/// its first sight is as calm as the first one was.
pub(crate) fn leave(facts: &mut Facts, now: Time) {
    for project in facts.taken_out.clone() {
        if facts.envs.values().any(|row| row.of.project == project && row.is_live()) {
            continue;
        }
        let open = facts.refs.values().filter(|row| row.project == project && row.is_open()).cloned();
        open.collect::<Vec<_>>().into_iter().for_each(|row| close(facts, row, now));
        facts.drop_listed(&project);
    }
}

/// The head asks for itself from now on, as if it had been pushed now.
fn lift(facts: &mut Facts, key: &(ProjectName, Ref), now: Time) {
    let Some(mut row) = facts.refs.get(key).cloned() else { return };
    let sequence = facts.next_sequence();
    if let Some(head) = row.commits.last_mut() {
        (head.automatic, head.sequence, head.at) = (true, sequence, now);
    }
    facts.put_ref(row);
}

/// Why a filter of the operator's, or the author, keeps a pull request from staging itself. People stage it all the same.
fn skipped(filters: &ForgeSettings, head: &Head) -> Option<String> {
    if head.title.contains(SKIP) {
        return Some(format!("its title says {SKIP}"));
    }
    let pull = head.pull.as_ref()?;
    let label = pull.labels.iter().find(|label| filters.skip_labels.contains(*label));
    match label {
        _ if pull.draft && filters.skip_drafts => Some("it is a draft".to_owned()),
        _ if pull.bot && filters.skip_bots => Some("a bot opened it".to_owned()),
        Some(label) => Some(format!("it has the label {label}")),
        None if pull.skipped_paths => Some("it changes only files that `skip.paths` names".to_owned()),
        None => None,
    }
}

fn seen_first(
    facts: &mut Facts,
    project: &ProjectName,
    head: Head,
    automatic: bool,
    skipped: Option<String>,
    now: Time,
) {
    let first = facts.next_sequence();
    facts.put_ref(RefRow {
        project: project.clone(),
        name: head.name,
        first,
        closed: None,
        foreign: head.foreign,
        title: head.title,
        commits: vec![Listed { sha: head.sha, sequence: first, at: now, automatic }],
        requested: None,
        vanished: false,
        skipped,
        pull: head.pull,
    });
}

fn seen_again(facts: &mut Facts, mut row: RefRow, head: Head, automatic: bool, now: Time) {
    let reopened = !row.is_open();
    (row.closed, row.foreign, row.title, row.vanished) = (None, head.foreign, head.title, false);
    row.pull = head.pull.or(row.pull);
    if reopened {
        row.requested = None;
        // All but the head is forgotten, except what the guard has kept: its reason is gone.
        let last = row.head().map(|head| head.sha);
        let trust = if row.foreign { Trust::Approved } else { Trust::Trusted };
        let kept = |sha: &Sha| {
            let rows = envs(facts, &row.project, sha);
            rows.iter().any(|env| env.of.trust == trust && env.is_live() && env.held.is_some())
        };
        let kept: Vec<Sha> = row.commits.iter().map(|listed| listed.sha).filter(kept).collect();
        row.commits.retain(|listed| Some(listed.sha) == last || kept.contains(&listed.sha));
        row.commits.iter_mut().for_each(|listed| listed.automatic = false);
    }
    if reopened || row.head().is_none_or(|listed| listed.sha != head.sha) {
        // Pushing an old commit again makes it the newest again.
        row.commits.retain(|listed| listed.sha != head.sha);
        row.commits.push(Listed { sha: head.sha, sequence: facts.next_sequence(), at: now, automatic });
        let spare = row.commits.len().saturating_sub(LIST);
        let mut place = 0;
        row.commits.retain(|listed| {
            place += 1;
            place > spare || lives(facts, &row.project, &listed.sha)
        });
    }
    facts.put_ref(row);
}

/// A ref that closes forgets that its commits were asked for; those that live go by the rules, with their reason.
fn close(facts: &mut Facts, mut row: RefRow, now: Time) {
    row.closed = Some(now);
    for listed in &row.commits {
        let elsewhere = facts.refs.values().any(|other| {
            let other_ref = other.project == row.project && other.name != row.name && other.is_open();
            other_ref && other.commits.iter().any(|other| other.sha == listed.sha)
        });
        for mut env in envs(facts, &row.project, &listed.sha) {
            if !elsewhere && !env.is_live() {
                (env.asked, env.admitted) = (None, None);
                facts.put_env(env);
            }
        }
    }
    facts.put_ref(row);
}

fn envs(facts: &Facts, project: &ProjectName, sha: &Sha) -> Vec<EnvRow> {
    let ids = facts.ids.get(&(project.clone(), *sha));
    let rows =
        ids.into_iter().flat_map(|ids| [Trust::Trusted, Trust::Approved].map(|trust| facts.envs.get(ids.at(trust))));
    rows.flatten().cloned().collect()
}

fn lives(facts: &Facts, project: &ProjectName, sha: &Sha) -> bool {
    envs(facts, project, sha).iter().any(EnvRow::is_live)
}
