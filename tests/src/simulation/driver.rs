//! The same world behind the drivers' door, so that the conformance suite of the real backends judges it too.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use drivers::{Driver, Listing, Log, Scope};
use planner::event::CallId;
use planner::identity::Time;
use planner::resource::{Action, Backend, Failure, Observed, Reason, Resource, ResourceId, Run};

use super::world::{Due, World};

/// One backend of a world without faults.
pub struct WorldDriver {
    world: Mutex<World>,
    backend: Backend,
}

impl WorldDriver {
    /// An empty backend.
    pub fn new(backend: Backend) -> WorldDriver {
        WorldDriver { world: Mutex::new(World::new(0, Time(1_790_000_000_000))), backend }
    }

    /// Puts something into the world from outside, such as the image that a container of another backend's test needs.
    pub fn with_world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a call and lets time pass until it is answered.
    fn call(&self, action: Action) -> Result<Option<Observed>, Failure> {
        if action.id().backend != self.backend {
            return Err(Failure::permanent(format!("{} is not of {:?}", action.id(), self.backend)));
        }
        self.with_world(|world| {
            let call = CallId(world.number());
            world.call(0, call, action);
            while let Some(due) = world.pop(Time(u64::MAX)) {
                match world.happen(due) {
                    Some(Due::Reply { call: answered, result, .. }) if answered == call => return *result,
                    _ => {}
                }
            }
            Err(Failure::transient("the world never answered"))
        })
    }
}

#[async_trait]
impl Driver for WorldDriver {
    async fn inventory(&self, scope: &Scope) -> Result<Listing, Failure> {
        let all = self.with_world(|world| world.list(self.backend));
        Ok(all
            .into_iter()
            .filter(|(id, _)| match scope {
                Scope::All => true,
                Scope::Owner(owner) => id.owner == *owner,
            })
            .collect())
    }

    async fn ensure(&self, resource: &Resource, needs: &Listing, log: &Log) -> Result<Observed, Failure> {
        if let Some(missing) = resource.needs.iter().find(|need| !needs.contains_key(need)) {
            return Err(Failure::transient(format!("{missing} was not observed")));
        }
        log.line(&format!("making {}", resource.id));
        // A real backend can be cut off half-way; so can this one, here.
        self.with_world(|world| world.half(&Action::Ensure(Box::new(resource.clone()))));
        tokio::task::yield_now().await;
        let observed = self.call(Action::Ensure(Box::new(resource.clone())))?;
        observed.ok_or_else(|| Failure::transient("nothing was observed"))
    }

    async fn rest(&self, id: &ResourceId, run: Run) -> Result<(), Failure> {
        self.call(Action::Rest(id.clone(), run)).map(drop)
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), Failure> {
        self.call(Action::Remove(id.clone(), Reason::Person)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use planner::identity::{EnvId, Trust};
    use planner::resource::{Fingerprint, Kind, Owner};
    use planner::spec::{Build, Container, DataFrom, Health, ImageSource, Origin, Spec};

    use super::*;
    use crate::conformance::{Suite, conforms};

    /// What the suite makes for one owner, by backend: needs before what needs them.
    fn resources(backend: Backend, env: &str) -> Vec<Resource> {
        let owner: EnvId = env.parse().unwrap();
        let sha = super::super::forge::numbered_sha(1, 1);
        let of = Origin { project: "shop".parse().unwrap(), sha, trust: Trust::Trusted };
        let make = |kind, name: &str, spec, needs: Vec<ResourceId>| {
            let id = ResourceId { backend, owner: Owner::Env(owner.clone()), generation: 1, kind, name: name.into() };
            let (run, deadline) = (Run::Running, Duration::from_secs(60));
            Resource { id, spec, run, needs, deadline, fingerprint: Fingerprint(format!("{env}-{name}")) }
        };
        match backend {
            Backend::Postgres => {
                let spec =
                    Spec::Database { of, from: DataFrom::Baseline("default@1".into()), extensions: Default::default() };
                vec![make(Kind::Database, "main", spec, Vec::new())]
            }
            Backend::Objects => {
                let spec = Spec::Bucket { of, from: DataFrom::Baseline("default@1".into()), public: Vec::new() };
                vec![make(Kind::Bucket, "main", spec, Vec::new())]
            }
            Backend::Engine => {
                let network = make(Kind::Network, "main", Spec::Network(of.clone()), Vec::new());
                let image = make(Kind::Image, "app", Spec::Image(build(&of)), Vec::new());
                let needs = vec![network.id.clone(), image.id.clone()];
                let body = container(&of, &image.id);
                let job = make(Kind::Job, "release", Spec::Job(body.clone()), needs.clone());
                let web = make(Kind::Container, "web", Spec::Container(body), needs);
                vec![network, image, job, web]
            }
        }
    }

    fn build(of: &Origin) -> Build {
        Build {
            of: of.clone(),
            tag: "sst-test/shop:1".into(),
            dockerfile: "Dockerfile".into(),
            context: ".".into(),
            target: None,
            args: Default::default(),
            secrets: Vec::new(),
            no_cache: false,
        }
    }

    fn container(of: &Origin, image: &ResourceId) -> Container {
        Container {
            of: of.clone(),
            image: ImageSource::Built(image.clone()),
            companion: false,
            command: None,
            env: Default::default(),
            injected: Default::default(),
            secrets: Default::default(),
            database: false,
            bucket: false,
            port: Some(8080),
            health: Health::Port,
            start_timeout: Duration::from_secs(60),
            memory: 64 << 20,
            cpu: 1000,
            tmp: Default::default(),
            data: None,
            hosts: Vec::new(),
            canonical: None,
        }
    }

    #[tokio::test]
    async fn the_world_conforms_as_the_real_backends_do() {
        for backend in super::super::world::BACKENDS {
            let (driver, stranger) = (WorldDriver::new(backend), WorldDriver::new(backend));
            let (resources, neighbours) =
                (resources(backend, "aaaaaaaaaaaaaaaa"), resources(backend, "bbbbbbbbbbbbbbbb"));
            conforms(&Suite { driver: &driver, stranger: &stranger, resources, neighbours }).await;
        }
    }
}
