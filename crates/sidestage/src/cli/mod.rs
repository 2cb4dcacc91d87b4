//! The command line's client: what people type, asked of the controller over its local socket and printed.
//!
//! `client` speaks HTTP over the socket, `target` finds the commit that was meant, `listing` prints, `wait` follows,
//! `options` is what may stand behind commands, `inside` runs things in environments, and `terminal` is the one at hand.

mod baseline;
mod client;
mod github;
mod inside;
mod listing;
mod options;
mod secret;
mod target;
mod terminal;
mod wait;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::Subcommand;
use planner::command::Command as Ask;
use planner::identity::{ProjectName, Sha};
use planner::units::parse_lifetime;
use serde_json::{Value, json};

pub use client::Client;
pub use options::{Act, Extend, Gc, Listing, Logs, Ls, Plain, Plan, Reset, Show};
use target::Target;
use wait::Goal;

/// What is asked of a running controller.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List projects with their pull requests, branches, tags and the state of each commit (elsewhere: ps, urls)
    Ls(Ls),
    /// Show one commit in full
    Show(Show),
    /// Print the log of a container, a job or the build
    Logs(Logs),
    /// Bring a commit up: a first time, again after removal or expiry, or again after failure (elsewhere: up, deploy). Any
    /// branch or tag of the project will do: `stage shop v5.2.1`
    Stage(Act),
    /// Let foreign code run at exactly this commit, and stage it
    Approve(Act),
    /// Take an approval back; its environment is removed
    Revoke(Plain),
    /// Let an environment live longer: `extend shop pr-7 3d`
    Extend(Extend),
    /// Keep an environment until it is unpinned
    Pin(Plain),
    /// Let a pinned environment end like any other
    Unpin(Plain),
    /// Start over with fresh data, of the baseline that the manifest names or another
    Reset(Reset),
    /// Stop an environment until somebody visits it
    Sleep(Act),
    /// Start an environment that sleeps
    Wake(Act),
    /// Build the image again without cache and start over with fresh data
    Rebuild(Act),
    /// Remove an environment and its data (elsewhere: down, destroy)
    Remove(Act),
    /// Run a command once inside an environment: `run pr-7 -- bin/console` (elsewhere: exec)
    Run(inside::Run),
    /// Open an environment's database with PostgreSQL's own client
    Psql(inside::Psql),
    /// Write a copy of an environment's database, in PostgreSQL's custom format: `dump pr-7 > shop.dump`
    Dump(Plain),
    /// Remove orphans now
    Gc(Gc),
    /// Set, list and take away secrets of a project
    Secret {
        /// What to do.
        #[command(subcommand)]
        what: secret::Secret,
    },
    /// Make, refresh and choose baselines: the data that environments start from
    Baseline {
        /// What to do.
        #[command(subcommand)]
        what: baseline::Baseline,
    },
    /// Connect GitHub, and look what a connection lacks
    Github {
        /// What to do.
        #[command(subcommand)]
        what: github::GitHub,
    },
    /// Print what a pass would do now, and what waits for what
    Plan(Plan),
    /// Print a link that signs in to the console once, within ten minutes
    LoginLink,
    /// Print the versions of this program and of the controller
    Version(Listing),
}

/// Where a command prints, and how.
pub struct Screen {
    /// For what was asked for.
    pub out: Box<dyn Write + Send>,
    /// For errors, and progress in lines.
    pub err: Box<dyn Write + Send>,
    /// How many columns a terminal has; none when `out` is none. Colours, dimming and cutting are for terminals.
    pub columns: Option<usize>,
    /// Whether progress may be drawn on the process's own stderr.
    pub draw: bool,
    /// What a command that runs inside is fed with; none is nothing.
    pub input: Option<Box<dyn io::Read + Send>>,
    /// Whether the process's own input and output are a terminal.
    pub terminal: bool,
}

impl Screen {
    /// The process's own streams.
    #[must_use]
    pub fn standard() -> Screen {
        let terminal = term::Term::stdout();
        let columns = terminal.features().is_attended().then(|| usize::from(terminal.size().1));
        Screen {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            columns,
            draw: io::stderr().is_terminal(),
            input: Some(Box::new(io::stdin())),
            terminal: io::stdin().is_terminal() && columns.is_some(),
        }
    }
}

/// Why a command did not do what was asked, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was asked wrongly: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It was refused, or ended otherwise: exit code 1.
    #[error("{0}")]
    Refused(String),
    /// Nothing could be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Failed {
    fn code(&self) -> u8 {
        if matches!(self, Failed::Usage(_)) { 2 } else { 1 }
    }
}

/// Runs a command against the controller at this socket. Returns the exit code: 0 done as asked, 1 not, 2 asked wrongly; of
/// `run`, `psql` and `dump` that of what ran, 125 if it did not.
pub async fn run(socket: &Path, command: Command, screen: &mut Screen) -> u8 {
    let client = Client::new(socket);
    let done = match command {
        Command::Run(run) => inside::run(&client, run, screen).await,
        Command::Psql(psql) => inside::psql(&client, &psql, screen).await,
        Command::Dump(plain) => inside::dump(&client, &plain, screen).await,
        command => dispatch(&client, command, screen).await.map(|()| 0),
    };
    finish(done, screen)
}

/// Has the controller at this socket read its configuration anew, and prints what that changes. Returns the exit code.
pub async fn reload(socket: &Path, screen: &mut Screen) -> u8 {
    let client = Client::new(socket);
    let done = async {
        let answer: Value = client.post("/api/v1/config/reload", &json!({})).await?;
        say(screen, answer["ok"].as_str().unwrap_or_default())
    };
    let done = done.await.map(|()| 0);
    finish(done, screen)
}

/// Prints why it was not done.
fn finish(done: Result<u8, Failed>, screen: &mut Screen) -> u8 {
    match done {
        Ok(code) => code,
        // Whoever reads us has seen enough: `sidestage ls | head`.
        Err(Failed::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(failed) => {
            let _ = writeln!(screen.err, "error: {failed}");
            failed.code()
        }
    }
}

async fn dispatch(client: &Client, command: Command, screen: &mut Screen) -> Result<(), Failed> {
    match command {
        Command::Ls(ls) => list(client, &ls, screen).await,
        Command::Show(show) => self::show(client, &show, screen).await,
        Command::Logs(logs) => self::logs(client, &logs, screen).await,
        Command::Stage(act) => do_it(client, &act, "stage", Goal::Up, screen).await,
        Command::Approve(act) => do_it(client, &act, "approve", Goal::Up, screen).await,
        Command::Reset(reset) => self::reset(client, &reset, screen).await,
        Command::Rebuild(act) => do_it(client, &act, "rebuild", Goal::Anew, screen).await,
        Command::Sleep(act) => do_it(client, &act, "sleep", Goal::Asleep, screen).await,
        Command::Wake(act) => do_it(client, &act, "wake", Goal::Awake, screen).await,
        Command::Remove(act) => do_it(client, &act, "remove", Goal::Gone, screen).await,
        Command::Revoke(plain) => do_plain(client, &plain, "revoke", screen).await,
        Command::Pin(plain) => do_plain(client, &plain, "pin", screen).await,
        Command::Unpin(plain) => do_plain(client, &plain, "unpin", screen).await,
        Command::Extend(extend) => self::extend(client, &extend, screen).await,
        Command::Gc(gc) => say(screen, &client.command(&Ask::Gc { confirm: gc.confirm }).await?),
        Command::Plan(plan) => self::plan(client, &plan, screen).await,
        Command::LoginLink => {
            let link: Value = client.post("/api/v1/login-link", &json!({})).await?;
            say(screen, link["url"].as_str().unwrap_or_default())
        }
        Command::Baseline { what } => baseline::run(client, what, screen).await,
        Command::Secret { what } => secret::run(client, what, screen).await,
        Command::Github { what } => github::run(client, what, screen).await,
        Command::Version(listing) => version(client, &listing, screen).await,
        Command::Run(_) | Command::Psql(_) | Command::Dump(_) => unreachable!("they have exit codes of their own"),
    }
}

fn say(screen: &mut Screen, line: &str) -> Result<(), Failed> {
    Ok(writeln!(screen.out, "{line}")?)
}

fn print_json(screen: &mut Screen, value: &impl serde::Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::Refused(error.to_string()))?;
    say(screen, &text)
}

async fn list(client: &Client, ls: &Ls, screen: &mut Screen) -> Result<(), Failed> {
    match &ls.project {
        Some(project) if ls.json => {
            let project: Value = client.get(&format!("/api/v1/projects/{}", client::segment(project))).await?;
            print_json(screen, &project)
        }
        None if ls.json => print_json(screen, &client.get::<Value>("/api/v1/view").await?),
        project => {
            let view = client.view().await?;
            if let Some(name) = project {
                target::project(&view, name)?;
            }
            Ok(listing::ls(&view, project.as_deref(), screen)?)
        }
    }
}

async fn show(client: &Client, show: &Show, screen: &mut Screen) -> Result<(), Failed> {
    let view = client.view().await?;
    let target = Target::find(&view, &show.plain.target)?;
    let path = format!("/api/v1/environments/{}/{}", target.project, target.sha);
    if show.json {
        return print_json(screen, &client.get::<Value>(&path).await?);
    }
    let commit = client.get(&path).await?;
    Ok(listing::show(&view, &target.project, &commit, screen)?)
}

async fn logs(client: &Client, logs: &Logs, screen: &mut Screen) -> Result<(), Failed> {
    let view = client.view().await?;
    let target = Target::find(&view, &logs.plain.target)?;
    let commit = target.commit(&view).ok_or_else(|| target.unknown())?;
    let crons: Vec<String> = commit.cron.iter().map(|(name, _)| format!("cron.{name}")).collect();
    let there = || [commit.logs.as_slice(), &crons].concat().join(", ");
    let name = match (&logs.name, logs.build) {
        (Some(name), _) if commit.logs.contains(name) || crons.contains(name) => name.as_str(),
        (Some(name), _) => return Err(Failed::Usage(format!("no log {name:?}; there are: {}", there()))),
        (None, true) => "build",
        // Of what runs the first container is meant, of what does not come up its build.
        (None, false) => {
            let first = commit.logs.iter().find(|name| *name == "web");
            first.or(commit.logs.last()).map_or("build", String::as_str)
        }
    };
    if commit.logs.is_empty() {
        let why = format!("{} is {} and has no logs yet", target.short(), commit.state.as_str());
        return Err(Failed::Refused(why));
    }
    let follow = if logs.follow { "?follow=1" } else { "" };
    let path = format!("/api/v1/logs/{}/{}{follow}", commit.env, client::segment(name));
    let mut text = client.stream(&path).await?;
    while let Some(chunk) = text.next().await? {
        screen.out.write_all(&chunk)?;
        screen.out.flush()?;
    }
    Ok(())
}

async fn plan(client: &Client, options: &Plan, screen: &mut Screen) -> Result<(), Failed> {
    let plan: Value = client.get("/api/v1/plan").await?;
    if options.json {
        return print_json(screen, &plan);
    }
    let view = client.view().await?;
    let counted = match &options.project {
        Some(name) => std::slice::from_ref(target::project(&view, name)?),
        None => &view.projects,
    };
    listing::counts(&view, counted, screen)?;
    let lines: Vec<&str> = plan["plan"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if lines.is_empty() {
        return say(screen, "nothing to do: what exists is what is wanted");
    }
    lines.into_iter().try_for_each(|line| say(screen, &console::text::clean(line)))
}

async fn version(client: &Client, listing: &Listing, screen: &mut Screen) -> Result<(), Failed> {
    let own = env!("CARGO_PKG_VERSION");
    // Without a controller one's own version is all there is to say.
    let controller: Option<Value> = client.get("/api/v1/version").await.ok();
    if listing.json {
        return print_json(screen, &json!({ "version": own, "controller": controller }));
    }
    say(screen, &format!("sidestage {own}"))?;
    match controller {
        Some(of) => say(screen, &format!("controller {} (instance {})", word(&of["version"]), word(&of["instance"]))),
        None => say(screen, "controller: not running"),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

async fn extend(client: &Client, extend: &Extend, screen: &mut Screen) -> Result<(), Failed> {
    let Some((by, target)) = extend.target.split_last() else {
        return Err(Failed::Usage("name the commit and by how long: sidestage extend pr-7 3d".to_owned()));
    };
    let by = parse_lifetime(by).map_err(Failed::Usage)?;
    let view = client.view().await?;
    let Target { project, sha } = Target::find(&view, target)?;
    say(screen, &client.command(&Ask::Extend { project, sha, by }).await?)
}

async fn do_plain(client: &Client, plain: &Plain, verb: &str, screen: &mut Screen) -> Result<(), Failed> {
    let view = client.view().await?;
    let Target { project, sha } = Target::find(&view, &plain.target)?;
    let said = client.command(&command(verb, project, sha)).await?;
    say(screen, &said)
}

async fn do_it(client: &Client, act: &Act, verb: &str, goal: Goal, screen: &mut Screen) -> Result<(), Failed> {
    let view = client.view().await?;
    if verb == "stage"
        && let Some((project, name)) = target::unlisted(&view, &act.plain.target)
    {
        let (sha, said) = client.stage_ref(project, name).await?;
        return begun(client, &Target { project: project.clone(), sha }, goal, 0, act, &said, screen).await;
    }
    let target = Target::find(&view, &act.plain.target)?;
    if verb == "approve" && !target::is_full(&act.plain.target) {
        let line = format!("sidestage approve {} {}", target.project, target.sha);
        return Err(Failed::Usage(format!("an approval names the commit by all 40 digits; type: {line}")));
    }
    let before = target.commit(&view).map(|commit| commit.generation);
    let said = client.command(&command(verb, target.project.clone(), target.sha)).await?;
    begun(client, &target, goal, before.unwrap_or(0), act, &said, screen).await
}

async fn reset(client: &Client, reset: &Reset, screen: &mut Screen) -> Result<(), Failed> {
    let view = client.view().await?;
    let target = Target::find(&view, &reset.act.plain.target)?;
    let before = target.commit(&view).map_or(0, |commit| commit.generation);
    let (project, sha) = (target.project.clone(), target.sha);
    let said = client.command(&Ask::Reset { project, sha, baseline: reset.baseline.clone() }).await?;
    begun(client, &target, Goal::Anew, before, &reset.act, &said, screen).await
}

/// Says what was decided, or waits for what comes of it if that was asked for; `before` is the generation until now.
async fn begun(
    client: &Client,
    target: &Target,
    goal: Goal,
    before: u32,
    act: &Act,
    said: &str,
    screen: &mut Screen,
) -> Result<(), Failed> {
    if !act.wait {
        return say(screen, said);
    }
    wait::until(client, target, goal, before, act.timeout, screen).await
}

/// The command of that verb, which is one of those above.
fn command(verb: &str, project: ProjectName, sha: Sha) -> Ask {
    match verb {
        "approve" => Ask::Approve { project, sha },
        "revoke" => Ask::Revoke { project, sha },
        "pin" => Ask::Pin { project, sha },
        "unpin" => Ask::Unpin { project, sha },
        "rebuild" => Ask::Rebuild { project, sha },
        "sleep" => Ask::Sleep { project, sha },
        "wake" => Ask::Wake { project, sha },
        "remove" => Ask::Remove { project, sha },
        _ => Ask::Stage { project, sha },
    }
}
