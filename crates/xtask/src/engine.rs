//! The container engine: used if it answers; else started, and stopped by the last of us who used it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{as_root, is_root, succeeds, terminate, to_end, workspace};

const SOCKET: &str = "/var/run/docker.sock";
const PID_FILE: &str = "/var/run/docker.pid";
const PATIENCE: Duration = Duration::from_secs(60);

/// Held while the engine is used. The file behind it says how the engine was started, if one of us did.
pub(crate) struct Engine {
    users: File,
}

/// An engine that answers.
pub(crate) fn answering() -> Result<Engine> {
    let path = std::env::temp_dir().join("sidestage-xtask-engine");
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut users = options.with_context(|| format!("{}", path.display()))?;
    // One at a time starts it; those who use it hold the lock together.
    if users.try_lock().is_ok() {
        if !answers() {
            // With its process, since a file may outlive the engine that it tells of.
            let how = format!("{} {}", start()?, process());
            users.set_len(0)?;
            users.rewind()?;
            users.write_all(how.as_bytes())?;
        }
        users.unlock()?;
    }
    users.lock_shared()?;
    if !answers() {
        bail!("no container engine answers on {SOCKET}");
    }
    Ok(Engine { users })
}

/// Whether an engine answers where Sidestage looks for it.
pub(crate) fn answers() -> bool {
    succeeds(docker().arg("version"))
}

/// The engine's own client, for the engine that Sidestage uses, whatever else is set up.
pub(crate) fn docker() -> Command {
    let mut docker = Command::new("docker");
    docker.env_remove("DOCKER_CONTEXT").env("DOCKER_HOST", format!("unix://{SOCKET}"));
    docker
}

/// Starts it as this system does. Says how.
fn start() -> Result<String> {
    let of_root = ["-H", &format!("unix://{SOCKET}"), "version"];
    if !is_root() && Path::new(SOCKET).exists() && succeeds(as_root("docker").args(of_root)) {
        bail!("{SOCKET} is closed to you: join the group docker (`sudo usermod -aG docker $USER`, then log in again)");
    }
    if Path::new("/run/systemd/system").exists() && succeeds(Command::new("systemctl").args(["cat", "docker.service"]))
    {
        eprintln!("xtask: starting the container engine (systemctl start docker); it is stopped at the end");
        to_end(as_root("systemctl").args(["start", "docker.service"]))?;
        await_answer(|| None)?;
        return Ok("systemd".to_owned());
    }
    mount_cgroups()?;
    let log = workspace().join("target/xtask/dockerd.log");
    fs::create_dir_all(log.parent().unwrap_or(Path::new("/")))?;
    eprintln!("xtask: starting the container engine (dockerd, log: {}); it is stopped at the end", log.display());
    let output = File::create(&log)?;
    let group = nix::unistd::getegid().to_string();
    let mut child = as_root("dockerd")
        .args(["--group", &group])
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output))
        // An interrupt from the terminal ends the demo, which still needs the engine to clear up.
        .process_group(0)
        .spawn()
        .context("dockerd cannot be started")?;
    await_answer(|| {
        let ended = child.try_wait().ok().flatten()?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        Some(format!("dockerd ended ({ended}): {}", said.lines().last().unwrap_or_default()))
    })?;
    Ok("dockerd".to_owned())
}

fn await_answer(mut ended: impl FnMut() -> Option<String>) -> Result<()> {
    let since = Instant::now();
    while !answers() {
        if let Some(why) = ended() {
            bail!("{why}");
        }
        if since.elapsed() > PATIENCE {
            bail!("the container engine does not answer on {SOCKET} after {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// A bare virtual machine or container may have none, and no engine runs without.
fn mount_cgroups() -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_cgroup = |line: &str| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup"));
    if mounts.lines().any(is_cgroup) {
        return Ok(());
    }
    eprintln!("xtask: mounting /sys/fs/cgroup");
    to_end(as_root("mount").args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]))
}

impl Drop for Engine {
    /// The last one of us stops what one of us has started.
    fn drop(&mut self) {
        let _ = self.users.unlock();
        if self.users.try_lock().is_err() {
            return;
        }
        let mut how = String::new();
        let _ = self.users.rewind().and_then(|()| self.users.read_to_string(&mut how));
        let _ = self.users.set_len(0);
        match how.split_once(' ') {
            Some((_, pid)) if pid != process() => {}
            Some(("systemd", _)) => {
                let _ = to_end(as_root("systemctl").args(["stop", "docker.service", "docker.socket"]));
            }
            Some(("dockerd", _)) => stop(),
            _ => {}
        }
    }
}

/// The engine's process, as it says itself.
fn process() -> String {
    fs::read_to_string(PID_FILE).unwrap_or_default().trim().to_owned()
}

fn stop() {
    let Ok(pid) = process().parse() else { return };
    if is_root() {
        terminate(pid);
    } else {
        let _ = to_end(as_root("kill").arg(pid.to_string()));
    }
    let since = Instant::now();
    while Path::new(PID_FILE).exists() && since.elapsed() < PATIENCE {
        sleep(Duration::from_millis(100));
    }
}
