//! What is configured of DHCP, as written in the configuration file, and the rules between interfaces.
//! [`super::subnet::Subnet::new`] checks one subnet.

use super::{
    limits::LimitsConfig,
    rogue::WatchConfig,
    subnet::{Subnet, SubnetError},
};
use crate::inventory::DhcpOptions;
use ipnet::Ipv4Net;
use serde::Deserialize;
use std::net::Ipv4Addr;

/// One `[[dhcp]]`: an interface and what is answered on it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhcpConfig {
    /// The network interface; nothing is answered on one that is not named.
    pub interface: String,
    /// Of all its subnets that say nothing else.
    #[serde(default)]
    pub mode: Mode,
    /// Relay information (option 82) is taken from packets that no relay has passed, as switches put it there that only
    /// bridge. Else such packets are dropped: a client could claim another's port (RFC 3046 §2.1).
    #[serde(default)]
    pub trust_relay_information: bool,
    /// Of all its subnets; a subnet's own go before.
    #[serde(default)]
    pub options: DhcpOptions,
    /// Subnets behind this interface, directly or by relays.
    pub subnets: Vec<SubnetConfig>,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub watch: WatchConfig,
}

/// What is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Addresses and boot files: this is the network's DHCP server.
    #[default]
    Server,
    /// Boot files only (proxyDHCP), beside another server that gives addresses.
    Proxy,
    /// Nothing.
    Off,
}

/// One `[[dhcp.subnets]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    pub network: Ipv4Net,
    #[serde(default)]
    pub mode: Option<Mode>,
    /// First and last address of each range for machines without a reservation. Without any such machines get none.
    #[serde(default)]
    pub pools: Vec<[Ipv4Addr; 2]>,
    #[serde(default)]
    pub router: Option<Ipv4Addr>,
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// 60 to 604,800.
    #[serde(default = "one_hour")]
    pub lease_seconds: u32,
    #[serde(default)]
    pub options: DhcpOptions,
}

fn one_hour() -> u32 {
    3600
}

impl SubnetConfig {
    /// A subnet of which only the network is written.
    pub fn of(network: Ipv4Net) -> Self {
        Self {
            network,
            mode: None,
            pools: Vec::new(),
            router: None,
            dns: Vec::new(),
            lease_seconds: one_hour(),
            options: DhcpOptions::default(),
        }
    }
}

/// Why the interfaces cannot be served together. `at`: which `[[dhcp]]`, from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct DhcpError {
    pub at: usize,
    pub error: SubnetError,
}

impl DhcpConfig {
    /// Its subnets, checked, with what they have from the interface.
    pub fn subnets(&self) -> Result<Vec<Subnet>, SubnetError> {
        let mut subnets = Subnet::all(&self.subnets)?;
        for (subnet, config) in subnets.iter_mut().zip(&self.subnets) {
            subnet.mode = config.mode.unwrap_or(self.mode);
            let mut options = super::options::encoded(&self.options);
            options.append(&mut subnet.options);
            subnet.options = options;
            subnet.trusts = self.trust_relay_information;
            if subnet.mode != Mode::Server && !subnet.pools.is_empty() {
                let what = "only a subnet in mode server gives addresses".to_owned();
                let at = self.subnets.iter().position(|c| c == config).unwrap_or_default();
                return Err(SubnetError::Field { at, field: "pools", what });
            }
        }
        Ok(subnets)
    }

    /// Something is answered on this interface.
    pub fn is_on(&self) -> bool {
        self.subnets.iter().any(|s| s.mode.unwrap_or(self.mode) != Mode::Off)
    }
}

/// Checks all interfaces: none twice, and no network behind two of them, whose lease tables do not know each other.
pub fn check(all: &[DhcpConfig]) -> Result<(), DhcpError> {
    let mut seen: Vec<(Ipv4Net, &str)> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let wrong = |error| DhcpError { at, error };
        if all.iter().take(at).any(|o| o.interface == one.interface) {
            return Err(wrong(SubnetError::Interface(one.interface.clone())));
        }
        for (index, subnet) in one.subnets().map_err(wrong)?.iter().enumerate() {
            let network = subnet.network;
            let overlap = |(o, _): &&(Ipv4Net, &str)| o.contains(&network) || network.contains(o);
            if let Some((other, _)) = seen.iter().find(overlap) {
                return Err(wrong(SubnetError::Overlap(index, network, *other)));
            }
        }
        seen.extend(one.subnets.iter().map(|s| (s.network.trunc(), one.interface.as_str())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        dhcp: Vec<DhcpConfig>,
    }

    fn read(text: &str) -> Vec<DhcpConfig> {
        toml::from_str::<File>(text).unwrap().dhcp
    }

    const TWO: &str = "[[dhcp]]\ninterface = \"a\"\nmode = \"proxy\"\n[dhcp.options]\nntp = [\"10.1.0.1\"]\nmtu = 1500\n\
        [[dhcp.subnets]]\nnetwork = \"10.1.0.0/24\"\n\
        [[dhcp.subnets]]\nnetwork = \"10.2.0.0/24\"\nmode = \"server\"\npools = [[\"10.2.0.10\", \"10.2.0.19\"], \
        [\"10.2.0.30\", \"10.2.0.34\"]]\n[dhcp.subnets.options]\nmtu = 9000\n\
        [[dhcp]]\ninterface = \"b\"\nmode = \"off\"\n[[dhcp.subnets]]\nnetwork = \"10.3.0.0/24\"\n";

    #[test]
    fn a_subnet_has_its_own_word_before_the_interfaces() {
        let all = read(TWO);
        check(&all).unwrap();
        let subnets = all[0].subnets().unwrap();
        assert_eq!((subnets[0].mode, subnets[1].mode), (Mode::Proxy, Mode::Server));
        assert_eq!(subnets[0].options[&26], 1500u16.to_be_bytes());
        assert_eq!(subnets[1].options[&26], 9000u16.to_be_bytes());
        assert_eq!(subnets[1].options[&42], [10, 1, 0, 1]);
        assert_eq!(subnets[1].pool_size(), 15);
        assert!(all[0].is_on() && !all[1].is_on());
    }

    #[test]
    fn what_cannot_go_together_is_refused() {
        for (from, to, expected) in [
            ("interface = \"b\"", "interface = \"a\"", "interface a is named twice"),
            ("10.3.0.0/24", "10.2.0.128/25", "10.2.0.128/25 overlaps 10.2.0.0/24"),
            ("mode = \"server\"\n", "", "dhcp.subnets[1].pools: only a subnet in mode server"),
            ("[\"10.2.0.30\"", "[\"10.2.0.19\"", "dhcp.subnets[1].pools: 10.2.0.19 is in two ranges"),
        ] {
            let error = check(&read(&TWO.replace(from, to))).unwrap_err().to_string();
            assert!(error.contains(expected), "{from} -> {to}: {error}");
        }
    }
}
