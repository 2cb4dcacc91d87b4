//! Stories of pull requests, told over real HTTP: after one pass the environments equal what open refs and approvals say, and
//! every decision has one audit row.

mod costs;
mod house;
mod trouble;
mod trust;

use std::collections::BTreeSet;

use planner::policy::StageMode;
use planner::view::State;

use crate::fakehub::Opening;
use house::{House, SHOP, opening};

fn set(shas: &[&String]) -> BTreeSet<String> {
    shas.iter().map(|sha| (*sha).clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_lives_is_shown_and_goes() {
    let mut house = House::open(StageMode::Automatic).await;
    house.by_git = true;
    let sha = house.hub.push(SHOP, "feature", "ada", "Mention @everyone | <b>", &[("a.txt", "a\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    assert_eq!(house.state(&sha), Some(State::Ready));
    let comments = house.comments(1);
    assert_eq!(comments.len(), 1, "{comments:#?}");
    let text = &comments[0];
    assert!(text.contains(&sha[..7]) && text.contains("ready") && text.contains("after the last visit"), "{text}");
    assert!(!text.contains("@everyone") && !text.contains("<b>"), "{text}");
    assert_eq!(house.deployments(), [(sha.clone(), "success".to_owned())]);
    house.hub.close(SHOP, 1, "ada", true);
    house.settle().await;
    assert!(house.running().is_empty() && house.environments() == 0);
    assert_eq!(house.deployments(), [(sha, "inactive".to_owned())]);
    let comments = house.comments(1);
    assert!(comments.len() == 1 && comments[0].contains("closed"), "{comments:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_pushes_back_and_forth_leave_one_environment_of_each_commit() {
    let mut house = House::open(StageMode::Automatic).await;
    let first = house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    let second = house.hub.push(SHOP, "feature", "ada", "Two", &[("a.txt", "2\n")]).await;
    house.settle().await;
    house.hub.force(SHOP, "feature", "ada", &first).await;
    house.settle().await;
    let head = house.commits().into_iter().next().unwrap().1;
    assert_eq!((head.sha.to_string(), head.state), (first.clone(), State::Ready));
    assert_eq!(house.running(), set(&[&first, &second]));
    assert_eq!(house.deployments().len(), 2, "{:?}", house.deployments());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pull_requests_with_one_head_share_what_lives_while_either_is_open() {
    let mut house = House::open(StageMode::Automatic).await;
    let sha = house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.force(SHOP, "other", "ada", &sha).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.hub.open(opening("other", "The same")).await;
    house.settle().await;
    assert_eq!((house.running(), house.environments()), (set(&[&sha]), 1));
    assert_eq!(house.deployments().len(), 1);
    house.hub.close(SHOP, 1, "ada", false);
    house.settle().await;
    assert_eq!(house.running(), set(&[&sha]));
    house.hub.close(SHOP, 2, "ada", false);
    house.settle().await;
    assert_eq!(house.environments(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_comments_are_carried_out_once_and_refused_once() {
    let mut house = House::open(StageMode::OnRequest).await;
    let sha = house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    assert_eq!((house.running(), house.comments(1).len()), (set(&[]), 0));
    for line in ["> /stage", "please\n/stage", " /stage", "`/stage`"] {
        house.hub.comment(SHOP, 1, "grace", line);
    }
    let innocent = house.hub.comment(SHOP, 1, "grace", "Looks good");
    house.hub.edit_comment(SHOP, innocent, "/stage");
    house.hub.comment(SHOP, 1, "helper[bot]", "/stage");
    house.hub.comment(SHOP, 1, "mallory", "/stage");
    house.settle().await;
    assert_eq!(house.running(), set(&[]));
    assert_eq!(house.audited("stage").len(), 1, "one refusal: {:#?}", house.audited("stage"));
    assert_eq!(house.comments(1).len(), 1, "{:#?}", house.comments(1));
    // A stranger is answered once, and written down each time.
    house.hub.comment(SHOP, 1, "mallory", "/stage");
    house.settle().await;
    assert_eq!((house.audited("stage").len(), house.comments(1).len()), (2, 1));
    house.hub.comment(SHOP, 1, "grace", "/stage\nthank you");
    house.settle().await;
    assert_eq!(house.running(), set(&[&sha]));
    assert_eq!(house.audited("stage").len(), 3);
    house.hub.comment(SHOP, 1, "grace", "/stage help");
    house.hub.comment(SHOP, 1, "grace", "/stage dance");
    house.hub.comment(SHOP, 1, "grace", "/stage remove");
    house.settle().await;
    assert_eq!((house.environments(), house.audited("remove").len(), house.audited("comment").len()), (0, 1, 1));
    let comments = house.comments(1);
    assert!(comments.iter().any(|text| text.contains("/stage rebuild")), "{comments:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_build_shows_its_last_lines_harmless() {
    let mut house = House::open(StageMode::Automatic).await;
    let sha = house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    let words =
        "step 3/4 RUN make failed: exit code 2; it said last: ``` @ada see [x](http://e.example) | make: *** Error 2";
    house.broken.insert(sha.parse().unwrap(), words.to_owned());
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    assert_eq!(house.state(&sha), Some(State::Failed));
    let text = house.comments(1).pop().unwrap();
    assert!(text.contains("\nmake: *** Error 2\n") && text.contains("````text"), "{text}");
    assert_eq!(house.deployments(), [(sha, "failure".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_before_opened_leaves_nothing() {
    let mut house = House::open(StageMode::Automatic).await;
    let post = crate::fakehub::Post { held: true, reversed: true, ..Default::default() };
    house.hub.post(post);
    house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.hub.close(SHOP, 1, "ada", false);
    house.hub.release();
    house.settle().await;
    assert_eq!((house.environments(), house.comments(1).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_third_webhook_lost_and_the_others_doubled_is_made_up_by_one_look() {
    let mut house = House::open(StageMode::Automatic).await;
    house.hub.post(crate::fakehub::Post { drop_every: 3, doubled: true, ..Default::default() });
    let mut heads = Vec::new();
    for number in 1..=4 {
        let branch = format!("feature-{number}");
        house.hub.push(SHOP, &branch, "ada", "One", &[("a.txt", &format!("{number}\n"))]).await;
        house.hub.open(opening(&branch, "A feature")).await;
        heads.push(house.hub.push(SHOP, &branch, "ada", "Two", &[("b.txt", &format!("{number}\n"))]).await);
        house.settle().await;
    }
    house.hub.close(SHOP, 2, "ada", true);
    house.pass().await;
    let open: Vec<&String> = heads.iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, sha)| sha).collect();
    let running = house.running();
    assert!(set(&open).is_subset(&running) && !running.contains(&heads[1]), "{running:?}");
    for number in [1, 3, 4] {
        assert_eq!(house.comments(number).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_nothing_again() {
    let mut house = House::open(StageMode::Automatic).await;
    house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    house.hub.take_requests();
    house.restart();
    house.pass().await;
    let writes: Vec<_> = house.hub.take_requests().into_iter().filter(crate::fakehub::Request::writes).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

/// A pull request of somebody without any right, from a fork of theirs.
fn foreign<'a>(branch: &'a str) -> Opening<'a> {
    Opening { by: "mallory", from: "mallory/shop", ..opening(branch, "A patch") }
}
