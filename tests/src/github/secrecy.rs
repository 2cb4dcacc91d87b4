//! Tokens: lent to git in a file for one fetch, and never where anybody else could read them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use data_encoding::BASE64;
use drivers::Forge;
use drivers::github::{Access, GitHub, Hidden, Settings};
use serde_json::json;

use super::{INSTANCE, SHOP, watched};

const CANARY: &str = "ghs_canary0123456789ABCDEF";

/// What a server saw while git talked to it.
#[derive(Default)]
struct Seen {
    lent: bool,
    leaks: Vec<String>,
    files: Vec<(PathBuf, u32)>,
}

type Shared = Arc<(Mutex<Seen>, PathBuf)>;

fn marks() -> [String; 2] {
    [CANARY.to_owned(), BASE64.encode(format!("x-access-token:{CANARY}").as_bytes())]
}

fn holds(bytes: &[u8]) -> bool {
    marks().iter().any(|mark| bytes.windows(mark.len()).any(|part| part == mark.as_bytes()))
}

/// Files below a folder that hold the token, with their modes.
fn files(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if std::fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
            found.push((path.clone(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777));
        }
    }
    found
}

/// Command lines and environments of all processes that show the token.
fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let path = process.path().join(file);
            if std::fs::read(&path).is_ok_and(|bytes| holds(&bytes)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

async fn answer(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    if uri.path() == "/api/v3/repos/acme/shop" {
        let body = json!({ "id": 7, "node_id": "R_7", "name": "shop", "owner": { "login": "acme" }, "private": true });
        return (StatusCode::OK, body.to_string());
    }
    let mut seen = shared.0.lock().unwrap();
    let [_, encoded] = marks();
    seen.lent |= headers.get("authorization").is_some_and(|value| *value == format!("Basic {encoded}"));
    seen.leaks.extend(processes());
    seen.leaks.extend(uri.to_string().contains(CANARY).then(|| uri.to_string()));
    seen.files.extend(files(&shared.1));
    // Elsewhere the token must not follow.
    (StatusCode::FORBIDDEN, "no".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_lent_to_git_and_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let shared: Shared = Arc::new((Mutex::default(), folder.path().to_owned()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(shared.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let access = Access::Token(Hidden(CANARY.to_owned()));
    let settings = Settings { url, access, webhook_secrets: Vec::new(), instance: INSTANCE.to_owned() };
    assert!(!format!("{settings:?}").contains(CANARY));
    let forge = GitHub::new(settings).unwrap().forge(watched("shop", SHOP, folder.path()));
    assert!(!format!("{forge:?}").contains(CANARY));
    let sha = "6dcb09b5b57875f334f61aebed695e2e4193db5e".parse().unwrap();
    let failure = forge.read(&sha).await.unwrap_err().to_string();
    server.abort();
    let seen = shared.0.lock().unwrap();
    assert!(seen.lent, "git was not let in by the token: {failure}");
    assert_eq!(seen.leaks, Vec::<String>::new());
    let modes: BTreeSet<u32> = seen.files.iter().map(|(_, mode)| *mode).collect();
    assert_eq!(modes, [0o600].into(), "{:?}", seen.files);
    assert_eq!(files(folder.path()), [], "the file is gone with the fetch");
    assert!(!holds(failure.as_bytes()), "{failure}");
}
