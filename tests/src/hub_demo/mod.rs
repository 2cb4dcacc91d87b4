//! The demo on the fake GitHub: a repository with people, Sidestage connected to it as an operator does that, and the story of
//! two pull requests. The program `fakehub` tells it to people, and a test to us.

mod person;
mod story;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use planner::identity::Sha;
use planner::view::{CommitView, View};
use sidestage::demo::visitor::Visitor;
use sidestage::{demo, state_dir};
use tokio::process::Command;

use crate::fakehub::{Hub, Opening};
use person::Person;
pub use story::Story;

/// The repository of the sample application.
pub const GUESTBOOK: &str = "acme/guestbook";
const FORK: &str = "mallory/guestbook";

/// The most that any step may take: a foreign build installs its packages without a cache.
const PATIENCE: Duration = Duration::from_secs(300);

/// A `sidestage demo` that runs beside us: its command line, and what its visitors see.
pub struct Sidestage {
    /// The program.
    pub program: PathBuf,
    /// Its first port.
    pub port: u16,
}

impl Sidestage {
    /// What a command prints.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub async fn says(&self, words: &[&str]) -> anyhow::Result<String> {
        let socket = state_dir::control_socket(&demo::folder(self.port));
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(socket).args(words).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("{} cannot be run", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "sidestage {}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8(output.stdout)?)
    }

    async fn view(&self) -> anyhow::Result<View> {
        Ok(serde_json::from_str(&self.says(&["ls", "--json"]).await?)?)
    }

    async fn commit(&self, sha: &str) -> anyhow::Result<Option<CommitView>> {
        let (view, sha) = (self.view().await?, sha.parse::<Sha>()?);
        let mut commits =
            view.projects.into_iter().flat_map(|project| project.refs).flat_map(|found| found.commits.into_iter());
        Ok(commits.find(|commit| commit.sha == sha))
    }

    fn visitor(&self) -> Visitor {
        let at = |offset: u16| ([127, 0, 0, 1], self.port + offset).into();
        Visitor { edge: at(0), dns: at(2) }
    }
}

/// The sample application in a repository of an organisation, people with roles, and a stranger's fork.
pub async fn people(hub: &Hub) {
    hub.repository(GUESTBOOK, demo::repository::SAMPLE).await;
    // The operator does that.
    hub.change(|world| world.repo_mut(GUESTBOOK).installed = false);
    hub.grant(GUESTBOOK, "ada", "admin");
    hub.grant(GUESTBOOK, "grace", "write");
    hub.fork(GUESTBOOK, FORK).await;
}

/// Makes an App for Sidestage and installs it, by the pages that an operator sees.
///
/// # Errors
/// When a page is not what it ought to be.
pub async fn connect(sidestage: &Sidestage) -> anyhow::Result<()> {
    let told = until("sidestage answers", async || Ok(sidestage.says(&["github", "connect"]).await.ok())).await?;
    let link = |before: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(before));
        line.with_context(|| format!("no {before:?} in {told:?}"))
    };
    let mut operator = Person::default();
    let page = operator.open(link("Sign in: ")?).await?;
    operator.press(&page, "Sign in").await?;
    let page = operator.open(link("Then open: ")?).await?;
    let page = operator.press(&page, "No: read only, and report").await?;
    let page = operator.press(&page, "Create GitHub App").await?;
    let page = operator.follow(&page, "Install it").await?;
    operator.press(&page, "Install").await.map(drop)
}

/// Opens a pull request with another greeting, from the project's own repository.
pub async fn open_own(hub: &Hub) -> (u64, String) {
    let files = [("greeting.txt", "Hello from a pull request\n")];
    let sha = hub.push(GUESTBOOK, "greeting", "grace", "Say: Hello from a pull request", &files).await;
    (hub.open(opening("grace", GUESTBOOK, "greeting", "A warmer greeting")).await, sha)
}

/// The same from a stranger's fork.
pub async fn open_foreign(hub: &Hub) -> (u64, String) {
    let files = [("greeting.txt", "Greetings from a fork\n")];
    let sha = hub.push(FORK, "patch-1", "mallory", "Say: Greetings from a fork", &files).await;
    (hub.open(opening("mallory", FORK, "patch-1", "A stranger's greeting")).await, sha)
}

fn opening<'a>(by: &'a str, from: &'a str, branch: &'a str, title: &'a str) -> Opening<'a> {
    Opening { on: GUESTBOOK, by, from, branch, title, draft: false }
}

/// Looks again and again until there is something.
async fn until<T>(what: &str, look: impl AsyncFn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            bail!("not within {} s: {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
