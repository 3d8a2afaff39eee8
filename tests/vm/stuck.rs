//! Real firmware that is stuck, and what `explain` says of it.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{Assets, Vm, process::until};
use provisioner_wire::report::Firmware;
use serde_json::Value;
use std::{fs, path::Path};

/// Waits until `explain` names `rule` for the machine.
pub fn cause(house: &House, vm: &Vm, rule: &str) -> String {
    let mut last = Value::Null;
    let found = until(patience(120), || {
        last = house.get("/api/v1/explain/node");
        let findings = last["findings"].as_array().unwrap();
        Ok(findings.iter().find(|f| f["rule"] == rule).map(|f| f["cause"].as_str().unwrap().to_owned()))
    });
    found.unwrap().unwrap_or_else(|| panic!("no {rule}: {last:#}\n{}", vm.serial().unwrap()))
}

/// A house whose file for x64 UEFI is this one.
fn house_with(file: &Path, folder: &Path) -> (House, Vm) {
    let own = folder.join("ipxe");
    fs::create_dir_all(&own).unwrap();
    fs::copy(file, own.join("snponly.efi")).unwrap();
    let spec = machine(folder, Firmware::Uefi);
    let house = House::open(Some(&spec), Ways { ipxe: Some(own), ..Ways::default() });
    house.post("/api/v1/machines/node/provision");
    house.wait_phase("powering", patience(30));
    let vm = Vm::start(spec).unwrap();
    (house, vm)
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn ovmf_that_is_given_a_file_for_another_processor() {
    let folder = tempfile::tempdir().unwrap();
    let arm64 = Assets::from_environment().unwrap().ipxe().join("ipxe-arm64.efi");
    let (house, vm) = house_with(&arm64, folder.path());
    let cause = cause(&house, &vm, "wrong-architecture");
    assert!(cause.contains("node is x64 UEFI") && cause.contains("made for arm64 UEFI"), "{cause}");
}
