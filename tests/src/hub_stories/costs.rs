//! What it costs at GitHub, printed.

use std::collections::{BTreeMap, BTreeSet};

use planner::policy::StageMode;
use sidestage::forges::POLL;

use super::house::{House, SHOP, opening};
use super::set;
use crate::fakehub::{Hub, Request};
use crate::github::{connected, watched};

/// One pull request from open to closed, with one push.
async fn open_push_and_close(house: &mut House) {
    house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    house.hub.push(SHOP, "feature", "ada", "Two", &[("b.txt", "2\n")]).await;
    house.settle().await;
    house.hub.close(SHOP, 1, "ada", true);
    house.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pull_request_with_one_push_costs_little() {
    let mut house = House::open(StageMode::Automatic).await;
    house.pass().await;
    house.hub.take_requests();
    open_push_and_close(&mut house).await;
    assert_eq!(house.environments(), 0);
    let requests = house.hub.take_requests();
    let writes = requests.iter().filter(|request| request.writes()).count();
    println!("a pull request from open to closed with one push: {} requests, {writes} of them writes", requests.len());
    let lines: Vec<String> = requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert!(requests.len() <= 25 && writes <= 12, "{} requests, {writes} writes: {lines:#?}", requests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unstaged_pull_request_costs_no_write() {
    let mut house = House::open(StageMode::OnRequest).await;
    open_push_and_close(&mut house).await;
    let writes = house.hub.take_requests().into_iter().filter(Request::writes).count();
    println!("an unstaged pull request: {writes} writes");
    assert_eq!(writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_day_with_sixty_one_open_pull_requests_is_calm() {
    let mut house = House::open(StageMode::OnRequest).await;
    // The project is seen for the first time with all of them open.
    let mut first = House::open(StageMode::Automatic).await;
    for number in 0..61 {
        let branch = format!("feature-{number}");
        first.hub.push(SHOP, &branch, "ada", "One", &[("a.txt", &format!("{number}\n"))]).await;
        first.hub.open(opening(&branch, "A feature")).await;
    }
    std::mem::swap(&mut house.hub, &mut first.hub);
    drop(first);
    house.forget();
    house.hub.take_requests();
    house.pass().await;
    let requests = house.hub.take_requests();
    println!("the first look at 61 open pull requests: {} requests", requests.len());
    assert_eq!((house.running(), house.commits().len()), (set(&[]), 61));
    assert!(!requests.iter().any(Request::writes));
    assert!(house.core.plan_lines(None)[0].contains("61 open"), "{:?}", house.core.plan_lines(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_a_hundred_repositories_costs_a_point_a_look() {
    let hub = Hub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let github = connected(&hub);
    let (mut forges, mut asked) = (Vec::new(), BTreeMap::new());
    for number in 0..100 {
        hub.repository(&format!("acme/shop-{number}"), &[("Dockerfile", "FROM scratch\n")]).await;
        let watched = watched(&format!("shop-{number}"), &format!("acme/shop-{number}"), folder.path());
        asked.insert(watched.project.clone(), BTreeSet::new());
        forges.push(github.forge(watched));
    }
    assert!(github.heads(&asked).await.values().all(Result::is_ok));
    hub.take_requests();
    assert!(github.heads(&asked).await.values().all(Result::is_ok));
    let requests = hub.take_requests();
    let points: u64 = requests.iter().map(|request| request.points).sum();
    let [polling, told] = POLL.map(|(every, _)| points * 3_600 / every.as_secs());
    println!(
        "a look at 100 repositories: {} requests, {points} points; an hour of them: {polling} by polling alone, {told} with \
         webhooks",
        requests.len()
    );
    assert!(polling <= 60 && told <= 10 && requests.len() <= 1, "{requests:#?}");
}
