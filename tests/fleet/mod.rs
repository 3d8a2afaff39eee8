//! Many machines: limits and caches. The real agent behind caches is in `install/caches.rs`.

mod cache;
mod limits;
mod short_way;

use provisioner::http::listen::Bound;
use provisioner::pull_through::{Cache, Settings};
use std::{path::Path, sync::Arc};

/// A cache before `upstream`; its base URL. On the runtime of the test, until that ends.
pub async fn cache_before(upstream: &str, folder: &Path, disk_bytes: u64) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: upstream.to_owned(),
        folder: folder.to_owned(),
        disk_bytes,
        memory_bytes: 64 << 20,
    };
    let cache = Arc::new(Cache::open(&settings).unwrap());
    let bound = Bound::new(settings.listen).unwrap();
    let url = format!("http://{}", bound.address());
    tokio::spawn(bound.plain(cache.router(), std::future::pending()));
    url
}
