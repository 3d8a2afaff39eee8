//! The sockets below nv-redfish: its [`HttpClient`] over one reqwest client whose TLS is pinned. No redirects, no
//! proxies, no compression (it changes ETags), bounded bodies, and errors that say what a retry needs to know.

use super::{
    Cause, Pin,
    document::{has_message, link_of, message_of},
    pin::PinVerifier,
    retry::{Fault, retry_after},
};
use nv_redfish::{
    bmc_http::{
        BmcCredentials, CacheableError, HttpClient, HttpPushUriUpdateRequest, ModificationDecodeError,
        MultipartUpdateRequest, RejectedUriReferenceError, RequestError, decode_modification, decode_poll,
    },
    core::{
        BmcError as NvBmcError, BmcErrorClass, BoxTryStream, DecodeError, ModificationResponse, ODataETag,
        Repair, SessionCreateResponse, UploadReader,
    },
};
use reqwest::{Method, RequestBuilder, StatusCode, Url, header, header::HeaderMap};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// No Redfish document we read is near this.
const LARGEST_BODY: usize = 8 << 20;

/// An ETag that stands for "send no If-Match". nv-redfish itself would send `*`, which iLO refuses.
pub const NO_ETAG: &str = "";

/// What became of a request.
#[derive(Debug)]
pub enum HttpError {
    NotSent(String),
    PinChanged {
        expected: Pin,
        seen: Pin,
    },
    Lost(String),
    Status {
        status: u16,
        body: String,
        retry_after: Option<Duration>,
    },
    /// A success whose body is not what Redfish prescribes.
    Garbled(String),
    Undecodable(DecodeError),
    /// Not possible, or not by us; never sent.
    Rejected(String),
}

impl HttpError {
    /// Whether sending again is pointless whatever the time.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::PinChanged { .. } | Self::Rejected(_))
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn fault(&self) -> Fault {
        match self {
            Self::NotSent(_) | Self::PinChanged { .. } | Self::Rejected(_) => Fault::NotSent,
            Self::Lost(_) | Self::Garbled(_) | Self::Undecodable(_) => Fault::Lost,
            Self::Status { status, retry_after, .. } => Fault::Status(*status, *retry_after),
        }
    }

    /// The class of this error when nothing more is tried.
    pub fn into_cause(self) -> Cause {
        match self {
            Self::NotSent(why) => Cause::Unreachable(why),
            Self::PinChanged { expected, seen } => Cause::TlsPinChanged { expected, seen },
            Self::Lost(why) | Self::Garbled(why) => Cause::Protocol(why),
            Self::Undecodable(error) => Cause::Protocol(error.to_string()),
            Self::Rejected(why) => Cause::Refused { status: 0, message: why },
            Self::Status { body, .. } if has_message(&body, "PasswordChangeRequired") => {
                Cause::PasswordChangeRequired
            }
            Self::Status { body, retry_after, .. }
                if has_message(&body, "AccountLocked") || has_message(&body, "AccountLockedOut") =>
            {
                Cause::LockedOut { retry_after }
            }
            Self::Status { status: 401, .. } => Cause::Unauthorized,
            Self::Status { status, body, .. } => Cause::Refused { status, message: message_of(&body) },
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) | Self::Garbled(why) | Self::Rejected(why) => {
                f.write_str(why)
            }
            Self::PinChanged { .. } => f.write_str("its TLS key is not the pinned one"),
            Self::Status { status, body, .. } => write!(f, "HTTP {status}: {}", message_of(body)),
            Self::Undecodable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HttpError {}

impl NvBmcError for HttpError {
    fn error_class(&self) -> BmcErrorClass {
        match self {
            Self::Status { status, .. } => BmcErrorClass::HttpResponse { status: *status },
            Self::Garbled(_) | Self::Undecodable(_) => BmcErrorClass::ResponseParse,
            Self::NotSent(_) | Self::Lost(_) | Self::PinChanged { .. } => BmcErrorClass::Transport,
            Self::Rejected(_) => BmcErrorClass::Other,
        }
    }

    fn response_body(&self) -> Option<&str> {
        match self {
            Self::Status { body, .. } => Some(body),
            _ => None,
        }
    }

    fn into_decode_error(self) -> Result<DecodeError, Self> {
        match self {
            Self::Undecodable(error) => Ok(error),
            other => Err(other),
        }
    }
}

/// nv-redfish's cache is switched off (power states must be fresh): these are never met.
impl CacheableError for HttpError {
    fn is_cached(&self) -> bool {
        false
    }
    fn cache_miss() -> Self {
        Self::Garbled("answered \"not modified\" to an unconditional request".to_owned())
    }
    fn cache_error(reason: String) -> Self {
        Self::Garbled(reason)
    }
}

impl RequestError for HttpError {
    fn rejected_uri_reference(error: RejectedUriReferenceError) -> Self {
        Self::Rejected(error.reason)
    }
}

impl From<ModificationDecodeError> for HttpError {
    fn from(error: ModificationDecodeError) -> Self {
        match error {
            // Success without a task where one was expected: nv-redfish's quirks look at the status.
            ModificationDecodeError::InvalidResponse { status, text, .. } => {
                Self::Status { status: status.as_u16(), body: text, retry_after: None }
            }
            ModificationDecodeError::Json(error) => {
                Self::Garbled(format!("the answer is not JSON ({error})"))
            }
            ModificationDecodeError::Decode(error) => Self::Undecodable(error),
            other => Self::Garbled(other.to_string()),
        }
    }
}

/// The client of one BMC.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    verifier: Arc<PinVerifier>,
}

/// An answer with its whole body.
struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    url: Url,
    body: Vec<u8>,
}

impl Http {
    /// A client that trusts `pin`, or the first key it sees, and waits at most `patience` for one answer.
    pub fn new(pin: Option<Pin>, patience: Duration) -> Result<Self, HttpError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(PinVerifier::new(provider.clone(), pin));
        let failed = |why: &dyn fmt::Display| HttpError::Rejected(format!("cannot make a TLS client: {why}"));
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(patience.min(Duration::from_secs(10)))
            .timeout(patience)
            .pool_idle_timeout(Duration::from_secs(5))
            .http1_only()
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { client, verifier })
    }

    /// The key trusted by now; `None` before the first handshake and over plain HTTP.
    pub fn pin(&self) -> Option<Pin> {
        self.verifier.trusted()
    }

    fn request(&self, method: Method, url: Url, who: &BmcCredentials, headers: &HeaderMap) -> RequestBuilder {
        let request = self.client.request(method, url).headers(headers.clone());
        let request = request.header(header::ACCEPT, "application/json").header("OData-Version", "4.0");
        match who {
            BmcCredentials::UsernamePassword { username, password } => {
                request.basic_auth(username, password.as_ref())
            }
            BmcCredentials::Token { token } => match header::HeaderValue::from_str(token) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.header("X-Auth-Token", value)
                }
                Err(_) => request,
            },
            BmcCredentials::Anonymous => request,
        }
    }

    /// Sends and reads the head; every status is an answer here.
    async fn head(&self, request: RequestBuilder) -> Result<reqwest::Response, HttpError> {
        request.send().await.map_err(|error| self.failure(&error))
    }

    /// Sends and reads the whole answer; only a 2xx is one.
    async fn send(&self, request: RequestBuilder) -> Result<Whole, HttpError> {
        let response = self.head(request).await?;
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().clone());
        let body = self.body(response).await;
        if !status.is_success() {
            let wait = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry_after);
            let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
            return Err(HttpError::Status { status: status.as_u16(), body, retry_after: wait });
        }
        Ok(Whole { status, headers, url, body: body? })
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(HttpError::Garbled(format!("the answer is larger than {LARGEST_BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failure(&self, error: &reqwest::Error) -> HttpError {
        if let Some((expected, seen)) = self.verifier.changed() {
            return HttpError::PinChanged { expected, seen };
        }
        let why = innermost(error);
        if error.is_connect() || error.is_builder() { HttpError::NotSent(why) } else { HttpError::Lost(why) }
    }

    async fn modify<T>(&self, request: RequestBuilder) -> Result<ModificationResponse<T>, HttpError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let whole = self.send(request).await?;
        Ok(decode_modification(&whole.url, whole.status, &whole.headers, &whole.body)?)
    }
}

/// The last cause in the chain, without the URL: short and to the point.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn unsupported<T>() -> Result<T, HttpError> {
    Err(HttpError::Rejected("uploads and event streams are not used".to_owned()))
}

impl HttpClient for Http {
    type Error = HttpError;

    async fn get<T>(
        &self,
        url: Url,
        credentials: &BmcCredentials,
        _etag: Option<ODataETag>,
        headers: &HeaderMap,
        repair: &impl Repair,
    ) -> Result<T, HttpError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let whole = self.send(self.request(Method::GET, url, credentials, headers)).await?;
        let mut document: Value = serde_json::from_slice(&whole.body)
            .map_err(|error| HttpError::Garbled(format!("the answer is not JSON ({error})")))?;
        repair.repair(&mut document);
        // The header's ETag is the fresher one where a BMC sends both.
        let etag = whole.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
        if let (Some(object), Some(etag)) = (document.as_object_mut(), etag.filter(|etag| !etag.is_empty())) {
            object.insert("@odata.etag".to_owned(), etag.into());
        }
        nv_redfish::core::repair::decode(document).map_err(HttpError::Undecodable)
    }

    async fn poll<T>(
        &self,
        url: Url,
        credentials: &BmcCredentials,
        headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        let whole = self.send(self.request(Method::GET, url, credentials, headers)).await?;
        Ok(decode_poll(&whole.url, whole.status, &whole.headers, &whole.body)?)
    }

    async fn post<B, T>(
        &self,
        url: Url,
        body: &B,
        credentials: &BmcCredentials,
        headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        B: Serialize + Send + Sync,
        T: DeserializeOwned + Send + Sync,
    {
        self.modify(self.request(Method::POST, url, credentials, headers).json(body)).await
    }

    /// A session is made by its headers: a missing or cut body, or a missing `Location` where the body names the
    /// session (seen in the field), does not make it unknown and so leaked.
    async fn post_session<B, T>(
        &self,
        url: Url,
        body: &B,
        headers: &HeaderMap,
    ) -> Result<SessionCreateResponse<T>, HttpError>
    where
        B: Serialize + Send + Sync,
        T: DeserializeOwned + Send + Sync,
    {
        let request = self.request(Method::POST, url, &BmcCredentials::Anonymous, headers).json(body);
        let response = self.head(request).await?;
        let (status, head) = (response.status(), response.headers().clone());
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = self.body(response).await.unwrap_or_default();
        let shown = || String::from_utf8_lossy(&body).into_owned();
        let (true, Some(auth_token)) = (status.is_success(), text("x-auth-token")) else {
            if status.is_success() {
                return Err(HttpError::Garbled("the login was answered without X-Auth-Token".to_owned()));
            }
            let wait = text("retry-after").as_deref().and_then(retry_after);
            return Err(HttpError::Status { status: status.as_u16(), body: shown(), retry_after: wait });
        };
        let entity: Value = serde_json::from_slice(&body).unwrap_or_default();
        let named = text("location").map(|location| serde_json::json!({ "@odata.id": location }));
        let location = link_of(named.as_ref()).or_else(|| link_of(Some(&entity))).unwrap_or_default();
        let entity = nv_redfish::core::repair::decode(entity).map_err(HttpError::Undecodable)?;
        Ok(SessionCreateResponse { entity, auth_token, location: location.into() })
    }

    async fn patch<B, T>(
        &self,
        url: Url,
        etag: ODataETag,
        body: &B,
        credentials: &BmcCredentials,
        headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        B: Serialize + Send + Sync,
        T: DeserializeOwned + Send + Sync,
    {
        let mut request = self.request(Method::PATCH, url, credentials, headers).json(body);
        let etag = etag.to_string();
        if etag != NO_ETAG {
            request = request.header(header::IF_MATCH, etag);
        }
        self.modify(request).await
    }

    async fn delete<T>(
        &self,
        url: Url,
        credentials: &BmcCredentials,
        headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        T: DeserializeOwned + Send + Sync,
    {
        self.modify(self.request(Method::DELETE, url, credentials, headers)).await
    }

    async fn post_multipart_update<U, V, T>(
        &self,
        _url: Url,
        _request: MultipartUpdateRequest<'_, U, V>,
        _credentials: &BmcCredentials,
        _headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        U: UploadReader,
        T: DeserializeOwned + Send + Sync,
        V: Serialize + Send + Sync,
    {
        unsupported()
    }

    async fn post_http_push_uri_update<U, T>(
        &self,
        _url: Url,
        _request: HttpPushUriUpdateRequest<U>,
        _credentials: &BmcCredentials,
        _headers: &HeaderMap,
    ) -> Result<ModificationResponse<T>, HttpError>
    where
        U: UploadReader,
        T: DeserializeOwned + Send + Sync,
    {
        unsupported()
    }

    async fn sse<T: Sized + for<'de> serde::Deserialize<'de> + Send>(
        &self,
        _url: Url,
        _credentials: &BmcCredentials,
        _headers: &HeaderMap,
    ) -> Result<BoxTryStream<T, HttpError>, HttpError> {
        unsupported()
    }
}
