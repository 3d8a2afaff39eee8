//! PURE. The subnets that are served, checked, and which of them a request is about.

use super::{
    config::{Mode, SubnetConfig},
    intake::Request,
    options::{OptionSet, encoded},
};
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, time::Duration};

/// Addresses of the pools of one subnet: what a /16 has. More would make a full pool slow to search.
const POOL_MAX: u32 = 65_536;
const LEASE_MIN: u32 = 60;
const LEASE_MAX: u32 = 7 * 24 * 3600;
/// More name servers than this have overrun buffers in firmware (PixieFail, CVE-2023-45230 and following).
const DNS_MAX: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv4Net,
    pub mode: Mode,
    /// First and last of each range, in the order they are used.
    pub pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub lease: Duration,
    /// What else its answers say.
    pub options: OptionSet,
    /// Relay information without a relay is taken (`trust_relay_information` of its interface).
    pub trusts: bool,
}

/// Why the subnets cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error("dhcp.subnets: there is none")]
    None,
    #[error("dhcp.subnets[{0}]: {1} overlaps {2}")]
    Overlap(usize, Ipv4Net, Ipv4Net),
    #[error("dhcp.interface: interface {0} is named twice")]
    Interface(String),
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
            mode: config.mode.unwrap_or_default(),
            pools: config.pools.iter().map(|[from, to]| (*from, *to)).collect(),
            router: config.router,
            dns: config.dns.clone(),
            lease: Duration::from_secs(config.lease_seconds.into()),
            options: encoded(&config.options),
            trusts: false,
        };
        if config.options.router.is_some() || !config.options.dns.is_empty() {
            return wrong("options", "router and dns stand in the subnet itself".to_owned());
        }
        if let Some(router) = subnet.router.filter(|ip| !subnet.has_host(*ip)) {
            return wrong("router", format!("{router} is not a host address of {network}"));
        }
        subnet.check_pools().map_err(|what| SubnetError::Field { at, field: "pools", what })?;
        Ok(subnet)
    }

    fn check_pools(&self) -> Result<(), String> {
        let mut before: Vec<(Ipv4Addr, Ipv4Addr)> = Vec::new();
        let mut size = 0;
        for (from, to) in &self.pools {
            if let Some(outside) = [from, to].into_iter().find(|ip| !self.has_host(**ip)) {
                return Err(format!("{outside} is not a host address of {}", self.network));
            }
            if from > to {
                return Err(format!("{from} to {to} is not a range"));
            }
            if let Some(twice) = before.iter().find(|(first, last)| first <= to && from <= last) {
                return Err(format!("{} is in two ranges", from.max(&twice.0)));
            }
            size += u32::from(*to) - u32::from(*from) + 1;
            before.push((*from, *to));
        }
        if size > POOL_MAX {
            return Err(format!("{size} addresses in all; {POOL_MAX} is the most"));
        }
        Ok(())
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
        self.pools.iter().any(|(from, to)| *from <= ip && ip <= *to)
    }

    /// How many addresses the pools have.
    pub fn pool_size(&self) -> u32 {
        self.pools.iter().map(|(from, to)| u32::from(*to) - u32::from(*from) + 1).sum()
    }

    /// The `n`-th address of the pools, counted round and round.
    pub fn pool_nth(&self, n: u32) -> Option<Ipv4Addr> {
        let mut offset = n.checked_rem(self.pool_size())?;
        for (from, to) in &self.pools {
            let size = u32::from(*to) - u32::from(*from) + 1;
            if offset < size {
                return Some(Ipv4Addr::from(u32::from(*from).wrapping_add(offset)));
            }
            offset -= size;
        }
        None
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
        let good = "[[subnets]]\nnetwork = \"10.88.0.0/24\"\npools = [[\"10.88.0.100\", \"10.88.0.199\"]]\n\
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
            (subnet("pools = [[\"10.88.0.9\", \"10.88.0.8\"]]"), "subnets[0].pools: 10.88.0.9 to 10.88.0.8"),
            (subnet("pools = [[\"10.88.0.9\", \"10.88.0.255\"]]"), "10.88.0.255 is not a host address"),
            (subnet("router = \"10.99.0.1\""), "subnets[0].router: 10.99.0.1 is not"),
            (subnet("lease_seconds = 5"), "subnets[0].lease_seconds: 60 to 604800"),
            (subnet("gateway = \"10.88.0.1\""), "unknown field `gateway`"),
            (subnet("dns = [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]"), "at most 3"),
            (subnet("[subnets.options]\ndns = [\"1.1.1.1\"]"), "router and dns stand in the subnet itself"),
            (format!("{}{}", subnet(""), subnet("")), "subnets[1]: 10.88.0.0/24 overlaps"),
        ] {
            let error = config(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
