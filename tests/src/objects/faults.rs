//! The server behind the store fails: whoever asks learns so, and nothing half made is ever seen.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use drivers::Driver;
use drivers::objects::{Settings, Upstream};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::sdk::{client, fetch};
use super::{Place, bucket, second, until};

const HERE: &str = "127.0.0.1";
const LARGE: usize = 20 << 20;

/// What happens to whatever passes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    Fair,
    /// Every connection ends.
    Away,
    /// Every request is answered by 503.
    Busy,
    /// A connection ends after so many bytes to the server.
    CutUp(usize),
    /// A connection ends after so many bytes from the server.
    CutDown(usize),
}

/// Stands between the store and the server.
struct Line {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
}

impl Line {
    async fn to(port: u16) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Line { address: listener.local_addr().unwrap(), weather: Arc::new(Mutex::new(Weather::Fair)) };
        let weather = line.weather.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let weather = weather.clone();
                tokio::spawn(async move { drop(carry(near, port, &weather).await) });
            }
        });
        line
    }

    fn is(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }
}

async fn carry(mut near: TcpStream, port: u16, weather: &Mutex<Weather>) -> std::io::Result<()> {
    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut sent, mut received) = (0, 0);
    loop {
        let (upwards, count) = tokio::select! {
            count = near.read(&mut up) => (true, count?),
            count = far.read(&mut down) => (false, count?),
        };
        if count == 0 {
            return Ok(());
        }
        let now = *weather.lock().unwrap();
        if upwards {
            sent += count;
        } else {
            received += count;
        }
        match now {
            Weather::Away => return Ok(()),
            Weather::Busy => {
                let body = "<Error><Code>SlowDown</Code><Message>not now</Message></Error>";
                let length = body.len();
                let head = format!("HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                return near.write_all(format!("{head}{body}").as_bytes()).await;
            }
            Weather::CutUp(most) if sent > most => return Ok(()),
            Weather::CutDown(most) if received > most => return Ok(()),
            _ if upwards => far.write_all(&up[..count]).await?,
            _ => near.write_all(&down[..count]).await?,
        }
    }
}

struct Scene {
    _dir: TempDir,
    place: Place,
    line: Line,
    s3: Client,
    bucket: String,
    /// The server itself.
    server: Upstream,
}

impl Scene {
    async fn set() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (server, line) = (second::upstream().await, Line::to(second::port().await).await);
        let through = Upstream { endpoint: Some(format!("http://{}", line.address)), ..server.clone() };
        let settings = Settings { upstream: Some(through), ..Settings::default() };
        let mut place = Place::open_with(dir.path(), HERE, settings).await;
        place.upstream = Some(server.clone());
        place.ensure(&bucket(1, 1)).await;
        let (s3, name) = client(&place, 1, 1);
        let config = s3.config().to_builder().retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled());
        Scene { _dir: dir, place, line, s3: Client::from_conf(config.build()), bucket: name, server }
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> Result<(), String> {
        let put = self.s3.put_object().bucket(&self.bucket).key(key).body(body.into()).send().await;
        put.map(drop).map_err(|why| code(&why))
    }

    async fn keys(&self) -> Vec<String> {
        let page = self.s3.list_objects_v2().bucket(&self.bucket).send().await.unwrap();
        page.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }

    /// Only what the index names is kept.
    async fn kept(&self, count: usize) {
        until("only whole blobs are left", async || {
            self.place.blobs().await.len() == count && second::uploads(&self.server).await.is_empty()
        })
        .await;
    }
}

fn code<E: ProvideErrorMetadata>(why: &SdkError<E>) -> String {
    let status = why.raw_response().map(|response| response.status().as_u16());
    format!("{status:?} {}", why.code().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_or_away_changes_nothing() {
    let scene = Scene::set().await;
    scene.put("kept", b"old".to_vec()).await.unwrap();
    for weather in [Weather::Busy, Weather::Away] {
        scene.line.is(weather);
        for (key, size) in [("kept", 9), ("new", 9), ("large", LARGE)] {
            let refused = scene.put(key, vec![1; size]).await.unwrap_err();
            assert_eq!(refused, "Some(503) ServiceUnavailable", "{weather:?}, {key}");
        }
        let read = scene.s3.get_object().bucket(&scene.bucket).key("kept").send().await.unwrap_err();
        assert_eq!(code(&read), "Some(503) ServiceUnavailable", "{weather:?}");
        // What the index knows needs no server.
        assert_eq!(scene.keys().await, ["kept"]);
        scene.s3.head_object().bucket(&scene.bucket).key("kept").send().await.unwrap();
        scene.line.is(Weather::Fair);
        assert_eq!(fetch(&scene.s3, &scene.bucket, "kept").await.as_deref(), Some(&b"old"[..]));
        scene.kept(1).await;
    }
    scene.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_cut_leaves_nothing() {
    let scene = Scene::set().await;
    scene.put("kept", b"old".to_vec()).await.unwrap();
    for most in [1 << 10, 3 << 20, 7 << 20] {
        scene.line.is(Weather::CutUp(most));
        for key in ["kept", "large"] {
            let refused = scene.put(key, vec![2; LARGE]).await.unwrap_err();
            assert_eq!(refused, "Some(503) ServiceUnavailable", "after {most}");
        }
        scene.line.is(Weather::Fair);
        assert_eq!(scene.keys().await, ["kept"]);
        assert_eq!(fetch(&scene.s3, &scene.bucket, "kept").await.as_deref(), Some(&b"old"[..]));
        scene.kept(1).await;
    }
    scene.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_cut_never_looks_whole() {
    let scene = Scene::set().await;
    let body: Vec<u8> = (0..LARGE).map(|n| (n % 251) as u8).collect();
    scene.put("large", body.clone()).await.unwrap();
    scene.line.is(Weather::CutDown(6 << 20));
    let answer = scene.s3.get_object().bucket(&scene.bucket).key("large").send().await.unwrap();
    assert!(answer.body.collect().await.is_err(), "half an object was given for a whole one");
    scene.line.is(Weather::Fair);
    assert!(fetch(&scene.s3, &scene.bucket, "large").await.unwrap() == body);
    scene.place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_removed_is_removed_later() {
    let scene = Scene::set().await;
    for n in 0..12 {
        scene.put(&format!("k{n}"), vec![3; 10]).await.unwrap();
    }
    scene.line.is(Weather::Away);
    let gone = scene.s3.delete_object().bucket(&scene.bucket).key("k0").send().await;
    gone.unwrap();
    assert_eq!(scene.keys().await.len(), 11);
    let id = bucket(1, 1).id;
    scene.place.driver.remove(&id).await.unwrap();
    until("the bucket is gone", async || !scene.place.listing().await.contains_key(&id)).await;
    assert_eq!(scene.place.blobs().await.len(), 12);
    scene.line.is(Weather::Fair);
    scene.kept(0).await;
    scene.place.close().await;
}
