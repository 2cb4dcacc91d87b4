//! Generations of buckets: rows of the index, and the access keys that open them.
//!
//! A bucket has one name for all generations; the access key of a request says which one's objects are meant. That is
//! how a reset swaps them. Whatever a generation begins with, it is made by one transaction (`layers`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use planner::identity::{EnvId, InstanceKey, ProjectName, Sha, Trust};
use planner::names;
use sqlx::{Sqlite, Transaction};

use super::index::{Index, now};
use super::layers::{add, freeze};
use super::trouble::Trouble;

/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Begun; not all is there.
    Partial,
    /// In use.
    Whole,
    /// Its credentials are dead; it is being emptied.
    Removing,
}

impl State {
    pub(super) fn parse(text: &str) -> Result<State, Trouble> {
        match text {
            "partial" => Ok(State::Partial),
            "whole" => Ok(State::Whole),
            "removing" => Ok(State::Removing),
            _ => Err(Trouble::Row(format!("{text:?} is no state of a generation"))),
        }
    }
}

/// One generation of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) id: i64,
    pub(super) env: EnvId,
    pub(super) number: u32,
    pub(super) access_key: String,
    pub(super) fingerprint: String,
    pub(super) baseline: String,
    pub(super) project: ProjectName,
    pub(super) sha: Sha,
    pub(super) trust: Trust,
    /// Prefixes of keys that may be read without a signature.
    pub(super) public: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub(super) begun: i64,
    pub(super) state: State,
    /// The layer that its clients write to.
    pub(super) layer: i64,
    pub(super) usage: Usage,
}

/// What a generation holds, or a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects that can be listed.
    pub objects: u64,
    /// Bytes of objects, and of parts of uploads under way.
    pub bytes: u64,
    /// Those of the bytes that the environment has added to its baseline: what a quota counts.
    pub own: u64,
}

impl Generation {
    /// `s3-<env>`.
    pub(super) fn bucket(&self) -> String {
        names::bucket(&self.env)
    }

    /// Where its blobs stand among all.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.env, self.number)
    }

    /// Whether an object may be read without a signature.
    fn opens(&self, key: &str) -> bool {
        self.public.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    env: String,
    number: i64,
    access_key: String,
    fingerprint: String,
    baseline: String,
    project: String,
    sha: String,
    trust: String,
    public: String,
    begun: i64,
    state: String,
    layer: i64,
    objects: i64,
    bytes: i64,
    own: i64,
}

impl Row {
    fn parse(self) -> Result<Generation, Trouble> {
        Ok(Generation {
            id: self.id,
            env: self.env.parse()?,
            number: u32::try_from(self.number).map_err(|_| Trouble::Row(format!("generation {}", self.number)))?,
            access_key: self.access_key,
            fingerprint: self.fingerprint,
            baseline: self.baseline,
            project: self.project.parse()?,
            sha: self.sha.parse()?,
            trust: self.trust.parse()?,
            public: serde_json::from_str(&self.public)
                .map_err(|error| Trouble::Row(format!("public prefixes {:?}: {error}", self.public)))?,
            begun: self.begun,
            state: State::parse(&self.state)?,
            layer: self.layer,
            usage: Usage {
                objects: self.objects.unsigned_abs(),
                bytes: self.bytes.unsigned_abs(),
                own: self.own.unsigned_abs(),
            },
        })
    }
}

impl Index {
    /// All generations, or one environment's.
    pub(super) async fn generations(&self, env: Option<&EnvId>) -> Result<Vec<Generation>, Trouble> {
        let rows: Vec<Row> = match env {
            None => sqlx::query_as("SELECT * FROM generations ORDER BY id").fetch_all(&self.read).await?,
            Some(env) => {
                sqlx::query_as("SELECT * FROM generations WHERE env = ? ORDER BY id")
                    .bind(env.as_str())
                    .fetch_all(&self.read)
                    .await?
            }
        };
        rows.into_iter().map(Row::parse).collect()
    }

    /// One generation. Asks the writer, so that what it says is not about to change.
    pub(super) async fn generation(&self, env: &EnvId, number: u32) -> Result<Option<Generation>, Trouble> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM generations WHERE env = ? AND number = ?")
            .bind(env.as_str())
            .bind(number)
            .fetch_optional(&self.write)
            .await?;
        row.map(Row::parse).transpose()
    }

    /// Makes a generation of what it begins with: all of it, or nothing of it. One that is there already stays as it is.
    pub(super) async fn begin_generation(&self, new: &Generation, with: Beginning) -> Result<Begun, Trouble> {
        let mut tx = self.begin().await?;
        let (base, floor, usage) = match with {
            Beginning::Empty => (None, None, Usage::default()),
            Beginning::Snapshot(id) => {
                let found: Option<(i64, i64, i64)> =
                    sqlx::query_as("SELECT layer, objects, bytes FROM snapshots WHERE id = ? AND state = 'whole'")
                        .bind(id)
                        .fetch_optional(&mut *tx)
                        .await?;
                let Some((layer, objects, bytes)) = found else { return Ok(Begun::NothingToBeginWith) };
                let usage = Usage { objects: objects.unsigned_abs(), bytes: bytes.unsigned_abs(), own: 0 };
                (Some(layer), Some(layer), usage)
            }
            Beginning::Carried(id) => {
                let Some((floor, usage)) = carried(&mut tx, id).await? else { return Ok(Begun::NothingToBeginWith) };
                (freeze(&mut tx, id).await?, floor, usage)
            }
        };
        let layer = add(&mut tx, base).await?;
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let made = sqlx::query(
            "INSERT INTO generations (env, number, access_key, fingerprint, baseline, project, sha, trust, public, begun,
                 state, layer, floor, objects, bytes, own)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'whole', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(new.env.as_str())
        .bind(new.number)
        .bind(&new.access_key)
        .bind(&new.fingerprint)
        .bind(&new.baseline)
        .bind(new.project.as_str())
        .bind(new.sha.to_string())
        .bind(new.trust.as_str())
        .bind(serde_json::Value::from(new.public.clone()).to_string())
        .bind(now())
        .bind(layer)
        .bind(floor)
        .bind(signed(usage.objects))
        .bind(signed(usage.bytes))
        .bind(signed(usage.own))
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() > 0 {
            tx.commit().await?;
        }
        Ok(Begun::Done)
    }

    /// Completes one that an earlier version of Sidestage has begun.
    pub(super) async fn complete_generation(&self, env: &EnvId, number: u32) -> Result<(), Trouble> {
        sqlx::query("UPDATE generations SET state = 'whole' WHERE env = ? AND number = ? AND state = 'partial'")
            .bind(env.as_str())
            .bind(number)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Condemns a generation. From here on no transaction adds to it.
    pub(super) async fn condemn_generation(&self, env: &EnvId, number: u32) -> Result<(), Trouble> {
        sqlx::query("UPDATE generations SET state = 'removing' WHERE env = ? AND number = ?")
            .bind(env.as_str())
            .bind(number)
            .execute(&self.write)
            .await?;
        Ok(())
    }
}

/// What a generation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// No objects.
    Empty,
    /// Those of the snapshot of this row.
    Snapshot(i64),
    /// What the generation of this row holds by now.
    Carried(i64),
}

/// How that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Done,
    /// The snapshot or the other generation is gone, or on its way out.
    NothingToBeginWith,
}

/// Floor and usage of what is carried on from a generation. Its uploads under way are not: they belong to its clients.
pub(super) async fn carried(
    tx: &mut Transaction<'static, Sqlite>,
    generation: i64,
) -> Result<Option<(Option<i64>, Usage)>, Trouble> {
    let found: Option<(Option<i64>, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT floor, objects, bytes, own, coalesce((
             SELECT sum(size) FROM parts JOIN uploads ON uploads.id = parts.upload WHERE uploads.generation = ?1
         ), 0) FROM generations WHERE id = ?1 AND state = 'whole'",
    )
    .bind(generation)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.map(|(floor, objects, bytes, own, parts)| {
        let usage = Usage {
            objects: objects.unsigned_abs(),
            bytes: (bytes - parts).unsigned_abs(),
            own: (own - parts).unsigned_abs(),
        };
        (floor, usage)
    }))
}

/// Access keys that are alive, in memory: every request asks here, and nowhere else.
#[derive(Debug)]
pub(super) struct Keyring {
    key: InstanceKey,
    alive: RwLock<HashMap<String, Arc<Generation>>>,
}

impl Keyring {
    pub(super) fn new(key: InstanceKey, generations: Vec<Generation>) -> Keyring {
        let keyring = Keyring { key, alive: RwLock::default() };
        for generation in generations.into_iter().filter(|generation| generation.state == State::Whole) {
            keyring.admit(generation);
        }
        keyring
    }

    /// The access key id of a generation.
    pub(super) fn access_key(&self, env: &EnvId, number: u32) -> String {
        names::bucket_keys(&self.key, env, number).0
    }

    pub(super) fn admit(&self, generation: Generation) {
        let mut alive = self.alive.write().unwrap_or_else(PoisonError::into_inner);
        alive.insert(generation.access_key.clone(), Arc::new(generation));
    }

    pub(super) fn revoke(&self, access_key: &str) {
        self.alive.write().unwrap_or_else(PoisonError::into_inner).remove(access_key);
    }

    pub(super) fn find(&self, access_key: &str) -> Option<Arc<Generation>> {
        self.alive.read().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned()
    }

    /// Whose public objects a bucket shows: while a generation comes up beside the one that serves, the elder.
    pub(super) fn public(&self, bucket: &str, key: &str) -> Option<Arc<Generation>> {
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner);
        let env = bucket.strip_prefix("s3-")?;
        let serving = alive.values().filter(|generation| generation.env.as_str() == env);
        serving.min_by_key(|generation| generation.number).filter(|generation| generation.opens(key)).cloned()
    }

    /// The secret that belongs to an access key that is alive.
    pub(super) fn secret(&self, access_key: &str) -> Option<String> {
        let generation = self.find(access_key)?;
        let (id, secret) = names::bucket_keys(&self.key, &generation.env, generation.number);
        // A key file that was exchanged under a running store must not open anything.
        (id == access_key).then_some(secret)
    }

    /// Whether a bucket belongs to an environment of this commit.
    pub(super) fn bucket_is_of(&self, bucket: &str, sha: &Sha) -> bool {
        self.any(bucket, |generation| generation.sha == *sha)
    }

    /// Whether a bucket has a generation that is alive.
    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.any(bucket, |_| true)
    }

    fn any(&self, bucket: &str, holds: impl Fn(&Generation) -> bool) -> bool {
        let Some(env) = bucket.strip_prefix("s3-") else { return false };
        let alive = self.alive.read().unwrap_or_else(PoisonError::into_inner);
        alive.values().any(|generation| generation.env.as_str() == env && holds(generation))
    }
}
