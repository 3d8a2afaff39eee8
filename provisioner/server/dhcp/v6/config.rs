//! What is configured of DHCPv6, as written in the configuration file. [`super::subnet::Served::new`] checks it.

use ipnet::Ipv6Net;
use serde::Deserialize;
use std::net::Ipv6Addr;

/// One `[[dhcp6]]`: an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp6Config {
    /// The network interface that is served; nothing is answered on any other.
    pub interface: String,
    #[serde(default)]
    pub mode: Mode,
    /// This server's address as machines reach it; without it, the interface's own inside one of the subnets.
    #[serde(default)]
    pub address: Option<Ipv6Addr>,
    /// Send router advertisements (router lifetime 0). Without it: where `mode` is `stateful`.
    #[serde(default)]
    pub advertise: Option<bool>,
    /// No other server gives addresses here: a SOLICIT that allows it is answered with the lease itself (rapid commit),
    /// and no client waits for a better advertisement (preference 255).
    #[serde(default = "yes")]
    pub sole_server: bool,
    /// Option 60 for firmware that asks for it, one string a parameter. iPXE needs none.
    #[serde(default)]
    pub boot_parameters: Vec<String>,
    /// Subnets behind this interface, directly or by relays. None is needed where `mode` is `stateless`.
    #[serde(default)]
    pub subnets: Vec<Subnet6Config>,
}

/// Who gives addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// This server, from pools and reservations.
    #[default]
    Stateful,
    /// Others: routers, or another DHCPv6 server. Only boot options are given, to those who ask for information.
    Stateless,
}

/// One `[[dhcp6.subnets]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet6Config {
    pub network: Ipv6Net,
    /// First and last address for machines without a reservation. Without a pool such machines get none.
    #[serde(default)]
    pub pool: Option<[Ipv6Addr; 2]>,
    #[serde(default)]
    pub dns: Vec<Ipv6Addr>,
    /// Valid lifetime; preferred is three quarters of it. 60 to 604,800.
    #[serde(default = "one_hour")]
    pub lease_seconds: u32,
}

fn one_hour() -> u32 {
    3600
}

fn yes() -> bool {
    true
}
