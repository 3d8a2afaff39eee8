//! Machines whose firmware, iPXE and agent have no IPv4 at all.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{Vm, namespace::BRIDGE, process::Daemon};
use provisioner_wire::report::Firmware;
use std::{fs, process::Command};

const STATEFUL: &str = "[[dhcp6.subnets]]\nnetwork = \"fd88::/64\"\npool = [\"fd88::100\", \"fd88::1ff\"]\n";
const NO_PXE4: (&str, &str) = ("opt/org.tianocore/IPv4PXESupport", "no");
const NO_PXE6: (&str, &str) = ("opt/org.tianocore/IPv6PXESupport", "no");

/// From power-on to Ready, with what the timeline must tell of it.
fn to_ready(firmware: Firmware, fw_cfg: &[(&'static str, &'static str)], told: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = machine(folder.path(), firmware);
    spec.fw_cfg = fw_cfg.to_vec();
    let house = House::open(Some(&spec), Ways { ipv6: Some(STATEFUL), no_ipv4: true, ..Ways::default() });
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    house.wait_phase("ready", patience(150));
    vm.wait_for("TINY-PHONED", patience(1)).unwrap();
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
            "x64 UEFI PXE; advertised fd88::11, ",
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
        &["x64 UEFI HTTP HTTP Boot; replied fd88::11, ", "http://[fd88::1]:8080/boot/files/snponly.efi"],
    );
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn ipxe_rom_over_ipv6_alone_to_ready() {
    to_ready(Firmware::Bios, &[], &["iPXE; replied fd88::11, ", "http://[fd88::1]:8080/boot/"]);
}

/// A router that makes addresses and says that there is other information, and this server with boot options only. Its
/// configured addresses are IPv4: what is heard over IPv6 it listens to by itself.
#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn stateless_beside_a_router_to_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("radvd.conf");
    let router = format!(
        "interface {BRIDGE} {{ AdvSendAdvert on; AdvOtherConfigFlag on; AdvDefaultLifetime 0; \
         MinRtrAdvInterval 3; MaxRtrAdvInterval 4; prefix fd88::/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
    );
    fs::write(&file, router).unwrap();
    let mut command = Command::new("radvd");
    command.args(["--nodaemon", "--logmethod", "stderr", "--pidfile"]).arg(folder.path().join("pid"));
    command.arg("--config").arg(&file);
    let mut radvd = Daemon::start("radvd", &mut command, &folder.path().join("radvd.log")).unwrap();
    let spec = machine(folder.path(), Firmware::Bios);
    let stateless = "mode = \"stateless\"\naddress = \"fd88::1\"\n";
    let house = House::open(Some(&spec), Ways { ipv6: Some(stateless), ..Ways::default() });
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    // The address that iPXE made of the router's prefix and its MAC.
    vm.wait_for("taking fd88::5054:ff:fe88:1/64", patience(120)).unwrap();
    // Its node has no IPv4 lease to phone home with.
    vm.wait_for("TINY-UP", patience(90)).unwrap();
    let heard = house.accepted("heard");
    let asked =
        heard.iter().any(|e| e["what"].as_str().unwrap().contains("information-request from x86 BIOS iPXE"));
    assert!(asked, "{heard:#?}");
    assert_eq!(house.rows("SELECT ip FROM leases6").len(), 0);
    radvd.must_run().unwrap();
}
