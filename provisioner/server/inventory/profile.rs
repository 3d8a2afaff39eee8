//! What a machine becomes: image, operating system, template, disk, token, readiness.

use super::{
    CaCertificate, DhcpOptions, Hardware, Values,
    values::{AbsoluteDirectory, BadValue, KernelArgument, Line, Period, RecordName, Size, Ttl},
};
use provisioner_wire::{
    order::{PartitionSelector, Place, ReadBack, WipeMethod},
    report::MarkKind,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A file in `hardware/profiles/`, or the body of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: RecordName,
    /// Name of an image declaration; with `method: netboot` that of the operating system's own kernel.
    pub image: RecordName,
    #[serde(default, skip_serializing_if = "Method::is_disk")]
    pub method: Method,
    /// What is booted beside the kernel; only with `method: netboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netboot: Option<NetbootFiles>,
    pub os: OperatingSystem,
    /// Folder below `templates/machine-config/`.
    pub template: RecordName,
    /// Which disk is written; exactly one disk of the machine must match. Empty: the machine's only usable disk.
    #[serde(default)]
    pub disk: DiskHints,
    /// Where on the written disk the rendered files go: short for `deliver: {place: …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Placement>,
    /// How the rendered files reach the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<Delivery>,
    /// The node's role, `worker` or what the site calls it.
    pub role: RecordName,
    /// Template values.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub values: Values,
    /// Name of the cluster that the node joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<RecordName>,
    #[serde(default)]
    pub token: TokenPolicy,
    #[serde(default)]
    pub ready: Readiness,
    /// How a release wipes the disks.
    #[serde(default)]
    pub wipe: WipeMethod,
    /// `sampled` (the pieces that the server asks for) or `full` (every byte, and then those pieces).
    #[serde(default)]
    pub read_back: ReadBack,
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

    /// The machine carries the cluster's control plane: by its role's name.
    pub fn is_control_plane(&self) -> bool {
        matches!(self.role.as_str(), "control-plane" | "controlplane" | "server" | "master")
    }

    /// Template values of this machine: its own go before the profile's.
    pub fn values_of(&self, hardware: &Hardware) -> Values {
        let mut values = self.values.clone();
        values.extend(hardware.values.clone());
        values
    }

    /// Where the agent puts something: the rendered files, or what points to their URL.
    pub fn placement(&self) -> Option<&Placement> {
        match (&self.place, &self.deliver) {
            (Some(place), _) | (None, Some(Delivery::Place(place))) => Some(place),
            (None, Some(Delivery::Url(url))) => url.pointer.as_ref(),
            (None, None) => None,
        }
    }

    /// Whether it boots this image from the network, as it is, and writes it to no disk.
    pub fn netboots(&self, image: &RecordName) -> bool {
        let files = self.netboot.iter().flat_map(|files| files.initramfs.iter().chain(&files.rootfs));
        self.method == Method::Netboot && files.chain([&self.image]).any(|name| name == image)
    }

    /// How the node fetches its config, where it does.
    pub fn by_url(&self) -> Option<&UrlDelivery> {
        match &self.deliver {
            Some(Delivery::Url(url)) => Some(url),
            _ => None,
        }
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

/// Who puts the operating system on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The agent writes the image.
    #[default]
    Disk,
    /// The operating system's own kernel is booted from the network and installs itself.
    Netboot,
}

impl Method {
    fn is_disk(&self) -> bool {
        *self == Self::Disk
    }
}

/// Names of image declarations; each file is served as it is, by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetbootFiles {
    /// In this order, one behind the other.
    #[serde(default)]
    pub initramfs: Vec<RecordName>,
    /// Where the operating system fetches its root file system by itself (Fedora CoreOS, Kairos).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<RecordName>,
    /// Added behind the words that the operating system needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<KernelArgument>,
}

/// How a node gets its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// The agent puts it on the written disk.
    Place(Placement),
    /// The node fetches it, once.
    Url(UrlDelivery),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UrlDelivery {
    pub over: Over,
    pub from: FetchedFrom,
    /// With `method: disk`: where the agent puts the file that leads the node to the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<Placement>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The operating system must trust this site's authority.
    #[default]
    Https,
    /// Whoever listens on the wire reads the config and its token.
    Http,
}

/// Who may fetch. An address proves nothing; it makes a stolen URL harder to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchedFrom {
    /// Where the machine's address is known (declared, or leased here), only that.
    #[default]
    OwnAddress,
    /// Behind address translation, for example.
    Anywhere,
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
    /// Marks that do not rule a disk out: `raid-member`, `lvm-member`, `bcache-member`, `zfs-member`; and, of disks that
    /// other machines may be using now, `cluster-file-system`, `shared-lvm`, `reservation`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<MarkKind>,
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
    /// A bootstrap token in the profile's cluster.
    Kubernetes,
    /// Talos' cluster secrets; with the cluster's `kubernetes`, a bootstrap token of its own.
    Talos,
    /// A join token of k3s, short-lived.
    K3s,
    /// The same for RKE2.
    Rke2,
    /// Some other program over HTTPS.
    Webhook,
}

impl IssuerKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Kubernetes => "kubernetes",
            Self::Talos => "talos",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Webhook => "webhook",
        }
    }
}

/// How a node shows that it is up, and until when after its reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Readiness {
    pub by: ReadyBy,
    pub deadline: Period,
    /// With `kubernetes-node`: the node is the one with this provider ID, in which `{name}`, `{uuid}` and `{serial}`
    /// are the machine's. Otherwise the one with the machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<Line>,
    /// With `kubernetes-node`: must be on the node when it has joined; else there is an alarm.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The same for taints, `key=value:Effect`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<ExpectedTaint>,
    /// With `tcp` and `tls`: 50000 (Talos' apid) where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// With `tls`: the authority that must have signed the node's certificate. Where the cluster has `talos` secrets,
    /// theirs is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<CaCertificate>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            by: ReadyBy::PhoneHome,
            deadline: Period::minutes(20),
            provider_id: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            port: None,
            ca_certificate: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyBy {
    /// The node sends its token to the server.
    PhoneHome,
    /// The node is Ready in the profile's cluster.
    KubernetesNode,
    /// The node takes a TCP connection.
    Tcp,
    /// The node shows a certificate that the expected authority signed.
    Tls,
    /// The agent has rebooted the machine: nothing is waited for.
    Installed,
}

/// `key=value:Effect` or `key:Effect`, as kubectl writes a taint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExpectedTaint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl TryFrom<String> for ExpectedTaint {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        let wrong = || BadValue::new(format!("{text:?} is not a taint (key=value:Effect)"));
        let (front, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (key, value) = front.split_once('=').unwrap_or((front, ""));
        if key.is_empty() || !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            return Err(wrong());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
    }
}

impl From<ExpectedTaint> for String {
    fn from(taint: ExpectedTaint) -> Self {
        taint.to_string()
    }
}

impl std::fmt::Display for ExpectedTaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let equals = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{equals}{}:{}", self.key, self.value, self.effect)
    }
}
