//! The agent's disk path on real machines: little memory and a large image, a lease shorter than the write, and a drive
//! that erases itself.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{Assets, Vm, process, process::until};
use provisioner_wire::{
    report::Firmware,
    wipe::{Certificate, Means},
};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

const MIB: u64 = 1 << 20;

/// The tiny image, made 8 GiB long, with so many MiB more of data that cannot be packed much. As a file of `images`.
fn large_image(images: &Path, data_mib: u64) {
    fs::create_dir_all(images).unwrap();
    let tiny = Assets::from_environment().unwrap().image("tiny");
    let raw = images.join("large.raw");
    let unpack = ["-dqf", "--sparse", tiny.to_str().unwrap(), "-o", raw.to_str().unwrap()];
    process::run("zstd", unpack).unwrap();
    let file = File::options().write(true).open(&raw).unwrap();
    let begin = file.metadata().unwrap().len().next_multiple_of(64 * MIB);
    file.set_len(8 << 30).unwrap();
    let mut chance = fastrand::Rng::with_seed(8);
    for n in 0..data_mib {
        let mut bytes: Vec<u8> = (0..MIB).map(|_| chance.u8(..)).collect();
        bytes[..MIB as usize / 2].fill(n as u8);
        // Spread over the whole length.
        let at = begin + n * ((8 << 30) - begin - 64 * MIB) / data_mib / MIB * MIB;
        file.write_all_at(&bytes, at).unwrap();
    }
    // The backup table of the image lies at its old end; that of the disk is made of the primary one.
    let packed = images.join("large.raw.zst");
    let pack = ["-1", "-qf", "--rm", raw.to_str().unwrap(), "-o", packed.to_str().unwrap()];
    process::run("zstd", pack).unwrap();
    let sum = process::run("sha256sum", [packed.as_os_str()]).unwrap();
    fs::write(images.join("large.raw.zst.sha256"), sum).unwrap();
}

/// What the agent has said of its memory, in MiB.
fn peak_mib(log: &str) -> Option<u64> {
    let (_, rest) = log.split_once(", at most ")?;
    rest.split_once(" MiB of memory")?.0.parse().ok()
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn a_machine_with_1_gib_writes_an_image_of_8_gib_and_keeps_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    large_image(&images, 256);
    let mut spec = machine(folder.path(), Firmware::Bios);
    spec.disk_bytes = 9 << 30;
    spec.memory_mib = 1024;
    // A minute and more, for holes count too: the lease is renewed meanwhile, at half of its time.
    spec.disk_write_rate = 150 << 20;
    let ways = Ways {
        image: Some("large"),
        images: Some(images),
        dhcp: Some(
            "[[dhcp]]\ninterface = \"br0\"\n[[dhcp.subnets]]\nlease_seconds = 100\nnetwork = \"10.88.0.0/24\"\n\
             pools = [[\"10.88.0.200\", \"10.88.0.250\"]]\nrouter = \"10.88.0.1\"\n",
        ),
        ..Ways::default()
    };
    let house = House::open(Some(&spec), ways);
    house.post("/api/v1/machines/node/provision");
    house.wait_phase("powering", patience(240));
    let vm = Vm::start(spec).unwrap();
    house.wait_phase("installing", patience(60));
    let before = house.timeline().matches("dhcp").count();
    let written = until(patience(400), || Ok((house.times_done("write-image") == 1).then_some(())));
    assert!(written.unwrap().is_some(), "{:#}\n{}", house.machine(), vm.serial().unwrap());
    // Log lines come after the result, with the next word of the agent.
    let mut log = String::new();
    let told = until(patience(120), || {
        log = house.get("/api/v1/machines/node/log").to_string();
        Ok(peak_mib(&log))
    });
    let peak = told.unwrap().unwrap_or_else(|| panic!("no word of memory: {log}"));
    eprintln!("the agent had at most {peak} MiB");
    assert!(peak < 200, "{peak} MiB: {log}");
    assert_eq!(house.accepted("challenged").len(), 1);
    assert_eq!(house.accepted("read-back").len(), 1);
    let heard = house.timeline();
    assert!(heard.matches("dhcp").count() > before, "the lease was not renewed: {heard}");
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn an_nvme_drive_is_purged_by_its_own_format_and_certified() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = machine(folder.path(), Firmware::Bios);
    spec.nvme = true;
    fs::create_dir_all(spec.disk.parent().unwrap()).unwrap();
    let old: Vec<u8> = (0..spec.disk_bytes).map(|n| (n >> 9) as u8 | 1).collect();
    fs::write(&spec.disk, old).unwrap();
    let house = House::open(Some(&spec), Ways { profile: "wipe: purge\n", ..Ways::default() });
    house.post("/api/v1/machines/node/release");
    house.wait_phase("powering", patience(30));
    let disk = spec.disk.clone();
    let vm = Vm::start(spec).unwrap();
    house.wait_phase("available", patience(120));
    let all = house.get("/api/v1/wipe-certificates?machine=node");
    let signed = &all[0];
    let text = signed["certificate"].as_str().unwrap_or_else(|| panic!("{all:#}\n{}", vm.serial().unwrap()));
    let certificate: Certificate = serde_json::from_str(text).unwrap();
    let wiped = &certificate.wiped;
    assert_eq!(wiped.done, Means::NvmeFormatErase, "{certificate:#?}");
    assert_eq!(wiped.sampled.with_data_before, 256, "{certificate:#?}");
    assert_eq!(wiped.sampled.zero_now + wiped.sampled.changed_now, 256, "{certificate:#?}");
    drop(vm);
    let bytes = fs::read(disk).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0), "QEMU's drive zeroes what it formats");
    let file = folder.path().join("certificate.json");
    fs::write(&file, signed.to_string()).unwrap();
    let verify = |key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provisioner"));
        command.args(["wipe-certificate", "verify"]).arg(&file).args(["--public-key", key]);
        process::output(&mut command)
    };
    let said = verify(signed["public_key"].as_str().unwrap()).unwrap();
    assert!(said.starts_with("good: machine node"), "{said}");
    assert!(verify(&"ab".repeat(32)).is_err());
}
