//! PURE. The subnets that are served, checked, and which of them a request is about.

use super::{config::SubnetConfig, intake::Request};
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, time::Duration};

/// Addresses of one pool: what a /16 has. More would make a full pool slow to search.
const POOL_MAX: u32 = 65_536;
const LEASE_MIN: u32 = 60;
const LEASE_MAX: u32 = 7 * 24 * 3600;
/// More name servers than this have overrun buffers in firmware (PixieFail, CVE-2023-45230 and following).
const DNS_MAX: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv4Net,
    /// First and last.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub lease: Duration,
}

/// Why the subnets cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error("dhcp.subnets: there is none")]
    None,
    #[error("dhcp.subnets[{0}]: {1} overlaps {2}")]
    Overlap(usize, Ipv4Net, Ipv4Net),
    #[error("dhcp.subnets[{at}].{field}: {what}")]
    Field { at: usize, field: &'static str, what: String },
}

impl Subnet {
    /// Checks one subnet, the `at`-th of its list.
    pub fn new(at: usize, config: &SubnetConfig) -> Result<Self, SubnetError> {
        let network = config.network.trunc();
        let wrong = |field, what: String| Err(SubnetError::Field { at, field, what });
        if network.prefix_len() < 8 || network.prefix_len() > 30 {
            return wrong("network", format!("{network} is not between /8 and /30"));
        }
        if !(LEASE_MIN..=LEASE_MAX).contains(&config.lease_seconds) {
            return wrong("lease_seconds", format!("{} to {} are possible", LEASE_MIN, LEASE_MAX));
        }
        if config.dns.len() > DNS_MAX {
            return wrong("dns", format!("at most {DNS_MAX} name servers; some firmware overruns with more"));
        }
        let subnet = Self {
            network,
            pool: config.pool.map(|[from, to]| (from, to)),
            router: config.router,
            dns: config.dns.clone(),
            lease: Duration::from_secs(config.lease_seconds.into()),
        };
        if let Some(router) = subnet.router.filter(|ip| !subnet.has_host(*ip)) {
            return wrong("router", format!("{router} is not a host address of {network}"));
        }
        if let Some((from, to)) = subnet.pool {
            if let Some(outside) = [from, to].into_iter().find(|ip| !subnet.has_host(*ip)) {
                return wrong("pool", format!("{outside} is not a host address of {network}"));
            }
            if from > to || u32::from(to) - u32::from(from) >= POOL_MAX {
                return wrong("pool", format!("{from} to {to} is not a range of 1 to {POOL_MAX} addresses"));
            }
        }
        Ok(subnet)
    }

    /// Checks a whole list; the error names the place in it.
    pub fn all(configs: &[SubnetConfig]) -> Result<Vec<Self>, SubnetError> {
        let mut subnets: Vec<Self> = Vec::new();
        for (at, config) in configs.iter().enumerate() {
            let subnet = Self::new(at, config)?;
            let overlap =
                |o: &&Self| o.network.contains(&subnet.network) || subnet.network.contains(&o.network);
            if let Some(other) = subnets.iter().find(overlap) {
                return Err(SubnetError::Overlap(at, subnet.network, other.network));
            }
            subnets.push(subnet);
        }
        if subnets.is_empty() { Err(SubnetError::None) } else { Ok(subnets) }
    }

    /// An address that one machine can have: not the network's own, not its broadcast.
    pub fn has_host(&self, ip: Ipv4Addr) -> bool {
        self.network.contains(&ip) && ip != self.network.network() && ip != self.network.broadcast()
    }

    pub fn in_pool(&self, ip: Ipv4Addr) -> bool {
        self.pool.is_some_and(|(from, to)| from <= ip && ip <= to)
    }

    /// How many addresses the pool has.
    pub fn pool_size(&self) -> u32 {
        self.pool.map_or(0, |(from, to)| u32::from(to) - u32::from(from) + 1)
    }

    /// The `n`-th address of the pool, counted round and round.
    pub fn pool_nth(&self, n: u32) -> Option<Ipv4Addr> {
        let (from, _) = self.pool?;
        let offset = n.checked_rem(self.pool_size())?;
        Some(Ipv4Addr::from(u32::from(from).wrapping_add(offset)))
    }
}

/// Where the client is: the relay's word (RFC 3527 link selection first), else the address it has (a renewal comes by
/// unicast from afar), else the link of `server`.
pub fn of_request<'a>(subnets: &'a [Subnet], server: Ipv4Addr, request: &Request) -> Option<&'a Subnet> {
    let containing = |ip: Ipv4Addr| subnets.iter().find(|s| s.network.contains(&ip));
    if !request.giaddr.is_unspecified() {
        return containing(request.link_selection().unwrap_or(request.giaddr));
    }
    let by_own = (!request.ciaddr.is_unspecified()).then(|| containing(request.ciaddr)).flatten();
    by_own.or_else(|| containing(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Vec<Subnet>, String> {
        #[derive(serde::Deserialize)]
        struct File {
            subnets: Vec<SubnetConfig>,
        }
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        Subnet::all(&file.subnets).map_err(|e| e.to_string())
    }

    #[test]
    fn a_good_one_is_read() {
        let good = "[[subnets]]\nnetwork = \"10.88.0.0/24\"\npool = [\"10.88.0.100\", \"10.88.0.199\"]\n\
            router = \"10.88.0.1\"\ndns = [\"10.88.0.1\"]\n[[subnets]]\nnetwork = \"10.89.0.0/16\"\n";
        let subnets = config(good).unwrap();
        assert_eq!((subnets.len(), subnets[0].pool_size(), subnets[1].pool_size()), (2, 100, 0));
        assert_eq!(subnets[0].lease, Duration::from_secs(3600));
        assert_eq!(subnets[0].pool_nth(250), Some(Ipv4Addr::new(10, 88, 0, 150)));
        assert_eq!(subnets[1].pool_nth(1), None);
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let subnet = |rest: &str| format!("[[subnets]]\nnetwork = \"10.88.0.0/24\"\n{rest}\n");
        for (text, expected) in [
            ("subnets = []".to_owned(), "there is none"),
            (subnet("pool = [\"10.88.0.9\", \"10.88.0.8\"]"), "subnets[0].pool: 10.88.0.9 to 10.88.0.8"),
            (subnet("pool = [\"10.88.0.9\", \"10.88.0.255\"]"), "10.88.0.255 is not a host address"),
            (subnet("router = \"10.99.0.1\""), "subnets[0].router: 10.99.0.1 is not"),
            (subnet("lease_seconds = 5"), "subnets[0].lease_seconds: 60 to 604800"),
            (subnet("gateway = \"10.88.0.1\""), "unknown field `gateway`"),
            (subnet("dns = [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]"), "at most 3"),
            (format!("{}{}", subnet(""), subnet("")), "subnets[1]: 10.88.0.0/24 overlaps"),
        ] {
            let error = config(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
