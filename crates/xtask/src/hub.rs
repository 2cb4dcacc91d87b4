//! The demo on the fake GitHub, which is a program of the tests: Sidestage itself knows nothing of it.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{oracles, run};

/// The demo's first port, unless it is told another.
const PORT: u16 = 8080;

/// Runs both side by side. GitHub has the port behind the demo's three.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    oracles::fetch()?;
    run::to_end(run::cargo().args(["build", "--quiet", "--package", "sidestage"]))?;
    run::to_end(run::cargo().args(["build", "--quiet", "--package", "tests", "--bin", "fakehub"]))?;
    let story = arguments.iter().any(|argument| argument == "--story");
    let port = port(arguments)?;
    let address = format!("127.0.0.1:{}", port + 3);
    // Whoever has the port would be taken for it.
    drop(TcpListener::bind(&address).with_context(|| format!("{address} is taken: choose another with --port"))?);
    let program = |name: &str| anyhow::Ok(Command::new(std::env::current_exe()?.with_file_name(name)));
    let mut sidestage = program("sidestage")?;
    let port = port.to_string();
    sidestage.args(["demo", "--port", &port, "--github", &format!("http://{address}/acme/guestbook")]);
    let mut fakehub = program("fakehub")?;
    fakehub.args([&address, "--sidestage", &port]).args(story.then_some("--story"));
    run::together(&mut sidestage, &mut fakehub)
}

fn port(arguments: &[String]) -> Result<u16> {
    let mut port = PORT;
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--github" | "--story" => {}
            "--port" => port = left.next().and_then(|text| text.parse().ok()).context("--port needs a number")?,
            other => bail!("the demo on GitHub takes --story and --port, not {other}"),
        }
    }
    Ok(port)
}
