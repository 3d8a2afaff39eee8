//! Secure Boot enforced, from power-on to Ready and to the next boot of the disk, on both roads; and what it refuses.

use super::{
    house::{House, Ways, machine, patience},
    stuck::cause,
};
use provisioner_lab::{
    Assets, Board, Netboot, Vm, VmSpec, assets::stock_key_variables, process, process::until,
};
use provisioner_wire::report::Firmware;
use std::{fs, path::Path};

fn stock_keys(folder: &Path) -> VmSpec {
    let board = Board::SecureBoot { variables: stock_key_variables() };
    VmSpec { board, ..machine(folder, Firmware::Uefi) }
}

fn own_keys(folder: &Path, assets: &Assets) -> VmSpec {
    let board = Board::SecureBoot { variables: assets.own_key_variables() };
    VmSpec { board, netboot: Netboot::Http, ..machine(folder, Firmware::Uefi) }
}

fn by_shim(assets: &Assets) -> Ways {
    Ways {
        image: Some("tiny-shim"),
        declared: "boot: shim\n",
        boot: format!("shim_dir = {:?}\n", assets.shim()),
        ..Ways::default()
    }
}

fn by_own_keys(assets: &Assets) -> Ways {
    Ways {
        image: Some("tiny-signed"),
        ipxe: Some(assets.signed_ipxe()),
        boot: format!("signed_agent = {:?}\n", assets.signed_agent()),
        ..Ways::default()
    }
}

/// Power-on, agent, image, reboot, the disk's own boot; then the same machine once more, to its disk.
fn from_power_on_to_ready(spec: VmSpec, ways: Ways) -> House {
    let house = House::open(Some(&spec), ways);
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    house.wait_phase("ready", patience(90));
    vm.wait_for("TINY-DONE", patience(30)).unwrap();
    let said = vm.serial().unwrap();
    // The agent's kernel and the disk's.
    let locked = said.matches("Kernel is locked down from EFI Secure Boot").count();
    assert!(locked >= 1, "Secure Boot was not on\n{said}");
    let node = house.machine();
    assert_eq!(node["secure_boot"], true, "{node:#}");
    assert_eq!(node["report"]["secure_boot"], true);
    let claims = house.accepted("claimed").len();
    let mut vm = Vm::start(vm.cut_power().unwrap()).unwrap();
    vm.wait_for("TINY-DONE", patience(60)).unwrap();
    assert_eq!(house.accepted("claimed").len(), claims, "a Ready machine boots its disk");
    house
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn secure_boot_with_stock_keys_goes_from_power_on_to_ready_by_shim() {
    let (folder, assets) = (tempfile::tempdir().unwrap(), Assets::from_environment().unwrap());
    let house = from_power_on_to_ready(stock_keys(folder.path()), by_shim(&assets));
    let heard = house.timeline();
    for line in ["tftp shimx64.efi: ", "tftp grubx64.efi: ", "tftp /grub/grub.cfg: ", "tftp /vmlinuz: "] {
        assert!(heard.contains(line), "{line} is not in the timeline:\n{heard}");
    }
    assert!(!heard.contains("ipxe"), "{heard}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn secure_boot_with_own_keys_goes_from_power_on_to_ready_by_http() {
    let (folder, assets) = (tempfile::tempdir().unwrap(), Assets::from_environment().unwrap());
    let house = from_power_on_to_ready(own_keys(folder.path(), &assets), by_own_keys(&assets));
    let heard = house.timeline();
    assert!(heard.contains("http GET /boot/files/agent.efi: 200, "), "{heard}");
    assert!(!heard.contains("/boot/files/vmlinuz"), "the unsigned pair was fetched\n{heard}");
    assert!(!heard.contains("tftp "), "{heard}");
}

/// Waits for `line` in the timeline, then watches that nothing comes of it.
fn fetched_and_not_started(house: &House, vm: &mut Vm, line: &str, never: &str) {
    let came = until(patience(40), || Ok(house.timeline().contains(line).then_some(()))).unwrap();
    assert!(came.is_some(), "no {line:?}:\n{}", house.timeline());
    // The firmware goes on with what it has left once it has refused: here, with the same again or its shell.
    let ran = until(patience(4), || Ok(vm.serial()?.contains(never).then_some(()))).unwrap();
    assert!(ran.is_none(), "{}", vm.serial().unwrap());
    assert!(house.accepted("claimed").is_empty());
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn secure_boot_refuses_an_unsigned_ipxe_and_explain_names_it() {
    let (folder, assets) = (tempfile::tempdir().unwrap(), Assets::from_environment().unwrap());
    let spec = own_keys(folder.path(), &assets);
    let house = House::open(Some(&spec), Ways::default());
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    let size = fs::metadata(assets.ipxe().join("snponly.efi")).unwrap().len();
    fetched_and_not_started(
        &house,
        &mut vm,
        &format!("http GET /boot/files/snponly.efi: 200, {size} bytes"),
        "iPXE 1",
    );
    assert!(house.accepted("script-served").is_empty(), "what was refused has asked for its script");
    let cause = cause(&house, &vm, "secure-boot");
    assert!(cause.contains("snponly.efi") && cause.contains("Secure Boot refuses an unsigned"), "{cause}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn secure_boot_refuses_an_agent_whose_initramfs_was_changed() {
    let (folder, assets) = (tempfile::tempdir().unwrap(), Assets::from_environment().unwrap());
    // One bit, in the initramfs: the last section before the signature.
    let mut bytes = fs::read(assets.signed_agent()).unwrap();
    let place = bytes.len() - 100_000;
    bytes[place] ^= 1;
    let changed = folder.path().join("agent.efi");
    fs::write(&changed, bytes).unwrap();
    let spec = own_keys(folder.path(), &assets);
    let ways = Ways { boot: format!("signed_agent = {changed:?}\n"), ..by_own_keys(&assets) };
    let house = House::open(Some(&spec), ways);
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    fetched_and_not_started(&house, &mut vm, "http GET /boot/files/agent.efi: 200, ", "provisioner agent");
    assert_eq!(house.machine()["phase"], "booting");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn an_agent_that_was_signed_for_another_server_sends_nothing() {
    let (folder, assets) = (tempfile::tempdir().unwrap(), Assets::from_environment().unwrap());
    let tree = folder.path().join("tree/etc");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("provisioner-server-key"), "07".repeat(32)).unwrap();
    let pack = "cd \"$1/tree\" && echo etc/provisioner-server-key | cpio -o -H newc --quiet > ../key.cpio";
    process::run("sh", ["-euc".as_ref(), pack.as_ref(), "sh".as_ref(), folder.path().as_os_str()]).unwrap();
    let mut bytes = fs::read(assets.initramfs()).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(fs::read(folder.path().join("key.cpio")).unwrap());
    let pinned = folder.path().join("initramfs.img");
    fs::write(&pinned, bytes).unwrap();
    let spec = machine(folder.path(), Firmware::Bios);
    let house = House::open(Some(&spec), Ways { initramfs: Some(pinned), ..Ways::default() });
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for("another server's key than the one this agent was signed for", patience(30)).unwrap();
    assert!(house.rows("SELECT event FROM events WHERE kind = 'claimed'").is_empty());
}
