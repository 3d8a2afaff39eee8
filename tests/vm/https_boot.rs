//! UEFI HTTPS Boot: firmware in which the site's authority is enrolled takes iPXE, and iPXE its script, by HTTPS only.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{Netboot, Vm, VmSpec, process};
use provisioner_wire::report::Firmware;
use std::path::{Path, PathBuf};

/// The server's authority as firmware takes it.
fn signature_list(house: &House, folder: &Path) -> PathBuf {
    let (authority, list) = (house.data().join("firmware-ca.pem"), folder.join("authorities.esl"));
    let owner = uuid::Uuid::from_u128(1).to_string();
    process::run(
        "cert-to-efi-sig-list",
        ["-g".as_ref(), owner.as_ref(), authority.as_os_str(), list.as_os_str()],
    )
    .unwrap();
    list
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn https_boot_with_the_sites_authority_goes_to_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = machine(folder.path(), Firmware::Uefi);
    let ways = Ways { declared: "boot: https\n", firmware_tls: true, ..Ways::default() };
    let house = House::open(Some(&spec), ways);
    spec =
        VmSpec { netboot: Netboot::Http, authorities: Some(signature_list(&house, folder.path())), ..spec };
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for("provisioner agent", patience(40)).unwrap();
    let heard = house.timeline();
    for line in [
        "boot file https://10.88.0.1:8443/boot/files/snponly.efi",
        "boot file https://10.88.0.1:8443/boot/52-54-00-88-00-01.ipxe",
    ] {
        assert!(heard.contains(line), "{line} is not in the timeline:\n{heard}");
    }
    assert!(!heard.contains("tftp "), "{heard}");
}
