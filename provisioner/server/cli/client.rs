//! One caller of the REST API: its server, its trust, its token, and what refusals mean for the exit code.

use super::{Output, To};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{path::Path, time::Duration};

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    pub output: Output,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    pub fn new(to: &To) -> Result<Self, Failure> {
        // Fails only where one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A stalled server is found out by the read timeout; the event stream sends a keep-alive every 15 s.
        let mut http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        if let Some(file) = &to.ca_file {
            let wrong =
                |e: &dyn std::fmt::Display| Failure::Usage(format!("--ca-file {}: {e}", file.display()));
            let pem = std::fs::read(file).map_err(|e| wrong(&e))?;
            let certificate = reqwest::Certificate::from_pem(&pem).map_err(|e| wrong(&e))?;
            // The site's own authority and no other.
            http = http.add_root_certificate(certificate).tls_built_in_root_certs(false);
        }
        let http = http.build().map_err(|e| Failure::Usage(format!("HTTP client: {}", chain(&e))))?;
        let token = to.token_file.as_deref().map(token).transpose()?;
        Ok(Self { http, base: to.server.trim_end_matches('/').to_owned(), token, output: to.output })
    }

    /// Sends one request; refusals become failures with their meaning.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// A request with the token, not sent yet.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(self.send(Method::GET, path, None).await?).await
    }

    pub async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let text = response.text().await.map_err(|e| self.unreachable(&e))?;
        serde_json::from_str(&text)
            .map_err(|e| Failure::Failed(format!("{} gave an answer that cannot be read: {e}", self.base)))
    }

    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let hint = if chain(error).contains("UnknownIssuer") {
            "; name the site's authority with --ca-file (ca.pem in the server's data folder)"
        } else {
            ""
        };
        Failure::Unreachable(format!("{} cannot be reached: {}{hint}", self.base, chain(error)))
    }

    pub async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str).unwrap_or(text.trim());
        let mut said = if detail.is_empty() { status.to_string() } else { detail.to_owned() };
        let problems = problem.get("problems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for one in problems.iter().skip(1) {
            let word = |key| one.get(key).and_then(Value::as_str).unwrap_or_default();
            said.push_str(&format!("\n  {}: {}", word("place"), word("what")));
        }
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => Failure::Unreachable(
                "no token: name its file with --token-file (admin-token in the server's data folder)"
                    .to_owned(),
            ),
            StatusCode::UNAUTHORIZED => {
                Failure::Unreachable(format!("{} does not know this token", self.base))
            }
            StatusCode::FORBIDDEN => Failure::Unreachable(said),
            status if status.is_client_error() => Failure::Refused(said),
            _ => Failure::Failed(said),
        }
    }
}

fn token(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Usage(format!("--token-file {}: {e}", file.display())))?;
    Ok(text.trim().to_owned())
}

/// An error with its causes; reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// A name as one path segment. Names that need escaping never exist; the server says so.
pub fn segment(name: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    name.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}
