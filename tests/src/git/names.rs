//! Refs by the names that people type.

use std::collections::BTreeSet;

use drivers::Forge;
use drivers::git::GitForge;
use planner::identity::{Ref, Sha};
use planner::resource::Failure;

use super::Repo;

/// main with v5.2.0, v5.2.1, v5.10.0 and v4.9 on it; feature/x unmerged, done merged; a pull request.
fn shop() -> (Repo, Vec<Sha>) {
    let repo = Repo::new();
    let mut shas: Vec<Sha> = Vec::new();
    for name in ["v4.9", "v5.2.0", "v5.2.1", "v5.10.0"] {
        let sha = repo.simple(shas.as_slice().last().map(std::slice::from_ref).unwrap_or_default(), name);
        repo.git(&["tag", "-a", "-m", name, name, &sha.to_string()], b"");
        shas.push(sha);
    }
    repo.point("refs/heads/main", &shas[3]);
    repo.point("refs/heads/done", &shas[1]);
    let feature = repo.simple(&shas[3..], "feature");
    repo.point("refs/heads/feature/x", &feature);
    shas.push(feature);
    let pull = repo.simple(&shas[3..4], "from a fork");
    repo.point("refs/pull/7/head", &pull);
    shas.push(pull);
    (repo, shas)
}

async fn found(forge: &GitForge, name: &str) -> (String, Sha) {
    let head = forge.find(name).await.unwrap();
    assert!(!head.foreign);
    (head.name.to_string(), head.sha)
}

async fn refusal(forge: &GitForge, name: &str) -> String {
    match forge.find(name).await {
        Err(Failure::Permanent { text }) => text,
        other => panic!("not permanent: {other:?}"),
    }
}

#[tokio::test]
async fn any_branch_or_tag_is_found_by_its_name() {
    let (repo, shas) = shop();
    let forge = repo.forge();
    for (name, full, sha) in [
        ("v5.2.1", "tag/v5.2.1", shas[2]),
        ("tag/v5.2.1", "tag/v5.2.1", shas[2]),
        ("main", "branch/main", shas[3]),
        ("branch/main", "branch/main", shas[3]),
        ("done", "branch/done", shas[1]),
        ("feature/x", "branch/feature/x", shas[4]),
        ("branch/feature/x", "branch/feature/x", shas[4]),
    ] {
        assert_eq!(found(&forge, name).await, (full.to_owned(), sha), "{name}");
    }
}

#[tokio::test]
async fn a_sha_is_found_while_a_ref_of_our_own_points_to_it() {
    let (repo, shas) = shop();
    let forge = repo.forge();
    assert_eq!(found(&forge, &shas[3].to_string()).await, ("branch/main".to_owned(), shas[3]));
    assert_eq!(found(&forge, &shas[2].to_string()).await, ("tag/v5.2.1".to_owned(), shas[2]));
    let within = repo.simple(&[], "an older one");
    repo.point("refs/heads/main", &repo.simple(&[within], "newer"));
    let text = refusal(&forge, &within.to_string()).await;
    assert_eq!(
        text,
        format!(
            "the commit {within} is part of main, and no branch or tag points to it now; only what one points to is \
             staged: push a tag to it"
        )
    );
    let (fork, nowhere) = (shas[5].to_string(), "0123456789abcdef0123456789abcdef01234567".to_owned());
    for sha in [fork, nowhere] {
        assert_eq!(refusal(&forge, &sha).await, format!("no branch or tag points to the commit {sha}"));
    }
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest() {
    let (repo, _) = shop();
    let forge = repo.forge();
    for (name, line) in [
        ("v5.2", "no branch or tag v5.2; nearest: v5.2.1, v5.2.0"),
        ("tag/v5.2", "no branch or tag tag/v5.2; nearest: v5.2.1, v5.2.0"),
        ("v5", "no branch or tag v5; nearest: v5.10.0, v5.2.1, v5.2.0"),
        ("Main", "no branch or tag Main; nearest: main"),
        ("mian", "no branch or tag mian; nearest: main"),
        ("zzz", "no branch or tag zzz"),
        ("pr/7", "no branch or tag pr/7"),
        ("refs/pull/7/head", "no branch or tag refs/pull/7/head"),
        ("a\nb", "no branch or tag a b"),
        ("", "no branch or tag "),
    ] {
        assert_eq!(refusal(&forge, name).await, line);
    }
    assert_eq!(refusal(&Repo::new().forge(), "main").await, "no branch or tag main");
}

#[tokio::test]
async fn a_name_of_a_branch_and_a_tag_must_say_which() {
    let (repo, shas) = shop();
    let forge = repo.forge();
    repo.point("refs/heads/v5.2.1", &shas[0]);
    assert_eq!(refusal(&forge, "v5.2.1").await, "v5.2.1 is both a branch and a tag: write branch/v5.2.1 or tag/v5.2.1");
    assert_eq!(found(&forge, "branch/v5.2.1").await.1, shas[0]);
    assert_eq!(found(&forge, "tag/v5.2.1").await.1, shas[2]);
    // A branch may be called like one of the two forms, and can be named all the same.
    repo.point("refs/heads/tag/v9", &shas[0]);
    assert_eq!(found(&forge, "tag/v9").await.0, "branch/tag/v9");
    repo.point("refs/tags/v9", &shas[1]);
    assert_eq!(found(&forge, "tag/v9").await.0, "tag/v9");
    assert_eq!(found(&forge, "branch/tag/v9").await.0, "branch/tag/v9");
}

#[tokio::test]
async fn refs_that_people_asked_for_are_listed_while_they_exist() {
    let (repo, shas) = shop();
    let forge = repo.forge();
    let also = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<Ref>>();
    let asked = also(&["branch/main", "branch/done", "tag/v5.2.1", "tag/gone", "pr/9"]);
    let mut names: Vec<String> = forge.heads(&asked).await.unwrap().iter().map(|head| head.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["branch/done", "branch/feature/x", "branch/main", "pr/7", "tag/v5.2.1"]);
    repo.point("refs/tags/v5.2.1", &shas[0]);
    let heads = forge.heads(&also(&["tag/v5.2.1"])).await.unwrap();
    let moved = heads.iter().find(|head| head.name == Ref::Tag("v5.2.1".into())).unwrap();
    assert_eq!((moved.sha, moved.foreign), (shas[0], false));
    repo.point("refs/heads/main", &shas[5]);
    let merged = forge.heads(&also(&["pr/7"])).await.unwrap();
    assert!(!merged.iter().any(|head| head.name == Ref::Pull(7)), "asking does not open a request that is merged");
}

#[tokio::test]
async fn a_repository_that_does_not_answer_knows_no_names() {
    let (repo, _) = shop();
    std::fs::rename(repo.path(), repo.folder.path().join("away")).unwrap();
    assert!(matches!(repo.forge().find("main").await, Err(Failure::Transient { .. })));
}
