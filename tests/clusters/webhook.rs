//! The issuer `webhook`: signed, repeatable, held to its addresses, and not believed.

use super::{CLAIM, House, on_loopback, profile};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use provisioner::{cluster::Trouble, http::listen::Bound, machine::ActResult, reach::Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
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

/// The house reaches 127.0.0.1 alone; a hook at another of this host's addresses sees no connection.
#[tokio::test]
async fn a_name_or_an_address_of_this_host_is_refused_before_anything_is_sent() {
    let hook = Hook::default();
    let (_, ca) = hook.start().await;
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let only_forbidden = |_: &str| vec![IpAddr::from([127, 0, 0, 2])];
    for host in ["127.0.0.2", "hook.example"] {
        let mut house = house(&format!("https://{host}:{port}/mint"), &ca).await;
        let reach = Reach::resolving_by(on_loopback(), Arc::new(Names(only_forbidden)));
        house.clusters = house.clusters.reaching(reach);
        let error = house.mint(&profile("webhook", json!({})), CLAIM).await.unwrap_err();
        let said = "127.0.0.2 is this host itself";
        assert!(matches!(&error, Trouble::Lasting(why) if why.contains(said)), "{error}");
    }
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "somebody has connected");
}

/// A cluster's API is held to the same rules.
#[tokio::test]
async fn a_cluster_at_a_forbidden_address_is_not_reached() {
    let hook = Hook::default();
    let (_, ca) = hook.start().await;
    for (endpoint, why) in [
        ("https://169.254.169.254:6443", "is link-local"),
        ("https://127.0.0.2:6443", "is this host itself"),
        ("https://cluster.example:6443", "cluster.example: 127.0.0.2 is this host itself"),
    ] {
        let record = json!({ "name": "lab", "endpoint": endpoint, "ca_certificate": ca,
            "kubernetes": { "credentials": "stored" } });
        let house = House::new(record, &[("kubernetes-credentials", "a-service-accounts-token")]).await;
        let reach = Reach::resolving_by(on_loopback(), Arc::new(Names(|_| vec![[127, 0, 0, 2].into()])));
        let asked = house.clusters.reaching(reach).api(&house.cluster).await;
        let error = match asked {
            Ok(api) => api.call(reqwest::Method::GET, "/version", &[], None).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(&error, Trouble::Lasting(said) if said.contains(why)), "{endpoint}: {error}");
    }
}

/// A resolver.
struct Names(fn(&str) -> Vec<IpAddr>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found: Vec<SocketAddr> = (self.0)(name.as_str()).into_iter().map(|ip| (ip, 0).into()).collect();
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}
