//! `sidestage`: one binary for the controller, the demo and the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sidestage::config::Config;
use sidestage::instance::Instance;
use sidestage::{cli, demo, notify, state_dir, storage};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::EnvFilter;

/// Every commit of every open pull request gets its own running environment.
#[derive(Debug, Parser)]
#[command(name = "sidestage", disable_version_flag = true)]
struct Arguments {
    /// The configuration.
    #[arg(long, global = true, env = "SIDESTAGE_CONFIG", default_value = "/etc/sidestage/sidestage.toml")]
    config: PathBuf,
    /// Socket of the controller; by default the one in the configuration's `state_dir`.
    #[arg(long, global = true, env = "SIDESTAGE_SOCKET")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller.
    Serve,
    /// Show everything on this machine with a sample application, until Ctrl-C.
    Demo(demo::Options),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Room for baselines and their clones that shares blocks, where this machine's own file system cannot.
    Storage {
        #[command(subcommand)]
        what: storage::Command,
    },
    /// For post-receive hooks: tell the controller of a push and print what becomes of it.
    Notify {
        /// The project's name.
        project: String,
        /// Go on until every commit that was pushed is ready or has failed.
        #[arg(long)]
        wait: bool,
    },
    /// Remove everything of this instance from this machine: environments, databases, objects, images, state
    Uninstall {
        /// There is no way back.
        #[arg(long, required = true)]
        yes: bool,
    },
    #[command(flatten)]
    Client(cli::Command),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is valid.
    Check,
    /// Have the controller read it anew, and print what that changes.
    Reload,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sidestage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Serve => {
            log_to_stderr("info");
            serve(Config::read(&arguments.config)?).await?;
        }
        Command::Demo(options) => {
            log_to_stderr("error");
            let shutdown = on_signal()?;
            demo::run(options, shutdown).await?;
        }
        Command::Config { what: ConfigCommand::Check } => {
            let config = Config::read(&arguments.config)?;
            sidestage::certificate::check(&config)?;
            sidestage::config::check_secrets(&config)?;
            storage::check(&config)?;
            println!("{} is valid: {} projects", arguments.config.display(), config.project.len());
        }
        Command::Config { what: ConfigCommand::Reload } => {
            let socket = control_socket(arguments.socket, &arguments.config)?;
            return Ok(cli::reload(&socket, &mut cli::Screen::standard()).await.into());
        }
        Command::Storage { what } => storage::run(&Config::read(&arguments.config)?, what)?,
        Command::Notify { project, wait } => {
            let socket = match arguments.socket {
                Some(socket) => socket,
                None => state_dir::notify_socket(&Config::read(&arguments.config)?.state_dir),
            };
            notify::send(&socket, &project, wait).await?;
        }
        Command::Uninstall { yes: _ } => {
            let config = Config::read(&arguments.config)?;
            Instance::remove_leftovers(&config).await?;
            println!("Nothing of {} is left on this machine.", config.state_dir.display());
        }
        Command::Client(command) => {
            let socket = control_socket(arguments.socket, &arguments.config)?;
            return Ok(cli::run(&socket, command, &mut cli::Screen::standard()).await.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the controller listens: as told, or as the configuration says.
fn control_socket(told: Option<PathBuf>, config: &Path) -> anyhow::Result<PathBuf> {
    told.map_or_else(|| Ok(state_dir::control_socket(&Config::read(config)?.state_dir)), Ok)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = on_signal()?;
    let instance = Instance::start(config).await?;
    eprintln!("Sign in to the console: {}", instance.login_link());
    if let Some(certificate) = instance.authority() {
        eprintln!("Certificates are signed by an authority of this machine's own. Trust it: {}", certificate.display());
    }
    let mut hangup = signal(SignalKind::hangup()).context("signals")?;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = hangup.recv() => {
                if let Err(failure) = instance.reload().await {
                    error!(%failure, "the configuration was not read anew");
                }
            }
        }
    }
    instance.stop().await;
    Ok(())
}

/// Cancelled at the first SIGINT or SIGTERM; a second one ends the process as usual.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).context("signals")?, signal(SignalKind::terminate()).context("signals")?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
    Ok(token)
}

fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},hickory_server=error,s3s=off,sqlx=error")));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
