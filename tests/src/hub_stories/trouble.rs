//! GitHub is slow, away, limits us, or calls things by other names.

use std::time::Duration;

use drivers::Forge;
use planner::policy::StageMode;
use planner::view::State;

use super::house::{House, SHOP, opening};
use super::set;
use crate::fakehub::Fault;

async fn with_one() -> (House, String) {
    let mut house = House::open(StageMode::Automatic).await;
    let sha = house.hub.push(SHOP, "feature", "ada", "One", &[("a.txt", "1\n")]).await;
    house.hub.open(opening("feature", "A feature")).await;
    house.settle().await;
    (house, sha)
}

#[tokio::test(flavor = "multi_thread")]
async fn github_away_for_a_day_is_no_removal_and_what_happened_meanwhile_is_made_up() {
    let (mut house, sha) = with_one().await;
    house.hub.trouble(Fault::Unavailable, "", u32::MAX);
    let second = house.hub.push(SHOP, "other", "ada", "Two", &[("b.txt", "2\n")]).await;
    house.hub.open(opening("other", "Another")).await;
    for _ in 0..24 {
        house.now = house.now.after(Duration::from_secs(3600));
        house.pass().await;
    }
    assert_eq!(house.running(), set(&[&sha]));
    house.hub.mend();
    house.hub.close(SHOP, 1, "ada", true);
    house.pass().await;
    assert_eq!(house.running(), set(&[&second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_not_found_are_not_empty() {
    let (mut house, sha) = with_one().await;
    for fault in [Fault::Html, Fault::NotFound, Fault::Broken, Fault::Unauthorized] {
        house.hub.trouble(fault, "graphql", 2);
        house.pass().await;
        assert_eq!(house.running(), set(&[&sha]), "{fault:?}");
        house.hub.mend();
    }
    house.pass().await;
    assert_eq!(house.state(&sha).filter(|state| *state != State::Removed).map(|_| ()), Some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_honoured_and_costs_no_environment() {
    let (mut house, sha) = with_one().await;
    house.hub.trouble(Fault::Primary(5), "graphql", 1);
    house.pass().await;
    house.hub.take_requests();
    house.pass().await;
    assert!(house.hub.take_requests().is_empty(), "nothing is asked before the limit ends");
    assert_eq!(house.running(), set(&[&sha]));
    house.hub.close(SHOP, 1, "ada", true);
    let begun = std::time::Instant::now();
    while !house.running().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the limit has ended");
        tokio::time::sleep(Duration::from_millis(200)).await;
        house.pass().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_renamed_and_made_private_is_the_same() {
    let (mut house, sha) = with_one().await;
    house.hub.rename(SHOP, "store", "ada");
    house.hub.privatize("acme/store", "ada");
    house.pass().await;
    assert_eq!(house.running(), set(&[&sha]));
    house.by_git = true;
    let next = house.hub.push("acme/store", "feature", "ada", "Two", &[("b.txt", "2\n")]).await;
    house.pass().await;
    assert!(house.running().contains(&next));
    assert_eq!(house.comments(1).len(), 1);
    house.hub.close("acme/store", 1, "ada", false);
    house.pass().await;
    assert_eq!(house.environments(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_is_renewed() {
    let (mut house, _) = with_one().await;
    house.by_git = true;
    house.hub.expire_tokens();
    let sha = house.hub.push(SHOP, "feature", "ada", "Two", &[("b.txt", "2\n")]).await;
    house.pass().await;
    assert_eq!(house.state(&sha), Some(State::Ready));
    // Of a build as well: the tree is there, and if it were not, a token of its own would fetch it.
    house.hub.expire_tokens();
    assert!(house.forge.read(&sha.parse().unwrap()).await.is_ok());
}
