//! Debian packages: what lacks is installed, and said.

use crate::{console::say, project::lock};
use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// To make kernels, initramfs and images.
pub const ASSETS: &[&str] = &[
    "busybox-static",
    "dosfstools",
    "e2fsprogs",
    "gdisk",
    "kmod",
    "mmdebstrap",
    "mtools",
    "syslinux",
    "syslinux-common",
    "systemd-boot-efi",
    "zstd",
];
/// To sign what boots, and to enrol the keys.
pub const SECURE_BOOT: &[&str] =
    &["binutils", "efitools", "openssl", "ovmf", "python3-venv", "sbsigntool", "systemd-boot-efi"];
/// To run machines and their BMCs.
pub const LAB: &[&str] = &[
    "dnsmasq-base",
    "iproute2",
    "ipxe-qemu",
    "kea-dhcp4-server",
    "libvirt-clients",
    "libvirt-daemon-system",
    "ovmf",
    "python3-libvirt",
    "python3-venv",
    "qemu-efi-aarch64",
    "qemu-system-arm",
    "qemu-system-x86",
    "qemu-utils",
    "radvd",
    "seabios",
    "util-linux",
];

/// What tests compare with: clients, file systems, archives.
pub const TESTS: &[&str] = &[
    "atftp",
    "btrfs-progs",
    "cpio",
    "curl",
    "dhcpcd-base",
    "docker-registry",
    "dosfstools",
    "e2fsprogs",
    "gdisk",
    "ignition",
    "iproute2",
    "isc-dhcp-client",
    "isc-dhcp-relay",
    "kubernetes-client",
    "minisign",
    "mtools",
    "openssl",
    "postgresql",
    "python3-venv",
    "python3-yaml",
    "tftp-hpa",
    "util-linux",
    "xfsprogs",
    "xz-utils",
    "zstd",
];

/// What `bench image` writes with.
pub const BENCH_IMAGE: &[&str] = &["curl", "gzip", "nginx-light", "time", "zstd"];
/// What coreos-installer is built with.
pub const COREOS_INSTALLER: &[&str] = &["liblzma-dev", "libssl-dev", "libzstd-dev", "pkg-config"];
/// DHCP servers to measure beside, and a load generator (perfdhcp, in kea-admin).
pub const BENCH_DHCP: &[&str] =
    &["dnsmasq-base", "iproute2", "isc-dhcp-server", "kea-admin", "kea-dhcp4-server"];

/// A web server to measure beside.
pub const BENCH_SERVE: &[&str] = &["nginx-light"];

/// Puts the files of `packages` into `folder` without installing them: servers that would start, or that conflict.
pub fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    for package in packages {
        let stamp = folder.join(format!(".{package}"));
        if stamp.exists() {
            continue;
        }
        // apt-get puts it where it runs, under a name with its version.
        let fetched = tempfile::tempdir().context("a folder for a package")?;
        let mut download = Command::new("apt-get");
        process::output(download.args(["-q", "download", package]).current_dir(fetched.path()))?;
        for entry in fs::read_dir(fetched.path()).context("the fetched package")? {
            let file = entry.context("the fetched package")?.path();
            process::run("dpkg-deb", ["-x".as_ref(), file.as_os_str(), folder.as_os_str()])?;
        }
        fs::write(&stamp, "").with_context(|| stamp.display().to_string())?;
    }
    Ok(())
}

/// Installs those of `wanted` that are not there.
pub fn ensure(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("missing Debian packages; as root: apt-get install {}", missing.join(" "));
    }
    say(&format!("  installing Debian packages: {}", missing.join(" ")));
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends", "--allow-downgrades"];
    arguments.extend(&missing);
    // A newer qemu-utils from backports conflicts with this release's QEMU, and apt would remove it without a word
    // rather than take it back to the fitting version: so it is named with its release.
    let fitting = format!("qemu-utils/{}", codename()?);
    if missing.contains(&"qemu-system-x86") {
        arguments.retain(|package| *package != "qemu-utils");
        arguments.push(&fitting);
    }
    apt(&arguments)?;
    let still: Vec<&str> = wanted.iter().copied().filter(|package| !is_installed(package)).collect();
    if !still.is_empty() {
        bail!("apt-get said all went well, but these are not installed: {}", still.join(" "));
    }
    Ok(())
}

/// Runs `install` while no package may start its service: DHCP servers and databases of the tests are started by them, in
/// namespaces and folders of their own.
fn without_services(install: impl FnOnce() -> Result<()>) -> Result<()> {
    let policy = Path::new("/usr/sbin/policy-rc.d");
    if policy.exists() {
        return install();
    }
    // Debian's own way (invoke-rc.d(8)): 101 forbids every action.
    fs::write(policy, "#!/bin/sh\nexit 101\n")
        .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("{}: as root?", policy.display()))?;
    let done = install();
    fs::remove_file(policy).with_context(|| policy.display().to_string())?;
    done
}

/// The newest kernel package that the meta package `meta` names, and its version.
pub fn kernel(meta: &str) -> Result<(String, String)> {
    let mut found = kernel_now(meta);
    if found.is_err() {
        apt(&["update"])?;
        found = kernel_now(meta);
    }
    found
}

fn kernel_now(meta: &str) -> Result<(String, String)> {
    let depends = process::run("apt-cache", ["depends", meta])?;
    let name = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{meta}: depends on no kernel; are the package lists there?"))?;
    Ok((name.to_owned(), candidate_now(name)?))
}

/// The version of `package` that apt would install.
pub fn candidate(package: &str) -> Result<String> {
    candidate_now(package).or_else(|_| apt(&["update"]).and_then(|()| candidate_now(package)))
}

fn candidate_now(package: &str) -> Result<String> {
    let policy = process::run("apt-cache", ["policy", package])?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    Ok(version.with_context(|| format!("{package}: no candidate"))?.to_owned())
}

fn is_installed(package: &str) -> bool {
    // Kubernetes' own package of kubectl has the same file, and the two cannot be installed beside each other.
    if package == "kubernetes-client" && Path::new("/usr/bin/kubectl").exists() {
        return true;
    }
    process::run("dpkg-query", ["-W", "-f", "${db:Status-Status}", package]).is_ok_and(|s| s == "installed")
}

fn is_root() -> bool {
    process::run("id", ["-u"]).is_ok_and(|id| id.trim() == "0")
}

/// `bookworm`.
pub fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name
        .context("/etc/os-release has no VERSION_CODENAME; this needs Debian")?
        .trim_matches('"')
        .to_owned())
}

/// apt-get without questions.
pub fn apt(arguments: &[&str]) -> Result<()> {
    // Two runs at once: dpkg's own lock would end the second one at once.
    let _held = lock(Path::new("/run/lock/provisioner-apt"))?;
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    without_services(|| process::output(&mut command).map(|_| ()))
}
