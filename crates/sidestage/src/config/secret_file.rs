//! Files with secrets in them: nobody but their owner may read them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use planner::secrets::check_name;

/// The most that such a file may measure, in bytes.
const LONGEST: u64 = 1 << 20;

/// Secrets of a project: `NAME=value` a line, the value as it stands; empty lines and lines that begin with `#` are
/// skipped.
///
/// # Errors
/// One line: file, line, what is wrong and what to do. Never a value.
pub fn read_secrets(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = read(path)?;
    let mut secrets = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let at = || format!("{} line {number}", path.display());
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { bail!("{}: write NAME=value", at()) };
        // No error shows a name: what stands there may be a part of a value.
        check_name(name).map_err(|why| anyhow::anyhow!("{}: what stands before `=` {why}", at()))?;
        if value.is_empty() || value.contains('\0') {
            bail!("{}: behind `=` is no value that a process could be given", at());
        }
        if secrets.insert(name.to_owned(), value.to_owned()).is_some() {
            bail!("{}: this secret is there already; remove one", at());
        }
    }
    Ok(secrets)
}

/// A password or token: the first line of a file.
///
/// # Errors
/// One line: file, what is wrong and what to do.
pub fn read_password(path: &Path) -> anyhow::Result<String> {
    let text = read(path)?;
    match text.lines().next().map(str::trim).filter(|password| !password.is_empty()) {
        Some(password) => Ok(password.to_owned()),
        None => bail!("{} is empty: its first line must be the password", path.display()),
    }
}

/// A whole file with a secret, such as a key.
///
/// # Errors
/// One line: file, what is wrong and what to do.
pub fn read_lines(path: &Path) -> anyhow::Result<String> {
    read(path)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let meta = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() || meta.len() > LONGEST {
        bail!("{} must be a file of at most 1 MB", path.display());
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.display();
        bail!("{path} has mode {mode:04o}, so others can read the secrets in it: chmod 0600 {path}");
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    Ok(text)
}
