//! Baselines as people see them.

use super::Report;
use crate::decide::baselines::users;
use crate::facts::{BaselineRow, DEFAULT, EMPTY, Stand, Version, version_name};
use crate::resource::{Kind, Owner, ResourceId};
use crate::view::{BaselineView, VersionState, VersionView};

impl Report<'_, '_> {
    /// All baselines; `default` is always there.
    pub(crate) fn baselines(&self) -> Vec<BaselineView> {
        let rows = &self.eyes.facts().baselines;
        let shown = rows.values().filter(|row| row.removed.is_none() || row.name == DEFAULT);
        let mut shown: Vec<BaselineView> = shown.map(|row| self.baseline(row)).collect();
        if !rows.contains_key(DEFAULT) {
            shown.insert(0, self.baseline(&BaselineRow::new(DEFAULT)));
        }
        shown
    }

    fn baseline(&self, row: &BaselineRow) -> BaselineView {
        let mut versions: Vec<VersionView> =
            row.versions.iter().rev().map(|(number, version)| self.version(row, *number, version)).collect();
        if row.name == DEFAULT {
            versions.push(self.empty(row.current.is_none()));
        }
        let recipe = row.recipe.as_ref();
        let projects = self.eyes.standing.policy.projects.iter();
        let projects = projects.filter(|(_, project)| {
            project.baselines.contains(&row.name) || project.forks && project.fork_baseline == row.name
        });
        BaselineView {
            name: row.name.clone(),
            current: row
                .current
                .map(|number| version_name(&row.name, number))
                .or_else(|| (row.name == DEFAULT).then(|| EMPTY.to_owned())),
            database: recipe.map(|recipe| recipe.database.to_string()),
            objects: recipe.map(|recipe| recipe.objects.to_string()),
            mask: recipe.and_then(|recipe| recipe.mask.as_ref()).map(|path| path.display().to_string()),
            extensions: recipe.map(|recipe| recipe.extensions.iter().cloned().collect()).unwrap_or_default(),
            every: row.every.clone(),
            due: row.due,
            trouble: row.trouble.clone(),
            max_shrink: row.max_shrink,
            projects: projects.map(|(name, _)| name.clone()).collect(),
            versions,
        }
    }

    fn empty(&self, current: bool) -> VersionView {
        VersionView {
            version: EMPTY.to_owned(),
            number: 1,
            state: if current { VersionState::Current } else { VersionState::Ready },
            reason: Some("empty: it always exists".to_owned()),
            by: None,
            asked: None,
            sealed: None,
            database: None,
            tables: None,
            objects: None,
            count: None,
            users: self.users(EMPTY),
            spares: (0, 0),
            logs: Vec::new(),
        }
    }

    fn version(&self, row: &BaselineRow, number: u32, version: &Version) -> VersionView {
        let name = version_name(&row.name, number);
        let (state, reason) = self.stand(row, number, version, &name);
        let wanted = self.eyes.blueprints.spares().iter();
        let wanted: Vec<&ResourceId> = wanted.map(|spare| &spare.id).filter(|id| is_of(id, &name)).collect();
        let made = wanted.iter().filter(|id| self.eyes.is_there(id)).count();
        // While it is made, what is there of it.
        let size = if version.sealed.is_some() { version.size } else { self.eyes.size(&name) };
        let logs =
            if version.recipe.is_some() { vec!["database".to_owned(), "objects".to_owned()] } else { Vec::new() };
        VersionView {
            number,
            state,
            reason,
            by: version.by.clone(),
            asked: Some(version.asked),
            sealed: version.sealed,
            database: size.database,
            tables: size.tables,
            objects: size.objects,
            count: size.count,
            users: self.users(&name),
            spares: (made, wanted.len()),
            logs,
            version: name,
        }
    }

    fn stand(&self, row: &BaselineRow, number: u32, version: &Version, name: &str) -> (VersionState, Option<String>) {
        let parts = [ResourceId::template(name), ResourceId::snapshot(name)];
        match &version.stand {
            Stand::Making => {
                let failures = || self.eyes.ledger.failures().filter(|failed| parts.contains(&failed.id));
                if let Some(failed) = failures().find(|failed| failed.permanent) {
                    return (VersionState::Failed, Some(failed.text.clone()));
                }
                let trying = failures().next().map(|failed| format!("{}; tried again soon", failed.text));
                let waits = parts.iter().find_map(|id| self.waiting.get(id)).map(|why| (*why).to_owned());
                (VersionState::Making, trying.or(waits))
            }
            Stand::Kept(why) => (VersionState::Kept, Some(why.clone())),
            Stand::Sealed => {
                let known = |id: &ResourceId| self.eyes.inventory.known.contains(&id.backend);
                let missing = parts.iter().find(|id| known(id) && !self.eyes.is_there(id));
                let what = |id: &ResourceId| if id.kind == Kind::Database { "its database" } else { "its objects" };
                match missing {
                    Some(id) => (VersionState::Lost, Some(format!("{} cannot be found", what(id)))),
                    None if row.current == Some(number) => (VersionState::Current, None),
                    None => (VersionState::Ready, None),
                }
            }
        }
    }

    /// Environments that start from it, by name.
    fn users(&self, version: &str) -> Vec<String> {
        let users = users(self.eyes.facts(), self.eyes.inventory, version);
        users.into_iter().map(|env| self.name_of(env).unwrap_or_else(|| env.to_string())).collect()
    }
}

fn is_of(id: &ResourceId, version: &str) -> bool {
    matches!(&id.owner, Owner::Baseline(of) if of == version)
}
