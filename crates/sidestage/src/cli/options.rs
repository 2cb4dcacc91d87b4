//! What may stand behind the commands.

use std::time::Duration;

use clap::Args;
use planner::units::parse_duration;

/// Options of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Only this project
    pub(super) project: Option<String>,
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// Count only this project's pull requests, branches and tags
    pub(super) project: Option<String>,
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of listings.
#[derive(Debug, Args)]
pub struct Listing {
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A commit, by what it is called.
#[derive(Debug, Args)]
pub struct Plain {
    /// The project (may be left out when there is one) and the commit: all 40 digits of its id, or the pull request, branch
    /// or tag whose head is meant, such as `pr-7`, `7` or `main`
    #[arg(num_args = 1..=2, value_names = ["PROJECT", "COMMIT"], required = true)]
    pub(super) target: Vec<String>,
}

/// A commit, and whether to wait.
#[derive(Debug, Args)]
pub struct Act {
    #[command(flatten)]
    pub(super) plain: Plain,
    /// Wait until it is done; the exit code is 0 only if it ended as asked
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = parse_duration, requires = "wait")]
    pub(super) timeout: Duration,
}

/// Options of `reset`.
#[derive(Debug, Args)]
pub struct Reset {
    #[command(flatten)]
    pub(super) act: Act,
    /// Start from this baseline, or this version of one (`shop@3`); `empty` is nothing
    #[arg(long, value_name = "NAME|VERSION")]
    pub(super) baseline: Option<String>,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    pub(super) plain: Plain,
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub(super) plain: Plain,
    /// Go on as lines come
    #[arg(short, long)]
    pub(super) follow: bool,
    /// The log of the build
    #[arg(long, conflicts_with = "name")]
    pub(super) build: bool,
    /// The log of this container or job, such as `web` or `release`
    #[arg(long)]
    pub(super) name: Option<String>,
}

/// Options of `extend`.
#[derive(Debug, Args)]
pub struct Extend {
    /// The project (may be left out when there is one), the commit, and by how long: `3d`, `2w`, `never`
    #[arg(num_args = 2..=3, value_names = ["PROJECT", "COMMIT", "BY"], required = true)]
    pub(super) target: Vec<String>,
}

/// Options of `gc`.
#[derive(Debug, Args)]
pub struct Gc {
    /// Also remove what is held back because much would go at once
    #[arg(long)]
    pub(super) confirm: bool,
}
