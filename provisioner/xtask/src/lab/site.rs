//! What the server is started with: its configuration, and the sample data centre with the lab's machines in it.

use crate::{assets::Image, project::Project};
use anyhow::{Context, Result, bail};
use provisioner_lab::{
    Identity,
    namespace::{ADDRESS, BRIDGE},
};
use provisioner_wire::report::Firmware;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Environment variable that the sample machines name for their BMC's password.
pub const PASSWORD_VARIABLE: &str = "LAB_BMC_PASSWORD";

#[derive(Debug)]
pub struct Site {
    pub config: PathBuf,
    pub data: PathBuf,
    /// The profile that machines are given.
    pub profile: String,
}

/// Writes it all below `folder`.
pub fn write(project: &Project, folder: &Path, identities: &[Identity], image: Image) -> Result<Site> {
    let hardware = folder.join("hardware");
    for part in ["machines", "profiles", "images"] {
        let part = hardware.join(part);
        fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    }
    let sample = project.root.join("hardware");
    let name = image.name();
    // Only what is built: the server checks the hash file of every image.
    let images = documents(&sample.join("images"), &format!("name: {name}"))?;
    put(&hardware.join("images/lab.yaml"), &images)?;
    let profiles = documents(&sample.join("profiles"), &format!("image: {name}"))?;
    put(&hardware.join("profiles/lab.yaml"), &profiles)?;
    let profile = profiles
        .lines()
        .find_map(|line| line.strip_prefix("name: "))
        .with_context(|| format!("{}: no profile for image {name}", sample.display()))?;
    for identity in identities {
        put(&hardware.join(format!("machines/{}.yaml", identity.name)), &machine(identity, profile))?;
    }
    let data = folder.join("data");
    let config = folder.join("server.toml");
    put(&config, &configuration(project, &data, &hardware))?;
    Ok(Site { config, data, profile: profile.trim().to_owned() })
}

/// The YAML documents below `folder` that have the line `line`.
fn documents(folder: &Path, line: &str) -> Result<String> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let has = |document: &&str| {
            document.lines().any(|l| l.split('#').next().unwrap_or_default().trim_end() == line)
        };
        found.extend(text.split("\n---\n").filter(has).map(str::to_owned));
    }
    if found.is_empty() {
        bail!("{}: nothing there has the line \"{line}\"", folder.display());
    }
    Ok(found.join("\n---\n"))
}

fn machine(identity: &Identity, profile: &str) -> String {
    let Identity { name, uuid, serial, mac, address, firmware } = identity;
    let firmware = if *firmware == Firmware::Uefi { "uefi" } else { "bios" };
    format!(
        "name: {name}\nuuid: {uuid}\nserial: {serial}\nfirmware: {firmware}\nnics:\n  - mac: {mac}\n    \
         address: {address}/24\nbmc:\n  url: {}\n  username: admin\n  password: {{env: {PASSWORD_VARIABLE}}}\n\
         labels:\n  rack: lab\nprofile: {profile}\n",
        identity.bmc()
    )
}

fn configuration(project: &Project, data: &Path, hardware: &Path) -> String {
    let assets = project.assets();
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        "data_dir = {}\nhardware_dir = {}\ntemplates_dir = {}\nimages_dir = {}\ndiscovery = false\n\n\
         [http]\nlisten = \"{ADDRESS}:8080\"\ntls_listen = \"{ADDRESS}:8443\"\npublic_host = \"{ADDRESS}\"\n\n\
         [[dhcp]]\ninterface = \"{BRIDGE}\"\n\n[[dhcp.subnets]]\nnetwork = \"10.88.0.0/24\"\n\
         pools = [[\"10.88.0.200\", \"10.88.0.250\"]]\nrouter = \"{ADDRESS}\"\ndns = []\n\n\
         [tftp]\nlisten = \"{ADDRESS}:69\"\n\n[boot]\nipxe_dir = {}\nkernel = {}\ninitramfs = {}\n\
         arguments = [\"console=ttyS0\", \"panic=10\", \"quiet\", \"provisioner.on_failure=shell\"]\n",
        quoted(data),
        quoted(hardware),
        quoted(&project.root.join("templates")),
        quoted(&assets.images()),
        quoted(&assets.ipxe()),
        quoted(&assets.kernel()),
        quoted(&assets.initramfs()),
    )
}

fn put(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("{}: cannot be written", file.display()))
}
