//! Each name is resolved once for a connection, each of its addresses checked, and the connection goes to one of exactly
//! those: a name that changes its address meanwhile gains nothing.

use super::rules::{Denied, Rules};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};
use url::Host;

/// An address that is not connected to. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{ip} {why}; the site can allow it in fetch.allow", host.as_ref().map(|h| format!("{h}: ")).unwrap_or_default())]
pub struct Refused {
    /// The name that led to it.
    pub host: Option<String>,
    pub ip: IpAddr,
    pub why: Denied,
}

impl Refused {
    /// The resolver's refusal stands deep inside reqwest's error.
    pub fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(refused);
            }
            next = error.source();
        }
        None
    }
}

/// Rules, and how names are resolved. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    rules: Arc<Rules>,
    names: Arc<dyn Resolve>,
}

impl Reach {
    /// Names are resolved by this host.
    pub fn new(rules: Rules) -> Self {
        Self::resolving_by(rules, Arc::new(HostsNames))
    }

    /// Names are resolved by `names`, whose answers are held to `rules`.
    pub fn resolving_by(rules: Rules, names: Arc<dyn Resolve>) -> Self {
        Self { rules: Arc::new(rules), names }
    }

    /// The same, with private networks or without them.
    pub fn with_private(&self, private: bool) -> Self {
        let rules = Rules { private, ..(*self.rules).clone() };
        Self { rules: Arc::new(rules), names: self.names.clone() }
    }

    /// A client that resolves by these rules, and follows no redirect. An address in a URL is never resolved: each URL
    /// must pass [`Reach::literal`] before it is asked.
    pub fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would connect where nobody has checked.
            .no_proxy()
            .dns_resolver(Arc::new(self.clone()))
    }

    /// Whether the URL may be asked, where its host is an address and no name.
    pub fn literal(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check(None, ip.into()),
            Some(Host::Ipv6(ip)) => self.check(None, ip.into()),
            _ => Ok(()),
        }
    }

    fn check(&self, host: Option<&str>, ip: IpAddr) -> Result<(), Refused> {
        self.rules.check(ip, is_own).map_err(|why| Refused { host: host.map(str::to_owned), ip, why })
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, host) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found: Vec<SocketAddr> = reach.names.resolve(name).await?.collect();
            // One that is denied denies the name: whoever mixes them means no good.
            for address in &found {
                reach.check(Some(&host), address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reach({:?})", self.rules)
    }
}

/// As this host resolves names for every program.
struct HostsNames;

impl Resolve for HostsNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
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
