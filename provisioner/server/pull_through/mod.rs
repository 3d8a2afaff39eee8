//! `provisioner cache`: serves a rack with chunks and manifests that cross the uplink once. In: requests by hash. Out: bytes
//! that have that hash, from memory, disk or the server behind. It knows no machine, no image and no secret, and trusts
//! neither the server nor its own disk: only the hash.

mod index;
mod shelf;
mod upstream;

use crate::http::{by_hash, hot::Hot, listen::Bound};
use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use provisioner_wire::chunks::Sha;
use serde::Serialize;
use shelf::Shelf;
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OnceCell, Semaphore};
use upstream::{Trouble, Upstream};

/// Fetches at once; more wait.
const FETCHES_MAX: usize = 64;
/// For memory that others use, before a machine is sent to the server.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// What a cache is told on its command line.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    /// The server's plain URL.
    pub upstream: String,
    pub folder: PathBuf,
    /// Of the disk, and of memory; bytes.
    pub disk_bytes: u64,
    pub memory_bytes: usize,
}

#[derive(Debug)]
pub struct Cache {
    upstream: Upstream,
    shelf: Arc<Shelf>,
    hot: Hot,
    /// A piece that is being fetched is fetched once, whoever else wants it.
    flights: Mutex<HashMap<Sha, Flight>>,
    fetching: Semaphore,
    fetched: AtomicU64,
    from_disk: AtomicU64,
}

type Flight = Arc<OnceCell<Result<Bytes, Trouble>>>;

/// `GET /status`.
#[derive(Debug, Serialize)]
struct Status {
    upstream: upstream::State,
    pieces: usize,
    bytes: u64,
    from_memory: u64,
    from_disk: u64,
    fetched: u64,
}

/// Runs until SIGINT or SIGTERM.
pub fn run(settings: &Settings) -> Result<()> {
    // The ring provider first thing: rustls has none of its own here.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let cache = Arc::new(Cache::open(settings)?);
        let bound = Bound::new(settings.listen)?;
        let (pieces, bytes) = cache.shelf.holds();
        tracing::info!(http = %bound.address(), upstream = settings.upstream, pieces, bytes, "ready");
        bound.plain(cache.router(), told_to_end()).await.context("HTTP")
    })
}

async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

impl Cache {
    /// Looks at what is in the folder.
    pub fn open(settings: &Settings) -> Result<Self> {
        let shelf = Shelf::open(&settings.folder, settings.disk_bytes)
            .with_context(|| format!("the cache's folder {}", settings.folder.display()))?;
        let upstream = Upstream::new(&settings.upstream).context("the HTTP client")?;
        Ok(Self {
            upstream,
            shelf: Arc::new(shelf),
            hot: Hot::new(settings.memory_bytes),
            flights: Mutex::default(),
            fetching: Semaphore::new(FETCHES_MAX),
            fetched: AtomicU64::new(0),
            from_disk: AtomicU64::new(0),
        })
    }

    /// The same paths as the server's, and `/healthz` and `/status` for people.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/images/manifests/{sha256}", get(manifest))
            .route("/images/chunks/{sha256}", get(chunk))
            .route("/healthz", get(async || "ok\n"))
            .route("/status", get(status))
            .with_state(self)
    }

    async fn get(&self, folder: &str, piece: Sha) -> Result<Bytes, Trouble> {
        if let Some(bytes) = self.hot.get(&piece) {
            return Ok(bytes);
        }
        let flight = Arc::clone(self.flights().entry(piece).or_default());
        let landed = flight.get_or_init(|| self.bring(folder, piece)).await.clone();
        // Only this flight: after a failure the next one may be under way.
        let mut flights = self.flights();
        if flights.get(&piece).is_some_and(|other| Arc::ptr_eq(other, &flight)) {
            flights.remove(&piece);
        }
        landed
    }

    /// From the disk, else from the server; then it is in memory, and on the disk.
    async fn bring(&self, folder: &str, piece: Sha) -> Result<Bytes, Trouble> {
        // Another flight may have landed between the look that found nothing and this one's start.
        if let Some(bytes) = self.hot.get(&piece) {
            return Ok(bytes);
        }
        if let Some(size) = self.shelf.size(&piece) {
            let room = self.room(usize::try_from(size).unwrap_or(usize::MAX)).await?;
            let shelf = Arc::clone(&self.shelf);
            let read = tokio::task::spawn_blocking(move || shelf.read(&piece)).await;
            if let Ok(Some(bytes)) = read {
                self.from_disk.fetch_add(1, Ordering::Relaxed);
                return Ok(self.hot.put(piece, bytes, room));
            }
        }
        let _one = self.fetching.acquire().await.map_err(|_| Trouble::Busy)?;
        let bytes = self.upstream.fetch(folder, &piece).await?;
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let room = self.room(bytes.len()).await?;
        let bytes = self.hot.put(piece, bytes, room);
        let (shelf, kept) = (Arc::clone(&self.shelf), bytes.clone());
        // Nobody waits for the disk.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shelf.keep(piece, &kept) {
                tracing::warn!(%piece, "cannot be kept, and will be fetched again: {error}");
            }
        });
        Ok(bytes)
    }

    async fn room(&self, bytes: usize) -> Result<crate::http::hot::Room, Trouble> {
        self.hot.room_within(bytes, ROOM_WITHIN).await.ok_or(Trouble::Busy)
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<Sha, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn manifest(cache: State<Arc<Cache>>, sha256: Path<String>, headers: HeaderMap) -> Response {
    piece("manifests", cache, sha256, headers).await
}

async fn chunk(cache: State<Arc<Cache>>, sha256: Path<String>, headers: HeaderMap) -> Response {
    piece("chunks", cache, sha256, headers).await
}

async fn piece(
    folder: &str,
    State(cache): State<Arc<Cache>>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(sha) = Sha::from_hex(&sha256) else {
        return (StatusCode::NOT_FOUND, "that is no SHA-256\n").into_response();
    };
    match cache.get(folder, sha).await {
        Ok(bytes) => by_hash::answer(&headers, &sha, &bytes),
        Err(trouble) => refusal(&trouble),
    }
}

/// What the agent reads as "ask the server".
fn refusal(trouble: &Trouble) -> Response {
    let text = format!("{trouble}\n");
    let after = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
    match trouble {
        Trouble::Refused { status: 404 | 410, .. } => (StatusCode::NOT_FOUND, text).into_response(),
        Trouble::Refused { status: 503, .. } | Trouble::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, after, text).into_response()
        }
        _ => (StatusCode::BAD_GATEWAY, text).into_response(),
    }
}

async fn status(State(cache): State<Arc<Cache>>) -> Json<Status> {
    let (pieces, bytes) = cache.shelf.holds();
    Json(Status {
        upstream: cache.upstream.state(),
        pieces,
        bytes,
        from_memory: cache.hot.counts().0,
        from_disk: cache.from_disk.load(Ordering::Relaxed),
        fetched: cache.fetched.load(Ordering::Relaxed),
    })
}
