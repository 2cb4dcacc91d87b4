//! One instance on the shared engine: its driver, what it builds from, and what must be gone at its end.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drivers::docker::{Docker, Settings};
use drivers::git::Context;
use drivers::{Driver, Listing, Log};
use planner::identity::{EnvId, InstanceKey, ProjectName, Sha, Trust};
use planner::injected::Endpoints;
use planner::names;
use planner::resource::{Backend, Failure, Fingerprint, Kind, Observed, Owner, Resource, ResourceId, Run};
use planner::spec::{Build, Canonical, Container, Health, ImageSource, Origin, Spec};

use crate::kit::{Busybox, busybox_image};

const SOCKET: &str = "/var/run/docker.sock";

/// What a build's context is made of: path to content.
type Files = Arc<Mutex<BTreeMap<String, String>>>;

pub(super) struct Engine {
    pub(super) key: InstanceKey,
    pub(super) docker: Docker,
    pub(super) busybox: Busybox,
    pub(super) files: Files,
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

pub(super) fn key() -> InstanceKey {
    InstanceKey::new(random())
}

pub(super) fn settings(files: &Files) -> Settings {
    let files = files.clone();
    let contexts = move |build: &Build| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files.lock().unwrap().iter() {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let dockerfile = files.lock().unwrap().get(&build.dockerfile).cloned().unwrap_or_default().into_bytes();
        let tar: Box<dyn std::io::Read + Send> = Box::new(std::io::Cursor::new(tar.into_inner().unwrap()));
        Ok(Context { dockerfile, tar, notes: Vec::new() })
    };
    let endpoints =
        Endpoints { domain: "staging.test".to_owned(), objects: "http://staging.test".to_owned(), database_port: 5432 };
    let mut settings = Settings::new(endpoints, Ipv4Addr::new(10, 255, 0, 1), Arc::new(contexts));
    settings.runc_for_forks = true;
    settings.stop_timeout = Duration::from_secs(1);
    settings
}

pub(super) fn origin(trust: Trust) -> Origin {
    Origin { project: "shop".parse().unwrap(), sha: Sha::from_bytes([7; 20]), trust }
}

impl Engine {
    pub(super) fn new() -> Engine {
        Engine::with(|_| ())
    }

    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Engine {
        let key = key();
        let files = Files::default();
        let mut settings = settings(&files);
        change(&mut settings);
        let docker = Docker::connect(SOCKET, key.clone(), settings);
        Engine { docker, key, busybox: busybox_image(), files }
    }

    pub(super) fn env(&self, trust: Trust) -> EnvId {
        let Origin { project, sha, trust } = origin(trust);
        self.key.env(&project, &sha, trust)
    }

    pub(super) fn id(&self, trust: Trust, kind: Kind, name: &str) -> ResourceId {
        let owner = Owner::Env(self.env(trust));
        ResourceId { backend: Backend::Engine, owner, generation: 1, kind, name: name.to_owned() }
    }

    fn resource(&self, id: ResourceId, spec: Spec, needs: Vec<ResourceId>) -> Resource {
        let fingerprint = Fingerprint("0123456789abcdef".to_owned());
        Resource { id, spec, run: Run::Running, needs, deadline: Duration::from_secs(60), fingerprint }
    }

    pub(super) fn network(&self, trust: Trust) -> Resource {
        self.resource(self.id(trust, Kind::Network, "main"), Spec::Network(origin(trust)), Vec::new())
    }

    /// An image built from these files.
    pub(super) fn image(&self, trust: Trust, name: &str, files: &[(&str, &str)]) -> Resource {
        let own = |(path, content): &(&str, &str)| ((*path).to_owned(), content.replace("$BUSYBOX", &self.busybox.tag));
        *self.files.lock().unwrap() = files.iter().map(own).collect();
        let of = origin(trust);
        let repository = names::image_repository(&self.key, &of.project);
        let env = self.env(trust);
        let (owner, tag) = if trust.is_foreign() {
            (Owner::Env(env.clone()), format!("{repository}:{env}-{name}"))
        } else {
            (Owner::Project(of.project.clone(), trust), format!("{repository}:{name}"))
        };
        let id =
            ResourceId { backend: Backend::Engine, owner, generation: 0, kind: Kind::Image, name: name.to_owned() };
        let build = Build {
            of,
            tag,
            dockerfile: "Dockerfile".to_owned(),
            context: ".".to_owned(),
            target: None,
            args: BTreeMap::new(),
            secrets: Vec::new(),
            no_cache: false,
        };
        self.resource(id, Spec::Image(build), Vec::new())
    }

    /// What every container of these tests starts from: busybox as a companion's image, in the network of its trust.
    pub(super) fn spec(&self, trust: Trust, command: &[&str]) -> Container {
        Container {
            of: origin(trust),
            image: ImageSource::Named(self.busybox.tag.clone()),
            companion: false,
            command: Some(command.iter().map(|&word| word.to_owned()).collect()),
            env: BTreeMap::new(),
            injected: BTreeMap::new(),
            secrets: BTreeMap::new(),
            database: false,
            bucket: false,
            port: None,
            health: Health::Alive,
            start_timeout: Duration::from_secs(20),
            memory: 64 << 20,
            cpu: 1000,
            tmp: BTreeMap::new(),
            data: None,
            hosts: vec!["data.internal".to_owned()],
            canonical: Some(Canonical {
                host: "abc.staging.test".to_owned(),
                authority: "abc.staging.test:8080".to_owned(),
                scheme: "https".to_owned(),
            }),
        }
    }

    pub(super) fn container(&self, name: &str, spec: Container) -> Resource {
        let id = self.id(spec.of.trust, Kind::Container, name);
        let needs = self.needs_of(&spec);
        self.resource(id, Spec::Container(spec), needs)
    }

    pub(super) fn job(&self, name: &str, spec: Container) -> Resource {
        let id = self.id(spec.of.trust, Kind::Job, name);
        let needs = self.needs_of(&spec);
        self.resource(id, Spec::Job(spec), needs)
    }

    fn needs_of(&self, spec: &Container) -> Vec<ResourceId> {
        let mut needs = vec![self.id(spec.of.trust, Kind::Network, "main")];
        if let ImageSource::Built(image) = &spec.image {
            needs.push(image.clone());
        }
        needs
    }

    pub(super) async fn all(&self) -> Listing {
        self.docker.inventory(&drivers::Scope::All).await.unwrap()
    }

    pub(super) async fn ensure(&self, resource: &Resource) -> Result<Observed, Failure> {
        self.ensure_logged(resource, &Log::none()).await
    }

    pub(super) async fn ensure_logged(&self, resource: &Resource, log: &Log) -> Result<Observed, Failure> {
        self.docker.ensure(resource, &self.all().await, log).await
    }

    pub(super) async fn failure(&self, resource: &Resource) -> Failure {
        self.ensure(resource).await.unwrap_err()
    }

    /// Removes everything through the driver, and fails if anything of this instance is left on the machine.
    pub(super) async fn end(self) {
        for kind in [Kind::Container, Kind::Job, Kind::Volume, Kind::Network, Kind::Image] {
            for id in self.all().await.into_keys().filter(|id| id.kind == kind) {
                self.docker.remove(&id).await.unwrap();
            }
        }
        wait_for("nothing left", || self.left().is_empty().then_some(()).ok_or_else(|| self.left().join("\n"))).await;
    }

    /// Whatever carries the labels, names or interfaces of this instance.
    pub(super) fn left(&self) -> Vec<String> {
        let instance = self.key.instance();
        let label = format!("label=sidestage.instance={instance}");
        let mut left = Vec::new();
        for arguments in [
            vec!["ps", "-a", "--format", "container {{.ID}} {{.Names}} {{.Status}}", "--filter", &label],
            vec!["images", "-a", "--format", "image {{.ID}} {{.Repository}}:{{.Tag}}", "--filter", &label],
            vec!["network", "ls", "--format", "network {{.ID}} {{.Name}}", "--filter", &label],
            vec!["volume", "ls", "--format", "volume {{.Name}}", "--filter", &label],
        ] {
            left.extend(cli(&arguments).lines().map(str::to_owned));
        }
        let prefix = names::interface_prefix(&self.key);
        for interface in std::fs::read_dir("/sys/class/net").unwrap() {
            let name = interface.unwrap().file_name().into_string().unwrap();
            if name.starts_with(&prefix) {
                left.push(format!("interface {name}"));
            }
        }
        left
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Only what a failed test left is still there.
        for thing in self.left() {
            let Some((kind, rest)) = thing.split_once(' ') else { continue };
            let name = rest.split(' ').next().unwrap_or(rest);
            match kind {
                "container" => cli(&["rm", "-fv", name]),
                "network" => cli(&["network", "rm", name]),
                "volume" => cli(&["volume", "rm", name]),
                "interface" => {
                    let _ = Command::new("ip").args(["link", "del", name]).status();
                    String::new()
                }
                "image" => {
                    cli(&["rmi", "-f", rest.rsplit(' ').next().filter(|tag| !tag.contains('<')).unwrap_or(name)])
                }
                _ => String::new(),
            };
        }
    }
}

/// The engine's own client.
pub(super) fn cli(arguments: &[&str]) -> String {
    let out = Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Waits for a condition, for 30 seconds at most.
pub(super) async fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(why) => assert!(since.elapsed() < Duration::from_secs(30), "waited in vain for {what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn project() -> ProjectName {
    "shop".parse().unwrap()
}

#[tokio::test]
async fn the_driver_conforms() {
    use crate::conformance::{Suite, conforms};
    let engine = Engine::new();
    let stranger = Docker::connect(SOCKET, key(), settings(&engine.files));
    let things = |trust: Trust, name: &str| {
        let image = engine.image(trust, name, &[("Dockerfile", "FROM $BUSYBOX\nRUN echo made > /made\n")]);
        let from_image = |command: &[&str]| {
            let mut spec = engine.spec(trust, command);
            spec.image = ImageSource::Built(image.id.clone());
            spec
        };
        let mut web = from_image(&["httpd", "-f", "-p", "8080", "-h", "/"]);
        (web.port, web.health) = (Some(8080), Health::Path("/made".to_owned()));
        let release = engine.job("release", from_image(&["cat", "/made"]));
        vec![engine.network(trust), image.clone(), release, engine.container("web", web)]
    };
    let suite = Suite {
        driver: &engine.docker,
        stranger: &stranger,
        resources: things(Trust::Trusted, "0123456789ab-ba9876543210"),
        neighbours: things(Trust::Approved, "ba9876543210"),
    };
    conforms(&suite).await;
    engine.end().await;
}
