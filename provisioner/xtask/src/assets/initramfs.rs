//! Initramfs images: the agent's, and the one that the tiny image boots with.

use super::{
    cpio::Archive,
    fingerprint::{self, Fingerprint},
    kernel::Tree,
    modules::Dependencies,
};
use crate::console::{self, Done};
use anyhow::{Context, Result, bail};
use provisioner_lab::{Assets, process};
use std::{fs, path::Path};

/// Drivers of disks and NICs, and what the agent mounts. A kernel may have some built in and lack others.
const AGENT_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_net",
    "virtio_blk",
    "virtio_scsi",
    "virtio_rng",
    "vmxnet3",
    "vmw_pvscsi",
    "ena",
    "gve",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "ixgbe",
    "i40e",
    "ice",
    "bnxt_en",
    "tg3",
    "mlx4_en",
    "mlx5_core",
    "r8169",
    "nvme",
    "ahci",
    "ata_piix",
    "sd_mod",
    "megaraid_sas",
    "mpt3sas",
    "smartpqi",
    "hpsa",
    // ext4 names its checksum as a soft dependency only: without it no mount.
    "crc32c_generic",
    "crc32c_intel",
    "ext4",
    "xfs",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "nls_iso8859_1",
    "nls_utf8",
    "efivarfs",
    "af_packet",
    "loop",
    "tpm_tis",
    "tpm_crb",
    "ipmi_si",
    "ipmi_devintf",
];
/// Beside them with the generic kernel: slow to load, or for hosts the cloud kernel's users know by name.
const GENERIC_MODULES: &[&str] = &["btrfs", "hv_netvsc", "hv_storvsc"];
const UDHCPC_SCRIPT: &[u8] = include_bytes!("udhcpc.script");
const BUSYBOX: &str = "/bin/busybox";
/// zstd: 19 packs the agent's initramfs a tenth smaller than 10 in a second or two.
const LEVEL: i32 = 19;

/// Writes the agent's kernel and initramfs.
pub fn make(tree: &Tree, every_driver: bool, agent: &Path, assets: &Assets) -> Result<Done> {
    let extra = if every_driver { GENERIC_MODULES } else { &[] };
    let modules = [AGENT_MODULES, extra].concat();
    let (kernel, image) = (assets.kernel(), assets.initramfs());
    let fingerprint = Fingerprint::default()
        .text("3")
        .text(&tree.version)
        .text(&tree.release)
        .text(&modules.join(" "))
        .text(&String::from_utf8_lossy(UDHCPC_SCRIPT))
        .file(Path::new(BUSYBOX))?
        .file(agent)?
        .end();
    if fingerprint::fits(&image, &fingerprint) && kernel.exists() {
        return Ok(Done::Kept(size_of(&image)?));
    }
    fingerprint::forget(&image);
    if let Some(folder) = image.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let init = read(agent)?;
    let bytes = pack(tree, &init, &modules)?;
    fs::copy(tree.vmlinuz(), &kernel).with_context(|| tree.vmlinuz().display().to_string())?;
    fingerprint::write_whole(&image, &bytes)?;
    write_sums(&[&kernel, &image])?;
    fingerprint::keep(&image, &fingerprint)?;
    Ok(Done::Made(size_of(&image)?))
}

/// As sha256sum writes them: the server serves these files and no other.
fn write_sums(files: &[&Path]) -> Result<()> {
    let mut text = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        text.push_str(&format!("{}  {name}\n", fingerprint::sha256(file)?.0));
    }
    let folder = files.first().and_then(|file| file.parent()).context("no folder")?;
    fingerprint::write_whole(&folder.join("SHA256SUMS"), text.as_bytes())
}

fn size_of(file: &Path) -> Result<String> {
    Ok(console::mib(fs::metadata(file).with_context(|| file.display().to_string())?.len()))
}

/// An initramfs with `init`, busybox and `modules`, whose files `/etc/modules` lists in load order.
pub fn pack(tree: &Tree, init: &[u8], modules: &[&str]) -> Result<Vec<u8>> {
    pack_with(tree, init, modules, &[])
}

/// A program that is linked dynamically, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    pub file: &'a Path,
    pub to: &'a str,
}

/// [`pack`] with more programs and the libraries that they name.
pub fn pack_with(tree: &Tree, init: &[u8], modules: &[&str], programs: &[Program<'_>]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    // The root itself: 0755, or nothing that drops root can reach a file.
    archive.folder(".");
    for folder in [
        "bin",
        "dev",
        "etc",
        "lib",
        "lib/modules",
        "mnt",
        "proc",
        "root",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
    ] {
        archive.folder(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    archive.file("init", true, init);
    archive.file("etc/udhcpc.script", true, UDHCPC_SCRIPT);
    archive.file("bin/busybox", true, &busybox()?);
    for applet in process::run(BUSYBOX, ["--list"])?.lines().filter(|applet| *applet != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    let mut list = String::new();
    for file in load_order(tree, modules)? {
        let base = file.rsplit('/').next().unwrap_or(&file);
        let to = format!("lib/modules/{}", base.trim_end_matches(".xz"));
        archive.file(&to, false, &module(&tree.modules().join(&file))?);
        list.push_str(&format!("/{to}\n"));
    }
    archive.file("etc/modules", false, list.as_bytes());
    for program in programs {
        archive.file(program.to, true, &read(program.file)?);
    }
    add_libraries(&mut archive, programs)?;
    zstd::encode_all(archive.end().as_slice(), LEVEL).context("zstd")
}

/// Each library where the loader looks for it, once, with the folders that it is in.
fn add_libraries(archive: &mut Archive, programs: &[Program<'_>]) -> Result<()> {
    let mut libraries = std::collections::BTreeSet::new();
    for program in programs {
        let shown = process::run("ldd", [program.file])?;
        libraries.extend(shown.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    let mut folders = std::collections::BTreeSet::new();
    for library in &libraries {
        let inside = library.trim_start_matches('/');
        let parents = Path::new(inside).ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
        for folder in parents.map(|p| p.display().to_string()).collect::<Vec<_>>().into_iter().rev() {
            if !["lib", "usr", "bin"].contains(&folder.as_str()) && folders.insert(folder.clone()) {
                archive.folder(&folder);
            }
        }
        archive.file(inside, true, &read(Path::new(library))?);
    }
    Ok(())
}

/// Must be static: there is no libc in an initramfs.
fn busybox() -> Result<Vec<u8>> {
    let bytes = read(Path::new(BUSYBOX))?;
    if process::run("ldd", [BUSYBOX]).is_ok() {
        bail!("{BUSYBOX} is linked dynamically; install busybox-static");
    }
    Ok(bytes)
}

fn load_order(tree: &Tree, modules: &[&str]) -> Result<Vec<String>> {
    let file = tree.modules().join("modules.dep");
    let text = fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    Ok(Dependencies::parse(&text).load_order(modules))
}

/// Uncompressed, for the agent hands the file to the kernel as it is.
fn module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "xz") {
        let done = std::process::Command::new("xz").arg("-dc").arg(file).output().context("xz")?;
        return if done.status.success() { Ok(done.stdout) } else { bail!("{}: xz failed", file.display()) };
    }
    read(file)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))
}
