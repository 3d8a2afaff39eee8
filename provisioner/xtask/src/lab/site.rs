//! What the server is started with: its configuration, and the sample data centre with the lab's machines in it.

use super::Os;
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

/// What the machines become.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// The sample profile of this image.
    Image(Image),
    /// What shows this operating system's own program at work.
    Os(Os),
}

/// Writes it all below `folder`.
pub fn write(project: &Project, folder: &Path, identities: &[Identity], what: What) -> Result<Site> {
    let hardware = folder.join("hardware");
    for part in ["machines", "profiles", "images"] {
        let part = hardware.join(part);
        fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    }
    let sample = project.root.join("hardware");
    let (images, profiles) = match what {
        What::Image(image) => sampled(&sample, image)?,
        What::Os(Os::CloudInit) => sampled(&sample, Image::Debian)?,
        What::Os(Os::CloudInitSeed) => (sampled(&sample, Image::Debian)?.0, debian(SEED)),
        What::Os(Os::CloudInitUrl) => (sampled(&sample, Image::Debian)?.0, debian(BY_URL)),
        What::Os(Os::Ignition) => ignition(project)?,
    };
    put(&hardware.join("images/lab.yaml"), &images)?;
    put(&hardware.join("profiles/lab.yaml"), &profiles)?;
    let profile = profiles
        .lines()
        .find_map(|line| line.strip_prefix("name: "))
        .with_context(|| format!("{}: no profile for it", sample.display()))?;
    for identity in identities {
        put(&hardware.join(format!("machines/{}.yaml", identity.name)), &machine(identity, profile))?;
    }
    let data = folder.join("data");
    let config = folder.join("server.toml");
    put(&config, &configuration(project, &data, &hardware))?;
    Ok(Site { config, data, profile: profile.trim().to_owned() })
}

/// Image and profile as the samples have them. Only what is built: the server checks the hash file of every image.
fn sampled(sample: &Path, image: Image) -> Result<(String, String)> {
    let name = image.name();
    let images = documents(&sample.join("images"), &format!("name: {name}"))?;
    Ok((images, documents(&sample.join("profiles"), &format!("image: {name}"))?))
}

/// A profile of the Debian image that delivers in another way than the sample.
fn debian(deliver: &str) -> String {
    format!(
        "name: debian-otherwise\nimage: debian\nos: cloud-init\ntemplate: cloud-init\nrole: worker\n\
         disk: {{min_size: 128MiB}}\nvalues: {{ssh_authorized_keys: []}}\ndeliver: {deliver}\n"
    )
}

/// cloud-init is led to the URL by its seed on the disk. By plain HTTP: the image does not know this lab's authority.
const BY_URL: &str = "{url: {over: http, pointer: {partition: {part-label: root}, \
    directory: /var/lib/cloud/seed/nocloud}}}";
const SEED: &str = "{place: {partition: {new: CIDATA}, directory: /}}";

/// The stand-in for an operating system that installs itself, with the tiny image as the system.
fn ignition(project: &Project) -> Result<(String, String)> {
    let folder = project.assets().images();
    let file = |name: &str, file: &str, format: &str| {
        format!("name: {name}\nsource: {{file: {file}}}\nformat: {format}\nsha256: {{file: {file}.sha256}}\n")
    };
    let images = [
        file("installer-kernel", "installer.vmlinuz", "raw"),
        file("installer-initramfs", "installer.img", "zst"),
        file("tiny", "tiny.raw.zst", "zst"),
    ];
    let sum = folder.join("tiny.raw.zst.sha256");
    let text = fs::read_to_string(&sum).with_context(|| sum.display().to_string())?;
    let sha256 = text.split_whitespace().next().unwrap_or_default();
    let profile = format!(
        "name: lab-ignition\nimage: installer-kernel\nmethod: netboot\nos: flatcar\ntemplate: tiny-ignition\n\
         role: worker\nnetboot:\n  initramfs: [installer-initramfs]\n  arguments: [console=ttyS0, panic=10, \
         \"lab.image=http://{ADDRESS}:8080/images/{sha256}\"]\ndeliver:\n  url: {{over: https}}\n\
         disk: {{min_size: 128MiB}}\n"
    );
    Ok((images.join("---\n"), profile))
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
