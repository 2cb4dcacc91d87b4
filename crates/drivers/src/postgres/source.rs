//! Where a template's data come from, as a stream of SQL: a file, another server, an environment. Sources are only read.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use planner::resource::Failure;
use regex::Regex;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::dump::{Dump, Format};
use super::judge::pattern;
use super::load::Stream;
use super::tools::{Login, Tools};

/// What a template does not have: its clones belong to their environments, and nothing leaves them.
const BARE: &[&str] = &[
    "--no-owner",
    "--no-privileges",
    "--no-publications",
    "--no-subscriptions",
    "--no-tablespaces",
    "--no-security-labels",
];
/// As much of a script as is searched for extensions: they stand before the tables.
const SEARCHED: u64 = 64 << 20;

/// A source that has been looked at and may be read.
#[derive(Debug)]
pub(super) enum Source {
    /// No data.
    Empty,
    /// A file, or a folder in the directory format.
    File(PathBuf, Dump),
    /// A server of the operator's.
    Server { url: String, password: Option<String>, bytes: u64 },
    /// An environment's database, read as its own role.
    Env { login: Login, bytes: u64 },
}

/// Extensions that data need, and the schema of each.
pub(super) type Needed = BTreeMap<String, Option<String>>;

impl Source {
    /// A file of the operator's.
    ///
    /// # Errors
    /// Permanent: it is nothing that can be loaded, or comes from a newer version.
    pub(super) fn file(path: &Path, ours: u32) -> Result<Source, Failure> {
        let dump = Dump::look(path)?;
        dump.admit(path, ours)?;
        Ok(Source::File(path.to_owned(), dump))
    }

    /// A server of the operator's.
    ///
    /// # Errors
    /// Permanent: a password in the URL, a file that others may read, a newer version. Transient: it does not answer.
    pub(super) async fn server(tools: &Tools, url: &str, file: Option<&Path>, ours: u32) -> Result<Source, Failure> {
        let known = without_password(url)?;
        let password = file.map(password_of).transpose()?;
        let mut source = Source::Server { url: url.to_owned(), password, bytes: 0 };
        // What is read is about the rows of tables; indexes are made anew.
        let sizes = "SELECT coalesce(sum(pg_table_size(oid)), 0) FROM pg_class WHERE relkind IN ('r', 'm') \
                     AND relnamespace <> 'pg_catalog'::regnamespace";
        let answer = source.ask(tools, &format!("SELECT current_setting('server_version_num'), ({sizes})")).await?;
        let numbers = answer.first().and_then(|row| row.split_once('|'));
        let read = numbers.and_then(|(version, bytes)| Some((version.parse::<u32>().ok()?, bytes.parse().ok()?)));
        let Some((version, size)) = read else {
            return Err(Failure::transient(format!("{known} does not say how large its database is")));
        };
        let theirs = version / 10_000;
        if theirs > ours {
            return Err(Failure::permanent(format!(
                "{known} is PostgreSQL {theirs}, and this server is PostgreSQL {ours}: a baseline comes from a server of \
                 the same version or an older one ([database] bin_dir)"
            )));
        }
        if let Source::Server { bytes, .. } = &mut source {
            *bytes = size;
        }
        Ok(source)
    }

    /// Bytes that reading it brings, about.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Source::Empty => 0,
            Source::File(_, dump) => dump.bytes,
            Source::Server { bytes, .. } | Source::Env { bytes, .. } => *bytes,
        }
    }

    /// Bytes of disk that it may need, about: archives are packed, and indexes come on top.
    pub(super) fn room(&self) -> u64 {
        match self {
            Source::File(_, Dump { format: Format::Custom | Format::Directory, bytes, .. }) => bytes.saturating_mul(6),
            _ => self.bytes().saturating_mul(2),
        }
    }

    /// Extensions that it has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn needed(&self, tools: &Tools) -> Result<Needed, Failure> {
        match self {
            Source::Empty => Ok(Needed::new()),
            Source::File(path, dump) if dump.format == Format::Text => {
                let file = tokio::fs::File::open(path).await.map_err(|error| unread(path, &error))?;
                search(file).await.map_err(|error| unread(path, &error))
            }
            Source::File(path, dump) => {
                let mut child = restore(tools, path, dump, &["--section=pre-data"])?.1;
                let Some(output) = child.stdout.take() else { return Ok(Needed::new()) };
                // It is cut off after the last that is searched, so its end says nothing.
                search(output).await.map_err(|error| unread(path, &error))
            }
            Source::Server { .. } | Source::Env { .. } => {
                let sql = "SELECT extname, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace";
                let rows = self.ask(tools, sql).await?;
                let pairs = rows.iter().filter_map(|row| row.split_once('|'));
                Ok(pairs
                    .map(|(name, schema)| (name.to_owned(), Some(schema.to_owned())))
                    .filter(not_everywhere)
                    .collect())
            }
        }
    }

    /// Begins to read it. None if there is nothing.
    ///
    /// # Errors
    /// Permanent: it cannot be read.
    pub(super) async fn open(&self, tools: &Tools) -> Result<Option<Stream>, Failure> {
        match self {
            Source::Empty => Ok(None),
            Source::File(path, dump) if dump.format == Format::Text => {
                let file = tokio::fs::File::open(path).await.map_err(|error| unread(path, &error))?;
                let name = path.display().to_string();
                let stream =
                    Stream { name, from: Box::new(file), writer: None, position: None, total: Some(dump.bytes) };
                Ok(Some(stream))
            }
            Source::File(path, dump) => {
                let (position, child) = restore(tools, path, dump, &[])?;
                let total = position.as_ref().map(|_| dump.bytes);
                written_by(child, path.display().to_string(), position, total).map(Some)
            }
            Source::Server { .. } | Source::Env { .. } => {
                let mut command = self.client(tools, "pg_dump");
                command.args(BARE).args(["--format=plain", "--no-password"]).stdout(Stdio::piped());
                let child = tools.spawn(&mut command)?;
                written_by(child, self.name(), None, Some(self.bytes())).map(Some)
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Source::Empty => "nothing".to_owned(),
            Source::File(path, _) => path.display().to_string(),
            Source::Server { url, .. } => url.clone(),
            Source::Env { login, .. } => format!("the database {}", login.database),
        }
    }

    /// A program that connects to the source.
    fn client(&self, tools: &Tools, program: &str) -> Command {
        match self {
            Source::Env { login, .. } => tools.inside(program, login, ""),
            Source::Server { url, password, .. } => {
                let mut command = tools.command(program);
                command.arg(format!("--dbname={url}"));
                if let Some(password) = password {
                    command.env("PGPASSWORD", password);
                }
                command
            }
            Source::Empty | Source::File(..) => tools.command(program),
        }
    }

    /// The rows of an answer, columns parted by `|`.
    async fn ask(&self, tools: &Tools, sql: &str) -> Result<Vec<String>, Failure> {
        let mut command = self.client(tools, "psql");
        command.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet"]);
        command.arg(format!("--command={sql}")).stdout(Stdio::piped());
        let output = tools.spawn(&mut command)?.wait_with_output().await;
        let output = output.map_err(|error| Failure::transient(format!("psql: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().next().unwrap_or("it said nothing").trim_start_matches("psql: error: ");
            return Err(Failure::transient(format!("{}: {line}", self.name())));
        }
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// An archive as SQL. Files are opened by us, since they need not be open to the server's user; their position tells how
/// much of them has been read.
fn restore(tools: &Tools, path: &Path, dump: &Dump, more: &[&str]) -> Result<(Option<std::fs::File>, Child), Failure> {
    let mut command = tools.command("pg_restore");
    command.args(BARE).args(more).arg("--file=-").stdout(Stdio::piped());
    let position = match dump.format {
        Format::Directory => {
            command.arg("--format=directory").arg(path);
            None
        }
        Format::Custom | Format::Tar | Format::Text => {
            let file = std::fs::File::open(path).map_err(|error| unread(path, &error))?;
            command.arg(if dump.format == Format::Tar { "--format=tar" } else { "--format=custom" });
            command.stdin(Stdio::from(file.try_clone().map_err(|error| unread(path, &error))?));
            Some(file)
        }
    };
    Ok((position, tools.spawn(&mut command)?))
}

fn written_by(
    mut child: Child,
    name: String,
    position: Option<std::fs::File>,
    total: Option<u64>,
) -> Result<Stream, Failure> {
    let output = child.stdout.take().ok_or_else(|| Failure::transient("a program has no output"))?;
    Ok(Stream { name, from: Box::new(output), writer: Some(child), position, total })
}

/// Finds what `pg_dump` writes of extensions.
async fn search(from: impl AsyncRead + Unpin) -> std::io::Result<Needed> {
    static MADE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r#"(?i)^CREATE EXTENSION (?:IF NOT EXISTS )?("[^"]+"|\w+)(?: WITH SCHEMA ("[^"]+"|\w+))?"#)
    });
    let mut found = Needed::new();
    let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(from, SEARCHED)).split(b'\n');
    while let Some(line) = lines.next_segment().await? {
        if [&b"COPY "[..], b"INSERT INTO "].iter().any(|data| line.starts_with(data)) {
            break;
        }
        if let Ok(text) = std::str::from_utf8(&line)
            && let Some(groups) = MADE.captures(text)
        {
            let plain = |group: regex::Match<'_>| group.as_str().trim_matches('"').to_owned();
            if let Some(name) = groups.get(1).map(plain) {
                found.insert(name, groups.get(2).map(plain));
            }
        }
    }
    found.retain(|name, schema| not_everywhere(&(name.clone(), schema.clone())));
    Ok(found)
}

/// Every database has this one.
fn not_everywhere((name, _): &(String, Option<String>)) -> bool {
    name != "plpgsql"
}

/// The URL itself, for messages: a password in it would be in the list of processes.
fn without_password(url: &str) -> Result<&str, Failure> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || url.contains("password=") {
        return Err(Failure::permanent(
            "the source's URL holds a password, which others could read from the list of processes: put it into a \
             password file of mode 0600",
        ));
    }
    Ok(url)
}

/// The first line of a file that only its owner may read.
pub(super) fn password_of(path: &Path) -> Result<String, Failure> {
    let meta = std::fs::metadata(path).map_err(|error| unread(path, &error))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(Failure::permanent(format!(
            "{} holds a password and others may read it: chmod 600 it",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unread(path, &error))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    Failure::permanent(format!("{} cannot be read: {error}", path.display()))
}
