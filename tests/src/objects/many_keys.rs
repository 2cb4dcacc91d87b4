//! Clients not written by us, each with its defaults, in an environment of its own on one baseline of ten thousand objects.

use std::path::{Path, PathBuf};

use drivers::objects::Settings;
use planner::names;
use planner::spec::{DataFrom, ObjectsFrom, Spec};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::clients::{home, luggage_of, python, same, succeeds, variables_for};
use super::{Place, bucket, env, key, snapshot, until};

/// The AWS SDK for JavaScript, from npm's registry, beside the build's other products.
async fn javascript() -> PathBuf {
    static ONCE: OnceCell<PathBuf> = OnceCell::const_new();
    let install = async || {
        let (home, sources) = (home("javascript"), Path::new(env!("CARGO_MANIFEST_DIR")).join("src/objects"));
        std::fs::create_dir_all(&home).unwrap();
        let lock = std::fs::File::create(home.join("lock")).unwrap();
        let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
        for file in ["package.json", "client.mjs"] {
            std::fs::copy(sources.join(file), home.join(file)).unwrap();
        }
        let wanted = std::fs::read_to_string(home.join("package.json")).unwrap();
        let done = home.join("done");
        if std::fs::read_to_string(&done).ok().as_ref() != Some(&wanted) {
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&home);
            succeeds(&mut npm).await.unwrap();
            std::fs::write(&done, wanted).unwrap();
        }
        home
    };
    ONCE.get_or_init(install).await.clone()
}

fn baseline(dir: &Path) {
    for number in 0..10_000 {
        let file = dir.join(format!("f{}/{number}.txt", number % 100));
        if number < 100 {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        }
        std::fs::write(file, number.to_string()).unwrap();
    }
}

async fn rclone(place: &Place, dir: &Path, n: u8) {
    let (id, secret) = names::bucket_keys(&key(), &env(n), 1);
    let run = async |args: &[&str]| {
        let mut command = Command::new("rclone");
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir);
        command.envs([("RCLONE_CONFIG_S_TYPE", "s3"), ("RCLONE_CONFIG_S_PROVIDER", "Other")]);
        command.env("RCLONE_CONFIG_S_ENDPOINT", format!("http://{}", place.address));
        command.env("RCLONE_CONFIG_S_ACCESS_KEY_ID", &id).env("RCLONE_CONFIG_S_SECRET_ACCESS_KEY", &secret);
        succeeds(&mut command).await.unwrap()
    };
    let there = format!("s:{}", names::bucket(&env(n)));
    assert_eq!(run(&["lsf", "-R", "--files-only", &there]).await.lines().count(), 10_000);
    assert_eq!(run(&["lsf", &there]).await.lines().count(), 100);
    let (luggage, back) = (luggage_of(&dir.join("rclone"), 100 << 20), dir.join("rclone-back"));
    run(&["copy", luggage.to_str().unwrap(), &format!("{there}/mine")]).await;
    run(&["check", luggage.to_str().unwrap(), &format!("{there}/mine")]).await;
    run(&["copyto", &format!("{there}/mine/large"), &format!("{there}/again/large")]).await;
    run(&["copy", &format!("{there}/mine"), back.to_str().unwrap()]).await;
    same(&luggage, &back);
    // A folder of the baseline is made like another: what is too much goes, what differs is replaced.
    run(&["sync", luggage.to_str().unwrap(), &format!("{there}/f7")]).await;
    run(&["check", luggage.to_str().unwrap(), &format!("{there}/f7")]).await;
    run(&["purge", &format!("{there}/f8")]).await;
    assert_eq!(run(&["lsf", "-R", "--files-only", &there]).await.lines().count(), 10_000 - 200 + 4 + 4 + 1);
}

async fn s3cmd(place: &Place, dir: &Path, n: u8) {
    let ((id, secret), address) = (names::bucket_keys(&key(), &env(n), 1), place.address);
    let config = dir.join("s3cfg");
    let text = format!(
        "[default]\naccess_key={id}\nsecret_key={secret}\nhost_base={address}\nhost_bucket={address}\nuse_https=False\nbucket_location=staging\n"
    );
    std::fs::write(&config, text).unwrap();
    let run = async |args: &[&str]| {
        let mut command = Command::new("s3cmd");
        command.args(["-c", config.to_str().unwrap()]).args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir).env("LANG", "C.UTF-8");
        succeeds(&mut command).await.unwrap()
    };
    let there = format!("s3://{}", names::bucket(&env(n)));
    assert_eq!(run(&["ls", "--recursive", &there]).await.lines().count(), 10_000);
    assert_eq!(run(&["ls", &format!("{there}/")]).await.lines().count(), 100);
    let (luggage, back) = (luggage_of(&dir.join("s3cmd"), 100 << 20), dir.join("s3cmd-back"));
    std::fs::create_dir(&back).unwrap();
    run(&["sync", &format!("{}/", luggage.display()), &format!("{there}/mine/")]).await;
    run(&["sync", &format!("{there}/mine/"), &format!("{}/", back.display())]).await;
    same(&luggage, &back);
    run(&["cp", &format!("{there}/f7/107.txt"), &format!("{there}/copy")]).await;
    run(&["mv", &format!("{there}/f7/207.txt"), &format!("{there}/moved")]).await;
    run(&["del", "--recursive", "--force", &format!("{there}/f9/")]).await;
    assert_eq!(run(&["ls", "--recursive", &there]).await.lines().count(), 10_000 + 4 + 2 - 1 - 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_across_ten_thousand_keys() {
    each_client(Settings::default()).await;
}

pub(super) async fn each_client(settings: Settings) {
    let dir = tempfile::tempdir().unwrap();
    baseline(&dir.path().join("files"));
    let place = Place::open_with(&dir.path().join("store"), "127.0.0.1", settings).await;
    let shop = snapshot("shop@1", ObjectsFrom::Folder(dir.path().join("files")));
    assert_eq!(place.ensure(&shop).await.outputs.objects, Some(10_000));
    for n in 1..=4 {
        let mut resource = bucket(n, 1);
        let Spec::Bucket { from, .. } = &mut resource.spec else { unreachable!("a bucket") };
        *from = DataFrom::Baseline("shop@1".to_owned());
        place.ensure(&resource).await;
    }
    let blobs = place.blobs().await.len();
    let scripted = async {
        let home = javascript().await;
        let mut node = Command::new("node");
        node.arg(home.join("client.mjs")).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        node.env("HOME", dir.path()).envs(variables_for(&place, 2));
        succeeds(&mut node).await.unwrap_or_else(|why| panic!("{why}"));
    };
    let first = async {
        python("ten_thousand", &variables_for(&place, 1)).await;
        rclone(&place, dir.path(), 3).await;
    };
    let second = async {
        scripted.await;
        s3cmd(&place, dir.path(), 4).await;
    };
    tokio::join!(first, second);
    // None has seen what another did, and the baseline is as it was.
    for n in 1..=4 {
        place
            .ensure(&{
                let mut fresh = bucket(n, 2);
                let Spec::Bucket { from, .. } = &mut fresh.spec else { unreachable!("a bucket") };
                *from = DataFrom::Baseline("shop@1".to_owned());
                fresh
            })
            .await;
        assert_eq!(place.store.usage(&env(n), 2).await.unwrap().unwrap().objects, 10_000);
        drivers::Driver::remove(&place.driver, &bucket(n, 1).id).await.unwrap();
    }
    until("only the baseline's blobs are left", async || place.blobs().await.len() == blobs).await;
    place.close().await;
}
