//! An arm64 server: real firmware, real iPXE, and an answer that says what there is for it.

use super::house::{House, Ways, hash, machine, patience};
use provisioner_lab::{Board, Vm, VmSpec};
use provisioner_wire::report::Firmware;

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn arm64_firmware_boots_to_our_script_which_says_that_there_is_no_agent_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let spec = VmSpec { board: Board::Arm64, ..machine(folder.path(), Firmware::Uefi) };
    let house = House::open(Some(&spec), Ways::default());
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for("there is no agent for arm64 on this server: nothing to boot", patience(40)).unwrap();
    let heard = house.timeline();
    for line in [
        "dhcp discover from arm64 UEFI PXE; offered 10.88.0.11, boot file ipxe-arm64.efi",
        "boot file http://10.88.0.1:8080/boot/52-54-00-88-00-01.ipxe?arch=arm64",
        "asks for the agent, and there is none for arm64: nothing was booted",
    ] {
        assert!(heard.contains(line), "{line} is not in the timeline:\n{heard}");
    }
    assert!(house.accepted("script-served").is_empty(), "a boot id was minted for nobody");
    assert!(house.rows("SELECT id FROM licences").is_empty());
    let spec = vm.cut_power().unwrap();
    let (disk, empty) = (hash(&spec.disk), spec.folder.join("empty.raw"));
    std::fs::File::create(&empty).unwrap().set_len(spec.disk_bytes).unwrap();
    assert_eq!(disk, hash(&empty), "the disk was touched");
}
