//! PURE. Which addresses a URL may lead to that somebody declared (SSRF): it must not reach what only this server can reach
//! (its own listeners, a cloud's metadata service, whatever trusts its address).
//!
//! An IPv6 address that carries an IPv4 one is judged as both: as it stands, and as where it leads.

use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What the site says of it, and the declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Before all else, for the very address that it names: one that is carried inside needs its own entry.
    pub allow: Vec<IpNet>,
    /// Added to what is never connected to.
    pub deny: Vec<IpNet>,
    /// Private networks (RFC 1918, 6598, 4193) may be connected to: mirrors and clusters of data centres are there.
    pub private: bool,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Loopback,
    LinkLocal,
    Metadata,
    Group,
    Nobody,
    Translated,
    Private,
    Own,
    BySite,
}

/// Of clouds, outside the link-local ranges: AWS and Google over IPv6, Alibaba, Azure's wire server, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

impl Rules {
    /// Private networks, and nothing that a site says.
    pub fn with_private() -> Self {
        Self { private: true, ..Self::default() }
    }

    /// `own`: it is one of this server's.
    pub fn check(&self, ip: IpAddr, own: impl Fn(IpAddr) -> bool) -> Result<(), Denied> {
        std::iter::once(ip).chain(carried(ip)).try_for_each(|ip| self.check_one(ip, &own))
    }

    fn check_one(&self, ip: IpAddr, own: impl Fn(IpAddr) -> bool) -> Result<(), Denied> {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
        if within(&self.allow) {
            return Ok(());
        }
        if within(&self.deny) {
            return Err(Denied::BySite);
        }
        // On the wire that is IPv4: what it carries is looked for.
        let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let special = match ip {
            _ if METADATA.contains(&ip) => Some(Denied::Metadata),
            IpAddr::V4(v4) => special4(v4),
            IpAddr::V6(v6) => special6(v6),
        };
        match special {
            // An own address says more than that it is private.
            Some(Denied::Private) | None if !mapped && own(ip) => Err(Denied::Own),
            Some(Denied::Private) if self.private => Ok(()),
            Some(denied) => Err(denied),
            None => Ok(()),
        }
    }
}

/// By RFC 6890. Documentation's ranges (RFC 5737) are not among it: they lead nowhere, and a closed lab may use them.
fn special4(v4: Ipv4Addr) -> Option<Denied> {
    Some(match v4.octets() {
        _ if v4.is_loopback() => Denied::Loopback,
        _ if v4.is_link_local() => Denied::LinkLocal,
        _ if v4.is_multicast() => Denied::Group,
        [0 | 240..=255, ..] => Denied::Nobody,
        _ if v4.is_private() => Denied::Private,
        // Behind carriers (RFC 6598), of protocols (RFC 6890 §2.2.2), for measurements (RFC 2544).
        [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => Denied::Private,
        _ => return None,
    })
}

fn special6(v6: Ipv6Addr) -> Option<Denied> {
    Some(match v6.segments() {
        _ if v6.is_loopback() => Denied::Loopback,
        _ if v6.is_unspecified() => Denied::Nobody,
        _ if v6.is_multicast() => Denied::Group,
        _ if v6.is_unicast_link_local() => Denied::LinkLocal,
        // Where in it the IPv4 address stands, only the site knows (RFC 8215).
        [0x64, 0xff9b, 1, ..] => Denied::Translated,
        // Site-local addresses were what unique local ones are now (RFC 3879).
        [0xfec0..=0xfeff, ..] => Denied::Private,
        _ if v6.is_unique_local() => Denied::Private,
        _ => return None,
    })
}

/// The IPv4 addresses that an IPv6 one may lead to.
fn carried(ip: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = ip else { return Vec::new() };
    let bytes = v6.octets();
    let [.., a, b, c, d] = bytes;
    let last = Ipv4Addr::new(a, b, c, d);
    let found = match bytes {
        _ if v6.is_loopback() || v6.is_unspecified() => Vec::new(),
        // Compatible, mapped (RFC 4291 §2.5.5) and translated (RFC 2765 §2.1) addresses.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, ..] => vec![last],
        // NAT64 with the well-known prefix, which is a /96 always (RFC 6052 §2.1).
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, ..] => vec![last],
        [0, 0x64, 0xff, 0x9b, 0, 1, ..] => local_nat64(bytes),
        // 6to4 (RFC 3056).
        [0x20, 0x02, a, b, c, d, ..] => vec![Ipv4Addr::new(a, b, c, d)],
        // Teredo: its server, and the client's address with each bit turned (RFC 4380 §4).
        [0x20, 0x01, 0, 0, e, f, g, h, ..] => {
            vec![Ipv4Addr::new(e, f, g, h), Ipv4Addr::new(!a, !b, !c, !d)]
        }
        _ => Vec::new(),
    };
    found.into_iter().map(IpAddr::from).collect()
}

/// By each length of prefix that fits into 64:ff9b:1::/48 (RFC 6052 §2.2). All but /96 leave zeros behind the IPv4 address;
/// where there are none, it is a /96.
fn local_nat64(bytes: [u8; 16]) -> Vec<Ipv4Addr> {
    let [_, _, _, _, _, _, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15] = bytes;
    let mut found = Vec::new();
    if (b8, b13, b14, b15) == (0, 0, 0, 0) {
        if (b11, b12) == (0, 0) {
            found.push(Ipv4Addr::new(b6, b7, b9, b10));
        }
        if b12 == 0 {
            found.push(Ipv4Addr::new(b7, b9, b10, b11));
        }
        found.push(Ipv4Addr::new(b9, b10, b11, b12));
    }
    // What would be 0.0.0.0 as a /96 is the end of one of the shorter ones.
    if (b12, b13, b14, b15) != (0, 0, 0, 0) {
        found.push(Ipv4Addr::new(b12, b13, b14, b15));
    }
    // In a shorter prefix, zeros in front of a longer one's address.
    found.retain(|v4| v4.octets() != [0; 4]);
    found
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "is this host itself",
            Self::LinkLocal => "is link-local, where clouds keep their metadata",
            Self::Metadata => "is a cloud's metadata service",
            Self::Group => "is a group, not a host",
            Self::Nobody => "is no host's address",
            Self::Translated => "is translated by a rule of the site's own (RFC 8215)",
            Self::Private => "is private (a webhook's record can say `private: true`)",
            Self::Own => "is this server's own",
            Self::BySite => "is in fetch.deny",
        })
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
