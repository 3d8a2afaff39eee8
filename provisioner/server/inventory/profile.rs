//! What a machine becomes: image, operating system, template, disk, token, readiness.

use super::{
    DhcpOptions, Hardware, Values,
    values::{AbsoluteDirectory, KernelArgument, Line, Period, RecordName, Size, Ttl},
};
use provisioner_wire::order::{PartitionSelector, Place, WipeMethod};
use serde::{Deserialize, Serialize};

/// A file in `hardware/profiles/`, or the body of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: RecordName,
    /// Name of an image declaration.
    pub image: RecordName,
    pub os: OperatingSystem,
    /// Folder below `templates/machine-config/`.
    pub template: RecordName,
    /// Which disk is written; exactly one disk of the machine must match. Empty: the machine's only usable disk.
    #[serde(default)]
    pub disk: DiskHints,
    /// Where on the written disk the rendered files go.
    pub place: Placement,
    /// The node's role, `worker` or what the site calls it.
    pub role: RecordName,
    /// Template values.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub values: Values,
    #[serde(default)]
    pub token: TokenPolicy,
    #[serde(default)]
    pub ready: Readiness,
    /// How a release wipes the disk.
    #[serde(default)]
    pub wipe: WipeMethod,
    /// Of the DHCP answers to machines declared with this profile; before the subnet's.
    #[serde(default, skip_serializing_if = "DhcpOptions::is_none")]
    pub dhcp: DhcpOptions,
    /// Words added to the agent's kernel command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<KernelArgument>,
}

impl Profile {
    /// The hints that choose this machine's disk: its own where it has some.
    pub fn disk_of<'a>(&'a self, hardware: &'a Hardware) -> &'a DiskHints {
        hardware.disk.as_ref().unwrap_or(&self.disk)
    }

    /// Template values of this machine: its own go before the profile's.
    pub fn values_of(&self, hardware: &Hardware) -> Values {
        let mut values = self.values.clone();
        values.extend(hardware.values.clone());
        values
    }

    /// Words for the agent's kernel on this machine: the profile's, then its own.
    pub fn kernel_arguments_of(&self, hardware: &Hardware) -> Vec<KernelArgument> {
        self.kernel_arguments.iter().chain(&hardware.kernel_arguments).cloned().collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatingSystem {
    /// Any image whose cloud-init reads a NoCloud seed.
    CloudInit,
    Talos,
    Flatcar,
    FedoraCoreos,
    Bottlerocket,
    Kairos,
}

/// All that are given must hold for a disk to match. Texts are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskHints {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<Line>,
    /// A part of the model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Line>,
    /// Name below `/dev/disk/by-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_path: Option<Line>,
}

/// [`Place`] as declared: unknown keys and relative directories refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// `{label: …}`, `{part-label: …}`, `{type-guid: …}` or `{number: …}`.
    pub partition: PartitionSelector,
    pub directory: AbsoluteDirectory,
}

impl From<&Placement> for Place {
    fn from(placement: &Placement) -> Self {
        Self { partition: placement.partition.clone(), directory: placement.directory.as_str().to_owned() }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenPolicy {
    pub issuer: IssuerKind,
    /// From when the config is rendered; `1m` to `2h`.
    pub ttl: Ttl,
}

/// Who mints a profile's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// This server: kubeadm's format, spent by phoning home.
    #[default]
    Builtin,
}

/// How a node shows that it is up, and until when after its reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Readiness {
    pub by: ReadyBy,
    pub deadline: Period,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { by: ReadyBy::PhoneHome, deadline: Period::minutes(20) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyBy {
    /// The node sends its token to the server.
    PhoneHome,
}
