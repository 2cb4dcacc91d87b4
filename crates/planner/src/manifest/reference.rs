//! `[build] image`: the reference of an image that CI pushes, with `{sha} {short_sha} {pr} {branch}` in it.

use crate::identity::Sha;

const NAMES: [&str; 4] = ["sha", "short_sha", "pr", "branch"];

/// Whether a template is one: its placeholders are known, and filled in it is the reference of an image.
///
/// # Errors
/// One line, without the place where it stands.
pub fn check(template: &str) -> Result<(), String> {
    let filled = replace(template, |name| match name {
        "sha" => Ok("0".repeat(40)),
        "short_sha" => Ok("0".repeat(7)),
        _ => Ok("1".to_owned()),
    })?;
    is_reference(&filled, template)
}

/// Fills in what the commit is. A branch's name becomes what a tag may hold, as CI does it: `feature/x` is `feature-x`.
///
/// # Errors
/// One line: what the commit does not have, or what it comes to instead of a reference.
pub fn fill(template: &str, sha: &Sha, pull: &str, branch: &str) -> Result<String, String> {
    let there = |value: String, what: &str| {
        if value.is_empty() {
            Err(format!("{what}, and the commit has none: use {{sha}} or {{short_sha}}"))
        } else {
            Ok(value)
        }
    };
    let reference = replace(template, |name| match name {
        "sha" => Ok(sha.to_string()),
        "short_sha" => Ok(sha.short()),
        "pr" => there(pull.to_owned(), "{pr} is the number of a pull request"),
        _ => there(in_a_tag(branch), "{branch} is the name of a branch"),
    })?;
    is_reference(&reference, &reference)?;
    Ok(reference)
}

fn replace(template: &str, value: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("holds `{` without `}`")?;
        // `${sha}` is how other places of the manifest are written.
        if text.ends_with('$') || !NAMES.contains(&name) {
            return Err(format!("may only hold {{sha}}, {{short_sha}}, {{pr}} and {{branch}}, not {:?}", cut(name)));
        }
        filled.push_str(text);
        filled.push_str(&value(name)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// `[host[:port]/]path[:tag][@digest]`, as engines take it, with a tag or a digest: without one it would be `latest`,
/// which is no commit's. `shown` stands in errors.
fn is_reference(text: &str, shown: &str) -> Result<(), String> {
    let wrong = || {
        format!(
            "must be the reference of an image such as \"ghcr.io/acme/shop:sha-{{short_sha}}\", not {:?}",
            cut(shown)
        )
    };
    let fits = |text: &str, longest: usize, more: &[u8]| {
        (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let (host, repository) = match path.split_once('/') {
        Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), repository),
        _ => (None, path),
    };
    let lower = |part: &str| {
        fits(part, 128, b"._-")
            && !part.bytes().any(|b| b.is_ascii_uppercase())
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let plain = path.len() <= 255
        && host.is_none_or(|host| fits(host, 255, b".-:"))
        && repository.split('/').all(lower)
        && tag.is_none_or(|tag| fits(tag, 128, b"._-") && !tag.starts_with(['.', '-']))
        && digest.is_none_or(|digest| {
            digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && fits(hex, 64, b""))
        });
    if !plain {
        return Err(wrong());
    }
    if tag.is_none() && digest.is_none() {
        return Err(format!(
            "has no tag: without one every commit would get the same image; write {}:{{sha}}",
            cut(shown)
        ));
    }
    Ok(())
}

fn in_a_tag(branch: &str) -> String {
    let safe = branch.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' });
    safe.collect()
}

fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}
