//! A machine that nobody declared: nothing of ours is written to it, in no case.

use super::house::{House, Ways, hash, machine, patience};
use provisioner_lab::{BootOrder, Vm, VmSpec, process::until};
use provisioner_wire::report::Firmware;
use serde_json::Value;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// A disk that has something to lose.
fn with_data(folder: &Path) -> (VmSpec, String) {
    let spec = machine(folder, Firmware::Bios);
    assert_eq!(spec.boot, BootOrder::Network);
    std::fs::create_dir_all(&spec.folder).unwrap();
    let disk = File::create(&spec.disk).unwrap();
    disk.set_len(spec.disk_bytes).unwrap();
    for at in [4096, spec.disk_bytes / 2, spec.disk_bytes - 4096] {
        disk.write_all_at(b"somebody's data", at).unwrap();
    }
    let before = hash(&spec.disk);
    (spec, before)
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn unknown_machine_boots_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, before) = with_data(folder.path());
    let house = House::open(None, Ways::default());
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for("No bootable device", patience(40)).unwrap();
    let said = vm.serial().unwrap();
    for sign in ["/boot/", "provisioner", "Filename:", "Linux version"] {
        assert!(!said.contains(sign), "{sign}: something was booted\n{said}");
    }
    let spec = vm.cut_power().unwrap();
    assert_eq!(hash(&spec.disk), before, "the disk was touched");
    // It was heard: that nothing came is a decision, not a broken network.
    let mac = spec.mac.to_string();
    let log = String::from_utf8(house.server_log()).unwrap();
    assert!(log.lines().any(|line| line.contains(&mac)), "the server has not heard {mac}:\n{log}");
    assert_eq!(house.rows("SELECT name FROM machines"), [""; 0]);
    assert_eq!(house.rows("SELECT id FROM licences"), [""; 0]);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn unknown_machine_is_only_looked_at_where_discovery_is_on() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, before) = with_data(folder.path());
    let serial = spec.disk_serial.clone();
    let house = House::open(None, Ways { discovery: true, ..Ways::default() });
    let vm = Vm::start(spec).unwrap();
    let mut machine = Value::Null;
    let came = until(patience(60), || {
        if let Some(name) = house.rows("SELECT name FROM machines").first() {
            machine = house.get(&format!("/api/v1/machines/{name}"));
        }
        Ok(machine["report"].is_object().then_some(()))
    });
    assert!(came.unwrap().is_some(), "{machine:#}\n{}\n{}", house.log_tail(), vm.serial().unwrap());
    assert_eq!(machine["phase"], "discovered", "{machine:#}");
    assert_eq!(machine["report"]["disks"][0]["serial"], serial.as_str(), "{machine:#}");
    assert_eq!(machine["report"]["firmware"], "bios");
    // Whatever the agent does once it has reported has time to happen.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let spec = vm.cut_power().unwrap();
    assert_eq!(hash(&spec.disk), before, "the disk was touched");
    assert_eq!(house.rows("SELECT id FROM licences"), [""; 0]);
}
