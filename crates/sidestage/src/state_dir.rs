//! The folder that holds everything of one instance: lock, key, store, mirrors, logs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use drivers::Lock;
use planner::identity::{EnvId, InstanceKey};
use planner::resource::{Owner, ResourceId};

/// A state directory that this process alone holds, until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: Lock,
}

/// Where `sidestage github connect` keeps the App that it made: each file with mode 0600.
#[derive(Debug, Clone)]
pub struct GitHubApp(PathBuf);

/// See [`GitHubApp`].
#[must_use]
pub fn github(root: &Path) -> GitHubApp {
    GitHubApp(root.join("github"))
}

impl GitHubApp {
    /// Its number.
    #[must_use]
    pub fn app_id(&self) -> PathBuf {
        self.0.join("app-id")
    }

    /// Its private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.0.join("private-key.pem")
    }

    /// The secret of its webhook.
    #[must_use]
    pub fn webhook_secret(&self) -> PathBuf {
        self.0.join("webhook-secret")
    }

    /// Keeps an App. Its number last: without it there is none.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep(&self, app: &drivers::github::connect::Made) -> anyhow::Result<()> {
        let folder = || format!("cannot write {}", self.0.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).with_context(folder)?;
        write_whole(&self.key(), app.key.0.as_bytes())?;
        if let Some(secret) = &app.webhook_secret {
            write_whole(&self.webhook_secret(), secret.0.as_bytes())?;
        }
        write_whole(&self.app_id(), app.id.to_string().as_bytes())
    }
}

impl StateDir {
    /// Creates the folder where absent (mode 0700) and takes its lock.
    ///
    /// # Errors
    /// When another Sidestage holds it, or it cannot be made.
    pub fn take(root: &Path) -> anyhow::Result<StateDir> {
        let making = || format!("cannot make the state directory {}", root.display());
        DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(making)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).with_context(making)?;
        let Some(lock) = Lock::take(&root.join("lock")).with_context(making)? else {
            bail!("another Sidestage runs on {}: stop it first, or use another state_dir", root.display());
        };
        let dir = StateDir { root: root.to_owned(), _lock: lock };
        for folder in [dir.mirrors(), dir.logs(), dir.objects()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(making)?;
        }
        DirBuilder::new().recursive(true).mode(0o755).create(services(root)).with_context(making)?;
        Ok(dir)
    }

    /// The instance key: read, or drawn once. A file of its own, so that losing the store does not orphan the world.
    ///
    /// # Errors
    /// When the file is unreadable, of the wrong length, or readable by others.
    pub fn instance_key(&self) -> anyhow::Result<InstanceKey> {
        let path = self.root.join("instance.key");
        let mut bytes = [0u8; 32];
        match File::open(&path) {
            Ok(mut file) => {
                let mode = file.metadata()?.permissions().mode();
                if mode & 0o077 != 0 {
                    bail!("{} may be read by others: chmod 600 it", path.display());
                }
                let mut content = Vec::new();
                file.read_to_end(&mut content)?;
                let wrong = || format!("{} does not hold 32 bytes: restore it from a backup", path.display());
                bytes.copy_from_slice(content.get(..32).filter(|_| content.len() == 32).with_context(wrong)?);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                getrandom::fill(&mut bytes)
                    .map_err(|error| anyhow::anyhow!("no randomness from the system: {error}"))?;
                write_whole(&path, &bytes)?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        Ok(InstanceKey::new(bytes))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("sidestage.db")
    }

    /// Bare mirrors, one a project.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.root.join("mirrors")
    }

    /// Data of companions. The folder is made with the first.
    #[must_use]
    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// The object store.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Certificate and key of the local authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.root.join("authority.pem")
    }

    /// Logs of builds and jobs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of an environment's cron job.
    #[must_use]
    pub fn cron_log(&self, env: &EnvId, name: &str) -> PathBuf {
        self.logs().join(env.as_str()).join(format!("cron-{name}.log"))
    }

    /// The log of one image or job.
    #[must_use]
    pub fn log(&self, id: &ResourceId) -> PathBuf {
        self.logs().join(log_folder(&id.owner)).join(format!("{}-{}-{}.log", id.generation, id.kind.as_str(), id.name))
    }
}

/// The folder of an owner's logs, below those of all.
#[must_use]
pub fn log_folder(owner: &Owner) -> String {
    owner.to_string().replace(':', "-")
}

/// Where the controller listens for its own CLI.
#[must_use]
pub fn control_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Beside the state directory, which nobody else may enter: PostgreSQL's folder, the local authority's certificate and the socket for hooks.
#[must_use]
pub fn services(state_dir: &Path) -> PathBuf {
    let mut name = state_dir.file_name().unwrap_or_default().to_owned();
    name.push(".services");
    state_dir.with_file_name(name)
}

/// The local authority's certificate, for whoever wants to trust it.
#[must_use]
pub fn authority_certificate(state_dir: &Path) -> PathBuf {
    services(state_dir).join("ca.pem")
}

/// Where hooks of repositories tell of pushes; open to all.
#[must_use]
pub fn notify_socket(state_dir: &Path) -> PathBuf {
    services(state_dir).join("notify.sock")
}

/// Writes a secret file that exists whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let half = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}
