//! The lab's short cut past a firmware's menus: OVMF's variable store with the site's keys in it and Secure Boot on.

use super::keys::{Keys, NAMES};
use crate::assets::fingerprint::{self, Fingerprint};
use crate::console::Done;
use crate::{project::Project, tools};
use anyhow::Result;
use provisioner_lab::process;
use std::{path::Path, process::Command};

const EMPTY: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

pub fn make(project: &Project, keys: &Keys, to: &Path) -> Result<Done> {
    let mut fingerprint = Fingerprint::default().text("1").file(Path::new(EMPTY))?;
    for name in NAMES {
        fingerprint = fingerprint.file(&keys.certificate(name))?;
    }
    let fingerprint = fingerprint.end();
    let what = "PK, KEK, db; nothing of Microsoft's".to_owned();
    if fingerprint::fits(to, &fingerprint) {
        return Ok(Done::Kept(what));
    }
    fingerprint::forget(to);
    let owner = keys.owner()?;
    let mut command = Command::new(tools::python(project)?.join("bin/virt-fw-vars"));
    command.args(["--input", EMPTY, "--sb", "--output"]).arg(to);
    for (option, name) in [("--set-pk", "PK"), ("--add-kek", "KEK"), ("--add-db", "db")] {
        command.arg(option).arg(&owner).arg(keys.certificate(name));
    }
    process::output(&mut command)?;
    fingerprint::keep(to, &fingerprint)?;
    Ok(Done::Made(what))
}
