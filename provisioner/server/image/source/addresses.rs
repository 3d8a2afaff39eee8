//! PURE. Which addresses images may be fetched from: a URL comes from an operator, and must not reach what only this
//! server can reach (its own listeners, a cloud's metadata service, whatever trusts its address).

use ipnet::IpNet;
use std::{fmt, net::IpAddr};

/// What the site says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Before all else: what may be fetched from although a rule is against it.
    pub allow: Vec<IpNet>,
    /// Added to what is never fetched from. Private networks are not among that: mirrors of data centres have such
    /// addresses.
    pub deny: Vec<IpNet>,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Loopback,
    LinkLocal,
    Metadata,
    Group,
    Nobody,
    Own,
    BySite,
}

/// Of clouds, outside the link-local range: AWS over IPv6 (fd00:ec2::254), Alibaba, Azure's wire server.
const METADATA: [&str; 3] = ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"];

impl Addresses {
    /// `own`: it is one of this server's.
    pub fn check(&self, ip: IpAddr, own: impl Fn(IpAddr) -> bool) -> Result<(), Denied> {
        // ::ffff:127.0.0.1 is 127.0.0.1, and NAT64 and 6to4 carry IPv4 addresses, too.
        let ip = inner(ip);
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
        if within(&self.allow) {
            return Ok(());
        }
        let denied = match ip {
            _ if within(&self.deny) => Denied::BySite,
            _ if METADATA.iter().any(|known| known.parse() == Ok(ip)) => Denied::Metadata,
            _ if ip.is_loopback() => Denied::Loopback,
            _ if ip.is_unspecified() => Denied::Nobody,
            _ if ip.is_multicast() => Denied::Group,
            IpAddr::V4(v4) if v4.is_link_local() => Denied::LinkLocal,
            // 0.0.0.0/8 is "this host" and 240.0.0.0/4 is nobody's (RFC 6890).
            IpAddr::V4(v4) if v4.is_broadcast() || matches!(v4.octets(), [0, ..] | [240..=255, ..]) => {
                Denied::Nobody
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Denied::LinkLocal,
            _ if own(ip) => Denied::Own,
            _ => return Ok(()),
        };
        Err(denied)
    }
}

/// The IPv4 address that an IPv6 one leads to.
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.octets() {
        // NAT64 (RFC 6052), and IPv4-compatible addresses (RFC 4291 §2.5.5.1), where they are not :: and ::1.
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => [a, b, c, d].into(),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => [a, b, c, d].into(),
        // 6to4 (RFC 3056).
        [0x20, 0x02, a, b, c, d, ..] => [a, b, c, d].into(),
        _ => ip,
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "is this host itself",
            Self::LinkLocal => "is link-local, where clouds keep their metadata",
            Self::Metadata => "is a cloud's metadata service",
            Self::Group => "is a group, not a host",
            Self::Nobody => "is no host's address",
            Self::Own => "is this server's own",
            Self::BySite => "is in fetch.deny",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &Addresses, ip: &str) -> Result<(), Denied> {
        addresses.check(ip.parse().unwrap(), |ip| ip == IpAddr::from([10, 88, 0, 1]))
    }

    #[test]
    fn what_only_this_server_can_reach_is_denied_however_it_is_written() {
        let site = Addresses { deny: vec!["192.0.2.0/24".parse().unwrap()], allow: vec![] };
        for (ip, expected) in [
            ("127.0.0.1", Some(Denied::Loopback)),
            ("127.8.9.1", Some(Denied::Loopback)),
            ("::1", Some(Denied::Loopback)),
            ("::ffff:127.0.0.1", Some(Denied::Loopback)),
            ("64:ff9b::7f00:1", Some(Denied::Loopback)),
            ("2002:7f00:1::", Some(Denied::Loopback)),
            ("::127.0.0.1", Some(Denied::Loopback)),
            ("169.254.169.254", Some(Denied::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Denied::LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Some(Denied::LinkLocal)),
            ("fe80::1", Some(Denied::LinkLocal)),
            ("fd00:ec2::254", Some(Denied::Metadata)),
            ("100.100.100.200", Some(Denied::Metadata)),
            ("168.63.129.16", Some(Denied::Metadata)),
            ("0.0.0.0", Some(Denied::Nobody)),
            ("0.1.2.3", Some(Denied::Nobody)),
            ("::", Some(Denied::Nobody)),
            ("255.255.255.255", Some(Denied::Nobody)),
            ("240.0.0.1", Some(Denied::Nobody)),
            ("224.0.0.1", Some(Denied::Group)),
            ("ff02::1", Some(Denied::Group)),
            ("10.88.0.1", Some(Denied::Own)),
            ("::ffff:10.88.0.1", Some(Denied::Own)),
            ("192.0.2.7", Some(Denied::BySite)),
            // Mirrors of data centres.
            ("10.88.0.2", None),
            ("192.168.1.1", None),
            ("fd88::1", None),
            ("198.51.100.1", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(check(&site, ip).err(), expected, "{ip}");
        }
    }

    #[test]
    fn what_the_site_allows_goes_before_every_rule() {
        let site = Addresses {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            deny: vec!["127.0.0.2/32".parse().unwrap()],
        };
        assert_eq!(check(&site, "127.0.0.1"), Ok(()));
        assert_eq!(check(&site, "127.0.0.2"), Ok(()));
        assert_eq!(check(&site, "::1"), Err(Denied::Loopback));
    }
}
