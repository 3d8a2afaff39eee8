//! The Kubernetes API as far as we use it: single requests and watches over TLS to the declared authority only.
//!
//! By reqwest, which the server has anyway, and k8s-openapi's types; not by kube: that brings a second HTTP stack, and a
//! kubeconfig reader that opens files and runs programs by itself (see [`crate::token::kubeconfig`]).

use super::{Result, Trouble};
use crate::{
    inventory::Cluster,
    reach::{Reach, Refused},
    token::kubeconfig::Credentials,
};
use reqwest::{Method, StatusCode, Url, header};
use serde_json::Value;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// One call in all, with its retries. Well below [`crate::machine::join::MINT_WITHIN`].
const CALL_WITHIN: Duration = Duration::from_secs(20);
/// Largest answer; a node has some hundred pods.
const ANSWER_MAX: usize = 32 << 20;
/// Largest event of a watch.
const EVENT_MAX: usize = 4 << 20;

/// One cluster's API.
pub struct Api {
    http: reqwest::Client,
    base: String,
    cluster: String,
    bearer: Option<header::HeaderValue>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({})", self.base)
    }
}

/// A status and its document.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub retry_after: Option<Duration>,
}

/// What a watch shows.
#[derive(Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub kind: String,
    pub object: Value,
}

impl Api {
    /// Connects only to where `reach` leads.
    pub fn new(cluster: &Cluster, credentials: &Credentials, reach: &Reach) -> Result<Self> {
        let name = cluster.name.as_str();
        let wrong = |e: &dyn std::fmt::Display| Trouble::Lasting(format!("the cluster {name}: {e}"));
        let base = cluster.api().trim_end_matches('/').to_owned();
        reach.literal(&Url::parse(&base).map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        let mut builder =
            reach.builder().https_only(true).connect_timeout(CONNECT_WITHIN).tls_built_in_root_certs(false);
        for certificate in cluster.ca_certificate.certificates() {
            let root = reqwest::Certificate::from_der(&certificate).map_err(|e| wrong(&e))?;
            builder = builder.add_root_certificate(root);
        }
        let bearer = match credentials {
            Credentials::Bearer(token) => {
                let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
                let mut value = header::HeaderValue::from_str(&text)
                    .map_err(|_| wrong(&"the token cannot stand in a header"))?;
                value.set_sensitive(true);
                Some(value)
            }
            Credentials::Certificate { chain, key } => {
                let pem = Zeroizing::new(format!("{}\n{chain}", key.as_str()));
                let identity = reqwest::Identity::from_pem(pem.as_bytes())
                    .map_err(|_| wrong(&"the client certificate and its key cannot be used"))?;
                builder = builder.identity(identity);
                None
            }
        };
        let http = builder.build().map_err(|e| wrong(&deepest(&e)))?;
        Ok(Self { http, base, cluster: name.to_owned(), bearer })
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).query(query);
        match &self.bearer {
            Some(bearer) => request.header(header::AUTHORIZATION, bearer.clone()),
            None => request,
        }
    }

    /// One request. Silence, 429 and 5xx are tried again as the server asks, within [`CALL_WITHIN`]; every other
    /// status is the caller's to judge. So `body` must be one that may arrive twice.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(200);
        loop {
            let (reason, wait) = match self.once(method.clone(), path, query, body).await {
                Ok(answer) if passing(answer.status) => {
                    (self.said(&method, path, &answer), answer.retry_after.unwrap_or(pause))
                }
                Ok(answer) => return Ok(answer),
                Err(Trouble::Passing(reason)) => (reason, pause),
                Err(lasting) => return Err(lasting),
            };
            if began.elapsed() + wait + ANSWER_WITHIN >= CALL_WITHIN {
                return Err(Trouble::Passing(reason));
            }
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2);
        }
    }

    /// One request, not repeated: 429 is the caller's to judge, too.
    pub async fn unrepeated(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        self.once(method, path, &[], Some(body)).await
    }

    /// A strategic merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Answer> {
        self.call(Method::PATCH, path, &[], Some(patch)).await
    }

    /// [`Api::call`], where only success will do; a refusal needs a person.
    pub async fn must(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let answer = self.call(method.clone(), path, query, body).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(self.refused(&method, path, &answer)) }
    }

    /// A status that no retry will change.
    pub fn refused(&self, method: &Method, path: &str, answer: &Answer) -> Trouble {
        let said = self.said(method, path, answer);
        Trouble::Lasting(match answer.status {
            StatusCode::UNAUTHORIZED => format!("{said}; give the cluster's credentials anew"),
            StatusCode::FORBIDDEN => format!("{said}; apply docs/kubernetes-rbac.yaml in the cluster"),
            _ => said,
        })
    }

    fn said(&self, method: &Method, path: &str, answer: &Answer) -> String {
        // What an API server says is its own text, bounded and cleaned; it never quotes a bearer.
        let message = answer.body.get("message").and_then(Value::as_str).unwrap_or_default();
        let message = provisioner_wire::report::clean(message);
        format!("the cluster {}: {method} {path}: {} {message}", self.cluster, answer.status.as_u16())
    }

    fn silent(&self, error: reqwest::Error) -> Trouble {
        let named = |why| format!("the cluster {}: {}: {why}", self.cluster, self.base);
        match unanswered(error) {
            Trouble::Passing(why) => Trouble::Passing(named(why)),
            Trouble::Lasting(why) => Trouble::Lasting(named(why)),
        }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let failed = |e: reqwest::Error| self.silent(e);
        let kind = match method {
            Method::PATCH => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        let mut request = self.request(method, path, query).timeout(ANSWER_WITHIN);
        if let Some(body) = body {
            let text = serde_json::to_vec(body).map_err(|e| Trouble::Lasting(e.to_string()))?;
            request = request.header(header::CONTENT_TYPE, kind).body(text);
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse().ok())
            .map(Duration::from_secs);
        let mut bytes = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_MAX {
                return Err(Trouble::Passing(format!(
                    "the cluster {}: an answer of more than {ANSWER_MAX} bytes",
                    self.cluster
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status, body, retry_after })
    }

    /// Watches from `version` for at most `within`.
    pub async fn watch(
        &self,
        path: &str,
        query: &[(&str, &str)],
        version: &str,
        within: Duration,
    ) -> Result<Watch> {
        let seconds = within.as_secs().max(1).to_string();
        let mut all = query.to_vec();
        all.extend([("watch", "1"), ("allowWatchBookmarks", "true")]);
        all.extend([("resourceVersion", version), ("timeoutSeconds", seconds.as_str())]);
        let failed = |e: reqwest::Error| self.silent(e);
        let request = self.request(Method::GET, path, &all).timeout(within + CONNECT_WITHIN);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let watch = Watch { response: None, buffer: Vec::new(), version: version.to_owned() };
        if status == StatusCode::GONE {
            return Ok(watch);
        }
        if !status.is_success() {
            let body = response.json().await.unwrap_or(Value::Null);
            let refused = self.refused(&Method::GET, path, &Answer { status, body, retry_after: None });
            return Err(if passing(status) { Trouble::Passing(refused.to_string()) } else { refused });
        }
        Ok(Watch { response: Some(response), ..watch })
    }
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    /// `None`: what was seen last is forgotten there.
    response: Option<reqwest::Response>,
    buffer: Vec<u8>,
    version: String,
}

/// What a watch shows next.
#[derive(Debug)]
pub enum Next {
    Event(Event),
    /// Time is up, the server closed it, or the connection broke: go on from this version.
    Closed(String),
    /// The version is too old (410 Gone): list anew.
    Gone,
}

impl Watch {
    pub async fn next(&mut self) -> Next {
        loop {
            let Some(response) = &mut self.response else { return Next::Gone };
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let Ok(Value::Object(mut event)) = serde_json::from_slice(&line) else { continue };
                let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
                let object = event.remove("object").unwrap_or(Value::Null);
                if kind == "ERROR" {
                    // Mostly 410. Whatever it is, a new list is the answer.
                    return Next::Gone;
                }
                if let Some(seen) = object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
                    seen.clone_into(&mut self.version);
                }
                if kind != "BOOKMARK" {
                    return Next::Event(Event { kind, object });
                }
            }
            match response.chunk().await {
                Ok(Some(chunk)) if self.buffer.len() + chunk.len() <= EVENT_MAX => {
                    self.buffer.extend_from_slice(&chunk);
                }
                _ => return Next::Closed(self.version.clone()),
            }
        }
    }
}

/// Overload and breakdown, which pass; so does a conflict of versions, but that one is the caller's.
fn passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
}

/// Why there is no answer: it may pass, unless the address is one that is not connected to.
pub(super) fn unanswered(error: reqwest::Error) -> Trouble {
    match Refused::within(&error) {
        Some(refused) => Trouble::Lasting(refused.to_string()),
        None => Trouble::Passing(deepest(&error.without_url())),
    }
}

/// The innermost cause says most: "invalid peer certificate", "connection refused".
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
