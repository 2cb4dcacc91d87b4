//! The fake GitHub by itself: a repository, people, and two pull requests; its page is printed. With `--sidestage` it is what
//! `cargo xtask demo -- --github` shows.

use std::net::SocketAddr;
use std::time::Instant;

use clap::Parser;
use fakehub::Hub;
use hub_demo::{GUESTBOOK, Sidestage, Story};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

// By itself it does a part of what tests ask of it.
#[allow(dead_code, unused_imports, clippy::unwrap_used)]
#[path = "../fakehub/mod.rs"]
mod fakehub;
#[allow(dead_code)]
#[path = "../hub_demo/mod.rs"]
mod hub_demo;

#[derive(Parser)]
struct Options {
    /// Where it listens
    #[arg(default_value = "127.0.0.1:8095")]
    address: SocketAddr,
    /// The first port of a `sidestage demo --github`, which is connected as an operator would
    #[arg(long)]
    sidestage: Option<u16>,
    /// Tell a fixed story without a person, and exit: 0 if every check passed
    #[arg(long, requires = "sidestage")]
    story: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::tempdir()?;
    let hub = Hub::serve(TcpListener::bind(options.address).await?, folder.path());
    hub_demo::people(&hub).await;
    let shown = tokio::select! {
        shown = show(&hub, &options) => shown,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    hub.take_problems().iter().for_each(|problem| eprintln!("{problem}"));
    shown
}

async fn tell(mut story: Story<'_>) -> anyhow::Result<()> {
    story.connect().await?;
    let begun = Instant::now();
    story.own().await?;
    let seconds = begun.elapsed().as_secs_f64();
    story.foreign().await?;
    let leaks = story.goodbye().await?;
    println!("story passed: {} checks, first environment ready in {seconds:.1} s, leaks {leaks}", story.checks());
    Ok(())
}

async fn show(hub: &Hub, options: &Options) -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name("sidestage");
    let sidestage = options.sidestage.map(|port| Sidestage { program, port });
    match &sidestage {
        Some(sidestage) if options.story => return tell(Story::new(hub, sidestage)).await,
        Some(sidestage) => hub_demo::connect(sidestage).await?,
        None => {}
    }
    hub_demo::open_own(hub).await;
    hub_demo::open_foreign(hub).await;
    println!("GitHub:       {}/{GUESTBOOK} (comment as grace or ada, press what there is to press)", hub.url());
    std::future::pending().await
}
