//! Addresses in all their spellings, held to the rules.

use super::*;

fn rules(allow: &[&str], deny: &[&str], private: bool) -> Rules {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Rules { allow: nets(allow), deny: nets(deny), private }
}

fn check(rules: &Rules, ip: &str) -> Option<Denied> {
    rules.check(ip.parse().unwrap(), |ip| ip == IpAddr::from([10, 88, 0, 1])).err()
}

#[test]
fn what_only_this_server_can_reach_is_denied_however_it_is_written() {
    let (private, public) = (Rules::with_private(), Rules::default());
    for (expected, written) in [
        (
            Denied::Loopback,
            "127.0.0.1 127.8.9.1 ::1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: \
             2001:0:7f00:1::1 2001:0:c633:6401:0:0:80ff:fffe",
        ),
        (
            Denied::LinkLocal,
            "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: ::169.254.169.254 fe80::1 febf::1 \
             2001:0:c633:6401:0:0:5601:5601",
        ),
        (
            Denied::Metadata,
            "fd00:ec2::254 fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192 64:ff9b::6464:64c8",
        ),
        (Denied::Nobody, "0.0.0.0 0.1.2.3 :: ::2 255.255.255.255 240.0.0.1 ::ffff:0.0.0.0 64:ff9b::"),
        (Denied::Group, "224.0.0.1 239.255.255.255 ff02::1 ::ffff:224.0.0.1"),
        (Denied::Own, "10.88.0.1 ::ffff:10.88.0.1 64:ff9b::a58:1"),
        (
            Denied::Translated,
            "64:ff9b:1::a00:1 64:ff9b:1::a9fe:a9fe 64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:ffff::1",
        ),
    ] {
        for ip in written.split_whitespace() {
            assert_eq!(check(&private, ip), Some(expected), "{ip}");
            assert_eq!(check(&public, ip), Some(expected), "{ip}");
        }
    }
}

#[test]
fn private_networks_are_where_it_is_said() {
    let (private, public) = (Rules::with_private(), Rules::default());
    for ip in "10.88.0.2 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 192.0.0.8 198.18.0.1 fd88::1 \
               fc00::1 fec0::1 ::ffff:10.0.0.9 64:ff9b::a00:9 2002:a00:9::1"
        .split_whitespace()
    {
        assert_eq!(check(&private, ip), None, "{ip}");
        assert_eq!(check(&public, ip), Some(Denied::Private), "{ip}");
    }
    for ip in "9.9.9.9 100.63.255.255 100.128.0.1 172.32.0.1 198.51.100.1 203.0.113.9 2a01:4f8::1 2001:db8::1 64:ff9b::909:909 \
               2002:909:909::1 64:ff9b:2::1"
        .split_whitespace()
    {
        assert_eq!(check(&public, ip), None, "{ip}");
    }
}

/// A site's networks hold for an address as it is written, and for what it carries.
#[test]
fn what_the_site_denies_is_found_outside_and_inside() {
    for (deny, ip) in [
        ("192.0.2.0/24", "192.0.2.7"),
        ("192.0.2.0/24", "::ffff:192.0.2.7"),
        ("192.0.2.0/24", "64:ff9b::c000:207"),
        ("192.0.2.0/24", "2002:c000:207::"),
        ("64:ff9b::/96", "64:ff9b::909:909"),
        ("2002::/16", "2002:909:909::1"),
        ("2001::/32", "2001:0:909:909::1"),
        ("::ffff:0:0/96", "::ffff:9.9.9.9"),
    ] {
        assert_eq!(check(&rules(&[], &[deny], true), ip), Some(Denied::BySite), "{deny} {ip}");
    }
    // Who allows what is inside has not allowed the way there.
    let site = rules(&["9.0.0.0/8"], &["64:ff9b::/96"], true);
    assert_eq!(check(&site, "64:ff9b::909:909"), Some(Denied::BySite));
    assert_eq!(check(&site, "9.9.9.9"), None);
}

#[test]
fn what_the_site_allows_goes_before_every_rule_for_that_address() {
    let site = rules(&["127.0.0.0/8"], &["127.0.0.2/32"], false);
    assert_eq!(check(&site, "127.0.0.1"), None);
    assert_eq!(check(&site, "127.0.0.2"), None);
    assert_eq!(check(&site, "::ffff:127.0.0.1"), None);
    assert_eq!(check(&site, "::1"), Some(Denied::Loopback));
    // A translator is not a way to everything that it can translate to.
    let site = rules(&["64:ff9b::/96"], &[], false);
    assert_eq!(check(&site, "64:ff9b::a9fe:a9fe"), Some(Denied::LinkLocal));
}

/// Each length of prefix that fits, RFC 6052 §2.4's way of writing.
#[test]
fn a_sites_own_translator_leads_to_no_forbidden_address() {
    let site = rules(&["64:ff9b:1::/48"], &["192.0.2.0/24"], false);
    for (ip, expected) in [
        ("64:ff9b:1:a9fe:a9:fe00::", Some(Denied::LinkLocal)),
        ("64:ff9b:1:a9:fe:a9fe::", Some(Denied::LinkLocal)),
        ("64:ff9b:1:0:a9:fea9:fe00::", Some(Denied::LinkLocal)),
        ("64:ff9b:1::a9fe:a9fe", Some(Denied::LinkLocal)),
        ("64:ff9b:1:fffe::a9fe:a9fe", Some(Denied::LinkLocal)),
        ("64:ff9b:1:c000:2:0700::", Some(Denied::BySite)),
        ("64:ff9b:1::192.0.2.7", Some(Denied::BySite)),
        ("64:ff9b:1::9.9.9.9", None),
        ("64:ff9b:1:fffe::9.9.9.9", None),
    ] {
        assert_eq!(check(&site, ip), expected, "{ip}");
    }
}
