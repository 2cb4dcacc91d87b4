//! What goes on: followed logs, events, and how they end.

use planner::view::State;

use super::FORM;
use super::fake::{Fake, commit, pass, sha, usual};
use super::http::{Console, bounded};

#[tokio::test]
async fn a_followed_log_goes_on() {
    let fake = Fake::new(usual());
    fake.logs(&["one\n"]);
    let console = Console::start(fake).await;
    let ann = console.sign_in().await;
    let env = commit(10, "", State::Ready).env;
    let mut log = ann.stream(&format!("/api/v1/logs/{env}/web?follow=1")).await;
    assert_eq!(bounded(log.next()).await.unwrap(), "one\n");
    console.fake.log_more("two\n").await;
    assert_eq!(bounded(log.next()).await.unwrap(), "two\n");
}

#[tokio::test]
async fn events_tell_of_changes() {
    let console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let mut events = ann.stream("/api/v1/events").await;
    let first = bounded(events.next()).await.unwrap();
    assert!(first.starts_with("event: view\ndata: 1800"), "{first}");
    console.fake.set(sha(1), |commit| commit.state = State::Building);
    let second = bounded(events.next()).await.unwrap();
    assert!(second.starts_with("event: view\ndata: ") && second != first, "{second}");
    pass(12 * 3600);
    console.fake.set(sha(1), |commit| commit.state = State::Ready);
    assert_eq!(bounded(events.next()).await, None, "the stream ends with the session");
}

#[tokio::test]
async fn the_server_ends_with_its_streams() {
    let mut console = Console::start(Fake::new(usual())).await;
    let ann = console.sign_in().await;
    let env = commit(10, "", State::Ready).env;
    let mut events = ann.stream("/api/v1/events").await;
    let mut log = ann.stream(&format!("/api/v1/logs/{env}/web?follow=1")).await;
    bounded(events.next()).await.unwrap();
    console.stop().await;
    assert_eq!(bounded(events.next()).await, None);
    assert_eq!(bounded(log.next()).await, None);
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let console = Console::start(Fake::new(usual())).await;
    tokio::time::pause();
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n", console.url.trim_start_matches("http://"));
    assert_eq!(console.raw(&head).await, "", "the rest of the head never comes");
    let form = format!(
        "POST /login HTTP/1.1\r\nhost: {}\r\ncontent-type: {}\r\ncontent-length: 9\r\n\r\ntok",
        console.visitor().host,
        FORM.1
    );
    let answer = console.raw(&form).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "the rest of the body never comes: {answer}");
}
