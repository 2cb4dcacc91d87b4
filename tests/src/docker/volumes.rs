//! Data of companions: it outlasts its container, is bounded, and nothing of it is left in the end. Secrets at creation.

use std::path::{Path, PathBuf};
use std::process::Command;

use drivers::Driver;
use planner::identity::Trust;
use planner::resource::{Failure, Kind, Phase, Resource, Run};
use planner::secrets::SecretClass;
use planner::spec::{Container, ImageSource, Spec};

use super::engine::{Engine, cli, origin, project};

/// A folder for disks. What a failed test leaves attached is detached.
struct Disks(tempfile::TempDir);

impl Disks {
    fn new() -> Disks {
        Disks(tempfile::tempdir().unwrap())
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn devices(&self) -> Vec<String> {
        let images = self.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "img"));
        images.flat_map(|file| devices_of(&file)).collect()
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for device in self.devices() {
            detach(&device);
        }
    }
}

fn devices_of(file: &Path) -> Vec<String> {
    let out = Command::new("losetup").args(["--noheadings", "--output", "NAME", "--associated"]).arg(file).output();
    String::from_utf8(out.unwrap().stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn detach(device: &str) {
    Command::new("losetup").args(["--detach", device]).status().unwrap();
}

fn engine(disks: &Disks) -> Engine {
    Engine::with(|settings| settings.disks = disks.0.path().to_owned())
}

fn volume(engine: &Engine, name: &str, size: u64) -> Resource {
    let id = engine.id(Trust::Trusted, Kind::Volume, name);
    let spec = Spec::Volume { of: origin(Trust::Trusted), size };
    Resource { id, spec, needs: Vec::new(), ..engine.network(Trust::Trusted) }
}

/// A companion with this data that runs a line of shell and stays.
fn companion(engine: &Engine, volume: &Resource, line: &str) -> Resource {
    let mut spec = engine.spec(Trust::Trusted, &["sh", "-c", &format!("{line}; sleep 1000")]);
    (spec.companion, spec.data) = (true, Some(volume.id.clone()));
    let mut resource = engine.container(&volume.id.name, spec);
    resource.needs.push(volume.id.clone());
    resource
}

fn inside(engine: &Engine, resource: &Resource, command: &[&str]) -> String {
    let env = engine.env(Trust::Trusted);
    let name = planner::names::container(&env, resource.id.generation, &resource.id.name);
    cli(&[&["exec", &name], command].concat())
}

#[tokio::test]
async fn data_outlasts_its_container_and_is_bounded() {
    let disks = Disks::new();
    let engine = engine(&disks);
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let data = volume(&engine, "cache", 16 << 20);
    let seen = engine.ensure(&data).await.unwrap();
    assert_eq!(seen.phase, Phase::Whole);
    assert_eq!(engine.all().await[&data.id], seen, "a listing tells the same");
    assert_eq!(seen.outputs.commit.map(|(_, sha, _)| sha), Some(origin(Trust::Trusted).sha));

    let cache = companion(&engine, &data, "ls -A /data > /before; echo kept > /data/kept");
    let seen = engine.ensure(&cache).await.unwrap();
    assert!(seen.uses.contains(&data.id), "{:?}", seen.uses);
    assert_eq!(inside(&engine, &cache, &["cat", "/before"]), "", "it begins empty");
    inside(&engine, &cache, &["dd", "if=/dev/zero", "of=/data/much", "bs=1048576", "count=64"]);
    let listed = inside(&engine, &cache, &["ls", "-l", "/data/much"]);
    let much: u64 = listed.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!((4 << 20..16 << 20).contains(&much), "{much} bytes fit into 16 MB");

    let failure = engine.docker.remove(&data.id).await.unwrap_err();
    assert!(failure.to_string().contains("still in use"), "{failure}");
    engine.docker.remove(&cache.id).await.unwrap();
    let cache = companion(&engine, &data, "true");
    engine.ensure(&cache).await.unwrap();
    assert_eq!(inside(&engine, &cache, &["cat", "/data/kept"]), "kept\n");
    assert_eq!(disks.devices().len(), 1);
    engine.end().await;
    assert_eq!(disks.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn data_is_mounted_where_the_image_keeps_it_and_survives_a_boot() {
    let disks = Disks::new();
    let engine = engine(&disks);
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    let dockerfile =
        "FROM $BUSYBOX\nRUN mkdir -p /var/lib/db && echo shipped > /var/lib/db/shipped\nVOLUME /var/lib/db\n";
    let image = engine.image(Trust::Trusted, "0123456789ab-ba9876543210", &[("Dockerfile", dockerfile)]);
    engine.ensure(&image).await.unwrap();
    let data = volume(&engine, "db", 16 << 20);
    engine.ensure(&data).await.unwrap();
    let mut db = companion(&engine, &data, "echo kept > /var/lib/db/kept");
    if let Spec::Container(container) = &mut db.spec {
        container.image = ImageSource::Built(image.id.clone());
    }
    db.needs.push(image.id.clone());
    engine.ensure(&db).await.unwrap();
    assert_eq!(inside(&engine, &db, &["cat", "/var/lib/db/shipped"]), "shipped\n", "it begins with what the image has");

    // As after a boot: nothing runs, and no file has a device.
    engine.docker.rest(&db.id, Run::Stopped).await.unwrap();
    for device in disks.devices() {
        detach(&device);
    }
    assert_eq!(disks.devices(), Vec::<String>::new());
    engine.ensure(&db).await.unwrap();
    assert_eq!(inside(&engine, &db, &["cat", "/var/lib/db/kept"]), "kept\n");
    engine.end().await;
}

#[tokio::test]
async fn half_made_data_is_seen_as_such_and_completed() {
    let disks = Disks::new();
    let engine = engine(&disks);
    let data = volume(&engine, "cache", 16 << 20);
    engine.ensure(&data).await.unwrap();
    // As if the call had been cut before the disk was done.
    for file in disks.files() {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(engine.all().await[&data.id].phase, Phase::Partial);
    assert_eq!(engine.ensure(&data).await.unwrap().phase, Phase::Whole);
    engine.end().await;
}

/// A process with these secrets at these versions, which writes one of them down.
fn with_secret(engine: &Engine, version: &str) -> Resource {
    let spec = engine.spec(Trust::Trusted, &["sh", "-c", "sleep 1000"]);
    let secrets = [("TOKEN".to_owned(), version.to_owned())].into();
    engine.container("web", Container { secrets, ..spec })
}

#[tokio::test]
async fn secrets_come_from_the_vault_at_creation_and_a_changed_one_at_the_next_start() {
    let mut vault = None;
    let engine = Engine::with(|settings| vault = Some(settings.secrets.clone()));
    let vault = vault.unwrap();
    let set = |class, value: &str| vault.set(&project(), class, [("TOKEN".to_owned(), value.to_owned())].into());
    engine.ensure(&engine.network(Trust::Trusted)).await.unwrap();
    set(SecretClass::Foreign, "of others");
    let failure = engine.failure(&with_secret(&engine, "v1")).await;
    assert!(matches!(&failure, Failure::Transient { text } if text.contains("TOKEN")), "{failure:?}");

    set(SecretClass::Trusted, "first");
    let web = with_secret(&engine, "v1");
    let seen = engine.ensure(&web).await.unwrap();
    let digest = |resource: &Resource| match &resource.spec {
        Spec::Container(container) => planner::secrets::digest(&container.secrets),
        _ => None,
    };
    assert_eq!(seen.outputs.secrets, digest(&web));
    assert_eq!(inside(&engine, &web, &["sh", "-c", "echo $TOKEN"]), "first\n");

    set(SecretClass::Trusted, "second");
    let changed = with_secret(&engine, "v2");
    assert_eq!(engine.ensure(&changed).await.unwrap().outputs.id, seen.outputs.id, "what runs goes on");
    engine.docker.rest(&web.id, Run::Stopped).await.unwrap();
    let next = engine.ensure(&changed).await.unwrap();
    assert_ne!(next.outputs.id, seen.outputs.id);
    assert_eq!(next.outputs.secrets, digest(&changed));
    assert_eq!(inside(&engine, &web, &["sh", "-c", "echo $TOKEN"]), "second\n");
    engine.end().await;
}
