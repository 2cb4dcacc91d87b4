//! Clones made ahead, and what is known of a version's weight: how the next clone of it will be made.

use std::collections::BTreeSet;

use planner::resource::{Failure, Observed, Resource};
use sqlx::PgConnection;

use super::environment::beyond;
use super::strategy::{Ability, Choice, Weight, choose, unshared};
use super::{Postgres, drop_database, drop_role, failure, registry, run, server_version, stock};
use crate::Log;

/// A spare that is asked for.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a Resource,
    pub(super) version: &'a str,
    pub(super) name: &'a str,
    pub(super) extensions: &'a BTreeSet<String>,
}

/// What an empty database weighs, about.
const EMPTY: Weight = Weight { bytes: 8_000_000, relations: 300 };

impl Postgres {
    /// How databases of this baseline's version are cloned, why, what it costs, and what would be better.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn strategy(&self, version: &str) -> Result<Choice, Failure> {
        let mut registry = self.registry().await?;
        let weight = self.weight(&mut registry, version).await.map_err(failure)?;
        Ok(self.choice(&registry, weight))
    }

    /// The fastest way for so much.
    pub(super) fn choice(&self, registry: &PgConnection, weight: Weight) -> Choice {
        let version = server_version(registry);
        let reason = self.unshared.get_or_init(|| unshared(self.space.folder.as_deref(), version));
        let lacks = self.granted.as_ref().map(|granted| granted.lacks.clone());
        choose(&Ability { version, unshared: reason.clone(), lacks }, weight)
    }

    /// How much a clone of this version copies.
    pub(super) async fn weight(&self, registry: &mut PgConnection, version: &str) -> Result<Weight, sqlx::Error> {
        let item = stock::find(registry, version, stock::MAIN).await?;
        Ok(item
            .and_then(|item| Some(Weight { bytes: item.observed.outputs.bytes?, relations: item.relations }))
            .unwrap_or(EMPTY))
    }

    /// `ensure` of a spare.
    pub(super) async fn ensure_spare(&self, wanted: &Wanted<'_>, log: &Log) -> Result<Observed, Failure> {
        let Wanted { version, name, .. } = *wanted;
        let _one_of_few = self.clones.acquire().await.map_err(|_| Failure::Cancelled)?;
        let mut registry = self.registry().await?;
        let database = stock::database(&self.key, version, name);
        registry::lock(&mut registry, &database).await.map_err(failure)?;
        let found = stock::find(&mut registry, version, name).await.map_err(failure)?;
        if let Some(item) = found.filter(stock::Item::whole) {
            return Ok(item.observed);
        }
        self.admit(wanted.extensions)?;
        if registry::sealed(&mut registry, version).await.map_err(failure)?.is_none() {
            return Err(Failure::permanent(format!("there is no baseline {version} in PostgreSQL")));
        }
        let more = beyond(&mut registry, version, wanted.extensions).await.map_err(failure)?;
        let row = (version, name, database.as_str());
        stock::begin(&mut registry, row, &wanted.resource.fingerprint, &more).await.map_err(failure)?;
        // After the row, which is what keeps the template.
        let template = self.template(&mut registry, version, &more, log).await?;
        drop_database(&mut registry, &database).await.map_err(failure)?;
        let weight = self.weight(&mut registry, version).await.map_err(failure)?;
        self.clone(&mut registry, (&template, &database, ""), weight).await?;
        run(
            &mut registry,
            format!(
                "REVOKE ALL ON DATABASE \"{database}\" FROM PUBLIC;
                 UPDATE stock SET complete = true WHERE database = '{database}';"
            ),
        )
        .await
        .map_err(failure)?;
        let made = stock::find(&mut registry, version, name).await.map_err(failure)?;
        made.map(|item| item.observed).ok_or_else(|| Failure::transient(format!("the spare {database} vanished")))
    }

    /// Removes a template or a spare. The templates with more extensions go with theirs.
    pub(super) async fn remove_stock(
        &self,
        registry: &mut PgConnection,
        version: &str,
        name: &str,
    ) -> Result<(), sqlx::Error> {
        let database = stock::database(&self.key, version, name);
        registry::lock(registry, &database).await?;
        if !stock::doom(registry, version, name).await? {
            return Ok(());
        }
        drop_database(registry, &database).await?;
        drop_role(registry, &database).await?;
        stock::forget(registry, version, name).await
    }
}
