//! An installation of Sidestage for measuring, with a small application, and the same application run by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::phases::Phases;
use crate::engine::docker;
use crate::run::{cargo, find, output, succeeds, terminate, to_end, workspace};

const PATIENCE: Duration = Duration::from_secs(120);

/// The smallest application that has a database: what is measured is everything around it.
const DOCKERFILE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY index.html /www/index.html\n\
     CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
const MANIFEST: &str = "health = \"/\"\n[objects]\nbaseline = false\n";

/// Sidestage, serving one repository.
pub(crate) struct Site {
    folder: PathBuf,
    program: PathBuf,
    controller: Child,
    /// Address of the edge.
    pub(crate) edge: String,
    /// Address of the console.
    pub(crate) console: String,
}

impl Site {
    /// Builds Sidestage and starts it in a folder of its own, with the smallest application.
    pub(crate) fn start(dev: bool) -> Result<Site> {
        Site::serving(dev, "", |tree| {
            fs::write(tree.join("Dockerfile"), DOCKERFILE)?;
            fs::write(tree.join(".sidestage.toml"), MANIFEST)?;
            fs::write(tree.join("index.html"), "here\n")?;
            fs::copy(find("busybox").context("busybox")?, tree.join("busybox"))?;
            Ok(())
        })
    }

    /// The same with the application that `fill` writes, and these further lines of the project's table (and tables behind it).
    pub(crate) fn serving(dev: bool, further: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Site> {
        let profile = if dev { "dev" } else { "release" };
        eprintln!("xtask: building sidestage ({profile})");
        to_end(cargo().args(["build", "--quiet", "--package", "sidestage", "--profile", profile]))?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
        let program = target.join(if dev { "debug" } else { "release" }).join("sidestage").canonicalize()?;

        let folder = PathBuf::from(format!("/var/tmp/sidestage-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join("tree"))?;
        let (port, console) = (free_port()?, free_port()?);
        let configuration = configuration(&folder, port, console) + further;
        fs::write(folder.join("sidestage.toml"), configuration)?;
        fill(&folder.join("tree"))?;
        repository(&folder, &program)?;
        let controller = serve(&folder, &program)?;
        let address = |port| format!("127.0.0.1:{port}");
        let site = Site { folder, program, controller, edge: address(port), console: address(console) };
        site.until("the repository is known", || Ok(site.json().is_ok_and(|view| knows_the_repository(&view))))?;
        Ok(site)
    }

    /// The canonical host of a commit.
    pub(crate) fn host(&self, sha: &str) -> String {
        format!("{sha}.staging.localhost")
    }

    /// Where one works.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// A new commit with another content of this file. Its sha.
    pub(crate) fn change(&self, file: &str, content: &str) -> Result<String> {
        fs::write(self.tree().join(file), content)?;
        self.git(&["add", "--all"])?;
        self.commit()
    }

    /// A new commit with the same tree. Its sha.
    pub(crate) fn commit(&self) -> Result<String> {
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "Nothing new"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pushes the newest commit as this branch; the hook tells Sidestage.
    pub(crate) fn push(&self, branch: &str) -> Result<()> {
        self.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{branch}")]).map(drop)
    }

    /// Deletes a branch.
    pub(crate) fn delete(&self, branch: &str) -> Result<()> {
        self.git(&["push", "--quiet", "origin", &format!(":refs/heads/{branch}")]).map(drop)
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        output(git(&self.folder.join("tree")).args(arguments))
    }

    /// The command line's client.
    pub(crate) fn client(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(&self.program).arg("--config").arg(self.folder.join("sidestage.toml")).args(arguments))
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.client(&["ls", "--json"])?)?)
    }

    /// The states of all commits that have something outside, or will.
    pub(crate) fn states(&self) -> Result<Vec<String>> {
        let mut states = Vec::new();
        strings(&self.json()?, "state", &mut states);
        states.retain(|state| !["unstaged", "removed", "superseded", "expired"].contains(&state.as_str()));
        Ok(states)
    }

    /// Waits until no environment is left.
    pub(crate) fn await_nothing(&self) -> Result<()> {
        self.await_left(0)
    }

    /// Waits until at most so many environments are left.
    pub(crate) fn await_left(&self, count: usize) -> Result<()> {
        self.until("environments are removed", || Ok(self.states()?.len() <= count))
    }

    /// Waits until no container of this commit runs.
    pub(crate) fn await_stopped(&self, sha: &str) -> Result<()> {
        let label = format!("label=sidestage.sha={sha}");
        self.until("its containers stop", || {
            Ok(output(docker().args(["ps", "--quiet", "--filter", &label]))?.is_empty())
        })
    }

    /// Ends the controller without a warning, and starts it again.
    pub(crate) fn kill_and_start(&mut self) -> Result<()> {
        self.controller.kill()?;
        self.controller.wait()?;
        self.controller = serve(&self.folder, &self.program)?;
        Ok(())
    }

    /// The controller's store.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("state/sidestage.db")
    }

    /// What the controller has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("controller.log")).unwrap_or_default()
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !done()? {
            if begun.elapsed() > PATIENCE {
                let log = self.log();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("waited {} s until {what}; the controller said: {}", PATIENCE.as_secs(), last.join(" | "));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Memory that the controller keeps in RAM.
    pub(crate) fn resident_megabytes(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.controller.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes / 1024.0)
    }

    /// A program of PostgreSQL's, as whoever runs the server.
    pub(crate) fn administrator(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(find(program).with_context(|| format!("{program} is missing"))?);
        command.arg("--host").arg(self.folder.join("state.services/postgres/run")).arg("--username=sidestage");
        Ok(command)
    }

    /// What a statement answers, as its administrator.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let options = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--command", sql, database];
        output(self.administrator("psql")?.args(options))
    }

    /// Ends it and clears up what outlives a controller.
    pub(crate) fn end(mut self) -> Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> Result<()> {
        terminate(self.controller.id());
        self.controller.wait()?;
        self.client(&["uninstall", "--yes"])?;
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }
}

impl Drop for Site {
    /// After a failure.
    fn drop(&mut self) {
        if self.folder.exists() {
            let _ = self.clear();
        }
    }
}

/// The controller, as the service manager runs it.
fn serve(folder: &Path, program: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("controller.log"))?;
    let mut serve = Command::new(program);
    serve.arg("--config").arg(folder.join("sidestage.toml")).arg("serve");
    Ok(serve.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
}

fn knows_the_repository(view: &Value) -> bool {
    let mut names = Vec::new();
    strings(view, "name", &mut names);
    names.iter().any(|name| name == "bench")
}

/// All texts under a key, however deep.
fn strings(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text.clone()),
                    _ => strings(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

fn configuration(folder: &Path, http: u16, console: u16) -> String {
    let folder = folder.display();
    format!(
        "domain = \"staging.localhost\"\nstate_dir = \"{folder}/state\"\n\
         [listen]\nhttp = \"127.0.0.1:{http}\"\nconsole = \"127.0.0.1:{console}\"\n\
         [limits]\nenvironments = 120\nawake = 8\nstopped = 120\n\
         [[project]]\nname = \"bench\"\ngit = \"{folder}/bench.git\"\nstage = \"automatic\"\naccess = \"public\"\nkeep = 1\n"
    )
}

/// A bare repository whose hook tells Sidestage, one for the way by hand, and a tree to work in.
fn repository(folder: &Path, program: &Path) -> Result<()> {
    let tree = folder.join("tree");
    output(git(folder).args(["init", "--quiet", "--bare", "--initial-branch=main", "bench.git"]))?;
    output(git(&tree).args(["init", "--quiet", "--initial-branch=main"]))?;
    output(git(&tree).args(["remote", "add", "origin", "../bench.git"]))?;
    output(git(folder).args(["init", "--quiet", "--bare", "--initial-branch=main", "by-hand.git"]))?;
    output(git(&tree).args(["remote", "add", "by-hand", "../by-hand.git"]))?;
    output(git(&tree).args(["add", "--all"]))?;
    output(git(&tree).args(["commit", "--quiet", "--message", "The beginning"]))?;
    for remote in ["origin", "by-hand"] {
        output(git(&tree).args(["push", "--quiet", remote, "HEAD:refs/heads/main"]))?;
    }
    let hook = folder.join("bench.git/hooks/post-receive");
    let config = folder.join("sidestage.toml");
    fs::write(&hook, format!("#!/bin/sh\nexec {} --config {} notify bench\n", program.display(), config.display()))?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Bench").env(format!("GIT_{role}_EMAIL"), "bench@example.org");
    }
    git
}

/// A port that nobody listens at now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The same application, the way one does it without Sidestage, on the same engine and the same PostgreSQL.
pub(crate) struct ByHand<'a> {
    site: &'a Site,
    template: String,
}

const IMAGE: &str = "by-hand-bench";

impl ByHand<'_> {
    /// Finds the empty template and warms the build's cache.
    pub(crate) fn new(site: &Site) -> Result<ByHand<'_>> {
        let mut by_hand = ByHand { site, template: String::new() };
        let templates = by_hand.psql("SELECT datname FROM pg_database WHERE datname LIKE 'sst_%_base_default_1'")?;
        templates.lines().next().unwrap_or("template0").clone_into(&mut by_hand.template);
        by_hand.build()?;
        Ok(by_hand)
    }

    fn psql(&self, sql: &str) -> Result<String> {
        self.site.psql("postgres", sql)
    }

    fn postgres(&self, program: &str) -> Result<Command> {
        self.site.administrator(program)
    }

    fn build(&self) -> Result<()> {
        let tree = self.site.folder.join("tree");
        let mut build = docker();
        build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--tag", IMAGE]);
        output(build.arg(tree)).map(drop)
    }

    /// Pushes the newest commit to a repository without a hook.
    pub(crate) fn push(&self) -> Result<()> {
        self.site.git(&["push", "--quiet", "--force", "by-hand", "HEAD:refs/heads/main"]).map(drop)
    }

    /// Build, database, container, page.
    pub(crate) fn up(&self, name: &str, phases: &mut Phases) -> Result<()> {
        self.build()?;
        phases.end("docker build");
        output(self.postgres("createdb")?.args(["--template", &self.template, name]))?;
        phases.end("createdb");
        output(docker().args(["run", "--detach", "--init", "--name", name, "--publish", "127.0.0.1::8080", IMAGE]))?;
        phases.end("docker run");
        self.page(name)?;
        phases.end("docker port, page");
        Ok(())
    }

    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        output(docker().args(["stop", name])).map(drop)
    }

    /// Start and page.
    pub(crate) fn start(&self, name: &str) -> Result<()> {
        output(docker().args(["start", name]))?;
        self.page(name)
    }

    fn page(&self, name: &str) -> Result<()> {
        let address = output(docker().args(["port", name, "8080"]))?;
        await_page(address.lines().next().unwrap_or_default(), "localhost")
    }

    /// Removes container and database.
    pub(crate) fn down(&self, name: &str) -> Result<()> {
        output(docker().args(["rm", "--force", "--volumes", name]))?;
        output(self.postgres("dropdb")?.arg(name)).map(drop)
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        let names = docker().args(["ps", "--all", "--quiet", "--filter", &format!("ancestor={IMAGE}")]).output();
        for name in names.iter().flat_map(|output| output.stdout.split(|byte| *byte == b'\n')).filter(|n| !n.is_empty())
        {
            let _ = succeeds(docker().args(["rm", "--force", &String::from_utf8_lossy(name)]));
        }
        let _ = succeeds(docker().args(["image", "rm", IMAGE]));
    }
}

/// Asks until the application's own page comes.
pub(crate) fn await_page(address: &str, host: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match get(address, host) {
            Ok(reply) if reply.starts_with("HTTP/1.1 200") && reply.ends_with("here\n") => return Ok(()),
            other if begun.elapsed() > PATIENCE => {
                bail!("no page at {host} after {} s; last: {other:?}", PATIENCE.as_secs())
            }
            _ => sleep(Duration::from_millis(5)),
        }
    }
}

/// One request, as a browser behind a proxy that ends TLS; the whole answer.
pub(crate) fn get(address: &str, host: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
    )?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
