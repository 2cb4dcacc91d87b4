//! A row as the store keeps it.

use serde::{Deserialize, Serialize};

/// One row of the store: a table, a key, and the value as JSON (none deletes it). Typed rows turn into these
/// on their way out, and [`crate::core::Core::restore`] turns them back, so the store knows no domain types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which table.
    pub table: Table,
    /// Its primary key.
    pub key: String,
    /// Its value; none deletes the row.
    pub value: Option<String>,
}

/// The tables of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Refs with their list of commits.
    Refs,
    /// Commits that were read.
    Sources,
    /// Environments: asked, admitted, begun, ready, gone, held, visits, pin, extension.
    Environments,
    /// Approvals, revoked ones too.
    Approvals,
    /// The ledger's failures, by resource and fingerprint.
    Failures,
    /// Orphans whose removal is decided.
    Condemned,
    /// Projects as they were configured last.
    Projects,
    /// Images that several environments may share: when each was wanted last.
    Images,
    /// Baselines with their versions.
    Baselines,
    /// What forges were told to show.
    Told,
    /// Secrets of projects, sealed: the planner never looks into them.
    Secrets,
    /// Deliveries of forges' webhooks of the last days, and what is still to be done about them: the planner never looks
    /// into them.
    Deliveries,
    /// The audit log: append only, refusals too.
    Audit,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 13] = [
        Table::Refs,
        Table::Sources,
        Table::Environments,
        Table::Approvals,
        Table::Failures,
        Table::Condemned,
        Table::Projects,
        Table::Images,
        Table::Baselines,
        Table::Told,
        Table::Secrets,
        Table::Deliveries,
        Table::Audit,
    ];

    /// The table's name in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Refs => "refs",
            Table::Sources => "sources",
            Table::Environments => "environments",
            Table::Approvals => "approvals",
            Table::Failures => "failures",
            Table::Condemned => "condemned",
            Table::Projects => "projects",
            Table::Images => "images",
            Table::Baselines => "baselines",
            Table::Told => "told",
            Table::Secrets => "secrets",
            Table::Deliveries => "deliveries",
            Table::Audit => "audit",
        }
    }
}
