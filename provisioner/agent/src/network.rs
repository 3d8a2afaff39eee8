//! Brings the network up with busybox: every NIC, for the report shows their links, and an address on the one that booted:
//! a lease by DHCPv4, or over IPv6 the address that the boot script names.

use crate::cmdline::OverIpv6;
use provisioner_wire::Mac;
use std::{
    net::Ipv6Addr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const BUSYBOX: &str = "/bin/busybox";
/// Sets address, route and name servers; part of the boot environment.
const SCRIPT: &str = "/etc/udhcpc.script";
/// How long the NIC that booted may take to appear before any other with a link will do.
const WAIT_FOR_BOOT_NIC: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// How long an address of the router's prefix may take: solicitations go out every 4 s (RFC 4861 §10).
const WAIT_FOR_PREFIX: Duration = Duration::from_secs(15);

/// Returns when an interface has an address; tries for ever, for without a network there is nothing else to do.
pub fn bring_up(boot_mac: Option<Mac>, ipv6: Option<&OverIpv6>, say: &dyn Fn(&str)) {
    busybox(&["ip", "link", "set", "lo", "up"]);
    let began = Instant::now();
    let mut told = false;
    loop {
        let found = interfaces(Path::new("/sys/class/net"));
        for interface in found.iter().filter(|i| !i.up) {
            busybox(&["ip", "link", "set", &interface.name, "up"]);
        }
        let patient = boot_mac.is_some() && began.elapsed() < WAIT_FOR_BOOT_NIC;
        if let Some(name) = choose(&found, boot_mac, patient) {
            let done = match ipv6 {
                Some(way) => take_address(name, way, say),
                None => {
                    say(&format!("asking for a lease on {name}"));
                    busybox(&lease(name))
                }
            };
            if done {
                say(&format!("{name} has an address after {} ms", began.elapsed().as_millis()));
                return;
            }
            say(&format!("no address on {name}; trying again"));
        } else if !told && began.elapsed() > Duration::from_secs(5) {
            say(&format!("waiting for a network interface with a link; seen: {found:?}"));
            told = true;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Asks for a lease and then stays in the background to renew it (RFC 2131 §4.4.5): writing an image may take longer than
/// a lease lasts. `-n`: gives up when nobody answers, so that another interface can be tried.
fn lease(interface: &str) -> [&str; 8] {
    ["udhcpc", "-i", interface, "-s", SCRIPT, "-n", "-t", "10"]
}

/// Sets the address that the boot script names, or waits for one of the router's prefix.
fn take_address(name: &str, way: &OverIpv6, say: &dyn Fn(&str)) -> bool {
    if let Some((address, length)) = way.address {
        say(&format!("taking {address}/{length} on {name}, as the boot script says"));
        busybox(&["ip", "-6", "addr", "replace", &format!("{address}/{length}"), "dev", name]);
    } else {
        say(&format!("waiting for an IPv6 address on {name}"));
    }
    let began = Instant::now();
    while began.elapsed() < WAIT_FOR_PREFIX {
        if has_global(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default(), name) {
            return true;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    false
}

/// An address that reaches beyond the link, and that is no longer tentative (RFC 4862 §5.4): address, index, prefix
/// length, scope, flags and interface on each line.
fn has_global(table: &str, name: &str) -> bool {
    const TENTATIVE_OR_FAILED: u8 = 0x40 | 0x08;
    table.lines().any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [address, _, _, _, flags, interface] = words[..] else { return false };
        let address = u128::from_str_radix(address, 16).map(Ipv6Addr::from);
        let flags = u8::from_str_radix(flags, 16).unwrap_or(TENTATIVE_OR_FAILED);
        interface == name
            && flags & TENTATIVE_OR_FAILED == 0
            && address.is_ok_and(|ip| !ip.is_unicast_link_local() && !ip.is_loopback())
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    mac: Option<Mac>,
    up: bool,
    carrier: bool,
}

/// Interfaces with hardware behind them.
fn interfaces(class: &Path) -> Vec<Interface> {
    let Ok(entries) = std::fs::read_dir(class) else { return Vec::new() };
    let mut found: Vec<Interface> = entries
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
            folder.join("device").exists().then(|| Interface {
                name: folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
                mac: text("address").trim().parse().ok(),
                // IFF_UP
                up: i64::from_str_radix(text("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0) & 1
                    == 1,
                carrier: text("carrier").trim() == "1",
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The NIC that booted; while `patient` no other, afterwards the first with a link.
fn choose(found: &[Interface], boot_mac: Option<Mac>, patient: bool) -> Option<&str> {
    let booted = boot_mac.and_then(|mac| found.iter().find(|i| i.mac == Some(mac)));
    let any = || found.iter().find(|i| i.carrier).filter(|_| !patient);
    booted.or_else(any).map(|i| i.name.as_str())
}

/// True where it ended well.
fn busybox(arguments: &[&str]) -> bool {
    let mut command = Command::new(BUSYBOX);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin");
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_when_it_is_global_and_settled() {
        let table = "fe800000000000005054000000000042 02 40 20 80     eth0\n\
                     fd880000000000000000000000000064 02 40 00 40     eth0\n\
                     fd880000000000000000000000000065 03 40 00 80     eth1\n";
        assert!(!has_global(table, "eth0"), "tentative");
        assert!(has_global(table, "eth1"));
        assert!(has_global(&table.replace("00 40 ", "00 80 "), "eth0"));
        assert!(!has_global("nonsense\n", "eth0"));
    }

    #[test]
    fn the_lease_is_renewed_by_a_client_that_stays() {
        let words = lease("eth0");
        assert!(!words.contains(&"-q") && !words.contains(&"-f"), "it would end with its first lease");
        assert!(words.contains(&"-n"));
    }

    #[test]
    fn the_nic_that_booted_is_taken_before_any_other() {
        let mac = |n| Mac([2, 0, 0, 0, 0, n]);
        let nic =
            |name: &str, n, carrier| Interface { name: name.into(), mac: Some(mac(n)), up: true, carrier };
        let found = [nic("eth0", 0, false), nic("eth1", 1, true), nic("eth2", 2, true)];
        assert_eq!(choose(&found, Some(mac(2)), true), Some("eth2"));
        assert_eq!(choose(&found, Some(mac(0)), true), Some("eth0"), "its link may come late");
        assert_eq!(choose(&found, Some(mac(9)), true), None);
        assert_eq!(choose(&found, Some(mac(9)), false), Some("eth1"));
        assert_eq!(choose(&found, None, false), Some("eth1"));
        assert_eq!(choose(&found[..1], None, false), None);
    }
}
