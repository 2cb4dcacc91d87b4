//! Carries data on that lack an extension which only an administrator can make. What a superuser ran among them, whoever was
//! there before could have written. So it is made in an empty database, and the data follow as a dump, which the roles that
//! own the two databases write and read.

use std::collections::BTreeSet;

use planner::resource::Failure;
use sqlx::PgConnection;

use super::baseline::{give, size_of};
use super::load::Loader;
use super::source::Source;
use super::tools::Login;
use super::{Place, Postgres, failure, run};
use crate::Log;

impl Postgres {
    /// Fills it with what the other one holds, whose sessions go on.
    pub(super) async fn refill(
        &self,
        registry: &mut PgConnection,
        from: Login,
        to: &Place<'_>,
        lacks: &BTreeSet<String>,
        log: &Log,
    ) -> Result<(), Failure> {
        let name = &to.name;
        let bytes = size_of(registry, &from.database).await.map_err(failure)?;
        let source = Source::Env { login: from, bytes };
        let mut needed = source.needed(&self.tools).await?;
        for extension in lacks {
            needed.entry(extension.clone()).or_default();
        }
        let (ours, _) = self.parted(registry, needed).await?;
        self.space.admit(source.room(), &format!("the database {name}"))?;
        self.hollow(registry, name).await.map_err(failure)?;
        self.furnish(name, &ours).await?;
        give(registry, name).await.map_err(failure)?;
        let login = self.login(to);
        if let Some(stream) = source.open(&self.tools).await? {
            Loader { tools: &self.tools, login: &login, log }.load(stream).await?;
        }
        self.settle(registry, &login).await.map_err(failure)?;
        // Who owns it needs no more than that.
        let taken = format!("REVOKE ALL ON DATABASE \"{name}\" FROM pg_database_owner");
        run(registry, taken).await.map_err(failure)
    }
}
