//! Data that go from commit to commit, until somebody rewrites history.

use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use planner::identity::InstanceKey;
use planner::names;
use planner::view::CommitView;
use sidestage::demo::visitor::Answer;

use super::{GOODS, furnished, ok, pushed, query, ready_from};
use crate::kit;
use crate::objects::second::client;
use crate::stage::Stage;

/// An environment's bucket, met through the outer edge as its application's clients meet it.
struct Bucket<'a> {
    stage: &'a Stage,
    s3: Client,
    name: String,
}

impl<'a> Bucket<'a> {
    fn of(stage: &'a Stage, commit: &CommitView) -> Bucket<'a> {
        let config = stage.instance().config();
        let key = InstanceKey::new(std::fs::read(config.state_dir.join("instance.key")).unwrap().try_into().unwrap());
        let (id, secret) = names::bucket_keys(&key, &commit.env, commit.generation);
        let endpoint = format!("http://{}:{}", config.domain, config.listen.http.port());
        Bucket { stage, s3: client(&endpoint, &id, &secret), name: names::bucket(&commit.env) }
    }

    async fn send(&self, request: PresignedRequest, content: Option<&str>) -> Answer {
        let body = content.map(|content| ("text/plain", content.to_owned()));
        self.stage.visitor.send(request.uri(), request.method(), body).await.unwrap()
    }

    async fn put(&self, key: &str, content: &str) {
        let put = self.s3.put_object().bucket(&self.name).key(key).presigned(an_hour()).await.unwrap();
        let answer = self.send(put, Some(content)).await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.body);
    }

    async fn delete(&self, key: &str) {
        let delete = self.s3.delete_object().bucket(&self.name).key(key).presigned(an_hour()).await.unwrap();
        assert_eq!(self.send(delete, None).await.status, 204, "{key}");
    }

    /// What is under these keys, `-` where nothing is.
    async fn holds(&self, keys: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for key in keys {
            let get = self.s3.get_object().bucket(&self.name).key(*key).presigned(an_hour()).await.unwrap();
            let answer = self.send(get, None).await;
            assert!([200, 404].contains(&answer.status.as_u16()), "{key}: {} {}", answer.status, answer.body);
            found.push(if answer.status == 200 { answer.body } else { "-".to_owned() });
        }
        found
    }
}

fn an_hour() -> PresigningConfig {
    PresigningConfig::expires_in(std::time::Duration::from_secs(3600)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_go_from_commit_to_commit_and_a_rewrite_begins_with_the_baseline_again() {
    const KEYS: [&str; 4] = ["readme.txt", "one.txt", "two.txt", "three.txt"];
    let image = kit::busybox_image();
    let (stage, sources) = furnished(&image).await;
    let folder = sources.path();
    let insert = |id: u32| format!("insert into goods values ({id}, 'a new one')");

    let one = pushed(&stage, "refs/heads/main", "one").await;
    let first = ready_from(&stage, &one, "shop@1").await;
    query(&stage, &one, folder, &insert(101)).await;
    Bucket::of(&stage, &first).put("one.txt", "of one").await;

    let two = pushed(&stage, "refs/heads/one", "two").await;
    let second = ready_from(&stage, &two, &format!("carried on from {}", one.short())).await;
    assert_eq!(query(&stage, &two, folder, GOODS).await, "4");
    let bucket = Bucket::of(&stage, &second);
    assert_eq!(bucket.holds(&KEYS).await, ["of the baseline", "of one", "-", "-"]);
    // A table of its own, a row and an object less: all that a release may do is carried on too.
    let more = format!("{}; create table notes as select 1 as id; delete from goods where id = 1", insert(102));
    query(&stage, &two, folder, &more).await;
    bucket.put("two.txt", "of two").await;
    bucket.delete("readme.txt").await;

    let three = pushed(&stage, "refs/heads/one", "three").await;
    let third = ready_from(&stage, &three, &format!("carried on from {}", two.short())).await;
    assert_eq!(query(&stage, &three, folder, &format!("{GOODS}; select id from notes")).await, "4\n1");
    let bucket = Bucket::of(&stage, &third);
    assert_eq!(bucket.holds(&KEYS).await, ["-", "of one", "of two", "-"]);
    query(&stage, &three, folder, "drop table notes; delete from goods").await;
    bucket.put("three.txt", "of three").await;
    bucket.delete("one.txt").await;
    // The commit before goes on with its own.
    assert_eq!(query(&stage, &two, folder, &format!("{GOODS}; select id from notes")).await, "4\n1");
    assert_eq!(Bucket::of(&stage, &second).holds(&KEYS).await, ["-", "of one", "of two", "-"]);

    // The branch is rewritten: its head descends from no commit that has run.
    let rewritten = pushed(&stage, "refs/heads/main", "three, rewritten").await;
    let again = ready_from(&stage, &rewritten, "shop@1").await;
    assert_eq!(query(&stage, &rewritten, folder, GOODS).await, "3");
    assert_eq!(Bucket::of(&stage, &again).holds(&KEYS).await, ["of the baseline", "-", "-", "-"]);
    let next = pushed(&stage, "refs/heads/one", "four").await;
    ready_from(&stage, &next, &format!("carried on from {}", rewritten.short())).await;

    for (sha, from) in [(&rewritten, "shop@1".to_owned()), (&next, format!("carried on from {}", rewritten.short()))] {
        let shown = ok(&stage, &format!("show shop {sha}")).await;
        assert!(shown.contains(&format!("generation 1 from {from}, ")), "{shown}");
    }
    stage.close().await;
}
