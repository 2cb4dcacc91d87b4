//! Heads: an error never reads as empty, pages are whole, and many repositories cost one query.

use std::collections::{BTreeMap, BTreeSet};

use drivers::Forge;
use planner::forge::Check;
use planner::identity::Ref;

use super::{SHOP, connected, shop, watched};
use crate::fakehub::{Fault, Hub, Opening};

fn opening(branch: &str) -> Opening<'_> {
    Opening { on: SHOP, by: "ada", from: SHOP, branch, title: "A change", draft: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_github_reads_as_closed() {
    let (hub, forge, _folder) = shop().await;
    hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    hub.open(opening("feature")).await;
    assert_eq!(forge.heads(&BTreeSet::new()).await.unwrap().len(), 1);
    for fault in [Fault::Broken, Fault::LostReply, Fault::Unavailable, Fault::Html, Fault::NotFound] {
        hub.trouble(fault, "/graphql", 1);
        let listed = forge.heads(&BTreeSet::new()).await;
        assert!(listed.is_err(), "{fault:?}: {listed:?}");
        hub.mend();
        assert_eq!(forge.heads(&BTreeSet::new()).await.unwrap().len(), 1, "after {fault:?}");
    }
    let _ = hub.take_problems();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_more_pull_requests_come_in_pages_and_in_full() {
    let (hub, forge, _folder) = shop().await;
    hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    for _ in 0..103 {
        hub.open(opening("feature")).await;
    }
    let heads = forge.heads(&BTreeSet::new()).await.unwrap();
    let numbers: BTreeSet<Ref> = heads.into_iter().map(|head| head.name).collect();
    assert_eq!(numbers, (1..=103).map(Ref::Pull).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_repositories_are_listed_by_one_query_of_one_point() {
    let hub = Hub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let github = connected(&hub);
    let mut forges = Vec::new();
    for number in 0..12 {
        let name = format!("acme/shop{number}");
        hub.repository(&name, &[("Dockerfile", "FROM scratch\n")]).await;
        forges.push(github.forge(watched(&format!("shop{number}"), &name, folder.path())));
    }
    let asked: BTreeMap<_, _> =
        (0..12).map(|number| (format!("shop{number}").parse().unwrap(), BTreeSet::new())).collect();
    assert!(github.heads(&asked).await.values().all(Result::is_ok));
    let before = github.asked();
    let _ = hub.take_requests();
    // Each by itself, at about the same time: they share the query.
    let all = forges.iter().map(|forge| async { forge.heads(&BTreeSet::new()).await });
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    let after = github.asked();
    assert_eq!((after.queries - before.queries, after.points - before.points), (1, 1));
    assert_eq!(after.reads, before.reads, "nothing else is asked while nothing changes");
    // One repository that is gone says so, and nothing about the others.
    hub.change(|world| world.repo_mut("acme/shop3").private = true);
    hub.change(|world| world.repo_mut("acme/shop3").installed = false);
    let answers = github.heads(&asked).await;
    let failed: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_err()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["shop3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_kept_without_asking_again() {
    for fault in [Fault::Primary(600), Fault::Secondary(600)] {
        let (hub, forge, _folder) = shop().await;
        forge.heads(&BTreeSet::new()).await.unwrap();
        hub.trouble(fault, "/graphql", 1);
        let first = forge.heads(&BTreeSet::new()).await.unwrap_err().to_string();
        assert!(first.contains("limit of requests") && first.contains("UTC"), "{fault:?}: {first}");
        let _ = hub.take_requests();
        let second = forge.heads(&BTreeSet::new()).await.unwrap_err().to_string();
        assert!(second.contains("limit of requests"), "{fault:?}: {second}");
        assert!(hub.take_requests().is_empty(), "a limit is no reason to ask");
        let _ = hub.take_problems();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_is_still_ours_and_a_new_one_of_its_name_is_not() {
    let (hub, forge, folder) = shop().await;
    let sha = hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    hub.open(opening("feature")).await;
    forge.heads(&BTreeSet::new()).await.unwrap();
    hub.rename(SHOP, "store", "ada");
    assert_eq!(forge.heads(&BTreeSet::new()).await.unwrap().len(), 1);
    forge.read(&sha.parse().unwrap()).await.unwrap();
    // A restart knows the old name only: GitHub leads to the new one.
    let again = connected(&hub).forge(watched("shop", SHOP, folder.path()));
    assert_eq!(again.heads(&BTreeSet::new()).await.unwrap().len(), 1);
    hub.repository(SHOP, &[("Dockerfile", "FROM scratch\n")]).await;
    let taken = connected(&hub).forge(watched("shop", SHOP, folder.path()));
    let why = taken.heads(&BTreeSet::new()).await.unwrap_err().to_string();
    assert!(why.contains("another repository now"), "{why}");
    let _ = hub.take_problems();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ci_says_of_a_commit_is_read_as_it_stands() {
    let (hub, forge, _folder) = shop().await;
    let sha = hub.push(SHOP, "feature", "ada", "A feature", &[("a.txt", "a\n")]).await;
    hub.open(opening("feature")).await;
    forge.heads(&BTreeSet::new()).await.unwrap();
    let of: planner::identity::Sha = sha.parse().unwrap();
    for (conclusion, wanted) in [(None, Check::Pending), (Some("failure"), Check::Red), (Some("success"), Check::Green)]
    {
        hub.ci(SHOP, &sha, "ci/test", conclusion);
        let said = forge.checks(&BTreeSet::from([of])).await.unwrap();
        assert_eq!(said[&of].get("ci/test"), Some(&wanted), "{conclusion:?}: {said:?}");
    }
}
