//! Programs that Debian does not have, at pinned versions: cargo's tools, and Python's for the BMC emulator.

use crate::{console::say, project::Project};
use anyhow::{Context, Result};
use provisioner_lab::process;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A cargo subcommand: package, version, what `--version` prints after the name.
#[derive(Debug, Clone, Copy)]
pub struct CargoTool {
    pub package: &'static str,
    pub version: &'static str,
    /// A newer one on the machine will do: its answers do not change with its version.
    pub any: bool,
}

pub const DENY: CargoTool = CargoTool { package: "cargo-deny", version: "0.20.2", any: false };
/// Only for `cargo xtask fuzz`.
pub const FUZZ: CargoTool = CargoTool { package: "cargo-fuzz", version: "0.13.2", any: false };
pub const MACHETE: CargoTool = CargoTool { package: "cargo-machete", version: "0.9.2", any: false };
pub const NEXTEST: CargoTool = CargoTool { package: "cargo-nextest", version: "0.9.143", any: true };

/// A peer to be measured beside.
pub const COREOS_INSTALLER: CargoTool =
    CargoTool { package: "coreos-installer", version: "0.27.0", any: false };
pub const TFTPD: CargoTool = CargoTool { package: "tftpd", version: "1.0.0", any: false };

/// The program's path, installed if it is not there.
pub fn cargo_tool(project: &Project, tool: CargoTool) -> Result<PathBuf> {
    let root = project.tools();
    let own = root.join("bin").join(tool.package);
    if says_version(&own, tool.version) {
        return Ok(own);
    }
    let on_path = PathBuf::from(tool.package);
    if says_version(&on_path, if tool.any { "" } else { tool.version }) {
        return Ok(on_path);
    }
    say(&format!("  installing {} {} into {}", tool.package, tool.version, root.display()));
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", tool.package, "--version", tool.version, "--root"]);
    install.arg(&root).env("CARGO_TARGET_DIR", root.join("build"));
    process::output(&mut install)?;
    let _ = fs::remove_dir_all(root.join("build"));
    Ok(own)
}

fn says_version(program: &Path, version: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|said| said.status.success() && String::from_utf8_lossy(&said.stdout).contains(version))
}

/// The virtual environment with sushy-tools, made anew when its pins change. It sees Debian's own Python packages, for
/// libvirt's binding must be of libvirt's version.
pub fn python(project: &Project) -> Result<PathBuf> {
    let pins = project.root.join("provisioner/lab/requirements.txt");
    let wanted = fs::read_to_string(&pins).with_context(|| pins.display().to_string())?;
    let folder = project.tools().join("python");
    let stamp = folder.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(folder);
    }
    say(&format!("  installing sushy-tools into {}", folder.display()));
    let _ = fs::remove_dir_all(&folder);
    let venv = ["-m".as_ref(), "venv".as_ref(), "--system-site-packages".as_ref(), folder.as_os_str()];
    process::run("/usr/bin/python3", venv)?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--no-input", "--requirement"]).arg(&pins);
    process::output(&mut install)?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(folder)
}
