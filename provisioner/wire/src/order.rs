//! The talk between agent and server: claim, order, licence, config, result, progress.
//!
//! The agent keeps no plan. It asks for its next order, does it, reports until heard, and asks again; so a reboot or a
//! lost answer on either side costs nothing but time. All bodies are JSON; all but the claim carry the channel's
//! `authorization` header (see [`crate::channel`]).

use crate::{
    BootId, Generation, MachineName,
    report::{DiskIdentity, HardwareReport},
};
use serde::{Deserialize, Serialize};

pub use crate::wipe::WipeMethod;

/// Paths below the server's plain-HTTP base URL.
pub mod path {
    pub const CLAIM: &str = "/agent/v1/claim";
    pub const ORDER: &str = "/agent/v1/order";
    pub const LICENCE: &str = "/agent/v1/licence";
    pub const CONFIG: &str = "/agent/v1/config";
    pub const RESULT: &str = "/agent/v1/result";
    pub const PROGRESS: &str = "/agent/v1/progress";
    pub const CHALLENGE: &str = "/agent/v1/challenge";
    pub const READ_BACK: &str = "/agent/v1/read-back";
}

/// Words the boot script puts on the kernel command line for the agent.
pub mod cmdline {
    /// Base URL of the server, `http://10.88.0.1:8080`.
    pub const SERVER: &str = "provisioner.server";
    /// The boot id's 32 hexadecimal digits.
    pub const BOOT_ID: &str = "provisioner.boot";
    /// The server's X25519 public key, 64 hexadecimal digits.
    pub const SERVER_KEY: &str = "provisioner.key";
    /// `shell`: open a rescue shell on the console when a step fails (lab builds).
    pub const ON_FAILURE: &str = "provisioner.on_failure";
    /// iPXE's `01-aa-bb-cc-dd-ee-ff`, PXELINUX convention.
    pub const BOOTIF: &str = "BOOTIF";
    /// The address from which the script was fetched over IPv6, with its prefix length: `fd88::100/64`.
    pub const ADDRESS6: &str = "provisioner.ip6";
}

/// `POST claim`: proof that the agent holds a boot id, with its own fresh public key. 200 [`ClaimAnswer`], 409 where
/// another key has won, 410 where the boot id is dead or unknown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    pub boot_id: BootId,
    /// X25519 public key, 64 hexadecimal digits.
    pub public_key: String,
    /// [`crate::channel::Channel::proof`] of the boot id: shows that the sender has the private key.
    pub proof: String,
    pub report: HardwareReport,
    /// Place for a TPM quote or a BMC-anchored nonce; opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAnswer {
    pub machine: MachineName,
    pub generation: Generation,
}

/// What the agent does next. Answer of `POST order`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Ask again after `seconds`; `reason` goes to the console.
    Wait {
        reason: String,
        seconds: u64,
    },
    Wipe(Wipe),
    WriteImage(WriteImage),
    PlaceConfig(PlaceConfig),
    HandOver(HandOver),
    Reboot {
        reason: String,
    },
    PowerOff {
        reason: String,
    },
}

impl Order {
    /// The step's name in results and progress.
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Wipe(_) => Some(Step::Wipe),
            Self::WriteImage(_) => Some(Step::WriteImage),
            Self::PlaceConfig(_) => Some(Step::PlaceConfig),
            Self::HandOver(_) => Some(Step::HandOver),
            Self::Reboot { .. } => Some(Step::Reboot),
            Self::PowerOff { .. } => Some(Step::PowerOff),
            Self::Wait { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Wipe,
    WriteImage,
    PlaceConfig,
    HandOver,
    Reboot,
    PowerOff,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Wipe => "wipe",
            Self::WriteImage => "write-image",
            Self::PlaceConfig => "place-config",
            Self::HandOver => "hand-over",
            Self::Reboot => "reboot",
            Self::PowerOff => "power-off",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wipe {
    /// Every disk to wipe; each needs the licence, which names them all.
    pub disks: Vec<DiskIdentity>,
    pub licence: LicenceId,
    pub method: WipeMethod,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteImage {
    pub disk: DiskIdentity,
    pub licence: LicenceId,
    pub image: Image,
    /// How the agent proves what it wrote; none: it reads all back and proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<ReadBack>,
}

/// What is read of the disk before it may boot. The server's challenge is answered in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBack {
    /// The pieces that the server asks for ([`crate::read_back`]).
    #[default]
    Sampled,
    /// Every byte, and then those pieces.
    Full,
}

/// `POST challenge`: the image is on the medium, all but the ends of the disk. 200 [`Challenge`]; the same one when it
/// is asked again. 409 where this is not the time for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskChallenge {
    pub generation: Generation,
    pub licence: LicenceId,
}

/// See [`crate::read_back::pieces`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 64 hexadecimal digits.
    pub nonce: String,
}

/// `POST read-back`: the answer to a challenge. 403 where it is not what the server's chunks say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowReadBack {
    pub generation: Generation,
    /// [`crate::read_back::Proof::finish`].
    pub proof: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub name: String,
    /// Absolute URL, or a path below the server's base URL.
    pub url: String,
    pub format: ImageFormat,
    /// SHA-256 of the file as served (compressed, where it is), 64 hexadecimal digits.
    pub sha256: String,
    /// Bytes of the file as served.
    pub size_bytes: u64,
    /// SHA-256 of the raw disk bytes, where the server knows it.
    #[serde(default)]
    pub raw_sha256: Option<String>,
    /// Bytes of the raw disk, where the server knows it.
    #[serde(default)]
    pub raw_size_bytes: Option<u64>,
    /// Where the image is to be had in chunks, which goes before `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<crate::chunks::Chunks>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    Raw,
    Gz,
    Xz,
    Zst,
    Bz2,
    /// Only as a file of the server, which takes it apart: it cannot be streamed.
    Qcow2,
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Gz => "gz",
            Self::Xz => "xz",
            Self::Zst => "zst",
            Self::Bz2 => "bz2",
            Self::Qcow2 => "qcow2",
        })
    }
}

/// The agent then asks `POST config` for a [`SealedConfig`] and puts each file where the place says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceConfig {
    pub disk: DiskIdentity,
    pub place: Place,
}

/// The operating system's own installer will write this disk: the agent looks whether it is there and free, and spends
/// the licence for it. It writes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    pub disk: DiskIdentity,
    pub licence: LicenceId,
}

/// Where on the written disk a config's files go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub partition: PartitionSelector,
    /// Directory inside that partition's file system, absolute; made where missing.
    pub directory: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionSelector {
    /// File-system label.
    Label(String),
    /// GPT partition name.
    PartLabel(String),
    /// GPT type GUID.
    TypeGuid(uuid::Uuid),
    /// 1-based number in the partition table.
    Number(u32),
    /// A small FAT with this label, made at the end of the disk; the one that is there where the image brings one. Only
    /// for the directory `/`.
    New(String),
}

/// Opaque name of a licence row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LicenceId(pub uuid::Uuid);

/// `POST licence`, before the first byte: spends the licence. 200 [`LicenceGrant`]; 403 where it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendLicence {
    pub generation: Generation,
    pub licence: LicenceId,
    /// The disks as the agent sees them now; must be those the licence names.
    pub disks: Vec<DiskIdentity>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenceGrant {
    /// The licence was spent before in this generation on the same disks: resume, do not trust what is there.
    pub resume: bool,
}

/// `POST config`: asks for the machine's config, sealed. The token in it is minted for this claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRequest {
    pub generation: Generation,
}

/// [`crate::channel::Channel::open`] turns `sealed` into the JSON of [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedConfig {
    pub sealed: String,
}

/// The rendered files. Holds secrets: no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub files: Vec<ConfigFile>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// File name below [`Place::directory`]; no `/`.
    pub name: String,
    pub contents: String,
    /// Unix permission bits.
    pub mode: u32,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config({} files)", self.files.len())
    }
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigFile({}, {} bytes)", self.name, self.contents.len())
    }
}

/// `POST result`: one step has ended. Sent until the server has heard it; hearing it twice changes nothing. 409 where
/// the generation is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    pub generation: Generation,
    pub step: Step,
    pub outcome: Outcome,
    /// Of a wipe that is done: what was done to each disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wiped: Vec<crate::wipe::Wiped>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done {
        /// SHA-256 of the bytes read back, for the steps that write; a fact for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_back_sha256: Option<String>,
    },
    /// `reason` says what failed on which disk or URL.
    Failed { reason: String },
}

/// `POST progress`: where a step stands, and new log lines. Losing one costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub generation: Generation,
    #[serde(default)]
    pub step: Option<Step>,
    pub done_bytes: u64,
    /// 0 where not known.
    pub total_bytes: u64,
    #[serde(default)]
    pub log: Vec<LogLine>,
}

/// An agent that runs sends its [`Progress`] at least this often, changed or not.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since the agent's kernel started.
    pub uptime_ms: u64,
    pub text: String,
}

/// Body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: String,
}
