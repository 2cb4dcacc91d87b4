//! How long puts and gets take through the object store, beside `rclone serve s3` on the same disk; and through a second
//! store in front of the first, which is to it a server of the operator's. Prints one JSON object a line.
//! `throughput FOLDER ROUNDS RCLONE [PORT BUCKET ID SECRET]`: a program, and a server on this machine that shall be the
//! one behind.

use std::error::Error;
use std::net::{self, Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use drivers::objects::{ObjectStore, Objects, Settings, Upstream};
use drivers::{Driver, Listing, Log};
use planner::identity::{InstanceKey, Sha, Trust};
use planner::names;
use planner::resource::{Backend, Fingerprint, Kind, Owner, Resource, ResourceId, Run};
use planner::spec::{DataFrom, Origin, Spec};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Name, bytes of an object, and how many.
const CASES: [(&str, usize, usize); 3] = [("4 kB", 4 << 10, 400), ("1 MB", 1 << 20, 64), ("100 MB", 100 << 20, 2)];
/// Bytes of a part.
const PART: usize = 8 << 20;
/// Requests at once.
const AT_ONCE: usize = 4;
/// What a server that stands between may take away: 0.7 of the throughput is left.
const BETWEEN: f64 = 1.0 / 0.7;
const DOMAIN: &str = "localhost";
const REGION: &str = "us-east-1";
const KEYS: [&str; 2] = ["measured", "for-measuring-only"];
const BUCKET: &str = "theirs";
const RCLONE: &str = "rclone serve s3";

/// A server, as its client sees it.
#[derive(Clone)]
struct Site {
    name: &'static str,
    port: u16,
    keys: [String; 2],
    client: Client,
    bucket: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = || words.next().ok_or("throughput FOLDER ROUNDS RCLONE");
    let (folder, rounds, program) = (PathBuf::from(word()?), word()?.parse()?, word()?);
    let rclone = Rclone::start(&program, &folder.join("rclone"))?;
    let keys = KEYS.map(str::to_owned);
    let alone = Site::new(RCLONE, rclone.port, keys, BUCKET.to_owned());
    let embedded = store(&folder.join("embedded"), "embedded store", Settings::default()).await?;
    let behind = match word() {
        Ok(port) => {
            let (bucket, id, secret) = (word()?, word()?, word()?);
            Site::new("the other by itself", port.parse()?, [id, secret], bucket)
        }
        Err(_) => embedded.clone(),
    };
    let upstream = Upstream {
        endpoint: Some(format!("http://{DOMAIN}:{}", behind.port)),
        region: REGION.to_owned(),
        bucket: behind.bucket.clone(),
        credentials_file: credentials(&folder, &behind)?,
    };
    let settings = Settings { upstream: Some(upstream), ..Settings::default() };
    let before = store(&folder.join("front"), "before another", settings).await?;
    for (what, bytes, count) in CASES {
        for (ours, peer) in [(&embedded, &alone), (&before, &behind)] {
            compared(ours, peer, what, (bytes, count), rounds).await?;
        }
    }
    Ok(())
}

/// By turns, so that a busy moment of the machine meets both; the first round warms up.
async fn compared(ours: &Site, peer: &Site, what: &str, work: (usize, usize), rounds: usize) -> Result<()> {
    let mut times: [[Vec<f64>; 2]; 2] = Default::default();
    // What rclone answers to the beginning of an upload in parts, this client does not understand.
    let put = if work.0 > PART && peer.name != RCLONE { Verb::PutInParts } else { Verb::Put };
    for round in 0..=rounds {
        for (site, [puts, gets]) in [ours, peer].into_iter().zip(&mut times) {
            let (put, get) = (at_once(site, work, round, put).await?, at_once(site, work, round, Verb::Get).await?);
            if round > 0 {
                puts.push(put);
                gets.push(get);
            }
        }
    }
    let [[our_puts, our_gets], [their_puts, their_gets]] = times.map(|both| both.map(median));
    for (verb, ours_took, peer_took) in [("put", our_puts, their_puts), ("get", our_gets, their_gets)] {
        let row = serde_json::json!({
            "case": format!("{verb} {} of {what}, {}", work.1, ours.name),
            "ours": ours_took, "peer": peer_took, "peer_name": peer.name, "unit": "ms", "goal": BETWEEN,
        });
        println!("{row}");
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Verb {
    Put,
    PutInParts,
    Get,
}

/// All objects of a case, so many at once; in milliseconds.
async fn at_once(site: &Site, (bytes, count): (usize, usize), round: usize, verb: Verb) -> Result<f64> {
    let body = Bytes::from(vec![b'x'; bytes]);
    let begun = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..AT_ONCE {
        let (site, body) = (site.clone(), body.clone());
        lanes.spawn(async move {
            for number in (lane..count).step_by(AT_ONCE) {
                let key = format!("{bytes}/{round}/{number}");
                match verb {
                    Verb::Put => site.put(&key, body.clone()).await?,
                    Verb::PutInParts => site.put_in_parts(&key, body.clone()).await?,
                    Verb::Get => site.get(&key, bytes).await?,
                }
            }
            Result::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

impl Site {
    fn new(name: &'static str, port: u16, keys: [String; 2], bucket: String) -> Site {
        let [id, secret] = &keys;
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(id, secret, None, None, "bench"))
            .endpoint_url(format!("http://{DOMAIN}:{port}"))
            .force_path_style(true);
        Site { name, port, keys, client: Client::from_conf(config.build()), bucket }
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(body)).send().await?;
        Ok(())
    }

    /// As the usual clients put what is large.
    async fn put_in_parts(&self, key: &str, body: Bytes) -> Result<()> {
        let (client, bucket) = (&self.client, &self.bucket);
        let begun = client.create_multipart_upload().bucket(bucket).key(key).send().await?;
        let upload = begun.upload_id.ok_or("no upload")?;
        let mut parts = CompletedMultipartUpload::builder();
        for (number, from) in (1..).zip((0..body.len()).step_by(PART)) {
            let part = body.slice(from..body.len().min(from + PART));
            let put = client.upload_part().bucket(bucket).key(key).upload_id(&upload).part_number(number);
            let e_tag = put.body(ByteStream::from(part)).send().await?.e_tag;
            parts = parts.parts(CompletedPart::builder().part_number(number).set_e_tag(e_tag).build());
        }
        let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(upload);
        complete.multipart_upload(parts.build()).send().await?;
        Ok(())
    }

    async fn get(&self, key: &str, bytes: usize) -> Result<()> {
        let mut body = self.client.get_object().bucket(&self.bucket).key(key).send().await?.body;
        let mut read = 0;
        while let Some(part) = body.try_next().await? {
            read += part.len();
        }
        if read == bytes { Ok(()) } else { Err(format!("{key} of {}: {read} bytes", self.name).into()) }
    }
}

/// A store with one environment's bucket, served until the program ends.
async fn store(folder: &Path, name: &'static str, settings: Settings) -> Result<Site> {
    let key = InstanceKey::new([7; 32]);
    let store = Arc::new(ObjectStore::open_with(folder, key.clone(), DOMAIN, settings).await?);
    let of = Origin { project: "bench".parse()?, sha: Sha::from_bytes([1; 20]), trust: Trust::Trusted };
    let env = key.env(&of.project, &of.sha, of.trust);
    let resource = Resource {
        id: ResourceId {
            backend: Backend::Objects,
            owner: Owner::Env(env.clone()),
            generation: 1,
            kind: Kind::Bucket,
            name: "main".to_owned(),
        },
        spec: Spec::Bucket { of, from: DataFrom::Baseline("default@1".to_owned()), public: Vec::new() },
        run: Run::Running,
        needs: Vec::new(),
        deadline: Duration::from_secs(60),
        fingerprint: Fingerprint("00000000000000bb".to_owned()),
    };
    let made = Objects::new(store.clone()).ensure(&resource, &Listing::new(), &Log::none()).await;
    made.map_err(|failure| failure.to_string())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { store.serve(listener, CancellationToken::new()).await });
    let (id, secret) = names::bucket_keys(&key, &env, 1);
    Ok(Site::new(name, port, [id, secret], names::bucket(&env)))
}

fn credentials(folder: &Path, site: &Site) -> Result<PathBuf> {
    let (file, [id, secret]) = (folder.join("credentials"), &site.keys);
    std::fs::write(&file, format!("access_key_id = {id}\nsecret_access_key = {secret}\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// `rclone serve s3` of a folder, until it is dropped.
struct Rclone {
    child: Child,
    port: u16,
}

impl Rclone {
    fn start(program: &str, folder: &Path) -> Result<Rclone> {
        std::fs::create_dir_all(folder.join(BUCKET))?;
        let port = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["serve", "s3", "--config", "", "--auth-key", &KEYS.join(",")]);
        command.args(["--addr", &format!("127.0.0.1:{port}")]).arg(folder);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let started = Rclone { child, port };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if since.elapsed() > Duration::from_secs(20) {
                return Err("rclone does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
