//! Power cuts and server crashes in the middle of the write, on a disk slow enough to be hit there.

use super::house::{House, Ways, machine, patience};
use provisioner_lab::{Assets, BootOrder, Vm, VmSpec, process, process::until};
use provisioner_wire::report::Firmware;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// The tiny image is written in some ten seconds.
const SLOW: u64 = 6 << 20;
const MIB: u64 = 1 << 20;

/// A new seed each run; a failing run's output names it.
fn chance() -> fastrand::Rng {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

fn moment(chance: &mut fastrand::Rng, most: u64) -> Duration {
    Duration::from_millis(chance.u64(0..most))
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn server_killed_while_the_image_is_written_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = machine(folder.path(), Firmware::Bios);
    spec.disk_write_rate = SLOW;
    let house = House::open(Some(&spec), Ways::default());
    house.post("/api/v1/machines/node/provision");
    let mut vm = Vm::start(spec).unwrap();
    let (mut chance, mut kills) = (chance(), 0);
    house.wait_phase("installing", patience(60));
    let began = Instant::now();
    while house.phase() == "installing" && house.times_done("write-image") == 0 && kills < 5 {
        sleep(moment(&mut chance, 1500));
        house.kill_server();
        kills += 1;
        eprintln!("kill {kills} at {:.1} s of the write", began.elapsed().as_secs_f64());
        sleep(moment(&mut chance, 1000));
        house.start();
    }
    assert!(kills >= 3, "the write was over after {kills} kills");
    house.wait_phase("ready", patience(120));
    vm.wait_for("TINY-PHONED", patience(30)).unwrap();
    assert_eq!(house.machine()["generation"], 1);
    assert_eq!(house.rows("SELECT id FROM licences").len(), 1, "one licence to write");
    for step in ["write-image", "place-config", "reboot"] {
        assert_eq!(house.times_done(step), 1, "{step}");
    }
    let tokens = house.accepted("config-rendered");
    assert_eq!(tokens.len(), 1, "one token: {tokens:#?}");
    assert_eq!(house.accepted("claimed").len(), 1, "the same agent went on");
}

/// What a power cut has left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// No firmware finds anything: no boot sector, no partition table at either end.
    Nothing,
    /// Something that firmware could follow, and every byte of the image is there.
    Whole,
}

fn read(file: &File, at: u64, bytes: u64) -> Vec<u8> {
    let mut buffer = vec![0; usize::try_from(bytes).unwrap()];
    file.read_exact_at(&mut buffer, at).unwrap();
    buffer
}

/// Boot sector, table, backup table: what firmware starts from.
fn signs(disk: &Path) -> [bool; 3] {
    let disk = File::open(disk).unwrap();
    let size = disk.metadata().unwrap().len();
    [
        read(&disk, 510, 2) == [0x55, 0xaa],
        read(&disk, 512, 8) == b"EFI PART",
        read(&disk, size - 512, 8) == b"EFI PART",
    ]
}

/// Panics where firmware could follow something into an image that is not all there.
fn left_on(disk_file: &Path, image: &Path) -> Left {
    let (disk, image) = (File::open(disk_file).unwrap(), File::open(image).unwrap());
    let used = image.metadata().unwrap().len();
    let signs = signs(disk_file);
    if signs == [false; 3] {
        return Left::Nothing;
    }
    // The table at the image's own end moves to the disk's.
    for at in (MIB..used - MIB).step_by(1 << 20) {
        let bytes = MIB.min(used - MIB - at);
        assert!(read(&disk, at, bytes) == read(&image, at, bytes), "{signs:?}: bootable, and wrong at {at}");
    }
    Left::Whole
}

/// Cuts that one workflow lives through: it gives up when an agent claims more often than this.
const BOOTS: usize = provisioner::machine::boot::BOOTS_MAX as usize;

/// `cuts` times: disk first in the boot order, power cut somewhere in the write, power on again. Each power-on is the
/// proof that the firmware finds nothing on the half-written disk: it falls through to the network, and the agent comes.
/// A workflow that has given up is no exception: its machine is told to boot its disk, and cannot.
fn never_boots_half_an_image(firmware: Firmware, cuts: usize) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("tiny.raw");
    let packed = Assets::from_environment().unwrap().image("tiny");
    process::run("zstd", ["-dqf", "--sparse", packed.to_str().unwrap(), "-o", image.to_str().unwrap()])
        .unwrap();
    let mut spec = machine(folder.path(), firmware);
    (spec.boot, spec.disk_write_rate) = (BootOrder::Disk, SLOW);
    let house = House::open(Some(&spec), Ways::default());
    house.post("/api/v1/machines/node/provision");
    let mut chance = chance();
    for cut in 1..=cuts {
        spec = cut_in_the_write(&house, spec, &mut chance, cut);
        assert_eq!(
            house.times_done("write-image"),
            0,
            "cut {cut} came after the write: the disk is too fast"
        );
        eprintln!("cut {cut}: left {:?}", left_on(&spec.disk, &image));
        if cut == BOOTS {
            spec = given_up(&house, spec);
            house.post("/api/v1/machines/node/retry");
        }
    }
    let mut vm = Vm::start(spec).unwrap();
    house.wait_phase("ready", patience(120));
    vm.wait_for("TINY-PHONED", patience(30)).unwrap();
    let spec = vm.cut_power().unwrap();
    assert_eq!(signs(&spec.disk), [true; 3], "the check sees what an installed disk has");
    let workflows = 1 + cuts / BOOTS;
    assert_eq!(house.machine()["generation"], workflows, "a cut does not begin anew, only the retry does");
    assert_eq!(house.rows("SELECT id FROM licences").len(), workflows, "one licence to write a workflow");
    assert_eq!(house.times_done("write-image"), 1);
    assert_eq!(house.accepted("claimed").len(), cuts + 1 + cuts / BOOTS, "each boot was the agent's");
}

/// One boot more than the workflow takes: its claim ends it, the agent reboots, and then nothing starts: the machine is
/// told to boot its disk, and that is half an image.
fn given_up(house: &House, spec: VmSpec) -> VmSpec {
    let mut vm = Vm::start(spec).unwrap();
    vm.wait_for("No bootable device", patience(40)).unwrap();
    house.wait_phase("failed", patience(5));
    let said = vm.serial().unwrap();
    assert!(!said.contains("TINY-"), "half an image was booted\n{said}");
    vm.cut_power().unwrap()
}

fn cut_in_the_write(house: &House, spec: VmSpec, chance: &mut fastrand::Rng, cut: usize) -> VmSpec {
    let vm = Vm::start(spec).unwrap();
    let claims = cut + (cut - 1) / BOOTS;
    let came = until(patience(60), || {
        let said = vm.serial()?;
        assert!(!said.contains("TINY-"), "cut {cut}: half an image was booted\n{said}");
        Ok((house.accepted("claimed").len() == claims && house.phase() == "installing").then_some(()))
    });
    let said = vm.serial().unwrap();
    assert!(came.unwrap().is_some(), "cut {cut}: no agent; {:#}\n{}", house.machine(), process::tail(&said));
    let delay = moment(chance, 3000);
    sleep(delay);
    let (progress, after) = (house.machine()["progress"].clone(), vm.elapsed().as_secs());
    eprintln!("cut {cut}: {after} s after power-on, {:.2} s into the write: {progress}", delay.as_secs_f64());
    vm.cut_power().unwrap()
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_killed_in_the_write_never_boots_half_an_image_by_bios() {
    never_boots_half_an_image(Firmware::Bios, 8);
}

#[test]
#[ignore = "needs root, QEMU and boot assets: run by `cargo xtask test`"]
fn vm_killed_in_the_write_never_boots_half_an_image_by_uefi() {
    never_boots_half_an_image(Firmware::Uefi, 4);
}
