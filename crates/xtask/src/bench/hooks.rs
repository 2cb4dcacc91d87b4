//! Webhooks: 300 a second for 10 seconds, quietly and through a `kill -9`. GitHub itself is away all the while, which is
//! when most of them come at once later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::site::{Site, free_port};
use super::{Options, Row};
use crate::needs;
use crate::run::{cargo, output};

const SECRET: &str = "a secret of webhooks for measuring";
const SECONDS: u64 = 10;
/// What 99 of 100 senders may wait for their answer.
const BOUND: f64 = 50.0;

pub(super) fn all(options: &Options) -> Result<Vec<Row>> {
    needs::install(needs::FOR_DEMO)?;
    let folder = std::env::temp_dir().join(format!("sidestage-hooks-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let told = measured(options, &folder);
    let _ = fs::remove_dir_all(&folder);
    told
}

fn measured(options: &Options, folder: &Path) -> Result<Vec<Row>> {
    let secret = |name: &str, content: &str| -> Result<String> {
        let file = folder.join(name);
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(file.display().to_string())
    };
    let further = format!(
        "[[project]]\nname = \"hooks\"\nsuffix = \"hooks\"\ngithub = \"acme/hooks\"\n\
         [github]\nurl = \"http://127.0.0.1:{}\"\ntoken_file = \"{}\"\nwebhook_secret_file = \"{}\"\n",
        free_port()?,
        secret("token", "nobody asks for it")?,
        secret("webhook", SECRET)?
    );
    let mut site = Site::serving(options.dev, &further, |tree| Ok(fs::write(tree.join("index.html"), "here\n")?))?;
    let mut rows = Vec::new();
    for (case, killed) in [("webhooks p99, 300 a second", false), ("the same, through a kill -9", true)] {
        if options.wants(case) {
            rows.push(case_of(options, &mut site, folder, case, killed)?);
        }
    }
    site.end()?;
    Ok(rows)
}

/// None that was answered well may be lost; the row says how long the answers took.
fn case_of(options: &Options, site: &mut Site, folder: &Path, case: &str, killed: bool) -> Result<Row> {
    let accepted = folder.join("accepted");
    let accepted = accepted.to_str().context("a path of text")?;
    let seconds = SECONDS.to_string();
    let sender =
        hooks(options).args(["send", &site.console, SECRET, &seconds, accepted]).stdout(Stdio::piped()).spawn()?;
    if killed {
        sleep(Duration::from_secs(SECONDS / 2));
        site.kill_and_start()?;
    }
    let told = sender.wait_with_output()?;
    ensure!(told.status.success(), "the senders failed: {}", told.status);
    let told: Value = serde_json::from_slice(&told.stdout)?;
    let store = site.store();
    let lost = output(hooks(options).args(["lost", store.to_str().context("a path of text")?, accepted]))?;
    eprintln!("xtask: {case}: {told}, lost {lost}");
    ensure!(lost == "0", "{lost} deliveries that were accepted are not in the store");
    ensure!(killed || told["accepted"] == told["sent"], "not all were accepted: {told}");
    let p99 = told["p99"].as_f64().unwrap_or(f64::NAN);
    let peer_name = "what they may wait".to_owned();
    Ok(Row { case: case.to_owned(), ours: p99, peer: BOUND, peer_name, unit: "ms", goal: 1.0 })
}

fn hooks(options: &Options) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "sidestage", "--example", "hooks"]);
    if !options.dev {
        command.arg("--release");
    }
    command.arg("--");
    command
}
