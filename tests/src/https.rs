//! A whole Sidestage whose edges end TLS: what visitors, applications, containers and browsers make of it.

use std::net::SocketAddr;

use planner::identity::Sha;
use planner::view::State;

use crate::browser::Browser;
use crate::kit;
use crate::proxy::stage::request;
use crate::proxy::tls::{fetch, trusting};
use crate::stage::Stage;

/// Prints its variables and headers at `/cgi-bin/env`, and a page of the container's own making at `/`.
const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nbusybox env\n";
const PAGE: &str = "<!doctype html><title>page</title><h1>hello</h1>\n";

/// An application of this page and that script, with TLS by a local authority; ready.
async fn ready(tag: &str) -> (Stage, Sha, String) {
    let dockerfile = format!(
        "FROM {tag}\nCOPY env /www/cgi-bin/env\nCOPY index.html /www/index.html\n\
         RUN [\"busybox\", \"chmod\", \"755\", \"/www/cgi-bin/env\"]\n\
         CMD [\"busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n"
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("env", CGI), ("index.html", PAGE)];
    let stage = Stage::secure(&files, "stage = \"automatic\"\n").await;
    let sha = stage.repository.push("refs/heads/main", "refs/heads/feature", "Something", &[]).await.unwrap();
    stage.look().await;
    let commit = stage.reaches(&sha, &[State::Ready, State::Failed]).await;
    assert_eq!(commit.state, State::Ready, "{:?}", commit.reason);
    (stage, sha, commit.url)
}

/// The value of a variable in what `env` printed.
fn value<'a>(printed: &'a str, name: &str) -> &'a str {
    let found = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} is not in {printed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_variables_and_both_edges_are_https_and_the_object_store_is_in_clear() {
    let image = kit::busybox_image();
    let (stage, sha, url) = ready(&image.tag).await;
    let config = stage.instance().config().clone();
    let (http, https) = (config.listen.http, config.https().unwrap());
    let host = format!("{sha}.staging.test");
    assert_eq!(url, format!("https://{host}:{}", https.port()));
    let client = trusting(stage.instance().authority().expect("where people find what to trust"));

    let printed = fetch(https, &host, &client, request("GET", &host, "/cgi-bin/env", &[])).await.text();
    assert_eq!(value(&printed, "STAGING_URL"), url);
    assert_eq!(value(&printed, "HTTP_X_FORWARDED_PROTO"), "https");
    let endpoint = value(&printed, "AWS_ENDPOINT_URL_S3");
    assert_eq!(endpoint, format!("http://staging.test:{}", http.port()), "no SDK trusts a local authority");
    let bucket = value(&printed, "S3_BUCKET");

    // Visitors in clear are sent on; the store answers on both ports, and refuses who is not signed.
    let moved = stage.get(&format!("http://{host}:{}/x?y", http.port())).await;
    assert_eq!((moved.status.as_u16(), moved.location), (301, Some(format!("{url}/x?y"))));
    let store = stage.get(&format!("{endpoint}/{bucket}/key")).await;
    assert!(store.status.as_u16() == 403 && store.body.contains("AccessDenied"), "{} {}", store.status, store.body);

    // From inside: the store in clear, as the application was told; its own host and the store by https.
    let container = format!("sst-{}-1-web", bucket.strip_prefix("s3-").unwrap());
    let clear = docker(&["exec", &container, "busybox", "wget", "-S", "-O", "-", &format!("{endpoint}/{bucket}/key")]);
    assert!(clear.contains("403"), "{clear}");
    let services = services(&container);
    let inside = Inside { container: &container, to: SocketAddr::new(services, https.port()), stage: &stage };
    assert!(inside.get(&host, "/").contains("hello"));
    assert!(inside.get("staging.test", &format!("/{bucket}/key")).contains("AccessDenied"));
    let seen = fetch(inside.to, &host, &client, request("GET", &host, "/", &[])).await;
    assert_eq!(seen.status, 404, "the same certificate inside, and nothing for those who are no environment");
    stage.close().await;
}

fn docker(arguments: &[&str]) -> String {
    let out = std::process::Command::new("docker").args(arguments).output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

/// The service address, from a container's hosts file.
fn services(container: &str) -> std::net::IpAddr {
    let hosts = docker(&["exec", container, "cat", "/etc/hosts"]);
    let line = hosts.lines().find(|line| line.contains("data.internal")).unwrap_or_else(|| panic!("{hosts}"));
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A client of another make in the network of a container.
struct Inside<'a> {
    container: &'a str,
    to: SocketAddr,
    stage: &'a Stage,
}

impl Inside<'_> {
    /// GET by https, the authority trusted.
    fn get(&self, host: &str, path: &str) -> String {
        const CLIENT: &str = "\
import socket, ssl, sys
authority, address, port, host, path = sys.argv[1:]
trusting = ssl.create_default_context(cafile=authority)
with trusting.wrap_socket(socket.create_connection((address, int(port))), server_hostname=host) as stream:
    stream.sendall(f'GET {path} HTTP/1.0\\r\\nHost: {host}:{port}\\r\\n\\r\\n'.encode())
    print(stream.makefile().read())
";
        let process = docker(&["inspect", "--format", "{{.State.Pid}}", self.container]);
        let authority = self.stage.instance().authority().unwrap();
        let out = std::process::Command::new("nsenter")
            .args([&format!("--net=/proc/{}/ns/net", process.trim()), "python3", "-c", CLIENT])
            .arg(authority)
            .args([&self.to.ip().to_string(), &self.to.port().to_string(), host, path])
            .output()
            .unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    }
}

/// A direct upload begins so: a script of a page that came by https asks the endpoint that the application was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reaches_the_object_store_from_a_page_by_https() {
    let image = kit::busybox_image();
    let (stage, sha, url) = ready(&image.tag).await;
    let http = stage.instance().config().listen.http.port();
    let https = stage.instance().config().https().unwrap();
    let client = trusting(stage.instance().authority().unwrap());
    let host = format!("{sha}.staging.test");
    let printed = fetch(https, &host, &client, request("GET", &host, "/cgi-bin/env", &[])).await.text();
    let bucket = value(&printed, "S3_BUCKET").to_owned();

    let browser = Browser::start(true).await;
    let key = format!("http://{bucket}.staging.test:{http}/key");
    let script = format!(
        "return fetch('{key}', {{method: 'PUT', body: 'x'}}).then(answer => answer.status, error => String(error))"
    );
    browser.client.goto(&url).await.unwrap();
    assert_eq!(browser.run(&script).await, 403, "refused for want of a signature, and by nothing else");
    // What is no page is not told to upgrade: then the browser keeps the request to itself.
    browser.client.goto(&format!("{url}/cgi-bin/env")).await.unwrap();
    assert_eq!(browser.run(&script).await, "TypeError: Failed to fetch");
    browser.stop().await;
    stage.close().await;
}
