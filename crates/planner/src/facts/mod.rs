//! What people and forges said, and what was decided once and must not be forgotten. Rows of the store.

mod baseline;
mod fact;
mod row;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::announce::ToldRow;
use crate::event::Source;
use crate::forge::Place;
use crate::identity::{EnvId, InstanceKey, ProjectName, Ref, Sha, Trust};
use crate::policy::{Policy, ProjectPolicy, StageMode};
use crate::resource::{Owner, ResourceId};

pub use baseline::{
    BaselineRow, DEFAULT, EMPTY, EMPTY_NAME, MAX_SHRINK, Recipe, Size, Stand, Version, parse_version, shown_version,
    version_name,
};
pub use fact::Fact;
pub use row::{Row, Table};
pub use rows::{
    Again, Approval, Asked, Begun, Carried, Condemned, EnvRow, Gone, ImageRow, Listed, Ready, RefRow, Sent, SourceRow,
};

/// The environments of one commit, one for each trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    trusted: EnvId,
    approved: EnvId,
    untrusted: EnvId,
}

impl Ids {
    /// The environment of the commit at this trust.
    #[must_use]
    pub fn at(&self, trust: Trust) -> &EnvId {
        match trust {
            Trust::Trusted => &self.trusted,
            Trust::Approved => &self.approved,
            Trust::Untrusted => &self.untrusted,
        }
    }
}

/// All facts, in memory. Every change goes through a `put`, which remembers the row for the store.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Refs, open ones and lately closed ones.
    pub refs: BTreeMap<(ProjectName, Ref), RefRow>,
    /// Projects whose refs were listed at least once: what came later is a push.
    pub listed: BTreeSet<ProjectName>,
    /// Commits that were read.
    pub sources: BTreeMap<(ProjectName, Sha), std::sync::Arc<Source>>,
    /// Environments that were ever asked for.
    pub envs: BTreeMap<EnvId, EnvRow>,
    /// Approvals, revoked ones too.
    pub approvals: BTreeMap<(ProjectName, Sha), Approval>,
    /// Orphans whose removal is decided.
    pub condemned: BTreeMap<Owner, Condemned>,
    /// Images that several environments may share.
    pub images: BTreeMap<ResourceId, ImageRow>,
    /// Baselines by name, and for a while those that were removed.
    pub baselines: BTreeMap<String, BaselineRow>,
    /// What forges were told to show, by place.
    pub told: BTreeMap<(ProjectName, Place), ToldRow>,
    /// Projects as they were configured last.
    pub projects: BTreeMap<ProjectName, ProjectPolicy>,
    /// Those of them that are not in the configuration any more: derived.
    pub taken_out: BTreeSet<ProjectName>,
    /// Environments by commit: derived, kept because hashing a thousand of them in every pass is not free.
    pub ids: BTreeMap<(ProjectName, Sha), Ids>,
    /// What CI said last of commits that wait for it: asked anew after a restart.
    pub checks: BTreeMap<(ProjectName, Sha), crate::forge::Checks>,
    /// The secret that names are derived from.
    pub key: InstanceKey,
    /// Grows with every change.
    pub version: u64,
    sequence: u64,
    audited: u64,
    changed: BTreeSet<(Table, String)>,
    unsaved: Vec<Row>,
}

impl Facts {
    /// No facts.
    #[must_use]
    pub fn new(key: InstanceKey) -> Facts {
        Facts {
            refs: BTreeMap::new(),
            listed: BTreeSet::new(),
            sources: BTreeMap::new(),
            envs: BTreeMap::new(),
            approvals: BTreeMap::new(),
            condemned: BTreeMap::new(),
            images: BTreeMap::new(),
            baselines: BTreeMap::new(),
            told: BTreeMap::new(),
            projects: BTreeMap::new(),
            taken_out: BTreeSet::new(),
            ids: BTreeMap::new(),
            checks: BTreeMap::new(),
            key,
            version: 0,
            sequence: 0,
            audited: 0,
            changed: BTreeSet::new(),
            unsaved: Vec::new(),
        }
    }

    /// Takes up one row of the store. The ledger's table is not read here.
    ///
    /// # Errors
    /// Table, key, and why the row does not parse.
    pub fn restore(&mut self, row: &Row) -> Result<(), String> {
        let Some(value) = &row.value else { return Ok(()) };
        match row.table {
            Table::Refs if !row.key.contains(' ') => {
                let project = row.key.parse().map_err(|error| format!("refs {}: {error}", row.key))?;
                self.listed.insert(project);
            }
            Table::Refs => {
                let of: RefRow = parse(row, value)?;
                self.saw(of.first.max(of.commits.iter().map(|listed| listed.sequence).max().unwrap_or(0)));
                for listed in &of.commits {
                    self.know(&of.project, &listed.sha);
                }
                self.refs.insert((of.project.clone(), of.name.clone()), of);
            }
            Table::Sources => {
                let of: SourceRow = parse(row, value)?;
                self.sources.insert((of.project, of.sha), of.source);
            }
            Table::Environments => {
                let env: EnvRow = parse(row, value)?;
                let asked = env.asked.map(|asked| asked.sequence);
                let gone = env.gone.map(|gone| gone.sequence);
                let sent = env.sent.map(|sent| sent.sequence);
                self.saw([asked, gone, sent].into_iter().flatten().max().unwrap_or(0));
                let id = self.know(&env.of.project, &env.of.sha).at(env.of.trust).clone();
                self.envs.insert(id, env);
            }
            Table::Approvals => {
                let of: Approval = parse(row, value)?;
                self.saw(of.sequence);
                self.approvals.insert((of.project.clone(), of.sha), of);
            }
            Table::Condemned => {
                let of: Condemned = parse(row, value)?;
                self.condemned.insert(of.owner.clone(), of);
            }
            Table::Projects => {
                let name = row.key.parse().map_err(|error| format!("projects {}: {error}", row.key))?;
                // What a version with other keys wrote is written anew as soon as the project is configured.
                if let Ok(project) = parse(row, value) {
                    self.projects.insert(name, project);
                }
            }
            Table::Images => {
                let of: ImageRow = parse(row, value)?;
                self.images.insert(of.id.clone(), of);
            }
            Table::Baselines => {
                let of: BaselineRow = parse(row, value)?;
                self.baselines.insert(of.name.clone(), of);
            }
            Table::Told => {
                let of: ToldRow = parse(row, value)?;
                self.told.insert((of.project.clone(), of.place.clone()), of);
            }
            Table::Audit => {
                let number = row.key.parse().map_err(|error| format!("audit {}: {error}", row.key))?;
                self.audited = self.audited.max(number);
            }
            Table::Failures | Table::Secrets | Table::Deliveries => {}
        }
        Ok(())
    }

    /// Takes up a configuration. A project that is not in it any more is in what comes back all the same, as it was
    /// configured last and staging nothing, until nothing of it is left: what runs of it runs on until a person confirms.
    pub fn configure(&mut self, mut policy: Policy) -> Policy {
        for (name, project) in &policy.projects {
            if self.projects.get(name) != Some(project) {
                self.save(Table::Projects, name.to_string(), Some(project));
                self.projects.insert(name.clone(), project.clone());
            }
        }
        let configured = &policy.projects;
        self.taken_out = self.projects.keys().filter(|name| !configured.contains_key(*name)).cloned().collect();
        for name in &self.taken_out {
            if let Some(project) = self.projects.get(name) {
                policy.projects.insert(name.clone(), ProjectPolicy { stage: StageMode::Off, ..project.clone() });
            }
        }
        self.version += 1;
        policy
    }

    /// The next place in the order of events.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The last place given out.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.sequence
    }

    fn saw(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// The environments of a commit; derived at first sight.
    pub fn know(&mut self, project: &ProjectName, sha: &Sha) -> Ids {
        let at = |trust| self.key.env(project, sha, trust);
        let new =
            || Ids { trusted: at(Trust::Trusted), approved: at(Trust::Approved), untrusted: at(Trust::Untrusted) };
        self.ids.entry((project.clone(), *sha)).or_insert_with(new).clone()
    }

    /// Writes a ref.
    pub fn put_ref(&mut self, row: RefRow) {
        for listed in &row.commits {
            self.know(&row.project, &listed.sha);
        }
        let key = (row.project.clone(), row.name.clone());
        if self.refs.get(&key) != Some(&row) {
            self.save(Table::Refs, ref_key(&key), Some(&row));
            self.refs.insert(key, row);
        }
    }

    /// Forgets a ref.
    pub fn drop_ref(&mut self, key: &(ProjectName, Ref)) {
        self.refs.remove(key);
        self.save::<()>(Table::Refs, ref_key(key), None);
    }

    /// This project's refs have been listed.
    pub fn put_listed(&mut self, project: &ProjectName) {
        if self.listed.insert(project.clone()) {
            self.save(Table::Refs, project.to_string(), Some(&true));
        }
    }

    /// Writes a commit that was read.
    pub fn put_source(&mut self, project: &ProjectName, sha: Sha, source: std::sync::Arc<Source>) {
        let row = SourceRow { project: project.clone(), sha, source };
        self.save(Table::Sources, commit_key(project, &sha), Some(&row));
        self.sources.insert((row.project, sha), row.source);
    }

    /// The next listing of this project is the first one again.
    pub fn drop_listed(&mut self, project: &ProjectName) {
        if self.listed.remove(project) {
            self.save::<()>(Table::Refs, project.to_string(), None);
        }
    }

    /// Forgets a project of which nothing is left.
    pub fn drop_project(&mut self, name: &ProjectName) {
        self.taken_out.remove(name);
        self.projects.remove(name);
        self.save::<()>(Table::Projects, name.to_string(), None);
    }

    /// Writes a shared image.
    pub fn put_image(&mut self, row: ImageRow) {
        self.save(Table::Images, row.id.to_string(), Some(&row));
        self.images.insert(row.id.clone(), row);
    }

    /// Forgets a shared image.
    pub fn drop_image(&mut self, id: &ResourceId) {
        self.images.remove(id);
        self.save::<()>(Table::Images, id.to_string(), None);
    }

    /// Writes a baseline.
    pub fn put_baseline(&mut self, row: BaselineRow) {
        if self.baselines.get(&row.name) != Some(&row) {
            self.save(Table::Baselines, row.name.clone(), Some(&row));
            self.baselines.insert(row.name.clone(), row);
        }
    }

    /// Forgets a baseline.
    pub fn drop_baseline(&mut self, name: &str) {
        self.baselines.remove(name);
        self.save::<()>(Table::Baselines, name.to_owned(), None);
    }

    /// Writes what a forge was told.
    pub fn put_told(&mut self, row: ToldRow) {
        let key = (row.project.clone(), row.place.clone());
        self.save(Table::Told, told_key(&key), Some(&row));
        self.told.insert(key, row);
    }

    /// Forgets what a forge was told.
    pub fn drop_told(&mut self, key: &(ProjectName, Place)) {
        if self.told.remove(key).is_some() {
            self.save::<()>(Table::Told, told_key(key), None);
        }
    }

    /// What CI says of a commit now.
    pub fn put_checks(&mut self, key: (ProjectName, Sha), checks: crate::forge::Checks) {
        if self.checks.get(&key) != Some(&checks) {
            self.version += 1;
            self.checks.insert(key, checks);
        }
    }

    /// Forgets a commit that was read.
    pub fn drop_source(&mut self, key: &(ProjectName, Sha)) {
        self.checks.remove(key);
        self.sources.remove(key);
        self.save::<()>(Table::Sources, commit_key(&key.0, &key.1), None);
    }

    /// Writes an environment.
    pub fn put_env(&mut self, row: EnvRow) {
        let id = self.know(&row.of.project, &row.of.sha).at(row.of.trust).clone();
        if self.envs.get(&id) != Some(&row) {
            self.save(Table::Environments, id.to_string(), Some(&row));
            self.envs.insert(id, row);
        }
    }

    /// Forgets an environment.
    pub fn drop_env(&mut self, id: &EnvId) {
        self.envs.remove(id);
        self.save::<()>(Table::Environments, id.to_string(), None);
    }

    /// Writes an approval.
    pub fn put_approval(&mut self, row: Approval) {
        self.save(Table::Approvals, commit_key(&row.project, &row.sha), Some(&row));
        self.approvals.insert((row.project.clone(), row.sha), row);
    }

    /// Forgets an approval.
    pub fn drop_approval(&mut self, key: &(ProjectName, Sha)) {
        self.approvals.remove(key);
        self.save::<()>(Table::Approvals, commit_key(&key.0, &key.1), None);
    }

    /// Decides that an orphan goes.
    pub fn condemn(&mut self, row: Condemned) {
        self.save(Table::Condemned, row.owner.to_string(), Some(&row));
        self.condemned.insert(row.owner.clone(), row);
    }

    /// The orphan is gone, or is none any more.
    pub fn pardon(&mut self, owner: &Owner) {
        self.condemned.remove(owner);
        self.save::<()>(Table::Condemned, owner.to_string(), None);
    }

    /// Appends to the audit log.
    pub fn audit(&mut self, entry: &impl Serialize) {
        self.audited += 1;
        self.save(Table::Audit, format!("{:020}", self.audited), Some(entry));
    }

    /// A visit is in memory at once, and in the store at once when it wakes somebody or comes late, else once a minute.
    pub fn visit(&mut self, id: &EnvId, at: crate::identity::Time, idle: std::time::Duration) {
        let Some(row) = self.envs.get_mut(id).filter(|row| row.is_live()) else { return };
        if row.visited.is_some_and(|visited| visited >= at) {
            return;
        }
        row.visited = Some(at);
        row.slept = row.slept.filter(|slept| *slept > at);
        self.version += 1;
        let minute = std::time::Duration::from_secs(60);
        let late = at.since(row.stored.unwrap_or_default()) >= idle.min(minute);
        if late {
            row.stored = Some(at);
            let row = row.clone();
            self.save(Table::Environments, id.to_string(), Some(&row));
        }
    }

    fn save<T: Serialize>(&mut self, table: Table, key: String, value: Option<&T>) {
        self.version += 1;
        // Rows are maps of strings and numbers; JSON takes them all.
        let value = value.map(|value| serde_json::to_string(value).unwrap_or_default());
        let place = (table, key);
        if !self.changed.insert(place.clone()) {
            self.unsaved.retain(|row| row.table != table || row.key != place.1);
        }
        self.unsaved.push(Row { table, key: place.1, value });
    }

    /// The rows that changed since the last call, each once.
    pub fn take_unsaved(&mut self) -> Vec<Row> {
        self.changed.clear();
        std::mem::take(&mut self.unsaved)
    }
}

/// Parses the value of a row.
///
/// # Errors
/// Table, key, and why.
pub fn parse<T: DeserializeOwned>(row: &Row, value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| format!("{} {}: {error}", row.table.as_str(), row.key))
}

fn ref_key(key: &(ProjectName, Ref)) -> String {
    format!("{} {}", key.0, key.1)
}

fn commit_key(project: &ProjectName, sha: &Sha) -> String {
    format!("{project} {sha}")
}

fn told_key((project, place): &(ProjectName, Place)) -> String {
    match place {
        Place::Comment(number) => format!("{project} comment {number}"),
        Place::Answer(number, comment) => format!("{project} answer {number} {comment}"),
        Place::Deployment(env) => format!("{project} deployment {env}"),
        Place::Check(sha) => format!("{project} check {sha}"),
    }
}
