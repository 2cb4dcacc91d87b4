//! A fixed story without a person: what the demo's first visitor would do, with a check behind every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use console::{Ask, Doors};
use drivers::Scope;
use planner::command::{Actor, Command, Role};
use planner::identity::{ProjectName, Sha};
use planner::resource::{Kind, Owner};
use planner::view::{CommitView, State, View};
use serde_json::Value;
use tokio::sync::oneshot;

use super::repository::Repository;
use super::visitor::Visitor;
use crate::clock;
use crate::instance::Drivers;

/// The most that any step may take: a foreign build installs its packages without a cache.
const PATIENCE: Duration = Duration::from_secs(300);
const FEATURE: &str = "refs/heads/feature/greeting";
const OTHER: &str = "refs/heads/feature/farewell";
const FORK: &str = "refs/pull/1/head";

/// The story's teller.
pub struct Story {
    /// Where commits are pushed.
    pub repository: Repository,
    /// Who opens the pages.
    pub visitor: Visitor,
    /// The way to the loop.
    pub doors: Doors,
    /// The project's name.
    pub project: ProjectName,
    /// For the last look: is anything left?
    pub drivers: Drivers,
    /// Checks passed so far.
    pub checks: usize,
}

impl Story {
    /// Tells the story and prints its last line.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn tell(mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let first = self.first_push().await?;
        let seconds = begun.elapsed().as_secs_f64();
        let second = self.second_push(&first).await?;
        self.fork().await?;
        self.reset(&second).await?;
        self.time(&second).await?;
        let leaks = self.goodbye().await?;
        println!("story passed: {} checks, first environment ready in {seconds:.1} s, leaks {leaks}", self.checks);
        ensure!(leaks == 0, "{leaks} things of ours are left");
        Ok(())
    }

    async fn first_push(&mut self) -> anyhow::Result<Sha> {
        println!("A push to feature/greeting:");
        let calm =
            self.view().projects.iter().flat_map(|project| &project.refs).all(|found| {
                found.commits.iter().all(|commit| matches!(commit.state, State::Unstaged | State::Blocked))
            });
        self.check(calm, "what was there at the start waits for a person")?;
        let sha = self.repository.greet("refs/heads/main", FEATURE, "Hello from the first commit").await?;
        let ready = self.reaches(&sha, State::Ready).await?;
        let page = self.visitor.get(&ready.url).await?;
        self.check(page.status == 200 && page.body.contains(&sha.to_string()), "its page shows the commit")?;
        self.check(page.body.contains("Hello from the first commit"), "and that commit's words")?;
        let uploaded = self.visitor.upload(&format!("{}/upload", ready.url), "hello.txt", "hello").await?;
        self.check(uploaded.status == 303, "an upload is taken")?;
        let facts = self.facts(&sha).await?;
        self.check(facts["uploads"]["hello.txt"] == 5, "an object of its own")?;
        self.check(facts["visits"] == 2, "rows of its own")?;
        let file = self.visitor.follow(&format!("{}/file?key=hello.txt", ready.url)).await?;
        self.check(file.body == "hello", "a presigned link opens for a browser")?;
        self.check(!self.visitor.resolve(&ready.url).await?.is_empty(), "our DNS answers its name")?;
        Ok(sha)
    }

    async fn second_push(&mut self, first: &Sha) -> anyhow::Result<Sha> {
        println!("A second push, with somebody reading all the while:");
        let alias = self.alias_of(first)?;
        let before = self.facts(first).await?;
        let reader = Reader::start(self.visitor, alias.clone());
        let sha = self.repository.greet(FEATURE, FEATURE, "Hello from the second commit").await?;
        self.reaches(&sha, State::Ready).await?;
        self.until("the alias moves", async |story| {
            let answer = story.visitor.follow(&alias).await.ok()?;
            answer.body.contains(&sha.to_string()).then_some(())
        })
        .await?;
        let (asked, failed) = reader.stop().await?;
        self.check(failed == 0 && asked > 0, &format!("the alias moved without a failed request ({asked} made)"))?;
        let facts = self.facts(&sha).await?;
        self.check(facts["database"] != before["database"], "the second commit has a database of its own")?;
        let empty = facts["uploads"].as_object().is_some_and(serde_json::Map::is_empty);
        self.check(empty, "and a bucket of its own")?;
        let still = self.facts(first).await?;
        self.check(still["uploads"]["hello.txt"] == 5, "the first keeps what it had")?;
        Ok(sha)
    }

    async fn fork(&mut self) -> anyhow::Result<()> {
        println!("A pull request from a fork:");
        let sha = self.repository.greet("refs/heads/main", FORK, "Greetings from a fork").await?;
        let blocked = self.reaches(&sha, State::Blocked).await?;
        self.check(blocked.reason.is_some(), "it is blocked, with a reason")?;
        let page = self.visitor.get(&blocked.url).await?;
        self.check(!page.status.is_success() && page.body.contains("blocked"), "and its URL says so")?;
        self.command(Command::Approve { project: self.project.clone(), sha }).await?;
        self.reaches(&sha, State::Ready).await?;
        self.check(self.facts(&sha).await?["sha"] == sha.to_string(), "approved at its sha, it runs")?;
        let next = self.repository.greet(FORK, FORK, "Greetings again").await?;
        let blocked = self.reaches(&next, State::Blocked).await?;
        self.check(blocked.generation == 0, "a push inherits no approval")?;
        Ok(())
    }

    async fn reset(&mut self, sha: &Sha) -> anyhow::Result<()> {
        println!("A reset:");
        let visits = self.facts(sha).await?["visits"].as_u64().unwrap_or(0);
        self.check(visits >= 2, "there is something to lose")?;
        let old = self.commit(sha)?.generation;
        self.command(Command::Reset { project: self.project.clone(), sha: *sha, baseline: None }).await?;
        self.until("the next generation serves", async |story| {
            let facts = story.facts(sha).await.ok()?;
            (facts["visits"].as_u64() < Some(visits)).then_some(())
        })
        .await?;
        self.check(self.commit(sha)?.generation == old + 1, "the data is new")
    }

    async fn time(&mut self, sha: &Sha) -> anyhow::Result<()> {
        println!("Time passes:");
        let project = self.project.clone();
        self.command(Command::Pin { project: project.clone(), sha: *sha }).await?;
        self.pass(16).await?;
        self.reaches(sha, State::Dozing).await?;
        self.answers(sha, "it dozes, and a request wakes it").await?;
        self.reaches(sha, State::Ready).await?;
        self.pass(3 * 60).await?;
        self.reaches(sha, State::Asleep).await?;
        self.answers(sha, "it sleeps, and a request is held until it is awake").await?;
        self.command(Command::Sleep { project: project.clone(), sha: *sha }).await?;
        self.reaches(sha, State::Asleep).await?;
        self.command(Command::Wake { project: project.clone(), sha: *sha }).await?;
        self.reaches(sha, State::Ready).await?;
        self.pass(6 * 24 * 60).await?;
        self.until("the others expire", async |story| {
            let view = story.view();
            let mut commits = view.projects.iter().flat_map(|project| &project.refs).flat_map(|found| &found.commits);
            let gone = |commit: &CommitView| {
                matches!(commit.state, State::Expired | State::Unstaged | State::Blocked | State::Superseded)
            };
            commits.all(|commit| commit.pinned || gone(commit)).then_some(())
        })
        .await?;
        self.answers(sha, "the pinned one is still there").await?;
        self.command(Command::Unpin { project, sha: *sha }).await
    }

    /// Deletes the refs one after another; nothing of theirs stays.
    async fn goodbye(&mut self) -> anyhow::Result<usize> {
        println!("The branches are deleted:");
        for name in [FEATURE, OTHER, FORK] {
            self.repository.delete(name).await?;
        }
        let left = self
            .until("everything is removed", async |story| {
                let left = story.left().await.ok()?;
                (left == 0).then_some(left)
            })
            .await;
        self.check(left.is_ok(), "nothing is left but the last images")?;
        self.left().await
    }

    /// What there is of ours, beside the last images of the project, which are kept for whoever pushes next.
    async fn left(&self) -> anyhow::Result<usize> {
        let mut left = 0;
        for driver in self.drivers.values() {
            let seen = driver.inventory(&Scope::All).await?;
            left += seen.keys().filter(|id| !matches!((id.kind, &id.owner), (Kind::Image, Owner::Project(..)))).count();
        }
        Ok(left)
    }

    fn view(&self) -> Arc<View> {
        self.doors.view.borrow().clone()
    }

    fn commit(&self, sha: &Sha) -> anyhow::Result<CommitView> {
        let view = self.view();
        let mut commits = view.projects.iter().flat_map(|project| &project.refs).flat_map(|found| &found.commits);
        commits.find(|commit| commit.sha == *sha).cloned().with_context(|| format!("{sha} is nowhere in the view"))
    }

    fn alias_of(&self, sha: &Sha) -> anyhow::Result<String> {
        let view = self.view();
        let mut refs = view.projects.iter().flat_map(|project| &project.refs);
        let found = refs.find(|found| found.commits.iter().any(|commit| commit.sha == *sha));
        Ok(found.context("the commit has a ref")?.alias_url.clone())
    }

    async fn facts(&self, sha: &Sha) -> anyhow::Result<Value> {
        let url = format!("{}/api", self.commit(sha)?.url);
        let answer = self.visitor.get(&url).await?;
        ensure!(answer.status == 200, "{url}: {} {}", answer.status, answer.body.trim());
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// The application answers at the commit's URL; otherwise what came instead is said.
    async fn answers(&mut self, sha: &Sha, what: &str) -> anyhow::Result<()> {
        self.facts(sha).await.with_context(|| format!("not so: {what}"))?;
        self.check(true, what)
    }

    async fn command(&self, command: Command) -> anyhow::Result<()> {
        let (reply, answer) = oneshot::channel();
        let actor = Actor { name: "story".to_owned(), role: Role::Admin };
        self.doors.ask.send(Ask::Command(actor, command, reply)).await?;
        answer.await?.map(drop).map_err(anyhow::Error::msg)
    }

    async fn pass(&self, minutes: u64) -> anyhow::Result<()> {
        clock::advance(Duration::from_secs(minutes * 60));
        // The loop waits for a moment that has just come nearer: have it look.
        let (reply, looked) = oneshot::channel();
        self.doors.ask.send(Ask::Look(self.project.to_string(), reply)).await?;
        looked.await?.map_err(anyhow::Error::msg)
    }

    fn check(&mut self, holds: bool, what: &str) -> anyhow::Result<()> {
        ensure!(holds, "not so: {what}");
        self.checks += 1;
        println!("  ✓ {what}");
        Ok(())
    }

    /// Waits until a commit is in this state, which counts as a check.
    async fn reaches(&mut self, sha: &Sha, state: State) -> anyhow::Result<CommitView> {
        let what = format!("{} is {}", sha.short(), state.as_str());
        self.until(&what, async |story| story.commit(sha).ok().filter(|commit| commit.state == state)).await
    }

    async fn until<T>(&mut self, what: &str, look: impl AsyncFn(&Story) -> Option<T>) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self).await {
                self.checks += 1;
                println!("  ✓ {what} ({:.1} s)", begun.elapsed().as_secs_f64());
                return Ok(found);
            }
            if begun.elapsed() > PATIENCE {
                bail!("not within {} s: {what}. What there is: {}", PATIENCE.as_secs(), states(&self.view()));
            }
            // The view changes with every step, other conditions without one.
            let _ = tokio::time::timeout(Duration::from_millis(250), self.doors.view.changed()).await;
        }
    }
}

/// Every commit with its state and reason, on one line.
fn states(view: &View) -> String {
    let commits = view.projects.iter().flat_map(|project| &project.refs).flat_map(|found| &found.commits);
    let shown = commits.map(|commit| {
        format!("{} {} {}", commit.sha.short(), commit.state.as_str(), commit.reason.as_deref().unwrap_or_default())
    });
    shown.chain(view.warnings.clone()).collect::<Vec<_>>().join("; ")
}

/// Somebody who reloads a page all the time and counts what fails.
struct Reader {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<usize>,
}

impl Reader {
    fn start(visitor: Visitor, url: String) -> Reader {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), asked.clone());
        let task = tokio::spawn(async move {
            let mut failed = 0;
            while !stopped.load(Ordering::Relaxed) {
                let fine = visitor.follow(&url).await.is_ok_and(|answer| answer.status == 200);
                failed += usize::from(!fine);
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            failed
        });
        Reader { stop, asked, task }
    }

    async fn stop(self) -> anyhow::Result<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.task.await?;
        Ok((self.asked.load(Ordering::Relaxed), failed))
    }
}
