//! `sidestage storage`: a file in which clones of baselines share their blocks. Works on this machine alone, without the
//! controller, which mounts the file when it starts.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use drivers::postgres::Storage;
use planner::units;

use crate::config::Config;
use crate::state_dir;

/// What can be done with it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set a file of this size aside; `[database] storage` then names it
    Create {
        /// Such as 50G
        #[arg(long)]
        size: String,
        /// The file. Default: beside the state directory
        #[arg(long)]
        path: Option<PathBuf>,
    },
    /// Say how large it is and how much of it is free
    Show {
        /// The file. Default: that of the configuration
        #[arg(long)]
        path: Option<PathBuf>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Delete it, when no database is in it any more
    Rm {
        /// The file. Default: beside the state directory
        #[arg(long)]
        path: Option<PathBuf>,
    },
}

/// Does it and says so on standard output.
///
/// # Errors
/// One line: what is missing or in the way.
pub fn run(config: &Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create { size, path } => {
            let storage = place(config, path);
            let bytes = units::parse_size(&size.to_ascii_lowercase()).map_err(|text| anyhow!("--size: {text}"))?;
            storage.create(bytes)?;
            println!("{} is ready.", storage.file.display());
            if config.database.storage.as_ref() != Some(&storage.file) {
                let text = toml::Value::from(storage.file.display().to_string());
                println!("Put this into [database] of the configuration and start Sidestage again:\nstorage = {text}");
            }
        }
        Command::Show { path, json } => {
            let state = place(config, path).state()?;
            if json {
                println!("{}", serde_json::to_string_pretty(&state).context("the answer")?);
                return Ok(());
            }
            let used = match (&state.mounted_at, state.free) {
                (Some(place), Some(free)) => format!("{} MB free, mounted at {}", free >> 20, place.display()),
                _ => "not mounted".to_owned(),
            };
            println!("{}: {} MB, {used}", state.file.display(), state.size >> 20);
        }
        Command::Rm { path } => {
            let storage = place(config, path);
            if config.database.storage.as_ref() == Some(&storage.file) {
                bail!(
                    "{} is in use: take `storage` out of [database], start Sidestage again, then remove it",
                    storage.file.display()
                );
            }
            storage.remove()?;
            println!("{} is gone.", storage.file.display());
        }
    }
    Ok(())
}

/// Whether it was taken out of the configuration while databases lie in it, as far as we may look.
///
/// # Errors
/// One line: what lies there, and what to do.
pub fn check(config: &Config) -> anyhow::Result<()> {
    if config.database.url.is_some() || config.database.storage.is_some() {
        return Ok(());
    }
    let home = state_dir::services(&config.state_dir).join("postgres");
    Storage::needless(&home).context("[database] storage")
}

fn place(config: &Config, path: Option<PathBuf>) -> Storage {
    let services = state_dir::services(&config.state_dir);
    let file = path.or_else(|| config.database.storage.clone()).unwrap_or_else(|| services.join("storage.xfs"));
    Storage { file, mounted_at: services.join("postgres").join("storage") }
}
