//! The lab's own parts on real firmware. Each test runs in a lab namespace of its own: `cargo xtask test` sees to that;
//! by hand: `cargo xtask namespace -- cargo nextest run -p provisioner-lab --run-ignored only`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod stand_in;

use provisioner_lab::{
    Assets, BootOrder, Identity, Namespace, RedfishMachines, Vm, VmSpec,
    accelerator::Accelerator,
    namespace::Role,
    process::{self, until},
    serial,
};
use provisioner_wire::report::Firmware;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const NEEDS: &str = "needs root, QEMU and boot assets: run by `cargo xtask test`";

fn assets() -> Assets {
    assert_eq!(Namespace::role(), Role::Inside, "{NEEDS}");
    Assets::from_environment().unwrap()
}

fn patience(seconds: u64) -> Duration {
    Accelerator::here().patience(seconds)
}

/// An installed machine that starts from its disk.
fn installed(assets: &Assets, image: &str, firmware: Firmware, folder: &Path) -> VmSpec {
    let mut spec = VmSpec::new(&format!("{image}-{firmware:?}").to_lowercase(), firmware, folder);
    spec.boot = BootOrder::Disk;
    spec.network = false;
    spec.disk = folder.join("disk.raw");
    unpack(&assets.image(image), &spec.disk);
    spec
}

fn unpack(packed: &Path, raw: &Path) {
    process::run(
        "zstd",
        ["-dqf", "--sparse", &packed.display().to_string(), "-o", &raw.display().to_string()],
    )
    .unwrap();
}

/// Writes a NoCloud seed into the image's root, which is partition 2, without mounting it.
fn seed(disk: &Path, files: &[(&str, &str)], folder: &Path) {
    let table = process::run("sgdisk", ["-i", "2", &disk.display().to_string()]).unwrap();
    let first = table.lines().find_map(|line| line.strip_prefix("First sector: ")).unwrap();
    let offset: u64 = first.split(' ').next().unwrap().parse::<u64>().unwrap() * 512;
    let root = format!("{}?offset={offset}", disk.display());
    for made in ["/var/lib/cloud", "/var/lib/cloud/seed", "/var/lib/cloud/seed/nocloud"] {
        process::run("debugfs", ["-w", "-R", &format!("mkdir {made}"), &root]).unwrap();
    }
    for (name, content) in files {
        let file = folder.join(name);
        std::fs::write(&file, content).unwrap();
        let command = format!("write {} /var/lib/cloud/seed/nocloud/{name}", file.display());
        process::run("debugfs", ["-w", "-R", &command, &root]).unwrap();
    }
}

fn tiny_boots_and_leaves_its_disk(firmware: Firmware) {
    let (assets, folder) = (assets(), tempfile::tempdir().unwrap());
    let spec = installed(&assets, "tiny", firmware, folder.path());
    seed(
        &spec.disk,
        &[
            ("meta-data", "instance-id: i-1\nlocal-hostname: node-7\n"),
            ("phone-home", "echo ring > /dev/ttyS0\n"),
        ],
        folder.path(),
    );
    let hash = |disk: &PathBuf| process::run("sha256sum", [disk]).unwrap();
    let disk = spec.disk.clone();
    let mut vm = Vm::start(spec).unwrap();
    let up = vm.wait_for("TINY-UP host=node-7", patience(30)).unwrap();
    vm.wait_for("TINY-PHONED", patience(30)).unwrap();
    eprintln!("tiny, {firmware:?}: up after {:.1} s", up.as_secs_f64());
    let said = vm.serial().unwrap();
    assert!(said.contains(&format!("firmware={firmware:?}").to_lowercase()), "{said}");
    assert!(said.contains("ring"), "{said}");
    // The script was taken off the disk before it ran; from then on a boot changes nothing.
    let spec = vm.cut_power().unwrap();
    let before = hash(&disk);
    let mut again = Vm::start(spec).unwrap();
    again.wait_for("TINY-DONE", patience(30)).unwrap();
    assert!(!again.serial().unwrap().contains("ring"));
    again.cut_power().unwrap();
    assert_eq!(before, hash(&disk), "a boot has changed the disk");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_tiny_image_boots_by_bios() {
    tiny_boots_and_leaves_its_disk(Firmware::Bios);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_tiny_image_boots_by_uefi() {
    tiny_boots_and_leaves_its_disk(Firmware::Uefi);
}

fn debian_takes_its_seed(firmware: Firmware) {
    let (assets, folder) = (assets(), tempfile::tempdir().unwrap());
    let mut spec = installed(&assets, "debian", firmware, folder.path());
    spec.network = true;
    let mac = spec.mac;
    let user = "#cloud-config\nruncmd:\n - [ sh, -c, 'echo SEEDED $(hostname) $(ip -4 -o addr show scope global | \
                awk \"{print \\$4}\") > /dev/ttyS0' ]\n";
    let network = format!(
        "version: 2\nethernets:\n  nic0:\n    match: {{ macaddress: '{mac}' }}\n    set-name: nic0\n    addresses: [ \
         10.88.0.77/24 ]\n    accept-ra: false\n"
    );
    seed(
        &spec.disk,
        &[
            ("meta-data", "instance-id: i-1\nlocal-hostname: node-7\n"),
            ("user-data", user),
            ("network-config", &network),
        ],
        folder.path(),
    );
    let mut vm = Vm::start(spec).unwrap();
    let seeded = vm.wait_for("SEEDED node-7 10.88.0.77/24", patience(60)).unwrap();
    let up = vm.wait_for("DEBIAN-UP host=node-7", patience(60)).unwrap();
    eprintln!(
        "debian, {firmware:?}: runcmd after {:.1} s, up after {:.1} s",
        seeded.as_secs_f64(),
        up.as_secs_f64()
    );
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_debian_image_takes_its_seed_by_bios() {
    debian_takes_its_seed(Firmware::Bios);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_debian_image_takes_its_seed_by_uefi() {
    debian_takes_its_seed(Firmware::Uefi);
}

/// Firmware → our iPXE → our kernel and initramfs → the agent is PID 1, has its modules and a lease.
fn network_boot_reaches_the_agent(firmware: Firmware) {
    let (assets, folder) = (assets(), tempfile::tempdir().unwrap());
    let _dhcp = stand_in::start(&assets, folder.path());
    let mut vm = Vm::start(VmSpec::new("netboot", firmware, folder.path())).unwrap();
    let agent = vm.wait_for("provisioner agent, PID 1", patience(30)).unwrap();
    let lease = vm.wait_for("has an address after", patience(30)).unwrap();
    eprintln!(
        "agent, {firmware:?}: PID 1 after {:.1} s, lease after {:.1} s",
        agent.as_secs_f64(),
        lease.as_secs_f64()
    );
    let said = vm.serial().unwrap();
    // Under BIOS there are no EFI variables, and their module says so.
    let complaint = said.lines().find(|line| line.contains("module /lib") && !line.contains("efivarfs"));
    assert_eq!(complaint, None);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_network_boot_reaches_the_agent_by_bios() {
    network_boot_reaches_the_agent(Firmware::Bios);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_network_boot_reaches_the_agent_by_uefi() {
    network_boot_reaches_the_agent(Firmware::Uefi);
}

/// The BMC emulator sets the boot device and the power, and the machines behind it are real.
#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_bmcs_power_their_machines_on() {
    let (assets, folder) = (assets(), tempfile::tempdir().unwrap());
    let python = PathBuf::from(std::env::var_os("PROVISIONER_PYTHON").expect(NEEDS));
    let _dhcp = stand_in::start(&assets, folder.path());
    let mut machines = RedfishMachines::start(&python, folder.path()).unwrap();
    let bios = machines.add(&Identity::sample(1, Firmware::Bios), 1024, 1).unwrap();
    let uefi = machines.add(&Identity::sample(2, Firmware::Uefi), 1024, 1).unwrap();
    for (machine, mode) in [(&bios, "Legacy"), (&uefi, "UEFI")] {
        assert!(redfish(&machine.identity.bmc(), "GET", "").contains("\"PowerState\": \"Off\""));
        let boot = format!(
            "{{\"Boot\":{{\"BootSourceOverrideTarget\":\"Pxe\",\"BootSourceOverrideEnabled\":\"Once\",\
             \"BootSourceOverrideMode\":\"{mode}\"}}}}"
        );
        redfish(&machine.identity.bmc(), "PATCH", &boot);
        redfish(
            &format!("{}/Actions/ComputerSystem.Reset", machine.identity.bmc()),
            "POST",
            "{\"ResetType\":\"On\"}",
        );
    }
    for machine in [&bios, &uefi] {
        let reached = until(patience(60), || {
            Ok(serial::read(&machine.serial_log)?.contains("provisioner agent, PID 1").then_some(()))
        });
        let said = serial::read(&machine.serial_log).unwrap();
        assert!(reached.unwrap().is_some(), "{}:\n{}", machine.identity.name, process::tail(&said));
        assert!(redfish(&machine.identity.bmc(), "GET", "").contains("\"PowerState\": \"On\""));
    }
}

fn redfish(url: &str, method: &str, body: &str) -> String {
    let mut arguments = vec!["-sS", "--fail-with-body", "-X", method, url];
    if !body.is_empty() {
        arguments.extend(["-H", "Content-Type: application/json", "-d", body]);
    }
    process::run("curl", arguments).unwrap()
}
