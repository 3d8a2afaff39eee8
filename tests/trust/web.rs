//! TUF repositories by URL, over real HTTP: they are held to the rules about addresses.

use super::{
    Site,
    repository::{Repository, TARGET},
};
use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header::LOCATION},
    routing::get,
};
use provisioner::reach::Rules;
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

const IMAGE: &[u8] = b"the disk's bytes";

/// Files of `folder`, or the way to `elsewhere`; and how often it was asked.
async fn serve(at: &str, folder: PathBuf, elsewhere: Option<String>) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move |Path(file): Path<String>| async move {
        count.fetch_add(1, Ordering::SeqCst);
        if let Some(base) = elsewhere {
            let headers = HeaderMap::from_iter([(LOCATION, format!("{base}/{file}").parse().unwrap())]);
            return (StatusCode::FOUND, headers, Vec::new());
        }
        match fs::read(folder.join(file)) {
            Ok(bytes) => (StatusCode::OK, HeaderMap::new(), bytes),
            Err(_) => (StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new()),
        }
    };
    let listener = tokio::net::TcpListener::bind((at, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/tuf/{file}", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, asked)
}

struct House {
    site: Arc<Site>,
    folder: PathBuf,
}

fn house(allow: &[&str]) -> House {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut site = Site::new(IMAGE);
    let folder = site.path().join("published");
    let repository = Repository::new(folder.clone(), IMAGE);
    let root = repository.publish_root(1, &[1]);
    repository.publish();
    site.write("root.json", root);
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    site.rules = Some(Rules { allow, ..Rules::with_private() });
    House { site: Arc::new(site), folder }
}

impl House {
    /// The refusal, where there is one.
    async fn verify(&self, base: &str) -> Result<(), String> {
        let policy =
            json!({"tuf": {"repository": {"url": base}, "root": {"file": "root.json"}, "target": TARGET}});
        let site = self.site.clone();
        let judged = tokio::task::spawn_blocking(move || site.verify(&policy).map(|_| ()));
        judged.await.unwrap().map_err(|e| e.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_repository_is_asked_and_a_forbidden_one_is_not() {
    let allowed = house(&["127.0.0.1/32"]);
    let (good, asked) = serve("127.0.0.1", allowed.folder.clone(), None).await;
    allowed.verify(&format!("http://{good}/tuf")).await.unwrap();
    assert!(asked.load(Ordering::SeqCst) >= 3);

    let usual = house(&[]);
    let (address, asked) = serve("127.0.0.1", usual.folder.clone(), None).await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let told = usual.verify(&format!("http://{host}:{}/tuf", address.port())).await.unwrap_err();
        assert!(told.starts_with("image i: signature.tuf.repository"), "{told}");
        assert!(told.contains("is this host itself") && told.contains("fetch.allow"), "{told}");
    }
    let told = usual.verify("http://169.254.169.254/tuf").await.unwrap_err();
    assert!(told.contains("169.254.169.254 is link-local"), "{told}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "something was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_leads_to_no_forbidden_address() {
    let house = house(&["127.0.0.1/32"]);
    let (forbidden, asked) = serve("127.0.0.2", house.folder.clone(), None).await;
    let (from, _) = serve("127.0.0.1", house.folder.clone(), Some(format!("http://{forbidden}/tuf"))).await;
    let told = house.verify(&format!("http://{from}/tuf")).await.unwrap_err();
    assert!(told.contains("127.0.0.2 is this host itself"), "{told}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "something was sent");
    // A good one is followed.
    let (good, _) = serve("127.0.0.1", house.folder.clone(), None).await;
    let (from, _) = serve("127.0.0.1", house.folder.clone(), Some(format!("http://{good}/tuf"))).await;
    house.verify(&format!("http://{from}/tuf")).await.unwrap();
}
