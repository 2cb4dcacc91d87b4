//! Buckets as resources: the store behind [`Driver`].

use std::sync::Arc;

use async_trait::async_trait;
use planner::identity::EnvId;
use planner::names;
use planner::resource::{
    Backend, Failure, Fingerprint, Kind, Observed, Outputs, Owner, Phase, Resource, ResourceId, Run,
};
use planner::spec::{DataFrom, Spec};

use super::ObjectStore;
use super::generations::{Generation, State, Usage};
use crate::{Driver, Listing, Log, Scope};

/// The baseline that always exists: no objects.
const EMPTY: &str = "default@1";

/// The name of the one bucket that a generation has.
const NAME: &str = "main";

/// The driver of buckets.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<ObjectStore>,
}

impl Objects {
    /// The driver of this store's buckets.
    #[must_use]
    pub fn new(store: Arc<ObjectStore>) -> Objects {
        Objects { store }
    }
}

fn id_of(generation: &Generation) -> ResourceId {
    ResourceId {
        backend: Backend::Objects,
        owner: Owner::Env(generation.env.clone()),
        generation: generation.number,
        kind: Kind::Bucket,
        name: NAME.to_owned(),
    }
}

fn observed(generation: &Generation) -> Observed {
    Observed {
        fingerprint: Fingerprint(generation.fingerprint.clone()),
        phase: match generation.state {
            State::Partial => Phase::Partial,
            State::Whole => Phase::Whole,
            State::Removing => Phase::Removing,
        },
        run: Run::Running,
        uses: Vec::new(),
        outputs: Outputs {
            baseline: Some(generation.baseline.clone()),
            commit: Some((generation.project.clone(), generation.sha, generation.trust)),
            ..Outputs::default()
        },
    }
}

fn env_of(id: &ResourceId) -> Result<&EnvId, Failure> {
    match (&id.owner, id.kind) {
        (Owner::Env(env), Kind::Bucket) if id.name == NAME => Ok(env),
        _ => Err(Failure::permanent(format!("{id} is not a bucket of an environment"))),
    }
}

#[async_trait]
impl Driver for Objects {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let generations = match scope {
            Scope::All => self.store.index.generations(None).await?,
            Scope::Owner(Owner::Env(env)) => self.store.index.generations(Some(env)).await?,
            Scope::Owner(_) => Vec::new(),
        };
        Ok(generations.iter().map(|generation| (id_of(generation), observed(generation))).collect())
    }

    async fn ensure(&self, resource: &Resource, _needs: &Listing, log: &Log) -> Result<Observed, Failure> {
        let env = env_of(&resource.id)?;
        let Spec::Bucket { of, from: DataFrom::Baseline(baseline), public } = &resource.spec else {
            return Err(Failure::permanent(format!("{} is not specified as a bucket", resource.id)));
        };
        let number = resource.id.generation;
        let found = match self.store.index.generation(env, number).await? {
            Some(found) => found,
            None => {
                if baseline != EMPTY {
                    let text =
                        format!("baseline {baseline} holds no objects here: only {EMPTY}, which is empty, exists");
                    return Err(Failure::permanent(text));
                }
                self.store
                    .index
                    .begin_generation(&Generation {
                        id: 0,
                        env: env.clone(),
                        number,
                        access_key: self.store.keyring.access_key(env, number),
                        fingerprint: resource.fingerprint.0.clone(),
                        baseline: baseline.clone(),
                        project: of.project.clone(),
                        sha: of.sha,
                        trust: of.trust,
                        public: public.clone(),
                        begun: 0,
                        state: State::Partial,
                        usage: Usage::default(),
                    })
                    .await?;
                log.line(&format!("bucket {} begun, generation {number}, from {baseline}", names::bucket(env)));
                self.reread(env, number).await?
            }
        };
        let whole = match found.state {
            State::Whole => found,
            // The empty baseline has nothing to copy, so what is begun is complete.
            State::Partial => {
                self.store.index.complete_generation(env, number).await?;
                self.reread(env, number).await?
            }
            State::Removing => found,
        };
        if whole.state != State::Whole {
            return Err(Failure::transient(format!(
                "bucket {}, generation {number}, is still being removed; it can be made again once it is gone",
                names::bucket(env)
            )));
        }
        let answer = observed(&whole);
        self.store.keyring.admit(whole);
        Ok(answer)
    }

    async fn rest(&self, _id: &ResourceId, _run: Run) -> Result<(), Failure> {
        Ok(()) // a bucket does not run
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        let env = env_of(id)?;
        // Dead first in memory, where every request asks, then on disk, where every transaction asks.
        self.store.keyring.revoke(&self.store.keyring.access_key(env, id.generation));
        self.store.index.condemn_generation(env, id.generation).await?;
        self.store.wake.notify_one();
        Ok(())
    }
}

impl Objects {
    async fn reread(&self, env: &EnvId, number: u32) -> Result<Generation, Failure> {
        let gone = || Failure::transient(format!("bucket {} vanished while it was made", names::bucket(env)));
        self.store.index.generation(env, number).await?.ok_or_else(gone)
    }
}
