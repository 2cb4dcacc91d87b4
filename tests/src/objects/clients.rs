//! The clients: boto3 in a virtual environment of its own, rclone and s3cmd as the distribution has them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use drivers::objects::Settings;
use planner::names;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::{Place, bucket, env, key, until};

/// The version that knows `AWS_ENDPOINT_URL_S3` and sends checksums by default.
const BOTO3: &str = "boto3==1.44.5";

/// An interpreter that has a package: its program and, without virtual environments, where that package is.
#[derive(Debug, Clone)]
pub(super) struct Python {
    pub(super) program: PathBuf,
    pub(super) path: PathBuf,
}

/// Beside the build's other products, so that it is made once.
pub(super) fn home(what: &str) -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    let target = binary.ancestors().find(|folder| folder.ends_with("deps")).unwrap().parent().unwrap();
    target.parent().unwrap().join("clients").join(what)
}

pub(super) async fn succeeds(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().await.map_err(|why| why.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Not the command: it carries keys.
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Makes it, or finds it made. A lock lets other processes wait, a marker says that it is complete.
pub(super) async fn install(package: &str) -> Python {
    let (home, system) = (home(package), PathBuf::from("python3"));
    std::fs::create_dir_all(&home).unwrap();
    let lock = std::fs::File::create(home.join("lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    let (venv, site, done) = (home.join("venv"), home.join("site"), home.join("done"));
    if !done.exists() {
        let made = succeeds(Command::new(&system).args(["-m", "venv", "--clear"]).arg(&venv)).await;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", package]);
        if made.is_err() {
            // Debian keeps virtual environments in a package of their own.
            pip = Command::new(&system);
            pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&site).arg(package);
        }
        succeeds(&mut pip).await.unwrap();
        std::fs::write(&done, "").unwrap();
    }
    let own = venv.join("bin/python");
    Python { program: if own.exists() { own } else { system }, path: site }
}

async fn interpreter() -> Python {
    static ONCE: OnceCell<Python> = OnceCell::const_new();
    ONCE.get_or_init(|| install(BOTO3)).await.clone()
}

/// A case of `client.py`, not started yet.
pub(super) async fn command(case: &str, variables: &[(String, String)]) -> Command {
    let python = interpreter().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/objects/client.py");
    let mut command = Command::new(&python.program);
    command.args([script.as_os_str(), case.as_ref()]).stdin(Stdio::null()).kill_on_drop(true);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", &python.path).env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nonexistent");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// Runs a case of `client.py` and gives what it prints.
pub(super) async fn python(case: &str, variables: &[(String, String)]) -> String {
    succeeds(&mut command(case, variables).await).await.unwrap_or_else(|why| panic!("{case}: {why}"))
}

/// Runs a case with this text as its standard input.
pub(super) async fn python_reading(case: &str, variables: &[(String, String)], input: &str) -> String {
    let mut command = command(case, variables).await;
    let mut child: Child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with files to carry there and back.
fn luggage(dir: &Path) -> PathBuf {
    luggage_of(&dir.join("luggage"), 17 << 20)
}

/// Files with one of this size among them.
pub(super) fn luggage_of(folder: &Path, large: u32) -> PathBuf {
    for (name, size) in [("a.txt", 5), ("sub/b c+é.bin", 70_000), ("sub/deep/empty", 0), ("large", large)] {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, (0..size).map(|n: u32| (n % 251) as u8).collect::<Vec<u8>>()).unwrap();
    }
    folder.to_owned()
}

/// What a client of this environment, first generation, is told.
pub(super) fn variables_for(place: &Place, n: u8) -> Vec<(String, String)> {
    place.variables(n, 1)
}

pub(super) fn same(one: &Path, other: &Path) {
    let mut names: Vec<PathBuf> =
        super::files(one).iter().map(|file| file.strip_prefix(one).unwrap().to_owned()).collect();
    names.sort();
    let mut others: Vec<PathBuf> =
        super::files(other).iter().map(|file| file.strip_prefix(other).unwrap().to_owned()).collect();
    others.sort();
    assert_eq!(names, others);
    for name in names {
        assert!(
            std::fs::read(one.join(&name)).unwrap() == std::fs::read(other.join(&name)).unwrap(),
            "{name:?} differs"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rclone() {
    rclone_with(Settings::default()).await;
}

pub(super) async fn rclone_with(settings: Settings) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open_with(&dir.path().join("store"), "127.0.0.1", settings).await;
    place.ensure(&bucket(1, 1)).await;
    let (id, secret) = names::bucket_keys(&key(), &env(1), 1);
    let run = async |args: &[&str]| {
        let mut command = Command::new("rclone");
        command.args([
            "--retries",
            "1",
            "--low-level-retries",
            "1",
            "--s3-chunk-size",
            "5M",
            "--s3-upload-cutoff",
            "8M",
        ]);
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir.path());
        command.envs([("RCLONE_CONFIG_S_TYPE", "s3"), ("RCLONE_CONFIG_S_PROVIDER", "Other")]);
        command.env("RCLONE_CONFIG_S_ENDPOINT", format!("http://{}", place.address));
        command.env("RCLONE_CONFIG_S_ACCESS_KEY_ID", &id).env("RCLONE_CONFIG_S_SECRET_ACCESS_KEY", &secret);
        succeeds(&mut command).await.unwrap()
    };
    let there = format!("s:{}", names::bucket(&env(1)));
    let (luggage, back) = (luggage(dir.path()), dir.path().join("back"));
    run(&["copy", luggage.to_str().unwrap(), &there]).await;
    let listed = run(&["lsf", "-R", "--files-only", &there]).await;
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["a.txt", "large", "sub/b c+é.bin", "sub/deep/empty"]);
    run(&["check", luggage.to_str().unwrap(), &there]).await;
    // Nothing has changed, so nothing is sent again; and what is there already is no obstacle.
    let again = run(&["sync", "-v", "--stats-log-level", "NOTICE", luggage.to_str().unwrap(), &there]).await;
    assert!(!again.contains("Copied"), "{again}");
    run(&["copy", &there, back.to_str().unwrap()]).await;
    same(&luggage, &back);
    run(&["copyto", &format!("{there}/a.txt"), &format!("{there}/sub/a2.txt")]).await;
    assert_eq!(run(&["cat", &format!("{there}/sub/a2.txt")]).await.len(), 5);
    run(&["deletefile", &format!("{there}/a.txt")]).await;
    run(&["delete", &there]).await;
    assert_eq!(run(&["lsf", "-R", "--files-only", &there]).await, "");
    until("all blobs are gone", async || place.blobs().await.is_empty()).await;
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3cmd() {
    s3cmd_with(Settings::default()).await;
}

pub(super) async fn s3cmd_with(settings: Settings) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::open_with(&dir.path().join("store"), "127.0.0.1", settings).await;
    place.ensure(&bucket(1, 1)).await;
    let (id, secret) = names::bucket_keys(&key(), &env(1), 1);
    let config = dir.path().join("s3cfg");
    let address = place.address;
    std::fs::write(
        &config,
        format!("[default]\naccess_key={id}\nsecret_key={secret}\nhost_base={address}\nhost_bucket={address}\nuse_https=False\nbucket_location=staging\n"),
    )
    .unwrap();
    let run = async |args: &[&str]| {
        let mut command = Command::new("s3cmd");
        command.args(["-c", config.to_str().unwrap(), "--multipart-chunk-size-mb=5"]).args(args);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", dir.path())
            .env("LANG", "C.UTF-8");
        succeeds(&mut command).await.unwrap()
    };
    let there = format!("s3://{}", names::bucket(&env(1)));
    let (luggage, back) = (luggage(dir.path()), dir.path().join("back"));
    std::fs::create_dir(&back).unwrap();
    assert!(run(&["ls"]).await.contains(&there));
    run(&["put", "--recursive", "--acl-public", &format!("{}/", luggage.display()), &format!("{there}/")]).await;
    let listed = run(&["ls", "--recursive", &there]).await;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(listed.contains("/sub/b c+é.bin"), "{listed}");
    assert!(run(&["ls", &format!("{there}/")]).await.contains("DIR"), "folders");
    run(&["get", "--recursive", &format!("{there}/"), &format!("{}/", back.display())]).await;
    same(&luggage, &back);
    run(&["cp", &format!("{there}/a.txt"), &format!("{there}/a2.txt")]).await;
    assert!(run(&["du", &there]).await.contains("5 objects"));
    run(&["del", &format!("{there}/a2.txt")]).await;
    run(&["del", "--recursive", "--force", &format!("{there}/")]).await;
    assert_eq!(run(&["ls", "--recursive", &there]).await, "");
    until("all blobs are gone", async || place.blobs().await.is_empty()).await;
    place.close().await;
}
