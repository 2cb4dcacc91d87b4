//! Golden stories: what a person would see, line by line. A line that begins with `>` is played; what follows is what came of it.
//!
//! `SIDESTAGE_UPDATE=1` writes what comes now into the files; read the difference before you keep it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::command::Command;
use planner::event::Event;
use planner::identity::{EnvId, ProjectName, Ref, Sha, Time, Trust};
use planner::policy::{Policy, StageMode};
use planner::resource::{Backend, Owner, Phase, Run};
use planner::tables::{Door, Route};
use planner::units::parse_duration;

use crate::simulation::forge::{Branch, Commit};
use crate::simulation::oracle::commits;
use crate::simulation::run::Sim;
use crate::simulation::settings::Settings;
use crate::simulation::world::{Fate, World};

#[test]
fn push_is_staged_and_a_second_push_takes_over() {
    golden("push");
}

#[test]
fn foreign_code_waits_for_an_approval_of_each_commit() {
    golden("foreign");
}

#[test]
fn foreign_code_that_never_runs_says_who_can_change_that() {
    golden("never");
}

#[test]
fn reset_keeps_the_old_generation_until_the_new_one_is_ready() {
    golden("reset");
}

#[test]
fn a_full_quota_says_who_holds_the_places() {
    golden("quota");
}

#[test]
fn what_nobody_visits_dozes_sleeps_wakes_and_expires() {
    golden("sleep");
}

#[test]
fn many_removals_at_once_are_held_until_a_person_confirms() {
    golden("guard");
}

#[test]
fn broken_commits_say_why_and_cost_nothing_that_works() {
    golden("broken");
}

#[test]
fn death_by_memory_is_told_with_limit_and_remedy() {
    golden("memory");
}

#[test]
fn a_project_that_is_taken_out_runs_on_until_a_person_confirms() {
    golden("reload");
}

#[test]
fn a_tag_that_was_asked_for_and_moves_leaves_its_environment_and_says_so() {
    golden("tag");
}

#[test]
fn an_outage_is_no_removal() {
    golden("outage");
}

fn golden(name: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/planner_stories").join(format!("{name}.txt"));
    let wanted = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let told = tell(&wanted);
    if std::env::var_os("SIDESTAGE_UPDATE").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    let first = wanted.lines().zip(told.lines()).position(|(a, b)| a != b).unwrap_or(wanted.lines().count());
    let (a, b) = (wanted.lines().nth(first), told.lines().nth(first));
    assert!(wanted == told, "{} line {}: the story says\n  {a:?}\nand now comes\n  {b:?}", path.display(), first + 1);
}

/// Plays the lines that begin with `>` and writes below each what came of it. Comments stay.
fn tell(script: &str) -> String {
    let mut story: Option<Story> = None;
    let mut settings = Settings::calm(&["shop"]);
    let mut text = String::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            text += &format!("{line}\n");
        }
        let Some(words) = line.strip_prefix("> ") else { continue };
        text += &format!("{line}\n");
        let words: Vec<&str> = words.split_whitespace().collect();
        if let ["policy", rest @ ..] = words.as_slice() {
            rest.iter().for_each(|word| set(&mut settings.policy, word));
            continue;
        }
        let story = story.get_or_insert_with(|| Story::new(settings.clone()));
        for said in story.play(&words) {
            text += &format!("  {said}\n");
        }
    }
    text
}

fn set(policy: &mut Policy, word: &str) {
    let (key, value) = word.split_once('=').unwrap();
    let number = || value.parse::<usize>().unwrap();
    let projects = policy.projects.values_mut();
    match key {
        "environments" => policy.limits.environments = number(),
        "awake" => policy.limits.awake = number(),
        "stopped" => policy.limits.stopped = number(),
        "keep" => projects.for_each(|project| project.keep = number()),
        "forks" => projects.for_each(|project| project.forks = value == "approve"),
        "stage" => projects.for_each(|project| {
            project.stage = if value == "automatic" { StageMode::Automatic } else { StageMode::OnRequest };
        }),
        _ => panic!("unknown policy {key}"),
    }
}

struct Story {
    sim: Sim,
    project: ProjectName,
    /// Letters by environment, to write instead of hashes.
    names: BTreeMap<EnvId, String>,
    open: BTreeMap<String, String>,
}

impl Story {
    fn new(settings: Settings) -> Story {
        let mut world = World::new(1, Time(1_790_000_000_000));
        world.steady = true;
        let mut sim = Sim::with(settings, world, true);
        sim.calm = true;
        let project: ProjectName = "shop".parse().unwrap();
        let mut story = Story { sim, project, names: BTreeMap::new(), open: BTreeMap::new() };
        story.wait(Duration::from_secs(5));
        story.sim.take_trace();
        story
    }

    fn wait(&mut self, time: Duration) {
        let end = self.sim.world.now.after(time);
        if let Err(violation) = self.sim.run_until(end) {
            panic!("{}\n{}", violation.what, violation.trace.join("\n"));
        }
    }

    /// `A` is the commit aaaa…
    fn sha(&mut self, letter: &str) -> Sha {
        let digit = letter.to_lowercase();
        let sha: Sha = digit.repeat(40).parse().unwrap();
        if !self.sim.forge.commits.contains_key(&sha) {
            let made = self.sim.forge.commit(&mut self.sim.world.rng, 0);
            let mut commit = self.sim.forge.commits.remove(&made).unwrap();
            commit.source.subject = format!("Change {letter}");
            commit.source.manifest =
                planner::manifest::Manifest::parse(Some(MANIFEST.as_bytes())).map(std::sync::Arc::new);
            self.sim.forge.commits.insert(sha, Commit { fate: Fate::Good, ..commit });
            self.sim.introduce(&self.project.clone(), sha);
            for (trust, name) in [(Trust::Trusted, letter.to_owned()), (Trust::Approved, format!("{letter}*"))] {
                self.names.insert(self.sim.key.env(&self.project, &sha, trust), name);
            }
        }
        sha
    }

    fn play(&mut self, words: &[&str]) -> Vec<String> {
        let project = self.project.clone();
        match words {
            ["wait", time] => {
                self.wait(parse_duration(time).unwrap());
                return self.said();
            }
            // The machine was suspended: nothing was listed meanwhile.
            ["days", time] => {
                let jump = parse_duration(time).unwrap();
                self.sim.world.now = self.sim.world.now.after(jump);
            }
            ["show"] => return self.show(),
            ["push", name, letter] => {
                let sha = self.sha(letter);
                let foreign = name.ends_with('*');
                let name: Ref = name.trim_end_matches('*').parse().unwrap();
                let repository = self.sim.forge.repositories.get_mut(&project).unwrap();
                let new = || Branch { open: true, foreign, watched: true, pushed: Vec::new() };
                let branch = repository.refs.entry(name).or_insert_with(new);
                branch.open = true;
                branch.pushed.push(sha);
                self.sim.hint(&project);
            }
            ["close", names @ ..] => {
                for name in names {
                    let name: Ref = name.parse().unwrap();
                    self.sim.forge.repositories.get_mut(&project).unwrap().refs.get_mut(&name).unwrap().open = false;
                }
                self.sim.hint(&project);
            }
            ["fate", letter, fate] => {
                let sha = self.sha(letter);
                let fate = match *fate {
                    "bad-build" => Fate::BadBuild,
                    "bad-release" => Fate::BadRelease,
                    "bad-web" => Fate::BadWeb,
                    "mute-web" => Fate::MuteWeb,
                    other => panic!("unknown fate {other}"),
                };
                self.sim.world.fates.insert((project, sha), fate);
                return Vec::new();
            }
            ["away", backend, time] => {
                let backend = match *backend {
                    "engine" => Backend::Engine,
                    "postgres" => Backend::Postgres,
                    _ => Backend::Objects,
                };
                let until = self.sim.world.now.after(parse_duration(time).unwrap());
                self.sim.world.down.insert(backend, until);
            }
            // What stands behind the letter is the text of a manifest, `;` for a new line.
            ["manifest", letter, text @ ..] => {
                let sha = self.sha(letter);
                let text = text.join(" ").replace(';', "\n");
                let manifest = planner::manifest::Manifest::parse(Some(text.as_bytes())).map(std::sync::Arc::new);
                self.sim.forge.commits.get_mut(&sha).unwrap().source.manifest = Ok(manifest.unwrap());
                self.sim.introduce(&project, sha);
                return Vec::new();
            }
            // The kernel ends a process of a container, which runs on, or the container itself.
            ["starve", letter, name] | ["kill", letter, name] => {
                let sha = self.sha(letter);
                let env = self.sim.key.env(&project, &sha, Trust::Trusted);
                let ids = self.sim.world.things.keys();
                let found = ids.filter(|id| id.owner == Owner::Env(env.clone()) && id.name == *name).max().cloned();
                let id = found.unwrap();
                self.sim.world.things.get_mut(&id).unwrap().observed.outputs.oom += 1;
                if words[0] == "kill" {
                    self.sim.world.lower(&id, Run::Stopped, Some(Phase::Exited { code: 137, oom: true }));
                }
                self.wait(Duration::from_secs(45));
            }
            ["tag", name, letter] => {
                let sha = self.sha(letter);
                let name = Ref::Tag((*name).to_owned());
                let repository = self.sim.forge.repositories.get_mut(&project).unwrap();
                let new = || Branch { open: true, foreign: false, watched: false, pushed: Vec::new() };
                let branch = repository.refs.entry(name.clone()).or_insert_with(new);
                if branch.pushed.is_empty() {
                    branch.pushed.push(sha);
                    self.sim.stage_ref(&project, &name);
                } else {
                    branch.pushed.push(sha);
                    self.sim.hint(&project);
                }
            }
            ["out"] => self.sim.reconfigure(|policy| policy.projects.clear()),
            ["back"] => {
                let all = self.sim.settings.all.clone();
                self.sim.reconfigure(|policy| policy.projects = all);
            }
            ["restart"] => self.sim.die(false),
            ["visit", letters @ ..] => {
                for letter in letters {
                    let sha = self.sha(letter.trim_end_matches('*'));
                    let trust = if letter.ends_with('*') { Trust::Approved } else { Trust::Trusted };
                    let env = self.sim.key.env(&project, &sha, trust);
                    self.sim.send(1, Event::Knock(env));
                }
            }
            ["gc"] => self.sim.ask(Command::Gc { confirm: false }),
            ["gc", "confirm"] => self.sim.ask(Command::Gc { confirm: true }),
            [verb, letter] => {
                let sha = self.sha(letter);
                let command = match *verb {
                    "stage" => Command::Stage { project, sha },
                    "approve" => Command::Approve { project, sha },
                    "revoke" => Command::Revoke { project, sha },
                    "pin" => Command::Pin { project, sha },
                    "unpin" => Command::Unpin { project, sha },
                    "reset" => Command::Reset { project, sha, baseline: None },
                    "rebuild" => Command::Rebuild { project, sha },
                    "sleep" => Command::Sleep { project, sha },
                    "wake" => Command::Wake { project, sha },
                    "remove" => Command::Remove { project, sha },
                    other => panic!("unknown verb {other}"),
                };
                self.sim.ask(command);
            }
            other => panic!("unknown line {other:?}"),
        }
        self.wait(Duration::from_millis(500));
        self.said()
    }

    /// What was called, answered and opened since, in the words of people.
    fn said(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for line in self.sim.take_trace() {
            let Some(mut said) = line.split_once("  -> ").map(|(_, said)| said.to_owned()) else { continue };
            for (env, name) in &self.names {
                said = said.replace(env.as_str(), name);
            }
            // Numbers of calls tell a person nothing.
            let plain = said.split_once(' ').map_or(said.as_str(), |(number, rest)| {
                if number.parse::<u64>().is_ok() { rest } else { said.as_str() }
            });
            lines.push(shorten(plain));
        }
        let open = self.doors();
        for (host, to) in &open {
            if self.open.get(host) != Some(to) {
                lines.push(format!("{host} => {to}"));
            }
        }
        for host in self.open.keys().filter(|host| !open.contains_key(*host)) {
            lines.push(format!("{host} => shut"));
        }
        self.open = open;
        lines
    }

    fn doors(&self) -> BTreeMap<String, String> {
        let mut doors = BTreeMap::new();
        for (host, route) in &self.sim.tables.routes {
            let short = |host: &str| {
                let label = host.split('.').next().unwrap_or(host);
                if label.len() == 40 { label[..1].to_uppercase() } else { label.to_owned() }
            };
            match route {
                Route::Env(one) => {
                    let name = self.names.get(&one.env).cloned().unwrap_or_default();
                    if let Door::Open(upstream) = &one.door {
                        doors.insert(short(host), format!("{name}/{}", upstream.generation));
                    }
                }
                Route::Alias { to, .. } => {
                    doors.insert(short(host), short(to));
                }
                Route::Objects { .. } => {}
            }
        }
        doors
    }

    fn show(&mut self) -> Vec<String> {
        let view = self.sim.view.clone();
        let mut lines = vec![format!("places {} of {}", view.places.0, view.places.1)];
        for project in &view.projects {
            for one in &project.refs {
                lines.push(format!("{} {}", one.name, if one.open { "open" } else { "closed" }));
                for commit in &one.commits {
                    let letter = commit.sha.to_string()[..1].to_uppercase();
                    let held = if commit.held { " held" } else { "" };
                    let pinned = if commit.pinned { " pinned" } else { "" };
                    let reason = commit.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                    let state = commit.state.as_str();
                    lines.push(format!(
                        "  {letter} {} {state}/{}{held}{pinned}{reason}",
                        commit.trust, commit.generation
                    ));
                }
            }
        }
        debug_assert!(commits(&view).count() < 100);
        lines.extend(view.warnings.iter().map(|warning| format!("! {warning}")));
        for line in &mut lines {
            for (env, name) in &self.names {
                *line = line.replace(env.as_str(), name);
            }
        }
        lines
    }
}

/// What every commit of a story carries.
const MANIFEST: &str = "[release]\ncommand = [\"bin/migrate\"]\n";

/// Long hashes of trees and recipes are nothing to read.
fn shorten(line: &str) -> String {
    let is_hash = |part: &str| part.len() >= 12 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let word = |word: &str| {
        let parts: Vec<&str> = word.split('/').map(|part| if is_hash(part) { "…" } else { part }).collect();
        parts.join("/")
    };
    line.split(' ').map(word).collect::<Vec<String>>().join(" ")
}
