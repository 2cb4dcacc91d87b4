//! Storage that shares blocks: made, mounted, taken up again, full, removed. On real loop devices, with PostgreSQL 18.

use std::path::Path;
use std::process::Command;

use drivers::postgres::{Server, ServerSettings, Storage, StorageError, Strategy};
use drivers::{Driver, Listing, Log, Scope};
use planner::identity::InstanceKey;
use planner::resource::{Failure, Phase};
use planner::spec::DatabaseFrom;
use sqlx::Connection;

use super::baselines::{beginning_with, template};
use super::{admin, connect, ensure, instance, login, resource, shared, sql};

const GIB: u64 = 1 << 30;

fn storage(settings: &ServerSettings) -> Storage {
    Storage { file: settings.storage.clone().unwrap(), mounted_at: settings.home.join("storage") }
}

/// Some 60 MB of rows, made by the server.
fn heavy(folder: &tempfile::TempDir) -> DatabaseFrom {
    let path = folder.path().join("heavy.sql");
    let text = "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 25) AS filler FROM generate_series(1, 60000) n;\n\
                CREATE INDEX ON big (n);\n";
    std::fs::write(&path, text).unwrap();
    DatabaseFrom::File(path)
}

fn is_mounted(place: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == place.to_str())
}

async fn rows(server: &Server, key: &InstanceKey, env: &planner::resource::Resource) -> i64 {
    let (name, password) = login(key, env);
    let mut inside = connect(server, &name, &password, &name).await.unwrap();
    let rows = sqlx::query_scalar("SELECT count(*) FROM big").fetch_one(&mut inside).await.unwrap();
    inside.close().await.unwrap();
    rows
}

#[tokio::test]
async fn clones_share_their_blocks_until_they_are_written_to() {
    let settings = shared::with_storage("shares");
    let storage = storage(&settings);
    storage.create(3 * GIB).unwrap();
    let server = Server::start(settings).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let folder = tempfile::tempdir().unwrap();
    let made = driver.ensure(&template("big@1", heavy(&folder)), &Listing::new(), &Log::none()).await.unwrap();
    let bytes = made.outputs.bytes.unwrap();
    assert!(bytes > 50_000_000, "{bytes}");
    let choice = driver.strategy("big@1").await.unwrap();
    assert_eq!((choice.strategy, choice.better), (Strategy::Clone, None), "{}", choice.why);
    assert_eq!(driver.strategy("default@1").await.unwrap().strategy, Strategy::WalLog);

    let free = || storage.state().unwrap().free.unwrap();
    let before = free();
    let envs: Vec<_> = (1..=4).map(|sha| beginning_with(&key, sha, "big@1")).collect();
    futures_util::future::join_all(envs.iter().map(|env| ensure(&driver, env))).await;
    let taken = before.saturating_sub(free());
    assert!(taken < bytes, "four clones of {bytes} take {taken}");
    // Each is its own all the same.
    let (name, password) = login(&key, &envs[0]);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    sql(&mut inside, "DELETE FROM big WHERE n % 2 = 0").await.unwrap();
    inside.close().await.unwrap();
    assert_eq!((rows(&server, &key, &envs[0]).await, rows(&server, &key, &envs[1]).await), (30000, 60000));

    driver.clear().await.unwrap();
    server.destroy().await.unwrap();
    assert!(!is_mounted(&storage.mounted_at));
    storage.remove().unwrap();
    assert!(!storage.file.exists());
}

#[tokio::test]
async fn a_file_system_that_does_not_share_is_seen_and_said() {
    let settings = ServerSettings { storage: None, ..shared::with_storage("plain") };
    let server = Server::start(settings).await.unwrap();
    let (driver, _) = instance(&server, 1);
    let folder = tempfile::tempdir().unwrap();
    ensure(&driver, &template("big@1", heavy(&folder))).await;
    let choice = driver.strategy("big@1").await.unwrap();
    // Unless the machine's temporary folder lies on XFS or btrfs itself.
    if choice.strategy != Strategy::Clone {
        assert!(choice.why.contains("does not share blocks"), "{}", choice.why);
        assert!(choice.disk > 50_000_000);
    }
    server.destroy().await.unwrap();
}

#[tokio::test]
async fn it_is_mounted_again_after_a_restart_of_the_machine_and_whatever_was_cut() {
    let settings = shared::with_storage("again");
    let storage = storage(&settings);
    // Cut in the middle of its making: no file of that name, and what is left is in nobody's way.
    std::fs::write(storage.file.with_extension("new"), "half").unwrap();
    let error = Server::start(settings.clone()).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("sidestage storage create") && !error.contains('\n'), "{error}");
    storage.create(3 * GIB).unwrap();
    assert!(matches!(storage.create(3 * GIB), Err(StorageError::Exists { .. })));

    let server = Server::start(settings.clone()).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let folder = tempfile::tempdir().unwrap();
    ensure(&driver, &template("big@1", heavy(&folder))).await;
    let env = beginning_with(&key, 1, "big@1");
    ensure(&driver, &env).await;
    for devices in [0, 1] {
        server.stop().await;
        storage.unmount().unwrap();
        if devices == 1 {
            // Cut between the device and the mount.
            let made = Command::new("losetup").args(["--find", "--show"]).arg(&storage.file).status().unwrap();
            assert!(made.success());
        }
        assert!(!is_mounted(&storage.mounted_at));
        let server = Server::start(settings.clone()).await.unwrap();
        assert_eq!(rows(&server, &key, &env).await, 60000);
        let listed = Command::new("losetup").arg("--associated").arg(&storage.file).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 1, "one device, whatever there was");
    }
    // Taken out of the configuration meanwhile, whether the machine was started since or not.
    let forgetful = ServerSettings { storage: None, ..settings.clone() };
    let refused = async || Server::start(forgetful.clone()).await.map(|_| ()).unwrap_err().to_string();
    let error = refused().await;
    let lie = format!("2 databases lie in the storage at {}", storage.mounted_at.display());
    let back = format!("put storage = \"{}\" back", storage.file.display());
    assert!(error.contains(&lie) && error.contains(&back) && !error.contains('\n'), "{error}");
    assert_eq!(rows(&server, &key, &env).await, 60000, "what runs goes on");
    server.stop().await;
    storage.unmount().unwrap();
    let error = refused().await;
    assert!(error.contains("databases may lie") && error.contains("back into [database]"), "{error}");
    assert_eq!(server.pid(), None);
    let server = Server::start(settings.clone()).await.unwrap();
    assert_eq!(rows(&server, &key, &env).await, 60000);
    let error = storage.remove().unwrap_err().to_string();
    assert!(error.contains("databases are in it"), "{error}");
    assert!(is_mounted(&storage.mounted_at));
    driver.clear().await.unwrap();
    let server = Server::start(ServerSettings { storage: None, ..settings.clone() }).await.unwrap();
    let (driver, _) = instance(&server, 1);
    ensure(&driver, &resource(&key, 2, 1)).await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tablespace WHERE spcname = 'sidestage'")
        .fetch_one(&mut admin(&server, "postgres").await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    storage.remove().unwrap();
    server.destroy().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_leaves_the_rest_alone() {
    let settings = shared::with_storage("full");
    let storage = storage(&settings);
    assert!(matches!(storage.create(GIB / 2), Err(StorageError::TooSmall { .. })));
    let error = storage.create(1 << 50).unwrap_err().to_string();
    assert!(error.contains("free") && error.contains("--size"), "{error}");
    assert!(!storage.file.exists() && !storage.file.with_extension("new").exists());
    storage.create(3 * GIB).unwrap();
    let server = Server::start(settings).await.unwrap();
    let (driver, key) = instance(&server, 1);
    let folder = tempfile::tempdir().unwrap();
    let big = template("big@1", heavy(&folder));
    ensure(&driver, &big).await;
    let env = beginning_with(&key, 1, "big@1");
    ensure(&driver, &env).await;
    // Somebody else takes nearly all of what was free.
    let filler = std::fs::File::create(storage.mounted_at.join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, GIB).unwrap();
    let before = driver.inventory(&Scope::All).await.unwrap();
    for resource in [template("big@2", heavy(&folder)), beginning_with(&key, 2, "big@1")] {
        let failure = driver.ensure(&resource, &Listing::new(), &Log::none()).await.unwrap_err();
        let Failure::Transient { text } = &failure else { panic!("{failure:?}") };
        assert!(text.contains("free") && text.contains(storage.mounted_at.to_str().unwrap()), "{text}");
        let listing = driver.inventory(&Scope::All).await.unwrap();
        assert!(listing.get(&resource.id).is_none_or(|seen| seen.phase == Phase::Partial));
    }
    assert_eq!(rows(&server, &key, &env).await, 60000);
    let after = driver.inventory(&Scope::All).await.unwrap();
    assert!(before.iter().all(|(id, seen)| after.get(id) == Some(seen)));
    // Room again: the same calls succeed. Removing alone gives blocks back in the background only.
    filler.set_len(0).unwrap();
    drop(filler);
    std::fs::remove_file(storage.mounted_at.join("filler")).unwrap();
    ensure(&driver, &beginning_with(&key, 2, "big@1")).await;
    driver.clear().await.unwrap();
    server.destroy().await.unwrap();
    storage.remove().unwrap();
}
