//! The fake GitHub by itself: `cargo run -p tests --bin fakehub [ADDRESS]`. A repository, people, and a few pull requests; its
//! page is printed.

use fakehub::{Hub, Opening};
use tokio::net::TcpListener;

// By itself it does a part of what tests ask of it.
#[allow(dead_code, unused_imports, clippy::unwrap_used)]
#[path = "../fakehub/mod.rs"]
mod fakehub;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8095".to_owned());
    let folder = tempfile::tempdir()?;
    let hub = Hub::serve(TcpListener::bind(&address).await?, folder.path());
    hub.repository("acme/guestbook", sidestage::demo::repository::SAMPLE).await;
    hub.grant("acme/guestbook", "ada", "admin");
    hub.grant("acme/guestbook", "grace", "write");
    hub.fork("acme/guestbook", "mallory/guestbook").await;
    hub.push("acme/guestbook", "greeting", "grace", "Another greeting", &[("greeting.txt", "Hello\n")]).await;
    hub.push("mallory/guestbook", "patch-1", "mallory", "Fix a typo", &[("README.md", "A guestbook\n")]).await;
    let own = Opening {
        on: "acme/guestbook",
        by: "grace",
        from: "acme/guestbook",
        branch: "greeting",
        title: "Another greeting",
        draft: false,
    };
    hub.open(own).await;
    hub.open(Opening { by: "mallory", from: "mallory/guestbook", branch: "patch-1", title: "Fix a typo", ..own }).await;
    println!("{}/acme/guestbook", hub.url());
    tokio::signal::ctrl_c().await?;
    hub.take_problems().iter().for_each(|problem| eprintln!("{problem}"));
    Ok(())
}
