//! Base images without a registry: made from Debian's packages, tagged like the public ones, only where such a tag is
//! absent. They are a cache that stays; `cargo xtask clean` removes those that were made here.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use crate::engine::docker;
use crate::run::{as_root, output, quietly, succeeds, to_end, workspace};

const PYTHON: &str = "python:3.11-slim-bookworm";
const REDIS: &str = "redis:7";

/// Says of an image that it was made here: its comment, which nothing built from it inherits, or a label.
const MARK: &str = "made by cargo xtask";
const LABEL: &str = "sidestage.made-by";

/// The client settings of this machine that a build inside of an image needs as well, to reach package indexes.
const SETTINGS: &[&str] = &[
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
    "PIP_CERT",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Certificates that this machine trusts, where Debian keeps them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes what is absent.
pub(crate) fn make() -> Result<()> {
    if !is_there(PYTHON) {
        eprintln!("xtask: making the base image {PYTHON} from Debian's packages (once; a minute or two)");
        python()?;
    }
    if !is_there(REDIS) {
        eprintln!("xtask: making the image {REDIS} from Debian's packages (once)");
        redis()?;
    }
    Ok(())
}

/// Removes what was made here, and nothing that was pulled.
pub(crate) fn clean() -> Result<()> {
    for image in [REDIS, PYTHON] {
        let format = format!("{{{{.Comment}}}}{{{{index .Config.Labels \"{LABEL}\"}}}}");
        let mark = output(docker().args(["image", "inspect", "--format", &format, image]));
        if mark.is_ok_and(|mark| mark.contains(MARK)) {
            to_end(docker().args(["image", "rm", image]))?;
        }
    }
    Ok(())
}

fn is_there(image: &str) -> bool {
    succeeds(docker().args(["image", "inspect", image]))
}

/// A minimal Debian with Python and pip, put into the engine.
fn python() -> Result<()> {
    let mut debian = as_root("mmdebstrap");
    debian.args(["--quiet", "--variant=minbase", "--include=python3,python3-pip,python-is-python3,ca-certificates"]);
    for left_out in [
        "/usr/share/man/*",
        "/usr/share/locale/*",
        "/usr/share/doc/*",
        // In an image of one application pip may install beside Debian's packages, as in the public one.
        "/usr/lib/python3*/EXTERNALLY-MANAGED",
    ] {
        debian.arg(format!("--dpkgopt=path-exclude={left_out}"));
    }
    if Path::new(CERTIFICATES).exists() {
        debian.arg(format!("--customize-hook=copy-in {CERTIFICATES} /etc/ssl/certs"));
    }
    if Path::new("/etc/pip.conf").exists() {
        debian.arg("--customize-hook=copy-in /etc/pip.conf /etc");
    }
    // By way of a file, so that only a whole archive becomes an image.
    let archive = workspace().join("target/xtask/base.tar");
    fs::create_dir_all(archive.parent().unwrap_or(Path::new(".")))?;
    let made = to_end(debian.arg("bookworm").arg(&archive).stdin(Stdio::null()));
    let imported = made.and_then(|()| import(&archive));
    let _ = fs::remove_file(archive);
    imported
}

fn import(archive: &Path) -> Result<()> {
    let mut import = docker();
    import.args(["import", "--message", MARK, "--change", "CMD [\"python3\"]"]);
    for (name, value) in settings() {
        import.arg("--change").arg(format!("ENV {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    output(import.arg(archive).arg(PYTHON)).map(drop)
}

fn settings() -> Vec<(String, String)> {
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    for name in SETTINGS {
        // A path of this machine means nothing in an image, but for the certificates, which were copied.
        if let Ok(value) = std::env::var(name)
            && (!value.starts_with('/') || value == CERTIFICATES)
        {
            all.push(((*name).to_owned(), value));
        }
    }
    all
}

fn redis() -> Result<()> {
    let dockerfile = format!(
        "FROM {PYTHON}
RUN apt-get update && apt-get install -y --no-install-recommends redis-server \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
USER redis
WORKDIR /var/lib/redis
EXPOSE 6379
CMD [\"redis-server\", \"--protected-mode\", \"no\", \"--save\", \"\", \"--appendonly\", \"no\"]
"
    );
    let folder = workspace().join("target/xtask/redis");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("Dockerfile"), dockerfile)?;
    let mut build = docker();
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--force-rm", "--tag", REDIS]);
    quietly(build.args(["--label", &format!("{LABEL}={MARK}")]).arg(folder), "docker-build.log")
}
