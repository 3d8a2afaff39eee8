//! What goes wrong in a request: what the caller is told, and what stays inside. RFC 9457 for people and programs.

use super::auth::Role;
use crate::{
    machine::{Refusal, RefusalKind, Verdict},
    store::StoreError,
    workflow::engine::EngineError,
};
use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

/// One thing wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// JSON path (`nics[0].mac`), or `file:line:column`; empty for the whole.
    pub place: String,
    pub what: String,
}

/// Body of every refused API request, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// Stays the same for one kind of problem: `urn:provisioner:problem:conflict`.
    pub r#type: String,
    pub title: String,
    pub status: u16,
    /// What happened, and what to do about it.
    pub detail: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// Why a request was not done. `Display` is what the caller is told.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("send a token: Authorization: Bearer prov_…")]
    Unauthenticated,
    #[error("this needs the role {0}")]
    Forbidden(Role),
    /// Forbidden for another reason than the role.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    NotFound(String),
    /// The bytes are not what they should be.
    #[error("the request cannot be read: {}", first(.0))]
    Malformed(Vec<Problem>),
    /// It can be read, and says something that cannot be.
    #[error("refused, and nothing was changed: {}", first(.0))]
    Invalid(Vec<Problem>),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Gone(String),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body must be application/json")]
    NotJson,
    #[error("this address does not take {0}")]
    Method(axum::http::Method),
    #[error("{0}")]
    Busy(String),
    /// The text is for the log only.
    #[error("the server failed; its log has the cause")]
    Internal(String),
}

pub type Result<T> = std::result::Result<T, ApiError>;

/// Largest body that is read.
pub const BODY_MAX: usize = 1 << 20;

impl ApiError {
    pub fn status(&self) -> StatusCode {
        self.kind().0
    }

    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Forbidden(_) | Self::Refused(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::Gone(_) => (StatusCode::GONE, "gone"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    pub fn details(&self) -> ProblemDetails {
        let (status, kind) = self.kind();
        ProblemDetails {
            r#type: format!("urn:provisioner:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            problems: match self {
                Self::Malformed(problems) | Self::Invalid(problems) => problems.clone(),
                _ => Vec::new(),
            },
        }
    }

    /// Logs what the caller is not told. Once, where the answer is made.
    pub fn log(&self) {
        if let Self::Internal(inside) = self {
            tracing::error!("a request failed: {inside}");
        }
    }

    pub fn malformed(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed(vec![Problem { place: place.into(), what: what.into() }])
    }

    pub fn invalid(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem { place: place.into(), what: what.into() }])
    }

    pub fn internal(inside: impl std::fmt::Display) -> Self {
        Self::Internal(inside.to_string())
    }
}

fn first(problems: &[Problem]) -> String {
    match problems {
        [] => "no reason was given".to_owned(),
        [one, rest @ ..] => {
            let place = if one.place.is_empty() { String::new() } else { format!("{}: ", one.place) };
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            format!("{place}{}{more}", one.what)
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut response = (self.status(), Json(self.details())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(self, Self::Unauthenticated) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::Busy(_)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(what) => Self::Conflict(what),
            StoreError::Raced(what) => Self::Busy(format!("{what} was changed meanwhile; try again")),
            inside => Self::internal(inside),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(store) => store.into(),
            busy @ EngineError::Busy => Self::Busy(busy.to_string()),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { kind, reason }: Refusal) -> Self {
        match kind {
            RefusalKind::Stale => Self::Gone(reason),
            RefusalKind::NotNow => Self::Conflict(reason),
            RefusalKind::Alarm => Self::Refused(reason),
        }
    }
}

/// `Ok` where the engine accepted.
pub fn accepted(verdict: Verdict) -> std::result::Result<(), Refusal> {
    match verdict {
        Verdict::Accepted => Ok(()),
        Verdict::Refused(refusal) => Err(refusal),
    }
}

/// A JSON body of at most [`BODY_MAX`] bytes; what is wrong in it is named by its path.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let json = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
        });
        if !json {
            return Err(ApiError::NotJson);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(from_bytes)?;
        parse(&bytes).map(Self)
    }
}

pub fn from_bytes(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::TooLarge(BODY_MAX)
    } else {
        ApiError::malformed("", rejection.body_text())
    }
}

/// Reads JSON; an error names the path, or line and column where it is not JSON at all.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let place = if path == "." { String::new() } else { path };
        ApiError::malformed(place, e.into_inner().to_string())
    })?;
    reader.end().map_err(|e| ApiError::malformed("", e.to_string()))?;
    Ok(value)
}

/// Path parameters; ones that cannot be read name nothing that exists.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::NotFound(rejection.body_text())),
        }
    }
}

#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::malformed("query", rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_stays_inside() {
        let error = ApiError::internal("SELECT secret FROM x");
        assert!(!serde_json::to_string(&error.details()).unwrap().contains("SELECT"));
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_mistake_in_json_is_named_by_its_path() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Outer {
            list: Vec<Inner>,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            number: u8,
        }
        for (text, expected) in [
            (r#"{"list":[{"number":1},{"number":"x"}]}"#, "list[1].number: invalid type"),
            (r#"{"list":["#, "EOF while parsing"),
            (r#"{"list":[]} x"#, "trailing characters"),
            ("{}", "missing field `list`"),
        ] {
            let error = parse::<Outer>(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
