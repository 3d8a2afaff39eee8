//! PURE. The IPv6 subnets that are served, checked, and which of them a request is about.

use super::{
    config::{Dhcp6Config, Mode, Subnet6Config},
    intake::Request,
};
use ipnet::Ipv6Net;
use std::{net::Ipv6Addr, time::Duration};

/// Addresses of one pool: enough for every machine on a link, and quick to search where it is full.
const POOL_MAX: u128 = 65_536;
const LEASE_MIN: u32 = 60;
const LEASE_MAX: u32 = 7 * 24 * 3600;
/// More name servers than this have overrun buffers in firmware (PixieFail, CVE-2023-45230 and following).
const DNS_MAX: usize = 3;
/// Of all boot parameters with their lengths: one packet must hold the whole answer.
const PARAMETERS_MAX: usize = 512;

/// One subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv6Net,
    /// First and last.
    pub pool: Option<(Ipv6Addr, Ipv6Addr)>,
    pub dns: Vec<Ipv6Addr>,
    /// The valid lifetime.
    pub lease: Duration,
}

/// What is served on one interface, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub interface: String,
    pub mode: Mode,
    pub address: Option<Ipv6Addr>,
    pub advertise: bool,
    pub sole_server: bool,
    pub boot_parameters: Vec<String>,
    pub subnets: Vec<Subnet>,
}

/// Why DHCPv6 cannot be served as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServedError {
    #[error("dhcp6[{0}]: the interface {1} is served twice")]
    Twice(usize, String),
    #[error("dhcp6[{at}].{field}: {what}")]
    Field { at: usize, field: String, what: String },
}

impl ServedError {
    /// Which `[[dhcp6]]`, from 0.
    pub fn at(&self) -> usize {
        match self {
            Self::Twice(at, _) | Self::Field { at, .. } => *at,
        }
    }
}

impl Served {
    /// Checks all interfaces; the error names the place.
    pub fn all(configs: &[Dhcp6Config]) -> Result<Vec<Self>, ServedError> {
        let mut all: Vec<Self> = Vec::new();
        for (at, config) in configs.iter().enumerate() {
            let served = Self::new(at, config)?;
            if all.iter().any(|s| s.interface == served.interface) {
                return Err(ServedError::Twice(at, served.interface));
            }
            all.push(served);
        }
        Ok(all)
    }

    /// Checks one interface, the `at`-th of its list.
    pub fn new(at: usize, config: &Dhcp6Config) -> Result<Self, ServedError> {
        let wrong = |field: &str, what: String| ServedError::Field { at, field: field.to_owned(), what };
        let mut subnets: Vec<Subnet> = Vec::new();
        for (nth, one) in config.subnets.iter().enumerate() {
            let subnet =
                Subnet::new(one).map_err(|(field, what)| wrong(&format!("subnets[{nth}].{field}"), what))?;
            let overlaps =
                |o: &&Subnet| o.network.contains(&subnet.network) || subnet.network.contains(&o.network);
            if let Some(other) = subnets.iter().find(overlaps) {
                let what = format!("{} overlaps {}", subnet.network, other.network);
                return Err(wrong(&format!("subnets[{nth}].network"), what));
            }
            subnets.push(subnet);
        }
        if config.mode == Mode::Stateful && subnets.is_empty() {
            return Err(wrong("subnets", "there is none; mode = \"stateless\" needs none".to_owned()));
        }
        if subnets.is_empty() && config.address.is_none() {
            return Err(wrong("address", "is needed where there are no subnets".to_owned()));
        }
        if let Some(bad) = config.address.filter(|ip| !is_host(*ip)) {
            return Err(wrong("address", format!("{bad} is not an address that machines can reach")));
        }
        let long: usize = config.boot_parameters.iter().map(|p| p.len() + 2).sum();
        if long > PARAMETERS_MAX || config.boot_parameters.iter().any(|p| p.chars().any(char::is_control)) {
            return Err(wrong(
                "boot_parameters",
                format!("at most {PARAMETERS_MAX} bytes, no control characters"),
            ));
        }
        Ok(Self {
            interface: config.interface.clone(),
            mode: config.mode,
            address: config.address,
            advertise: config.advertise.unwrap_or(config.mode == Mode::Stateful),
            sole_server: config.sole_server,
            boot_parameters: config.boot_parameters.clone(),
            subnets,
        })
    }

    /// Where the client is: the link that the relay closest to it names (RFC 8415 §13.1; one that cannot say leaves it to
    /// the next, RFC 6221), else the link of `server`.
    pub fn subnet_of(&self, server: Ipv6Addr, request: &Request) -> Option<&Subnet> {
        let link = request.relays.iter().rev().map(|r| r.link).find(|link| !link.is_unspecified());
        let place = match (request.relays.is_empty(), link) {
            (true, _) => server,
            (false, link) => link?,
        };
        self.subnets.iter().find(|s| s.network.contains(&place))
    }
}

impl Subnet {
    /// Checks one subnet; an error is its field and what is wrong.
    pub fn new(config: &Subnet6Config) -> Result<Self, (&'static str, String)> {
        let network = config.network.trunc();
        if !(16..=120).contains(&network.prefix_len()) || network.addr().is_multicast() {
            return Err(("network", format!("{network} is not a network between /16 and /120")));
        }
        if network.addr().is_unicast_link_local() {
            return Err((
                "network",
                format!("{network} is link-local: machines have such addresses already"),
            ));
        }
        if !(LEASE_MIN..=LEASE_MAX).contains(&config.lease_seconds) {
            return Err(("lease_seconds", format!("{LEASE_MIN} to {LEASE_MAX} are possible")));
        }
        if config.dns.len() > DNS_MAX {
            return Err(("dns", format!("at most {DNS_MAX} name servers; some firmware overruns with more")));
        }
        let subnet = Self {
            network,
            pool: config.pool.map(|[from, to]| (from, to)),
            dns: config.dns.clone(),
            lease: Duration::from_secs(config.lease_seconds.into()),
        };
        if let Some((from, to)) = subnet.pool {
            if let Some(outside) = [from, to].into_iter().find(|ip| !subnet.has_host(*ip)) {
                return Err(("pool", format!("{outside} is not a host address of {network}")));
            }
            if from > to || u128::from(to) - u128::from(from) >= POOL_MAX {
                let what = format!("{from} to {to} is not a range of 1 to {POOL_MAX} addresses");
                return Err(("pool", what));
            }
        }
        Ok(subnet)
    }

    /// An address that one machine can have: not the subnet-router anycast address (RFC 4291 §2.6.1).
    pub fn has_host(&self, ip: Ipv6Addr) -> bool {
        self.network.contains(&ip) && ip != self.network.network()
    }

    pub fn in_pool(&self, ip: Ipv6Addr) -> bool {
        self.pool.is_some_and(|(from, to)| from <= ip && ip <= to)
    }

    /// How many addresses the pool has.
    pub fn pool_size(&self) -> u128 {
        self.pool.map_or(0, |(from, to)| u128::from(to) - u128::from(from) + 1)
    }

    /// The `n`-th address of the pool, counted round and round.
    pub fn pool_nth(&self, n: u128) -> Option<Ipv6Addr> {
        let (from, _) = self.pool?;
        let offset = n.checked_rem(self.pool_size())?;
        Some(Ipv6Addr::from(u128::from(from).wrapping_add(offset)))
    }
}

fn is_host(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || ip.is_unicast_link_local())
}

#[cfg(test)]
#[path = "subnet_tests.rs"]
mod tests;
