//! `sidestage demo`: the whole system on loopback, with a repository of its own, until Ctrl-C, which removes everything.

pub mod repository;
mod story;
pub mod visitor;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use planner::identity::Sha;
use planner::view::{State, View};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::instance::{Instance, remove_folder};
use repository::Repository;
use story::Story;
use visitor::Visitor;

/// Options of `sidestage demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Port of the environments; the console and the DNS take the next two.
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1024..65000))]
    pub port: u16,
    /// Tell a fixed story without a person, and exit: 0 if every check passed.
    #[arg(long)]
    pub story: bool,
    /// Watch this repository of a GitHub, such as https://github.example.org/acme/guestbook, in place of one of the demo's own.
    #[arg(long, value_name = "URL", conflicts_with = "story")]
    pub github: Option<String>,
}

/// The demo's folder, by its first port.
#[must_use]
pub fn folder(port: u16) -> PathBuf {
    PathBuf::from(format!("/var/tmp/sidestage-demo-{port}"))
}

/// Runs the demo until `shutdown`, or until the story is told.
///
/// # Errors
/// What could not be set up, the check that failed, or what could not be removed.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let folder = folder(options.port);
    let workshop = folder.with_extension("repository");
    let text = configuration(&folder, &options, &Repository::bare_in(&workshop))?;
    let config = Config::parse(&text)?;
    Instance::remove_leftovers(&config).await.context("cannot remove what an earlier demo left")?;
    remove_folder(&workshop)?;
    std::fs::create_dir(&workshop).with_context(|| format!("cannot make {}", workshop.display()))?;
    // In a file, so that it can be changed and read anew, as connecting GitHub does.
    let file = workshop.join("sidestage.toml");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    let config = Config::read(&file)?;
    let repository = match options.github {
        None => Some(prepare(&workshop).await?),
        Some(_) => None,
    };
    let instance = match Instance::start(config.clone()).await {
        Ok(instance) => instance,
        Err(error) => {
            Instance::remove_leftovers(&config).await?;
            remove_folder(&workshop)?;
            return Err(error);
        }
    };
    let told = tokio::select! {
        told = show(&instance, repository, &options) => told,
        () = shutdown.cancelled() => Ok(()),
    };
    eprintln!("Removing everything of the demo …");
    instance.destroy().await?;
    remove_folder(&workshop)?;
    told
}

/// The repository as the demo finds it: two branches and a pull request from a fork.
async fn prepare(workshop: &Path) -> anyhow::Result<Repository> {
    let repository = Repository::create(workshop, repository::SAMPLE).await?;
    let main = "refs/heads/main";
    repository.greet(main, "refs/heads/feature/greeting", "A warmer greeting").await?;
    repository.greet(main, "refs/heads/feature/farewell", "A fond farewell").await?;
    repository.greet(main, "refs/pull/1/head", "A stranger's greeting").await?;
    Ok(repository)
}

async fn show(instance: &Instance, repository: Option<Repository>, options: &Options) -> anyhow::Result<()> {
    println!("Console:      {}", instance.login_link());
    match (&repository, &options.github) {
        (Some(repository), _) => println!("Repository:   {}", repository.bare().display()),
        (None, url) => println!("Repository:   {}", url.as_deref().unwrap_or_default()),
    }
    println!("Command line: sidestage --socket {} ls", instance.control_socket().display());
    let Some(repository) = repository else {
        println!("Connect GitHub: {}/github/connect", instance.config().console_url());
        println!("Then comment /stage on a pull request. Ctrl-C removes everything.\n");
        return follow(instance).await;
    };
    if !options.story {
        println!("Press 'Stage it' in the console, or push a branch to the repository. Ctrl-C removes everything.\n");
        return follow(instance).await;
    }
    let config = instance.config();
    let mut doors = instance.doors();
    let known = |view: &View| view.projects.iter().any(|project| project.refs.len() >= 3);
    while !known(&doors.view.borrow_and_update().clone()) {
        doors.view.changed().await?;
    }
    let visitor = Visitor { edge: config.listen.http, dns: config.dns().context("the demo has a DNS")? };
    let project = config.project[0].name.clone();
    Story { repository, visitor, doors, project, drivers: instance.drivers().clone(), checks: 0 }.tell().await
}

/// Prints the states of commits as they change, with how long it took.
async fn follow(instance: &Instance) -> anyhow::Result<()> {
    let mut view = instance.doors().view;
    let mut states: BTreeMap<Sha, (State, Instant)> = BTreeMap::new();
    loop {
        let now = view.borrow_and_update().clone();
        for commit in now.projects.iter().flat_map(|project| &project.refs).flat_map(|found| &found.commits) {
            let last = states.get(&commit.sha).copied();
            if last.is_some_and(|(state, _)| state == commit.state) {
                continue;
            }
            let took =
                last.map(|(_, since)| format!(" after {:.1} s", since.elapsed().as_secs_f64())).unwrap_or_default();
            let reason = commit.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            println!(
                "{} {:<9}{took}{reason}  {}  {}",
                commit.sha.short(),
                commit.state.as_str(),
                commit.url,
                commit.subject
            );
            states.insert(commit.sha, (commit.state, Instant::now()));
        }
        view.changed().await?;
    }
}

fn configuration(folder: &Path, options: &Options, bare: &Path) -> anyhow::Result<String> {
    let at = |offset: u16| SocketAddr::from(([127, 0, 0, 1], options.port + offset));
    let (github, source) = match &options.github {
        None => (String::new(), format!("git = {bare:?}\nstage = \"automatic\"")),
        Some(url) => {
            let mut parts = url.trim_end_matches('/').rsplitn(3, '/');
            let (Some(name), Some(owner), Some(web)) = (parts.next(), parts.next(), parts.next()) else {
                bail!("--github {url}: name a repository, such as https://github.example.org/acme/guestbook");
            };
            (format!("[github]\nurl = {web:?}"), format!("github = \"{owner}/{name}\"\nstage = \"on request\""))
        }
    };
    Ok(format!(
        r#"
domain = "staging.localhost"
state_dir = "{folder}"
addresses = ["127.0.0.1"]
[listen]
http = "{http}"
console = "{console}"
dns = "{dns}"
[front]
dns = "authoritative"
[engine]
runc_for_forks = true
[database]
durable = false
{github}
[[project]]
name = "guestbook"
{source}
forks = "approve"
access = "public"
images = ["redis:7"]
"#,
        folder = folder.display(),
        http = at(0),
        console = at(1),
        dns = at(2),
    ))
}
