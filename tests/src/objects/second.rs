//! A second S3 server, which is not ours, to stand behind the store: moto, from Python's registry.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use drivers::objects::{Settings, Upstream};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::clients::{home, install};

const MOTO: &str = "moto[server]==5.2.5";

/// A server until it is dropped, or until the process ends: then its standard input does.
pub(super) struct Server {
    pub(super) port: u16,
    _child: Child,
}

impl Server {
    pub(super) async fn start(arguments: &[&str]) -> Server {
        let python = install(MOTO).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/objects/second.py");
        let mut command = Command::new(&python.program);
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("PYTHONPATH", &python.path).env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the server's port");
        Server { port: line.strip_prefix("port ").unwrap().parse().unwrap(), _child: child }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The one that all tests share, and a file with credentials for it, which believes anybody.
async fn shared() -> &'static (Server, PathBuf) {
    static ONCE: OnceCell<(Server, PathBuf)> = OnceCell::const_new();
    let start = async || {
        let server = Server::start(&[]).await;
        let (file, new) = (home("credentials"), home(&format!("credentials.{}", std::process::id())));
        credentials(&new, "anybody", "whatever");
        std::fs::rename(new, &file).unwrap();
        (server, file)
    };
    ONCE.get_or_init(start).await
}

pub(super) async fn port() -> u16 {
    shared().await.0.port
}

/// A file with these credentials.
pub(crate) fn credentials(file: &Path, id: &str, secret: &str) {
    std::fs::write(file, format!("access_key_id = {id}\nsecret_access_key = {secret}\n")).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn client(endpoint: &str, id: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .endpoint_url(endpoint)
        .force_path_style(true);
    Client::from_conf(config.build())
}

/// A client of the server itself, past the store.
pub(super) fn straight(upstream: &Upstream) -> Client {
    client(upstream.endpoint.as_deref().unwrap(), "anybody", "whatever")
}

/// An empty bucket of the shared server.
pub(super) async fn upstream() -> Upstream {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let (server, file) = shared().await;
    let bucket = format!("theirs-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let upstream = Upstream {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        bucket: bucket.clone(),
        credentials_file: file.clone(),
    };
    straight(&upstream).create_bucket().bucket(bucket).send().await.unwrap();
    upstream
}

/// A store whose blobs live in an empty bucket.
pub(super) async fn settings() -> Settings {
    Settings { upstream: Some(upstream().await), ..Settings::default() }
}

/// Everything that the bucket holds, by name, with its size.
pub(super) async fn objects(upstream: &Upstream) -> Vec<(String, u64)> {
    let (client, mut found, mut token) = (straight(upstream), Vec::new(), None);
    loop {
        let list = client.list_objects_v2().bucket(&upstream.bucket).set_continuation_token(token);
        let page = list.send().await.unwrap();
        found.extend(
            page.contents()
                .iter()
                .map(|object| (object.key().unwrap().to_owned(), object.size().unwrap_or_default().unsigned_abs())),
        );
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            return found;
        }
    }
}

/// Uploads that nobody has completed.
pub(super) async fn uploads(upstream: &Upstream) -> Vec<String> {
    let page = straight(upstream).list_multipart_uploads().bucket(&upstream.bucket).send().await.unwrap();
    page.uploads().iter().map(|upload| upload.key().unwrap().to_owned()).collect()
}

/// Makes a bucket and users of these policies; their keys.
pub(super) async fn users(given: &str) -> Vec<(String, String)> {
    let python = install(MOTO).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/objects/users.py");
    let mut command = Command::new(&python.program);
    command.arg(script).arg(given).env("PYTHONPATH", &python.path).env("PYTHONDONTWRITEBYTECODE", "1");
    let keys = super::clients::succeeds(&mut command).await.unwrap();
    serde_json::from_str(&keys).unwrap()
}
