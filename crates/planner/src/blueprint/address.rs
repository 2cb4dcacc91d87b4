//! Where a commit is reached, as its code and its visitors know it.

use std::collections::BTreeMap;

use crate::hosts;
use crate::identity::Ref;
use crate::policy::Policy;
use crate::spec::{Canonical, Origin};

/// Addresses and names of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `<sha>.<domain>`, no port.
    pub host: String,
    /// With scheme and port.
    pub url: String,
    /// The alias of the ref first seen, in full.
    pub alias_url: String,
    /// Number of the pull request first seen; empty for branches.
    pub pull: String,
    /// Name of the branch first seen; empty for pull requests.
    pub branch: String,
}

/// The address of a commit; `first` is the first seen of the open refs that have it, with its alias label.
#[must_use]
pub fn address(policy: &Policy, of: &Origin, first: Option<(&Ref, &str)>) -> Address {
    let suffix = policy.suffix(&of.project);
    let host = hosts::canonical(&of.sha, suffix, &policy.domain);
    let alias_url =
        first.map(|(_, label)| policy.url(&hosts::alias(label, suffix, &policy.domain))).unwrap_or_default();
    let (pull, branch) = match first {
        Some((Ref::Pull(number), _)) => (number.to_string(), String::new()),
        Some((Ref::Branch(name) | Ref::Tag(name), _)) => (String::new(), name.clone()),
        None => Default::default(),
    };
    Address { url: policy.url(&host), host, alias_url, pull, branch }
}

/// Hosts of the further applications of a commit, by name.
#[must_use]
pub fn app_hosts<'n>(
    policy: &Policy,
    of: &Origin,
    names: impl Iterator<Item = &'n String>,
) -> BTreeMap<&'n str, String> {
    let suffix = policy.suffix(&of.project);
    names.map(|name| (name.as_str(), hosts::app(&of.sha, name, suffix, &policy.domain))).collect()
}

/// What requests to a host of ours carry.
pub(super) fn canonical(policy: &Policy, host: &str) -> Canonical {
    Canonical { host: host.to_owned(), authority: policy.authority(host), scheme: policy.scheme.clone() }
}
