//! `GET|HEAD /images/{sha256}`, `/images/manifests/{sha256}`, `/images/chunks/{sha256}`: image files and what they were
//! taken apart into, by their hash, with ranges. What a hash names never changes.

use super::{
    App,
    content::Piece,
    error::{ApiError, Path, Result},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use provisioner_wire::chunks::Sha;
use tower_http::services::ServeFile;

pub async fn image(State(app): State<App>, Path(sha256): Path<String>, request: Request) -> Result<Response> {
    let unknown = || ApiError::NotFound("no declared image has this SHA-256".to_owned());
    Sha::from_hex(&sha256).ok_or_else(unknown)?;
    let file = app.content().image_file(&sha256).await.ok_or_else(unknown)?;
    if !file.is_file() {
        return Err(ApiError::internal(format!("image {sha256}: {} is missing", file.display())));
    }
    by_hash(&sha256, &file, request).await
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
    let file = Sha::from_hex(&sha256).and_then(|sha| app.content().piece(which, &sha));
    match file {
        Some(file) => by_hash(&sha256, &file, request).await,
        None => Err(ApiError::NotFound("there is no such piece of an image".to_owned())),
    }
}

/// Answers with `file`, which `sha256` names for ever.
async fn by_hash(sha256: &str, file: &std::path::Path, mut request: Request) -> Result<Response> {
    let etag = HeaderValue::from_str(&format!("\"{sha256}\"")).map_err(ApiError::internal)?;
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
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}

fn names(headers: &HeaderMap, which: &header::HeaderName, etag: &HeaderValue) -> bool {
    let (Some(value), Ok(etag)) = (headers.get(which).and_then(|v| v.to_str().ok()), etag.to_str()) else {
        return false;
    };
    value.trim() == "*" || value.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
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
