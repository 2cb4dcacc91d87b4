//! Refs and commits: what is open, what is foreign, what a commit is made of, and what happens when it is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drivers::Forge;
use drivers::git::GitForge;
use planner::event::Head;
use planner::identity::{Ref, Sha};
use planner::resource::Failure;

use super::{FILE, FOLDER, LINK, Repo};

async fn heads(forge: &GitForge) -> BTreeMap<String, Head> {
    forge.heads(&BTreeSet::new()).await.unwrap().into_iter().map(|head| (head.name.to_string(), head)).collect()
}

async fn names(forge: &GitForge) -> Vec<String> {
    heads(forge).await.into_keys().collect()
}

fn permanent(result: Result<impl std::fmt::Debug, Failure>) -> String {
    match result {
        Err(Failure::Permanent { text }) => text,
        other => panic!("not permanent: {other:?}"),
    }
}

fn transient(result: Result<impl std::fmt::Debug, Failure>) -> String {
    match result {
        Err(Failure::Transient { text }) => text,
        other => panic!("not transient: {other:?}"),
    }
}

/// main: base. feature: one commit on top. pull 7: another, from outside.
fn shop() -> (Repo, Sha, Sha, Sha) {
    let repo = Repo::new();
    let base = repo.simple(&[], "base");
    let feature = repo.simple(&[base], "feature");
    let pull = repo.simple(&[base], "from a fork");
    repo.point("refs/heads/main", &base);
    repo.point("refs/heads/feature", &feature);
    repo.point("refs/pull/7/head", &pull);
    (repo, base, feature, pull)
}

#[tokio::test]
async fn branches_are_ours_and_pulls_are_foreign() {
    let (repo, _, feature, pull) = shop();
    let expected = [
        Head { name: Ref::Branch("feature".into()), sha: feature, foreign: false, title: "feature".into(), pull: None },
        Head { name: Ref::Pull(7), sha: pull, foreign: true, title: "from a fork".into(), pull: None },
    ];
    let mut heads = repo.forge().heads(&BTreeSet::new()).await.unwrap();
    heads.sort_by_key(|head| head.name.to_string());
    assert_eq!(heads, expected);
}

#[tokio::test]
async fn what_a_base_reaches_is_closed() {
    let (repo, base, feature, pull) = shop();
    let forge = repo.forge_with(&["main", "stable"], &[]);
    repo.point("refs/heads/fresh", &base);
    assert_eq!(names(&forge).await, ["branch/feature", "pr/7"], "a branch without a commit of its own is not open");
    let merge = repo.simple(&[base, feature], "merge");
    repo.point("refs/heads/main", &merge);
    assert_eq!(names(&forge).await, ["pr/7"]);
    let merge = repo.simple(&[base, pull], "merge into the other base");
    repo.point("refs/heads/stable", &merge);
    assert_eq!(names(&forge).await, Vec::<String>::new());
    repo.git(&["update-ref", "-d", "refs/heads/main"], b"");
    repo.git(&["update-ref", "-d", "refs/heads/stable"], b"");
    assert_eq!(names(&forge).await, ["branch/feature", "branch/fresh", "pr/7"], "without a base nothing is merged");
}

#[tokio::test]
async fn tags_and_bases_are_refs_only_if_they_are_named() {
    let (repo, base, ..) = shop();
    repo.point("refs/tags/v1.0", &base);
    repo.point("refs/tags/v1/x", &base);
    repo.point("refs/tags/nightly", &base);
    repo.git(&["tag", "-a", "-m", "two", "v2", &base.to_string()], b"");
    let blob = repo.blob(b"a key");
    repo.git(&["update-ref", "refs/tags/v-key", &blob], b"");
    assert_eq!(names(&repo.forge()).await, ["branch/feature", "pr/7"]);
    let heads = heads(&repo.forge_with(&["main"], &["main", "v*"])).await;
    assert_eq!(heads.keys().collect::<Vec<_>>(), ["branch/feature", "branch/main", "pr/7", "tag/v1.0", "tag/v2"]);
    assert_eq!(heads["tag/v2"].sha, base, "an annotated tag is the commit behind it");
}

#[tokio::test]
async fn only_plain_numbers_are_pull_requests() {
    let (repo, _, _, pull) = shop();
    for name in ["refs/pull/07/head", "refs/pull/+8/head", "refs/pull/9/merge", "refs/pull/x/head", "refs/notes/x"] {
        repo.point(name, &pull);
    }
    assert_eq!(names(&repo.forge()).await, ["branch/feature", "pr/7"]);
}

#[tokio::test]
async fn branches_with_every_legal_odd_character_work() {
    let (repo, base, ..) = shop();
    let odd = [
        "main;curl x|sh".replace(' ', "$IFS"),
        "--upload-pack=touch".to_owned(),
        "$(id)".to_owned(),
        "`id`".to_owned(),
        "quote'\"".to_owned(),
        "größe/日本/☃".to_owned(),
        "a/b.c/d@e".to_owned(),
        "<script>alert(1)<".to_owned(),
        "%2e%2e%00".to_owned(),
        "&&{}()!#,=+-_".to_owned(),
        "HEAD".to_owned(),
        "refs/heads/x".to_owned(),
    ];
    let mut expected = BTreeMap::new();
    for (n, name) in odd.iter().enumerate() {
        let sha = repo.simple(&[base], &format!("odd {n}"));
        repo.point(&format!("refs/heads/{name}"), &sha);
        expected.insert(format!("branch/{name}"), sha);
    }
    let forge = repo.forge();
    let found = heads(&forge).await;
    for (name, sha) in expected {
        let head = &found[&name];
        assert_eq!((head.sha, head.foreign), (sha, false), "{name}");
        forge.read(&sha).await.unwrap();
    }
    // A base may be called so as well.
    assert_eq!(heads(&repo.forge_with(&["--upload-pack=touch", "main"], &[])).await.len(), found.len() - 1);
}

#[tokio::test]
async fn a_commit_is_read_with_its_manifest() {
    let repo = Repo::new();
    let files: &[(&str, &str, &[u8])] = &[(FILE, ".sidestage.toml", b"port = 3000"), (FILE, "a/.sidestage.toml", b"x")];
    let sha = repo.commit(files, &[], "Add the shop\n\nWith a body.");
    repo.point("refs/heads/main", &sha);
    let source = repo.forge().read(&sha).await.unwrap();
    assert_eq!(source.tree.to_string(), repo.git(&["rev-parse", &format!("{sha}^{{tree}}")], b""));
    assert_eq!((&*source.subject, &*source.author), ("Add the shop", "Ann Author"));
    assert_eq!(source.manifest.unwrap().port, 3000);
    let bare = repo.simple(&[], "bare");
    repo.point("refs/heads/main", &bare);
    assert_eq!(repo.forge().read(&bare).await.unwrap().manifest.unwrap().port, 8080);
}

#[tokio::test]
async fn exactly_the_sha_is_fetched_whatever_is_pushed() {
    let (repo, base, feature, _) = shop();
    let forge = repo.forge();
    heads(&forge).await;
    let forced = repo.simple(&[base], "forced");
    repo.point("refs/heads/feature", &forced);
    // No ref reaches it any more, and it is still what was asked for.
    assert_eq!(forge.read(&feature).await.unwrap().subject, "feature");
    assert_eq!(forge.read(&forced).await.unwrap().subject, "forced");
    let refs = super::git(&repo.mirror(), &["for-each-ref", "--format=%(objectname) %(refname)"], b"");
    let mut expected = [feature, forced].map(|sha| format!("{sha} refs/sidestage/{sha}"));
    expected.sort();
    assert_eq!(refs.lines().collect::<Vec<_>>(), expected, "nothing else came along");
}

#[tokio::test]
async fn a_fetched_commit_needs_its_repository_no_more() {
    let (repo, _, feature, _) = shop();
    let forge = repo.forge();
    forge.read(&feature).await.unwrap();
    std::fs::rename(repo.path(), repo.folder.path().join("away")).unwrap();
    assert_eq!(repo.forge().read(&feature).await.unwrap().subject, "feature");
}

#[tokio::test]
async fn a_commit_that_is_gone_is_gone_for_good() {
    let (repo, ..) = shop();
    let sha: Sha = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let text = permanent(repo.forge().read(&sha).await);
    assert_eq!(text, format!("the commit {sha} is gone from {}; push it again", repo.path().display()));
}

#[tokio::test]
async fn a_repository_that_vanishes_may_come_back() {
    let (repo, _, feature, _) = shop();
    let forge = repo.forge();
    let away = repo.folder.path().join("away");
    std::fs::rename(repo.path(), &away).unwrap();
    let start = format!("the repository {} does not answer: ", repo.path().display());
    for text in [transient(forge.heads(&BTreeSet::new()).await), transient(forge.read(&feature).await)] {
        assert!(text.starts_with(&start) && !text.contains('\n'), "{text}");
    }
    // A folder that is no repository is not one without refs either.
    std::fs::create_dir(repo.path()).unwrap();
    for text in [transient(forge.heads(&BTreeSet::new()).await), transient(forge.read(&feature).await)] {
        assert!(text.starts_with(&start), "{text}");
    }
    std::fs::remove_dir(repo.path()).unwrap();
    std::fs::rename(&away, repo.path()).unwrap();
    assert_eq!(names(&forge).await, ["branch/feature", "pr/7"]);
    forge.read(&feature).await.unwrap();
}

#[tokio::test]
async fn a_git_that_hangs_is_ended() {
    let (repo, ..) = shop();
    let forge = repo.forge();
    heads(&forge).await;
    // Opening a pipe that nobody writes to never returns.
    let pipe = std::process::Command::new("mkfifo").arg(repo.path().join("packed-refs")).status().unwrap();
    assert!(pipe.success());
    // From here on time passes whenever nothing else can happen.
    tokio::time::pause();
    let text = transient(forge.heads(&BTreeSet::new()).await);
    assert!(text.contains("git did not answer within 60 s"), "{text}");
    let path = repo.path().display().to_string();
    let runs = |process: &std::path::Path| {
        // A process that has ended and waits to be reaped has no arguments any more.
        std::fs::read(process.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&path))
    };
    let running = || std::fs::read_dir("/proc").unwrap().flatten().any(|process| runs(&process.path()));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while running() {
        assert!(std::time::Instant::now() < deadline, "git still runs");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_repository_that_we_cannot_understand_is_not_one_without_refs() {
    let repo = Repo { folder: tempfile::tempdir().unwrap() };
    std::fs::create_dir(repo.path()).unwrap();
    repo.git(&["init", "--quiet", "--bare", "--object-format=sha256"], b"");
    let tree = repo.git(&["write-tree"], b"");
    let commit = repo.git(&["commit-tree", &tree, "-m", "x"], b"");
    repo.git(&["update-ref", "refs/heads/feature", &commit], b"");
    let text = transient(repo.forge().heads(&BTreeSet::new()).await);
    assert!(text.contains("it names commits by SHA-256, which is not supported"), "{text}");
}

#[tokio::test]
async fn a_repository_of_somebody_else_is_read() {
    let (repo, _, feature, _) = shop();
    // Git refuses other people's repositories unless they are named as safe. Only root can give files away.
    if std::os::unix::fs::chown(repo.path(), Some(65_534), Some(65_534)).is_ok() {
        let forge = repo.forge();
        assert_eq!(names(&forge).await, ["branch/feature", "pr/7"]);
        forge.read(&feature).await.unwrap();
    }
}

#[tokio::test]
async fn manifests_that_are_traps_are_refused_in_one_line() {
    let repo = Repo::new();
    let forge = repo.forge();
    let large = vec![b'#'; 10 << 20];
    let cases: [(&str, &[u8], &str); 4] = [
        (LINK, b"/etc/passwd", ".sidestage.toml is a symbolic link; make it a regular file"),
        (FILE, &large, ".sidestage.toml has 10485760 bytes, and at most 65536 are read; shorten it"),
        (FILE, b"\n\xff\xfe", ".sidestage.toml line 2: it is not UTF-8; save it as UTF-8"),
        (FILE, b"prot = 1", ".sidestage.toml line 1: prot is not a key of the manifest; did you mean port?"),
    ];
    for (mode, content, line) in cases {
        let sha = repo.commit(&[(mode, ".sidestage.toml", content)], &[], "trap");
        assert_eq!(forge.read(&sha).await.unwrap().manifest.unwrap_err(), line);
    }
    let folder = repo.commit(&[(FILE, ".sidestage.toml/x", b"")], &[], "trap");
    let line = forge.read(&folder).await.unwrap().manifest.unwrap_err();
    assert_eq!(line, ".sidestage.toml is a folder; make it a regular file");
}

#[tokio::test]
async fn what_git_finds_wrong_never_comes_in() {
    let repo = Repo::new();
    let file = repo.blob(b"x");
    for name in [".git", ".."] {
        let tree = repo.tree(&[(FILE, "x", b"x")]);
        let hostile =
            repo.git(&["mktree"], format!("{FOLDER} tree {tree}\t{name}\n{FILE} blob {file}\tz\n").as_bytes());
        let sha = repo.commit_tree(&hostile, &[], "hostile");
        let text = permanent(repo.forge().read(&sha).await);
        assert!(text.starts_with(&format!("the commit {sha} does not pass git's checks: ")), "{text}");
    }
}

#[tokio::test]
async fn no_hook_runs_and_what_a_killed_fetch_left_does_not_matter() {
    let (repo, base, feature, _) = shop();
    repo.forge().read(&base).await.unwrap();
    let marker = repo.folder.path().join("hook-ran");
    std::fs::create_dir_all(repo.mirror().join("hooks")).unwrap();
    for hook in ["reference-transaction", "post-fetch"] {
        let hook = repo.mirror().join("hooks").join(hook);
        std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
        std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let half_a_pack = repo.mirror().join("objects/pack/tmp_pack_x");
    std::fs::write(&half_a_pack, b"").unwrap();
    std::fs::write(repo.mirror().join("shallow.lock"), b"").unwrap();
    std::fs::write(repo.mirror().join(format!("refs/sidestage/{feature}.lock")), b"").unwrap();
    repo.forge().read(&feature).await.unwrap();
    assert!(!marker.exists() && !half_a_pack.exists());
}

#[tokio::test]
async fn many_commits_are_read_at_once() {
    let (repo, base, ..) = shop();
    let forge = std::sync::Arc::new(repo.forge());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (sha, forge) = (repo.simple(&[base], &format!("commit {n}")), forge.clone());
        tasks.spawn(async move { forge.read(&sha).await.map(|source| source.subject) });
    }
    let mut subjects: Vec<String> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 12);
}

#[tokio::test]
async fn packs_do_not_pile_up() {
    let (repo, base, feature, _) = shop();
    let forge = repo.forge();
    for n in 0..40 {
        forge.read(&repo.simple(&[base], &format!("commit {n}"))).await.unwrap();
    }
    let packs = std::fs::read_dir(repo.mirror().join("objects/pack")).unwrap();
    let packs = packs.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "pack"));
    assert!(packs.count() <= 31);
    forge.read(&feature).await.unwrap();
}

#[tokio::test]
async fn changed_refs_are_noticed() {
    let (repo, base, feature, _) = shop();
    let forge = repo.forge();
    let bound = Duration::from_secs(20);
    for change in 0..5 {
        heads(&forge).await;
        match change {
            0 => repo.point("refs/heads/main", &feature),
            1 => repo.point("refs/heads/deep/er/branch", &base),
            2 => drop(repo.git(&["pack-refs", "--all"], b"")),
            3 => drop(repo.git(&["update-ref", "-d", "refs/heads/feature"], b"")),
            // Whoever vanished has changed.
            _ => std::fs::rename(repo.path(), repo.folder.path().join("away")).unwrap(),
        }
        tokio::time::timeout(bound, forge.changed())
            .await
            .unwrap_or_else(|_| panic!("change {change} was not noticed"));
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new =
        |source: &str, glob: &str| GitForge::new(source.into(), "/x".into(), vec![], &[glob.to_owned()]).unwrap_err();
    assert_eq!(new("shop.git", "v*"), "git = \"shop.git\" must be an absolute path");
    assert!(new("/shop.git", "v[").starts_with("refs: "));
}
