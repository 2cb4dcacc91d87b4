//! The service address, when many instances start at the same moment.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use drivers::docker::service_bridge;
use tokio::sync::Barrier;

/// Set for a process that this test starts of itself.
const HELPER: &str = "SIDESTAGE_TEST_STARTS_TOGETHER";
const PROCESSES: usize = 3;
/// In each process.
const INSTANCES: usize = 8;

/// A network namespace, which goes with all that is in it.
struct Namespace(String);

impl Namespace {
    fn add() -> Namespace {
        let name = format!("sst-starts-{}", std::process::id());
        assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
        Namespace(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// This test as a process of its own, in the namespace. It ends with its input.
struct Helper {
    child: Child,
    tell: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Helper {
    fn start(namespace: &Namespace) -> Helper {
        let this = std::env::current_exe().unwrap();
        let test = "docker::services::instances_that_start_together_have_an_address_each";
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace.0])
            .arg(this)
            .args(["--exact", test, "--nocapture"])
            .env(HELPER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut helper = Helper { child, tell, said };
        helper.hear("ready");
        helper
    }

    /// What stands behind this word in the next line that begins with it.
    fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "a helper ended early");
            if let Some(rest) = line.trim().strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a helper does: at a word, takes addresses for several instances at once.
async fn help() {
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let barrier = Arc::new(Barrier::new(INSTANCES));
    let starts = (0..INSTANCES).map(|_| {
        let (barrier, key) = (barrier.clone(), super::engine::key());
        tokio::spawn(async move {
            barrier.wait().await;
            service_bridge(&key, None).await.unwrap().address
        })
    });
    for start in starts.collect::<Vec<_>>() {
        println!("address {}", start.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_that_start_together_have_an_address_each() {
    if std::env::var_os(HELPER).is_some() {
        return help().await;
    }
    let namespace = Namespace::add();
    let mut helpers: Vec<Helper> = (0..PROCESSES).map(|_| Helper::start(&namespace)).collect();
    for helper in &mut helpers {
        helper.tell.write_all(b"go\n").unwrap();
    }
    let mut taken: Vec<Ipv4Addr> = Vec::new();
    for helper in &mut helpers {
        taken.extend((0..INSTANCES).map(|_| helper.hear("address").parse::<Ipv4Addr>().unwrap()));
    }
    let each: BTreeSet<Ipv4Addr> = taken.iter().copied().collect();
    assert_eq!(each.len(), PROCESSES * INSTANCES, "{taken:?}");
    // Nothing else is in the namespace: the first free ones were taken, without gaps.
    let last = u8::try_from(each.len()).unwrap();
    assert_eq!(each.last(), Some(&Ipv4Addr::new(10, 255, 0, last)));
}
