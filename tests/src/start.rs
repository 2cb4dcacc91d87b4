//! A start that fails: it takes back what it made, and leaves what it found.

use std::path::Path;

use drivers::Scope;
use planner::identity::InstanceKey;
use planner::names;
use planner::resource::{Backend, Kind, Run};
use planner::view::State;
use sidestage::config::Config;
use sidestage::instance::Instance;
use sidestage::state_dir;

use crate::kit;
use crate::stage::{Stage, workshop};

fn bridge(config: &Config) -> String {
    let bytes = std::fs::read(config.state_dir.join("instance.key")).unwrap();
    names::service_bridge(&InstanceKey::new(bytes.try_into().unwrap()))
}

/// The interface as `ip` shows it, with its addresses; empty when there is none.
fn shown(interface: &str) -> String {
    let ip = std::process::Command::new("ip").args(["-4", "-o", "address", "show", "dev", interface]).output().unwrap();
    String::from_utf8(ip.stdout).unwrap()
}

/// Processes that work below the folder.
fn workers(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let inside = |process: &Path| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    entries.map(|entry| entry.path()).filter(|path| inside(path)).map(|path| path.display().to_string()).collect()
}

/// The pid file of the database server, if its process runs.
fn postmaster(home: &Path) -> Option<String> {
    let text = std::fs::read_to_string(home.join("postgres/data/postmaster.pid")).ok()?;
    let process = format!("/proc/{}", text.lines().next()?);
    workers(home).contains(&process).then_some(text)
}

/// Makes a part fail that starts after database server and service address.
fn spoil(config: &Config) {
    let socket = state_dir::control_socket(&config.state_dir);
    let _ = std::fs::remove_file(&socket);
    std::fs::create_dir_all(&socket).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_takes_back_what_it_made() {
    let (folder, _repository, sound) = workshop(&[("README", "a shop\n")], "", "").await;
    let mut without_programs = sound.clone();
    without_programs.database.bin_dir = Some(folder.path().join("no-such-folder"));
    let mut bad_store = sound.clone();
    bad_store.state_dir = folder.path().join("state-2");
    std::fs::create_dir(&bad_store.state_dir).unwrap();
    std::fs::write(bad_store.state_dir.join("sidestage.db"), "no store at all, but long enough".repeat(40)).unwrap();
    let mut no_socket = sound.clone();
    no_socket.state_dir = folder.path().join("state-3");
    spoil(&no_socket);
    for (config, says) in
        [(&without_programs, "no-such-folder"), (&bad_store, "sidestage.db"), (&no_socket, "control.sock")]
    {
        let failure = Instance::start(config.clone()).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(failure.contains(says), "{says}: {failure:?}");
        assert_eq!(shown(&bridge(config)), "", "{says}: the service address is left");
        assert_eq!(workers(folder.path()), [""; 0], "{says}: processes are left");
        let console = tokio::net::TcpListener::bind(config.listen.console).await;
        assert!(console.is_ok(), "{says}: the console's port is still taken");
    }
    // What stood in the way being gone, the same folder serves.
    std::fs::remove_dir(state_dir::control_socket(&no_socket.state_dir)).unwrap();
    Instance::start(no_socket).await.unwrap_or_else(|error| panic!("{error:#}")).destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_what_it_found() {
    let image = kit::busybox_image();
    let dockerfile =
        format!("FROM {}\nCMD [\"busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag);
    let mut stage = Stage::open(&[("Dockerfile", &dockerfile)], "stage = \"automatic\"\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    stage.reaches(&sha, &[State::Ready]).await;
    let engine = stage.instance().drivers()[&Backend::Engine].clone();
    let config = stage.stop().await;
    let (bridge, home) = (bridge(&config), state_dir::services(&config.state_dir));
    let (address, server) = (shown(&bridge), postmaster(&home));
    assert!(address.contains("10.255."), "{address}");

    spoil(&config);
    let failure = Instance::start(config.clone()).await.err().expect("the socket cannot be made");
    assert!(format!("{failure:#}").contains("control.sock"), "{failure:#}");
    assert_eq!(shown(&bridge), address);
    assert_eq!(postmaster(&home), server, "the database server goes on");
    let running = engine.inventory(&Scope::All).await.unwrap();
    let running: Vec<Run> =
        running.iter().filter(|(id, _)| id.kind == Kind::Container).map(|(_, seen)| seen.run).collect();
    assert_eq!(running, [Run::Running]);

    std::fs::remove_dir(state_dir::control_socket(&config.state_dir)).unwrap();
    stage.start(config).await;
    assert_eq!(stage.reaches(&sha, &[State::Ready]).await.generation, 1);
    stage.close().await;
}
