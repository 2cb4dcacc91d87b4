//! Real git behind the fake GitHub: bare repositories, commits without a checkout, and `git http-backend` over HTTP.

use std::path::Path;
use std::process::Stdio;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Files of a commit: path and content. An empty content deletes.
pub type Files<'a> = &'a [(&'a str, &'a str)];

/// Git in a folder, as a person whom no configuration of this machine reaches.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@example.org")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@example.org")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    git
}

async fn fed(mut command: Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.spawn().expect("no git: install the package git");
    let mut stdin = child.stdin.take().expect("it is piped");
    let write = async {
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.expect("git ends");
    assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn run(folder: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&fed(command(folder, arguments), b"").await).trim().to_owned()
}

/// A bare repository that hands out any commit by its sha, as GitHub does.
pub async fn init(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    run(folder, &["init", "--quiet", "--bare", "--initial-branch=main", "."]).await;
    for (key, value) in
        [("uploadpack.allowAnySHA1InWant", "true"), ("uploadpack.allowFilter", "true"), ("gc.auto", "0")]
    {
        run(folder, &["config", key, value]).await;
    }
}

/// Commits files on top of a commit, if one is given, without moving any ref.
pub async fn commit(git: &Path, parent: Option<&str>, message: &str, files: Files<'_>) -> String {
    let index = tempfile::NamedTempFile::new().expect("a temporary file");
    let index = index.into_temp_path();
    std::fs::remove_file(&index).expect("git makes it");
    let with = |arguments: &[&str]| {
        let mut git = command(git, arguments);
        git.env("GIT_INDEX_FILE", &index);
        git
    };
    if let Some(parent) = parent {
        fed(with(&["read-tree", parent]), b"").await;
    }
    let mut entries = String::new();
    for (path, content) in files {
        let blob = fed(command(git, &["hash-object", "-w", "--stdin"]), content.as_bytes()).await;
        let blob = String::from_utf8_lossy(&blob);
        let mode = if content.starts_with("#!") { "100755" } else { "100644" };
        let mode = if content.is_empty() { "0" } else { mode };
        entries.push_str(&format!("{mode} {}\t{path}\n", blob.trim()));
    }
    fed(with(&["update-index", "--add", "--index-info"]), entries.as_bytes()).await;
    let tree = String::from_utf8_lossy(&fed(with(&["write-tree"]), b"").await).trim().to_owned();
    let mut words = vec!["commit-tree", &tree, "-m", message];
    words.extend(parent.iter().flat_map(|parent| ["-p", parent]));
    run(git, &words).await
}

/// Points a ref somewhere.
pub async fn point(git: &Path, name: &str, sha: &str) {
    run(git, &["update-ref", name, sha]).await;
}

/// What a ref points to.
pub async fn resolve(git: &Path, name: &str) -> Option<String> {
    let output =
        command(git, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")]).output();
    let output = output.await.expect("git runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// All refs with what they point to; a tag's commit, not its object.
pub async fn refs(git: &Path) -> Vec<(String, String)> {
    let listed = run(git, &["for-each-ref", "--format=%(refname) %(objectname) %(*objectname)"]).await;
    let lines = listed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .filter_map(|words| match words[..] {
            [name, sha, ""] | [name, _, sha] => Some((name.to_owned(), sha.to_owned())),
            [name, sha] => Some((name.to_owned(), sha.to_owned())),
            _ => None,
        })
        .collect()
}

/// Fetches a commit from another repository into a ref.
pub async fn take(git: &Path, from: &Path, sha: &str, name: &str) {
    let from = from.to_string_lossy();
    run(git, &["-c", "protocol.file.allow=always", "fetch", "--quiet", &from, &format!("+{sha}:{name}")]).await;
}

/// Names of files that differ between two commits' common ancestor and the second.
pub async fn changed(git: &Path, base: &str, head: &str) -> Vec<String> {
    let names = run(git, &["diff", "--name-only", &format!("{base}...{head}")]).await;
    names.lines().map(str::to_owned).collect()
}

/// How many commits the second is ahead of the first, and behind it.
pub async fn distance(git: &Path, base: &str, head: &str) -> (u64, u64) {
    let counts = run(git, &["rev-list", "--left-right", "--count", &format!("{base}...{head}")]).await;
    let mut counts = counts.split_whitespace().filter_map(|count| count.parse().ok());
    let behind = counts.next().unwrap_or(0);
    (counts.next().unwrap_or(0), behind)
}

/// First line of a commit's message.
pub async fn subject(git: &Path, sha: &str) -> String {
    run(git, &["show", "--no-patch", "--format=%s", sha]).await
}

/// Answers a request of git's smart HTTP. `inside`: the path in the folder, `/7.git/info/refs`.
pub async fn serve(
    folder: &Path,
    method: &str,
    inside: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut backend = command(folder, &["http-backend"]);
    backend
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", inside)
        .env("REQUEST_METHOD", method)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"));
    let said = fed(backend, &body).await;
    let end = said.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(said.len());
    let (head, body) =
        (String::from_utf8_lossy(&said[..end]).into_owned(), said.get(end + 4..).unwrap_or_default().to_vec());
    let mut response = Response::builder().status(StatusCode::OK);
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        response = match name {
            "Status" => response.status(value.get(..3).unwrap_or("500")),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(body)).expect("git's headers are headers")
}
