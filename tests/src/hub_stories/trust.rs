//! Whose code runs: approvals are for one commit, and nothing else grants.

use planner::command::{Actor, Command, Role};
use planner::identity::Trust;
use planner::policy::StageMode;
use planner::view::State;

use super::house::{House, SHOP, opening, shop};
use super::{foreign, set};

/// A house with a pull request from a fork; the commit.
async fn with_fork() -> (House, String) {
    let mut house = House::open(StageMode::Automatic).await;
    house.hub.fork(SHOP, "mallory/shop").await;
    let sha = house.hub.push("mallory/shop", "patch", "mallory", "A patch", &[("a.txt", "1\n")]).await;
    house.hub.open(foreign("patch")).await;
    house.settle().await;
    (house, sha)
}

/// The check of a commit, by its number.
fn check(house: &House, sha: &str) -> Option<(u64, String)> {
    house.hub.world(|world| {
        let repo = world.repos.values().find(|repo| repo.installed).unwrap();
        let mut checks = repo.checks.iter().filter(|check| check.sent["head_sha"] == *sha);
        let found = checks.next().map(|check| (check.id, check.sent.to_string()));
        assert!(checks.next().is_none(), "two checks of {sha}");
        found
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn approve_then_push_runs_what_was_approved_and_nothing_else() {
    let (mut house, first) = with_fork().await;
    assert_eq!((house.running(), house.comments(1).len()), (set(&[]), 0));
    let (_, told) = check(&house, &first).expect("one neutral check");
    assert!(
        told.contains("neutral") && told.contains(&format!("/stage approve {first}")) && told.contains("nothing to do")
    );
    house.hub.comment(SHOP, 1, "grace", &format!("/stage approve {first}"));
    let second = house.hub.push("mallory/shop", "patch", "mallory", "And more", &[("b.txt", "2\n")]).await;
    house.settle().await;
    assert_eq!(house.running(), set(&[&first]));
    assert_eq!(house.state(&second), Some(State::Blocked));
    let text = house.comments(1).pop().unwrap();
    assert!(text.contains(&format!("/stage approve {second}")), "{text}");
    assert!(text.contains(&format!("/compare/{first}...{second}")), "{text}");
    assert!(text.contains("approved by grace"), "{text}");
    house.hub.comment(SHOP, 1, "grace", &format!("/stage approve {second}"));
    house.settle().await;
    assert!(house.running().contains(&second));
    assert_eq!(house.audited("approve").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_button_and_the_page_write_what_the_comment_writes() {
    let (mut house, first) = with_fork().await;
    let (id, _) = check(&house, &first).unwrap();
    house.hub.press(SHOP, id, "mallory", "approve");
    house.settle().await;
    assert_eq!(house.running(), set(&[]));
    house.hub.press(SHOP, id, "grace", "approve");
    house.settle().await;
    assert_eq!(house.running(), set(&[&first]));
    let second = house.hub.push("mallory/shop", "patch", "mallory", "And more", &[("b.txt", "2\n")]).await;
    house.settle().await;
    let actor = Actor { name: "grace".to_owned(), role: Role::Approve };
    let command = Command::Approve { project: shop(), sha: second.parse().unwrap() };
    house.asks(actor, command).await.unwrap();
    house.settle().await;
    assert!(house.running().contains(&second));
    let audited = house.audited("approve");
    assert_eq!(audited.len(), 3, "{audited:#?}");
    assert_eq!(audited.iter().filter(|row| row.contains("refused")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_shas_and_none_are_refused_with_the_exact_line() {
    let (mut house, sha) = with_fork().await;
    house.hub.comment(SHOP, 1, "ada", "/stage");
    house.settle().await;
    let text = house.comments(1).pop().unwrap();
    assert!(text.contains(&format!("/stage approve {sha}")), "{text}");
    house.hub.comment(SHOP, 1, "ada", &format!("/stage approve {}", &sha[..8]));
    house.hub.comment(SHOP, 1, "ada", "/stage approve");
    house.hub.comment(SHOP, 1, "ada", &format!("/stage approve {}", "0".repeat(40)));
    house.settle().await;
    assert_eq!(house.running(), set(&[]));
    assert_eq!(house.comments(1).len(), 4);
    assert_eq!(house.audited("comment").len() + house.audited("stage").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_gone_between_page_and_click_grants_nothing() {
    let (mut house, sha) = with_fork().await;
    house.hub.grant(SHOP, "grace", "triage");
    house.hub.comment(SHOP, 1, "grace", &format!("/stage approve {sha}"));
    house.settle().await;
    assert_eq!(house.running(), set(&[]));
    let audited = house.audited("approve");
    assert!(audited.len() == 1 && audited[0].contains("refused"), "{audited:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_commit_in_a_fork_and_in_a_branch_of_the_project_is_the_projects_own() {
    let (mut house, sha) = with_fork().await;
    let git = (house.hub.git_of(SHOP), house.hub.git_of("mallory/shop"));
    crate::fakehub::take(&git.0, &git.1, &sha, "refs/heads/adopted").await;
    house.hub.open(opening("adopted", "Adopt the patch")).await;
    house.pass().await;
    assert_eq!(house.running(), set(&[]), "a new ref on a known commit is no push of it");
    house.hub.comment(SHOP, 2, "grace", "/stage");
    house.settle().await;
    assert_eq!((house.running(), house.environments()), (set(&[&sha]), 1));
    assert!(house.commits().iter().all(|(_, commit)| commit.trust == Trust::Trusted));
    let text = house.comments(2).pop().unwrap();
    assert!(text.contains("asked for by grace"), "{text}");
    house.hub.close(SHOP, 2, "ada", false);
    house.settle().await;
    assert_eq!(house.running(), set(&[]), "what the fork says is not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_that_is_deleted_changes_nothing_of_what_was_approved() {
    let (mut house, sha) = with_fork().await;
    house.hub.comment(SHOP, 1, "grace", &format!("/stage approve {sha}"));
    house.settle().await;
    house.hub.delete_fork("mallory/shop");
    house.pass().await;
    assert_eq!(house.running(), set(&[&sha]));
    assert!(house.commits().iter().all(|(_, commit)| commit.trust == Trust::Approved));
    house.hub.close(SHOP, 1, "ada", false);
    house.pass().await;
    assert_eq!(house.environments(), 0);
}
