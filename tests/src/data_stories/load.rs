//! A reset while people work: whoever asks is answered, by the old data or the new, and never by the old again.

use planner::resource::Kind;
use planner::view::State;
use serde_json::Value;
use sidestage::demo::repository::SAMPLE;
use sidestage::demo::visitor::Visitor;

use super::ok;
use crate::objects::until;
use crate::stage::Stage;

/// Answers that somebody waits for at most before the new data serve.
const PATIENCE: usize = 20_000;
/// Answers of the new data that are enough.
const ENOUGH: usize = 30;

/// Reads and writes rows until the new data have answered often enough. The names of the databases that answered, in order.
async fn works(visitor: Visitor, url: String, old: String) -> Vec<String> {
    let (mut seen, mut enough) = (Vec::<String>::new(), 0);
    for _ in 0..PATIENCE {
        let answer = visitor.get(&format!("{url}/api")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let facts: Value = serde_json::from_str(&answer.body).unwrap();
        let database = facts["database"].as_str().unwrap().to_owned();
        enough += usize::from(database != old);
        if seen.last() != Some(&database) {
            seen.push(database);
        }
        if enough == ENOUGH {
            return seen;
        }
    }
    panic!("the new data never came: {seen:?}");
}

/// Uploads, which writes rows and objects, until told to stop. How many there were.
async fn uploads(visitor: Visitor, url: String, mut stop: tokio::sync::watch::Receiver<bool>) -> usize {
    let mut done = 0;
    while !*stop.borrow_and_update() {
        let answer = visitor.upload(&format!("{url}/upload"), &format!("{}.txt", done % 50), "text").await.unwrap();
        assert_eq!(answer.status, 303, "{}", answer.body);
        done += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_fails_no_request_and_the_old_data_go() {
    let stage = Stage::open(SAMPLE, "stage = \"automatic\"\nimages = [\"redis:7\"]\n").await;
    let sha = stage.repository.greet("refs/heads/main", "refs/heads/one", "Hello").await.unwrap();
    stage.look().await;
    let commit = stage.reaches(&sha, &[State::Ready, State::Failed]).await;
    assert_eq!(commit.state, State::Ready, "{:?}", commit.reason);
    let [old, new] = [1, 2].map(|generation| planner::names::database(&commit.env, generation));
    let visitor = stage.visitor;
    let workers: Vec<_> = (0..4).map(|_| tokio::spawn(works(visitor, commit.url.clone(), old.clone()))).collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn(uploads(visitor, commit.url.clone(), stopped));

    ok(&stage, &format!("reset shop {sha} --wait")).await;
    for worker in workers {
        assert_eq!(worker.await.unwrap(), [old.clone(), new.clone()]);
    }
    stop.send_replace(true);
    assert!(writer.await.unwrap() > 0);
    until("nothing of the first generation is left", async || {
        stage.world().await.keys().all(|id| id.generation != 1 || id.kind == Kind::Image)
    })
    .await;
    let facts: Value = serde_json::from_str(&stage.get(&format!("{}/api", commit.url)).await.body).unwrap();
    assert_eq!((facts["database"].as_str(), facts["migrations"].as_u64()), (Some(new.as_str()), Some(2)));
    stage.close().await;
}
