//! Machines whose firmware, iPXE and agent have no IPv4 at all.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::Vm;
use provisioner_wire::report::Firmware;

const STATEFUL: &str = "[[dhcp6.subnets]]\nnetwork = \"fd88::/64\"\npool = [\"fd88::100\", \"fd88::1ff\"]\n";
const NO_PXE4: (&str, &str) = ("opt/org.tianocore/IPv4PXESupport", "no");
const NO_PXE6: (&str, &str) = ("opt/org.tianocore/IPv6PXESupport", "no");

/// From power-on to Ready, with what the timeline must tell of it.
fn to_ready(firmware: Firmware, fw_cfg: &[(&'static str, &'static str)], told: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = machine(folder.path(), firmware);
    spec.fw_cfg = fw_cfg.to_vec();
    let house = House::open(Some(&spec), Ways { ipv6: Some(STATEFUL), ..Ways::default() });
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    house.wait_phase("ready", patience(150));
    vm.wait_for("taking fd88::", patience(1)).unwrap();
    let heard = house.accepted("heard");
    for wanted in told {
        let there = heard.iter().any(|event| event["what"].as_str().unwrap().contains(wanted));
        assert!(there, "{wanted:?} is not in {heard:#?}");
    }
    assert_eq!(house.rows("SELECT ip FROM leases").len(), 0);
    assert_eq!(house.rows("SELECT ip FROM leases6").len(), 1);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_pxe_over_ipv6_alone_to_ready() {
    to_ready(
        Firmware::Uefi,
        &[NO_PXE4],
        &[
            "x64 UEFI PXE; advertised fd88::1",
            "tftp://[fd88::1]/snponly.efi",
            "tftp snponly.efi",
            "iPXE; replied",
        ],
    );
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn uefi_http_boot_over_ipv6_alone_to_ready() {
    to_ready(
        Firmware::Uefi,
        &[NO_PXE4, NO_PXE6],
        &["x64 UEFI HTTP HTTP Boot; replied fd88::1", "http://[fd88::1]:8080/boot/files/snponly.efi"],
    );
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn ipxe_rom_over_ipv6_alone_to_ready() {
    to_ready(Firmware::Bios, &[], &["iPXE; replied fd88::1", "http://[fd88::1]:8080/boot/"]);
}
