//! The whole product in front of the fake GitHub, as people run it: the program itself, real containers, webhooks over HTTP. And
//! whether a token, a key or a secret of it shows where it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use data_encoding::BASE64;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::fakehub::Hub;
use crate::hub_demo::{self, GUESTBOOK, Sidestage, Story};
use crate::story::{binary, left, port};

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(20);

/// What must not be found, in whatever form it was sent or stored.
struct Canary(AhoCorasick);

impl Canary {
    fn of(marks: &BTreeSet<String>) -> Canary {
        let encoded = marks.iter().map(|mark| BASE64.encode(format!("x-access-token:{mark}").as_bytes()));
        Canary(AhoCorasick::new(marks.iter().cloned().chain(encoded)).unwrap())
    }

    /// The App's key line by line, the secret of its webhook, and everything by which anybody was let in so far.
    fn at(hub: &Hub) -> Canary {
        let mut marks = hub.shown();
        hub.world(|world| {
            marks.extend(world.app.key.lines().filter(|line| line.len() > 40).map(str::to_owned));
            marks.insert(world.app.secret.clone());
            marks.extend(world.tokens.keys().cloned());
        });
        assert!(marks.len() > 10, "the key alone has more lines");
        Canary::of(&marks)
    }

    /// The place, if these bytes show anything; never what.
    fn seen(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        self.0.find(bytes).map(|found| format!("{place}, byte {}", found.start())).into_iter().collect()
    }

    /// In all files of a folder, but below that one.
    fn in_files(&self, folder: &Path, but: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() && path != but {
                found.extend(self.in_files(&path, but));
            } else if kind.is_file() {
                // One that goes meanwhile is gone.
                let bytes = std::fs::read(&path).unwrap_or_default();
                found.extend(self.seen(&path.display().to_string(), &bytes));
            }
        }
        found
    }

    /// In what the engine tells of an instance's images (every layer's history too), containers, networks and volumes, and in
    /// what its containers print.
    async fn in_engine(&self, label: &str) -> Vec<String> {
        let (mut found, filter) = (Vec::new(), format!("label={label}"));
        let lists: [(&[&str], &[&[&str]]); 4] = [
            (&["image", "ls", "--all"], &[&["image", "inspect"], &["image", "history", "--no-trunc"]]),
            (&["ps", "--all"], &[&["container", "inspect"], &["container", "logs"]]),
            (&["network", "ls"], &[&["network", "inspect"]]),
            (&["volume", "ls"], &[&["volume", "inspect"]]),
        ];
        for (list, looks) in lists {
            let ids = docker(&[list, &["--quiet", "--filter", &filter]].concat()).await;
            for id in String::from_utf8_lossy(&ids).lines() {
                for look in looks {
                    let told = docker(&[look, [id].as_slice()].concat()).await;
                    found.extend(self.seen(&format!("docker {} {id}", look.join(" ")), &told));
                }
            }
        }
        found
    }
}

/// What it says, on either stream.
async fn docker(words: &[&str]) -> Vec<u8> {
    let output = Command::new("docker").args(words).stdin(Stdio::null()).output().await.unwrap();
    [output.stdout, output.stderr].concat()
}

/// Command lines and environments of all processes of the machine, collected until it is stopped.
struct Processes {
    stop: Arc<AtomicBool>,
    watching: std::thread::JoinHandle<BTreeMap<Vec<u8>, String>>,
}

impl Processes {
    fn watch() -> Processes {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let watching = std::thread::spawn(move || {
            let mut all = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    let name = process.file_name().to_string_lossy().into_owned();
                    for file in ["cmdline", "environ"].iter().filter(|_| name.parse::<u32>().is_ok()) {
                        let bytes = std::fs::read(process.path().join(file)).unwrap_or_default();
                        all.entry(bytes).or_insert_with(|| format!("/proc/{name}/{file}"));
                    }
                }
                std::thread::sleep(PAUSE);
            }
            all
        });
        Processes { stop, watching }
    }

    fn stop(self) -> BTreeMap<Vec<u8>, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.watching.join().unwrap()
    }
}

fn demo(port: u16, repository: &str, said: &Path) -> Child {
    let said = File::create(said).unwrap();
    Command::new(binary())
        .args(["demo", "--port", &port.to_string(), "--github", repository])
        // Whoever looks for a fault has it say everything.
        .env("RUST_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_day_on_github_is_as_told_and_shows_no_secret() {
    let hub = Hub::start().await;
    hub_demo::people(&hub).await;
    let (port, folder) = (port(), tempfile::tempdir().unwrap());
    let said = folder.path().join("said");
    let processes = Processes::watch();
    let mut child = demo(port, &format!("{}/{GUESTBOOK}", hub.url()), &said);
    let sidestage = Sidestage { program: binary(), port };
    let mut story = Story::new(&hub, &sidestage);
    let state = sidestage::demo::folder(port);
    let mut found = Vec::new();
    let words = || std::fs::read_to_string(&said).unwrap();
    let last = || words().lines().rev().take(40).collect::<Vec<_>>().join("\n");
    story.connect().await.unwrap_or_else(|error| panic!("{error:#}\n{}", last()));
    story.own().await.unwrap_or_else(|error| panic!("{error:#}\n{}", last()));
    story.foreign().await.unwrap_or_else(|error| panic!("{error:#}\n{}", last()));
    let canary = Canary::at(&hub);
    // Where they are kept, and nowhere else: store, logs, mirrors, databases, objects.
    let kept = state.join("github");
    assert!(!canary.in_files(&kept, Path::new("")).is_empty(), "the key is in {}", kept.display());
    for folder in [state.clone(), sidestage::state_dir::services(&state), state.with_extension("repository")] {
        found.extend(canary.in_files(&folder, &kept));
    }
    let label = format!("sidestage.instance={}", story.instance().unwrap());
    assert!(!docker(&["ps", "--quiet", "--filter", &format!("label={label}")]).await.is_empty());
    found.extend(canary.in_engine(&label).await);
    let leaks = story.goodbye().await.unwrap_or_else(|error| panic!("{error:#}\n{}", last()));
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(120), child.wait()).await.expect("in time").unwrap();
    assert!(status.success() && leaks == 0 && !left(port), "{status}\n{}", last());
    assert_eq!(story.checks(), 19, "it was told to its end");
    // Those that came up since then, too.
    let canary = Canary::at(&hub);
    found.extend(canary.seen("what sidestage said", words().as_bytes()));
    let processes = processes.stop();
    let mirror = state.join("mirrors").display().to_string();
    let at_work = processes.keys().any(|bytes| String::from_utf8_lossy(bytes).contains(&mirror));
    assert!(at_work, "git was seen at work");
    found.extend(processes.iter().flat_map(|(bytes, place)| canary.seen(place, bytes)));
    let shown = hub.world(|world| format!("{:?}", world.repo(GUESTBOOK)));
    found.extend(canary.seen("what is written on GitHub", shown.as_bytes()));
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_is_seen() {
    let secret = "c4nary-of-this-test";
    let canary = Canary::of(&[secret.to_owned()].into());
    let image = crate::kit::busybox_image();
    let label = format!("sidestage.instance=canary-{}", image.tag.replace(':', "-"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    std::fs::write(
        folder.path().join("a/b/log"),
        format!("xx{}yy", BASE64.encode(format!("x-access-token:{secret}").as_bytes())),
    )
    .unwrap();
    assert_eq!(canary.in_files(folder.path(), Path::new("")).len(), 1);
    assert_eq!(canary.in_files(folder.path(), &folder.path().join("a")).len(), 0);
    let processes = Processes::watch();
    let mut child = Command::new("sleep").arg("600").env("TOKEN", secret).kill_on_drop(true).spawn().unwrap();
    let environ = format!("/proc/{}/environ", child.id().unwrap());
    while !std::fs::read(&environ).is_ok_and(|bytes| !canary.seen("", &bytes).is_empty()) {
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(PAUSE * 20).await;
    child.kill().await.unwrap();
    assert!(processes.stop().iter().any(|(bytes, place)| !canary.seen(place, bytes).is_empty()));
    assert!(canary.in_engine(&label).await.is_empty());
    let environment = format!("TOKEN={secret}");
    let made = docker(&["create", "--label", &label, "--env", &environment, &image.tag, "true"]).await;
    let made = String::from_utf8_lossy(&made).trim().to_owned();
    let (labelled, tag) = (format!("LABEL {}", label.replace('-', "_")), format!("{}-planted", image.tag));
    docker(&["commit", "--change", &labelled, "--change", &format!("ENV {environment}"), &made, &tag]).await;
    let (containers, images) = (canary.in_engine(&label).await, canary.in_engine(&label.replace('-', "_")).await);
    docker(&["rm", "-f", &made]).await;
    docker(&["rmi", "-f", &tag]).await;
    assert!(containers.iter().any(|place| place.starts_with("docker container inspect")), "{containers:?}");
    assert!(images.iter().any(|place| place.starts_with("docker image inspect")), "{images:?}");
}
