//! Fingerprints hold intent only: what the commit and people asked for. Limits, settings of containers and Sidestage's
//! own version are not in them, so an upgrade or a changed limit rebuilds nothing.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::resource::{Fingerprint, ResourceId};
use crate::spec::Origin;

/// Of one thing of one commit's environment. The sha stands for the manifest, which is part of the commit.
#[must_use]
pub fn fingerprint(id: &ResourceId, of: &Origin, image: Option<&str>, baseline: Option<&str>) -> Fingerprint {
    let (sha, generation) = (of.sha.to_string(), id.generation.to_string());
    let parts = [
        id.kind.as_str(),
        &id.name,
        of.project.as_str(),
        &sha,
        of.trust.as_str(),
        &generation,
        image.unwrap_or(""),
        baseline.unwrap_or(""),
    ];
    Fingerprint(digest(&parts, 16))
}

/// Of an image: its name holds the tree and the recipe, and several commits share it.
#[must_use]
pub fn of_image(tag: &str) -> Fingerprint {
    Fingerprint(digest(&["image", tag], 16))
}

/// Of what belongs to a baseline's version: a version's data never change, and a spare is for one set of extensions.
#[must_use]
pub fn of_baseline(id: &ResourceId, extensions: &BTreeSet<String>) -> Fingerprint {
    let id = id.to_string();
    let parts: Vec<&str> = ["baseline", &id].into_iter().chain(extensions.iter().map(String::as_str)).collect();
    Fingerprint(digest(&parts, 16))
}

/// The first `length` hex digits of a hash over parts, each preceded by its length.
pub(crate) fn digest<T: AsRef<str>>(parts: &[T], length: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.as_ref().len() as u64).to_be_bytes());
        hash.update(part.as_ref());
    }
    let mut hex = HEXLOWER.encode(&hash.finalize());
    hex.truncate(length);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{InstanceKey, Sha, Trust};
    use crate::resource::{Backend, Kind, Owner};

    /// A change here replaces every container of every installation at the next upgrade.
    #[test]
    fn never_changes_by_itself() {
        let of = Origin {
            project: "shop".parse().unwrap_or_else(|_| unreachable!()),
            sha: Sha::from_bytes([7; 20]),
            trust: Trust::Trusted,
        };
        let owner = Owner::Env(InstanceKey::new([1; 32]).env(&of.project, &of.sha, of.trust));
        let id =
            ResourceId { backend: Backend::Engine, owner, generation: 3, kind: Kind::Container, name: "web".into() };
        assert_eq!(fingerprint(&id, &of, Some("0123456789ab-ba9876543210"), None).0, "38cb0d02a71e092b");
        assert_eq!(fingerprint(&id, &of, None, Some("default@1")).0, "3ca65a52c2eec0c0");
        assert_eq!(of_image("sst-abc/shop:0123456789ab-ba9876543210").0, "d568a5d567e5e902");
    }
}
