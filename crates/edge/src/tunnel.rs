//! Upgrades: after the upstream's 101 the two connections are one.

use std::io;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use crate::body::Progress;
use crate::visits::Visit;

/// Copies both ways until one side ends, nothing has moved for `silence`, or the proxy stops. Open all the while.
pub(crate) async fn run(
    visitor: OnUpgrade,
    upstream: OnUpgrade,
    visit: Option<Visit>,
    silence: Duration,
    stop: CancellationToken,
) {
    let progress = Progress::new();
    let copy = async {
        let (visitor, upstream) = tokio::try_join!(visitor, upstream).map_err(io::Error::other)?;
        let mut visitor = InspectReader::new(TokioIo::new(visitor), |_: &[u8]| progress.touch());
        let mut upstream = InspectReader::new(TokioIo::new(upstream), |_: &[u8]| progress.touch());
        copy_bidirectional(&mut visitor, &mut upstream).await
    };
    let ended = tokio::select! {
        ended = copy => ended.map(|_| ()),
        () = progress.silence(silence) => Ok(()),
        () = stop.cancelled() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "tunnel ended");
    }
    drop(visit);
}
