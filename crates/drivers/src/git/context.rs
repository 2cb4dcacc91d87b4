//! The source of a build: git's own objects written as a tar of our own. No checkout, no attributes, no hooks.
//!
//! Everything that can be refused is refused before the first byte; then the files stream from `git cat-file`.
//! The same commit gives the same bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use planner::identity::Sha;
use planner::policy::SourceSettings;
use planner::resource::Failure;
use planner::spec::Origin;

use super::GitForge;
use super::blobs::Blobs;
use super::dockerignore::Dockerignore;
use super::lfs::{self, Pointer};
use super::mirror::{Blob, Mirror, QUICK};
use super::modules::{self, Unfit};
use super::run::Error;
use super::stream;
use super::tree::{Kind, Place, Tree, folders};

/// The longest Dockerfile and the longest `.dockerignore`, in bytes.
const LONGEST: u64 = 256 << 10;
/// 1 January 1980: archives of some languages cannot hold an earlier time.
const EARLIEST: u64 = 315_532_800;
/// Submodules within submodules.
const DEEPEST_MODULE: usize = 5;
/// Submodules, those within submodules too.
const MOST_MODULES: usize = 200;

/// What an image is built from.
pub struct Context {
    /// The Dockerfile as the commit has it. The tar holds it too, unless `.dockerignore` names it.
    pub dockerfile: Vec<u8>,
    /// The context as a tar stream, `.dockerignore` applied. A failure on the way is an error of its end, so a reader
    /// that sees the end without one has all of it. Reading blocks.
    pub tar: Box<dyn Read + Send>,
    /// Lines for the build's log: what was left out, and why.
    pub notes: Vec<String>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl GitForge {
    /// Opens the source of a build: `folder` of the commit's tree and the Dockerfile's path in there, both as the
    /// manifest has them. Fetches the commit if the mirror lost it, and what else the operator lets a build have.
    ///
    /// # Errors
    /// Permanent: a Dockerfile or folder that is not there, a tree that must not be used, a submodule of another owner,
    /// an LFS object that is not there. Transient: git does not answer.
    pub async fn context(&self, of: &Origin, folder: &str, dockerfile: &str) -> Result<Context, Failure> {
        self.mirror.fetch(&of.sha).await?;
        let allowed =
            if self.extras.submodules && of.trust.is_foreign() { Some(self.own_modules().await?) } else { None };
        let opening = Opening { forge: self, allowed };
        let folder = if folder == "." { "" } else { folder };
        let top =
            Part { mirror: self.mirror.clone(), commit: of.sha, below: String::new(), at: String::new(), depth: 0 };
        let top = opening.find(top, folder).await?.ok_or_else(|| {
            Failure::permanent(format!("there is no folder {folder:?} in the commit: look at [build] context"))
        })?;
        let text = opening.dockerfile(&top, dockerfile).await?;
        let mut ignore = dockerignore(&top, dockerfile).await?;
        let (tree, mirrors) = opening.walk(top, &mut ignore).await?;
        let failed = |error: Error| Failure::transient(format!("the commit {} cannot be read: {error}", of.sha));
        let time = ["log", "-1", "--format=%ct", "--end-of-options", &of.sha.to_string()];
        let time = self.mirror.ask(&time).await.map_err(failed)?;
        let time = String::from_utf8_lossy(&time).trim().parse().unwrap_or(EARLIEST).max(EARLIEST);

        let extras = self.extras;
        let settle = tokio::task::spawn_blocking(move || settle(tree, mirrors, extras));
        let mut source = settle.await.map_err(|error| failed(io::Error::from(error).into()))??;
        let notes = std::mem::take(&mut source.tree.notes);
        let tar = stream::start(source, time).map_err(|error| failed(error.into()))?;
        Ok(Context { dockerfile: text, tar, notes })
    }

    /// The mirror of a submodule's repository.
    fn module(&self, repository: PathBuf) -> Arc<Mirror> {
        let mut modules = self.modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = self.mirror.module_folder(&repository);
        let entry = modules.entry(repository);
        let mirror = Mirror::new(folder, Some(entry.key().clone()));
        entry.or_insert_with(|| Arc::new(mirror)).clone()
    }

    /// Repositories that the project's own bases have as submodules now: foreign code gets no other, since whoever
    /// wrote it may not read all that lies beside the project.
    async fn own_modules(&self) -> Result<BTreeSet<PathBuf>, Failure> {
        let Some(owner) = modules::owner(&self.mirror.named()) else { return Ok(BTreeSet::new()) };
        let mut own = BTreeSet::new();
        for sha in self.base_tips().await? {
            self.mirror.fetch(&sha).await?;
            let urls = self.mirror.modules(&sha.to_string()).await?.into_values();
            own.extend(urls.filter_map(|url| modules::of_same_owner(&owner, &self.mirror.named(), &url).ok()));
        }
        Ok(own)
    }
}

/// A folder of a commit of a repository, as a part of a context.
struct Part {
    mirror: Arc<Mirror>,
    commit: Sha,
    /// The folder's path in the commit, with a slash behind; empty for all of it.
    below: String,
    /// Where it stands in the context, with a slash behind; empty for all of it.
    at: String,
    /// How many submodules lead here.
    depth: usize,
}

impl Part {
    /// Git's name for its tree.
    fn tree(&self) -> String {
        match self.below.strip_suffix('/') {
            Some(folder) => format!("{}:{folder}", self.commit),
            None => self.commit.to_string(),
        }
    }
}

/// A context being opened.
struct Opening<'a> {
    forge: &'a GitForge,
    /// The only repositories that submodules may come from, if not all of the owner's.
    allowed: Option<BTreeSet<PathBuf>>,
}

impl Opening<'_> {
    /// The folder's part, through submodules on its way; none if there is no such folder.
    async fn find(&self, mut part: Part, folder: &str) -> Result<Option<Part>, Failure> {
        let mut rest = folder.to_owned();
        'parts: loop {
            let whole = format!("{}{rest}", part.below);
            if whole.is_empty() || part.mirror.is_folder(&part.commit, &whole).await {
                part.below = if whole.is_empty() { whole } else { format!("{whole}/") };
                return Ok(Some(part));
            }
            for path in folders(&format!("{whole}/")) {
                if let Some(commit) = part.mirror.gitlink(&part.commit, path).await? {
                    if !self.forge.extras.submodules {
                        return Err(Failure::permanent(format!(
                            "{folder:?} lies in the submodule {path}, which is not fetched; {}",
                            remedy(self.forge.extras, true, false)
                        )));
                    }
                    let next = self.enter(&part, path, &commit).await?;
                    rest = whole[path.len()..].trim_start_matches('/').to_owned();
                    part = Part { at: part.at, ..next };
                    continue 'parts;
                }
            }
            return Ok(None);
        }
    }

    /// All files and links of the context, and the mirrors that have them.
    async fn walk(&self, top: Part, ignore: &mut Dockerignore) -> Result<(Tree, Vec<Arc<Mirror>>), Failure> {
        let (mut tree, mut mirrors) = (Tree::default(), Vec::<Arc<Mirror>>::new());
        let mut parts = VecDeque::from([top]);
        while let Some(part) = parts.pop_front() {
            let failed =
                |error: Error| Failure::transient(format!("the commit {} cannot be read: {error}", part.commit));
            let known = mirrors.iter().position(|known| Arc::ptr_eq(known, &part.mirror));
            let mirror = known.unwrap_or(mirrors.len());
            if known.is_none() {
                mirrors.push(part.mirror.clone());
            }
            let name = part.tree();
            let listing = ["ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", &name];
            let mut child = part.mirror.git.start(&part.mirror.folder, &listing).map_err(failed)?;
            let place = Place { mirror, at: part.at.clone() };
            let found = tokio::time::timeout(QUICK, tree.read(&mut child, &place, ignore)).await;
            let found = found.map_err(|_| failed(Error::Late(QUICK)))??;
            if self.forge.extras.submodules {
                for (path, commit) in found {
                    let within = format!("{}{}", part.below, &path[part.at.len()..]);
                    let next = self.enter(&part, &within, &commit).await?;
                    parts.push_back(Part { at: format!("{path}/"), ..next });
                }
            }
            if tree.modules.len() > MOST_MODULES && self.forge.extras.submodules {
                return Err(Failure::permanent(format!(
                    "the commit has more than {MOST_MODULES} submodules; name in .dockerignore what the image does not need"
                )));
            }
        }
        tree.check_places()?;
        Ok((tree, mirrors))
    }

    /// The submodule at this path of the part's commit, fetched.
    async fn enter(&self, part: &Part, path: &str, commit: &str) -> Result<Part, Failure> {
        if part.depth >= DEEPEST_MODULE {
            return Err(Failure::permanent(format!(
                "the submodule {path} lies more than {DEEPEST_MODULE} submodules deep; name it in .dockerignore"
            )));
        }
        let urls = part.mirror.modules(&part.commit.to_string()).await?;
        let url = urls.get(path).ok_or_else(|| {
            Failure::permanent(format!(
                "the commit has a submodule at {path} that .gitmodules does not name; add it there, or take it out"
            ))
        })?;
        let owner = modules::owner(&self.forge.mirror.named());
        let repository = match &owner {
            Some(owner) => modules::of_same_owner(owner, &part.mirror.named(), url),
            None => Err(Unfit::Foreign),
        };
        let repository = repository.map_err(|why| modules::refusal(path, url, owner.as_deref(), &why))?;
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&repository)) {
            return Err(Failure::permanent(format!(
                "the submodule {path} comes from {url:?}, which the project's own branches do not have as a submodule; \
                 foreign code gets no other"
            )));
        }
        let mirror = self.forge.module(repository);
        let commit = commit.parse().map_err(|error| Failure::permanent(format!("the submodule {path}: {error}")))?;
        mirror.fetch(&commit).await.map_err(|failure| match failure {
            Failure::Permanent { text } => Failure::permanent(format!("the submodule {path}: {text}")),
            Failure::Transient { text } => Failure::transient(format!("the submodule {path}: {text}")),
            other => other,
        })?;
        Ok(Part { mirror, commit, below: String::new(), at: String::new(), depth: part.depth + 1 })
    }

    /// The text of the Dockerfile, which may lie in a submodule.
    async fn dockerfile(&self, top: &Part, path: &str) -> Result<Vec<u8>, Failure> {
        let refuse = |why: String| Err(Failure::permanent(why));
        let mut found = top.mirror.blob(&top.tree(), path, LONGEST).await?;
        if let (Blob::Absent, Some((folder, file))) = (&found, path.rsplit_once('/'))
            && let Some(part) = self.find(top.again(), folder).await?
        {
            found = part.mirror.blob(&part.tree(), file, LONGEST).await?;
        }
        match found {
            Blob::File(bytes) => Ok(bytes),
            Blob::Absent => refuse(format!("no {path} in the commit: add one, or name it by [build] dockerfile")),
            Blob::TooLarge(bytes) => {
                refuse(format!("{path} has {bytes} bytes, and at most {LONGEST} are read; shorten it"))
            }
            Blob::Other(what) => refuse(format!("{path} is {what}; make it a regular file")),
        }
    }
}

impl Part {
    /// The same part once more.
    fn again(&self) -> Part {
        let Part { mirror, commit, below, at, depth } = self;
        Part { mirror: mirror.clone(), commit: *commit, below: below.clone(), at: at.clone(), depth: *depth }
    }
}

/// What the commit leaves out of the context: `<Dockerfile>.dockerignore` if there is one, else `.dockerignore`.
async fn dockerignore(top: &Part, dockerfile: &str) -> Result<Dockerignore, Failure> {
    for path in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        let text = match top.mirror.blob(&top.tree(), &path, LONGEST).await? {
            Blob::Absent => continue,
            Blob::File(bytes) => String::from_utf8(bytes).map_err(|_| "is not UTF-8; save it as UTF-8".to_owned()),
            Blob::TooLarge(bytes) => Err(format!("has {bytes} bytes, and at most {LONGEST} are read; shorten it")),
            Blob::Other(what) => Err(format!("is {what}; make it a regular file")),
        };
        let text = text.map_err(|why| Failure::permanent(format!("{path} {why}")))?;
        return Dockerignore::read(&text).map_err(|why| Failure::permanent(format!("{path} {why}")));
    }
    Ok(Dockerignore::default())
}

/// Looks into links and pointers, and finds what pointers point to.
fn settle(mut tree: Tree, mirrors: Vec<Arc<Mirror>>, extras: SourceSettings) -> Result<stream::Source, Failure> {
    let stores: Vec<PathBuf> = mirrors.iter().map(|mirror| mirror.source().join("lfs")).collect();
    let mut blobs = Blobs::new(mirrors);
    let lost = |error: io::Error| Failure::transient(format!("the commit's files cannot be read: {error}"));
    let targets = link_targets(&tree, &mut blobs).map_err(lost)?;
    tree.keep_inner_links(&targets);
    let pointers = pointers(&tree, &mut blobs).map_err(lost)?;
    let submodules = if extras.submodules { 0 } else { tree.modules.len() };
    let files = if extras.lfs { 0 } else { pointers.len() };
    if extras.lfs {
        for (path, mirror, pointer) in pointers {
            tree.resolve(&path, &pointer)?;
            pointer.check(&path, &stores[mirror])?;
        }
    }
    if let Some(note) = unfetched(extras, submodules, files) {
        tree.notes.insert(0, note);
    }
    Ok(stream::Source { tree, targets, stores, blobs })
}

/// Where the links of a tree lead, by their paths.
fn link_targets(tree: &Tree, blobs: &mut Blobs) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let links = tree.entries.iter().filter(|(_, entry)| entry.kind == Kind::Link);
    links.map(|(path, entry)| Ok((path.clone(), blobs.whole(entry)?))).collect()
}

/// The files that are pointers: path, place of the mirror, what they say.
fn pointers(tree: &Tree, blobs: &mut Blobs) -> io::Result<Vec<(String, usize, Pointer)>> {
    let mut found = Vec::new();
    for (path, entry) in &tree.entries {
        if matches!(entry.kind, Kind::File { .. }) && lfs::SIZES.contains(&entry.size) {
            let pointer = Pointer::read(&blobs.whole(entry)?);
            found.extend(pointer.map(|pointer| (path.clone(), entry.mirror, pointer)));
        }
    }
    Ok(found)
}

/// The line about what a build does not get because the operator has not said so.
fn unfetched(extras: SourceSettings, submodules: usize, files: usize) -> Option<String> {
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let what: Vec<String> =
        [counted(submodules, "submodule"), counted(files, "LFS file")].into_iter().flatten().collect();
    let were = if submodules + files == 1 { "was" } else { "were" };
    (!what.is_empty())
        .then(|| format!("{} {were} not fetched; {}", what.join(", "), remedy(extras, submodules > 0, files > 0)))
}

fn remedy(extras: SourceSettings, submodules: bool, lfs: bool) -> String {
    let words = [(submodules || extras.submodules, "submodules = true"), (lfs || extras.lfs, "lfs = true")];
    let words: Vec<&str> = words.into_iter().filter_map(|(set, word)| set.then_some(word)).collect();
    format!("the operator can set source = {{ {} }}", words.join(", "))
}
