//! What people asked for: judged, written down as facts, answered in one line. Refusals are written down too.

mod baselines;
mod comment;
mod secrets;

use std::time::Duration;

pub(crate) use comment::said;

use serde::Serialize;

use crate::command::{Actor, Command, Role, authorize};
use crate::decide::Eyes;
use crate::facts::{Again, Approval, Asked, Condemned, EnvRow, Facts, RefRow, Sent};
use crate::identity::{EnvId, ProjectName, Sha, Time, Trust};
use crate::ledger::Ledger;
use crate::policy::{Policy, StageMode};
use crate::report::never;
use crate::resource::{Inventory, Kind, Owner, Reason, ResourceId};
use crate::spec::Origin;
use crate::standing::Standing;

/// An approval must be used within this time.
const APPROVAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// One line of the audit log.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    at: Time,
    actor: &'a str,
    role: Role,
    verb: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    project: Option<&'a ProjectName>,
    sha: Option<&'a Sha>,
    decision: &'a str,
}

/// What is known of the commit that a command is about.
struct Subject {
    of: Origin,
    id: EnvId,
    row: EnvRow,
    /// Some open ref has it.
    open: bool,
    /// A pull request from outside has it.
    foreign: bool,
    /// The branch or tag that a person asked for has left it: in words.
    left: Option<String>,
}

/// What a command is judged by, and what it changes.
pub(crate) struct Desk<'a> {
    pub(crate) facts: &'a mut Facts,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) policy: &'a Policy,
    pub(crate) inventory: &'a Inventory,
    pub(crate) now: Time,
}

/// Judges a command and writes down what it asks for.
///
/// # Errors
/// One line for the person: why not, and what to do.
pub(crate) fn ask(mut desk: Desk<'_>, actor: &Actor, command: &Command) -> Result<String, String> {
    let answer = judge(&mut desk, actor, command);
    let (project, sha) = (command.project(), command.commit().map(|(_, sha)| sha));
    let decision = match &answer {
        Ok(_) => "done".to_owned(),
        Err(why) => format!("refused: {why}"),
    };
    let (at, actor, role, verb) = (desk.now, actor.name.as_str(), actor.role, command.verb());
    let what = command.detail();
    desk.facts.audit(&Entry { at, actor, role, verb, what, project, sha, decision: &decision });
    answer
}

fn judge(desk: &mut Desk<'_>, actor: &Actor, command: &Command) -> Result<String, String> {
    let Some((project, sha)) = command.commit() else {
        authorize(actor, command, Trust::Untrusted)?;
        return match command {
            Command::SetSecret(place) => secrets::set(desk, place),
            Command::RemoveSecret(place) => secrets::remove(desk, place),
            Command::Baseline { name, act } => baselines::act(desk, actor, name, act),
            Command::Reload => Ok("the configuration is read anew".to_owned()),
            _ => Ok(gc(desk, matches!(command, Command::Gc { confirm: true }))),
        };
    };
    let subject = subject(desk.facts, desk.policy, desk.now, project, sha)?;
    authorize(actor, command, subject.of.trust)?;
    if let Command::Reset { baseline: Some(wanted), .. } = command {
        baselines::choosable(desk, &subject.of, wanted)?;
    }
    let now = desk.now;
    let asking = Asking { facts: desk.facts, ledger: desk.ledger, policy: desk.policy, now, subject };
    match command {
        Command::Stage { .. } => asking.stage(actor, None),
        Command::Reset { baseline, .. } => {
            asking.stage(actor, Some(Again { at: now, rebuild: false, baseline: baseline.clone() }))
        }
        Command::Rebuild { .. } => asking.stage(actor, Some(Again { at: now, rebuild: true, baseline: None })),
        Command::Approve { .. } => asking.approve(actor),
        Command::Revoke { .. } => asking.revoke(),
        Command::Remove { .. } => asking.remove(),
        Command::Extend { by, .. } => asking.of_live(|row, now| {
            row.extended = Some(row.extended.unwrap_or_default().max(now.after(*by)));
            format!("lives at least {} longer", crate::units::show_duration(*by))
        }),
        Command::Pin { .. } => asking.of_live(|row, _| {
            row.pinned = true;
            "pinned: kept until unpinned".to_owned()
        }),
        Command::Unpin { .. } => asking.of_live(|row, _| {
            row.pinned = false;
            "unpinned".to_owned()
        }),
        Command::Sleep { .. } => asking.of_live(|row, now| {
            row.slept = Some(now);
            "asleep until the next visit".to_owned()
        }),
        Command::Wake { .. } => asking.of_live(|row, now| {
            visit(row, now);
            "waking".to_owned()
        }),
        Command::Run { .. } | Command::Psql { .. } | Command::Dump { .. } => asking.of_live(|row, now| {
            visit(row, now);
            "welcome inside".to_owned()
        }),
        Command::Announce { .. } => Ok(asking.announce()),
        Command::SetSecret(_)
        | Command::RemoveSecret(_)
        | Command::Baseline { .. }
        | Command::Reload
        | Command::Gc { .. } => {
            unreachable!("they are about no commit")
        }
    }
}

fn subject(facts: &Facts, policy: &Policy, now: Time, project: &ProjectName, sha: &Sha) -> Result<Subject, String> {
    let standing = Standing::new(facts, policy, now);
    let commit = standing.commit(project, sha).ok_or_else(|| {
        format!("{project} knows no pull request, branch or tag with the commit {sha}; push it first")
    })?;
    let mut trust = standing.trust(commit);
    if trust == Trust::Untrusted && commit.is_own() {
        trust = Trust::Trusted;
    }
    // What lives on for a while at another trust is still what the person sees.
    let lives = |trust| standing.row(commit, trust).is_some_and(EnvRow::is_live);
    if !lives(trust) && commit.open.is_empty() {
        trust = [Trust::Trusted, Trust::Approved].into_iter().find(|trust| lives(*trust)).unwrap_or(trust);
    }
    let of = Origin { project: project.clone(), sha: *sha, trust };
    let row = standing.row(commit, trust).cloned().unwrap_or_else(|| EnvRow::new(of.clone()));
    let foreign = commit.open.iter().any(|(of, _)| of.foreign);
    let left = commit.left_by().map(RefRow::whereabouts).filter(|_| trust == Trust::Trusted);
    Ok(Subject { id: commit.ids.at(trust).clone(), of, row, open: !commit.open.is_empty(), foreign, left })
}

/// A visit now.
fn visit(row: &mut EnvRow, now: Time) {
    (row.visited, row.stored, row.slept) = (Some(now), Some(now), None);
}

struct Asking<'a> {
    facts: &'a mut Facts,
    ledger: &'a mut Ledger,
    policy: &'a Policy,
    now: Time,
    subject: Subject,
}

impl Asking<'_> {
    fn stage(mut self, actor: &Actor, again: Option<Again>) -> Result<String, String> {
        self.may_stage()?;
        if let Some(left) = self.subject.left.as_ref().filter(|_| again.is_some() || !self.subject.row.is_live()) {
            return Err(format!("{left}; stage what it points to"));
        }
        let Origin { project, sha, trust } = self.subject.of.clone();
        if trust == Trust::Untrusted {
            return Err(if self.policy.projects.get(&project).is_some_and(|project| project.forks) {
                format!(
                    "{} comes from outside; a maintainer approves it with `sidestage approve {project} {sha}`",
                    sha.short()
                )
            } else {
                format!("{} comes from outside, and {}", sha.short(), never(&project))
            });
        }
        self.want(actor, again.clone());
        Ok(match (again, self.subject.row.is_live()) {
            (Some(Again { rebuild: true, .. }), _) => "rebuilding".to_owned(),
            (Some(_), true) => "the next generation begins, with new data".to_owned(),
            (None, true) => "staged already".to_owned(),
            _ => format!("{} is being staged", sha.short()),
        })
    }

    fn may_stage(&self) -> Result<(), String> {
        let project = &self.subject.of.project;
        let settings = self.policy.projects.get(project);
        let settings = settings.filter(|_| !self.facts.taken_out.contains(project));
        let settings = settings.ok_or_else(|| format!("{project} is not in the configuration"))?;
        if settings.stage == StageMode::Off {
            return Err(format!("`stage` of {project} is \"off\" in the configuration"));
        }
        if !self.subject.open {
            return Err(format!("no open pull request, branch or tag of {project} has {}", self.subject.of.sha));
        }
        Ok(())
    }

    /// Wanted from now on; what failed is tried afresh. Of what lives and has not failed it is a visit.
    fn want(&mut self, actor: &Actor, again: Option<Again>) {
        let sequence = self.facts.next_sequence();
        let (now, row) = (self.now, &mut self.subject.row);
        (row.asked, row.by) = (Some(Asked { sequence, at: now, person: true }), Some(actor.name.clone()));
        row.again = again.or_else(|| row.again.take());
        if row.is_live() {
            visit(row, now);
        }
        self.facts.put_env(row.clone());
        self.forget_failures();
    }

    fn forget_failures(&mut self) {
        let Subject { id, of, .. } = &self.subject;
        self.ledger.reads.remove(&(of.project.clone(), of.sha));
        let shared = Owner::Project(of.project.clone(), of.trust);
        let tree = self.facts.sources.get(&(of.project.clone(), of.sha)).map(|source| source.tree.to_string());
        self.ledger.forget_failures(|failed| {
            let own = failed.owner == Owner::Env(id.clone());
            let image =
                failed.owner == shared && tree.as_ref().is_some_and(|tree| failed.name.starts_with(&tree[..12]));
            !own && !image
        });
    }

    /// What waits for an image by CI looks at once, and its time begins anew.
    fn announce(self) -> String {
        let owner = Owner::Env(self.subject.id.clone());
        let image = |id: &ResourceId| id.owner == owner && id.kind == Kind::Image;
        let waits = self.ledger.failures().any(|failed| image(&failed.id));
        self.ledger.forget_failures(|failed| !image(failed));
        let sha = self.subject.of.sha.short();
        if waits { format!("looking for the image of {sha}") } else { format!("nothing waits for an image of {sha}") }
    }

    fn approve(mut self, actor: &Actor) -> Result<String, String> {
        if !self.subject.foreign {
            return self.stage(actor, None).map(|answer| format!("the project's own code needs no approval; {answer}"));
        }
        self.may_stage()?;
        let Origin { project, sha, .. } = self.subject.of.clone();
        if !self.policy.projects.get(&project).is_some_and(|project| project.forks) {
            return Err(never(&project));
        }
        let sequence = self.facts.next_sequence();
        let refs = self.facts.refs.values().filter(|row| {
            row.project == project && row.is_open() && row.commits.iter().any(|listed| listed.sha == sha)
        });
        let approval = Approval {
            project: project.clone(),
            sha,
            sequence,
            refs: refs.map(|row| row.name.clone()).collect(),
            by: actor.name.clone(),
            role: actor.role,
            at: self.now,
            until: self.now.after(APPROVAL),
            used: None,
            revoked: None,
        };
        self.facts.put_approval(approval);
        self.subject = subject(self.facts, self.policy, self.now, &project, &sha)?;
        self.want(actor, None);
        Ok(format!("{} is approved; staging", sha.short()))
    }

    fn revoke(self) -> Result<String, String> {
        let Origin { project, sha, .. } = &self.subject.of;
        let approval = self.facts.approvals.get(&(project.clone(), *sha)).filter(|approval| approval.revoked.is_none());
        let mut approval = approval.cloned().ok_or_else(|| format!("{} is not approved", sha.short()))?;
        approval.revoked = Some(self.now);
        self.facts.put_approval(approval);
        let id = self.facts.know(project, sha).at(Trust::Approved).clone();
        let sequence = self.facts.next_sequence();
        if let Some(mut row) = self.facts.envs.get(&id).filter(|row| row.gone.is_none()).cloned() {
            row.sent = Some(Sent { reason: Reason::Revoked, sequence });
            self.facts.put_env(row);
        }
        Ok(format!("the approval of {} is revoked", sha.short()))
    }

    fn remove(mut self) -> Result<String, String> {
        let row = &mut self.subject.row;
        let queued = row.asked.is_some() || self.subject.open;
        if row.gone.is_some() && row.asked.is_none() || !row.is_live() && !queued {
            return Err(format!("{} has no environment", self.subject.of.sha.short()));
        }
        let sent = Some(Sent { reason: Reason::Person, sequence: self.facts.next_sequence() });
        row.sent = sent;
        self.facts.put_env(row.clone());
        // The commit is what the person removed: nothing comes up in its place at another trust.
        let Origin { project, sha, .. } = self.subject.of.clone();
        let approved = self.facts.approvals.contains_key(&(project.clone(), sha));
        for trust in [Trust::Trusted, Trust::Approved] {
            let id = self.facts.know(&project, &sha).at(trust).clone();
            let new = || EnvRow::new(Origin { project: project.clone(), sha, trust });
            let known = self.facts.envs.get(&id).cloned();
            let known = known.or_else(|| (approved && trust == Trust::Approved).then(new));
            if let Some(other) = known.filter(|_| id != self.subject.id) {
                self.facts.put_env(EnvRow { sent, ..other });
            }
        }
        Ok("removing".to_owned())
    }

    fn of_live(mut self, change: impl FnOnce(&mut EnvRow, Time) -> String) -> Result<String, String> {
        if !self.subject.row.is_live() {
            return Err(format!("{} has no environment; stage it first", self.subject.of.sha.short()));
        }
        let answer = change(&mut self.subject.row, self.now);
        self.facts.put_env(self.subject.row);
        Ok(answer)
    }
}

/// Removes orphans now, and with `confirm` what the guard holds.
fn gc(desk: &mut Desk<'_>, confirm: bool) -> String {
    let Desk { facts, ledger, now, .. } = desk;
    let orphans: Vec<Owner> =
        ledger.orphans.keys().filter(|owner| !facts.condemned.contains_key(*owner)).cloned().collect();
    let live = facts.envs.values().filter(|row| row.is_live()).count();
    let held_back = !confirm && Eyes::is_too_many(orphans.len(), live + ledger.orphans.len());
    let count = orphans.len();
    if held_back {
        return format!("{count} orphans are more than half of what there is; `sidestage gc --confirm` removes them");
    }
    orphans.into_iter().for_each(|owner| facts.condemn(Condemned { owner, at: *now }));
    let held: Vec<EnvRow> = facts.envs.values().filter(|row| row.held.is_some()).cloned().collect();
    if !confirm {
        let hint = if held.is_empty() {
            String::new()
        } else {
            format!("; {} removals are held, `sidestage gc --confirm` lets them happen", held.len())
        };
        return format!("{count} orphans go{hint}");
    }
    let released = held.len();
    for mut row in held {
        row.let_go = true;
        facts.put_env(row);
    }
    format!("{count} orphans go, and {released} held removals happen")
}
