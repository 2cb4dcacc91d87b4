//! Every example parses, and an operator who lists what it names would let it run.

use std::collections::BTreeSet;
use std::fs;

use planner::blueprint::allowed;
use planner::identity::{Sha, Trust};
use planner::manifest::Manifest;
use planner::spec::Origin;
use sidestage::config::Config;

use super::workspace;

#[test]
fn every_example_parses_and_is_allowed() {
    let config = "domain = \"staging.example.org\"\n[[project]]\nname = \"shop\"\ngit = \"/srv/git/shop.git\"\n";
    let mut policy = Config::parse(config).unwrap().policy();
    policy.extensions = BTreeSet::from(["pg_stat_statements".to_owned()]);
    let (name, mut project) = policy.projects.clone().pop_first().unwrap();
    let of = Origin { project: name, sha: Sha::from_bytes([1; 20]), trust: Trust::Trusted };
    project.images = BTreeSet::from(["redis:7".to_owned()]);
    let mut seen = 0;
    for entry in fs::read_dir(workspace().join("deploy/examples")).unwrap() {
        let path = entry.unwrap().path();
        let manifest = Manifest::parse(Some(&fs::read(&path).unwrap()));
        let manifest = manifest.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        allowed(&manifest, &policy, &project, &of).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}
