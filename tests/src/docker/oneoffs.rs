//! What is run once inside an environment: attached to whoever asked, ended with it, and never left behind.

use std::time::Duration;

use bytes::Bytes;
use console::inside::{Ended, Frame};
use drivers::Driver;
use drivers::docker::{Docker, Size};
use planner::identity::Trust;
use planner::resource::{Failure, Kind, Resource};
use planner::spec::Spec;
use sidestage::inside::attend;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, cli, settings, wait_for};

const LONG: Duration = Duration::from_secs(60);

/// As the core makes it: the web process with another command.
fn once(engine: &Engine, trust: Trust, command: &[&str]) -> Resource {
    let mut resource = engine.container("web", engine.spec(trust, command));
    if let Spec::Container(container) = resource.spec {
        resource.spec = Spec::Job(container);
    }
    resource
}

/// An engine with the network of a generation.
async fn engine(trust: Trust) -> Engine {
    let engine = Engine::new();
    engine.ensure(&engine.network(trust)).await.unwrap();
    engine
}

/// Both ends of a command that runs.
struct Ends {
    input: mpsc::Sender<Frame>,
    output: mpsc::Receiver<Frame>,
    out: String,
    err: String,
}

async fn begin(engine: &Engine, resource: &Resource, terminal: Option<Size>, longest: Duration) -> Ends {
    let oneoff = engine.docker.run(resource, &engine.all().await, terminal).await.unwrap();
    let ((input, inputs), (outputs, output)) = (mpsc::channel(16), mpsc::channel(16));
    tokio::spawn(async move { attend(oneoff, inputs, outputs, longest, &CancellationToken::new()).await });
    Ends { input, output, out: String::new(), err: String::new() }
}

impl Ends {
    async fn send(&self, text: &str) {
        self.input.send(Frame::Stdin(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    }

    /// Reads what is printed, until the end or until this was printed.
    async fn read(&mut self, until: &str) -> Option<Ended> {
        let reading = async {
            loop {
                match self.output.recv().await.expect("the last frame is the end") {
                    Frame::Stdout(bytes) => self.out.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Frame::Stderr(bytes) => self.err.push_str(std::str::from_utf8(&bytes).unwrap()),
                    Frame::Ended(ended) => return Some(ended),
                    other => panic!("{other:?} comes from the other side"),
                }
                if !until.is_empty() && self.out.contains(until) {
                    return None;
                }
            }
        };
        tokio::time::timeout(LONG, reading).await.expect("in time")
    }

    async fn end(&mut self) -> Ended {
        self.read("").await.unwrap()
    }
}

fn ended(code: i64) -> Ended {
    Ended { code, why: None }
}

/// The engine's names of what runs once.
fn running(engine: &Engine) -> Vec<String> {
    let label = format!("label=sidestage.instance={}", engine.key.instance());
    let listed =
        cli(&["ps", "-a", "--format", "{{.Names}}", "--filter", &label, "--filter", "label=sidestage.kind=run"]);
    listed.lines().map(str::to_owned).collect()
}

async fn nothing_runs(engine: &Engine) {
    wait_for("nothing runs", || if running(engine).is_empty() { Ok(()) } else { Err(running(engine).join(" ")) }).await;
}

#[tokio::test]
async fn outputs_come_apart_and_the_exit_code_is_its_own() {
    let engine = engine(Trust::Trusted).await;
    for code in [0, 3, 255] {
        let script = format!("echo out; echo err >&2; exit {code}");
        let resource = once(&engine, Trust::Trusted, &["sh", "-c", &script]);
        let mut ends = begin(&engine, &resource, None, LONG).await;
        assert_eq!(ends.end().await, ended(code));
        assert_eq!((ends.out.as_str(), ends.err.as_str()), ("out\n", "err\n"));
        assert!(running(&engine).is_empty(), "it is gone before its end is told");
    }
    engine.end().await;
}

#[tokio::test]
async fn what_goes_in_comes_out_to_its_end() {
    let engine = engine(Trust::Trusted).await;
    let mut ends = begin(&engine, &once(&engine, Trust::Trusted, &["cat"]), None, LONG).await;
    let piece = "0123456789abcdef".repeat(4096);
    let input = ends.input.clone();
    let sent = piece.clone();
    tokio::spawn(async move {
        for _ in 0..20 {
            input.send(Frame::Stdin(sent.clone().into())).await.unwrap();
        }
        input.send(Frame::Stdin(Bytes::new())).await.unwrap();
    });
    assert_eq!(ends.end().await, ended(0));
    assert!(ends.out == piece.repeat(20));
    engine.end().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_ctrl_c() {
    let engine = engine(Trust::Trusted).await;
    let script = "test -t 0 && test -t 1 || exit 9; trap 'echo caught; exit 4' INT; last=; \
                  while :; do now=$(busybox stty size); test \"$now\" = \"$last\" || echo size $now; last=$now; sleep 0.05; done";
    let mut ends = begin(&engine, &once(&engine, Trust::Trusted, &["sh", "-c", script]), Some((100, 40)), LONG).await;
    assert_eq!(ends.read("size 40 100").await, None);
    ends.input.send(Frame::Size(81, 25)).await.unwrap();
    assert_eq!(ends.read("size 25 81").await, None);
    ends.send("\u{3}").await;
    assert_eq!(ends.end().await, ended(4));
    assert!(ends.out.contains("caught"), "{}", ends.out);
    engine.end().await;
}

#[tokio::test]
async fn a_command_that_is_none_ends_as_a_shell_would_say() {
    let engine = engine(Trust::Trusted).await;
    for (command, code, word) in [("nosuch", 127, "nosuch"), ("/etc/passwd", 126, "/etc/passwd")] {
        let mut ends = begin(&engine, &once(&engine, Trust::Trusted, &[command]), None, LONG).await;
        let end = ends.end().await;
        let said = format!("{}{}", ends.err, end.why.unwrap_or_default());
        assert_eq!(end.code, code, "{said}");
        assert!(said.contains(word) && said.trim().lines().count() == 1, "{said:?}");
    }
    engine.end().await;
}

#[tokio::test]
async fn its_time_is_limited() {
    let engine = engine(Trust::Trusted).await;
    let sleep = once(&engine, Trust::Trusted, &["sleep", "1000"]);
    let mut ends = begin(&engine, &sleep, None, Duration::from_millis(500)).await;
    let why = Some("it was killed after 0 min, which is the most".to_owned());
    assert_eq!(ends.end().await, Ended { code: 137, why });
    assert!(running(&engine).is_empty());
    engine.end().await;
}

#[tokio::test]
async fn it_ends_with_whoever_asked() {
    let engine = engine(Trust::Trusted).await;
    let mut ends =
        begin(&engine, &once(&engine, Trust::Trusted, &["sh", "-c", "echo up; sleep 1000"]), None, LONG).await;
    assert_eq!(ends.read("up").await, None);
    drop(ends);
    nothing_runs(&engine).await;
    // Also if it takes no input and there is much of it.
    let ends = begin(&engine, &once(&engine, Trust::Trusted, &["sleep", "1000"]), None, LONG).await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    while ends.input.try_send(Frame::Stdin(piece.clone())).is_ok() {}
    drop(ends);
    nothing_runs(&engine).await;
    // And if nobody ever took it.
    drop(
        engine.docker.run(&once(&engine, Trust::Trusted, &["sleep", "1000"]), &engine.all().await, None).await.unwrap(),
    );
    nothing_runs(&engine).await;
    engine.end().await;
}

#[tokio::test]
async fn what_a_killed_controller_left_is_cleared_away_and_what_runs_is_not() {
    let engine = engine(Trust::Trusted).await;
    let mut ends =
        begin(&engine, &once(&engine, Trust::Trusted, &["sh", "-c", "echo up; sleep 1000"]), None, LONG).await;
    assert_eq!(ends.read("up").await, None);
    let listed = engine.all().await;
    assert!(listed.keys().all(|id| id.kind == Kind::Network), "no listing shows it: {:?}", listed.keys());
    engine.docker.tidy().await.unwrap();
    assert_eq!(running(&engine).len(), 1, "the builds' end does not touch it");
    // The next process on the same instance knows nothing of it.
    let next = Docker::connect("/var/run/docker.sock", engine.key.clone(), settings(&engine.files));
    next.inventory(&drivers::Scope::All).await.unwrap();
    assert!(running(&engine).is_empty());
    assert_eq!(ends.end().await.code, 137);
    engine.end().await;
}

#[tokio::test]
async fn it_goes_with_its_network() {
    let engine = engine(Trust::Trusted).await;
    let mut ends =
        begin(&engine, &once(&engine, Trust::Trusted, &["sh", "-c", "echo up; sleep 1000"]), None, LONG).await;
    assert_eq!(ends.read("up").await, None);
    engine.docker.remove(&engine.network(Trust::Trusted).id).await.unwrap();
    assert!(running(&engine).is_empty());
    let end = ends.end().await;
    assert_eq!((end.code, end.why.as_deref()), (137, Some("the environment was taken down meanwhile")));
    let failure = engine.docker.run(&once(&engine, Trust::Trusted, &["true"]), &engine.all().await, None).await;
    assert!(matches!(failure.err(), Some(Failure::Transient { .. })), "and nothing runs without one");
    engine.end().await;
}

#[tokio::test]
async fn foreign_code_keeps_its_strict_body() {
    let engine = engine(Trust::Approved).await;
    let script = "id -u; touch /x || echo read-only";
    let mut ends = begin(&engine, &once(&engine, Trust::Approved, &["sh", "-c", script]), None, LONG).await;
    assert_eq!(ends.end().await.code, 0);
    assert_eq!(ends.out, "10001\nread-only\n");
    engine.end().await;
}
