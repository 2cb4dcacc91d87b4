//! Other programs: finding them, running them, being root for them, ending with them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Set by SIGTERM or SIGHUP, which reach us alone; the terminal sends SIGINT to whatever we run, too.
static TERMINATED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on a signal ends what we run, and then us, after clearing up.
pub(crate) fn survive_interrupts() -> Result<()> {
    let (terminated, interrupted) = (Arc::default(), Arc::default());
    for (signal, flag) in [(SIGTERM, &terminated), (SIGHUP, &terminated), (SIGINT, &interrupted)] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("signals cannot be caught")?;
    }
    let _ = (TERMINATED.set(terminated), INTERRUPTED.set(interrupted));
    Ok(())
}

fn is_set(flag: &OnceLock<Arc<AtomicBool>>) -> bool {
    flag.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// The cargo that runs us, in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).env("PATH", path());
    command
}

/// The workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    crates.unwrap_or(Path::new(".")).to_owned()
}

/// Runs it to its end, its output being ours. An error if it fails or we were told to stop.
pub(crate) fn to_end(command: &mut Command) -> Result<()> {
    let what = describe(command);
    let child = command.spawn().with_context(|| format!("`{what}` cannot be started"))?;
    let status = wait(child)?;
    if is_set(&TERMINATED) || (is_set(&INTERRUPTED) && !status.success()) {
        bail!("stopped");
    }
    if !status.success() {
        bail!("`{what}` failed: {status}");
    }
    Ok(())
}

/// Runs both until one ends, which ends the other, or until we are told to stop, which ends both: the first one first, so that
/// it still has the second while it clears up. An error if what ended by itself failed.
pub(crate) fn together(first: &mut Command, second: &mut Command) -> Result<()> {
    let start = |command: &mut Command| {
        // What the terminal sends reaches us alone: each is asked to end once, in this order.
        command.stdin(Stdio::null()).process_group(0).spawn().with_context(|| format!("`{}`", describe(command)))
    };
    let mut running = vec![(describe(first), start(first)?)];
    let started = start(second).map(|child| running.push((describe(second), child)));
    let mut failed = started.err();
    while failed.is_none() && !is_set(&TERMINATED) && !is_set(&INTERRUPTED) {
        let mut ended = None;
        for (at, (_, child)) in running.iter_mut().enumerate() {
            ended = ended.or(child.try_wait()?.map(|status| (at, status)));
        }
        if let Some((at, status)) = ended {
            let (what, _) = running.remove(at);
            failed = (!status.success()).then(|| anyhow::anyhow!("`{what}` failed: {status}"));
            break;
        }
        sleep(Duration::from_millis(50));
    }
    for (what, mut child) in running {
        terminate(child.id());
        let status = child.wait()?;
        if !status.success() {
            failed.get_or_insert_with(|| anyhow::anyhow!("`{what}` failed: {status}"));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Waits for it; passes on a request to end.
fn wait(mut child: Child) -> Result<ExitStatus> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if is_set(&TERMINATED) && !told {
            terminate(child.id());
            told = true;
        }
        sleep(Duration::from_millis(50));
    }
}

/// Asks a process to end.
pub(crate) fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Runs it to its end with its output in a file of `target/xtask`. An error with its last lines if it fails.
pub(crate) fn quietly(command: &mut Command, log: &str) -> Result<()> {
    let path = workspace().join("target/xtask").join(log);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let file = fs::File::options().create(true).append(true).open(&path)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    to_end(command).with_context(|| {
        let said = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        format!("{}\n(all of it: {})", lines[lines.len().saturating_sub(10)..].join("\n"), path.display())
    })
}

/// What it prints, or an error with its last words.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let what = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{what}` cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{what}` failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether it succeeds, silently.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// PATH, and where only root's PATH looks.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// A program by name, also where only root's PATH looks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The program as root: by itself if we are, else through sudo.
pub(crate) fn as_root(program: &str) -> Command {
    let program = find(program).unwrap_or_else(|| program.into());
    let mut command = Command::new(if is_root() { program.as_os_str() } else { OsStr::new("sudo") });
    if !is_root() {
        command.arg(&program);
    }
    command.env("PATH", path());
    command
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
