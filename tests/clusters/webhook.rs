//! The issuer `webhook`: signed, repeatable, held to its addresses, and not believed.

use super::{CLAIM, House, profile};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use provisioner::{cluster::Trouble, http::listen::Bound, machine::ActResult};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

const KEY: &str = "canary-webhook-secret";

#[derive(Clone, Default)]
struct Hook {
    asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
}

impl Hook {
    async fn start(&self) -> (String, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let now = provisioner::clock::Clock::system().now();
        let tls = provisioner::http::tls::server_config(folder.path(), "127.0.0.1", now).unwrap();
        let ca = std::fs::read_to_string(provisioner::http::tls::ca_file(folder.path())).unwrap();
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("https://{}/mint", bound.address());
        let router = Router::new().route("/mint", post(minted)).with_state(self.clone());
        tokio::spawn(bound.tls(tls, router, std::future::pending()));
        (url, ca)
    }
}

async fn minted(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let stamp = headers["x-provisioner-timestamp"].to_str().unwrap();
    let expected = signed(stamp, &body);
    assert_eq!(headers["x-provisioner-signature"].to_str().unwrap(), expected);
    hook.asked.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
    let next = hook.answers.lock().unwrap().pop_front();
    let (status, text) = next.unwrap_or((200, json!({ "token": "canary-token-of-the-hook" }).to_string()));
    (StatusCode::from_u16(status).unwrap(), text)
}

/// As a receiver would check it, with another implementation than the sender's: openssl's.
fn signed(stamp: &str, body: &[u8]) -> String {
    use ring::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = hmac::sign(&key, &[stamp.as_bytes(), b".", body].concat());
    format!("sha256={}", provisioner_wire::ids::hex(tag.as_ref()))
}

async fn house(url: &str, ca: &str) -> House {
    let record = json!({
        "name": "lab", "endpoint": "https://10.0.0.1:6443", "ca_certificate": ca,
        "webhook": { "url": url, "secret": "stored", "ca_certificate": ca },
    });
    House::new(record, &[("webhook-secret", KEY)]).await
}

#[tokio::test]
async fn a_webhook_is_asked_with_one_key_a_claim_until_it_answers() {
    let hook = Hook::default();
    let (url, ca) = hook.start().await;
    let house = house(&url, &ca).await;
    hook.answers.lock().unwrap().push_back((503, String::new()));
    let grant = house.mint(&profile("webhook", json!({})), CLAIM).await.unwrap();
    assert_eq!(grant.token.reveal(), "canary-token-of-the-hook");
    let done = house.clusters.revoke_dead(&house.owing("webhook", CLAIM)).await;
    assert_eq!(done, ActResult::Revoked { minted_for: vec![CLAIM.into()] });
    let asked = hook.asked.lock().unwrap();
    let keys: Vec<_> = asked.iter().map(|(headers, _)| headers["idempotency-key"].clone()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2]);
    let (mint, revoke) = (&asked[1].1, &asked[2].1);
    assert_eq!(
        (&mint["action"], &mint["ttl_seconds"], &mint["machine"]),
        (&json!("mint"), &json!(600), &json!("node-1"))
    );
    assert_eq!((&revoke["action"], &revoke["id"]), (&json!("revoke"), &mint["id"]));
    assert!(!asked.iter().any(|(_, body)| body.to_string().contains(CLAIM)), "the claim's hash stays here");
}

#[tokio::test]
async fn what_a_webhook_says_is_not_believed() {
    let hook = Hook::default();
    let (url, ca) = hook.start().await;
    let house = house(&url, &ca).await;
    let profile = profile("webhook", json!({}));
    for answer in ["", "[]", "{\"token\":\"short\"}", "{\"token\":\"sixteen chars...\\nmore\"}"] {
        hook.answers.lock().unwrap().push_back((200, answer.to_owned()));
        let error = house.mint(&profile, CLAIM).await.unwrap_err();
        assert!(matches!(error, Trouble::Lasting(_)), "{answer}: {error}");
    }
    hook.answers.lock().unwrap().push_back((403, "canary: your password is wrong".to_owned()));
    let error = house.mint(&profile, CLAIM).await.unwrap_err();
    assert!(matches!(&error, Trouble::Lasting(why) if why.contains("403") && !why.contains("canary")));
    hook.answers.lock().unwrap().push_back((302, String::new()));
    assert!(house.mint(&profile, CLAIM).await.is_err(), "no redirect is followed");
    // A longer life than the profile's is cut here.
    let long = json!({ "token": "a-token-that-lives-long", "expires": "2099-01-01T00:00:00Z" });
    hook.answers.lock().unwrap().push_back((200, long.to_string()));
    let grant = house.mint(&profile, CLAIM).await.unwrap();
    assert!(grant.expires.since(house.now()) <= Duration::from_secs(600));
}

#[tokio::test]
async fn a_webhook_at_a_forbidden_address_is_not_reached() {
    let hook = Hook::default();
    let (_, ca) = hook.start().await;
    for (url, why) in [
        ("https://169.254.169.254/latest", "link-local"),
        ("https://10.1.2.3/mint", "private"),
        ("https://[::ffff:169.254.169.254]/mint", "link-local"),
    ] {
        let house = house(url, &ca).await;
        let error = house.mint(&profile("webhook", json!({})), CLAIM).await.unwrap_err();
        assert!(matches!(&error, Trouble::Lasting(said) if said.contains(why)), "{url}: {error}");
    }
    assert!(hook.asked.lock().unwrap().is_empty());
}
