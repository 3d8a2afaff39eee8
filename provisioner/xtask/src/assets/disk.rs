//! A disk image that boots under BIOS and under UEFI: GPT; an EFI system partition with kernel, initramfs, systemd-boot and
//! syslinux; an ext4 root labelled `root`. Made without loop devices and mounts.

use super::fingerprint::sha256;
use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const MIB: u64 = 1 << 20;
/// Before the first partition and after the last one, for the two partition tables.
const MARGIN: u64 = MIB;
const COMMAND_LINE: &str = "root=LABEL=root ro console=tty0 console=ttyS0,115200 panic=10";
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const SYSLINUX_MBR: &str = "/usr/lib/syslinux/mbr/gptmbr.bin";

/// What the image is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The root's files.
    pub root: &'a Path,
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub esp_mib: u64,
    /// Of the whole disk.
    pub size_mib: u64,
    /// Added to the kernel's command line.
    pub arguments: &'a str,
    /// What UEFI starts.
    pub loader: &'a Loader<'a>,
}

/// Makes one signed file: kernel, initramfs, command line, where to.
pub type Join<'a> = dyn Fn(&Path, &Path, &str, &Path) -> Result<()> + 'a;

/// What UEFI starts from the disk.
pub enum Loader<'a> {
    /// systemd-boot; unsigned.
    SystemdBoot,
    /// Debian's signed shim and GRUB.
    Shim { shim: &'a Path, grub: &'a Path },
    /// Kernel and initramfs as one file that `join` makes and signs, which another `signer` would make anew.
    Unified { join: &'a Join<'a>, signer: &'a Path },
}

impl std::fmt::Debug for Loader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SystemdBoot => "SystemdBoot",
            Self::Shim { .. } => "Shim",
            Self::Unified { .. } => "Unified",
        })
    }
}

impl Loader<'_> {
    /// Empty for the usual one.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(match self {
            Self::SystemdBoot => String::new(),
            Self::Shim { shim, grub } => format!("shim {} {}", sha256(shim)?.0, sha256(grub)?.0),
            Self::Unified { signer, .. } => format!("unified {}", sha256(signer)?.0),
        })
    }
}

/// Writes the raw disk `out`; `work` is for what is in between.
pub fn assemble(parts: &Parts<'_>, work: &Path, out: &Path) -> Result<()> {
    let esp = work.join("esp.fat");
    make_esp(parts, work, &esp)?;
    let root_mib = parts.size_mib - parts.esp_mib - 2 * (MARGIN / MIB);
    let root = work.join("root.ext4");
    make_root(parts.root, root_mib, &root)?;
    sized(out, parts.size_mib * MIB)?;
    let esp_end = format!("1:2048:+{}M", parts.esp_mib);
    let root_end = format!("2:0:+{root_mib}M");
    let table =
        ["-n", &esp_end, "-t", "1:ef00", "-c", "1:ESP", "-A", "1:set:2", "-n", &root_end, "-t", "2:8304"];
    let path = out.display().to_string();
    process::run("sgdisk", table.into_iter().chain(["-c", "2:root", &path]))?;
    let mut disk = OpenOptions::new().write(true).open(out).with_context(|| path.clone())?;
    copy_sparse(&esp, &mut disk, MARGIN)?;
    copy_sparse(&root, &mut disk, MARGIN + parts.esp_mib * MIB)?;
    // The first 440 bytes are the BIOS's; the table begins behind them.
    let mbr = fs::read(SYSLINUX_MBR).with_context(|| format!("{SYSLINUX_MBR} (package syslinux-common)"))?;
    if mbr.len() > 440 {
        bail!("{SYSLINUX_MBR} is longer than the 440 bytes before a partition table");
    }
    disk.seek(SeekFrom::Start(0)).and_then(|_| disk.write_all(&mbr)).context("boot code")?;
    disk.sync_all().context("sync")
}

/// FAT32 with both boot loaders, written by mtools: the kernel here may not know FAT.
fn make_esp(parts: &Parts<'_>, work: &Path, esp: &Path) -> Result<()> {
    sized(esp, parts.esp_mib * MIB)?;
    let image = esp.display().to_string();
    process::run("mkfs.fat", ["-F", "32", "-n", "ESP", &image])?;
    process::run("mmd", ["-i", &image, "::EFI", "::EFI/BOOT", "::EFI/debian", "::syslinux"])?;
    process::run("mmd", ["-i", &image, "::loader", "::loader/entries"])?;
    let line = format!("{COMMAND_LINE} {}", parts.arguments);
    let line = line.trim();
    let syslinux = text(
        work,
        "syslinux.cfg",
        &format!(
            "SERIAL 0 115200\nDEFAULT os\nPROMPT 0\nTIMEOUT 1\nLABEL os\n LINUX /vmlinuz\n INITRD /initrd.img\n \
             APPEND {line} loader=syslinux\n"
        ),
    )?;
    let mut files = vec![
        (parts.kernel.to_owned(), "::vmlinuz"),
        (parts.initramfs.to_owned(), "::initrd.img"),
        (syslinux, "::syslinux/syslinux.cfg"),
    ];
    files.extend(loader_files(parts, line, work)?);
    for (from, to) in files {
        process::run("mcopy", ["-i".as_ref(), esp.as_os_str(), from.as_os_str(), to.as_ref()])?;
    }
    process::run("syslinux", ["--install", "--directory", "syslinux", &image])?;
    Ok(())
}

/// What UEFI starts, with its configuration.
fn loader_files(parts: &Parts<'_>, line: &str, work: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    const BOOT: &str = "::EFI/BOOT/BOOTX64.EFI";
    match parts.loader {
        Loader::SystemdBoot => {
            let entry =
                format!("title os\nlinux /vmlinuz\ninitrd /initrd.img\noptions {line} loader=systemd-boot\n");
            Ok(vec![
                (PathBuf::from(SYSTEMD_BOOT), BOOT),
                (text(work, "loader.conf", "timeout 0\ndefault os\n")?, "::loader/loader.conf"),
                (text(work, "os.conf", &entry)?, "::loader/entries/os.conf"),
            ])
        }
        Loader::Shim { shim, grub } => {
            let config = format!("linux /vmlinuz {line} loader=grub\ninitrd /initrd.img\nboot\n");
            Ok(vec![
                ((*shim).to_owned(), BOOT),
                ((*grub).to_owned(), "::EFI/BOOT/grubx64.efi"),
                // The folder that is built into Debian's GRUB.
                (text(work, "grub.cfg", &config)?, "::EFI/debian/grub.cfg"),
            ])
        }
        Loader::Unified { join, .. } => {
            let file = work.join("os.efi");
            join(parts.kernel, parts.initramfs, &format!("{line} loader=unified"), &file)?;
            Ok(vec![(file, BOOT)])
        }
    }
}

fn text(work: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let file = work.join(name);
    fs::write(&file, content).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The journal is added afterwards: `mkfs.ext4 -d` would write through it.
fn make_root(from: &Path, size_mib: u64, image: &Path) -> Result<()> {
    sized(image, size_mib * MIB)?;
    let (from, image) = (from.display().to_string(), image.display().to_string());
    let features = "^has_journal,^metadata_csum_seed";
    let extended = "lazy_itable_init=0,root_owner=0:0";
    process::run(
        "mkfs.ext4",
        ["-q", "-F", "-L", "root", "-m", "1", "-O", features, "-E", extended, "-d", &from, &image],
    )?;
    process::run("tune2fs", ["-O", "has_journal", &image])?;
    Ok(())
}

/// An empty file of `bytes`, all hole.
fn sized(file: &Path, bytes: u64) -> Result<()> {
    File::create(file).and_then(|file| file.set_len(bytes)).with_context(|| file.display().to_string())
}

/// Copies `from` to `disk` at `offset`, leaving its zeroes holes.
fn copy_sparse(from: &Path, disk: &mut File, offset: u64) -> Result<()> {
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = offset;
    loop {
        let count = source.read(&mut buffer).with_context(|| from.display().to_string())?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        if piece.iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(at)).and_then(|_| disk.write_all(piece)).context("disk image")?;
        }
        at += u64::try_from(count).unwrap_or(0);
    }
}
