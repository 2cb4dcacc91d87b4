//! Buckets as resources, environments' and baselines': the store behind [`Driver`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use planner::identity::EnvId;
use planner::names;
use planner::resource::{
    Backend, Failure, Fingerprint, Kind, Observed, Outputs, Owner, Phase, Resource, ResourceId, Run,
};
use planner::spec::{DataFrom, ObjectsFrom, Origin, Spec};

use super::ObjectStore;
use super::generations::{Beginning, Begun, Generation, State, Usage};
use super::snapshots::Snapshot;
use crate::{Driver, Listing, Log, Scope};

/// The baseline that always exists: no objects, until the operator fills it.
const EMPTY: &str = "default@1";

/// The name of the one bucket that a generation has, or a baseline's version.
const NAME: &str = "main";

/// How long a removal may take until it is said to be under way.
const PATIENCE: Duration = Duration::from_secs(20);

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

fn phase(state: State) -> Phase {
    match state {
        State::Partial => Phase::Partial,
        State::Whole => Phase::Whole,
        State::Removing => Phase::Removing,
    }
}

fn observed(generation: &Generation) -> Observed {
    Observed {
        fingerprint: Fingerprint(generation.fingerprint.clone()),
        phase: phase(generation.state),
        run: Run::Running,
        // What it stands on stays in the store for as long as it does, whoever removes the baseline or the other environment.
        uses: Vec::new(),
        outputs: Outputs {
            baseline: Some(generation.baseline.clone()),
            commit: Some((generation.project.clone(), generation.sha, generation.trust)),
            ..sizes(generation.usage)
        },
    }
}

fn observed_snapshot(snapshot: &Snapshot) -> Observed {
    Observed {
        fingerprint: Fingerprint(snapshot.fingerprint.clone()),
        phase: phase(snapshot.state),
        run: Run::Running,
        uses: Vec::new(),
        outputs: sizes(snapshot.usage),
    }
}

fn sizes(usage: Usage) -> Outputs {
    let Usage { objects, bytes, own } = usage;
    Outputs { bytes: Some(bytes), objects: Some(objects), added: Some(own), ..Outputs::default() }
}

/// Whose a bucket is.
enum Place<'a> {
    Env(&'a EnvId, u32),
    Baseline(&'a str),
}

fn place(id: &ResourceId) -> Result<Place<'_>, Failure> {
    match (&id.owner, id.kind) {
        (Owner::Env(env), Kind::Bucket) if id.name == NAME => Ok(Place::Env(env, id.generation)),
        (Owner::Baseline(version), Kind::Bucket) if id.name == NAME => Ok(Place::Baseline(version)),
        _ => Err(Failure::permanent(format!("{id} is not a bucket of an environment or of a baseline"))),
    }
}

#[async_trait]
impl Driver for Objects {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let (generations, snapshots) = match scope {
            Scope::All => (self.store.index.generations(None).await?, self.store.index.snapshots(None).await?),
            Scope::Owner(Owner::Env(env)) => (self.store.index.generations(Some(env)).await?, Vec::new()),
            Scope::Owner(Owner::Baseline(version)) => (Vec::new(), self.store.index.snapshots(Some(version)).await?),
            Scope::Owner(_) => (Vec::new(), Vec::new()),
        };
        let buckets = generations.iter().map(|generation| (id_of(generation), observed(generation)));
        Ok(buckets.chain(snapshots.iter().map(|one| (one.resource(), observed_snapshot(one)))).collect())
    }

    async fn ensure(&self, resource: &Resource, _needs: &Listing, log: &Log) -> Result<Observed, Failure> {
        match (place(&resource.id)?, &resource.spec) {
            (Place::Env(env, number), Spec::Bucket { of, from, public }) => {
                self.bucket(resource, Wanted { env, number, of, from, public }, log).await
            }
            (Place::Baseline(version), Spec::Snapshot(from)) => self.snapshot(resource, version, from, log).await,
            _ => Err(Failure::permanent(format!("{} is not specified as a bucket", resource.id))),
        }
    }

    async fn rest(&self, _id: &ResourceId, _run: Run) -> Result<(), Failure> {
        Ok(()) // a bucket does not run
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        let mut gone = self.store.remover.gone.subscribe();
        match place(id)? {
            Place::Env(env, number) => {
                // Dead first in memory, where every request asks, then on disk, where every transaction asks.
                self.store.keyring.revoke(&self.store.keyring.access_key(env, number));
                self.store.index.condemn_generation(env, number).await?;
            }
            Place::Baseline(version) => self.store.index.condemn_snapshot(version).await?,
        }
        self.store.remover.wake.notify_one();
        // Most are gone in no time. What is not goes on without us.
        let waiting = async {
            while self.is_there(id).await? && gone.changed().await.is_ok() {}
            Ok(())
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Ok(()))
    }
}

/// An environment's bucket, as it is asked for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    env: &'a EnvId,
    number: u32,
    of: &'a Origin,
    from: &'a DataFrom,
    public: &'a [String],
}

impl Objects {
    async fn is_there(&self, id: &ResourceId) -> Result<bool, Failure> {
        Ok(match place(id)? {
            Place::Env(env, number) => self.store.index.generation(env, number).await?.is_some(),
            Place::Baseline(version) => self.store.index.snapshot(version).await?.is_some(),
        })
    }

    async fn bucket(&self, resource: &Resource, wanted: Wanted<'_>, log: &Log) -> Result<Observed, Failure> {
        let Wanted { env, number, .. } = wanted;
        if self.store.index.generation(env, number).await?.is_none() {
            self.begin(resource, wanted, log).await?;
        }
        let mut found = self.reread(env, number).await?;
        if found.state == State::Partial {
            self.store.index.complete_generation(env, number).await?;
            found = self.reread(env, number).await?;
        }
        if found.state != State::Whole {
            return Err(Failure::transient(format!(
                "bucket {}, generation {number}, is still being removed; it can be made again once it is gone",
                names::bucket(env)
            )));
        }
        let answer = observed(&found);
        self.store.keyring.admit(found);
        Ok(answer)
    }

    async fn begin(&self, resource: &Resource, wanted: Wanted<'_>, log: &Log) -> Result<(), Failure> {
        let Wanted { env, number, of, from, public } = wanted;
        let beginning = self.beginning(of, from).await?;
        let new = Generation {
            id: 0,
            env: env.clone(),
            number,
            access_key: self.store.keyring.access_key(env, number),
            fingerprint: resource.fingerprint.0.clone(),
            baseline: from.baseline().to_owned(),
            project: of.project.clone(),
            sha: of.sha,
            trust: of.trust,
            public: public.to_vec(),
            begun: 0,
            state: State::Whole,
            layer: 0,
            usage: Usage::default(),
        };
        let whence = match from {
            DataFrom::Baseline(version) => version.clone(),
            DataFrom::Carry { from, .. } => from.to_string(),
        };
        match self.store.index.begin_generation(&new, beginning).await? {
            Begun::Done => {
                log.line(&format!("bucket {}, generation {number}, begins with {whence}", names::bucket(env)));
            }
            Begun::NothingToBeginWith => {
                let text = format!("{whence}, which bucket {} is to begin with, is being removed", names::bucket(env));
                return Err(Failure::transient(text));
            }
        }
        Ok(())
    }

    /// What a bucket begins with.
    async fn beginning(&self, of: &Origin, from: &DataFrom) -> Result<Beginning, Failure> {
        match from {
            DataFrom::Baseline(version) => match self.store.index.snapshot(version).await? {
                Some(snapshot) if snapshot.state == State::Whole => Ok(Beginning::Snapshot(snapshot.id)),
                Some(_) => Err(Failure::transient(format!("the objects of baseline {version} are not complete"))),
                None if version == EMPTY => Ok(Beginning::Empty),
                None => {
                    let text = format!(
                        "baseline {version} holds no objects here: only {EMPTY}, which is empty, always exists"
                    );
                    Err(Failure::permanent(text))
                }
            },
            DataFrom::Carry { from, .. } => {
                let source = self.carriable(from).await?;
                if of.trust.is_foreign() || source.project != of.project {
                    let text =
                        format!("objects are carried on within one project and by trusted code only, not from {from}");
                    return Err(Failure::permanent(text));
                }
                Ok(Beginning::Carried(source.id))
            }
        }
    }

    /// A bucket of trusted code, to be copied.
    async fn carriable(&self, from: &ResourceId) -> Result<Generation, Failure> {
        let Place::Env(env, number) = place(from)? else {
            return Err(Failure::permanent(format!("{from} is no environment's bucket")));
        };
        let found = self.store.index.generation(env, number).await?.filter(|found| found.state == State::Whole);
        let source = found.ok_or_else(|| Failure::transient(format!("{from} is not there to be copied")))?;
        if source.trust.is_foreign() {
            return Err(Failure::permanent(format!("{from} is written by foreign code, and is not copied")));
        }
        Ok(source)
    }

    async fn snapshot(
        &self,
        resource: &Resource,
        version: &str,
        from: &ObjectsFrom,
        log: &Log,
    ) -> Result<Observed, Failure> {
        let (index, fingerprint) = (&self.store.index, resource.fingerprint.0.as_str());
        let found = match index.snapshot(version).await? {
            Some(found) => found,
            None => {
                if let ObjectsFrom::Env(env) = from {
                    let source = self.carriable(env).await?;
                    if !index.snapshot_of(version, fingerprint, source.id).await? {
                        return Err(Failure::transient(format!("{env} is being removed")));
                    }
                } else {
                    index.begin_snapshot(version, fingerprint).await?;
                }
                self.reread_snapshot(version).await?
            }
        };
        match found.state {
            State::Whole => {}
            State::Removing => {
                return Err(Failure::transient(format!("the objects of baseline {version} are still being removed")));
            }
            State::Partial => {
                self.fill(&found, from, log).await?;
                if !index.seal_snapshot(found.id).await? {
                    return Err(Failure::transient(format!(
                        "the objects of baseline {version} were removed meanwhile"
                    )));
                }
            }
        }
        let sealed = self.reread_snapshot(version).await?;
        let Usage { objects, bytes, .. } = sealed.usage;
        log.line(&format!("sealed: {objects} objects, {}", super::quota::human(bytes)));
        Ok(observed_snapshot(&sealed))
    }

    async fn fill(&self, snapshot: &Snapshot, from: &ObjectsFrom, log: &Log) -> Result<(), Failure> {
        let filling = super::filling::Filling::new(&self.store, snapshot, log);
        match from {
            ObjectsFrom::Empty | ObjectsFrom::Env(_) => Ok(()),
            ObjectsFrom::Folder(folder) => filling.take_folder(folder).await,
            ObjectsFrom::Bucket { endpoint, region, bucket, prefix, credentials_file } => {
                let client = super::upstream::connect(endpoint.as_deref(), region, credentials_file.as_deref())?;
                filling.take_bucket(&client, bucket, prefix).await
            }
        }
    }

    async fn reread(&self, env: &EnvId, number: u32) -> Result<Generation, Failure> {
        let gone = || Failure::transient(format!("bucket {} vanished while it was made", names::bucket(env)));
        self.store.index.generation(env, number).await?.ok_or_else(gone)
    }

    async fn reread_snapshot(&self, version: &str) -> Result<Snapshot, Failure> {
        let gone = || Failure::transient(format!("the objects of baseline {version} vanished while they were made"));
        self.store.index.snapshot(version).await?.ok_or_else(gone)
    }
}
