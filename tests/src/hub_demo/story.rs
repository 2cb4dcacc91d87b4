//! A fixed story without a person: what the first day on GitHub brings, with a check behind every step.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use planner::view::{CommitView, State};
use serde_json::Value;
use tokio::process::Command;

use super::{FORK, GUESTBOOK, Person, Sidestage, connect, open_foreign, open_own, until};
use crate::fakehub::Hub;

/// The story's teller.
pub struct Story<'w> {
    hub: &'w Hub,
    sidestage: &'w Sidestage,
    checks: usize,
    /// Pull requests that are open.
    open: Vec<u64>,
    /// What deployments say of who made them.
    instance: Option<String>,
}

impl<'w> Story<'w> {
    /// Nothing is told yet; nobody is connected.
    #[must_use]
    pub fn new(hub: &'w Hub, sidestage: &'w Sidestage) -> Story<'w> {
        Story { hub, sidestage, checks: 0, open: Vec::new(), instance: None }
    }

    /// Checks passed so far.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.checks
    }

    /// The operator makes an App and installs it.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        println!("Sidestage is connected by the pages of its console:");
        connect(self.sidestage).await?;
        let told = until("sidestage github check is content", async || {
            Ok(self.sidestage.says(&["github", "check"]).await.ok())
        });
        let told = told.await?;
        self.check(told.contains("none lost") && told.contains("is free for us"), "nothing is missing")
    }

    /// A pull request of the project's own waits, is staged by a comment, and runs.
    ///
    /// # Errors
    /// As [`Story::connect`].
    pub async fn own(&mut self) -> anyhow::Result<()> {
        println!("A pull request is opened:");
        let (number, sha) = open_own(self.hub).await;
        self.open.push(number);
        self.reaches(&sha, State::Unstaged).await?;
        let written = self.hub.world(|world| {
            let repo = world.repo(GUESTBOOK)?;
            Some(repo.comments.len() + repo.deployments.len() + repo.checks.len())
        });
        self.check(written == Some(0), "nobody asked for it, and nothing was written")?;
        self.hub.comment(GUESTBOOK, number, "grace", "/stage");
        self.runs(number, &sha, "Hello from a pull request").await
    }

    /// One from a fork runs nothing before somebody who may approves exactly that commit.
    ///
    /// # Errors
    /// As [`Story::connect`].
    pub async fn foreign(&mut self) -> anyhow::Result<()> {
        println!("A stranger opens one from a fork:");
        let (number, sha) = open_foreign(self.hub).await;
        self.open.push(number);
        let line = format!("/stage approve {sha}");
        let waiting = until("the waiting report", async || Ok(self.check_of(&sha))).await?;
        self.check(waiting.contains("neutral") && waiting.contains("nothing to do"), "the stranger has nothing to do")?;
        self.check(waiting.contains(&line), "and whoever may approve has the line to copy")?;
        self.reaches(&sha, State::Blocked).await?;
        self.hub.comment(GUESTBOOK, number, "mallory", &line);
        until("the stranger is answered", async || Ok(self.reports(number).pop())).await?;
        let blocked = self.commit(&sha).await?;
        self.check(
            blocked.state == State::Blocked && blocked.generation == 0,
            "what the stranger asks for is refused",
        )?;
        self.hub.comment(GUESTBOOK, number, "grace", &line);
        self.runs(number, &sha, "Greetings from a fork").await?;
        let again = [("greeting.txt", "Greetings again\n")];
        let next = self.hub.push(FORK, "patch-1", "mallory", "Say: Greetings again", &again).await;
        let blocked = self.reaches(&next, State::Blocked).await?;
        self.check(blocked.generation == 0, "a push inherits no approval")
    }

    /// All are closed; nothing of theirs stays. Returns how much does.
    ///
    /// # Errors
    /// As [`Story::connect`].
    pub async fn goodbye(&mut self) -> anyhow::Result<usize> {
        println!("The pull requests are closed:");
        for number in std::mem::take(&mut self.open) {
            self.hub.close(GUESTBOOK, number, "ada", false);
            let closed = |reports: Vec<String>| reports.into_iter().find(|text| text.contains("closed"));
            until("the comment says closed", async || Ok(closed(self.reports(number)))).await?;
        }
        let gone = until("everything is removed", async || {
            let taken = self.sidestage.view().await?.places.0;
            Ok((taken == 0 && self.left().await? == 0).then_some(0))
        });
        let left = match gone.await {
            Ok(left) => left,
            Err(_) => self.left().await?,
        };
        self.check(left == 0, "no container, network or volume is left")?;
        until("deployments are inactive", async || {
            Ok(self.deployed().iter().all(|state| state == "inactive").then_some(()))
        })
        .await?;
        self.hub.delivered().await;
        let lost = self.hub.deliveries().into_iter().filter(|sent| sent.status != Some(202)).count();
        self.check(lost == 0, "every webhook was taken at once")?;
        Ok(left)
    }

    /// It becomes ready, the sticky comment says where, and there it answers as that commit.
    async fn runs(&mut self, number: u64, sha: &str, greeting: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        let what = format!("{} is ready by its comment", &sha[..7]);
        let sticky = until(&what, async || {
            let found = self.reports(number).into_iter().find(|text| text.contains("ready") && text.contains(sha));
            if let Some(failed) = self.sidestage.commit(sha).await?.filter(|commit| commit.state == State::Failed) {
                bail!("{} failed: {}", &sha[..7], failed.reason.unwrap_or_default());
            }
            Ok(found)
        });
        let sticky = sticky.await?;
        self.check(true, &format!("{what} ({:.1} s)", begun.elapsed().as_secs_f64()))?;
        let marked = format!("http://{sha}.");
        let at = sticky.find(&marked).with_context(|| format!("no URL of {sha} in {sticky}"))?;
        let url = sticky[at..].split([')', ' ', '|', '>']).next().unwrap_or_default().trim_end_matches('/').to_owned();
        let answer = self.sidestage.visitor().get(&format!("{url}/api")).await?;
        ensure!(answer.status == 200, "{url}/api: {} {}", answer.status, answer.body.trim());
        let facts: Value = serde_json::from_str(&answer.body)?;
        self.check(facts["sha"] == sha && facts["greeting"] == greeting, "its URL answers with the commit")?;
        let sticky = self.reports(number).into_iter().filter(|text| text.contains("after the last visit")).count();
        self.check(sticky == 1, "there is one sticky comment, which says when it goes")?;
        let succeeded = || self.deployed().last().filter(|state| *state == "success").map(drop);
        until("the deployment succeeds", async || Ok(succeeded())).await?;
        let page = Person::default().open(&format!("{}/{GUESTBOOK}/pull/{number}", self.hub.url())).await?;
        self.check(page.body.contains("View deployment") && page.body.contains(&url), "'View deployment' leads there")?;
        self.instance = self.hub.world(|world| {
            let of = world.repo(GUESTBOOK)?.deployments.last()?;
            Some(of.sent["payload"]["instance"].as_str()?.to_owned())
        });
        Ok(())
    }

    /// Whose things all this is, as a deployment says, once there was one.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Waits until a commit is in this state, which counts as a check.
    async fn reaches(&mut self, sha: &str, state: State) -> anyhow::Result<CommitView> {
        let what = format!("{} is {}", &sha[..7], state.as_str());
        let found = until(&what, async || Ok(self.sidestage.commit(sha).await?.filter(|commit| commit.state == state)));
        let found = found.await?;
        self.check(true, &what)?;
        Ok(found)
    }

    async fn commit(&self, sha: &str) -> anyhow::Result<CommitView> {
        self.sidestage.commit(sha).await?.with_context(|| format!("{sha} is nowhere in the view"))
    }

    /// What Sidestage wrote on a pull request, the oldest first.
    fn reports(&self, number: u64) -> Vec<String> {
        self.hub.world(|world| {
            let comments = world.repo(GUESTBOOK).into_iter().flat_map(|repo| &repo.comments);
            let ours = comments.filter(|comment| comment.number == number && comment.author == world.app.bot);
            ours.map(|comment| comment.body.clone()).collect()
        })
    }

    /// The check run of a commit, as it was sent.
    fn check_of(&self, sha: &str) -> Option<String> {
        self.hub.world(|world| {
            let mut checks = world.repo(GUESTBOOK)?.checks.iter();
            checks.find(|check| check.sent["head_sha"] == sha).map(|check| check.sent.to_string())
        })
    }

    /// The last states of all deployments.
    fn deployed(&self) -> Vec<String> {
        self.hub.world(|world| {
            let all = world.repo(GUESTBOOK).into_iter().flat_map(|repo| &repo.deployments);
            let last = all.map(|of| of.statuses.last().and_then(|(_, _, status)| status["state"].as_str()));
            last.map(|state| state.unwrap_or_default().to_owned()).collect()
        })
    }

    /// Containers, networks and volumes of this instance that the engine still has.
    async fn left(&self) -> anyhow::Result<usize> {
        let instance = self.instance.as_deref().context("something was deployed")?;
        let label = format!("label=sidestage.instance={instance}");
        let mut left = 0;
        for list in [["ps", "--all"].as_slice(), &["network", "ls"], &["volume", "ls"]] {
            let mut docker = Command::new("docker");
            docker.args(list).args(["--quiet", "--filter", &label]).stdin(Stdio::null());
            let output = docker.output().await.context("docker cannot be run")?;
            ensure!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr).trim());
            left += String::from_utf8_lossy(&output.stdout).lines().count();
        }
        Ok(left)
    }

    fn check(&mut self, holds: bool, what: &str) -> anyhow::Result<()> {
        ensure!(holds, "not so: {what}");
        self.checks += 1;
        println!("  ✓ {what}");
        Ok(())
    }
}
