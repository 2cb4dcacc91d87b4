//! A registry of the test's own on loopback, with an account, and a server that answers as broken registries do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use sha2::Digest;
use tempfile::TempDir;

pub(super) const USER: &str = "ci";
pub(super) const PASSWORD: &str = "pass-of-the-test-1f0c";

/// Debian's `docker-registry`, which wants a login. Gone with the value.
pub(super) struct Registry {
    process: Child,
    pub(super) folder: TempDir,
    /// `127.0.0.1:<port>`.
    pub(super) host: String,
}

impl Registry {
    pub(super) fn start() -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let hashed = Command::new("htpasswd").args(["-nbB", USER, PASSWORD]).output();
        std::fs::write(at("htpasswd"), hashed.expect("install apache2-utils").stdout).unwrap();
        let config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n\
             auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            at("store").display(),
            at("htpasswd").display()
        );
        std::fs::write(at("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("install docker-registry");
        let mut told = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let sign = "listening on ";
        let line = told.find(|line| line.contains(sign)).expect("the registry does not start");
        let host: String = line.split(sign).nth(1).unwrap().chars().take_while(|c| !"\" ,".contains(*c)).collect();
        std::thread::spawn(move || told.for_each(drop));
        let auth = format!("{USER}:{PASSWORD}");
        let auth = data_encoding::BASE64.encode(auth.as_bytes());
        let login = serde_json::json!({ "auths": { &host: { "auth": auth } } });
        std::fs::write(folder.path().join("config.json"), login.to_string()).unwrap();
        secret(&folder.path().join("password"), &format!("{PASSWORD}\n"));
        Registry { process, folder, host }
    }

    /// The account, as the operator names it.
    pub(super) fn account(&self) -> drivers::docker::Registry {
        let password_file = self.folder.path().join("password");
        drivers::docker::Registry { host: self.host.clone(), user: USER.to_owned(), password_file }
    }

    /// Pushes an image with one file and these labels, for this architecture; nothing of it stays on the engine.
    pub(super) fn push(&self, name: &str, labels: &serde_json::Value, architecture: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        let layer = tar_of(&[("name", name.as_bytes())]);
        let digest: String = sha2::Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
        let config = serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let index = serde_json::json!([{ "Config": "config", "RepoTags": [reference], "Layers": ["layer"] }]);
        let (config, index) = (config.to_string(), index.to_string());
        let saved = [("config", config.as_bytes()), ("layer", &layer), ("manifest.json", index.as_bytes())];
        let mut load = Command::new("docker").arg("load").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        load.stdin.take().unwrap().write_all(&tar_of(&saved)).unwrap();
        assert!(load.wait().unwrap().success(), "loading {reference}");
        self.push_as(&reference);
        reference
    }

    /// Pushes what goes by this reference, which then goes from the engine.
    pub(super) fn push_as(&self, reference: &str) {
        let run = |arguments: &[&str]| {
            let out = Command::new("docker").arg("--config").arg(self.folder.path()).args(arguments).output().unwrap();
            assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        };
        run(&["push", "-q", reference]);
        run(&["rmi", reference]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes a file that nobody else may read.
pub(super) fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Answers every request but the first look at `/v2/` with this; keeps the paths that were asked for.
pub(super) fn broken(
    status: &'static str,
    headers: &'static str,
    body: &'static str,
) -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                request.push(byte[0]);
                if request[0] == 0x16 {
                    // The engine tries TLS first.
                    break;
                }
            }
            let first = request.windows(9).any(|part| part == b" /v2/ HTT");
            *count.lock().unwrap() += 1;
            let (status, headers, body) = if first { ("200 OK", "", "{}") } else { (status, headers, body) };
            let head = request.starts_with(b"HEAD");
            let answer = format!(
                "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{}",
                body.len(),
                if head { "" } else { body }
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}
