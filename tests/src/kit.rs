//! What several tests need. Small: whatever only one of them needs lives there.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// An image with a static busybox, a few users and nothing else, under a tag of its own. Goes with the value.
pub(crate) struct Busybox {
    pub(crate) tag: String,
}

/// Imports the machine's busybox (package `busybox-static`) into the engine: no registry is needed.
pub(crate) fn busybox_image() -> Busybox {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let tag = format!("sidestage-test-busybox:{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .expect("no busybox: install the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    };
    file("bin/busybox", 0o755, &program);
    file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n");
    file("etc/group", 0o644, b"root:x:0:\napp:x:1235:\n");
    let applets = "sh sleep httpd nc id cat ls echo nslookup touch mkdir true false kill trap dd grep ps ip env test seq find sort";
    for applet in applets.split(' ') {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    let mut import = Command::new("docker")
        .args(["import", "-", &tag])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("no docker client: install the package docker.io");
    import.stdin.take().unwrap().write_all(&tar.into_inner().unwrap()).unwrap();
    assert!(import.wait().unwrap().success(), "importing busybox");
    Busybox { tag }
}

impl Drop for Busybox {
    fn drop(&mut self) {
        let _ =
            Command::new("docker").args(["rmi", "-f", &self.tag]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
