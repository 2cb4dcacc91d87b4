//! Repositories and the people who push to them: the truth that forges list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use planner::event::{Head, Source};
use planner::identity::{ProjectName, Ref, Sha};
use planner::manifest::Manifest;

use super::rng::Rng;
use super::world::Fate;

/// The manifests that commits of the simulation carry.
const MANIFESTS: [&str; 12] = [
    "",
    "[release]\ncommand = [\"bin/migrate\"]\n[process.worker]\ncommand = [\"bin/worker\"]\n[service.cache]\nimage = \"redis:7\"\n",
    "[release]\ncommand = [\"bin/migrate\"]\n",
    "[database]\nbaseline = false\n",
    "[objects]\nbaseline = false\n[database]\nbaseline = false\n[service.cache]\nimage = \"redis:7\"\n",
    "[service.cache]\nimage = \"redis:7\"\ndata = \"16m\"\n[release]\ncommand = [\"bin/migrate\"]\n",
    "[app.api]\nport = 9000\nbuild = { context = \"api\" }\n[release]\ncommand = [\"bin/migrate\"]\n",
    "[build]\nimage = \"ghcr.io/acme/shop:sha-{short_sha}\"\n[objects]\nbaseline = false\n",
    "[env]\nAPI_TOKEN = \"${TOKEN}\"\n[process.worker]\ncommand = [\"bin/worker\"]\n",
    "[database]\nbaseline = \"big\"\n[objects]\nbaseline = \"big\"\n[release]\ncommand = [\"bin/migrate\"]\n",
    "[database]\nbaseline = \"big\"\ncarry = true\n",
    "[database]\ncarry = true\n[objects]\nbaseline = \"empty\"\n[release]\ncommand = [\"bin/migrate\"]\n",
];
/// Which of them has a further application, and which an image by CI.
const WITH_APP: usize = 6;
const BY_CI: usize = 7;

/// One commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// What reading it gives.
    pub source: Source,
    /// How its code behaves.
    pub fate: Fate,
}

/// One ref of a repository.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Whether the forge lists it.
    pub open: bool,
    /// From outside the project.
    pub foreign: bool,
    /// The operator has it watched; others are listed only when they are asked for by name.
    pub watched: bool,
    /// Everything that was ever pushed, the newest last.
    pub pushed: Vec<Sha>,
}

/// One repository.
#[derive(Debug, Clone, Default)]
pub struct Repository {
    /// Its refs, open or not.
    pub refs: BTreeMap<Ref, Branch>,
}

/// All repositories. A sha may be in several of them, as it is in forks.
#[derive(Debug, Clone, Default)]
pub struct Forge {
    /// By project.
    pub repositories: BTreeMap<ProjectName, Repository>,
    /// Every commit.
    pub commits: BTreeMap<Sha, Commit>,
    made: u32,
}

impl Forge {
    /// A commit that nobody has pushed yet.
    pub fn commit(&mut self, rng: &mut Rng, bad: u64) -> Sha {
        self.made += 1;
        let sha = numbered_sha(0xc0, self.made);
        let number = self.made;
        let (subject, author) = (format!("Change {number}"), "Ada".to_owned());
        // Some commits have the tree of the one before, and with it its manifest and its faults: one build serves both.
        let twin = self.commits.get(&numbered_sha(0xc0, number - 1)).filter(|_| rng.chance(150)).cloned();
        if let Some(twin) = twin {
            let source = Source { subject, author, ancestors: Vec::new(), ..twin.source };
            self.commits.insert(sha, Commit { source, fate: twin.fate });
            return sha;
        }
        let mut fate = Fate::Good;
        if rng.chance(bad) {
            let fates = [Fate::BadBuild, Fate::FlakyBuild(2), Fate::BadRelease, Fate::BadWeb, Fate::MuteWeb];
            fate = fates[rng.below(5) as usize];
        }
        let number_of_text = match fate {
            Fate::BadRelease => 1,
            _ => rng.weighted(&[22, 24, 14, 8, 8, 14, 12, 8, 10, 12, 14, 14]),
        };
        fate = match (fate, number_of_text) {
            (Fate::Good, WITH_APP) if rng.chance(bad) => Fate::MuteApp,
            (Fate::Good, BY_CI) if rng.chance(bad) => Fate::NoImage,
            (Fate::BadBuild | Fate::FlakyBuild(_), BY_CI) => Fate::NoImage,
            _ => fate,
        };
        let text = MANIFESTS[number_of_text];
        let mut manifest = Manifest::parse(Some(text.as_bytes())).map(Arc::new);
        if rng.chance(bad / 6) {
            (fate, manifest) = (Fate::BadManifest, Err("unknown key `prot` at line 1".to_owned()));
        }
        let source = Source { tree: numbered_sha(0x7e, number), subject, author, ancestors: Vec::new(), manifest };
        self.commits.insert(sha, Commit { source, fate });
        sha
    }

    /// A commit that follows another one: what reading it tells of those before it.
    pub fn follow(&mut self, sha: &Sha, parent: &Sha) {
        let before = self.commits.get(parent).map(|commit| commit.source.ancestors.clone()).unwrap_or_default();
        if let Some(commit) = self.commits.get_mut(sha).filter(|commit| commit.source.ancestors.is_empty()) {
            commit.source.ancestors = std::iter::once(*parent).chain(before).take(20).collect();
        }
    }

    /// What the forge lists now, beside what is watched also the refs that it is asked for.
    pub fn heads(&self, project: &ProjectName, requested: &BTreeSet<Ref>) -> Vec<Head> {
        let Some(repository) = self.repositories.get(project) else { return Vec::new() };
        let listed = repository.refs.iter().filter(|(name, branch)| branch.watched || requested.contains(*name));
        listed.filter_map(|(name, _)| self.head(project, name)).collect()
    }

    /// What one ref points to, if it is there.
    pub fn head(&self, project: &ProjectName, name: &Ref) -> Option<Head> {
        let branch = self.repositories.get(project)?.refs.get(name).filter(|branch| branch.open)?;
        let sha = *branch.pushed.last()?;
        Some(Head { name: name.clone(), sha, foreign: branch.foreign, title: format!("Work on {name}"), pull: None })
    }
}

/// A sha that a person can tell from another: a letter for what it is and a number.
pub fn numbered_sha(what: u8, number: u32) -> Sha {
    let mut bytes = [0u8; 20];
    bytes[0] = what;
    bytes[1..3].copy_from_slice(&u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
    bytes[19] = (number % 251) as u8;
    Sha::from_bytes(bytes)
}
