//! Hands inside a running Sidestage: `run`, `psql`, `dump` and cron jobs, as people have them.

use std::io::{self, Cursor, Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use console::Ask;
use console::inside::{Begin, Run};
use planner::command::{Actor, Role};
use planner::identity::Sha;
use planner::view::State;
use sidestage::cli::{self, Screen};
use sidestage::config::Config;
use sidestage::inside::MOST;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::sync::oneshot;

use crate::kit;
use crate::stage::Stage;

const MANIFEST: &str = r#"
[database]
baseline = "default"
[env]
GREETING = "hello"
[process.worker]
command = ["sleep", "100000"]
[command.greet]
command = ["sh", "-c", "echo $GREETING ${STAGING_BRANCH}"]
[cron.tock]
schedule = "*/5 * * * *"
command = ["sh", "-c", "echo tock; exit 2"]
"#;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: cli::Command,
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// What a line of the CLI did.
struct Ran {
    code: u8,
    out: Vec<u8>,
    err: String,
}

async fn line(stage: &Stage, words: &[&str], input: Box<dyn Read + Send>) -> Ran {
    let line =
        Line::try_parse_from(std::iter::once(&"sidestage").chain(words)).unwrap_or_else(|error| panic!("{error}"));
    let (out, err) = (Paper::default(), Paper::default());
    let mut screen = Screen {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        columns: None,
        draw: false,
        input: Some(input),
        terminal: false,
    };
    let socket = stage.instance().control_socket();
    let ending = cli::run(&socket, line.command, &mut screen);
    let code = tokio::time::timeout(Duration::from_secs(120), ending).await.expect("in time");
    Ran { code, out: out.take(), err: String::from_utf8(err.take()).unwrap() }
}

async fn told(stage: &Stage, words: &[&str]) -> (u8, String, String) {
    let ran = line(stage, words, Box::new(io::empty())).await;
    (ran.code, String::from_utf8(ran.out).unwrap(), ran.err)
}

/// A stage with the branch `one` ready.
async fn staged(image: &kit::Busybox) -> (Stage, Sha) {
    let dockerfile =
        format!("FROM {}\nCMD [\"busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag);
    let files = [("Dockerfile", dockerfile.as_str()), (".sidestage.toml", MANIFEST)];
    let stage = Stage::open(&files, "stage = \"automatic\"\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    stage.reaches(&sha, &[State::Ready]).await;
    (stage, sha)
}

async fn asleep(stage: &Stage, sha: &Sha) {
    assert_eq!(told(stage, &["sleep", "one", "--wait"]).await.0, 0);
    stage.reaches(sha, &[State::Asleep]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_what_sleeps_and_their_exit_code_is_ours() {
    let image = kit::busybox_image();
    let (stage, sha) = staged(&image).await;
    asleep(&stage, &sha).await;
    let script = "echo $GREETING '${HOME}'; echo err >&2; exit 5";
    let ran = told(&stage, &["run", "shop", "one", "--", "sh", "-c", script]).await;
    assert_eq!(ran, (5, "hello ${HOME}\n".to_owned(), "err\n".to_owned()), "what was typed is meant as it is");
    assert_eq!(stage.commit(&sha).unwrap().state, State::Ready, "it was woken");

    let input = Box::new(Cursor::new(b"from outside".to_vec()));
    let ran = line(&stage, &["run", "one", "-p", "worker", "--", "cat"], input).await;
    assert_eq!((ran.code, ran.out.as_slice()), (0, &b"from outside"[..]));
    assert_eq!(told(&stage, &["run", "one", ":greet"]).await, (0, "hello one\n".to_owned(), String::new()));
    assert_eq!(told(&stage, &["run", "one", ":cron.tock"]).await, (2, "tock\n".to_owned(), String::new()));
    for (words, code, why) in [
        (&["run", "one", ":nope"][..], 125, "error: the manifest has no :nope; there are: :greet\n"),
        (&["run", "one", ":cron.x"], 125, "error: the manifest has no :cron.x; there are: :cron.tock\n"),
        (&["run", "one", "-p", "db", "--", "true"], 125, "error: there is no process \"db\"; there are: web, worker\n"),
        (
            &["run", "one", "--", ":greet", "x"],
            125,
            "error: :greet is a command of the manifest and takes no words of its own\n",
        ),
        (&["run", "one"], 2, "error: name what to run: `sidestage run pr-7 -- bin/console`, or `:name`\n"),
    ] {
        assert_eq!(told(&stage, words).await, (code, String::new(), why.to_owned()), "{words:?}");
    }
    let (code, _, why) = told(&stage, &["run", "one", "--", "nosuch"]).await;
    assert!(code == 127 && why.contains("nosuch") && why.lines().count() == 1, "{code} {why}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_dump_reach_the_database_of_what_sleeps() {
    let image = kit::busybox_image();
    let (stage, sha) = staged(&image).await;
    asleep(&stage, &sha).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out").display().to_string();
    let sql = "create table t(x int); insert into t values (42)";
    assert_eq!(told(&stage, &["psql", "one", "--", "-q", "-c", sql]).await.0, 0);
    assert_eq!(told(&stage, &["psql", "one", "--", "-At", "-c", "select x from t", "-o", &file]).await.0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "42\n");
    let owner = "select current_user = current_database() and not rolsuper from pg_roles where rolname = current_user";
    assert_eq!(told(&stage, &["psql", "one", "--", "-At", "-c", owner, "-o", &file]).await.0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "t\n", "as the environment itself, not as administrator");
    let dump = line(&stage, &["dump", "one"], Box::new(io::empty())).await;
    assert_eq!((dump.code, &dump.out[..5]), (0, &b"PGDMP"[..]), "{}", dump.err);
    assert_ne!(told(&stage, &["psql", "one", "--", "-c", "nonsense"]).await.0, 0);
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_over_its_quota_is_told_of_and_psql_makes_room() {
    let image = kit::busybox_image();
    let (mut stage, sha) = staged(&image).await;
    let config = stage.stop().await;
    stage.rewrite(|text| format!("{text}\n[limits]\ndatabase = \"1m\"\nsuspend_trusted = true\n"));
    stage.start(Config::read(config.file.as_ref().unwrap()).unwrap()).await;
    let over = || stage.commit(&sha)?.data?.over.filter(|over| over.contains("suspended"));
    let over = stage.until("its writes are suspended", over).await;
    assert!(
        over.starts_with("its database: 7.") && over.contains("of 1.0 MB that `[limits] database` allows"),
        "{over}"
    );
    assert!(over.contains("make room with `sidestage psql`"), "{over}");
    for words in [&["ls"][..], &["show", "one"]] {
        let (_, text, _) = told(&stage, words).await;
        assert!(text.contains(&over), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out").display().to_string();
    let sql = "select setconfig from pg_db_role_setting where setrole = current_user::regrole and setdatabase <> 0";
    assert_eq!(told(&stage, &["psql", "one", "--", "-At", "-c", sql, "-o", &file]).await.0, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{default_transaction_read_only=on}\n");
    assert_eq!(told(&stage, &["psql", "one", "--", "-q", "-c", "create table t(x int); drop table t"]).await.0, 0);
    assert_eq!(line(&stage, &["dump", "one"], Box::new(io::empty())).await.code, 0);
    stage.close().await;
}

/// What the loop says to somebody of that role.
async fn asked(stage: &Stage, sha: Sha, role: Role) -> Result<console::inside::Session, String> {
    let (reply, answer) = oneshot::channel();
    let actor = Actor { name: "eve".to_owned(), role };
    let begin = Begin { process: None, words: vec!["sleep".to_owned(), "1000".to_owned()], terminal: None };
    let run = Run { actor, project: "shop".parse().unwrap(), sha, begin, reply };
    stage.instance().doors().ask.send(Ask::Run(Box::new(run))).await.unwrap();
    answer.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_and_written_down() {
    let image = kit::busybox_image();
    let (mut stage, sha) = staged(&image).await;
    assert_eq!(asked(&stage, sha, Role::Look).await.unwrap_err(), "run needs the role write, and eve has look");
    let mut sessions = Vec::new();
    for _ in 0..MOST {
        sessions.push(asked(&stage, sha, Role::Write).await.unwrap());
    }
    let full = asked(&stage, sha, Role::Write).await.unwrap_err();
    assert_eq!(full, "4 commands run in this environment already; wait for the end of one");
    let config = stage.stop().await;
    let mut listing = Command::new("docker");
    listing.args(["ps", "-aq", "--filter", "label=sidestage.kind=run", "--filter"]);
    let left = listing.arg(format!("label=sidestage.sha={sha}")).output().unwrap().stdout;
    assert!(left.is_empty(), "a stop ends what runs: {}", String::from_utf8_lossy(&left));
    drop(sessions);
    let store = SqliteConnectOptions::new().filename(config.state_dir.join("sidestage.db"));
    let store = SqlitePool::connect_with(store).await.unwrap();
    let said: Vec<String> = sqlx::query_scalar("SELECT value FROM audit").fetch_all(&store).await.unwrap();
    store.close().await;
    assert!(
        said.iter().any(|row| row.contains("refused") && row.contains("eve") && row.contains("sleep 1000")),
        "{said:?}"
    );
    assert!(said.iter().any(|row| row.contains("\"done\"") && row.contains("sleep 1000")), "{said:?}");
    stage.start(config).await;
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_jobs_run_while_awake_and_only_then() {
    let image = kit::busybox_image();
    let (stage, sha) = staged(&image).await;
    let read = || told(&stage, &["logs", "one", "--name", "cron.tock"]);
    // A minute that is not due, and one that is.
    stage.instance().tick(1);
    stage.instance().tick(5);
    let begun = Instant::now();
    let text = loop {
        let (_, text, _) = read().await;
        if text.contains("ended") {
            break text;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not run: {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "once: {text}");
    assert!(lines[0].ends_with("  cron.tock begins") && lines[1] == "tock", "{text}");
    assert!(lines[2].contains("  cron.tock ended with code 2 after "), "{text}");
    asleep(&stage, &sha).await;
    stage.instance().tick(5);
    assert_eq!(stage.commit(&sha).unwrap().state, State::Asleep);
    assert_eq!(read().await.1, text, "what sleeps is not woken");
    stage.close().await;
}
