//! What is configured of TFTP.

use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;

/// Section `[tftp]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TftpConfig {
    pub listen: SocketAddr,
    /// All transfers from the port of `listen`, for firewalls, address translation and containers. Otherwise each transfer
    /// has a fresh port, as RFC 1350 has it.
    #[serde(default)]
    pub single_port: bool,
    /// Networks whose clients are answered. None named: those of DHCP; and without DHCP, private addresses.
    #[serde(default)]
    pub serve_to: Vec<IpNet>,
    /// For networks that carry less than the server's own interface does: 512 to 65464.
    #[serde(default = "block_size_most")]
    pub block_size_max: u16,
    /// Transfers of one address at once; more than a machine needs, where many are behind one address.
    #[serde(default = "sixteen")]
    pub transfers_per_client: usize,
}

fn block_size_most() -> u16 {
    Settings::default().block_size_max
}

fn sixteen() -> usize {
    Settings::default().transfers_per_client
}

/// [`TftpConfig`] with the networks settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub single_port: bool,
    /// Others are not answered at all.
    pub serve_to: Vec<IpNet>,
    pub block_size_max: u16,
    pub transfers_per_client: usize,
}

impl Default for Settings {
    /// A port for each transfer, to private addresses.
    fn default() -> Self {
        Self { single_port: false, serve_to: private(), block_size_max: 65_464, transfers_per_client: 16 }
    }
}

impl TftpConfig {
    /// What is wrong with it, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.block_size_max < 512 || self.block_size_max > 65_464 {
            return Err(format!("tftp.block_size_max: {} is not between 512 and 65464", self.block_size_max));
        }
        if self.transfers_per_client == 0 {
            return Err("tftp.transfers_per_client: 0 serves nobody".to_owned());
        }
        Ok(())
    }

    /// `dhcp`: the networks that DHCP serves.
    pub fn settings(&self, dhcp: impl IntoIterator<Item = IpNet>) -> Settings {
        let mut serve_to = self.serve_to.clone();
        if serve_to.is_empty() {
            serve_to.extend(dhcp);
            let local = if serve_to.is_empty() { private() } else { on_this_link() };
            serve_to.extend(local);
        }
        Settings {
            single_port: self.single_port,
            serve_to,
            block_size_max: self.block_size_max,
            transfers_per_client: self.transfers_per_client,
        }
    }
}

/// Addresses that no router brings here: the server itself, and IPv6 neighbours (firmware asks from its link-local one).
fn on_this_link() -> Vec<IpNet> {
    nets(&["127.0.0.0/8", "::1/128", "fe80::/10"])
}

/// RFC 1918, 3927, 4193, 6598, and what is on this link.
fn private() -> Vec<IpNet> {
    let mut all = nets(&[
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
    ]);
    all.extend(on_this_link());
    all
}

/// All of `texts` are networks: a test counts them.
fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_the_networks_of_dhcp_are_served_and_without_those_private_ones() {
        let config: TftpConfig = toml::from_str("listen = \"0.0.0.0:69\"").unwrap();
        assert_eq!(config.settings([]), Settings::default());
        assert_eq!((private().len(), on_this_link().len()), (9, 3));
        let dhcp: IpNet = "203.0.113.0/24".parse().unwrap();
        let served = config.settings([dhcp]).serve_to;
        assert!(served.contains(&dhcp) && !served.contains(&"10.0.0.0/8".parse().unwrap()), "{served:?}");
        let named = "listen = \"0.0.0.0:69\"\nsingle_port = true\nserve_to = [\"198.51.100.0/24\"]";
        let config: TftpConfig = toml::from_str(named).unwrap();
        assert_eq!(config.settings([dhcp]).serve_to, nets(&["198.51.100.0/24"]));
        assert!(config.settings([dhcp]).single_port);
    }

    #[test]
    fn values_that_serve_nobody_are_refused() {
        for (line, expected) in [
            ("block_size_max = 511", "is not between 512 and 65464"),
            ("block_size_max = 65500", "is not between 512 and 65464"),
            ("transfers_per_client = 0", "serves nobody"),
        ] {
            let config: TftpConfig = toml::from_str(&format!("listen = \"0.0.0.0:69\"\n{line}")).unwrap();
            assert!(config.check().unwrap_err().contains(expected), "{line}");
        }
    }
}
