//! The managed server's life: taken up again, restarted, stopped and back, and clear words when it cannot be.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use drivers::postgres::{Server, ServerError, ServerSettings};
use drivers::{Driver, Listing, Log, Scope};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use planner::resource::{Failure, Phase};

use super::{connect, ensure, instance, login, resource, shared};

#[tokio::test]
async fn survives_its_handle_and_comes_back_after_a_stop() {
    let settings = shared::settings("life");
    let server = Server::start(settings.clone()).await.unwrap();
    let pid = server.pid().unwrap();
    let (driver, key) = instance(&server, 1);
    let one = resource(&key, 1, 1);
    ensure(&driver, &one).await;

    // Sidestage dies without a word and starts again.
    drop(server);
    let server = Server::start(settings.clone()).await.unwrap();
    assert_eq!(server.pid(), Some(pid), "a running server is taken up, not restarted");
    assert!(!server.revive().await.unwrap());

    // The server is stopped: everything fails for the moment, in one line.
    server.stop().await;
    assert_eq!(server.pid(), None);
    let two = resource(&key, 2, 1);
    let failures = [
        driver.inventory(&Scope::All).await.unwrap_err(),
        driver.ensure(&two, &Listing::new(), &Log::none()).await.unwrap_err(),
        driver.remove(&one.id).await.unwrap_err(),
    ];
    for failure in failures {
        let Failure::Transient { text } = &failure else { panic!("{failure:?}") };
        assert!(text.contains("PostgreSQL does not answer") && !text.contains('\n'), "{text}");
    }

    // And comes back: the same driver goes on.
    assert!(server.revive().await.unwrap());
    assert_eq!(driver.inventory(&Scope::All).await.unwrap().keys().collect::<Vec<_>>(), [&one.id]);
    ensure(&driver, &two).await;

    // Other settings reach it by a restart.
    let pid = server.pid().unwrap();
    let server = Server::start(ServerSettings { max_connections: 50, ..settings.clone() }).await.unwrap();
    assert_ne!(server.pid(), Some(pid));
    let (name, password) = login(&key, &one);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    let shown: String = sqlx::query_scalar("SHOW max_connections").fetch_one(&mut inside).await.unwrap();
    assert_eq!(shown, "66", "those of environments, and Sidestage's own");
    drop(inside);

    server.destroy().await.unwrap();
    assert!(!settings.home.exists());
}

#[tokio::test]
async fn is_started_again_when_it_has_died() {
    let settings = shared::settings("death");
    let server = std::sync::Arc::new(Server::start(settings).await.unwrap());
    let keeper = tokio::spawn({
        let server = server.clone();
        async move { server.keep().await }
    });
    let (driver, key) = instance(&server, 1);
    let one = resource(&key, 1, 1);
    ensure(&driver, &one).await;
    let first = server.pid().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let since = Instant::now();
    // Both that it is another process, and that the data is still there.
    while server.pid().is_none_or(|pid| pid == first) || driver.inventory(&Scope::All).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "the server was not started again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let listing = driver.inventory(&Scope::All).await.unwrap();
    let seen = listing.get(&one.id).map(|seen| seen.phase);
    assert_eq!(seen, Some(Phase::Whole), "what was said to be there waited for the disk");
    let (name, password) = login(&key, &one);
    let mut inside = connect(&server, &name, &password, &name).await.unwrap();
    let shown: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut inside).await.unwrap();
    assert_eq!(shown, "off", "an environment's commits wait for nobody");
    keeper.abort();
    server.destroy().await.unwrap();
}

async fn refused(settings: ServerSettings) -> (ServerError, String) {
    let error = Server::start(settings).await.map(|server| server.pid()).expect_err("it started");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    (error, text)
}

#[tokio::test]
async fn says_what_is_missing_or_in_the_way() {
    let settings = shared::settings("refused");
    let home = settings.home.clone();

    let empty = tempfile::tempdir().unwrap();
    let (error, text) = refused(ServerSettings { bin_dir: Some(empty.path().into()), ..settings.clone() }).await;
    assert!(matches!(error, ServerError::NotInstalled { .. }), "{text}");
    assert!(text.contains(empty.path().to_str().unwrap()) && text.contains("apt-get install postgresql"), "{text}");

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port)).unwrap();
    let (error, text) = refused(settings.clone()).await;
    assert!(matches!(error, ServerError::PortTaken { .. }), "{text}");
    assert!(text.contains(&format!("(pid {})", std::process::id())), "names the holder: {text}");
    drop(taken);

    let nowhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let (error, text) = refused(ServerSettings { address: nowhere, ..settings.clone() }).await;
    assert!(matches!(error, ServerError::NoAddress { .. }), "{text}");

    let version = home.join("data/PG_VERSION");
    let made_by = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "9\n").unwrap();
    let (error, text) = refused(settings.clone()).await;
    assert!(matches!(error, ServerError::OtherMajor { data: 9, .. }), "{text}");
    assert!(text.contains("postgresql-9"), "{text}");
    std::fs::write(&version, made_by).unwrap();

    let long = home.join("a".repeat(100));
    let (error, text) = refused(ServerSettings { home: long, ..settings.clone() }).await;
    assert!(matches!(error, ServerError::TooLong { .. }), "{text}");

    if nix::unistd::geteuid().is_root() {
        let closed = tempfile::tempdir().unwrap();
        std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let (error, text) = refused(ServerSettings { home: closed.path().join("pg"), ..settings.clone() }).await;
        assert!(matches!(error, ServerError::Closed { .. }), "{text}");

        let (error, text) = refused(ServerSettings { user: "nobody-of-that-name".into(), ..settings.clone() }).await;
        assert!(matches!(error, ServerError::NoAccount { .. }), "{text}");
    }

    // A configuration that the server itself refuses: its own words reach us.
    let (error, text) = refused(ServerSettings { max_connections: 3_000_000, ..settings.clone() }).await;
    assert!(matches!(error, ServerError::Failed { program: "postgres", .. }), "{text}");

    let server = Server::start(settings).await.unwrap();
    server.destroy().await.unwrap();
    assert!(!home.exists());
}
