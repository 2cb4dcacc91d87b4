//! The database of an environment: a spare that is claimed, a clone of a template, or a copy of another environment's.

use std::collections::BTreeSet;

use planner::names;
use planner::resource::{Failure, Observed, Phase, Resource};
use planner::spec::{DataFrom, Origin};
use sqlx::{Connection, PgConnection};

use super::privileges::Granted;
use super::strategy::Weight;
use super::{Allowance, Place, Postgres, drop_database, drop_role, exists, failure, registry, run, server_version};
use super::{carry, stock, template};
use crate::Log;

/// What no environment's role ever is.
const NEVER: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a Resource,
    pub(super) of: &'a Origin,
    pub(super) from: &'a DataFrom,
    pub(super) extensions: &'a BTreeSet<String>,
}

/// What was found before anything was done.
struct Found {
    /// The database exists, half made, of what is wanted.
    there: bool,
    /// Extensions beyond the baseline's own.
    more: BTreeSet<String>,
}

impl Postgres {
    /// `ensure` of an environment's database.
    pub(super) async fn ensure_environment(
        &self,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        log: &Log,
    ) -> Result<Observed, Failure> {
        if let Some(observed) = self.claim(place, wanted, log).await? {
            return Ok(observed);
        }
        // Before a connection is taken: whoever waits here must not keep listings from theirs.
        let _one_of_few = self.clones.acquire().await.map_err(|_| Failure::Cancelled)?;
        let mut registry = self.registry().await?;
        registry::lock(&mut registry, &place.name).await.map_err(failure)?;
        self.ensure_held(&mut registry, place, wanted, log).await
    }

    /// What is there already, or becomes it within milliseconds: a clone made ahead gets another name and owner, all in
    /// one transaction. None if there is nothing to claim.
    async fn claim(&self, place: &Place<'_>, wanted: &Wanted<'_>, log: &Log) -> Result<Option<Observed>, Failure> {
        let DataFrom::Baseline(baseline) = wanted.from else { return Ok(None) };
        let mut registry = self.registry().await?;
        registry::lock(&mut registry, &place.name).await.map_err(failure)?;
        if let Some(entry) = registry::find(&mut registry, &place.name).await.map_err(failure)? {
            // Half made: whatever it is, it is not for this way.
            return Ok((entry.observed.phase == Phase::Whole).then_some(entry.observed));
        }
        self.admit(wanted.extensions)?;
        let more = beyond(&mut registry, baseline, wanted.extensions).await.map_err(failure)?;
        if !stock::any(&mut registry, baseline, &more).await.map_err(failure)?
            || exists(&mut registry, &place.name).await.map_err(failure)?
        {
            return Ok(None);
        }
        match self.claim_held(&mut registry, place, wanted, &more).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error @ sqlx::Error::Database(_)) => {
                log.line(&format!("a clone made ahead could not be claimed ({error}): cloning"));
                return Ok(None);
            }
            Err(error) => return Err(failure(error)),
        }
        log.line(&format!("database {}: claimed a clone of baseline {baseline} made ahead", place.name));
        let made = registry::find(&mut registry, &place.name).await.map_err(failure)?;
        Ok(made.map(|entry| entry.observed))
    }

    async fn claim_held(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        more: &BTreeSet<String>,
    ) -> Result<bool, sqlx::Error> {
        let (name, baseline) = (&place.name, wanted.from.baseline());
        let mut transaction = registry.begin().await?;
        let Some(spare) = stock::claim(&mut transaction, baseline, more).await? else {
            transaction.rollback().await?;
            return Ok(false);
        };
        registry::begin(&mut transaction, &begun(place, wanted, more)).await?;
        self.make_role(&mut transaction, place).await?;
        run(
            &mut transaction,
            format!(
                "ALTER DATABASE \"{spare}\" RENAME TO \"{name}\";
                 ALTER DATABASE \"{name}\" OWNER TO \"{name}\";
                 REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC;
                 ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true;
                 UPDATE databases SET complete = true WHERE name = '{name}';"
            ),
        )
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// `ensure`, with the name held.
    async fn ensure_held(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        log: &Log,
    ) -> Result<Observed, Failure> {
        carry::reopen_for(registry, &place.name).await.map_err(failure)?;
        let entry = registry::find(registry, &place.name).await.map_err(failure)?;
        if let Some(entry) = &entry
            && entry.observed.phase == Phase::Whole
        {
            return Ok(entry.observed.clone());
        }
        let found = self.look(registry, place, wanted, entry).await?;
        match wanted.from {
            DataFrom::Baseline(baseline) => {
                log.line(&format!("database {} from baseline {baseline}", place.name));
                self.begin(registry, place, wanted, &found.more).await.map_err(failure)?;
                // After the row, which is what keeps the template.
                let template = self.template(registry, baseline, &found.more, log).await?;
                if !found.there {
                    let weight = self.weight(registry, baseline).await.map_err(failure)?;
                    let owner = format!(" OWNER \"{}\"", place.name);
                    self.clone(registry, (&template, &place.name, &owner), weight).await?;
                }
            }
            DataFrom::Carry { from, baseline } => {
                let (source, lacks) = self.carried(registry, place, wanted, from).await?;
                let (name, had) = (&place.name, &source.database);
                self.begin(registry, place, wanted, &found.more).await.map_err(failure)?;
                if template::for_owners(registry, &lacks).await.map_err(failure)? {
                    log.line(&format!("database {name} from {had} (baseline {baseline}), closed meanwhile"));
                    self.carry(registry, had, place, &lacks).await?;
                } else {
                    log.line(&format!("database {name} from a dump of {had} (baseline {baseline})"));
                    self.refill(registry, source, place, &lacks, log).await?;
                }
            }
        }
        self.open(registry, &place.name).await.map_err(failure)?;
        let made = registry::find(registry, &place.name).await.map_err(failure)?;
        made.map(|entry| entry.observed)
            .ok_or_else(|| Failure::transient(format!("database {} vanished while it was made", place.name)))
    }

    /// Refuses what cannot be, and clears what an earlier attempt has left of something else.
    async fn look(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        entry: Option<registry::Entry>,
    ) -> Result<Found, Failure> {
        if entry.is_none() && exists(registry, &place.name).await.map_err(failure)? {
            // Not in our registry: somebody else's, whatever it is called.
            return Err(Failure::permanent(format!(
                "a database {} is there that Sidestage has not made: rename or drop it",
                place.name
            )));
        }
        self.admit(wanted.extensions)?;
        let baseline = wanted.from.baseline();
        let cloned = matches!(wanted.from, DataFrom::Baseline(_));
        if cloned && registry::sealed(registry, baseline).await.map_err(failure)?.is_none() {
            return Err(Failure::permanent(format!("there is no baseline {baseline} in PostgreSQL")));
        }
        let more = beyond(registry, baseline, wanted.extensions).await.map_err(failure)?;
        let same = |e: &registry::Entry| {
            cloned
                && !e.carried
                && e.observed.outputs.baseline.as_deref() == Some(baseline)
                && e.observed.fingerprint == wanted.resource.fingerprint
        };
        // A clone that is listed is complete; only of what it was made is to be asked. A carried one may lack its owner.
        let mut there = entry.as_ref().is_some_and(|e| e.there);
        if there && !entry.as_ref().is_some_and(same) {
            drop_database(registry, &place.name).await.map_err(failure)?;
            there = false;
        }
        Ok(Found { there, more })
    }

    /// Row and role together. Waiting for the disk is left to what comes next: the server's log keeps its order, so there
    /// is never a database without its row.
    async fn begin(
        &self,
        registry: &mut PgConnection,
        place: &Place<'_>,
        wanted: &Wanted<'_>,
        more: &BTreeSet<String>,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = registry.begin().await?;
        run(&mut transaction, "SET LOCAL synchronous_commit = off").await?;
        registry::begin(&mut transaction, &begun(place, wanted, more)).await?;
        self.make_role(&mut transaction, place).await?;
        transaction.commit().await
    }

    /// Makes the role, or gives the one that is there what it should have.
    async fn make_role(&self, registry: &mut PgConnection, place: &Place<'_>) -> Result<(), sqlx::Error> {
        let name = &place.name;
        let password = names::database_password(&self.key, place.env, place.generation);
        let Allowance { connections, temporary, .. } = self.allowance;
        let role_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(name)
            .fetch_one(&mut *registry)
            .await?;
        // Of what only a superuser may say, nothing has to be taken back on a server where we are none.
        let (verb, never) = match (role_there, &self.granted) {
            (true, Some(_)) => ("ALTER", "NOCREATEDB NOCREATEROLE"),
            (true, None) => ("ALTER", NEVER),
            (false, _) => ("CREATE", NEVER),
        };
        let bound = match &self.granted {
            Some(Granted { temporary: false, .. }) => String::new(),
            _ => format!("ALTER ROLE \"{name}\" SET temp_file_limit = '{temporary}MB';"),
        };
        let joined = self.joined(registry, name);
        // Names and passwords are base32 of ours, so they need no escaping. Utility statements take no parameters.
        run(
            registry,
            format!(
                "{verb} ROLE \"{name}\" LOGIN {never} INHERIT CONNECTION LIMIT {connections} PASSWORD '{password}';
                 {bound}
                 ALTER ROLE \"{name}\" SET idle_in_transaction_session_timeout = '10min';
                 {joined}"
            ),
        )
        .await
    }

    /// Copies a database in the way that is fastest for it. Closed while it is made: until it is given away everybody
    /// might connect.
    pub(super) async fn clone(
        &self,
        registry: &mut PgConnection,
        (from, to, more): (&str, &str, &str),
        weight: Weight,
    ) -> Result<(), Failure> {
        let choice = self.choice(registry, weight);
        self.space.admit(choice.disk, &format!("the database {to}"))?;
        let version = server_version(registry);
        let copied = async {
            if let Some(setting) = choice.strategy.setting(version) {
                run(registry, setting).await?;
            }
            let clause = choice.strategy.clause(version);
            run(registry, format!("CREATE DATABASE \"{to}\" TEMPLATE \"{from}\"{more} ALLOW_CONNECTIONS false{clause}"))
                .await
        };
        copied.await.map_err(failure)
    }

    /// One transaction: it opens and is complete, or neither.
    async fn open(&self, registry: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
        run(
            registry,
            format!(
                "REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC;
                 ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true;
                 UPDATE databases SET complete = true WHERE name = '{name}';"
            ),
        )
        .await
    }
}

fn begun<'a>(place: &'a Place<'_>, wanted: &'a Wanted<'_>, more: &BTreeSet<String>) -> registry::Begun<'a> {
    registry::Begun {
        env: place.env,
        generation: place.generation,
        of: wanted.of,
        fingerprint: &wanted.resource.fingerprint,
        baseline: wanted.from.baseline(),
        template: template::version(wanted.from.baseline(), more),
        carried: matches!(wanted.from, DataFrom::Carry { .. }),
    }
}

/// Extensions that the baseline does not have itself.
pub(super) async fn beyond(
    registry: &mut PgConnection,
    baseline: &str,
    extensions: &BTreeSet<String>,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let own = stock::find(registry, baseline, stock::MAIN).await?.map(|item| item.extensions).unwrap_or_default();
    Ok(extensions.difference(&own).cloned().collect())
}

/// Removes what there is of an environment's database, with its name held.
pub(super) async fn remove_held(registry: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    carry::reopen_for(registry, name).await?;
    sqlx::query("UPDATE databases SET complete = false WHERE name = $1").bind(name).execute(&mut *registry).await?;
    drop_database(registry, name).await?;
    drop_role(registry, name).await?;
    sqlx::query("DELETE FROM databases WHERE name = $1").bind(name).execute(registry).await?;
    Ok(())
}
