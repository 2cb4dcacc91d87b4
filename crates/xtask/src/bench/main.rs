//! The goals of the whole: from push to page, waking, a pass, memory.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::phases::{self, Phases};
use super::site::{ByHand, Site, await_page};
use super::{Options, Row, rounds, timed};
use crate::run::{cargo, output};
use crate::{engine, needs};

const PUSH: &str = "push to page, tree built already";
const WAKE: &str = "wake of a stopped environment";
const PASS: &str = "a pass over 1,000 settled environments";
const MEMORY: &str = "resident memory with 100 environments";

pub(crate) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_BENCH)?;
    let _engine = engine::answering()?;
    let mut rows = Vec::new();
    if options.wants(PASS) {
        rows.push(pass(options)?);
    }
    if options.wants(PUSH) || options.wants(WAKE) || options.wants(MEMORY) {
        let site = Site::start(options.dev)?;
        if options.wants(PUSH) || options.wants(WAKE) {
            let by_hand = ByHand::new(&site)?;
            rows.extend(push(options, &site, &by_hand)?);
            rows.extend(wake(options, &site, &by_hand)?);
        }
        if options.wants(MEMORY) {
            rows.push(memory(&site)?);
        }
        site.end()?;
    }
    Ok(rows)
}

/// A commit with the tree of an earlier one, against the same steps by hand: build (cached), database, container, poll.
/// Both sides begin with the same commit in somebody's working tree and `git push` it to a bare repository of their own,
/// since nobody stages what nobody has pushed; only ours has the hook. Both have built this tree before and still have
/// the image, ours because a branch with that tree is open.
fn push(options: &Options, site: &Site, by_hand: &ByHand) -> Result<Option<Row>> {
    if !options.wants(PUSH) {
        return Ok(None);
    }
    let built = site.commit()?;
    site.push("built")?;
    await_page(&site.edge, &site.host(&built))?;
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    let ours = |round: usize| {
        let branch = format!("round-{round}");
        let sha = site.commit()?;
        let mut phases = Phases::begin();
        let took = timed(|| {
            site.push(&branch)?;
            phases.end("git push with its hook");
            await_page(&site.edge, &site.host(&sha))?;
            phases.end("page");
            Ok(())
        })?;
        phases.read(&site.log());
        of_ours.push(phases);
        site.delete(&branch)?;
        site.await_left(1)?;
        Ok(took)
    };
    let peer = |round: usize| {
        let name = format!("by_hand_{round}");
        site.commit()?;
        let mut phases = Phases::begin();
        let took = timed(|| {
            by_hand.push()?;
            phases.end("git push");
            by_hand.up(&name, &mut phases)
        })?;
        of_peer.push(phases);
        by_hand.down(&name)?;
        Ok(took)
    };
    let (ours, peer) = rounds(options.rounds, ours, peer)?;
    site.delete("built")?;
    site.await_nothing()?;
    phases::print("ours", &of_ours);
    phases::print("by hand", &of_peer);
    let peer_name = "git push, docker build, createdb -T, docker run, poll".to_owned();
    Ok(Some(Row { case: PUSH.to_owned(), ours, peer, peer_name, unit: "ms", goal: 1.1 }))
}

/// The first request to an environment that sleeps, against `docker start` of the same container by hand.
fn wake(options: &Options, site: &Site, by_hand: &ByHand) -> Result<Option<Row>> {
    if !options.wants(WAKE) {
        return Ok(None);
    }
    let sha = site.commit()?;
    site.push("sleeper")?;
    await_page(&site.edge, &site.host(&sha))?;
    by_hand.up("sleeper", &mut Phases::begin())?;
    let ours = |_| {
        site.client(&["sleep", "--wait", "bench", &sha])?;
        // Falling asleep is not what is measured.
        site.await_stopped(&sha)?;
        timed(|| await_page(&site.edge, &site.host(&sha)))
    };
    let peer = |_| {
        by_hand.stop("sleeper")?;
        timed(|| by_hand.start("sleeper"))
    };
    let (ours, peer) = rounds(options.rounds, ours, peer)?;
    by_hand.down("sleeper")?;
    site.delete("sleeper")?;
    site.await_nothing()?;
    let goal = (peer + 100.0) / peer;
    Ok(Some(Row { case: WAKE.to_owned(), ours, peer, peer_name: "docker start, poll".into(), unit: "ms", goal }))
}

/// Pure computation: the planner's own example, against its limit.
fn pass(options: &Options) -> Result<Row> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "planner", "--example", "pass"]);
    if !options.dev {
        command.arg("--release");
    }
    let told = output(command.args(["--", "1000"]))?;
    let median =
        told.split(' ').next().and_then(|text| text.parse().ok()).context("the example `pass` tells a number")?;
    Ok(Row { case: PASS.to_owned(), ours: median, peer: 50.0, peer_name: "limit".into(), unit: "ms", goal: 1.0 })
}

/// A hundred environments, most of them asleep as they would be.
fn memory(site: &Site) -> Result<Row> {
    let count = 100;
    for number in 0..count {
        site.commit()?;
        site.push(&format!("many-{number}"))?;
    }
    let begun = Instant::now();
    loop {
        let states = site.states()?;
        ensure!(!states.iter().any(|state| state == "failed"), "an environment has failed: {states:?}");
        let up = states.iter().filter(|state| ["ready", "dozing", "asleep"].contains(&state.as_str())).count();
        if up == count {
            break;
        }
        if begun.elapsed() > Duration::from_secs(900) {
            bail!("only {up} of {count} environments came up: {states:?}");
        }
        sleep(Duration::from_secs(1));
    }
    let resident = site.resident_megabytes()?;
    // A few at a time: more than half at once would be taken for an accident and held back.
    for number in 0..count {
        site.delete(&format!("many-{number}"))?;
        if number % 3 == 2 {
            site.await_left(count - 1 - number)?;
        }
    }
    site.await_nothing()?;
    Ok(Row { case: MEMORY.to_owned(), ours: resident, peer: 100.0, peer_name: "limit".into(), unit: "MB", goal: 1.0 })
}
