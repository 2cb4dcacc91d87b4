//! An ordinary application the way one does it without Sidestage, on the same engine and the same PostgreSQL: build,
//! database, Redis, release, worker, web.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::site::{Site, get};
use crate::engine::docker;
use crate::run::{output, succeeds};

/// Builds from package indexes take their time.
const PATIENCE: Duration = Duration::from_secs(900);
/// Name of the image, of the database with its role, and the first part of all others.
const NAME: &str = "by_hand";
const PASSWORD: &str = "by-hand";
/// The host that a visitor asks for.
const HOST: &str = "app.staging.localhost";

/// What a person knows of an application.
pub(crate) struct Application {
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) port: u16,
    /// A part of its page.
    pub(crate) page: &'static str,
    pub(crate) release: &'static [&'static str],
    pub(crate) worker: &'static [&'static str],
    pub(crate) env: &'static [&'static str],
    /// An extension of its database.
    pub(crate) extension: Option<&'static str>,
}

/// An application that was brought up by hand; goes with the value.
pub(crate) struct ByHand<'a> {
    site: &'a Site,
    of: &'a Application,
}

impl ByHand<'_> {
    /// From the tree to its page.
    pub(crate) fn up<'a>(site: &'a Site, of: &'a Application, cache: bool) -> Result<ByHand<'a>> {
        let hand = ByHand { site, of };
        let mut build = docker();
        build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", NAME]);
        if !cache {
            build.arg("--no-cache");
        }
        output(build.arg(site.tree()))?;
        site.psql("postgres", &format!("CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'"))?;
        output(site.administrator("createdb")?.args(["--owner", NAME, NAME]))?;
        if let Some(extension) = of.extension {
            site.psql(NAME, &format!("CREATE EXTENSION {extension}"))?;
        }
        output(docker().args(["network", "create", NAME]))?;
        output(docker().args([
            "run",
            "--detach",
            "--name",
            "by_hand_redis",
            "--network",
            NAME,
            "--network-alias",
            "redis",
            "redis:7",
        ]))?;
        output(hand.run(&["--rm"])?.args(of.release))?;
        output(hand.run(&["--detach", "--name", "by_hand_worker"])?.args(of.worker))?;
        let publish = format!("127.0.0.1::{}", of.port);
        output(&mut hand.run(&["--detach", "--name", "by_hand_web", "--publish", &publish])?)?;
        let address = output(docker().args(["port", "by_hand_web", &of.port.to_string()]))?;
        await_page(address.lines().next().unwrap_or_default(), HOST, of.page)?;
        Ok(hand)
    }

    fn run(&self, options: &[&str]) -> Result<Command> {
        let server = self.site.psql("postgres", "SHOW listen_addresses")?;
        let mut run = docker();
        run.args(["run", "--init", "--network", NAME, "--memory", "512m"]).args(options);
        run.args(["--env", &format!("DATABASE_URL=postgresql://{NAME}:{PASSWORD}@{server}:5432/{NAME}")]);
        for variable in self.of.env {
            run.args(["--env", variable]);
        }
        run.arg(NAME);
        Ok(run)
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        for name in ["by_hand_web", "by_hand_worker", "by_hand_redis"] {
            let _ = succeeds(docker().args(["rm", "--force", "--volumes", name]));
        }
        let _ = succeeds(docker().args(["network", "rm", NAME]));
        let _ = self.site.administrator("dropdb").map(|mut dropdb| succeeds(dropdb.args(["--if-exists", NAME])));
        let _ = self.site.psql("postgres", &format!("DROP ROLE IF EXISTS {NAME}"));
    }
}

/// Removes the image, which serves several rounds.
pub(crate) fn forget() {
    let _ = succeeds(docker().args(["image", "rm", "--force", NAME]));
}

/// Asks until a page comes that holds this.
pub(crate) fn await_page(address: &str, host: &str, part: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match get(address, host) {
            Ok(reply) if reply.starts_with("HTTP/1.1 200") && reply.contains(part) => return Ok(()),
            Ok(reply) if begun.elapsed() > PATIENCE || is_final(&reply) => {
                bail!("{host}: {reply}")
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(error).context(host.to_owned()),
            _ => sleep(Duration::from_millis(20)),
        }
    }
}

/// A page of Sidestage's that will not become the application's.
fn is_final(reply: &str) -> bool {
    reply.contains("x-sidestage: page") && [">Failed<", ">Blocked<"].iter().any(|headline| reply.contains(headline))
}

/// Megabytes of memory of these containers.
pub(crate) fn memory(filter: &str) -> Result<f64> {
    let names = output(docker().args(["ps", "--format", "{{.Names}}", "--filter", filter]))?;
    let mut stats = docker();
    stats.args(["stats", "--no-stream", "--format", "{{.MemUsage}}"]).args(names.lines());
    output(&mut stats)?.lines().map(megabytes).sum()
}

/// `118.9MiB / 512MiB`.
fn megabytes(usage: &str) -> Result<f64> {
    let used = usage.split(' ').next().unwrap_or_default();
    let at = used.find(|c: char| c.is_ascii_alphabetic()).with_context(|| format!("no size: {usage}"))?;
    let number: f64 = used[..at].parse().with_context(|| format!("no size: {usage}"))?;
    Ok(match &used[at..] {
        "GiB" => number * 1024.0,
        "KiB" => number / 1024.0,
        _ => number,
    })
}
