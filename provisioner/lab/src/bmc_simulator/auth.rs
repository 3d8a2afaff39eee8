//! Who may ask: everybody for the root and to log in, otherwise the holder of a session (or of HTTP Basic).

use super::{
    documents::error,
    state::{Session, Shared},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio::time::Instant;

pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.uri().path().trim_end_matches('/');
    let login = path.strip_suffix("/Members").unwrap_or(path) == super::documents::SESSIONS;
    let open = matches!(path, "/redfish" | "/redfish/v1" | "/redfish/v1/odata" | "/redfish/v1/$metadata")
        || (login && request.method() == axum::http::Method::POST);
    if open || is_known(&shared, request.headers()) {
        return next.run(request).await;
    }
    refuse(StatusCode::UNAUTHORIZED, "NoValidSession", "There is no valid session.")
}

fn is_known(shared: &Shared, headers: &HeaderMap) -> bool {
    let config = shared.config();
    if let Some(token) = headers.get("x-auth-token").and_then(|value| value.to_str().ok()) {
        let mut state = shared.state();
        let now = Instant::now();
        let expiry = config.session_expiry;
        state.sessions.retain(|_, session| now.duration_since(session.used) < expiry);
        let session = state.sessions.values_mut().find(|session| session.token == token);
        return session.map(|session| session.used = now).is_some();
    }
    let basic = BASE64_STANDARD.encode(format!("{}:{}", config.user, config.password));
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    (config.basic || !config.session_service) && given == Some(&format!("Basic {basic}"))
}

/// POST to the sessions.
pub(super) async fn login(State(shared): State<Shared>, body: Bytes) -> Response {
    let config = shared.config();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if !config.session_service {
        return refuse(StatusCode::NOT_FOUND, "ResourceNotFound", "There is no session service.");
    }
    let mut state = shared.state();
    if text("UserName") != Some(&config.user) || text("Password") != Some(&config.password) {
        state.refused_logins += 1;
        return refuse(StatusCode::UNAUTHORIZED, "ResourceAtUriUnauthorized", "Wrong user name or password.");
    }
    if state.sessions.len() >= config.session_limit {
        let message = "The session limit is exceeded.";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "SessionLimitExceeded", message);
    }
    state.next_session += 1;
    state.logins += 1;
    let number = state.next_session;
    let token = format!("token-{number}");
    state.sessions.insert(number, Session { token: token.clone(), used: Instant::now() });
    let place = format!("{}/{number}", super::documents::SESSIONS);
    let location = (!config.session_without_location).then_some([("location", place)]);
    let body = Json(super::documents::session(number, &config.user));
    (StatusCode::CREATED, [("x-auth-token", token)], location, body).into_response()
}

/// DELETE of a session.
pub(super) async fn logout(State(shared): State<Shared>, Path(number): Path<u64>) -> Response {
    let mut state = shared.state();
    if state.sessions.remove(&number).is_none() {
        return refuse(StatusCode::NOT_FOUND, "ResourceNotFound", "There is no such session.");
    }
    state.logouts += 1;
    StatusCode::NO_CONTENT.into_response()
}

pub(super) fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(error(code, message))).into_response()
}
