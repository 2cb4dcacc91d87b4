//! The demo's repository: a bare one with the sample application, and a person's work on it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use planner::identity::Sha;
use tokio::process::Command;

/// Files of a commit: path and content. Those that begin with `#!` are executable.
pub type Files<'a> = &'a [(&'a str, &'a str)];

/// The sample application, file by file.
pub const SAMPLE: Files = &[
    (".dockerignore", include_str!("../../../../docker/sample/.dockerignore")),
    (".sidestage.toml", include_str!("../../../../docker/sample/.sidestage.toml")),
    ("Dockerfile", include_str!("../../../../docker/sample/Dockerfile")),
    ("README.md", include_str!("../../../../docker/sample/README.md")),
    ("greeting.txt", include_str!("../../../../docker/sample/greeting.txt")),
    ("migrate.py", include_str!("../../../../docker/sample/migrate.py")),
    ("requirements.txt", include_str!("../../../../docker/sample/requirements.txt")),
    ("web.py", include_str!("../../../../docker/sample/web.py")),
    ("worker.py", include_str!("../../../../docker/sample/worker.py")),
    (".gitignore", "__pycache__\n"),
];

/// A bare repository, and a clone of it to work in.
#[derive(Debug)]
pub struct Repository {
    bare: PathBuf,
    clone: PathBuf,
}

impl Repository {
    /// Makes both in `folder`, with these files on `main`.
    ///
    /// # Errors
    /// When git is missing or fails.
    pub async fn create(folder: &Path, files: Files<'_>) -> anyhow::Result<Repository> {
        let repository = Repository { bare: Repository::bare_in(folder), clone: folder.join("guestbook") };
        git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", "guestbook.git"]).await?;
        git(folder, &["init", "--quiet", "--initial-branch=main", "guestbook"]).await?;
        let bare = repository.bare.to_string_lossy().into_owned();
        repository.work(&["remote", "add", "origin", &bare]).await?;
        repository.write(files)?;
        repository.commit("The beginning", "refs/heads/main").await?;
        Ok(repository)
    }

    /// Where the bare one lies in a folder.
    #[must_use]
    pub fn bare_in(folder: &Path) -> PathBuf {
        folder.join("guestbook.git")
    }

    /// The bare repository, as the configuration names it.
    #[must_use]
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Commits these files on top of `base` (a ref of the bare repository) and pushes to `target`. Without files, an empty commit.
    ///
    /// # Errors
    /// When git fails.
    pub async fn push(&self, base: &str, target: &str, message: &str, files: Files<'_>) -> anyhow::Result<Sha> {
        self.work(&["fetch", "--quiet", "origin", base]).await?;
        self.work(&["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"]).await?;
        self.write(files)?;
        self.commit(message, target).await
    }

    /// Commits and pushes another greeting of the sample application.
    ///
    /// # Errors
    /// When git fails.
    pub async fn greet(&self, base: &str, target: &str, greeting: &str) -> anyhow::Result<Sha> {
        self.push(base, target, &format!("Say: {greeting}"), &[("greeting.txt", &format!("{greeting}\n"))]).await
    }

    /// Deletes a ref of the bare repository.
    ///
    /// # Errors
    /// When git fails.
    pub async fn delete(&self, target: &str) -> anyhow::Result<()> {
        self.work(&["push", "--quiet", "origin", &format!(":{target}")]).await.map(drop)
    }

    fn write(&self, files: Files<'_>) -> anyhow::Result<()> {
        for (name, content) in files {
            let path = self.clone.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&self.clone))?;
            std::fs::write(&path, content)?;
            if content.starts_with("#!") {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    async fn commit(&self, message: &str, target: &str) -> anyhow::Result<Sha> {
        self.work(&["add", "--all"]).await?;
        self.work(&["commit", "--quiet", "--allow-empty", "--message", message]).await?;
        self.work(&["push", "--quiet", "--force", "origin", &format!("HEAD:{target}")]).await?;
        Ok(self.work(&["rev-parse", "HEAD"]).await?.trim().parse()?)
    }

    async fn work(&self, arguments: &[&str]) -> anyhow::Result<String> {
        git(&self.clone, arguments).await
    }
}

/// Runs git in a folder, as a person whom no configuration of this machine reaches.
async fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.org")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.org")])
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run git: install it (Debian: apt install git)")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
