//! What is configured of DHCP, as written in the configuration file. [`super::subnet::Subnet::new`] checks it.

use super::{limits::LimitsConfig, rogue::WatchConfig};
use ipnet::Ipv4Net;
use serde::Deserialize;
use std::net::Ipv4Addr;

/// Section `[dhcp]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhcpConfig {
    /// The network interface that is served; nothing is answered on any other.
    pub interface: String,
    /// Subnets behind this interface, directly or by relays.
    pub subnets: Vec<SubnetConfig>,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub watch: WatchConfig,
}

/// One `[[dhcp.subnets]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    pub network: Ipv4Net,
    /// First and last address for machines without a reservation. Without a pool such machines get none.
    #[serde(default)]
    pub pool: Option<[Ipv4Addr; 2]>,
    #[serde(default)]
    pub router: Option<Ipv4Addr>,
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// 60 to 604,800.
    #[serde(default = "one_hour")]
    pub lease_seconds: u32,
}

fn one_hour() -> u32 {
    3600
}
