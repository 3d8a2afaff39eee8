//! HTTP to where images come from. Each name is resolved once, each of its addresses checked, and the connection goes to
//! an address that was checked: a name that changes its address meanwhile gains nothing. Redirects are followed by
//! hand, each held to the same rules.

use super::addresses::{Addresses, Denied};
use reqwest::{
    Certificate, Method, RequestBuilder, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, LOCATION},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use url::Host;

const REDIRECTS_MAX: usize = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// From the request to the answer's head.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{host}: {ip} {why}; the site can allow it in fetch.allow")]
    Denied { host: String, ip: IpAddr, why: Denied },
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
    addresses: Arc<Addresses>,
}

impl Client {
    /// `authorities`: PEM, trusted beside the well-known ones.
    pub fn new(addresses: Addresses, authorities: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let addresses = Arc::new(addresses);
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would connect where nobody has checked.
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN)
            .dns_resolver(Arc::new(Checked(addresses.clone())))
            .user_agent(concat!("provisioner/", env!("CARGO_PKG_VERSION")));
        for authority in authorities.map(Certificate::from_pem_bundle).transpose()?.unwrap_or_default() {
            builder = builder.add_root_certificate(authority);
        }
        Ok(Self { http: builder.build()?, addresses })
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
        // An address in the URL is never resolved, and so is checked here.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip)),
            _ => None,
        };
        if let Some(ip) = literal {
            let denied = |why| AskError::Denied { host: shown(url), ip, why };
            self.addresses.check(ip, is_own).map_err(denied)?;
        }
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

/// The resolver's refusal stands deep inside reqwest's error.
fn told(url: &Url, source: reqwest::Error) -> AskError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = next {
        if let Some(Refused { ip, why }) = error.downcast_ref::<Refused>() {
            return AskError::Denied { host: shown(url), ip: *ip, why: *why };
        }
        next = error.source();
    }
    AskError::Http { url: shown(url), source: source.without_url() }
}

/// A socket can be bound to it: it is this host's. Nothing is sent to find out. Where the kernel lets sockets be bound to
/// anybody's address (`ip_nonlocal_bind`, as for virtual addresses), that says nothing.
fn is_own(ip: IpAddr) -> bool {
    // Of no host: RFC 5737, RFC 3849.
    let nobody: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    UdpSocket::bind((ip, 0)).is_ok() && UdpSocket::bind((nobody, 0)).is_err()
}

/// Resolves, and gives back only addresses that were checked.
struct Checked(Arc<Addresses>);

#[derive(Debug, thiserror::Error)]
#[error("{ip} {why}")]
struct Refused {
    ip: IpAddr,
    why: Denied,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let addresses = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One that is denied denies the name: whoever mixes them means no good.
            for address in &found {
                addresses.check(address.ip(), is_own).map_err(|why| Refused { ip: address.ip(), why })?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked")
    }
}
