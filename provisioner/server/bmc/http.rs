//! The sockets below nv-redfish: its [`HttpClient`] over one reqwest client whose TLS is pinned. No redirects, no
//! proxies, no compression (it changes ETags), bounded bodies, and errors that say what a retry needs to know.

use super::{Pin, document::link_of, http_error::HttpError, pin::PinVerifier, retry::retry_after};
use nv_redfish::{
    bmc_http::{
        BmcCredentials, HttpClient, HttpPushUriUpdateRequest, MultipartUpdateRequest, decode_modification,
        decode_poll,
    },
    core::{BoxTryStream, ModificationResponse, ODataETag, Repair, SessionCreateResponse, UploadReader},
};
use reqwest::{Method, RequestBuilder, StatusCode, Url, header, header::HeaderMap};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// No Redfish document we read is near this.
const LARGEST_BODY: usize = 8 << 20;

/// An ETag that stands for "send no If-Match". nv-redfish itself would send `*`, which iLO refuses.
pub const NO_ETAG: &str = "";

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
