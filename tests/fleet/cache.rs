//! `provisioner cache`: what it fetches once, what it refuses to believe, and what it does while the server is away.

use super::cache_before;
use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use provisioner_wire::chunks::Sha;
use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A server with pieces that may be lies.
#[derive(Default)]
struct Pieces {
    by_name: Mutex<HashMap<String, Vec<u8>>>,
    asked: AtomicUsize,
}

impl Pieces {
    fn put(&self, bytes: &[u8]) -> Sha {
        let name = Sha::of(bytes);
        self.by_name.lock().unwrap().insert(name.to_string(), bytes.to_vec());
        name
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn piece(State(pieces): State<Arc<Pieces>>, Path(name): Path<String>) -> (StatusCode, Vec<u8>) {
    pieces.asked.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let found = pieces.by_name.lock().unwrap().get(&name).cloned();
    found.map_or((StatusCode::NOT_FOUND, Vec::new()), |bytes| (StatusCode::OK, bytes))
}

struct Upstream {
    pieces: Arc<Pieces>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

async fn upstream() -> Upstream {
    let pieces = Arc::<Pieces>::default();
    let routes = Router::new()
        .route("/images/chunks/{name}", get(piece))
        .route("/images/manifests/{name}", get(piece))
        .with_state(pieces.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    Upstream { pieces, url, serving }
}

async fn fetch(cache: &str, name: &Sha) -> (u16, Vec<u8>) {
    let answer = reqwest::get(format!("{cache}/images/chunks/{name}")).await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
}

async fn status(cache: &str) -> Value {
    reqwest::get(format!("{cache}/status")).await.unwrap().json().await.unwrap()
}

/// The disk is written after the answer.
async fn until_kept(cache: &str, pieces: u64) {
    for _ in 0..200 {
        if status(cache).await["pieces"] == pieces {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", status(cache).await);
}

#[tokio::test]
async fn many_machines_cost_one_fetch() {
    let (server, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let cache = cache_before(&server.url, folder.path(), 1 << 30).await;
    let bytes = vec![7; 1_000_000];
    let name = server.pieces.put(&bytes);
    let all = (0..50).map(|_| fetch(&cache, &name));
    for (code, got) in futures_util::future::join_all(all).await {
        assert_eq!((code, got == bytes), (200, true));
    }
    assert_eq!(server.pieces.asked(), 1);
    until_kept(&cache, 1).await;
    // A range, as after a cut; and the headers that a proxy on the way needs.
    let client = reqwest::Client::new();
    let url = format!("{cache}/images/chunks/{name}");
    let part = client.get(&url).header("range", "bytes=999990-").header("if-range", format!("\"{name}\""));
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 999990-999999/1000000");
    assert!(part.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "1000000");
    assert_eq!(server.pieces.asked(), 1);
}

#[tokio::test]
async fn what_has_not_its_hash_is_neither_served_nor_kept() {
    let (server, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let cache = cache_before(&server.url, folder.path(), 1 << 30).await;
    let name = Sha::of(b"the right bytes");
    server.pieces.by_name.lock().unwrap().insert(name.to_string(), b"the wrong bytes".to_vec());
    let (code, text) = fetch(&cache, &name).await;
    assert_eq!(code, 502);
    assert!(String::from_utf8(text).unwrap().contains("other bytes than those of the hash"));
    assert_eq!(status(&cache).await["pieces"], 0);
    assert_eq!(fetch(&cache, &Sha::of(b"unknown")).await.0, 404);
    // A failure is not remembered.
    server.pieces.put(b"the right bytes");
    assert_eq!(fetch(&cache, &name).await, (200, b"the right bytes".to_vec()));
    assert_eq!(reqwest::get(format!("{cache}/images/chunks/zz")).await.unwrap().status(), 404);
}

#[tokio::test]
async fn without_its_server_it_serves_what_it_has_and_says_so() {
    let (server, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let first = cache_before(&server.url, folder.path(), 1 << 30).await;
    let (kept, spoilt) = (server.pieces.put(b"kept"), server.pieces.put(b"spoilt on the disk"));
    for name in [&kept, &spoilt] {
        assert_eq!(fetch(&first, name).await.0, 200);
    }
    until_kept(&first, 2).await;
    server.serving.abort();
    let _ = server.serving.await;
    let file = folder.path().join(&spoilt.to_string()[..2]).join(spoilt.to_string());
    fs::write(&file, b"spoiled on the disk").unwrap();
    // A new process: nothing is in memory.
    let second = cache_before(&server.url, folder.path(), 1 << 30).await;
    assert_eq!(fetch(&second, &kept).await, (200, b"kept".to_vec()));
    let (code, text) = fetch(&second, &spoilt).await;
    let text = String::from_utf8(text).unwrap();
    assert_eq!(code, 502);
    assert!(text.contains("is not reached (") && text.contains("this cache does not have it"), "{text}");
    assert!(!file.exists(), "bytes that are not those of their name are removed");
    let status = status(&second).await;
    assert_eq!((&status["upstream"]["up"], &status["pieces"]), (&false.into(), &1.into()), "{status}");
    assert!(status["upstream"]["reason"].as_str().unwrap().contains("refused"), "{status}");
}

#[tokio::test]
async fn the_disk_has_a_limit_and_the_least_used_goes() {
    let (server, folder) = (upstream().await, tempfile::tempdir().unwrap());
    let cache = cache_before(&server.url, folder.path(), 2500).await;
    let names: Vec<Sha> = (0..4).map(|n| server.pieces.put(&[n; 1000])).collect();
    for name in &names[..2] {
        fetch(&cache, name).await;
    }
    until_kept(&cache, 2).await;
    for name in &names[2..] {
        fetch(&cache, name).await;
    }
    for _ in 0..200 {
        let there = |name: &Sha| folder.path().join(&name.to_string()[..2]).join(name.to_string()).exists();
        if names.iter().map(there).collect::<Vec<_>>() == [false, false, true, true] {
            assert_eq!(status(&cache).await["bytes"], 2000);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", status(&cache).await);
}
