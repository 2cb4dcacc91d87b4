//! Copy-on-write against a model: whatever environments write, delete, copy, carry on and seal, each sees its own map, in
//! order, on pages of any size, over restarts; and nothing is left at the end.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use drivers::Driver;
use drivers::objects::Settings;
use planner::resource::{Phase, Resource, ResourceId};
use planner::spec::{DataFrom, ObjectsFrom, Spec};

use super::sdk::{client, fetch};
use super::{Place, bucket, env, snapshot, until};
use crate::simulation::rng::Rng;

type Map = BTreeMap<String, Vec<u8>>;

const HERE: &str = "127.0.0.1";

/// Keys that collide, nest and sort oddly.
fn key(rng: &mut Rng) -> String {
    let segments = ["a", "b", "a b", "é", "..", "p", "q", "", "zz", "a-"];
    let count = 1 + rng.below(3) as usize;
    let parts: Vec<&str> = (0..count).map(|_| segments[rng.below(segments.len() as u64) as usize]).collect();
    let key = parts.join("/");
    if key.is_empty() { "root".to_owned() } else { key }
}

struct World {
    place: Place,
    /// Environments that are alive.
    envs: BTreeMap<u8, Map>,
    /// Baselines that are sealed.
    baselines: BTreeMap<String, Map>,
    next_env: u8,
    next_version: u32,
    written: u64,
}

impl World {
    fn some_env(&self, rng: &mut Rng) -> u8 {
        let all: Vec<u8> = self.envs.keys().copied().collect();
        all[rng.below(all.len() as u64) as usize]
    }

    fn client(&self, n: u8) -> (Client, String) {
        client(&self.place, n, 1)
    }

    async fn begin(&mut self, from: DataFrom, holds: Map) {
        let n = self.next_env;
        self.next_env += 1;
        self.place.ensure(&begins(n, from)).await;
        self.envs.insert(n, holds);
    }

    async fn step(&mut self, rng: &mut Rng) {
        let n = self.some_env(rng);
        let (s3, name) = self.client(n);
        match rng.below(20) {
            0..=6 => {
                let (key, body) = (key(rng), format!("{n} wrote {}", self.written).into_bytes());
                self.written += 1;
                s3.put_object().bucket(name).key(&key).body(ByteStream::from(body.clone())).send().await.unwrap();
                self.envs.get_mut(&n).unwrap().insert(key, body);
            }
            7..=9 => {
                let key = key(rng);
                s3.delete_object().bucket(name).key(&key).send().await.unwrap();
                self.envs.get_mut(&n).unwrap().remove(&key);
            }
            10 => {
                let keys: Vec<String> = (0..8).map(|_| key(rng)).collect();
                let ids = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect();
                let delete = Delete::builder().set_objects(Some(ids)).build().unwrap();
                s3.delete_objects().bucket(name).delete(delete).send().await.unwrap();
                let map = self.envs.get_mut(&n).unwrap();
                keys.iter().for_each(|key| drop(map.remove(key)));
            }
            11 | 12 => {
                let (to, map) = (key(rng), self.envs.get_mut(&n).unwrap());
                let Some(from) = map.keys().nth(rng.below(map.len().max(1) as u64) as usize).cloned() else { return };
                if from == to {
                    return;
                }
                let source = format!("{name}/{}", percent(&from));
                s3.copy_object().bucket(name).key(&to).copy_source(source).send().await.unwrap();
                let body = map[&from].clone();
                map.insert(to, body);
            }
            13 => {
                let key = key(rng);
                let found = fetch(&s3, &name, &key).await;
                assert_eq!(found.as_ref(), self.envs[&n].get(&key), "{n} reads {key:?}");
            }
            14 | 15 => self.compare(n, rng).await,
            16 if self.envs.len() < 7 => {
                let holds = self.envs[&n].clone();
                self.begin(DataFrom::Carry { from: bucket(n, 1).id, baseline: "default@1".to_owned() }, holds).await;
            }
            17 => {
                let version = format!("shop@{}", self.next_version);
                self.next_version += 1;
                self.place.ensure(&snapshot(&version, ObjectsFrom::Env(bucket(n, 1).id))).await;
                self.baselines.insert(version, self.envs[&n].clone());
            }
            18 if self.envs.len() < 7 => {
                let Some((version, holds)) = self.baselines.iter().next_back() else { return };
                let (version, holds) = (version.clone(), holds.clone());
                self.begin(DataFrom::Baseline(version), holds).await;
            }
            19 if self.envs.len() > 2 => {
                self.envs.remove(&n);
                self.place.driver.remove(&bucket(n, 1).id).await.unwrap();
            }
            _ => {
                let Some(version) = self.baselines.keys().next().cloned() else { return };
                self.baselines.remove(&version);
                self.place.driver.remove(&ResourceId::snapshot(&version)).await.unwrap();
            }
        }
    }

    /// Everything that an environment sees: listed in whole, some listing in pages, every object, and what is said of it.
    async fn compare(&self, n: u8, rng: &mut Rng) {
        let (s3, name) = self.client(n);
        let map = &self.envs[&n];
        for (key, body) in map {
            assert_eq!(fetch(&s3, &name, key).await.as_ref(), Some(body), "{n} reads {key:?}");
        }
        let usage = self.place.store.usage(&env(n), 1).await.unwrap().unwrap();
        let bytes: usize = map.values().map(Vec::len).sum();
        assert_eq!((usage.objects, usage.bytes), (map.len() as u64, bytes as u64), "usage of {n}");
        let prefixes = ["", "a", "a/", "p", "é", "zz/", "/"];
        let prefix = prefixes[rng.below(prefixes.len() as u64) as usize];
        let delimiter = ["", "/", "/a", "p"][rng.below(4) as usize];
        let size = 1 + rng.below(9) as i32;
        let after = if rng.below(2) == 0 { String::new() } else { key(rng) };
        let wanted = listed(map, prefix, delimiter, &after);
        let question = format!("{n}: prefix {prefix:?}, delimiter {delimiter:?}, after {after:?}, pages of {size}");
        assert_eq!(pages_v2(&s3, &name, prefix, delimiter, &after, size).await, wanted, "{question}");
        assert_eq!(pages_v1(&s3, &name, prefix, delimiter, &after, size).await, wanted, "version 1, {question}");
    }
}

fn begins(n: u8, from: DataFrom) -> Resource {
    let mut resource = bucket(n, 1);
    let Spec::Bucket { from: begins, .. } = &mut resource.spec else { unreachable!("a bucket") };
    *begins = from;
    resource
}

fn percent(key: &str) -> String {
    key.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Keys and common prefixes, in order.
fn listed(map: &Map, prefix: &str, delimiter: &str, after: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    // A listing begins behind a key; behind a common prefix, all that it stands for is left out.
    for key in map.keys().filter(|key| key.starts_with(prefix) && key.as_str() > after) {
        let at = if delimiter.is_empty() { None } else { key[prefix.len()..].find(delimiter) };
        let entry = at.map_or(key.clone(), |at| key[..prefix.len() + at + delimiter.len()].to_owned());
        if entry != after && found.last() != Some(&entry) {
            found.push(entry);
        }
    }
    found
}

fn merged<'a>(keys: impl Iterator<Item = &'a str>, prefixes: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut page: Vec<String> = keys.chain(prefixes).map(str::to_owned).collect();
    page.sort();
    page
}

async fn pages_v2(s3: &Client, bucket: &str, prefix: &str, delimiter: &str, after: &str, size: i32) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let mut request = s3.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(size).start_after(after);
        if !delimiter.is_empty() {
            request = request.delimiter(delimiter);
        }
        let page = request.set_continuation_token(token).send().await.unwrap();
        let keys = page.contents().iter().filter_map(|entry| entry.key());
        let entries = merged(keys, page.common_prefixes().iter().filter_map(|entry| entry.prefix()));
        assert!(entries.len() <= size as usize, "{} entries on a page of {size}", entries.len());
        found.extend(entries);
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            return found;
        }
    }
}

async fn pages_v1(s3: &Client, bucket: &str, prefix: &str, delimiter: &str, after: &str, size: i32) -> Vec<String> {
    let (mut found, mut marker) = (Vec::new(), after.to_owned());
    loop {
        let mut request = s3.list_objects().bucket(bucket).prefix(prefix).max_keys(size).marker(&marker);
        if !delimiter.is_empty() {
            request = request.delimiter(delimiter);
        }
        let page = request.send().await.unwrap();
        let keys = page.contents().iter().filter_map(|entry| entry.key());
        let entries = merged(keys, page.common_prefixes().iter().filter_map(|entry| entry.prefix()));
        found.extend(entries);
        match page.next_marker() {
            Some(next) => marker = next.to_owned(),
            None => return found,
        }
    }
}

pub(super) async fn model(seed: u64, steps: u32, settings: &Settings) {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(seed);
    let mut world = World {
        place: Place::open_with(dir.path(), HERE, settings.clone()).await,
        envs: BTreeMap::new(),
        baselines: BTreeMap::new(),
        next_env: 1,
        next_version: 1,
        written: 0,
    };
    world.begin(DataFrom::Baseline("default@1".to_owned()), Map::new()).await;
    for step in 0..steps {
        world.step(&mut rng).await;
        if step % 90 == 89 {
            // Everything is remembered, also when it ends in the middle of its tidying up.
            world.place.close().await;
            world.place = Place::open_with(dir.path(), HERE, settings.clone()).await;
        }
    }
    for n in world.envs.keys() {
        world.compare(*n, &mut rng).await;
    }
    let listing = world.place.listing().await;
    let whole = listing.values().filter(|observed| observed.phase == Phase::Whole).count();
    assert_eq!(whole, world.envs.len() + world.baselines.len(), "{listing:?}");
    for id in listing.keys() {
        world.place.driver.remove(id).await.unwrap();
    }
    until("everything is gone", async || world.place.listing().await.is_empty()).await;
    until("all blobs are gone", async || world.place.blobs().await.is_empty()).await;
    for table in ["SELECT count(*) FROM objects", "SELECT count(*) FROM layers"] {
        until(table, async || super::durability::rows(dir.path(), table).await == 0).await;
    }
    world.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_environment_sees_its_own_map() {
    for seed in 1..=3 {
        model(seed, 400, &Settings::default()).await;
    }
}
