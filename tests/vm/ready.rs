//! A Ready machine belongs to its operating system, whatever its firmware tries first.

use super::house::{House, Ways, hash, machine, patience};
use provisioner_lab::{BootOrder, Vm};
use provisioner_wire::report::Firmware;

fn boots_its_disk_whatever_the_boot_order(firmware: Firmware) {
    let folder = tempfile::tempdir().unwrap();
    let spec = machine(folder.path(), firmware);
    assert_eq!(spec.boot, BootOrder::Network);
    let house = House::open(Some(&spec), Ways::default());
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    house.wait_phase("ready", patience(90));
    vm.wait_for("TINY-DONE", patience(30)).unwrap();
    let mut spec = vm.cut_power().unwrap();
    // The image's root is read-only after its first boot: from here on every byte must stay.
    let (installed, before) = (hash(&spec.disk), house.machine());
    assert_eq!(before["generation"], 1);
    for cycle in 1..=5 {
        let mut vm = Vm::start(spec).unwrap();
        vm.wait_for("TINY-DONE", patience(40)).unwrap();
        let said = vm.serial().unwrap();
        assert!(!said.contains("provisioner agent"), "cycle {cycle}: the agent was booted\n{said}");
        spec = vm.cut_power().unwrap();
        assert_eq!(hash(&spec.disk), installed, "cycle {cycle} has changed the disk");
    }
    let after = house.machine();
    for field in ["phase", "generation", "reason"] {
        assert_eq!(after[field], before[field], "{after:#}");
    }
    assert_eq!(after["phase"], "ready");
    assert_eq!(house.accepted("claimed").len(), 1, "the agent ran again");
    assert_eq!(house.rows("SELECT id FROM licences").len(), 1);
    // The network was asked each time, and its answer was the disk.
    let heard = house.accepted("heard");
    let own = heard.iter().filter(|event| event["what"] == "boots its disk").count();
    assert!(own >= 6, "the machine did not ask the network first: {own} answers, {heard:#?}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn ready_machine_boots_its_disk_whatever_the_boot_order_by_bios() {
    boots_its_disk_whatever_the_boot_order(Firmware::Bios);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn ready_machine_boots_its_disk_whatever_the_boot_order_by_uefi() {
    boots_its_disk_whatever_the_boot_order(Firmware::Uefi);
}
