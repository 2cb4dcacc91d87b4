//! Amazon's SDK for Rust, for tests that act and look step by step.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use planner::names;

use super::{Place, env, key};

/// A client of an environment's generation, and its bucket's name.
pub(super) fn client(place: &Place, n: u8, generation: u32) -> (Client, String) {
    let (id, secret) = names::bucket_keys(&key(), &env(n), generation);
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("staging"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .endpoint_url(format!("http://{}", place.address))
        .force_path_style(true);
    (Client::from_conf(config.build()), names::bucket(&env(n)))
}

/// What is under a key.
pub(super) async fn fetch(s3: &Client, bucket: &str, key: &str) -> Option<Vec<u8>> {
    match s3.get_object().bucket(bucket).key(key).send().await {
        Ok(answer) => Some(answer.body.collect().await.unwrap().to_vec()),
        Err(why)
            if why
                .as_service_error()
                .is_some_and(aws_sdk_s3::operation::get_object::GetObjectError::is_no_such_key) =>
        {
            None
        }
        Err(why) => panic!("{key:?}: {why:?}"),
    }
}
