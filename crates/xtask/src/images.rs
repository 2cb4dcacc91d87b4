//! Base images without a registry: made from Debian's packages, tagged like the public ones, only where such a tag is
//! absent. They are a cache that stays; `cargo xtask clean` removes those that were made here.
//!
//! One minimal Debian comes from mmdebstrap; all others are built from it, as anybody builds an image.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Result;

use crate::engine::docker;
use crate::run::{as_root, output, quietly, succeeds, to_end, workspace};

const DEBIAN: &str = "debian:bookworm-slim";

/// An image that is Debian and some packages.
struct Image {
    tag: &'static str,
    packages: &'static [&'static str],
    /// What its Dockerfile says behind that.
    then: &'static str,
}

const PYTHON: Image = Image {
    tag: "python:3.11-slim-bookworm",
    packages: &["python3", "python3-pip", "python-is-python3"],
    // In an image of one application pip may install beside Debian's packages, as in the public one.
    then: "RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED\nCMD [\"python3\"]\n",
};

const REDIS: Image = Image {
    tag: "redis:7",
    packages: &["redis-server"],
    then: "USER redis
WORKDIR /var/lib/redis
EXPOSE 6379
CMD [\"redis-server\", \"--protected-mode\", \"no\", \"--save\", \"\", \"--appendonly\", \"no\"]
",
};

const NODE: Image = Image {
    tag: "node:18-bookworm-slim",
    packages: &["nodejs"],
    then: "COPY npm.mjs /tmp/
RUN node /tmp/npm.mjs ${NPM_CONFIG_REGISTRY:-https://registry.npmjs.org}/npm/-/npm-10.8.2.tgz \\
    sha512-x/AIjFIKRllrhcb48dqUNAAZl0ig9+qMuN91RpZo3Cb2+zuibfh+KISl6+kVVyktDz230JKc208UkQwwMqyB+w== /tmp/npm.tgz \\
 && mkdir -p /usr/local/lib/node_modules/npm \\
 && tar -xzf /tmp/npm.tgz --strip-components=1 --no-same-owner -C /usr/local/lib/node_modules/npm \\
 && ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \\
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \\
 && rm /tmp/npm.*
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
RUN useradd --create-home --shell /bin/bash node
CMD [\"node\"]
",
};
/// Fetches npm for [`NODE`].
const NPM: &str = include_str!("images/npm.mjs");

/// A list of images that are to be there.
pub(crate) struct Images(&'static [&'static Image]);

pub(crate) const FOR_DEMO: Images = Images(&[&PYTHON, &REDIS]);
pub(crate) const FOR_TESTS: Images = Images(&[&PYTHON, &REDIS, &NODE]);

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
    "NPM_CONFIG_REGISTRY",
    "NODE_EXTRA_CA_CERTS",
    "BUNDLE_MIRROR__ALL",
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
/// Files of this machine that mean the same in an image.
const FILES: [&str; 2] = [CERTIFICATES, "/etc/pip.conf"];

/// Makes what is absent.
pub(crate) fn make(images: &Images) -> Result<()> {
    let absent = |tag: &str| !succeeds(docker().args(["image", "inspect", tag]));
    let missing: Vec<&Image> = images.0.iter().copied().filter(|image| absent(image.tag)).collect();
    if missing.is_empty() && !absent(DEBIAN) {
        return Ok(());
    }
    if absent(DEBIAN) {
        said(DEBIAN, debian)?;
    }
    missing.into_iter().try_for_each(|image| said(image.tag, || build(image)))
}

/// Making one takes a while, once.
fn said(tag: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("xtask: making the image {tag} from Debian's packages (once)");
    let begun = Instant::now();
    make()?;
    eprintln!("xtask: {tag} is there after {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Removes what was made here, and nothing that was pulled.
pub(crate) fn clean() -> Result<()> {
    for tag in FOR_TESTS.0.iter().map(|image| image.tag).rev().chain([DEBIAN]) {
        let format = format!("{{{{.Comment}}}}{{{{index .Config.Labels \"{LABEL}\"}}}}");
        let mark = output(docker().args(["image", "inspect", "--format", &format, tag]));
        if mark.is_ok_and(|mark| mark.contains(MARK)) {
            to_end(docker().args(["image", "rm", tag]))?;
        }
    }
    Ok(())
}

/// A minimal Debian, put into the engine.
fn debian() -> Result<()> {
    let mut debian = as_root("mmdebstrap");
    debian.args(["--quiet", "--variant=minbase", "--include=ca-certificates"]);
    for left_out in ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"] {
        debian.arg(format!("--dpkgopt=path-exclude={left_out}"));
    }
    for file in files() {
        let folder = Path::new(file).parent().unwrap_or(Path::new("/"));
        debian.arg(format!("--customize-hook=copy-in {file} {}", folder.display()));
    }
    // By way of a file, so that only a whole archive becomes an image.
    let archive = folder("debian")?.join("base.tar");
    let made = to_end(debian.arg("bookworm").arg(&archive).stdin(Stdio::null()));
    let imported = made.and_then(|()| {
        let mut import = docker();
        import.args(["import", "--message", MARK, "--change", "CMD [\"bash\"]"]);
        for setting in settings() {
            import.arg("--change").arg(setting);
        }
        output(import.arg(&archive).arg(DEBIAN)).map(drop)
    });
    let _ = fs::remove_file(archive);
    imported
}

/// Debian with packages. What this machine's clients need is in it too: its Debian may have been pulled.
fn build(image: &Image) -> Result<()> {
    let (name, _) = image.tag.split_once(':').unwrap_or((image.tag, ""));
    let folder = folder(name)?;
    let packages = image.packages.join(" ");
    let mut dockerfile = format!(
        "FROM {DEBIAN}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates {packages} \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
"
    );
    for file in files() {
        let name = Path::new(file).file_name().unwrap_or_default();
        fs::copy(file, folder.join(name))?;
        let _ = writeln!(dockerfile, "COPY {} {file}", name.display());
    }
    for setting in settings() {
        let _ = writeln!(dockerfile, "{setting}");
    }
    dockerfile.push_str(image.then);
    fs::write(folder.join("npm.mjs"), NPM)?;
    fs::write(folder.join("Dockerfile"), dockerfile)?;
    let mut build = docker();
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--force-rm", "--tag", image.tag]);
    quietly(build.args(["--label", &format!("{LABEL}={MARK}")]).arg(folder), "docker-build.log")
}

/// A folder to make an image in.
fn folder(name: &str) -> Result<std::path::PathBuf> {
    let folder = workspace().join("target/xtask").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn files() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().filter(|file| Path::new(file).exists())
}

/// Instructions of a Dockerfile.
fn settings() -> Vec<String> {
    let mut all = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
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
    if let Some(registry) = npm_registry() {
        all.push(("NPM_CONFIG_REGISTRY".to_owned(), registry));
    }
    let quoted = |value: String| value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    all.into_iter().map(|(name, value)| format!("ENV {name}=\"{}\"", quoted(value))).collect()
}

/// The package index that this machine's own npm was told to use, if there is one and it was.
pub(crate) fn npm_registry() -> Option<String> {
    if std::env::var_os("NPM_CONFIG_REGISTRY").is_some() {
        return None;
    }
    let registry = output(Command::new("npm").args(["config", "get", "registry"])).ok()?;
    let registry = registry.trim_end_matches('/');
    (registry.starts_with("http") && registry != "https://registry.npmjs.org").then(|| registry.to_owned())
}
