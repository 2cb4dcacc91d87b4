//! Names of hosts and of outside things: valid wherever they are used, and distinct for what is distinct.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use planner::hosts;
use planner::identity::{EnvId, InstanceKey, ProjectName, Ref, Sha, Trust};
use planner::names;
use proptest::collection::vec;
use proptest::prelude::*;

fn branch(name: &str) -> Ref {
    Ref::Branch(name.to_owned())
}

/// The labels of these refs, in the order given, which is that of first sight.
fn labels(refs: &[Ref]) -> Vec<String> {
    let labels = hosts::labels(refs);
    refs.iter().map(|name| labels[name].clone()).collect()
}

#[test]
fn a_branch_is_known_by_its_slug() {
    for (name, label) in [
        ("feature", "feature"),
        ("feature/Login_Form", "feature-login-form"),
        ("a--b---c", "a-b-c"),
        ("-x-y-", "x-y"),
        ("fix/#12.3", "fix-12-3"),
        ("größe", "gr-e"),
        ("main;curl x|sh", "main-curl-x-sh"),
        ("pr-x", "pr-x"),
        ("s3-upload", "s3-upload"),
        ("ns3", "ns3"),
        ("xn--bcher-kva", "xn-bcher-kva"),
    ] {
        assert_eq!(labels(&[branch(name)]), [label], "of {name:?}");
    }
    assert_eq!(labels(&[Ref::Pull(7), Ref::Tag("v1.2".to_owned())]), ["pr-7", "v1-2"]);
}

#[test]
fn reserved_short_and_long_slugs_carry_a_hash() {
    let forty = "a".repeat(40);
    let bucket = "s3-abcdefghijklmnop";
    let long = "a-".repeat(30);
    for (name, stem) in [
        ("pr-7", "pr-7"),
        ("PR/7", "pr-7"),
        ("ns1", "ns1"),
        ("ns2", "ns2"),
        ("production", "production"),
        (bucket, bucket),
        (&forty, &forty[..33]),
        (&"b".repeat(41), &"b".repeat(33)),
        // The cut falls on a hyphen, which would make two in a row.
        (&long, &"a-".repeat(17)[..33]),
        ("x", "x"),
        ("ab", "ab"),
        ("äöü", "ref"),
        ("日本", "ref"),
    ] {
        let label = labels(&[branch(name)]).remove(0);
        let (found, hash) = label.rsplit_once('-').unwrap();
        assert_eq!((found, hash.len()), (stem, 6), "of {name:?}");
    }
    assert_eq!(labels(&[branch(&"z".repeat(40))]), ["z".repeat(40)], "40 letters that are no hex are no commit");
}

#[test]
fn the_first_seen_of_two_with_one_slug_keeps_it() {
    let (upper, lower, tag) = (branch("Feature"), branch("feature"), Ref::Tag("feature".to_owned()));
    let found = labels(&[upper.clone(), lower.clone(), tag.clone()]);
    assert_eq!(found[0], "feature");
    let other = labels(&[tag, lower, upper]);
    assert_eq!(other[0], "feature");
    assert_eq!(found[1], other[1], "a hash is of the ref, whoever came before");
    assert_eq!(BTreeSet::from_iter(&found).len(), 3);
}

#[test]
fn a_branch_that_is_called_like_the_hash_of_another_takes_nothing_away() {
    let hashed = labels(&[branch("Feature"), branch("feature")]).remove(1);
    let thief = branch(&hashed);
    let found = labels(&[thief.clone(), branch("Feature"), branch("feature")]);
    assert_eq!(found[0], hashed);
    assert_eq!(BTreeSet::from_iter(&found).len(), 3);
    assert_eq!(labels(&[branch("Feature"), branch("feature"), thief])[1], hashed);
}

#[test]
fn suffixes_join_with_two_hyphens() {
    let sha: Sha = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    assert_eq!(hosts::canonical(&sha, "", "staging.test"), format!("{sha}.staging.test"));
    assert_eq!(hosts::canonical(&sha, "shop", "staging.test"), format!("{sha}--shop.staging.test"));
    assert_eq!(hosts::alias("pr-7", "shop", "staging.test"), "pr-7--shop.staging.test");
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn any_ref() -> impl Strategy<Value = Ref> {
    // Few letters and many separators, so that slugs meet.
    let name = prop_oneof![
        "[abAB/_.-]{1,6}",
        "(pr|s3|ns|PR)[-/]?[0-9a-z]{0,16}",
        "\\PC{1,80}",
        "[a-f0-9]{40}",
        "[a-b-]{38,44}"
    ];
    prop_oneof![(1u64..20).prop_map(Ref::Pull), name.clone().prop_map(Ref::Branch), name.prop_map(Ref::Tag)]
}

proptest! {
    #[test]
    fn labels_are_valid_distinct_and_nobody_elses(refs in vec(any_ref(), 1..40), suffix in "([a-z]{1,9})?") {
        let labels = hosts::labels(&refs);
        let distinct: BTreeSet<&String> = labels.values().collect();
        prop_assert_eq!(distinct.len(), labels.len());
        for (name, label) in &labels {
            prop_assert!(label.len() <= 40 && !label.contains("--"), "{label}");
            prop_assert!(label.parse::<Sha>().is_err(), "a commit: {label}");
            prop_assert!(label.strip_prefix("s3-").is_none_or(|id| id.parse::<EnvId>().is_err()), "a bucket: {label}");
            let number = label.strip_prefix("pr-").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            prop_assert_eq!(number, matches!(name, Ref::Pull(_)), "{}", label);
            let host = hosts::alias(label, &suffix, "test");
            prop_assert!(is_label(host.strip_suffix(".test").unwrap()), "{host}");
        }
    }

    #[test]
    fn a_label_does_not_change_when_others_come_later(refs in vec(any_ref(), 2..20)) {
        let all = hosts::labels(&refs);
        for (name, label) in hosts::labels(&refs[..refs.len() / 2]) {
            prop_assert_eq!(&all[&name], &label);
        }
    }

    #[test]
    fn names_of_outside_things_are_valid(seed: [u8; 32], sha: [u8; 20], project in "[a-z]([a-z0-9-]{0,30}[a-z0-9])?", generation: u32, name in "[a-z]([a-z0-9-]{0,18}[a-z0-9])?") {
        let key = InstanceKey::new(seed);
        let project: ProjectName = project.parse().unwrap();
        let env = key.env(&project, &Sha::from_bytes(sha), Trust::Trusted);

        // PostgreSQL cuts identifiers at 63 bytes; these need no quotes either.
        let database = names::database(&env, generation);
        prop_assert!(database.len() <= 63 && database.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        prop_assert_eq!(names::parse_database(&database), Some((env.clone(), generation)));

        // S3: 3 to 63, and a DNS label, since it is a host too.
        let bucket = names::bucket(&env);
        prop_assert!(bucket.len() >= 3 && is_label(&bucket));

        // Docker: [a-zA-Z0-9][a-zA-Z0-9_.-]+, and the container's name is no longer than a host name may be.
        let container = names::container(&env, generation, &name);
        prop_assert!(is_label(&container), "{}", container);
        prop_assert!(is_label(&names::network(&env, generation)));
        let repository = names::image_repository(&key, &project);
        prop_assert!(repository.split('/').all(is_label) && repository.len() < 128);

        // Linux: at most 15 bytes.
        let bridge = names::bridge(&key, &env, generation);
        prop_assert_eq!(bridge.len(), 15);
        prop_assert!(bridge.starts_with(&names::interface_prefix(&key)));
        prop_assert!(names::service_bridge(&key).len() <= 15);
        prop_assert_ne!(bridge, names::service_bridge(&key));
    }

    #[test]
    fn names_of_distinct_things_are_distinct(seed: [u8; 32], one: [u8; 20], two: [u8; 20], first in 0u32..50, second in 50u32..100) {
        prop_assume!(one != two);
        let key = InstanceKey::new(seed);
        let mut found = BTreeSet::new();
        let mut count = 0;
        let mut note = |name: String| { found.insert(name); count += 1; };
        for sha in [one, two] {
            for project in ["shop", "shop-2"] {
                for trust in [Trust::Untrusted, Trust::Approved, Trust::Trusted] {
                    let env = key.env(&project.parse().unwrap(), &Sha::from_bytes(sha), trust);
                    note(names::bucket(&env));
                    for generation in [first, second] {
                        note(names::database(&env, generation));
                        note(names::network(&env, generation));
                        note(names::container(&env, generation, "web"));
                        note(names::container(&env, generation, "web-1"));
                        note(names::bridge(&key, &env, generation));
                        note(names::database_password(&key, &env, generation));
                        let (id, secret) = names::bucket_keys(&key, &env, generation);
                        note(id);
                        note(secret);
                    }
                }
            }
        }
        prop_assert_eq!(found.len(), count);
    }

    #[test]
    fn two_instances_never_share_a_name(one: [u8; 32], two: [u8; 32], sha: [u8; 20]) {
        prop_assume!(one != two);
        let of = |seed| {
            let key = InstanceKey::new(seed);
            let env = key.env(&"shop".parse().unwrap(), &Sha::from_bytes(sha), Trust::Trusted);
            [names::database(&env, 1), names::bucket(&env), names::container(&env, 1, "web"), names::bridge(&key, &env, 1)]
        };
        for (mine, theirs) in of(one).into_iter().zip(of(two)) {
            prop_assert_ne!(mine, theirs);
        }
    }
}
