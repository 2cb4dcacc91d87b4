//! `cargo xtask`: see [`HELP`].

mod bench;
mod check;
mod engine;
mod hub;
mod images;
mod needs;
mod oracles;
mod run;

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask demo [-- ARGS]             sets everything up, then runs `sidestage demo ARGS`; Ctrl-C removes everything
cargo xtask demo -- --github           the same on a fake GitHub: pull requests, comments, approvals; --story tells itself
cargo xtask test [-- ARGS]             sets everything up, then runs all tests; ARGS go to the test runner
cargo xtask check                      format, lints, arrows between the rooms, licences (where cargo-deny is at hand)
cargo xtask bench NAME [--json FILE]   measures beside what one would do by hand: main, apps, data, hooks
cargo xtask clean                      removes the base images that were made here
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (verb, rest) = arguments.split_first().map_or(("help", [].as_slice()), |(verb, rest)| (verb.as_str(), rest));
    let rest: Vec<String> = rest.iter().filter(|argument| *argument != "--").cloned().collect();
    let done = run::survive_interrupts().and_then(|()| match verb {
        "demo" => demo(&rest),
        "test" => test(&rest),
        "check" => check::all(),
        "bench" => bench::named(&rest),
        "clean" => images::clean(),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no `cargo xtask {other}`:\n{HELP}"),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    let on_github = arguments.iter().any(|argument| argument == "--github");
    needs::install(needs::FOR_DEMO)?;
    if on_github {
        needs::install(needs::FOR_HUB)?;
    }
    let _engine = engine::answering()?;
    images::make(&images::FOR_DEMO)?;
    if on_github {
        return hub::demo(arguments);
    }
    run::to_end(run::cargo().args(["run", "--quiet", "--package", "sidestage", "--", "demo"]).args(arguments))
}

/// The unit tests of the rooms first, so that the last line is the summary of the tests proper.
fn test(arguments: &[String]) -> Result<()> {
    needs::install(needs::FOR_TESTS)?;
    xtask::wheels::POSTGRES18.install()?;
    let _engine = engine::answering()?;
    images::make(&images::FOR_TESTS)?;
    oracles::fetch()?;
    // Tests start the program itself.
    run::to_end(run::cargo().args(["build", "--quiet", "--package", "sidestage"]))?;
    let mut proper: Command = run::cargo();
    proper.args(["test", "--quiet", "--package", "tests", "--lib"]);
    if !arguments.is_empty() {
        return run::to_end(proper.arg("--").args(arguments));
    }
    let rooms = run::to_end(run::cargo().args(["test", "--quiet", "--workspace", "--exclude", "tests"]));
    let all = run::to_end(&mut proper);
    rooms.and(all)
}
