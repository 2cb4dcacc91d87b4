//! `baseline`: the data that environments start from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use console::Cloning;
use console::text::{clean, relative};
use planner::facts::{parse_version, shown_version};
use planner::units::{parse_duration, round_size};
use planner::view::{BaselineView, VersionState, VersionView, View};
use serde_json::{Value, json};
use term::Style;
use tokio::time::{Instant, sleep};

use super::client::{Client, segment};
use super::listing::styled;
use super::target::Target;
use super::{Failed, Screen, print_json, say};
use crate::clock::now;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(300);

/// What can be done with baselines.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    /// Make a baseline, or its next version from something else: `baseline create shop --database shop.dump --objects files`
    Create(Box<Create>),
    /// Make the next version from what the last one was made from; it takes its place once it is complete and checked
    Refresh(Refresh),
    /// List baselines
    Ls(Ls),
    /// Show one with its versions, their sizes and who starts from them
    Show(One),
    /// Choose the version that new generations start from; a version that was kept back is taken by this
    Use(Version),
    /// Remove a baseline, or one version of it
    Rm(Rm),
}

/// Options of `baseline create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name, for manifests and the configuration
    name: String,
    /// A dump of pg_dump's, a file of SQL, postgresql://user@host/database, or an environment such as `pr-7` or `shop/pr-7`
    #[arg(long, value_name = "FILE|URL|ENV")]
    database: Option<String>,
    /// A folder, s3://bucket/prefix, or an environment
    #[arg(long, value_name = "FOLDER|BUCKET|ENV")]
    objects: Option<String>,
    /// SQL that is run on the copy before it is complete, never on the source
    #[arg(long, value_name = "FILE.sql", requires = "database")]
    mask: Option<PathBuf>,
    /// The file with the password of the server, mode 0600
    #[arg(long, value_name = "FILE", requires = "database")]
    password_file: Option<PathBuf>,
    /// The file with the keys of the bucket, mode 0600
    #[arg(long, value_name = "FILE", requires = "objects")]
    credentials_file: Option<PathBuf>,
    /// The S3 server, if it is not Amazon's
    #[arg(long, value_name = "URL", requires = "objects")]
    endpoint: Option<String>,
    /// The bucket's region
    #[arg(long, requires = "objects")]
    region: Option<String>,
    /// Refresh it by itself: five fields as in crontab, in UTC
    #[arg(long, value_name = "CRON")]
    every: Option<String>,
    /// Extensions that its data need, from the list of the configuration
    #[arg(long, value_delimiter = ',')]
    extensions: Vec<String>,
    /// Keep a refresh back that shrinks by more
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = share)]
    max_shrink: u8,
    #[command(flatten)]
    wait: Wait,
}

/// Whether to wait.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until it is complete, showing how far it is; the exit code is 0 only if new generations start from it then
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "12h", value_parser = parse_duration, requires = "wait")]
    timeout: Duration,
}

/// Options of `baseline refresh`.
#[derive(Debug, Args)]
pub struct Refresh {
    /// The baseline
    name: String,
    #[command(flatten)]
    wait: Wait,
}

/// Options of `baseline ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// One baseline.
#[derive(Debug, Args)]
pub struct One {
    /// The baseline
    name: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// One version.
#[derive(Debug, Args)]
pub struct Version {
    /// The baseline
    name: String,
    /// Its version: `3` or `shop@3`
    version: String,
}

/// Options of `baseline rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// The baseline
    name: String,
    /// Only this version: `3` or `shop@3`
    version: Option<String>,
}

fn share(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|share| *share <= 100);
    number.ok_or_else(|| "a share is written as 30%, at most 100%".to_owned())
}

pub(super) async fn run(client: &Client, what: Baseline, screen: &mut Screen) -> Result<(), Failed> {
    match what {
        Baseline::Create(create) => {
            let body = create.body(&client.view().await?)?;
            let answer: Value = client.post("/api/v1/baselines", &body).await?;
            begun(client, &create.name, &create.wait, &answer, screen).await
        }
        Baseline::Refresh(refresh) => {
            let answer: Value = client.post(&path(&refresh.name), &json!({ "do": "refresh" })).await?;
            begun(client, &refresh.name, &refresh.wait, &answer, screen).await
        }
        Baseline::Ls(ls) => list(client, &ls, screen).await,
        Baseline::Show(one) => show(client, &one, screen).await,
        Baseline::Use(of) => {
            let version = number(&of.name, &of.version)?;
            change(client, &of.name, &json!({ "do": "use", "version": version }), screen).await
        }
        Baseline::Rm(rm) => {
            let version = rm.version.as_ref().map(|version| number(&rm.name, version)).transpose()?;
            change(client, &rm.name, &json!({ "do": "remove", "version": version }), screen).await
        }
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/baselines/{}", segment(name))
}

async fn change(client: &Client, name: &str, change: &Value, screen: &mut Screen) -> Result<(), Failed> {
    let answer: Value = client.post(&path(name), change).await?;
    say(screen, answer["ok"].as_str().unwrap_or_default())
}

/// `3`, `@3` or `shop@3`.
fn number(name: &str, version: &str) -> Result<u32, Failed> {
    let of_name = parse_version(version).filter(|(of, _)| *of == name).map(|(_, number)| number);
    let bare = version.strip_prefix('@').unwrap_or(version).parse().ok();
    of_name.or(bare).ok_or_else(|| Failed::Usage(format!("{version:?} is no version of {name}: write 3 or {name}@3")))
}

impl Create {
    /// What the API takes. What is a file here is one for the controller too, which runs on this machine.
    fn body(&self, view: &View) -> Result<Value, Failed> {
        let file = |path: &Path| std::path::absolute(path).map_err(|error| Failed::Usage(error.to_string()));
        let some_file = |path: &Option<PathBuf>| path.as_deref().map(file).transpose();
        let database = match self.database.as_deref() {
            None => json!("empty"),
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                json!({ "server": { "url": url, "password_file": some_file(&self.password_file)? } })
            }
            Some(path) if Path::new(path).exists() => json!({ "file": file(Path::new(path))? }),
            Some(env) => environment(view, env, "--database")?,
        };
        let objects = match self.objects.as_deref() {
            None => json!("empty"),
            Some(url) if url.starts_with("s3://") => {
                let place = &url["s3://".len()..];
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                json!({ "bucket": {
                    "endpoint": self.endpoint, "region": self.region, "bucket": bucket, "prefix": prefix,
                    "credentials_file": some_file(&self.credentials_file)?,
                } })
            }
            Some(path) if Path::new(path).is_dir() => json!({ "folder": file(Path::new(path))? }),
            Some(env) => environment(view, env, "--objects")?,
        };
        Ok(json!({
            "name": self.name, "database": database, "objects": objects, "mask": some_file(&self.mask)?,
            "extensions": self.extensions, "every": self.every, "max_shrink": self.max_shrink,
        }))
    }
}

/// An environment, by `pr-7` or `shop/pr-7`.
fn environment(view: &View, word: &str, option: &str) -> Result<Value, Failed> {
    let project =
        word.split_once('/').filter(|(project, _)| view.projects.iter().any(|of| of.name.as_str() == *project));
    let words: Vec<String> = match project {
        Some((project, commit)) => vec![project.to_owned(), commit.to_owned()],
        None => vec![word.to_owned()],
    };
    let found = Target::find(view, &words)
        .map_err(|failed| Failed::Usage(format!("{option} {word}: there is no such file, and {failed}")))?;
    Ok(json!({ "env": { "project": found.project, "sha": found.sha } }))
}

/// Says what was decided, or shows how far it is until it is complete.
async fn begun(client: &Client, name: &str, wait: &Wait, answer: &Value, screen: &mut Screen) -> Result<(), Failed> {
    let said = answer["ok"].as_str().unwrap_or_default();
    say(screen, said)?;
    if !wait.wait {
        return Ok(());
    }
    let version = said.split_whitespace().next().unwrap_or_default().to_owned();
    let end = Instant::now() + wait.timeout;
    let mut shown = [Shown::new("database"), Shown::new("objects")];
    let mut waits = String::new();
    loop {
        let baseline: BaselineView = client.get(&path(name)).await?;
        let found = baseline.versions.iter().find(|of| of.version == version);
        let Some(found) = found else { return Err(Failed::Refused(format!("{version} was removed"))) };
        for part in &mut shown {
            part.go_on(client, &version, screen).await?;
        }
        let reason = found.reason.as_deref().map(clean).unwrap_or_default().into_owned();
        match found.state {
            VersionState::Making if reason != waits => {
                if !reason.is_empty() {
                    say(screen, &format!("{version} waits: {reason}"))?;
                }
                waits = reason;
            }
            VersionState::Making => {}
            VersionState::Current | VersionState::Ready => return say(screen, &format!("{version}: {}", sizes(found))),
            VersionState::Kept => {
                return Err(Failed::Refused(format!(
                    "{version} is kept back: {reason}; take it with `sidestage baseline use {name} {}`",
                    found.number
                )));
            }
            VersionState::Failed | VersionState::Lost => {
                return Err(Failed::Refused(format!(
                    "{version} could not be made: {reason}; mend that, then `sidestage baseline refresh {name}`"
                )));
            }
        }
        if Instant::now() >= end {
            return Err(Failed::Refused(format!(
                "{version} is still being made; `sidestage baseline show {name}` shows how far"
            )));
        }
        sleep(LOOK).await;
    }
}

/// How much of a log has been shown.
struct Shown {
    part: &'static str,
    bytes: usize,
}

impl Shown {
    fn new(part: &'static str) -> Shown {
        Shown { part, bytes: 0 }
    }

    /// Shows whole lines that have come since.
    async fn go_on(&mut self, client: &Client, version: &str, screen: &mut Screen) -> Result<(), Failed> {
        let path = format!("/api/v1/baselines/{}/logs/{}", segment(version), self.part);
        let mut log = client.stream(&path).await?;
        let mut text = Vec::new();
        while let Some(piece) = log.next().await? {
            text.extend_from_slice(&piece);
        }
        // Begun anew, after a failure or a restart.
        self.bytes = if text.len() < self.bytes { 0 } else { self.bytes };
        let new = &text[self.bytes..];
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in String::from_utf8_lossy(&new[..whole]).lines() {
            writeln!(screen.err, "{}: {}", self.part, clean(line))?;
        }
        self.bytes += whole;
        Ok(())
    }
}

async fn list(client: &Client, ls: &Ls, screen: &mut Screen) -> Result<(), Failed> {
    let answer: Value = client.get("/api/v1/baselines").await?;
    if ls.json {
        return print_json(screen, &answer);
    }
    let baselines: Vec<BaselineView> =
        serde_json::from_value(answer["baselines"].clone()).map_err(|error| Failed::Refused(error.to_string()))?;
    for baseline in baselines {
        let current = baseline.current.as_deref().map_or("none yet", shown_version);
        let newest =
            baseline.versions.iter().find(|version| Some(version.version.as_str()) == baseline.current.as_deref());
        let size = newest.map(sizes).unwrap_or_default();
        let users: usize = baseline.versions.iter().map(|version| version.users.len()).sum();
        say(screen, &format!("{:<16}  {current:<12}  {size}  used by {users}", baseline.name))?;
        let under_way = baseline
            .versions
            .iter()
            .find(|version| matches!(version.state, VersionState::Making | VersionState::Failed | VersionState::Kept));
        if let Some(version) = under_way {
            let reason = version.reason.as_ref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
            say(screen, &format!("  {} is {}{reason}", version.version, version.state.as_str()))?;
        }
    }
    Ok(())
}

async fn show(client: &Client, one: &One, screen: &mut Screen) -> Result<(), Failed> {
    let path = path(&one.name);
    if one.json {
        return print_json(screen, &client.get::<Value>(&path).await?);
    }
    let baseline: BaselineView = client.get(&path).await?;
    let nothing = || "nothing: it is empty".to_owned();
    let mut facts = vec![
        ("baseline", baseline.name.clone()),
        ("current", baseline.current.as_deref().map_or("none yet", shown_version).to_owned()),
        ("database", baseline.database.clone().unwrap_or_else(nothing)),
        ("objects", baseline.objects.clone().unwrap_or_else(nothing)),
    ];
    facts.extend(baseline.mask.clone().map(|mask| ("mask", mask)));
    facts.extend(baseline.every.clone().map(|every| {
        let next = baseline.due.map(|due| format!(", next {}", relative(now(), due))).unwrap_or_default();
        ("every", format!("{every}{next}"))
    }));
    facts.extend(baseline.trouble.clone().map(|trouble| ("trouble", trouble)));
    facts.push(("shrinks", format!("by at most {} %, else it is kept back", baseline.max_shrink)));
    let projects: Vec<String> = baseline.projects.iter().map(ToString::to_string).collect();
    facts.push(("for", if projects.is_empty() { "no project".to_owned() } else { projects.join(", ") }));
    if let Some(current) = &baseline.current {
        let told = client.get(&format!("/api/v1/baselines/{}/cloning", segment(current))).await;
        // The server may be away just now; all else is known without it.
        facts.extend(told.map_or_else(|failed: Failed| vec![("clones", failed.to_string())], cloning));
    }
    for (name, value) in facts {
        let name = styled(screen, Style::new().dim(), &format!("{name:<8}"));
        say(screen, &format!("{name} {}", clean(&value)))?;
    }
    baseline.versions.iter().try_for_each(|version| line(version, screen))
}

/// How its databases are cloned, what that costs, and what would be better.
fn cloning(cloning: Cloning) -> Vec<(&'static str, String)> {
    let Cloning { how, milliseconds, disk, better, lacks } = cloning;
    let cost = format!("{how}; about {milliseconds} ms and {} of disk each", round_size(disk));
    let mut facts = vec![("clones", cost)];
    facts.extend(better.map(|better| ("better", better)));
    facts.extend(lacks.into_iter().map(|lack| ("it cannot", lack)));
    facts
}

fn line(version: &VersionView, screen: &mut Screen) -> Result<(), Failed> {
    let made = version.sealed.or(version.asked).map(|at| relative(now(), at)).unwrap_or_default();
    let by = version.by.as_ref().map(|by| format!(" by {}", clean(by))).unwrap_or_default();
    let users = if version.users.is_empty() { "nobody".to_owned() } else { version.users.join(", ") };
    let (there, wanted) = version.spares;
    let spares = if wanted > 0 { format!(", {there} of {wanted} clones made ahead") } else { String::new() };
    let (name, state) = (shown_version(&version.version), version.state.as_str());
    let text = format!("{name:<12}  {state:<8}  {}  {made}{by}, used by {}{spares}", sizes(version), clean(&users));
    say(screen, &text)?;
    match &version.reason {
        Some(reason) => say(screen, &format!("              {}", clean(reason))),
        None => Ok(()),
    }
}

fn sizes(version: &VersionView) -> String {
    let part = |bytes: Option<u64>, count: Option<u64>, what: &str| {
        let bytes = bytes.map(round_size);
        let count = count.map(|count| format!("{count} {what}"));
        [count, bytes].into_iter().flatten().collect::<Vec<_>>().join(" of ")
    };
    let parts = [part(version.database, version.tables, "tables"), part(version.objects, version.count, "objects")];
    let known: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if known.is_empty() { "size unknown".to_owned() } else { known.join(", ") }
}
