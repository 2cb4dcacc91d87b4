//! The command line's client against the API on a local socket: what it prints, how it ends, what it sends.
#![allow(clippy::unwrap_used)]

mod baselines;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Parser;
use planner::command::{Command as Ask, Role};
use planner::identity::{Ref, Trust};
use planner::view::{State, View};
use sidestage::cli::{self, Screen};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::console::fake::{Fake, commit, over, reference, sha, usual, view};

/// The command line as `main` puts it together.
#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: cli::Command,
}

/// A local socket that serves a fake loop.
struct Local {
    fake: Fake,
    folder: tempfile::TempDir,
    serving: JoinHandle<Result<(), console::Error>>,
}

/// What a command printed, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Local {
    fn start(fake: Fake) -> Local {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let settings = fake.settings("http://console.test:8081");
        let serving =
            tokio::spawn(console::serve_local(listener, settings, fake.doors.clone(), std::future::pending()));
        Local { fake, folder, serving }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    async fn run(&self, words: &str) -> Ran {
        run(&self.socket(), words, None, None).await
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.serving.abort();
    }
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
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs the command line in this process. `input`: what is on its standard input.
pub(crate) async fn run(socket: &std::path::Path, words: &str, columns: Option<usize>, input: Option<&str>) -> Ran {
    let line = Line::try_parse_from(std::iter::once("sidestage").chain(words.split_whitespace()));
    let line = line.unwrap_or_else(|error| panic!("{words}: {error}"));
    on_paper(columns, input, async |screen| cli::run(socket, line.command, screen).await).await
}

/// `sidestage config reload` in this process.
pub(crate) async fn reload(socket: &std::path::Path) -> Ran {
    on_paper(None, None, async |screen| cli::reload(socket, screen).await).await
}

async fn on_paper(columns: Option<usize>, input: Option<&str>, command: impl AsyncFnOnce(&mut Screen) -> u8) -> Ran {
    let (out, err) = (Paper::default(), Paper::default());
    let mut screen = Screen {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        columns,
        draw: false,
        input: input.map(|input| Box::new(io::Cursor::new(input.to_owned().into_bytes())) as Box<dyn io::Read + Send>),
        terminal: false,
    };
    let ending = command(&mut screen);
    let code = tokio::time::timeout(std::time::Duration::from_secs(60), ending).await.expect("within a minute");
    Ran { code, out: out.text(), err: err.text() }
}

#[tokio::test]
async fn ls_is_a_table_with_reasons() {
    let local = Local::start(Fake::new(usual()));
    let ran = local.run("ls").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "staging.localhost:8080  1 of 20 places taken");
    assert_eq!(lines[2], "shop");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[3]), ["REF", "TITLE", "COMMIT", "STATE", "AGE", "URL"]);
    let row = words(lines[4]);
    assert_eq!(
        (row[0].as_str(), &row[1..4], row[4].as_str(), row[5].as_str()),
        ("pr-7", ["Change", "the", "price"].map(str::to_owned).as_slice(), "0101010", "unstaged")
    );
    assert_eq!(row.last().unwrap(), &format!("http://{}.staging.localhost:8080", sha(1)));
    assert_eq!(words(lines[5])[..5], ["pr-9", "Help", "(fork)", "0909090", "blocked"]);
    assert_eq!(lines[6].trim(), "not approved at this commit");
    let column = lines[3].find("STATE").unwrap();
    assert!(lines[4][column..].starts_with("unstaged") && lines[5][column..].starts_with("blocked"), "{}", ran.out);
}

#[tokio::test]
async fn what_is_over_its_limit_stands_in_ls_and_show() {
    let local = Local::start(Fake::new(usual()));
    local.fake.set(sha(10), |commit| commit.data = Some(over("its database: 5.0 GB of 4.0 GB\u{7}")));
    for words in ["ls", "show shop main"] {
        let ran = local.run(words).await;
        let lines = ran.out.lines().filter(|line| line.contains("its database: 5.0 GB of 4.0 GB"));
        assert_eq!(lines.count(), 1, "{words}: {}", ran.out);
    }
}

#[tokio::test]
async fn ls_on_a_terminal_fits_it_and_dims() {
    let mut shown = usual();
    shown.projects[0].refs[0].title = "A title that goes on and on ".repeat(20);
    let local = Local::start(Fake::new(shown));
    let ran = run(&local.socket(), "ls shop", Some(150), None).await;
    assert!(ran.out.contains("\u{1b}[2mnot approved at this commit\u{1b}[0m"), "{:?}", ran.out);
    assert!(ran.out.contains("\u{1b}[32m"), "ready is green");
    let row = ran.out.lines().find(|line| line.contains("0101010")).unwrap();
    assert!(row.contains('…') && row.ends_with(":8080"), "{row}");
    assert!(!local.run("ls").await.out.contains('\u{1b}'), "no colours for a file");
}

#[tokio::test]
async fn listings_print_the_apis_json() {
    let local = Local::start(Fake::new(usual()));
    let view: View = serde_json::from_str(&local.run("ls --json").await.out).unwrap();
    assert_eq!(view, usual());
    let project: serde_json::Value = serde_json::from_str(&local.run("ls --json shop").await.out).unwrap();
    assert_eq!(project["name"], "shop");
    let shown: serde_json::Value = serde_json::from_str(&local.run("show shop main --json").await.out).unwrap();
    assert_eq!(shown["sha"], sha(10).to_string());
    let plan: serde_json::Value = serde_json::from_str(&local.run("plan --json").await.out).unwrap();
    assert_eq!(plan["plan"][0], "build shop:01 \u{202e}now");
    let version: serde_json::Value = serde_json::from_str(&local.run("version --json").await.out).unwrap();
    assert_eq!(version["controller"]["version"], "1.2.3");
}

#[tokio::test]
async fn plan_counts_what_is_open_and_what_fits() {
    let local = Local::start(Fake::new(usual()));
    let lines = "shop: 3 open, 19 more fit\nbuild shop:01 \u{fffd}now\n";
    assert_eq!(local.run("plan").await.out, lines);
    assert_eq!(local.run("plan shop").await.out, lines);
    assert_eq!(local.run("plan other").await.code, 2);
}

#[tokio::test]
async fn an_empty_listing_says_what_to_do() {
    let local = Local::start(Fake::new(view(vec![])));
    assert!(local.run("ls").await.out.contains("no open pull requests yet: push a branch"));
    let local = Local::start(Fake::new(View::default()));
    assert!(local.run("ls").await.out.contains("no project is watched yet"));
}

#[tokio::test]
async fn names_become_full_shas_here() {
    let mut shown = usual();
    let seven = commit(0x77, "A branch called like a number", State::Unstaged);
    shown.projects[0].refs.push(reference(Ref::Branch("7".to_owned()), "7", vec![seven]));
    shown.projects[0].refs.push(reference(
        Ref::Branch("cafe".to_owned()),
        "cafe",
        vec![commit(0x78, "", State::Unstaged)],
    ));
    let local = Local::start(Fake::new(shown));
    let full = sha(1).to_string();
    let good = [
        ("shop pr-7", 1),
        ("pr-7", 1),
        ("pr/7", 1),
        ("#7", 1),
        ("main", 10),
        ("branch/main", 10),
        ("branch/7", 0x77),
        ("cafe", 0x78),
        (&full, 1),
    ];
    for (words, byte) in good {
        let ran = local.run(&format!("pin {words}")).await;
        assert_eq!(ran.out, format!("pin shop {}\n", sha(byte)), "{words}: {}", ran.err);
    }
    let bad = [
        ("7", "\"7\" may be pr/7 or branch/7: type one of them".to_owned()),
        ("0a0a0a0", format!("a commit is named by all 40 digits; 0a0a0a0 may be {}", sha(10))),
        ("nothing", "shop has no pull request, branch or tag \"nothing\": see `sidestage ls shop`, or name the commit by all 40 digits".to_owned()),
        ("other main", "no project \"other\"; there are: shop".to_owned()),
    ];
    let before = local.fake.done().len();
    for (words, line) in bad {
        let ran = local.run(&format!("wake {words}")).await;
        assert_eq!((ran.code, ran.err), (2, format!("error: {line}\n")), "{words}");
    }
    assert_eq!(local.fake.done().len(), before, "nothing was sent");
}

#[tokio::test]
async fn a_name_that_is_not_listed_is_looked_for_in_the_repository() {
    let local = Local::start(Fake::new(usual()));
    local.fake.ends_as(State::Ready, None);
    let staged = local.run("stage shop v5.2.1 --wait").await;
    assert_eq!(staged.code, 0, "{staged:?}");
    let asked: Vec<_> = local.fake.done().into_iter().map(|(_, command)| command).collect();
    assert_eq!(asked, [Ask::Stage { project: "shop".parse().unwrap(), sha: sha(1) }]);
    let unknown = local.run("stage shop v5.2").await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no branch or tag v5.2; nearest: v5.2.1"), "{unknown:?}");
}

#[tokio::test]
async fn an_approval_needs_all_digits() {
    let local = Local::start(Fake::new(usual()));
    let ran = local.run("approve pr-9").await;
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.err,
        format!("error: an approval names the commit by all 40 digits; type: sidestage approve shop {}\n", sha(9))
    );
    assert_eq!(local.fake.done(), []);
    let ran = local.run(&format!("approve shop {}", sha(9))).await;
    assert_eq!((ran.code, ran.out), (0, format!("approve shop {}\n", sha(9))));
    let (actor, command) = local.fake.done().remove(0);
    assert_eq!((actor.name.as_str(), actor.role), ("cli", Role::Admin));
    assert_eq!(command, Ask::Approve { project: "shop".parse().unwrap(), sha: sha(9) });
}

#[tokio::test]
async fn every_act_is_sent_as_its_command() {
    let local = Local::start(Fake::new(usual()));
    for verb in ["stage", "revoke", "pin", "unpin", "reset", "sleep", "wake", "rebuild", "remove"] {
        assert_eq!(local.run(&format!("{verb} main")).await.code, 0, "{verb}");
        let (_, command) = local.fake.done().pop().unwrap();
        assert_eq!((command.verb(), command.commit().unwrap().1), (verb, &sha(10)));
    }
    assert_eq!(local.run("extend main 3d").await.code, 0);
    let by = std::time::Duration::from_secs(3 * 86_400);
    assert_eq!(local.fake.done().pop().unwrap().1, Ask::Extend { project: "shop".parse().unwrap(), sha: sha(10), by });
    assert_eq!(local.run("extend main soon").await.code, 2);
    assert_eq!(local.run("gc --confirm").await.out, "removed 2 orphans\n");
    assert_eq!(local.fake.done().pop().unwrap().1, Ask::Gc { confirm: true });
}

#[tokio::test]
async fn waiting_ends_with_what_was_asked_for() {
    let local = Local::start(Fake::new(usual()));
    local.fake.ends_as(State::Ready, None);
    let ran = local.run("stage pr-7 --wait").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("shop 0101010 ready after "), "{}", ran.out);
    assert!(ran.out.ends_with(&format!(": http://{}.staging.localhost:8080\n", sha(1))), "{}", ran.out);

    local.fake.ends_as(State::Removed, Some("removed by cli"));
    let ran = local.run("remove pr-7 --wait --timeout 20s").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("shop 0101010 removed after "), "{}", ran.out);

    local.fake.ends_as(State::Asleep, None);
    assert_eq!(local.run("sleep main --wait").await.code, 0);
    local.fake.ends_as(State::Ready, None);
    assert_eq!(local.run("wake main --wait").await.code, 0);
    assert_eq!(local.run("reset main --wait").await.code, 0);
    assert_eq!(local.run("rebuild main --wait").await.code, 0);
}

#[tokio::test]
async fn waiting_fails_in_one_line_with_the_reason() {
    let local = Local::start(Fake::new(usual()));
    local.fake.ends_as(State::Failed, Some("step 3 of 9, `RUN make`, exited with 2"));
    for (verb, ending) in
        [("stage pr-7", "failed"), ("rebuild main", "ready as before"), ("reset main", "ready as before")]
    {
        let ran = local.run(&format!("{verb} --wait")).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{verb}");
        let last = ran.err.lines().last().unwrap();
        let wanted = format!("{ending}: step 3 of 9, `RUN make`, exited with 2");
        assert!(last.ends_with(&wanted) && last.starts_with("error: shop "), "{verb}: {}", ran.err);
    }
}

#[tokio::test]
async fn waiting_has_an_end_of_its_own() {
    let local = Local::start(Fake::new(usual()));
    let ran = local.run("stage pr-7 --wait --timeout 0s").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("not done after 0s, it goes on by itself; building"), "{}", ran.err);
}

#[tokio::test]
async fn waiting_follows_each_state() {
    let local = Local::start(Fake::new(usual()));
    let waiting = local.run("stage pr-7 --wait");
    let driving = async {
        let mut shown = local.fake.doors.view.clone();
        let is = |state| move |view: &Arc<View>| view.projects[0].refs[0].commits[0].state == state;
        shown.wait_for(is(State::Building)).await.unwrap();
        local.fake.set(sha(1), |commit| commit.state = State::Ready);
    };
    let (ran, ()) = tokio::join!(waiting, driving);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn waiting_for_a_reset_is_waiting_for_the_newer_generation() {
    let local = Local::start(Fake::new(usual()));
    // The older one is ready all the time.
    let ran = local.run("reset main --wait --timeout 0s").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("not done after 0s, it goes on by itself; ready, next building"), "{ran:?}");
    local.fake.ends_as(State::Ready, None);
    assert_eq!(local.run("reset main --wait").await.code, 0);
}

#[tokio::test]
async fn a_refusal_is_one_line_and_code_one() {
    let local = Local::start(Fake::new(usual()));
    let ran = local.run("stage pr-9").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.err,
        format!("error: {0} is foreign code: approve it first with `sidestage approve shop {0}`\n", sha(9))
    );
}

#[tokio::test]
async fn logs_come_as_they_are_written() {
    let local = Local::start(Fake::new(usual()));
    local.fake.logs(&["hello\n", "\u{1b}[31mred\u{1b}[0m\n"]);
    assert_eq!(local.run("logs main").await.out, "hello\nred\n");
    assert_eq!(local.run("logs main --build").await.out, "hello\nred\n");
    let ran = local.run("logs main --name db").await;
    assert_eq!((ran.code, ran.err.as_str()), (2, "error: no log \"db\"; there are: build, web\n"));
    let ran = local.run("logs pr-7").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: shop 0101010 is unstaged and has no logs yet\n"));
}

#[tokio::test]
async fn a_login_link_names_the_console_and_works() {
    let local = Local::start(Fake::new(usual()));
    let ran = local.run("login-link").await;
    let token = ran.out.trim().strip_prefix("http://console.test:8081/login?token=").unwrap();
    assert_eq!(token.len(), 43, "32 bytes in base64");
    assert_ne!(local.run("login-link").await.out, ran.out);
}

#[tokio::test]
async fn without_a_controller_it_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let wanted = format!("error: no controller on {}: start it with `sidestage serve`\n", socket.display());
    for words in ["ls", "stage shop main", "logs main", "plan", "gc", "login-link"] {
        let ran = run(&socket, words, None, None).await;
        assert_eq!(ran, Ran { code: 1, out: String::new(), err: wanted.clone() }, "{words}");
    }
    let ran = run(&socket, "version", None, None).await;
    assert_eq!((ran.code, ran.out.lines().nth(1)), (0, Some("controller: not running")));
    // A socket that nobody listens at any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(run(&socket, "ls", None, None).await.err, wanted);
}

#[tokio::test]
async fn what_a_repository_wrote_does_not_reach_the_terminal() {
    let hostile = "x\u{1b}]0;owned\u{7}\u{202e}\r\ny";
    let mut bad = commit(3, hostile, State::Failed);
    (bad.author, bad.reason) = (hostile.to_owned(), Some(hostile.to_owned()));
    bad.links = vec![(hostile.to_owned(), hostile.to_owned(), Some(hostile.to_owned()))];
    bad.trust = Trust::Approved;
    let mut shown = view(vec![reference(Ref::Branch(hostile.to_owned()), hostile, vec![bad])]);
    shown.warnings = vec![hostile.to_owned()];
    let local = Local::start(Fake::new(shown));
    local.fake.ends_as(State::Failed, Some(hostile));
    for words in
        ["ls".to_owned(), format!("show shop {}", sha(3)), format!("stage shop {} --wait", sha(3)), "plan".to_owned()]
    {
        let ran = local.run(&words).await;
        for c in ran.out.chars().chain(ran.err.chars()).filter(|c| *c != '\n') {
            assert!(!c.is_control() && c != '\u{202e}', "{words}: {c:?}");
        }
    }
}

#[test]
fn the_command_line_is_sound() {
    use clap::CommandFactory;
    Line::command().debug_assert();
    for words in [
        "stage",
        "extend main",
        "gc now",
        "stage a b c",
        "logs main --build --name web",
        "stage main --timeout 3m",
        "stage main --wait --timeout soon",
    ] {
        let parsed = Line::try_parse_from(std::iter::once("sidestage").chain(words.split(' ')));
        assert_eq!(parsed.unwrap_err().exit_code(), 2, "{words}");
    }
}
