//! Work that nobody waits for any more: whatever it was just about to do, it leaves nothing.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use drivers::{Driver, Listing, Log};
use planner::resource::Resource;
use planner::spec::ObjectsFrom;

use super::{Place, snapshot, until};

/// Polls an ensure so many times, and drops it at once: what the last of them has set going is still on its way.
async fn dropped_after(polls: usize, place: &Place, resource: &Resource) {
    let (needs, log) = (Listing::new(), Log::none());
    let mut ensure = pin!(place.driver.ensure(resource, &needs, &log));
    for poll in 0..polls {
        if poll > 0 {
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        if let Poll::Ready(ended) = ensure.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            ended.unwrap();
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_cut_off_anywhere_leaves_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    for number in 0..30 {
        std::fs::write(files.join(number.to_string()), "content").unwrap();
    }
    let place = Place::open(&dir.path().join("store"), "127.0.0.1").await;
    for polls in 1..=60 {
        let half = snapshot(&format!("shop@{polls}"), ObjectsFrom::Folder(files.clone()));
        dropped_after(polls, &place, &half).await;
        place.driver.remove(&half.id).await.unwrap();
    }
    until("no snapshot is left", async || place.listing().await.is_empty()).await;
    // The next start would sweep, so it must hold before that.
    until("no blob is left", async || place.blobs().await.is_empty()).await;
    place.close().await;
}
