//! The demo's story, told by the binary as a newcomer runs it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stage::free_port;

/// The most that one story may take; two may run side by side.
const PATIENCE: Duration = Duration::from_secs(900);

/// `sidestage`, as `cargo build` put it beside this test.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("../sidestage");
    assert!(
        path.exists(),
        "{} is not built: run `cargo build`, or the tests through `cargo xtask test`",
        path.display()
    );
    path
}

/// A port with two free ones behind it, as the demo takes three. All three are given out, so that no other test, and no
/// other demo, gets one of them.
pub(crate) fn port() -> u16 {
    let mut row = Vec::new();
    for _ in 0..300 {
        let next = free_port();
        if row.last().is_some_and(|last| last + 1 != next) {
            row.clear();
        }
        row.push(next);
        if let [first, _, _] = row[..] {
            return first;
        }
    }
    panic!("no three free ports in a row");
}

fn demo(port: u16) -> Child {
    Command::new(binary())
        .args(["demo", "--story", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Reads what it prints until a line that contains `part`, or its end; all lines so far.
async fn read_until(child: &mut Child, part: &str) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut read = Vec::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap() {
        read.push(line);
        if read.last().is_some_and(|line| line.contains(part)) {
            break;
        }
    }
    read
}

async fn passes(mut child: Child) {
    let lines = read_until(&mut child, "story passed").await;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("in time").unwrap();
    let last = lines.last().cloned().unwrap_or_default();
    assert!(status.success(), "{status}\n{}", lines.join("\n"));
    assert!(last.starts_with("story passed: ") && last.ends_with("leaks 0"), "{}", lines.join("\n"));
}

/// Whether a demo's folders are there. It removes them last, when nothing else of it is left.
pub(crate) fn left(port: u16) -> bool {
    let state = sidestage::demo::folder(port);
    [state.clone(), sidestage::state_dir::services(&state), state.with_extension("repository")]
        .iter()
        .any(|folder| folder.exists())
}

#[tokio::test]
async fn two_stories_beside_each_other_pass_and_leave_nothing() {
    let (first, second) = (port(), port());
    tokio::join!(passes(demo(first)), passes(demo(second)));
    assert!(!left(first) && !left(second));
}

#[tokio::test]
async fn a_story_after_one_that_was_killed_passes() {
    let port = port();
    let mut killed = demo(port);
    read_until(&mut killed, "an object of its own").await;
    killed.kill().await.unwrap();
    assert!(left(port), "killed in the middle, it could not clear away");
    passes(demo(port)).await;
    assert!(!left(port));
}
