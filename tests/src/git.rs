//! The git forge on real repositories: what is a ref, what is fetched, what a build gets to see.
#![allow(clippy::unwrap_used)]

mod context;
mod dockerignore;
mod forge;
mod lfs;
mod modules;
mod names;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use drivers::git::{Context, GitForge};
use planner::identity::{Sha, Trust};
use planner::spec::Origin;

/// A bare repository in a folder of its own, with the place of its mirror beside it.
pub(crate) struct Repo {
    folder: tempfile::TempDir,
}

/// Regular file, executable file, link and submodule, as git writes their modes.
const FILE: &str = "100644";
const EXECUTABLE: &str = "100755";
const LINK: &str = "120000";
const SUBMODULE: &str = "160000";
const FOLDER: &str = "040000";

impl Repo {
    pub(crate) fn new() -> Repo {
        let repo = Repo { folder: tempfile::tempdir().unwrap() };
        repo.beside("shop.git");
        repo
    }

    /// A bare repository in the same folder.
    fn beside(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "--quiet", "--bare", "--initial-branch=main"], b"");
        path
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.git")
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.folder.path().join("mirror/shop")
    }

    pub(crate) fn forge(&self) -> GitForge {
        self.forge_with(&["main"], &[])
    }

    fn forge_with(&self, bases: &[&str], refs: &[&str]) -> GitForge {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        GitForge::new(self.path(), self.mirror(), owned(bases), &owned(refs)).unwrap()
    }

    /// Runs git in the repository and returns what it prints, without the last newline.
    fn git(&self, args: &[&str], input: &[u8]) -> String {
        git(&self.path(), args, input)
    }

    fn blob(&self, content: &[u8]) -> String {
        self.git(&["hash-object", "-w", "--stdin"], content)
    }

    /// A tree of files by path: mode, path, content (of a submodule: the commit).
    fn tree(&self, files: &[(&str, &str, &[u8])]) -> String {
        tree(&self.path(), files)
    }

    /// A commit on top of others, with a subject.
    fn commit_tree(&self, tree: &str, parents: &[Sha], subject: &str) -> Sha {
        let parents: Vec<String> = parents.iter().map(|parent| format!("-p{parent}")).collect();
        let mut args = vec!["commit-tree", tree, "-m", subject];
        args.extend(parents.iter().map(String::as_str));
        self.git(&args, b"").parse().unwrap()
    }

    fn commit(&self, files: &[(&str, &str, &[u8])], parents: &[Sha], subject: &str) -> Sha {
        self.commit_tree(&self.tree(files), parents, subject)
    }

    /// A commit with one file whose content is the subject.
    pub(crate) fn simple(&self, parents: &[Sha], subject: &str) -> Sha {
        self.commit(&[(FILE, "file", subject.as_bytes())], parents, subject)
    }

    fn point(&self, name: &str, sha: &Sha) {
        self.git(&["update-ref", name, &sha.to_string()], b"");
    }
}

fn git(repository: &Path, args: &[&str], input: &[u8]) -> String {
    String::from_utf8(git_bytes(repository, args, input)).unwrap().trim_end_matches('\n').to_owned()
}

fn git_bytes(repository: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in [("GIT_AUTHOR_NAME", "Ann Author"), ("GIT_COMMITTER_NAME", "Ann Author")] {
        command.env(name, value);
    }
    for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        command.env(name, "ann@example.org");
    }
    command.env("GIT_COMMITTER_DATE", "1700000000 +0000").env("GIT_AUTHOR_DATE", "1700000000 +0000");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_INDEX_FILE", repository.join("test-index")).arg("--git-dir").arg(repository).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    })
}

/// A tree in any repository. Goes through an index, so that folders nest.
fn tree(repository: &Path, files: &[(&str, &str, &[u8])]) -> String {
    let mut lines = Vec::new();
    for (mode, path, content) in files {
        let object = if *mode == SUBMODULE {
            String::from_utf8(content.to_vec()).unwrap()
        } else {
            git(repository, &["hash-object", "-w", "--stdin"], content)
        };
        lines.extend(format!("{mode} {object}\t{path}\0").into_bytes());
    }
    let _ = std::fs::remove_file(repository.join("test-index"));
    git(repository, &["update-index", "-z", "--index-info"], &lines);
    git(repository, &["write-tree"], b"")
}

/// A commit in any repository.
fn commit(repository: &Path, files: &[(&str, &str, &[u8])]) -> String {
    let tree = tree(repository, files);
    git(repository, &["commit-tree", &tree, "-m", "x"], b"")
}

fn origin(sha: &Sha, trust: Trust) -> Origin {
    Origin { project: "shop".parse().unwrap(), sha: *sha, trust }
}

const DOCKERFILE: (&str, &str, &[u8]) = (FILE, "Dockerfile", b"FROM scratch\n");

/// One entry of a tar: type, executable, content or target.
type Entry = (tar::EntryType, bool, Vec<u8>);

async fn bytes(context: Context) -> std::io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || {
        let (mut tar, mut bytes) = (context.tar, Vec::new());
        tar.read_to_end(&mut bytes).map(|_| bytes)
    })
    .await
    .unwrap()
}

/// Entries by path, each once.
fn entries(tar: &[u8]) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let executable = kind.is_file() && entry.header().mode().unwrap() & 0o100 > 0;
        let mut content = Vec::new();
        match entry.link_name_bytes() {
            Some(target) => content.extend_from_slice(&target),
            None => drop(entry.read_to_end(&mut content).unwrap()),
        }
        assert!(found.insert(path.clone(), (kind, executable, content)).is_none(), "{path} is there twice");
    }
    found
}
