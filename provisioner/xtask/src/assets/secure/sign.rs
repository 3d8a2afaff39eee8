//! Signed PE files: iPXE as it is, and the agent's kernel and initramfs joined to one unified kernel image, so that one
//! signature covers both.

use super::keys::Keys;
use crate::assets::fingerprint::{self, Fingerprint};
use crate::console::{self, Done};
use anyhow::{Context, Result};
use provisioner_lab::process;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What is joined to one image.
#[derive(Debug)]
pub struct Unified<'a> {
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    /// The command line, for a disk's own boot. `None`: the loader's is taken, also under Secure Boot.
    pub command_line: Option<&'a str>,
}

/// Writes `to`: `from`, signed with the site's `db` key.
pub fn signed(keys: &Keys, from: &Path, to: &Path) -> Result<Done> {
    let fingerprint = Fingerprint::default().text("1").file(from)?.file(&keys.certificate("db"))?.end();
    kept_or(to, &fingerprint, || sign(keys, from, to))
}

/// Writes `to`: the unified kernel image, signed.
pub fn unified(keys: &Keys, parts: &Unified<'_>, to: &Path) -> Result<Done> {
    let fingerprint = Fingerprint::default()
        .text("1")
        .file(parts.kernel)?
        .file(parts.initramfs)?
        .file(Path::new(STUB))?
        .text(parts.command_line.unwrap_or_default())
        .file(&keys.certificate("db"))?
        .end();
    kept_or(to, &fingerprint, || {
        let unsigned = beside(to, "unsigned");
        join(parts, &unsigned, &beside(to, "cmdline"))?;
        sign(keys, &unsigned, to)?;
        fs::remove_file(&unsigned).with_context(|| unsigned.display().to_string())
    })
}

fn kept_or(to: &Path, fingerprint: &str, make: impl FnOnce() -> Result<()>) -> Result<Done> {
    if !fingerprint::fits(to, fingerprint) {
        fingerprint::forget(to);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        make()?;
        fingerprint::keep(to, fingerprint)?;
        return Ok(Done::Made(size_of(to)?));
    }
    Ok(Done::Kept(size_of(to)?))
}

fn size_of(file: &Path) -> Result<String> {
    Ok(console::mib(fs::metadata(file).with_context(|| file.display().to_string())?.len()))
}

fn beside(file: &Path, kind: &str) -> PathBuf {
    file.with_extension(kind)
}

fn sign(keys: &Keys, from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("sbsign");
    command.arg("--key").arg(keys.key("db")).arg("--cert").arg(keys.certificate("db"));
    process::output(command.arg("--output").arg(to).arg(from))?;
    let mut check = Command::new("sbverify");
    process::output(check.arg("--cert").arg(keys.certificate("db")).arg(to)).map(|_| ())
}

/// The sections that systemd's stub looks for, above its own.
fn join(parts: &Unified<'_>, to: &Path, command_line: &Path) -> Result<()> {
    let mut sections = vec![(".osrel", PathBuf::from("/etc/os-release"))];
    if let Some(text) = parts.command_line {
        fs::write(command_line, text).with_context(|| command_line.display().to_string())?;
        sections.push((".cmdline", command_line.to_owned()));
    }
    sections.push((".linux", parts.kernel.to_owned()));
    sections.push((".initrd", parts.initramfs.to_owned()));
    let mut at =
        end_of(&process::run("objdump", ["-h", STUB])?).with_context(|| format!("{STUB}: no sections"))?;
    let mut objcopy = Command::new("objcopy");
    for (name, file) in sections {
        let bytes = fs::metadata(&file).with_context(|| file.display().to_string())?.len();
        objcopy.arg("--add-section").arg(format!("{name}={}", file.display()));
        objcopy.args(["--set-section-flags", &format!("{name}=data,readonly")]);
        objcopy.args(["--change-section-vma", &format!("{name}={at:#x}")]);
        at = aligned(at + bytes);
    }
    process::output(objcopy.arg(STUB).arg(to))?;
    let _ = fs::remove_file(command_line);
    Ok(())
}

/// The first free page above the sections that `objdump -h` lists: `0 .text 0000bff0 0000000000004000 …`.
fn end_of(listed: &str) -> Option<u64> {
    let ends = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next()?.parse::<u32>().ok()?;
        let [size, from] = [words.nth(1)?, words.next()?].map(|word| u64::from_str_radix(word, 16));
        Some(from.ok()? + size.ok()?)
    });
    ends.max().map(aligned)
}

/// PE sections begin at a page.
fn aligned(address: u64) -> u64 {
    address.next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_sections_begin_above_the_stubs_own() {
        let listed = "Sections:\nIdx Name  Size  VMA\n  0 .text 0000bff0  0000000000004000  0000000000004000  00000400  2**4\n\
                      \x20                 CONTENTS, ALLOC\n  7 .sdmagic 00000034  0000000000019100  0000000000019100 0 2**2\n";
        assert_eq!(end_of(listed), Some(0x1a000));
        assert_eq!(end_of("nothing"), None);
    }
}
