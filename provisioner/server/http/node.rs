//! `POST /node/v1/{machine}/ready`: a node's first boot shows its token. One answer for every refusal, so that nobody
//! learns which part was wrong.

use super::{
    App,
    error::{ApiError, Path, Result, from_bytes},
};
use crate::{
    http::auth::hash,
    machine::{Event, Verdict},
    store,
};
use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, header},
};
use provisioner_wire::MachineName;
use serde::Deserialize;

#[derive(Deserialize)]
struct Ready {
    token: String,
}

/// Longest token that is looked at.
const TOKEN_MAX: usize = 4096;

/// The body is JSON `{"token": "…"}`, a form `token=…`, or the bare token: busybox's wget can send nothing better.
pub async fn ready(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<&'static str> {
    let body = body.map_err(from_bytes)?;
    let refused = || ApiError::Refused("the token is not valid for this machine".to_owned());
    let token = token(&headers, &body).ok_or_else(refused)?;
    let name: MachineName = name.parse().map_err(|_| refused())?;
    let machine = store::machines::by_name(&mut app.db().read().await?, &name).await?;
    // Without a live token there is nothing to show: no event, so that strangers cannot fill the timeline.
    let machine = machine.filter(|m| m.token.is_some()).ok_or_else(refused)?;
    let token_hash = hash(&token);
    let right = machine.token.as_ref().is_some_and(|t| t.hash == token_hash);
    if !right && !app.live().may_alarm(machine.id, app.engine().now()) {
        return Err(refused());
    }
    let event = Event::PhonedHome { token_hash };
    match app.engine().submit(machine.id, &event).await? {
        Verdict::Accepted => Ok("ready\n"),
        Verdict::Refused(_) => Err(refused()),
    }
}

fn token(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let text = std::str::from_utf8(body).ok()?.trim();
    let token = if kind.starts_with("application/json") || text.starts_with('{') {
        serde_json::from_str::<Ready>(text).ok()?.token
    } else {
        // cloud-init's phone_home and wget --post-data both send forms; a token needs no percent-decoding.
        let field = text.split('&').find_map(|pair| pair.strip_prefix("token="));
        field.unwrap_or(text).to_owned()
    };
    (1..=TOKEN_MAX).contains(&token.len()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_in_each_way_it_is_sent() {
        let mut json = HeaderMap::new();
        json.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        let none = HeaderMap::new();
        assert_eq!(token(&json, br#"{"token":"abcdef.0123"}"#).as_deref(), Some("abcdef.0123"));
        assert_eq!(token(&none, br#" {"token":"abcdef.0123"}"#).as_deref(), Some("abcdef.0123"));
        assert_eq!(token(&none, b"host=x&token=abcdef.0123").as_deref(), Some("abcdef.0123"));
        assert_eq!(token(&none, b"abcdef.0123\n").as_deref(), Some("abcdef.0123"));
        assert_eq!(token(&json, b"abc"), None);
        assert_eq!(token(&none, b"\xff"), None);
        assert_eq!(token(&none, b""), None);
        assert_eq!(token(&none, &[b'a'; TOKEN_MAX + 1]), None);
    }
}
