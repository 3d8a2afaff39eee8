//! What may be configured, and which subnet a request is about.

use super::{
    super::intake::tests::{message, read, relayed},
    *,
};

#[derive(serde::Deserialize)]
struct File {
    dhcp6: Vec<Dhcp6Config>,
}

pub fn config(text: &str) -> Result<Vec<Served>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    Served::all(&file.dhcp6).map_err(|e| e.to_string())
}

const GOOD: &str = "[[dhcp6]]\ninterface = \"br0\"\n[[dhcp6.subnets]]\nnetwork = \"fd88::/64\"\n\
    pool = [\"fd88::100\", \"fd88::1ff\"]\ndns = [\"fd88::1\"]\n[[dhcp6.subnets]]\nnetwork = \"fd99::/64\"\n";

#[test]
fn a_good_one_is_read() {
    let served = config(GOOD).unwrap().remove(0);
    assert!(served.advertise && served.sole_server && served.mode == Mode::Stateful);
    assert_eq!((served.subnets[0].pool_size(), served.subnets[1].pool_size()), (256, 0));
    assert_eq!(served.subnets[0].pool_nth(257), Some("fd88::101".parse().unwrap()));
    assert_eq!(served.subnets[0].lease, Duration::from_secs(3600));
    let stateless = "[[dhcp6]]\ninterface = \"br0\"\nmode = \"stateless\"\naddress = \"fd88::1\"\n";
    assert!(!config(stateless).unwrap()[0].advertise);
}

#[test]
fn each_mistake_is_named_with_its_place() {
    for (from, to, expected) in [
        ("\"fd88::/64\"", "\"fe80::/64\"", "dhcp6[0].subnets[0].network: fe80::/64 is link-local"),
        ("\"fd88::/64\"", "\"fd88::/8\"", "is not a network between /16 and /120"),
        ("\"fd99::/64\"", "\"fd88::/48\"", "dhcp6[0].subnets[1].network: fd88::/48 overlaps fd88::/64"),
        ("\"fd88::100\"", "\"fd88::\"", "dhcp6[0].subnets[0].pool: fd88:: is not a host address"),
        ("\"fd88::1ff\"", "\"fd88::ff\"", "is not a range of 1 to 65536 addresses"),
        ("\"fd88::1ff\"", "\"fd88::5:1\"", "is not a range of 1 to 65536 addresses"),
        ("[\"fd88::1\"]", "[\"fd88::1\", \"fd88::2\", \"fd88::3\", \"fd88::4\"]", "at most 3"),
        (
            "[[dhcp6.subnets]]\nnetwork = \"fd88",
            "lease_seconds = 5\n[[dhcp6.subnets]]\nnetwork = \"fd88",
            "unknown field",
        ),
        ("dns =", "lease_seconds = 5\ndns =", "dhcp6[0].subnets[0].lease_seconds: 60 to 604800"),
        ("interface = \"br0\"", "interface = \"br0\"\naddress = \"fe80::1\"", "dhcp6[0].address: fe80::1"),
        (
            "interface = \"br0\"",
            "interface = \"br0\"\nboot_parameters = [\"a\\nb\"]",
            "dhcp6[0].boot_parameters",
        ),
        ("interface = \"br0\"", "interface = \"br0\"\nmode = \"proxy\"", "unknown variant `proxy`"),
    ] {
        assert!(GOOD.contains(from));
        let error = config(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.contains(expected), "{to}: {error}");
    }
    assert!(
        config("[[dhcp6]]\ninterface = \"br0\"\n").unwrap_err().contains("dhcp6[0].subnets: there is none")
    );
    let lost = "[[dhcp6]]\ninterface = \"br0\"\nmode = \"stateless\"\n";
    assert!(config(lost).unwrap_err().contains("dhcp6[0].address: is needed"));
    let twice = format!("{GOOD}{GOOD}");
    assert!(config(&twice).unwrap_err().contains("dhcp6[1]: the interface br0 is served twice"));
}

#[test]
fn the_link_is_the_innermost_relays_that_knows_it() {
    let served = config(GOOD).unwrap().remove(0);
    let server = "fd88::1".parse().unwrap();
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let place =
        |packet: &[u8]| served.subnet_of(server, &read(packet).unwrap()).map(|s| s.network.to_string());
    let plain = message(11, &[]);
    assert_eq!(place(&plain).as_deref(), Some("fd88::/64"));
    let one = relayed(ip("fd99::1"), ip("fe80::9"), &[], &plain);
    assert_eq!(place(&one).as_deref(), Some("fd99::/64"));
    // RFC 6221: a relay that is a switch does not know the link; the next one does.
    let lightweight = relayed(ip("::"), ip("fe80::9"), &[], &plain);
    assert_eq!(place(&lightweight), None);
    assert_eq!(
        place(&relayed(ip("fd99::1"), ip("fe80::8"), &[], &lightweight)).as_deref(),
        Some("fd99::/64")
    );
    let outer = relayed(ip("fd88::5"), ip("fd99::1"), &[], &one);
    assert_eq!(place(&outer).as_deref(), Some("fd99::/64"));
    assert_eq!(place(&relayed(ip("fd77::1"), ip("fe80::9"), &[], &plain)), None);
}
