//! Causes, each brought about by real programs and named by `explain`.

use super::{
    ARM64, MAC, SERVING, Site, X64, declared, program,
    site::{ROGUE, ROGUE_MAC, good, until},
};
use std::time::Duration;

fn site(files: &[(&str, Vec<u8>)]) -> Site {
    Site::new(files, SERVING, Some(&declared()))
}

#[test]
fn a_real_dnsmasq_is_a_rogue_and_holds_the_wipe() {
    // It asks every second; a machine with its own answer from us is not held by what it has not heard.
    let dhcp = format!("{SERVING}\n[dhcp.watch]\nprobe_seconds = 1");
    let site = Site::new(&[("snponly.efi", program(X64))], &dhcp, Some(&declared()));
    let seen = site.json("boot-plane");
    assert_eq!(seen["foreign"].as_array().unwrap().len(), 0, "{seen:#}");
    let rogue = site.rogue();
    let seen = until(Duration::from_secs(30), || {
        let seen = site.json("boot-plane");
        (!seen["foreign"].as_array().unwrap().is_empty()).then_some(seen)
    });
    let seen = seen.unwrap_or_else(|| panic!("no other server was heard:\n{}", site.log()));
    let server = &seen["foreign"][0];
    assert_eq!((server["ip"].as_str(), server["mac"].as_str()), (Some(ROGUE), Some(ROGUE_MAC)), "{seen:#}");
    assert_eq!(
        (server["boot_file"].as_str(), &server["blocks"]),
        (Some("evil.efi"), &true.into()),
        "{seen:#}"
    );
    assert_eq!(server["heard_by"], "probe");
    // Our own question is no machine's.
    assert_eq!(site.json("boot-plane")["counts"]["packets"], serde_json::json!({}));

    // A machine that takes what the other one offers.
    good(site.machine(
        "busybox udhcpc -f -q -n -t 5 -T 2 -i eth0 -s /bin/true -V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -r 10.88.0.33",
    ));
    // Whichever came first was taken; ask until it was the other one's.
    let chosen = until(Duration::from_secs(60), || {
        let explained = site.json("explain node-1");
        let found = explained["findings"].as_array().unwrap().iter().any(|f| f["rule"] == "rogue-dhcp");
        if found {
            return Some(explained);
        }
        let _ = site.rom(7, "");
        None
    });
    let explained = chosen.unwrap_or_else(|| panic!("{}", site.log()));
    let text = explained["findings"][0]["cause"].as_str().unwrap();
    assert!(text.contains(ROGUE), "{explained:#}");

    // Switched off, it blocks for its time; the command line shows it.
    drop(rogue);
    let shown = site.said("boot-plane");
    assert!(shown.contains(ROGUE) && shown.contains("evil.efi"), "{shown}");
}

#[test]
fn blocks_that_do_not_pass_are_the_mtu() {
    let site = site(&[("snponly.efi", program(X64))]);
    good(site.rom(7, ""));
    good(
        site.machine("curl -sf -o /dev/null --max-time 20 tftp://10.88.0.1/snponly.efi --tftp-blksize 1400"),
    );
    // A tunnel on the way: frames of more than 700 bytes are lost without a word.
    good(site.machine("ip link set eth0 mtu 700"));
    let ran =
        site.machine("curl -sf -o /dev/null --max-time 8 tftp://10.88.0.1/snponly.efi --tftp-blksize 1400");
    assert!(!ran.status.success());
    let cause = site.cause("node-1", "tftp-mtu");
    assert!(cause.contains("blocks of 1400 bytes") && cause.contains("snponly.efi"), "{cause}");
    // By the MAC it is the same machine.
    assert_eq!(site.json(&format!("explain {MAC}"))["machine"], "node-1");
}

#[test]
fn a_file_for_another_processor() {
    let site = site(&[("snponly.efi", program(ARM64))]);
    good(site.rom(7, ""));
    good(
        site.machine("curl -sf -o /dev/null --max-time 20 tftp://10.88.0.1/snponly.efi --tftp-blksize 1400"),
    );
    let cause = site.cause("node-1", "wrong-architecture");
    assert!(cause.contains("x64 UEFI") && cause.contains("arm64 UEFI"), "{cause}");
    let shown = site.said("explain node-1");
    assert!(shown.contains("CAUSE (wrong-architecture)") && shown.contains("DO: "), "{shown}");
}

#[test]
fn a_file_that_http_does_not_have() {
    let site = site(&[("snponly.efi", program(X64))]);
    good(site.rom(7, ""));
    let get =
        |url: &str| site.machine(&format!("curl -s -o /dev/null -A UefiHttpBoot/1.0 --max-time 10 {url}"));
    good(get("http://10.88.0.1:8080/boot/files/nothing.efi"));
    let cause = site.cause("node-1", "http-refused");
    assert!(
        cause.contains("nothing.efi") && cause.contains("404") && cause.contains("UefiHttpBoot"),
        "{cause}"
    );
    // The right one, whole: the refusal is over.
    good(get("http://10.88.0.1:8080/boot/files/snponly.efi"));
    let well = until(Duration::from_secs(20), || {
        let explained = site.json("explain node-1");
        let text = explained.to_string();
        (text.contains("60000 bytes") && !text.contains("http-refused")).then_some(())
    });
    assert!(well.is_some(), "{:#}", site.json("explain node-1"));
}

#[test]
fn no_address_no_file_and_nobody() {
    let none = "[[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"";
    let site = Site::new(&[("snponly.efi", program(X64))], none, None);
    assert!(site.cause("52:54:00:99:99:99", "nothing-heard").contains("no DHCP packet"));
    assert!(!site.rom(7, "").status.success());
    assert!(site.cause(MAC, "pool-exhausted").contains("the subnet has no pool"));
    let refused = site.cli("explain nobody");
    assert_eq!(refused.status.code(), Some(4));

    let site = self::site(&[("snponly.efi", program(X64))]);
    good(site.rom(11, ""));
    let cause = site.cause("node-1", "no-boot-file");
    assert!(cause.contains("arm64"), "{cause}");
}

#[test]
fn offers_that_nobody_takes() {
    let site = site(&[("snponly.efi", program(X64))]);
    // The switch passes what the machine says, and no answer to it.
    good(site.here("tc qdisc add dev machine root pfifo limit 0"));
    assert!(!site.rom(7, "").status.success());
    let cause = site.cause("node-1", "no-request");
    assert!(cause.contains("10.88.0.11"), "{cause}");
}

#[test]
fn a_storm_of_one_machine_is_not_a_storm_of_writes() {
    let site = site(&[("snponly.efi", program(X64))]);
    good(site.rom(7, ""));
    // Packets that are no DHCP are counted, and stand in no timeline.
    for _ in 0..5 {
        good(site.machine("ip addr replace 10.88.0.11/24 dev eth0"));
        let _ = site.machine("curl -s --max-time 1 tftp://10.88.0.1:67/x");
    }
    let malformed = site.json("boot-plane")["counts"]["malformed"].clone();
    assert!(malformed.as_object().unwrap().values().any(|n| n.as_u64() > Some(0)), "{malformed}");
    for _ in 0..3 {
        let _ = site.other("timeout 30 busybox udhcpc -f -q -n -t 1 -T 1 -i eth0 -s /bin/true");
    }
    for _ in 0..150 {
        let _ =
            site.machine("curl -s -o /dev/null --max-time 2 http://10.88.0.1:8080/boot/files/snponly.efi");
    }
    let unkept = until(Duration::from_secs(20), || {
        let seen = site.json("boot-plane");
        let unkept = seen["counts"]["unkept"]["too fast"].as_u64().unwrap_or_default();
        (unkept > 20).then_some(unkept)
    });
    assert!(unkept.is_some(), "{:#}", site.json("boot-plane"));
    assert!(site.json("explain node-1")["timeline"].as_array().unwrap().len() < 120);
}

#[test]
fn firmware_that_nobody_gives_an_ipv6_address() {
    let payload = "tests/fixtures/firmware-captures/payloads/ovmf-x64.dhcpv6-pxe.type1.bin";
    let solicit = std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(payload)).unwrap();
    let dhcp = format!(
        "{SERVING}\n[[dhcp6]]\ninterface = \"br0\"\nmode = \"stateless\"\n\
         [[dhcp6.subnets]]\nnetwork = \"fd88::/64\""
    );
    let site = Site::new(&[("snponly.efi", program(X64))], &dhcp, Some(&declared()));
    // As EDK2 does, with its pauses: the last one more than ten seconds after the first.
    for pause in [0, 4, 8] {
        std::thread::sleep(Duration::from_secs(pause));
        site.solicit(&solicit);
    }
    let cause = site.cause("node-1", "no-address-given");
    assert!(cause.contains("solicits an IPv6 address"), "{cause}");
    let told = site.said("explain node-1");
    assert!(told.contains("solicit from x64 UEFI PXE; not answered: others give addresses"), "{told}");
}
