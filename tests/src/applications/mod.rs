//! Ordinary applications, staged by manifest alone and used by a person with a browser.
//!
//! They stand in `tests/apps`, as people write them who never heard of Sidestage; their manifests are the examples of
//! `deploy/examples`. Where one of them does not come up, Sidestage has to give way.
#![allow(clippy::unwrap_used)]

mod django;
mod examples;
mod node;
mod rails;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use console::Ask;
use fantoccini::Locator;
use planner::identity::Sha;
use planner::view::{CommitView, State};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::browser::Browser;
use crate::stage::Stage;

/// The most that a build from package indexes and a start may take, on a machine that has other things to do.
const COMES_UP: Duration = Duration::from_secs(900);
/// The most that a page or a worker may take.
const ANSWERS: Duration = Duration::from_secs(60);
/// How long one look for something on a page may wait.
const LOOK: Duration = Duration::from_secs(1);

/// What an operator says of such a project.
const PROJECT: &str = "stage = \"automatic\"\nimages = [\"redis:7\"]\n";

/// An application that is being staged, and somebody who looks at it.
struct Story {
    name: &'static str,
    stage: Stage,
    browser: Browser,
    /// Things to upload.
    files: tempfile::TempDir,
}

impl Story {
    /// The application is there already; then its people hear of Sidestage, and commit a manifest.
    async fn begin(name: &'static str, secure: bool) -> (Story, Sha) {
        let files = application(name);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let stage = if secure { Stage::secure(&files, PROJECT).await } else { Stage::open(&files, PROJECT).await };
        let story = Story { name, stage, browser: Browser::start(true).await, files: tempfile::tempdir().unwrap() };
        let manifest = manifest(name);
        let sha = story.push("refs/heads/main", "Stage every commit", &[(".sidestage.toml", &manifest)]).await;
        (story, sha)
    }

    /// Pushes a commit to the one branch, on top of `base`.
    async fn push(&self, base: &str, message: &str, files: &[(&str, &str)]) -> Sha {
        let sha = self.stage.repository.push(base, BRANCH, message, files).await.unwrap();
        self.stage.look().await;
        sha
    }

    /// Waits until the commit is ready, and opens its page.
    async fn opens(&self, sha: &Sha) -> CommitView {
        let commit = self.comes_up(sha).await;
        self.browser.client.goto(&commit.url).await.unwrap();
        commit
    }

    async fn comes_up(&self, sha: &Sha) -> CommitView {
        let begun = Instant::now();
        let mut changes = self.stage.instance().doors().view;
        loop {
            let commit = self.stage.commit(sha);
            match commit.as_ref().map(|commit| (commit.state, commit)) {
                Some((State::Ready, commit)) => return commit.clone(),
                Some((State::Failed | State::Blocked, commit)) => panic!(
                    "{}: {:?}: {}\n{}",
                    self.name,
                    commit.state,
                    commit.reason.clone().unwrap_or_default(),
                    self.logs(commit).await
                ),
                _ => assert!(begun.elapsed() < COMES_UP, "{} is not up: {commit:#?}", self.name),
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
        }
    }

    /// The last lines of all logs.
    async fn logs(&self, commit: &CommitView) -> String {
        let mut all = String::new();
        for name in &commit.logs {
            let (reply, chunks) = oneshot::channel();
            let ask = Ask::Logs { env: commit.env.clone(), name: name.clone(), follow: false, reply };
            self.stage.instance().doors().ask.send(ask).await.unwrap();
            let mut log = String::new();
            if let Ok(mut chunks) = chunks.await.unwrap() {
                while let Some(chunk) = chunks.recv().await {
                    log.push_str(&chunk);
                }
            }
            let lines: Vec<&str> = log.lines().collect();
            all.push_str(&format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(30)..].join("\n")));
        }
        all
    }

    /// A file of the person's own.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    async fn fill(&self, css: &str, text: &str) {
        self.browser.see(css).await.send_keys(text).await.unwrap();
    }

    /// What a worker has done shows sooner or later: looks again until it does.
    async fn shows(&self, commit: &CommitView, xpath: &str) -> String {
        let begun = Instant::now();
        loop {
            self.browser.client.goto(&commit.url).await.unwrap();
            if let Ok(element) = self.browser.client.find(Locator::XPath(xpath)).await {
                return element.text().await.unwrap();
            }
            if begun.elapsed() > ANSWERS {
                let page = self.browser.client.source().await.unwrap();
                panic!("{}: {xpath} does not show in\n{page}\n{}", self.name, self.logs(commit).await);
            }
        }
    }

    /// Waits for an element of the page that is open.
    async fn sees(&self, commit: &CommitView, xpath: &str) {
        let (client, begun) = (&self.browser.client, Instant::now());
        while let Err(error) = client.wait().at_most(LOOK).for_element(Locator::XPath(xpath)).await {
            let page = client.source().await.unwrap();
            if begun.elapsed() > ANSWERS {
                panic!("{}: {xpath}: {error}\n{page}\n{}", self.name, self.logs(commit).await);
            }
            // Other tests' networks come and go, and the browser gives up a connection that it is just making. A person
            // would reload; that it fails once more shows in the next look.
            if page.contains("ERR_NETWORK_CHANGED") {
                let _ = client.refresh().await;
            }
        }
    }

    /// Waits until a script finds this in the page that is open.
    async fn finds(&self, script: &str, expected: &Value) {
        let begun = Instant::now();
        let mut found = self.browser.run(script).await;
        while found != *expected {
            assert!(begun.elapsed() < ANSWERS, "{}: {script}: {found}, not {expected}", self.name);
            found = self.browser.run(script).await;
        }
    }

    /// The text of the page.
    async fn text(&self) -> String {
        self.browser.see("body").await.text().await.unwrap()
    }

    async fn end(self) {
        self.browser.stop().await;
        self.stage.close().await;
    }
}

/// The branch on which all happens.
const BRANCH: &str = "refs/heads/feature";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files of an application, by path.
fn application(name: &str) -> Vec<(String, String)> {
    let root = workspace().join("tests/apps").join(name);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// One file of an application.
fn source(name: &str, path: &str) -> String {
    fs::read_to_string(workspace().join("tests/apps").join(name).join(path)).unwrap()
}

fn manifest(name: &str) -> String {
    fs::read_to_string(workspace().join("deploy/examples").join(format!("{name}.toml"))).unwrap()
}

/// A file's text with one place changed, which must be there.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}
