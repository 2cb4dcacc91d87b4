//! Webhooks: made, judged, signed, sent, and listed for redelivery.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpStream;

use super::world::timestamp;
use super::{Hub, Inner};

/// GitHub waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One delivery of one event.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Of this attempt.
    pub id: u64,
    /// Of the event: the same in every redelivery.
    pub guid: String,
    /// `pull_request`, …
    pub event: String,
    /// `opened`, …
    pub action: Option<String>,
    /// The bytes that are signed.
    pub body: Bytes,
    /// Seconds.
    pub at: i64,
    /// Not the first attempt.
    pub redelivery: bool,
    /// What was answered; none so far, or nothing: 0.
    pub status: Option<u16>,
}

/// Where webhooks go, and with whose signature.
#[derive(Debug, Clone)]
pub struct Target {
    /// `http://127.0.0.1:port/path`.
    pub url: String,
    /// The secret.
    pub secret: String,
}

impl Inner {
    /// Makes a webhook of this event. It leaves as the post's troubles allow.
    pub(super) fn emit(&mut self, event: &str, payload: Value) {
        let Some(target) = self.target.clone() else { return };
        let oracle = super::oracle::oracle();
        let mut payload = payload;
        if payload["installation"].is_null() {
            payload["installation"] = json!({ "id": self.world.app.installation, "node_id": "I77" });
        }
        let payload = oracle.webhook(event, payload);
        self.problems.extend(oracle.check_webhook(event, &payload));
        let delivery = Delivery {
            id: self.world.next_id(),
            guid: format!("{:08x}-0000-4000-8000-{:012x}", self.world.next_id(), self.deliveries.len()),
            event: event.to_owned(),
            action: payload["action"].as_str().map(str::to_owned),
            body: Bytes::from(payload.to_string()),
            at: self.world.now(),
            redelivery: false,
            status: None,
        };
        self.deliveries.push(delivery.clone());
        let count = u64::try_from(self.deliveries.len()).unwrap_or_default();
        let dropped = self.post.drop_every > 0 && count.is_multiple_of(self.post.drop_every);
        if dropped || self.post.dropped.contains(event) {
            return;
        }
        if self.post.held {
            self.waiting.push(delivery);
            return;
        }
        self.dispatch(&target, &delivery);
        if self.post.doubled {
            self.dispatch(&target, &delivery);
        }
    }

    /// Sends what was held, and holds no longer.
    pub(super) fn release(&mut self) {
        self.post.held = false;
        let mut waiting = std::mem::take(&mut self.waiting);
        if self.post.reversed {
            waiting.reverse();
        }
        if let Some(target) = self.target.clone() {
            waiting.iter().for_each(|delivery| self.dispatch(&target, delivery));
        }
    }

    /// Sends the event of an earlier delivery again. False if there is none.
    pub(super) fn redeliver(&mut self, id: u64) -> bool {
        let Some(known) = self.deliveries.iter().find(|delivery| delivery.id == id).cloned() else { return false };
        let again =
            Delivery { id: self.world.next_id(), at: self.world.now(), redelivery: true, status: None, ..known };
        self.deliveries.push(again.clone());
        if let Some(target) = self.target.clone() {
            self.dispatch(&target, &again);
        }
        true
    }

    fn dispatch(&mut self, target: &Target, delivery: &Delivery) {
        let (target, delivery, me) = (target.clone(), delivery.clone(), self.me.clone());
        self.under_way.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            let sent = tokio::time::timeout(PATIENCE, send(&target, &delivery)).await;
            let status = sent.ok().and_then(Result::ok).unwrap_or(0);
            if let Some(inner) = me.upgrade() {
                let mut inner = inner.lock().expect("the hub is whole");
                if let Some(known) = inner.deliveries.iter_mut().find(|known| known.id == delivery.id) {
                    known.status = Some(status);
                }
                inner.under_way.send_modify(|count| *count -= 1);
            }
        });
    }
}

impl Hub {
    /// Waits until every webhook that has left was answered.
    pub async fn delivered(&self) {
        let mut under_way = self.lock().under_way.subscribe();
        let done = under_way.wait_for(|count| *count == 0);
        tokio::time::timeout(PATIENCE * 2, done).await.expect("webhooks are answered in time").expect("the hub lives");
    }
}

/// The value of `X-Hub-Signature-256`.
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
    mac.update(body);
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

async fn send(target: &Target, delivery: &Delivery) -> anyhow::Result<u16> {
    let url: http::Uri = target.url.parse()?;
    let authority = url.authority().ok_or_else(|| anyhow::anyhow!("no host in {url}"))?.as_str();
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::post(url.path())
        .header("host", authority)
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/fake")
        .header("x-github-event", &delivery.event)
        .header("x-github-delivery", &delivery.guid)
        .header("x-github-hook-id", "42")
        .header("x-github-hook-installation-target-type", "integration")
        .header("x-hub-signature-256", signature(&target.secret, &delivery.body))
        .body(Full::new(delivery.body.clone()))?;
    Ok(sender.send_request(request).await?.status().as_u16())
}

/// A delivery as the API lists it.
#[must_use]
pub fn show(delivery: &Delivery, installation: u64) -> Value {
    let status = delivery.status.unwrap_or(0);
    json!({
        "id": delivery.id, "guid": delivery.guid, "delivered_at": timestamp(delivery.at), "redelivery": delivery.redelivery,
        "duration": 0.1, "status": if (200..300).contains(&status) { "OK" } else { "Invalid HTTP Response" }, "status_code": status,
        "event": delivery.event, "action": delivery.action, "installation_id": installation, "repository_id": null,
    })
}
