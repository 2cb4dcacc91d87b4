//! Environments on a PostgreSQL of the operator's: through the pass-through, encrypted as the URL says, and from containers.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use drivers::Driver;
use drivers::postgres::Upstream;
use planner::spec::DatabaseFrom;
use planner::view::State;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::baselines::{beginning_with, template};
use super::clones::small;
use super::upstream::{PASSWORD, Theirs};
use super::{ensure, login, resource, sql};
use crate::kit;
use crate::stage::{Stage, workshop};

/// The pass-through on a port of its own, for so many connections.
async fn passed(upstream: Upstream, most: usize) -> (u16, CancellationToken) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
    let (upstream, token) = (Arc::new(upstream), stop.clone());
    tokio::spawn(async move { upstream.serve(listener, most, token).await });
    (port, stop)
}

async fn through(port: u16, user: &str, password: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
    options.username(user).password(password).database(database).connect().await
}

/// As soon as whoever went before has given the place back.
async fn let_in(port: u16, user: &str, password: &str) -> PgConnection {
    let begun = Instant::now();
    loop {
        match through(port, user, password, user).await {
            Ok(inside) => return inside,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "a place is not given back: {error}"),
        }
    }
}

fn refused_with(result: Result<PgConnection, sqlx::Error>) -> String {
    let error = result.map(drop).expect_err("it is let through");
    error.as_database_error().unwrap_or_else(|| panic!("{error}")).code().unwrap().into_owned()
}

#[tokio::test]
async fn the_pass_through_knows_environments_bounds_them_and_ends_with_them() {
    let mut theirs = Theirs::granted("upstream-passed", None).await;
    sql(&mut theirs.boss, "ALTER ROLE somebody LOGIN PASSWORD 'guessed'").await.unwrap();
    let (upstream, driver, key) = theirs.instance(1).await;
    let (one, two) = (resource(&key, 1, 1), resource(&key, 2, 1));
    ensure(&driver, &one).await;
    ensure(&driver, &two).await;
    let (port, stop) = passed(upstream, 2).await;
    let ((me, password), (other, _)) = (login(&key, &one), login(&key, &two));

    let mut first = through(port, &me, &password, &me).await.unwrap();
    let answer: String = sqlx::query_scalar("SELECT repeat('x', 3000000)").fetch_one(&mut first).await.unwrap();
    assert_eq!(answer.len(), 3_000_000);
    // With the right passwords: they are nobody's business here.
    for (user, password, database) in [
        ("somebody", "guessed", "theirs"),
        ("keeper", PASSWORD, "postgres"),
        (&me, &password, &other),
        (&me, &password, "theirs"),
    ] {
        assert_eq!(refused_with(through(port, user, password, database).await), "28000", "{user} {database}");
    }
    assert_eq!(refused_with(through(port, &me, "wrong", &me).await), "28P01", "the server itself looks at passwords");

    let second = let_in(port, &me, &password).await;
    assert_eq!(refused_with(through(port, &me, &password, &me).await), "53300");
    second.close().await.unwrap();
    let_in(port, &me, &password).await.close().await.unwrap();

    // The environment's end ends its sessions; the server's end is told; nobody is served after ours.
    driver.remove(&one.id).await.unwrap();
    first.ping().await.expect_err("its session has ended");
    driver.clear().await.unwrap();
    theirs.server.stop().await;
    assert_eq!(refused_with(through(port, &me, &password, &me).await), "57P03");
    stop.cancel();
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
    }
    theirs.server.destroy().await.unwrap();
}

/// An authority, and a certificate of its for `localhost` beside the server's data.
fn certify(theirs: &Theirs, authority: &str) -> PathBuf {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = theirs.server.settings().home.join("data").join(authority);
    std::fs::write(&root, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    // Of another name than its authority, or OpenSSL takes it for one that has signed itself.
    params.distinguished_name.push(DnType::CommonName, "localhost");
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (name, content) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let path = theirs.server.settings().home.join("data").join(name);
        std::fs::write(&path, content).unwrap();
        assert!(Command::new("chown").arg("postgres").arg(&path).status().unwrap().success());
        assert!(Command::new("chmod").arg("0600").arg(&path).status().unwrap().success());
    }
    root
}

#[tokio::test]
async fn encrypted_and_verified_as_the_url_says_for_us_for_psql_and_for_environments() {
    let mut theirs = Theirs::granted("upstream-tls", None).await;
    let root = certify(&theirs, "root.pem");
    sql(&mut theirs.boss, "ALTER SYSTEM SET ssl = on").await.unwrap();
    theirs.rules("local all sidestage peer map=own\nhostssl all all all scram-sha-256\n").await;
    let (root, other) = (root.display(), "/etc/ssl/certs/ca-certificates.crt");
    for (host, parameters, why) in [
        ("localhost", "?sslmode=disable".to_owned(), "no encryption"),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={other}"), "UnknownIssuer"),
        ("127.0.0.1", format!("?sslmode=verify-full&sslrootcert={root}"), "not valid for name"),
        ("localhost", "?sslmode=verify-full&sslrootcert=/no/such/file".to_owned(), "/no/such/file"),
    ] {
        let text = theirs.refusal(theirs.url(host, &parameters)).await;
        assert!(text.contains(why), "{parameters}: {text}");
    }
    for (byte, host, parameters) in [
        (1, "127.0.0.1", "?sslmode=require".to_owned()),
        (2, "127.0.0.1", format!("?sslmode=verify-ca&sslrootcert={root}")),
        (3, "localhost", format!("?sslmode=verify-full&sslrootcert={root}")),
    ] {
        let (upstream, driver, key) =
            theirs.open(theirs.url(host, &parameters), byte).await.unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().unwrap();
        ensure(&driver, &template("shop@1", DatabaseFrom::File(small(&folder)))).await;
        let one = beginning_with(&key, 1, "shop@1");
        ensure(&driver, &one).await;
        let (port, stop) = passed(upstream, 10).await;
        let (me, password) = login(&key, &one);
        let mut inside = through(port, &me, &password, &me).await.unwrap();
        let encrypted: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(&mut inside)
            .await
            .unwrap();
        assert!(encrypted, "{parameters}");
        driver.clear().await.unwrap();
        if byte == 3 {
            // Somebody else answers in its place.
            certify(&theirs, "other.pem");
            theirs.reload().await;
            assert_eq!(refused_with(through(port, &me, &password, &me).await), "57P03", "{parameters}");
        }
        stop.cancel();
    }
    theirs.server.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_sidestage_uses_it_and_its_containers_reach_it() {
    let mut theirs = Theirs::granted("upstream-whole", None).await;
    let before = theirs.all().await;
    let image = kit::busybox_image();
    let dockerfile =
        format!("FROM {}\nCMD [\"busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/etc\"]\n", image.tag);
    let files = [("Dockerfile", dockerfile.as_str()), (".sidestage.toml", "[database]\nbaseline = \"default\"\n")];
    let (folder, repository, mut config) = workshop(&files, "", "stage = \"automatic\"\n").await;
    let secret = folder.path().join("password");
    std::fs::write(&secret, format!("{PASSWORD}\n")).unwrap();
    assert!(Command::new("chmod").arg("0600").arg(&secret).status().unwrap().success());
    config.database.durable = None;
    config.database.url = Some(theirs.url("127.0.0.1", ""));
    config.database.password_file = Some(secret);
    let mut stage = Stage::begin(folder, repository, config).await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/one", "one", &[]).await.unwrap();
    stage.look().await;
    stage.reaches(&sha, &[State::Ready]).await;

    let told = from_inside(&sha.to_string(), "SELECT current_database() = current_user");
    assert_eq!(told, Ok("t\n".to_owned()));
    // A restart of Sidestage loses nothing, and serves again.
    let config = stage.stop().await;
    from_inside(&sha.to_string(), "SELECT 1").expect_err("nobody passes it on");
    stage.start(config).await;
    assert_eq!(stage.reaches(&sha, &[State::Ready]).await.generation, 1);
    assert_eq!(from_inside(&sha.to_string(), "SELECT 2"), Ok("2\n".to_owned()));

    stage.close().await;
    assert_eq!(theirs.all().await, before, "all of ours is gone, and nothing else");
    theirs.server.destroy().await.unwrap();
}

/// What `psql` says in the network of the commit's web process, with the variables and the hosts file of its container.
fn from_inside(sha: &str, sql: &str) -> Result<String, String> {
    let output = |program: &str, words: &[&str]| {
        let ran = Command::new(program).args(words).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let label = format!("label=sidestage.sha={sha}");
    let id = output("docker", &["ps", "-q", "--filter", &label, "--filter", "label=sidestage.kind=container"]);
    let id = id.trim();
    let pid = output("docker", &["inspect", "--format", "{{.State.Pid}}", id]);
    let variables = output("docker", &["exec", id, "env"]);
    let url = variables.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")).expect("it has a database");
    let hosts = output("docker", &["exec", id, "cat", "/etc/hosts"]);
    let address = hosts.lines().find(|line| line.contains("data.internal")).expect("it knows the name");
    let address = address.split_whitespace().next().unwrap();
    let ran = Command::new("nsenter")
        .args([&format!("--net=/proc/{}/ns/net", pid.trim()), "psql", "--no-psqlrc", "-Atc", sql, url])
        .env("PGHOSTADDR", address)
        .env("PGCONNECT_TIMEOUT", "20")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if ran.status.success() { Ok(text(ran.stdout)) } else { Err(text(ran.stderr)) }
}
