//! The view, put together.

use std::cmp::Reverse;

use super::{Report, Status};
use crate::blueprint::{Blueprint, WEB};
use crate::facts::{EnvRow, Listed, RefRow};
use crate::identity::{ProjectName, Trust};
use crate::injected::note;
use crate::manifest::Manifest;
use crate::plan::backend_name;
use crate::resource::Kind;
use crate::secrets;
use crate::spec::Spec;
use crate::standing::Commit;
use crate::view::{CommitView, ProjectView, RefView, View};
use crate::{hosts, sleep};

impl<'a> Report<'_, 'a> {
    /// Everything that is shown.
    #[must_use]
    pub fn view(&self) -> View {
        let policy = self.eyes.standing.policy;
        View {
            at: self.eyes.standing.now,
            domain: policy.authority(&policy.domain),
            projects: policy
                .projects
                .keys()
                .map(|project| self.project(project))
                .filter(|one| self.is_shown(one))
                .collect(),
            places: (self.eyes.holders().len(), policy.limits.environments),
            baselines: self.baselines(),
            warnings: self.warnings(),
        }
    }

    /// A project that was taken out of the configuration is shown as long as there is something to show.
    fn is_shown(&self, project: &ProjectView) -> bool {
        !project.refs.is_empty() || !self.eyes.standing.facts.taken_out.contains(&project.name)
    }

    fn project(&self, project: &ProjectName) -> ProjectView {
        let standing = &self.eyes.standing;
        let labels = standing.labels(project);
        let mut refs: Vec<&RefRow> = standing.facts.refs.values().filter(|row| row.project == *project).collect();
        refs.sort_by_key(|row| (!row.is_open(), Reverse(row.head().map_or(0, |head| head.sequence))));
        let suffix = policy_suffix(self, project);
        let refs = refs.into_iter().filter_map(|of| {
            let commits: Vec<CommitView> = of
                .commits
                .iter()
                .rev()
                .filter_map(|listed| Some(self.commit(of, listed, standing.commit(project, &listed.sha)?)))
                .filter(|commit| of.is_open() || commit.generation > 0 && !is_over(commit))
                .collect();
            let label = labels.get(&of.name)?;
            let alias_url = standing.policy.url(&hosts::alias(label, suffix, &standing.policy.domain));
            let shown = of.is_open() || !commits.is_empty();
            shown.then(|| RefView {
                name: of.name.clone(),
                open: of.is_open(),
                title: of.title.clone(),
                foreign: of.foreign,
                alias_url,
                commits,
            })
        });
        ProjectView { name: project.clone(), refs: refs.collect() }
    }

    fn commit(&self, of: &RefRow, listed: &Listed, commit: &Commit<'a>) -> CommitView {
        let standing = &self.eyes.standing;
        let Status { env, trust, row, state, reason, since } = self.status(commit);
        let source = standing.facts.sources.get(&(of.project.clone(), listed.sha));
        let policy = standing.policy;
        let host = hosts::canonical(&listed.sha, policy_suffix(self, &of.project), &policy.domain);
        let live = row.filter(|row| row.is_live());
        let begun = row.and_then(|row| row.begun.as_ref());
        let generation = begun.map(|begun| begun.generation);
        let shown = live.and_then(|row| row.serving().or(row.coming()));
        let blueprint = shown.and_then(|generation| self.eyes.blueprints.get(env, generation).ok());
        let parts = blueprint.into_iter().flat_map(|blueprint| &blueprint.parts);
        let processes = parts.filter(|part| matches!(part.id.kind, Kind::Container | Kind::Job));
        let mut logs: Vec<String> = live.map(|_| "build".to_owned()).into_iter().collect();
        logs.extend(blueprint.into_iter().flat_map(Blueprint::builds_of_apps).map(|app| format!("build-{app}")));
        logs.extend(processes.map(|part| part.id.name.clone()));
        let manifest = source.and_then(|source| source.manifest.as_deref().ok());
        let links = manifest.into_iter().flat_map(|manifest| {
            let key = &standing.facts.key;
            manifest.links.iter().map(|link| (link.name.clone(), link.path.clone(), note(key, env, manifest, link)))
        });
        let apps = manifest.into_iter().flat_map(|manifest| manifest.apps.keys());
        let apps = apps.map(|app| {
            let suffix = policy_suffix(self, &of.project);
            (app.clone(), policy.url(&hosts::app(&listed.sha, app, suffix, &policy.domain)))
        });
        CommitView {
            sha: listed.sha,
            subject: source.map(|source| source.subject.clone()).unwrap_or_default(),
            author: source.map(|source| source.author.clone()).unwrap_or_default(),
            trust,
            env: env.clone(),
            url: policy.url(&host),
            state,
            reason,
            since,
            generation: generation.unwrap_or(0),
            next: live
                .filter(|row| row.serving().is_some() && row.coming().is_some())
                .map(|row| self.coming_up(env, row).0),
            asked: begun
                .map(|begun| begun.asked)
                .filter(|_| live.is_some())
                .or(row.and_then(|row| row.asked).map(|asked| asked.at)),
            took: live.and_then(|row| row.ready.as_ref()).and_then(|ready| ready.took),
            pinned: row.is_some_and(|row| row.pinned),
            visited: live.map(sleep::last_sign).filter(|at| at.0 > 0),
            expires: live.and_then(|row| row.expires(&policy.lifetime)),
            held: row.is_some_and(|row| row.held.is_some()),
            logs,
            links: links.collect(),
            stale: blueprint.is_some_and(|blueprint| self.is_stale(blueprint)),
            approvable: trust == Trust::Untrusted
                && policy.projects.get(&of.project).is_some_and(|project| project.forks),
            apps: apps.collect(),
            commands: manifest.into_iter().flat_map(|manifest| manifest.commands.keys().cloned()).collect(),
            cron: manifest.into_iter().flat_map(schedules).collect(),
            processes: manifest.map(processes_of).unwrap_or_default(),
            data: live.and_then(|row| self.data(env, row)),
        }
    }

    /// Whether a secret of the project changed since one of its processes was created.
    fn is_stale(&self, blueprint: &Blueprint) -> bool {
        blueprint.of(Kind::Container).any(|part| {
            let Spec::Container(container) = &part.spec else { return false };
            let seen = self.eyes.inventory.seen.get(&part.id);
            seen.is_some_and(|seen| seen.outputs.secrets != secrets::digest(&container.secrets))
        })
    }

    fn warnings(&self) -> Vec<String> {
        let ledger = self.eyes.ledger;
        let mut warnings = Vec::new();
        for (backend, why) in &ledger.silent {
            warnings.push(format!("{} does not answer: {why}", backend_name(*backend)));
        }
        for (project, why) in &ledger.forges {
            warnings.extend(why.as_ref().map(|why| format!("the repository of {project} does not answer: {why}")));
        }
        let facts = self.eyes.standing.facts;
        for name in &facts.taken_out {
            let held = facts.envs.values().filter(|row| row.of.project == *name && row.held.is_some()).count();
            let line = format!(
                "{name} was taken out of the configuration; its {held} environments run on until `sidestage gc --confirm`"
            );
            warnings.extend((held > 0).then_some(line));
        }
        let taken_out = |row: &&EnvRow| facts.taken_out.contains(&row.of.project);
        let held = facts.envs.values().filter(|row| row.held.is_some() && !taken_out(row)).count();
        if held > 0 {
            warnings.push(format!(
                "{held} environments would go at once; they are held, and run on, until `sidestage gc --confirm`"
            ));
        }
        let condemned = &self.eyes.standing.facts.condemned;
        let orphans = ledger.orphans.keys().filter(|owner| !condemned.contains_key(*owner)).count();
        if orphans > 0 {
            let after = if self.eyes.holds_orphans(orphans) {
                "they are more than half of what there is, so they go with `sidestage gc --confirm` only"
            } else {
                "they are stopped, and go after a day, or now with `sidestage gc`"
            };
            warnings.push(format!("{orphans} environments or baselines of ours are known by nothing: {after}"));
        }
        for failed in ledger.failures().filter(|failed| ledger.lowering_failure(&failed.id).is_some()) {
            warnings.push(format!("{} cannot be removed: {}; tried again until it works", failed.id, failed.text));
        }
        warnings
    }
}

fn schedules(manifest: &Manifest) -> impl Iterator<Item = (String, String)> {
    manifest.crons.iter().map(|(name, cron)| (name.clone(), cron.schedule.clone()))
}

/// What people may run commands in.
fn processes_of(manifest: &Manifest) -> Vec<String> {
    let others = manifest.processes.keys().chain(manifest.apps.keys()).cloned();
    std::iter::once(WEB.to_owned()).chain(others).collect()
}

fn is_over(commit: &CommitView) -> bool {
    use crate::view::State;
    matches!(commit.state, State::Expired | State::Superseded | State::Removed | State::Unstaged | State::Blocked)
}

pub(crate) fn policy_suffix<'p>(report: &Report<'_, 'p>, project: &ProjectName) -> &'p str {
    report.eyes.standing.policy.projects.get(project).map_or("", |project| project.suffix.as_str())
}
