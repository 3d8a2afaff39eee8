//! The disk images of the lab: `NAME.raw.zst`, its SHA-256 beside it, and `NAME.json` with sizes and hashes.

use super::{
    disk::{self, Loader, Parts},
    fingerprint::{self, Fingerprint, sha256},
    initramfs,
    kernel::Tree,
};
use crate::{
    console::{self, Done},
    packages,
};
use anyhow::{Context, Result};
use provisioner_lab::process;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const TINY_INIT: &str = include_str!("tiny/init");
const TINY_RC: &str = include_str!("tiny/rc");
const TINY_INITTAB: &str = include_str!("tiny/inittab");
const UDHCPC_SCRIPT: &str = include_str!("udhcpc.script");
const TINY_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4"];

const DEBIAN_HOOK: &str = include_str!("debian/hook");
const DEBIAN_SUITE: &str = "bookworm";
const DEBIAN_PACKAGES: &[&str] = &[
    "busybox",
    "ca-certificates",
    "cloud-init",
    "curl",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "openssh-server",
    "python3",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// Busybox with one start script: 3 seconds to make, 2 to boot.
pub fn tiny(name: &str, tree: &Tree, folder: &Path, loader: &Loader<'_>) -> Result<Done> {
    let fingerprint = Fingerprint::default()
        .text("1")
        .text(&loader.fingerprint()?)
        .text(&tree.version)
        .text(TINY_INIT)
        .text(TINY_RC)
        .text(TINY_INITTAB)
        .text(UDHCPC_SCRIPT)
        .file(Path::new("/bin/busybox"))?
        .end();
    kept_or_made(name, folder, &fingerprint, |work, raw| {
        let root = work.join("root");
        tiny_root(&root)?;
        let initramfs = work.join("initrd.img");
        let packed = initramfs::pack(tree, TINY_INIT.as_bytes(), TINY_MODULES)?;
        fs::write(&initramfs, packed).with_context(|| initramfs.display().to_string())?;
        let kernel = tree.vmlinuz();
        let parts = Parts {
            root: &root,
            kernel: &kernel,
            initramfs: &initramfs,
            esp_mib: 48,
            size_mib: 96,
            loader,
            arguments: "quiet",
        };
        disk::assemble(&parts, work, raw)
    })
}

fn tiny_root(root: &Path) -> Result<()> {
    for folder in
        ["bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "mnt", "var/lib/cloud/seed/nocloud"]
    {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).context("/bin/busybox (package busybox-static)")?;
    for applet in process::run("/bin/busybox", ["--list"])?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).with_context(|| applet.to_owned())?;
    }
    symlink("../bin/busybox", root.join("sbin/init")).context("sbin/init")?;
    symlink("../run/resolv.conf", root.join("etc/resolv.conf")).context("etc/resolv.conf")?;
    for (name, content, mode) in [
        ("etc/rc", TINY_RC, 0o755),
        ("etc/udhcpc.script", UDHCPC_SCRIPT, 0o755),
        ("etc/inittab", TINY_INITTAB, 0o644),
        ("etc/os-release", "ID=tiny\nPRETTY_NAME=\"Tiny test image\"\n", 0o644),
    ] {
        write_mode(&root.join(name), content, mode)?;
    }
    Ok(())
}

fn write_mode(file: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(file, content)
        .and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("{}: cannot be written", file.display()))
}

/// Debian 12 with systemd, cloud-init (NoCloud only), an SSH server and Python.
pub fn debian(folder: &Path) -> Result<Done> {
    let (_, kernel) = packages::kernel("linux-image-cloud-amd64")?;
    let fingerprint = Fingerprint::default()
        .text("1")
        .text(&kernel)
        .text(DEBIAN_HOOK)
        .text(DEBIAN_SUITE)
        .text(&DEBIAN_PACKAGES.join(" "))
        .end();
    kept_or_made("debian", folder, &fingerprint, |work, raw| {
        let root = work.join("root");
        debian_root(work, &root)?;
        let boot = root.join("boot");
        let (kernel, initramfs) = (work.join("vmlinuz"), work.join("initrd.img"));
        // They go to the system partition; the root has no use for a second copy.
        fs::rename(only(&boot, "vmlinuz-")?, &kernel).context("kernel")?;
        fs::rename(only(&boot, "initrd.img-")?, &initramfs).context("initramfs")?;
        for link in ["vmlinuz", "initrd.img", "vmlinuz.old", "initrd.img.old"] {
            let _ = fs::remove_file(root.join(link));
        }
        let parts = Parts {
            root: &root,
            kernel: &kernel,
            initramfs: &initramfs,
            esp_mib: 64,
            size_mib: 1024,
            loader: &Loader::SystemdBoot,
            arguments: "quiet",
        };
        disk::assemble(&parts, work, raw)
    })
}

fn debian_root(work: &Path, root: &Path) -> Result<()> {
    let hook = work.join("hook");
    write_mode(&hook, DEBIAN_HOOK, 0o755)?;
    let essential = work.join("essential");
    // Before the kernel is installed, so that its initramfs is small: named modules only.
    let text = "#!/bin/sh\nset -eu\nmkdir -p \"$1/etc/initramfs-tools/conf.d\"\n\
                printf 'MODULES=list\\nCOMPRESS=zstd\\nRESUME=none\\n' > \"$1/etc/initramfs-tools/conf.d/image\"\n\
                printf 'virtio_pci\\nvirtio_blk\\nvirtio_scsi\\nvirtio_net\\nsd_mod\\nahci\\nnvme\\next4\\ncrc32c_generic\\n' \
                > \"$1/etc/initramfs-tools/modules\"\n";
    write_mode(&essential, text, 0o755)?;
    let include = format!("--include={}", DEBIAN_PACKAGES.join(","));
    let essential = format!("--essential-hook={} \"$1\"", essential.display());
    let customize = format!("--customize-hook={} \"$1\"", hook.display());
    let root = root.display().to_string();
    let mut arguments = vec!["--quiet", "--mode=root", "--variant=minbase", "--format=directory", &include];
    for exclude in [
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--aptopt=Apt::Install-Recommends \"false\"",
    ] {
        arguments.push(exclude);
    }
    arguments.extend([essential.as_str(), &customize, DEBIAN_SUITE, &root]);
    // In a mount namespace of its own: were it killed, its /proc and /sys inside the new root would stay mounted here,
    // and the next run's clean-up would walk into them.
    process::run("unshare", ["--mount", "mmdebstrap"].into_iter().chain(arguments))?;
    Ok(())
}

/// The one file in `folder` that begins with `start`.
fn only(folder: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
        .with_context(|| format!("{}: nothing that begins with {start}", folder.display()))
}

/// Runs `make` (work folder, raw disk to write) where the image is not there or is of other things; packs and describes it.
fn kept_or_made(
    name: &str,
    folder: &Path,
    fingerprint: &str,
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<Done> {
    let packed = folder.join(format!("{name}.raw.zst"));
    let described = folder.join(format!("{name}.json"));
    if fingerprint::fits(&packed, fingerprint) && described.exists() {
        let size = fs::metadata(&packed).with_context(|| packed.display().to_string())?.len();
        return Ok(Done::Kept(console::mib(size)));
    }
    fingerprint::forget(&packed);
    let work = folder.join(format!(".{name}.work"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let raw = work.join(format!("{name}.raw"));
    make(&work, &raw)?;
    process::run(
        "zstd",
        [
            "-q".as_ref(),
            "-T0".as_ref(),
            "-10".as_ref(),
            "-f".as_ref(),
            raw.as_os_str(),
            "-o".as_ref(),
            packed.as_os_str(),
        ],
    )?;
    let (raw_hash, raw_bytes) = sha256(&raw)?;
    let (hash, bytes) = sha256(&packed)?;
    let description = json!({
        "compressed": { "bytes": bytes, "sha256": hash },
        "raw": { "bytes": raw_bytes, "sha256": raw_hash },
    });
    let sum = folder.join(format!("{name}.raw.zst.sha256"));
    fingerprint::write_whole(&sum, format!("{hash}  {name}.raw.zst\n").as_bytes())?;
    fingerprint::write_whole(&described, format!("{description:#}\n").as_bytes())?;
    fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    fingerprint::keep(&packed, fingerprint)?;
    Ok(Done::Made(format!("{} raw, {} packed", console::mib(raw_bytes), console::mib(bytes))))
}
