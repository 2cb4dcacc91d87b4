//! The store of a story: rows that are written, and a core restored from them.

use planner::core::Core;
use planner::event::{Event, Step};
use planner::facts::{Row, Table};
use planner::identity::Time;

use super::{Sim, Violation};

impl Sim {
    /// What is shown must follow from the rows alone as soon as they are written: a Sidestage started anew from them
    /// shows the same of all that must not be forgotten.
    pub(super) fn judge_memory(&mut self, now: Time, step: &Step) -> Result<(), Violation> {
        let shown = step.publish.as_ref().map_or_else(|| self.view.clone(), |(_, view)| view.clone());
        let mut heir = self.restored();
        heir.step(now, Vec::new());
        self.oracle.judge_memory(&shown, &heir.view()).map_err(|what| self.violation(what))
    }

    pub(super) fn restored(&self) -> Core {
        let row = |((table, key), value): (&(Table, String), &String)| Row {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        let rows: Vec<Row> = self.rows.iter().map(row).collect();
        Core::restore(self.key.clone(), self.known.clone(), &rows).expect("our own rows parse")
    }

    /// The judge learns from what was read what commits are made of.
    pub(super) fn learn(&mut self, events: &[Event]) {
        for event in events {
            let Event::Read { project, sha, source: Ok(source) } = event else { continue };
            if let Ok(manifest) = &source.manifest {
                self.oracle.data.ancestors.insert((project.clone(), *sha), source.ancestors.clone());
                self.oracle.manifests.insert((project.clone(), *sha), manifest.clone());
            }
        }
    }

    pub(super) fn persist(&mut self, step: &Step) {
        for row in &step.persist {
            let key = (row.table, row.key.clone());
            match &row.value {
                // The audit log is appended to and never read: it need not grow in a story.
                Some(_) if row.table == Table::Audit => {}
                Some(value) => drop(self.rows.insert(key, value.clone())),
                None => drop(self.rows.remove(&key)),
            }
        }
    }
}
