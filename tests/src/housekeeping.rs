//! What nobody needs any more goes from the disk, and what is only not known yet does not.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drivers::Forge;
use planner::command::{Actor, Command, Role};
use planner::core::Core;
use planner::event::{Event, Head, RequestId, Source};
use planner::identity::{InstanceKey, ProjectName, Ref, Sha, Time, Trust};
use planner::keeps::{Keeps, Kept};
use planner::manifest::Manifest;
use planner::plan::BACKENDS;
use planner::resource::{Backend, Kind, Owner, ResourceId};
use sidestage::housekeeping::sweep;
use sidestage::state_dir::StateDir;

use crate::git::Repo;
use crate::simulation::settings::Settings;

const START: Time = Time(1_790_000_000_000);

fn shop() -> ProjectName {
    "shop".parse().unwrap()
}

fn key() -> InstanceKey {
    InstanceKey::new([7; 32])
}

/// Every backend answers that it holds nothing.
fn listed(core: &mut Core, now: Time) {
    for backend in BACKENDS {
        let began = core.begin_listing(now);
        core.step(now, vec![Event::Listed { backend, began, seen: Ok(BTreeMap::new()) }]);
    }
}

#[test]
fn what_is_remembered_is_kept_and_nothing_is_said_before_everybody_has_answered() {
    let (sha, tree) = (Sha::from_bytes([1; 20]), Sha::from_bytes([2; 20]));
    let mut core = Core::restore(key(), Settings::calm(&["shop"]).policy, &[]).unwrap();
    core.step(START, Vec::new());
    assert_eq!(core.keeps(), None);
    listed(&mut core, START);
    assert_eq!(core.keeps(), None, "the forge was not heard");

    let name = Ref::Branch("one".to_owned());
    let head = Head { name, sha, foreign: false, title: "one".to_owned(), pull: None };
    core.step(START, vec![Event::Refs { project: shop(), heads: vec![head] }]);
    let manifest = Manifest::parse(None).map(Arc::new);
    let source = Source { tree, subject: "One".to_owned(), author: "Ann".to_owned(), ancestors: Vec::new(), manifest };
    core.step(START, vec![Event::Read { project: shop(), sha, source: Ok(source) }]);
    let actor = Actor { name: "ann".to_owned(), role: Role::Admin };
    let command = Command::Stage { project: shop(), sha };
    core.step(START, vec![Event::Asked { request: RequestId(1), actor, command }]);
    let kept = Kept { commits: [sha].into(), trees: [tree].into() };
    let env = Owner::Env(key().env(&shop(), &sha, Trust::Trusted));
    let all = Keeps { owners: [env].into(), projects: [(shop(), kept)].into() };
    assert_eq!(core.keeps(), Some(all.clone()));

    core.step(START, vec![Event::NoRefs { project: shop(), why: "away".to_owned() }]);
    assert_eq!(core.keeps(), None, "the forge does not answer");
    core.step(START, vec![Event::Refs { project: shop(), heads: Vec::new() }]);
    assert_eq!(core.keeps(), Some(all), "closed is not forgotten");
    let later = START.after(Duration::from_secs(31 * 24 * 3600));
    for minutes in 0..5 {
        listed(&mut core, later.after(Duration::from_secs(60 * minutes)));
    }
    let nothing = Keeps { projects: [(shop(), Kept::default())].into(), ..Keeps::default() };
    assert_eq!(core.keeps(), Some(nothing));
}

/// As if it had been written yesterday.
fn age(path: &Path) {
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 3600);
    std::fs::File::open(path).unwrap().set_modified(yesterday).unwrap();
}

fn log(dir: &StateDir, owner: &Owner, kind: Kind, name: &str) -> std::path::PathBuf {
    let (backend, owner, name) = (Backend::Engine, owner.clone(), name.to_owned());
    let generation = u32::from(kind != Kind::Image);
    let path = dir.log(&ResourceId { backend, owner, generation, kind, name });
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "a line\n").unwrap();
    age(&path);
    age(path.parent().unwrap());
    path
}

#[tokio::test]
async fn logs_and_mirrors_that_nobody_needs_go() {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::take(&folder.path().join("state")).unwrap();
    let env = |n| Owner::Env(key().env(&shop(), &Sha::from_bytes([n; 20]), Trust::Trusted));
    let (known, over) = (Sha::from_bytes([0xab; 20]), Sha::from_bytes([0xcd; 20]));
    let image = |tree: &Sha| format!("{}-0123456789ab", &tree.to_string()[..12]);
    let project = |name: &str| Owner::Project(name.parse().unwrap(), Trust::Trusted);
    let stay = [
        log(&dir, &env(1), Kind::Job, "release"),
        log(&dir, &project("shop"), Kind::Image, &image(&known)),
        log(&dir, &env(3), Kind::Job, "release"),
    ];
    // Its job is under way since `keeps` was asked for.
    std::fs::write(&stay[2], "another line\n").unwrap();
    let go = [
        log(&dir, &env(2), Kind::Job, "release"),
        log(&dir, &project("shop"), Kind::Image, &image(&over)),
        log(&dir, &project("former"), Kind::Image, &image(&known)),
    ];
    for mirror in ["shop.git", "former.git"] {
        std::fs::create_dir(dir.mirrors().join(mirror)).unwrap();
        age(&dir.mirrors().join(mirror));
    }
    let kept = Kept { commits: [known].into(), trees: [known].into() };
    let keeps = Keeps { owners: [env(1)].into(), projects: [(shop(), kept)].into() };
    sweep(&dir, &BTreeMap::new(), &keeps).await;
    for path in stay {
        assert!(path.exists(), "{} is needed", path.display());
    }
    for path in go {
        assert!(!path.exists(), "{} is not", path.display());
    }
    assert!(dir.mirrors().join("shop.git").exists() && !dir.mirrors().join("former.git").exists());
}

#[tokio::test]
async fn commits_that_nobody_needs_leave_the_mirror() {
    let (repo, folder) = (Repo::new(), tempfile::tempdir().unwrap());
    let dir = StateDir::take(&folder.path().join("state")).unwrap();
    let forge = Arc::new(repo.forge());
    let shas: Vec<Sha> = ["one", "two", "three"].iter().map(|subject| repo.simple(&[], subject)).collect();
    for sha in &shas {
        forge.read(sha).await.unwrap();
    }
    let has = |sha: &Sha| {
        let mut git = std::process::Command::new("git");
        git.arg("--git-dir").arg(repo.mirror()).args(["cat-file", "-e", &format!("{sha}^{{tree}}")]);
        git.stderr(std::process::Stdio::null()).status().unwrap().success()
    };
    assert!(shas.iter().all(has));
    let kept = Kept { commits: [shas[1]].into(), ..Kept::default() };
    let keeps = Keeps { projects: [(shop(), kept)].into(), ..Keeps::default() };
    let forges = BTreeMap::from([(shop(), forge.clone() as Arc<dyn Forge>)]);
    sweep(&dir, &forges, &keeps).await;
    assert_eq!(shas.iter().map(has).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(forge.read(&shas[1]).await.unwrap().subject, "two");
    assert_eq!(forge.read(&shas[0]).await.unwrap().subject, "one", "fetched again");
    // A project that is not in the configuration any more, or of which nothing is said, keeps what it has.
    sweep(&dir, &forges, &Keeps::default()).await;
    assert!(has(&shas[0]));
}
