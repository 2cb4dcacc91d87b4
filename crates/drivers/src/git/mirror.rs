//! The bare repository that holds what we fetched of one project: commits by their sha, nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use planner::event::Source;
use planner::identity::Sha;
use planner::manifest::{self, Manifest};
use planner::resource::Failure;
use sha2::{Digest, Sha256};

use super::run::{Error, Git, clean};
use super::tree::{Entry, Kind};

/// How long a question about what is already there may take.
pub(super) const QUICK: Duration = Duration::from_secs(60);
/// How long fetching a commit may take.
const FETCH: Duration = Duration::from_secs(600);

/// Fetches one commit from a repository, both named behind it.
const FETCH_ONE: [&str; 8] = [
    "fetch",
    "--quiet",
    "--depth=1",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--end-of-options",
];

/// How many commits before one are known, if its manifest carries data on.
const HISTORY: usize = 100;
/// What git is lent to reach a forge: beside its configuration, which includes it.
const LOAN: &str = "loan.gitconfig";

/// How many packs the mirror may hold before they are joined.
const MOST_PACKS: usize = 30;

/// Removes what no commit of ours needs, without taking the whole machine for it.
const CLEAN_UP: [&str; 7] = ["-c", "pack.threads=1", "-c", "pack.windowMemory=64m", "gc", "--quiet", "--prune=now"];

/// A project's mirror, and the repository that it mirrors.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) git: Git,
    /// The mirror.
    pub(super) folder: PathBuf,
    /// The repository as the operator named it; none if a forge hands its commits out.
    source: Option<PathBuf>,
    /// One fetch at a time. Holds the configuration that the mirror was made ready with.
    ready: tokio::sync::Mutex<String>,
}

/// An object that holds bytes, as a listing names it.
pub(super) enum Blob {
    Absent,
    File(Vec<u8>),
    TooLarge(u64),
    /// What it is instead.
    Other(&'static str),
}

impl Mirror {
    pub(super) fn new(folder: PathBuf, source: Option<PathBuf>) -> Mirror {
        let git = Git::new(folder.join("sidestage.gitconfig"));
        Mirror { git, folder, source, ready: tokio::sync::Mutex::default() }
    }

    /// The repository as it is named; of a forge's there is none on this machine but the mirror.
    fn origin(&self) -> &Path {
        self.source.as_deref().unwrap_or(&self.folder)
    }

    /// The repository's own folder: of one with a working tree that is `.git`.
    pub(super) fn source(&self) -> PathBuf {
        let inner = self.origin().join(".git");
        if inner.is_dir() { inner } else { self.origin().to_owned() }
    }

    /// The repository's place among others: of one with a working tree the folder of that.
    pub(super) fn named(&self) -> PathBuf {
        let source = self.origin();
        match source.parent() {
            Some(parent) if source.file_name() == Some(OsStr::new(".git")) => parent.to_owned(),
            _ => source.to_owned(),
        }
    }

    /// Where the mirror of a submodule's repository lies: apart, so that a commit of one repository is never handed out
    /// as one of another.
    pub(super) fn module_folder(&self, repository: &Path) -> PathBuf {
        let mut name = HEXLOWER.encode(&Sha256::digest(repository.as_os_str().as_encoded_bytes()));
        name.truncate(16);
        self.folder.join("modules").join(name)
    }

    /// The failure for a repository that does not do what it must.
    pub(super) fn unanswered(&self, error: &Error) -> Failure {
        let source = self.origin().display();
        Failure::transient(format!(
            "the repository {source} does not answer: {error}; look whether it is there and readable"
        ))
    }

    /// Makes the mirror, unless it is there.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let mut ready = self.ready.lock().await;
        self.prepare_once(&mut ready).await
    }

    async fn prepare_once(&self, ready: &mut String) -> Result<(), Failure> {
        let config = self.config();
        if *ready == config && self.folder.join("HEAD").exists() {
            return Ok(());
        }
        let failed =
            |error: Error| Failure::transient(format!("the mirror {} cannot be made: {error}", self.folder.display()));
        let write = async {
            tokio::fs::create_dir_all(&self.folder).await?;
            tokio::fs::write(self.folder.join("sidestage.gitconfig"), &config).await
        };
        write.await.map_err(|error| failed(error.into()))?;
        self.git.run(&self.folder, &["init", "--bare", "--quiet", "--template="], QUICK).await.map_err(failed)?;
        *ready = config;
        Ok(())
    }

    /// All of the configuration that git sees. It reaches `upload-pack`, which `-c` does not: that one refuses a
    /// repository of somebody else's unless it is named as safe.
    fn config(&self) -> String {
        let quoted = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        let canonical = std::fs::canonicalize(self.source()).unwrap_or_else(|_| self.source());
        let safe = [self.origin(), &self.source(), &canonical, &self.folder]
            .map(|path| format!("\tdirectory = \"{}\"\n", quoted(path)));
        // What reaches a forge, and with which token, stands in a file for the time of one fetch.
        let from = match self.source {
            Some(_) => "[protocol \"file\"]\n\tallow = always\n".to_owned(),
            None => format!("[include]\n\tpath = {LOAN}\n"),
        };
        format!(
            "[safe]\n{}\
             [protocol]\n\tallow = never\n\
             {from}\
             [transfer]\n\tfsckObjects = true\n\
             [fetch \"fsck\"]\n\tzeroPaddedFilemode = ignore\n\tbadTimezone = ignore\n\
             [uploadpack]\n\tallowAnySHA1InWant = true\n\
             [core]\n\thooksPath = /dev/null\n\tsymlinks = false\n\tfsmonitor = false\n\
             [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n",
            safe.concat()
        )
    }

    /// A question about the mirror.
    pub(super) async fn ask<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Vec<u8>, Error> {
        self.git.run(&self.folder, args, QUICK).await
    }

    /// Fetches exactly this commit, without its history, unless it is there.
    pub(super) async fn fetch(&self, sha: &Sha) -> Result<(), Failure> {
        let kept = kept(sha);
        if self.has(sha).await {
            return Ok(());
        }
        if self.source.is_none() {
            return Err(Failure::transient(format!(
                "the commit {sha} is not in the mirror any more; it is fetched again"
            )));
        }
        let mut ready = self.ready.lock().await;
        self.prepare_once(&mut ready).await?;
        self.sweep(&kept);
        let source = std::fs::canonicalize(self.source()).map_err(|error| self.unanswered(&error.into()))?;
        let refspec = format!("+{sha}:{kept}");
        let mut args: Vec<&OsStr> = FETCH_ONE.map(OsStr::new).to_vec();
        args.extend([source.as_os_str(), OsStr::new(&refspec)]);
        if let Err(error) = self.git.run(&self.folder, &args, FETCH).await {
            return Err(self.why_not(sha, &error).await);
        }
        self.tidy().await;
        Ok(())
    }

    /// Whether the commit was fetched.
    pub(super) async fn has(&self, sha: &Sha) -> bool {
        let kept = kept(sha);
        // Nothing packs the mirror's refs, and were one packed all the same, its commit would be fetched once more.
        if !self.folder.join(&kept).is_file() {
            return false;
        }
        let there = ["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{kept}^{{commit}}")];
        self.ask(&there).await.is_ok()
    }

    /// Fetches exactly this commit from a forge, unless it is there. `token`: the password to the account
    /// `x-access-token`. It stands in a file of ours with mode 0600 while git runs, and nowhere else: not in the URL,
    /// which git shows, and not in an argument or variable, which others may see.
    pub(super) async fn fetch_from(&self, sha: &Sha, url: &str, token: &str) -> Result<(), Failure> {
        if self.has(sha).await {
            return Ok(());
        }
        let mut ready = self.ready.lock().await;
        self.prepare_once(&mut ready).await?;
        let kept = kept(sha);
        self.sweep(&kept);
        let loan = Loan::make(self.folder.join(LOAN), url, token);
        let loan = loan.map_err(|error| Failure::transient(format!("{}: {error}", self.folder.display())))?;
        let refspec = format!("+{sha}:{kept}");
        let mut args: Vec<&str> = FETCH_ONE.to_vec();
        args.extend([url, &refspec]);
        let fetched = self.git.run(&self.folder, &args, FETCH).await;
        drop(loan);
        fetched.map_err(|error| match &error {
            Error::Unsound(text) => Failure::permanent(format!("the commit {sha} does not pass git's checks: {text}")),
            Error::Refused(text) if text.contains("not our ref") || text.contains("find remote ref") => {
                Failure::permanent(format!("the commit {sha} is gone from {url}; push it again"))
            }
            _ => Failure::transient(format!("{url} does not hand out the commit {sha}: {error}")),
        })?;
        self.tidy().await;
        Ok(())
    }

    /// Removes what a killed fetch left: nobody else writes here.
    fn sweep(&self, kept: &str) {
        for lock in ["shallow.lock".to_owned(), format!("{kept}.lock"), LOAN.to_owned()] {
            let _ = std::fs::remove_file(self.folder.join(lock));
        }
        for file in std::fs::read_dir(self.folder.join("objects/pack")).into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with("tmp_") {
                let _ = std::fs::remove_file(file.path());
            }
        }
    }

    /// Joins packs when there are many: every fetch brings one, and every question looks into all of them.
    async fn tidy(&self) {
        let packs = std::fs::read_dir(self.folder.join("objects/pack"));
        let packs =
            packs.into_iter().flatten().flatten().filter(|file| file.path().extension() == Some(OsStr::new("pack")));
        if packs.count() > MOST_PACKS
            && let Err(error) = self.git.run(&self.folder, &["repack", "-d", "-q", "--geometric=2"], FETCH).await
        {
            tracing::warn!(mirror = %self.folder.display(), %error, "the mirror could not be repacked");
        }
    }

    /// Lets go of every commit that is not among these, and of what only such commits had.
    pub(super) async fn forget_all_but(&self, known: &BTreeSet<Sha>) -> Result<(), Failure> {
        // No fetch meanwhile: git's clean-up could take what has just come.
        let _alone = self.ready.lock().await;
        if !self.folder.join("HEAD").exists() {
            return Ok(());
        }
        let failed = |error: Error| {
            Failure::transient(format!("the mirror {} cannot be cleaned up: {error}", self.folder.display()))
        };
        let kept = self.ask(&["for-each-ref", "--format=%(refname)", "refs/sidestage"]).await.map_err(failed)?;
        let kept = String::from_utf8_lossy(&kept);
        let forgotten: Vec<&str> = kept.lines().filter(|name| is_forgotten(name, known)).collect();
        for name in &forgotten {
            self.ask(&["update-ref", "-d", name]).await.map_err(failed)?;
        }
        if !forgotten.is_empty() {
            self.git.run(&self.folder, &CLEAN_UP, FETCH).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Tells a commit that is gone, or that git's checks refuse, from a repository that does not answer.
    async fn why_not(&self, sha: &Sha, error: &Error) -> Failure {
        if let Error::Unsound(text) = error {
            return Failure::permanent(format!("the commit {sha} does not pass git's checks: {text}"));
        }
        if let Error::Refused(_) = error {
            let source = self.source();
            let answers = self.git.run(&source, &["rev-parse", "--git-dir"], QUICK).await.is_ok();
            let commit = format!("{sha}^{{commit}}");
            if answers && self.git.run(&source, &["cat-file", "-e", &commit], QUICK).await.is_err() {
                return Failure::permanent(format!(
                    "the commit {sha} is gone from {}; push it again",
                    source.display()
                ));
            }
        }
        self.unanswered(error)
    }

    /// What a fetched commit is made of.
    pub(super) async fn describe(&self, sha: &Sha) -> Result<Source, Failure> {
        let failed = |error: Error| Failure::transient(format!("the commit {sha} cannot be read: {error}"));
        let name = sha.to_string();
        let format = "--format=%T%x00%s%x00%an";
        let line = ["log", "-1", "--no-show-signature", format, "--end-of-options", &name];
        // Side by side: whoever pushed waits for both.
        let line = async { self.ask(&line).await.map_err(failed) };
        let (line, manifest) = tokio::try_join!(line, self.blob(&name, manifest::FILE, manifest::LONGEST))?;
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.trim_end_matches('\n').splitn(3, '\0');
        let mut field = || fields.next().unwrap_or_default();
        let tree =
            field().parse().map_err(|error| Failure::permanent(format!("the commit {sha} has no tree: {error}")))?;
        let (subject, author) = (clean(field(), 500), clean(field(), 200));
        let manifest = match manifest {
            Blob::Absent => Manifest::parse(None),
            Blob::File(bytes) => Manifest::parse(Some(&bytes)),
            Blob::TooLarge(bytes) => Err(manifest::too_long(bytes)),
            Blob::Other(what) => Err(format!("{} is {what}; make it a regular file", manifest::FILE)),
        };
        let carries = manifest.as_ref().is_ok_and(|manifest| manifest.carry);
        let ancestors = if carries { self.ancestors(sha).await? } else { Vec::new() };
        Ok(Source { tree, subject, author, ancestors, manifest: manifest.map(Arc::new) })
    }

    /// The commits before a fetched one, along its first parents: a merge of the base into a branch keeps what the branch
    /// had. Its history is fetched so far and no further.
    async fn ancestors(&self, sha: &Sha) -> Result<Vec<Sha>, Failure> {
        let source = std::fs::canonicalize(self.source()).map_err(|error| self.unanswered(&error.into()))?;
        let refspec = format!("+{sha}:refs/sidestage/{sha}");
        let depth = format!("--depth={}", HISTORY + 1);
        let args = FETCH_ONE.map(|arg| if arg == "--depth=1" { OsStr::new(&depth) } else { OsStr::new(arg) });
        let mut args = args.to_vec();
        args.extend([source.as_os_str(), OsStr::new(&refspec)]);
        let _alone = self.ready.lock().await;
        self.git.run(&self.folder, &args, FETCH).await.map_err(|error| self.unanswered(&error))?;
        let count = format!("--max-count={}", HISTORY + 1);
        let list = ["rev-list", "--first-parent", &count, "--end-of-options", &sha.to_string()];
        let listed = self.ask(&list).await.map_err(|error| self.unanswered(&error))?;
        let listed = String::from_utf8_lossy(&listed);
        Ok(listed.lines().filter_map(|line| line.parse().ok()).filter(|ancestor| ancestor != sha).collect())
    }

    /// Whether this is a folder of the fetched commit's own tree.
    pub(super) async fn is_folder(&self, commit: &Sha, path: &str) -> bool {
        // Of a submodule's path git would take the commit there for the tree.
        let kind = self.ask(&["cat-file", "-t", &format!("{commit}:{path}")]).await;
        kind.is_ok_and(|kind| kind == b"tree\n")
    }

    /// The commit of the submodule at this path of a fetched commit, if one is there.
    pub(super) async fn gitlink(&self, commit: &Sha, path: &str) -> Result<Option<String>, Failure> {
        let name = commit.to_string();
        let listing = self.ask(&["ls-tree", "-l", "-z", "--full-tree", "--end-of-options", &name, path]).await;
        let listing =
            listing.map_err(|error| Failure::transient(format!("the commit {commit} cannot be read: {error}")))?;
        let mut entries = listing.split(|byte| *byte == 0).filter_map(Entry::read);
        let found = entries.find(|entry| entry.path == path.as_bytes() && entry.kind == Kind::Submodule);
        Ok(found.map(|entry| entry.object))
    }

    /// One file of a tree, by its exact path; of one that is too large only its size.
    pub(super) async fn blob(&self, tree: &str, path: &str, longest: u64) -> Result<Blob, Failure> {
        let failed = |error: Error| Failure::transient(format!("{path} cannot be read: {error}"));
        let listing =
            self.ask(&["ls-tree", "-l", "-z", "--full-tree", "--end-of-options", tree, path]).await.map_err(failed)?;
        let entry =
            listing.split(|byte| *byte == 0).filter_map(Entry::read).find(|entry| entry.path == path.as_bytes());
        let Some(entry) = entry else { return Ok(Blob::Absent) };
        Ok(match entry.kind {
            Kind::File { .. } if entry.size > longest => Blob::TooLarge(entry.size),
            Kind::File { .. } => Blob::File(self.ask(&["cat-file", "blob", &entry.object]).await.map_err(failed)?),
            Kind::Link => Blob::Other("a symbolic link"),
            Kind::Folder => Blob::Other("a folder"),
            Kind::Submodule => Blob::Other("a submodule"),
        })
    }
}

/// The ref that keeps a commit.
fn kept(sha: &Sha) -> String {
    format!("refs/sidestage/{sha}")
}

/// A file that lends git a token, until this is dropped.
struct Loan(PathBuf);

impl Loan {
    fn make(path: PathBuf, url: &str, token: &str) -> std::io::Result<Loan> {
        let header = BASE64.encode(format!("x-access-token:{token}").as_bytes());
        // A redirect could lead the token elsewhere.
        let text = format!(
            "[protocol \"{}\"]\n\tallow = always\n\
             [http]\n\tfollowRedirects = false\n\
             [http \"{url}\"]\n\textraHeader = \"Authorization: Basic {header}\"\n",
            if url.starts_with("https://") { "https" } else { "http" }
        );
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let loan = Loan(path);
        file.write_all(text.as_bytes())?;
        Ok(loan)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether the ref keeps a commit that nobody needs any more.
fn is_forgotten(name: &str, known: &BTreeSet<Sha>) -> bool {
    let sha = name.strip_prefix("refs/sidestage/").and_then(|sha| sha.parse::<Sha>().ok());
    sha.is_some_and(|sha| !known.contains(&sha))
}
