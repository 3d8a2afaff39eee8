//! PURE. Which addresses a URL that somebody declared may lead to (SSRF): decided on what was resolved, and then
//! connected to exactly that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is let through beside public addresses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Private ranges (RFC 1918, RFC 6598, RFC 4193).
    pub private: bool,
    /// This host itself: for tests.
    pub loopback: bool,
}

/// Why a connection to `address` is not made, if so.
pub fn refused(address: IpAddr, rules: Rules) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => refused4(v4, rules),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => refused4(v4, rules),
            None => refused6(v6, rules),
        },
    }
}

fn refused4(v4: Ipv4Addr, rules: Rules) -> Option<&'static str> {
    let [a, b, ..] = v4.octets();
    if v4.is_loopback() {
        return (!rules.loopback).then_some("is this host itself");
    }
    if v4.is_link_local() {
        return Some("is link-local, where clouds keep their metadata");
    }
    if a == 0 || a >= 224 || v4.is_broadcast() {
        return Some("is no host's address");
    }
    let private = v4.is_private() || (a == 100 && (64..128).contains(&b));
    (private && !rules.private).then_some("is private; set private: true where that is meant")
}

fn refused6(v6: Ipv6Addr, rules: Rules) -> Option<&'static str> {
    let [first, second, ..] = v6.segments();
    if v6.is_loopback() {
        return (!rules.loopback).then_some("is this host itself");
    }
    if v6.is_unicast_link_local() || (first == 0xfd00 && second == 0x0ec2) {
        return Some("is link-local or a cloud's metadata");
    }
    // IPv4 in other clothes: compatible, NAT64, 6to4, Teredo.
    if v6.is_unspecified() || v6.is_multicast() || first == 0 || first == 0x64 || first == 0x2002 {
        return Some("is no host's own address");
    }
    if first == 0x2001 && second == 0 {
        return Some("is no host's own address");
    }
    (v6.is_unique_local() && !rules.private).then_some("is private; set private: true where that is meant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_is_reached() {
        let usual = Rules::default();
        let private = Rules { private: true, ..usual };
        for (address, by_default, where_private) in [
            ("203.0.113.9", true, true),
            ("10.0.0.9", false, true),
            ("100.64.0.1", false, true),
            ("127.0.0.1", false, false),
            ("169.254.169.254", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("2a01:4f8::1", true, true),
            ("fd12::1", false, true),
            ("fd00:ec2::254", false, false),
            ("fe80::1", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("2002:7f00:1::", false, false),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(refused(ip, usual).is_none(), by_default, "{address}");
            assert_eq!(refused(ip, private).is_none(), where_private, "{address}");
        }
    }
}
