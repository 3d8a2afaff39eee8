//! `GET|HEAD /images/{sha256}`, `/images/manifests/{sha256}`, `/images/chunks/{sha256}`: image files and what they were
//! taken apart into, by their hash, with ranges. What a hash names never changes. Pieces are sent from memory where there
//! is room, each in its machine's turn. Most chunks never come here: [`super::short_way`].

use super::{
    App,
    by_hash::{self, IMMUTABLE, etag, names},
    content::Piece,
    error::{ApiError, Path, Result},
};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use provisioner_wire::chunks::Sha;
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};
use tower_http::services::ServeFile;

/// Larger pieces (manifests of large images) are read from the disk as they are sent.
const MEMORY_MAX: u64 = 8 << 20;

pub async fn image(State(app): State<App>, Path(sha256): Path<String>, request: Request) -> Result<Response> {
    let unknown = || ApiError::NotFound("no declared image has this SHA-256".to_owned());
    Sha::from_hex(&sha256).ok_or_else(unknown)?;
    let file = app.content().image_file(&sha256).await.ok_or_else(unknown)?;
    if !file.is_file() {
        return Err(ApiError::internal(format!("image {sha256}: {} is missing", file.display())));
    }
    from_disk(&sha256, &file, request).await
}

pub async fn manifest(app: State<App>, sha256: Path<String>, request: Request) -> Result<Response> {
    piece(Piece::Manifest, app, sha256, request).await
}

pub async fn chunk(app: State<App>, sha256: Path<String>, request: Request) -> Result<Response> {
    piece(Piece::Chunk, app, sha256, request).await
}

async fn piece(
    which: Piece,
    State(app): State<App>,
    Path(sha256): Path<String>,
    request: Request,
) -> Result<Response> {
    let unknown = || ApiError::NotFound("there is no such piece of an image".to_owned());
    let sha = Sha::from_hex(&sha256).ok_or_else(unknown)?;
    let fleet = app.fleet();
    let hot = fleet.hot.get(&sha);
    let (file, size) = match &hot {
        Some(bytes) => (None, bytes.len() as u64),
        None => {
            let file = app.content().piece(which, &sha).ok_or_else(unknown)?;
            let size = tokio::fs::metadata(&file).await.map_err(|_| unknown())?.len();
            (Some(file), size)
        }
    };
    if *request.method() != Method::HEAD {
        let peer = peer(&request);
        let domain = fleet.domain_of(peer);
        if let Err(later) = fleet.pace.turn(peer, domain.as_deref(), size).await {
            return Ok(come_again(later.0));
        }
        fleet.sent(usize::try_from(size).unwrap_or(usize::MAX));
    }
    let Some(file) = file else {
        return Ok(by_hash::answer(request.headers(), &sha, &hot.unwrap_or_default()));
    };
    let room = (size <= MEMORY_MAX).then(|| fleet.hot.room(usize::try_from(size).unwrap_or(usize::MAX)));
    let Some(room) = room.flatten() else { return from_disk(&sha256, &file, request).await };
    let bytes = match read(file, size).await {
        Ok(bytes) => fleet.hot.put(sha, bytes, room),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
        Err(error) => return Err(ApiError::internal(format!("{sha256}: {error}"))),
    };
    Ok(by_hash::answer(request.headers(), &sha, &bytes))
}

async fn read(file: PathBuf, size: u64) -> io::Result<Vec<u8>> {
    let bytes = tokio::task::spawn_blocking(move || fs::read(file)).await.map_err(io::Error::other)??;
    // A file that has grown would need more than its room.
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::Error::other("its file is being changed")) }
}

/// Listeners tell it; what is routed without one (in tests) is one machine.
fn peer(request: &Request) -> IpAddr {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(address)| address.ip().to_canonical())
}

fn come_again(seconds: u64) -> Response {
    let after = [(header::RETRY_AFTER, HeaderValue::from(seconds))];
    (StatusCode::SERVICE_UNAVAILABLE, after, "too much is asked for at once; come again\n").into_response()
}

/// Answers with `file`, which `sha256` names for ever, in small parts.
async fn from_disk(sha256: &str, file: &std::path::Path, mut request: Request) -> Result<Response> {
    let etag = etag(sha256).map_err(ApiError::internal)?;
    if names(request.headers(), &header::IF_NONE_MATCH, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    honour_if_range(request.headers_mut(), &etag);
    let served = ServeFile::new(file).try_call(request).await;
    let mut response =
        served.map_err(|e| ApiError::internal(format!("{sha256}: {}: {e}", file.display())))?.into_response();
    if response.status() == StatusCode::NOT_FOUND {
        return Err(ApiError::NotFound("there is no such image or piece of an image".to_owned()));
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    // Not the guess by file name: nobody may decode it on the way.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    Ok(response)
}

/// The file service has an ETag of its own making: `If-Range` is answered here (RFC 9110 §13.1.5), and the
/// conditions it would judge are taken away.
fn honour_if_range(headers: &mut HeaderMap, etag: &HeaderValue) {
    if headers.remove(header::IF_RANGE).is_some_and(|value| value != etag) {
        headers.remove(header::RANGE);
    }
    for condition in
        [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE]
    {
        headers.remove(condition);
    }
}
