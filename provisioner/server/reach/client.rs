//! HTTP GET to what somebody declared. Redirects are followed by hand, each held to the same rules.

use super::{
    resolver::{Reach, Refused},
    rules::Rules,
};
use reqwest::{
    Certificate, Method, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, LOCATION},
};
use std::time::Duration;

const REDIRECTS_MAX: usize = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// From the request to the answer's head.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{url}: {refused}")]
    Denied { url: String, refused: Refused },
    #[error("{0} is no http or https URL")]
    Scheme(String),
    #[error("{from} redirects from https to {to}")]
    Downgrade { from: String, to: String },
    #[error("{0} redirects more than {REDIRECTS_MAX} times")]
    Redirects(String),
    #[error("{0} redirects to nowhere")]
    Nowhere(String),
    #[error("{url}: {}", reasons(.source))]
    Http { url: String, source: reqwest::Error },
    #[error("{url}: no answer in {} s", ANSWER_WITHIN.as_secs())]
    Silent { url: String },
}

impl AskError {
    /// Asking again cannot help.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Http { .. } | Self::Silent { .. })
    }
}

/// reqwest's own text hides what happened in its sources.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = if text.is_empty() { words } else { format!("{text}: {words}") };
        }
        next = error.source();
    }
    text
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    reach: Reach,
}

impl Client {
    /// `authorities`: PEM, trusted beside the well-known ones.
    pub fn new(rules: Rules, authorities: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        Self::reaching(Reach::new(rules), authorities)
    }

    /// [`Client::new`], with its own way to resolve names.
    pub fn reaching(reach: Reach, authorities: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let mut builder = reach
            .builder()
            .connect_timeout(CONNECT_WITHIN)
            .user_agent(concat!("provisioner/", env!("CARGO_PKG_VERSION")));
        for authority in authorities.map(Certificate::from_pem_bundle).transpose()?.unwrap_or_default() {
            builder = builder.add_root_certificate(authority);
        }
        Ok(Self { http: builder.build()?, reach })
    }

    /// The answer to a GET, after redirects. `dress` adds headers to each request; it is told whether that goes to the
    /// host that was meant, for credentials are for no other.
    pub async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        dress: impl Fn(RequestBuilder, bool) -> RequestBuilder,
    ) -> Result<Response, AskError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(&at, headers, &dress, same_host(url, &at)).await?;
            if !is_redirect(answer.status()) {
                return Ok(answer);
            }
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| at.join(to).ok()).ok_or_else(|| AskError::Nowhere(shown(&at)))?;
            if at.scheme() == "https" && to.scheme() != "https" {
                return Err(AskError::Downgrade { from: shown(&at), to: shown(&to) });
            }
            at = to;
        }
        Err(AskError::Redirects(shown(url)))
    }

    async fn once(
        &self,
        url: &Url,
        headers: &HeaderMap,
        dress: &impl Fn(RequestBuilder, bool) -> RequestBuilder,
        meant: bool,
    ) -> Result<Response, AskError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AskError::Scheme(shown(url)));
        }
        self.reach.literal(url).map_err(|refused| AskError::Denied { url: shown(url), refused })?;
        let request = dress(self.http.request(Method::GET, url.clone()).headers(headers.clone()), meant);
        match tokio::time::timeout(ANSWER_WITHIN, request.send()).await {
            Ok(answer) => answer.map_err(|source| told(url, source)),
            Err(_) => Err(AskError::Silent { url: shown(url) }),
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn same_host(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port_or_known_default()) == (b.scheme(), b.host(), b.port_or_known_default())
}

/// Without user, password and query, which may be secrets (signed URLs).
pub fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn told(url: &Url, source: reqwest::Error) -> AskError {
    match Refused::within(&source) {
        Some(refused) => AskError::Denied { url: shown(url), refused: refused.clone() },
        None => AskError::Http { url: shown(url), source: source.without_url() },
    }
}
