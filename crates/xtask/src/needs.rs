//! What the demo and the tests need of the machine, and how it gets there: Debian's and Ubuntu's packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::engine;
use crate::run::{as_root, find, is_root, quietly, succeeds};

/// One thing that must be there.
pub(crate) struct Need {
    what: &'static str,
    /// Packages that bring it; those that this release does not know are left out.
    packages: &'static [&'static str],
    there: fn() -> bool,
}

const ENGINE: Need = Need {
    what: "a container engine (docker)",
    packages: &["docker.io", "docker-cli", "iptables"],
    there: || {
        find("docker").is_some() && (engine::answers() || find("dockerd").is_some() && find("iptables").is_some())
    },
};
const POSTGRES: Need = Need { what: "PostgreSQL (initdb)", packages: &["postgresql"], there: postgres };
const GIT: Need = Need { what: "git", packages: &["git"], there: || find("git").is_some() };
const DISKS: Need = Need {
    what: "e2fsprogs and losetup, for data of companions",
    packages: &["e2fsprogs", "mount"],
    there: || ["mkfs.ext4", "debugfs", "losetup"].iter().all(|name| find(name).is_some()),
};
const XFS: Need = Need {
    what: "xfsprogs, for storage that shares blocks",
    packages: &["xfsprogs", "mount"],
    there: || ["mkfs.xfs", "losetup", "mount"].iter().all(|name| find(name).is_some()),
};
const IP: Need = Need { what: "iproute2 (ip)", packages: &["iproute2"], there: || find("ip").is_some() };
const IMAGES: Need = Need {
    what: "mmdebstrap, for base images without a registry",
    packages: &["mmdebstrap", "debian-archive-keyring"],
    there: || find("mmdebstrap").is_some() && Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
};
const BUSYBOX: Need =
    Need { what: "a static busybox", packages: &["busybox-static"], there: || find("busybox").is_some() };
const BROWSER: Need = Need {
    what: "a browser (chromium)",
    packages: &["chromium"],
    there: || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| find(name).is_some()),
};
const WEBDRIVER: Need = Need {
    what: "the browser's driver (chromedriver)",
    packages: &["chromium-driver", "chromium-chromedriver"],
    there: || find("chromedriver").is_some(),
};
const KNOT: Need =
    Need { what: "a DNS server to compare with (knotd)", packages: &["knot"], there: || find("knotd").is_some() };
const DIG: Need = Need { what: "a resolver (dig)", packages: &["bind9-dnsutils"], there: || find("dig").is_some() };
const RCLONE: Need = Need { what: "an S3 client (rclone)", packages: &["rclone"], there: || find("rclone").is_some() };
const S3CMD: Need = Need { what: "another S3 client (s3cmd)", packages: &["s3cmd"], there: || find("s3cmd").is_some() };
const REGISTRY: Need = Need {
    what: "a container registry (docker-registry, htpasswd)",
    packages: &["docker-registry", "apache2-utils"],
    there: || find("docker-registry").is_some() && find("htpasswd").is_some(),
};
const PYTHON: Need = Need {
    what: "Python 3 with venv and pip",
    packages: &["python3", "python3-venv", "python3-pip"],
    there: || succeeds(Command::new("python3").args(["-c", "import venv, ensurepip, pip"])),
};
const OPENSSL: Need =
    Need { what: "openssl, for keys of Apps", packages: &["openssl"], there: || find("openssl").is_some() };
const NODE: Need = Need {
    what: "Node.js with npm",
    packages: &["nodejs", "npm"],
    there: || find("node").is_some() && find("npm").is_some(),
};

pub(crate) const FOR_DEMO: &[Need] = &[ENGINE, POSTGRES, GIT, IP, IMAGES];
pub(crate) const FOR_HUB: &[Need] = &[NODE, OPENSSL];
pub(crate) const FOR_BENCH: &[Need] = &[ENGINE, POSTGRES, GIT, IP, BUSYBOX];
pub(crate) const FOR_DATA: &[Need] = &[POSTGRES, PYTHON, XFS];
pub(crate) const FOR_TESTS: &[Need] = &[
    ENGINE, POSTGRES, GIT, IP, DISKS, XFS, IMAGES, BUSYBOX, BROWSER, WEBDRIVER, KNOT, DIG, RCLONE, S3CMD, REGISTRY,
    PYTHON, NODE, OPENSSL,
];

/// Makes sure of all of them, or says which are missing.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing = |needs: &[Need]| -> Vec<&'static str> {
        needs.iter().filter(|need| !(need.there)()).map(|need| need.what).collect()
    };
    let absent = missing(needs);
    if absent.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() || !(is_root() || find("sudo").is_some()) {
        bail!(
            "missing: {}. Install them; this can be done for you on Debian and Ubuntu, as root or through sudo",
            absent.join("; ")
        );
    }
    eprintln!("xtask: installing {} (apt-get; what it says goes to target/xtask/apt-get.log)", absent.join("; "));
    let _quiet = Quiet::begin();
    apt(&["update", "-qq"])?;
    let wanted = needs.iter().filter(|need| !(need.there)());
    let known: Vec<&str> = wanted.flat_map(|need| need.packages).copied().filter(|name| is_known(name)).collect();
    if known.contains(&"postgresql") {
        apt(&["install", "-qq", "-y", "--no-install-recommends", "postgresql-common"])?;
    }
    let _no_cluster = NoCluster::begin();
    apt(&[&["install", "-qq", "-y", "--no-install-recommends"], &known[..]].concat())?;
    let absent = missing(needs);
    if !absent.is_empty() {
        bail!("still missing after installing {}: {}", known.join(" "), absent.join("; "));
    }
    Ok(())
}

fn postgres() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/initdb")).any(|initdb| initdb.is_file()) || find("initdb").is_some()
}

fn apt(arguments: &[&str]) -> Result<()> {
    // `env`, since sudo drops variables.
    quietly(as_root("env").args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments), "apt-get.log")
}

fn is_known(package: &str) -> bool {
    succeeds(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
}

/// While it lasts, packages that are installed start no services: we use their programs only.
struct Quiet {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Quiet {
    fn begin() -> Quiet {
        let ours = !Path::new(POLICY).exists() && put(POLICY, "#!/bin/sh\nexit 101\n", "755");
        Quiet { ours }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.ours {
            let _ = succeeds(as_root("rm").args(["-f", POLICY]));
        }
    }
}

/// While it lasts, Debian makes no database cluster for a PostgreSQL that is installed: we make our own, elsewhere.
struct NoCluster {
    before: Option<String>,
}

const CLUSTERS: &str = "/etc/postgresql-common/createcluster.conf";

impl NoCluster {
    fn begin() -> NoCluster {
        let before = fs::read_to_string(CLUSTERS).ok();
        if let Some(text) = &before {
            put(CLUSTERS, &format!("{text}\ncreate_main_cluster = false\n"), "644");
        }
        NoCluster { before }
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Some(text) = &self.before {
            put(CLUSTERS, text, "644");
        }
    }
}

/// Writes a file as root. False if that failed.
fn put(path: &str, content: &str, mode: &str) -> bool {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let draft = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
    let written =
        fs::write(&draft, content).is_ok() && succeeds(as_root("install").args(["-m", mode]).arg(&draft).arg(path));
    let _ = fs::remove_file(draft);
    written
}
