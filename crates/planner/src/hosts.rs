//! Host names: the canonical host of a commit, those of its further applications, and the aliases of its refs.
//!
//! One label below the domain, so that one wildcard certificate covers all. Further parts of a label join with two
//! hyphens, and nothing else ever holds two in a row: a branch cannot take the host of another project.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::identity::{EnvId, Ref, Sha};

/// The most characters of a slug.
const LONGEST_SLUG: usize = 40;
/// Shorter slugs get a hash: they are too likely to mean something else one day.
const SHORTEST_SLUG: usize = 3;

/// `<sha>.<domain>`, the host that an application sees as its own; with a suffix `<sha>--<suffix>.<domain>`.
#[must_use]
pub fn canonical(sha: &Sha, suffix: &str, domain: &str) -> String {
    below(&sha.to_string(), suffix, domain)
}

/// `<sha>--<app>.<domain>`, the host of a further application of a commit.
#[must_use]
pub fn app(sha: &Sha, app: &str, suffix: &str, domain: &str) -> String {
    below(&format!("{sha}--{app}"), suffix, domain)
}

/// The host of an alias of a further application: `pr-7--<app>`.
#[must_use]
pub fn app_alias(label: &str, app: &str, suffix: &str, domain: &str) -> String {
    below(&format!("{label}--{app}"), suffix, domain)
}

/// The host of an alias that [`labels`] gave.
#[must_use]
pub fn alias(label: &str, suffix: &str, domain: &str) -> String {
    below(label, suffix, domain)
}

fn below(label: &str, suffix: &str, domain: &str) -> String {
    if suffix.is_empty() { format!("{label}.{domain}") } else { format!("{label}--{suffix}.{domain}") }
}

/// The alias of each ref of one project, as the first part of a label: `pr-<n>`, or the slug of the branch or tag.
///
/// `refs` come in the order in which they were first seen: of several with one slug the first keeps it plain. A slug
/// that is reserved, shortened, too short or taken gets `-<6 of the ref's hash>`.
pub fn labels<'a>(refs: impl IntoIterator<Item = &'a Ref>) -> BTreeMap<Ref, String> {
    let mut taken = BTreeSet::new();
    let mut labels = BTreeMap::new();
    for name in refs {
        if labels.contains_key(name) {
            continue;
        }
        let label = label(name, &taken);
        taken.insert(label.clone());
        labels.insert(name.clone(), label);
    }
    labels
}

fn label(name: &Ref, taken: &BTreeSet<String>) -> String {
    let (Ref::Branch(text) | Ref::Tag(text)) = name else {
        // Numbers are unique, and no slug may look like one of these.
        return name.to_string().replace('/', "-");
    };
    let slug = slug(text);
    let free = |label: &str| !is_reserved(label) && !taken.contains(label);
    if (SHORTEST_SLUG..=LONGEST_SLUG).contains(&slug.len()) && free(&slug) {
        return slug;
    }
    let hash = BASE32_NOPAD.encode(&Sha256::digest(name.to_string())).to_ascii_lowercase();
    let stem = if slug.is_empty() { "ref" } else { &slug };
    // Six characters nearly always do; they grow if by chance two refs share them.
    let hashed = |length: usize| {
        let stem = &stem[..stem.len().min(LONGEST_SLUG - 1 - length)];
        format!("{}-{}", stem.trim_end_matches('-'), &hash[..length])
    };
    (6..LONGEST_SLUG - 1).map(hashed).find(|label| free(label)).unwrap_or_else(|| hash[..LONGEST_SLUG].to_owned())
}

/// A ref's name as a part of a host name: lower case, everything but a-z and 0-9 a hyphen, never two in a row.
fn slug(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Labels that mean something else: commits, pull requests, buckets, name servers, what is to come.
fn is_reserved(label: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    matches!(label, "ns1" | "ns2" | "production")
        || label.parse::<Sha>().is_ok()
        || label.strip_prefix("pr-").is_some_and(number)
        || label.strip_prefix("s3-").is_some_and(|id| id.parse::<EnvId>().is_ok())
}
