//! Answers with bytes that a hash names for ever: whole or a range, cached by anybody, decoded by nobody.

use super::boot_files::{Range, range};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use provisioner_wire::chunks::Sha;

/// `If-None-Match`, `If-Range` and `Range` (RFC 9110 §13, §14) are honoured; the entity tag is the hash.
pub fn answer(headers: &HeaderMap, sha256: &Sha, bytes: &Bytes) -> Response {
    let Ok(etag) = etag(&sha256.to_string()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if names(headers, &header::IF_NONE_MATCH, &etag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let common = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag.clone()),
    ];
    let unchanged = headers.get(header::IF_RANGE).is_none_or(|wanted| *wanted == etag);
    let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).filter(|_| unchanged);
    let place = |text: String| [(header::CONTENT_RANGE, text)];
    match asked.map_or(Range::Whole, |text| range(text, bytes.len())) {
        Range::Whole => (common, bytes.clone()).into_response(),
        Range::Part(from, to) => {
            let (part, total) = (bytes.slice(from..to), bytes.len());
            let range = place(format!("bytes {from}-{}/{total}", to.saturating_sub(1)));
            (StatusCode::PARTIAL_CONTENT, common, range, part).into_response()
        }
        Range::Outside => {
            let range = place(format!("bytes */{}", bytes.len()));
            (StatusCode::RANGE_NOT_SATISFIABLE, common, range).into_response()
        }
    }
}

/// What a hash names never changes.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub fn etag(sha256: &str) -> Result<HeaderValue, header::InvalidHeaderValue> {
    HeaderValue::from_str(&format!("\"{sha256}\""))
}

/// Whether the condition `which` names `etag`.
pub fn names(headers: &HeaderMap, which: &header::HeaderName, etag: &HeaderValue) -> bool {
    let (Some(value), Ok(etag)) = (headers.get(which).and_then(|v| v.to_str().ok()), etag.to_str()) else {
        return false;
    };
    value.trim() == "*" || value.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
}
