//! What the server knows of one machine: the record that [`super::lifecycle`] changes and [`crate::store`] keeps.

use super::Time;
use provisioner_wire::{
    Generation, MachineName,
    machine::{Phase, WorkflowKind},
    order::{Image, LicenceId, Place, ReadBack, Step, WipeMethod},
    report::{DiskIdentity, HardwareReport},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineId(pub Uuid);

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One machine's state. Changed only by [`super::lifecycle::on`], written only by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub id: MachineId,
    pub name: MachineName,
    /// Has a BMC that we may drive.
    pub bmc: bool,
    pub generation: Generation,
    pub phase: Phase,
    /// Why it is in this phase, for an operator.
    pub reason: String,
    /// When the phase was entered.
    pub since: Time,
    /// The running workflow, or the last one.
    pub workflow: Option<Workflow>,
    /// The live boot id; at most one (I5).
    pub boot: Option<BootGrant>,
    /// Who has claimed the live boot id.
    pub claim: Option<Claim>,
    pub licence: Option<Licence>,
    pub token: Option<Token>,
    /// The challenge that the agent of this boot has to answer, or has answered.
    #[serde(default)]
    pub challenge: Option<Challenge>,
    /// The one-shot URL of the node's config, where it fetches that itself; at most one live.
    #[serde(default)]
    pub config_url: Option<ConfigUrl>,
    /// Tokens that were asked for at an issuer and may be live there until they are revoked or have outlived themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<Owed>,
    /// The node that may stand in a cluster for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// When the agent was last heard, or the server began to listen for it; none while no agent does a step.
    #[serde(default)]
    pub heard: Option<Time>,
    /// What the agent saw last.
    pub report: Option<HardwareReport>,
    /// Compare-and-swap counter of the store.
    pub version: u64,
}

/// One one-shot run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub id: Uuid,
    pub kind: WorkflowKind,
    /// Profile asked for; only a provision has one.
    pub profile: Option<String>,
    /// What the pre-flight froze: set before any power change.
    pub target: Option<Target>,
    pub tried: BTreeMap<Act, Tried>,
    /// How many boot scripts were made in this generation.
    pub scripts: u32,
    /// How often an agent has claimed in this generation.
    pub boots: u32,
    /// Steps of this boot that are done.
    pub done: Vec<Step>,
    /// Since when it waits for another DHCP server to be silent.
    #[serde(default)]
    pub held: Option<Time>,
    /// How its node leaves its cluster.
    #[serde(default)]
    pub leaving: Leaving,
    /// Somebody wants it while another DHCP server is heard.
    #[serde(default)]
    pub despite_rogue: bool,
}

/// What a workflow makes of the machine, as it was declared when the workflow began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The image to write; only a provision has one.
    pub image: Option<Image>,
    pub place: Option<Place>,
    /// What its own operating system is booted with to install itself, where that does it (`method: netboot`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netboot: Option<Netboot>,
    /// The node fetches its config itself, from a one-shot URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_url: Option<ByUrl>,
    pub wipe: WipeMethod,
    /// How what was written is proven; none where the server has nothing to compare it with.
    #[serde(default)]
    pub read_back: Option<ReadBack>,
    pub token_ttl_ms: i64,
    /// What it has to do with a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// From the reboot to Ready.
    pub ready_deadline_ms: i64,
    /// Added to the agent's kernel command line.
    pub kernel_arguments: Vec<String>,
    /// The profile's declaration, for rendering.
    pub profile: serde_json::Value,
}

/// An operating system's own kernel and what it needs beside it. Each is a verified image of this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netboot {
    pub kernel: Image,
    /// In this order, one behind the other.
    pub initramfs: Vec<Image>,
    /// Fetched by the initramfs, where the operating system has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Image>,
    /// Added behind the words that the operating system needs.
    pub arguments: Vec<String>,
}

/// How a node reaches its config (see [`ConfigUrl`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByUrl {
    /// Only by TLS; otherwise by plain HTTP, too.
    pub tls: bool,
    /// Only from an address that this machine is known to have.
    pub own_address: bool,
    /// Names of the files that there are.
    pub files: Vec<String>,
}

/// What must be done next, by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Render and validate everything, freeze the target. No effect on the machine.
    Preflight,
    /// Network boot once, then power on or cycle. Not idempotent: paced and counted.
    NetworkBoot,
    /// Check the report against the declaration and choose the disks. No effect on the machine.
    ChooseDisks,
    /// Power off through the BMC. Reads the power state first.
    PowerOff,
    /// Delete at their issuers the tokens that nobody may use any more.
    Revoke,
    /// Look whether the node is up.
    AwaitReady,
    /// Have the node leave its cluster: cordon, drain, delete.
    Leave,
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Preflight => "preflight",
            Self::NetworkBoot => "network-boot",
            Self::ChooseDisks => "choose-disks",
            Self::PowerOff => "power-off",
            Self::Revoke => "revoke",
            Self::AwaitReady => "await-ready",
            Self::Leave => "leave",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub times: u32,
    pub last: Time,
    pub state: TriedState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriedState {
    InFlight,
    Done,
    /// Failed in a way that may pass.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootGrant {
    /// [`provisioner_wire::BootId::hash`].
    pub hash: String,
    pub expires: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub boot_hash: String,
    /// The agent's X25519 public key.
    pub public_key: String,
    pub at: Time,
}

/// Allows one write or wipe of the named disks in one generation, used once (I1, I3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    pub id: LicenceId,
    pub generation: Generation,
    pub purpose: WorkflowKind,
    pub disks: Vec<DiskIdentity>,
    pub issued: Time,
    pub spent: Option<Spent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    pub at: Time,
    /// How often the agent asked; more than once means that the write resumes.
    pub times: u32,
}

/// The server's question what the disk holds ([`provisioner_wire::read_back`]); the image counts as written only when it
/// was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 64 hexadecimal digits.
    pub nonce: String,
    /// What the server's own chunks give.
    pub expected: String,
    pub answered: bool,
}

/// What is kept of a bootstrap token: never its text (I4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the token, hexadecimal.
    pub hash: String,
    /// The claim it was minted for.
    pub boot_hash: String,
    pub expires: Time,
}

/// The one-shot URL of a node's config (design: the first fetch mints and wins). Never its text: only the hash of the
/// 128 random bits in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigUrl {
    /// [`provisioner_wire::BootId::hash`] of the random bits.
    pub hash: String,
    pub generation: Generation,
    /// Nothing can be fetched for the first time after this.
    pub expires: Time,
    /// File → the fetch that won it. A file is given out once.
    pub fetched: BTreeMap<String, String>,
    /// Hashes of the URLs that this one has killed in its generation, oldest first. Nobody who boots as this machine can
    /// ask one of them any more, unless two do.
    #[serde(default)]
    pub killed: Vec<String>,
}

impl ConfigUrl {
    /// Whether it is this URL, or one that it has killed.
    pub fn knows(&self, hash: &str) -> bool {
        self.hash == hash || self.killed.iter().any(|killed| killed == hash)
    }
}

/// What a workflow has to do with a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The server looks for itself whether the node is up; else the node phones home.
    pub watched: bool,
    /// Who mints its token, where that is not this server.
    pub minter: Option<Minter>,
    /// The node as it will stand there, where this server can reach the cluster.
    pub node: Option<Joined>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minter {
    pub cluster: String,
    /// The issuer's word, as in the profile.
    pub issuer: String,
}

/// A token that may be live at its issuer. Never its text: that is derived again from the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    pub minter: Minter,
    /// The claim it is derived from.
    pub minted_for: String,
    pub generation: Generation,
    /// When the issuer was asked first, and last.
    pub first: Time,
    pub asked: Time,
    pub expires: Time,
    /// When it was deleted at its issuer.
    #[serde(default)]
    pub revoked: Option<Time>,
}

/// A node in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub cluster: String,
    pub node: String,
    /// Goes before the name, where given.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// Its pods have so long to be moved away.
    pub drain_within_ms: i64,
}

/// How a node leaves its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leaving {
    /// Its pods are moved away first.
    #[default]
    Drained,
    /// Its pods are not waited for.
    Undrained,
    /// The cluster is not asked at all.
    Forced,
}

impl Machine {
    /// A node or a token of this machine may be in the cluster.
    pub fn needs_cluster(&self, name: &str) -> bool {
        self.joined.as_ref().is_some_and(|j| j.cluster == name)
            || self.owed.iter().any(|o| o.minter.cluster == name)
    }

    /// A machine that an operator has declared.
    pub fn declared(id: MachineId, name: MachineName, bmc: bool, now: Time) -> Self {
        Self::new(id, name, bmc, Phase::Available, "declared", now)
    }

    /// A machine that was heard on the network and that nobody has declared.
    pub fn discovered(id: MachineId, name: MachineName, now: Time) -> Self {
        Self::new(id, name, false, Phase::Discovered, "heard on the network; waits for approval", now)
    }

    fn new(id: MachineId, name: MachineName, bmc: bool, phase: Phase, reason: &str, now: Time) -> Self {
        Self {
            id,
            name,
            bmc,
            generation: Generation(0),
            phase,
            reason: reason.to_owned(),
            since: now,
            workflow: None,
            boot: None,
            claim: None,
            licence: None,
            token: None,
            challenge: None,
            config_url: None,
            owed: Vec::new(),
            joined: None,
            heard: None,
            report: None,
            version: 0,
        }
    }

    /// True while a workflow has the machine.
    pub fn is_busy(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Discovered | Phase::Rejected | Phase::Available | Phase::Ready | Phase::Failed
        )
    }

    pub fn kind(&self) -> Option<WorkflowKind> {
        self.workflow.as_ref().filter(|_| self.is_busy()).map(|w| w.kind)
    }

    pub fn target(&self) -> Option<&Target> {
        self.workflow.as_ref()?.target.as_ref()
    }

    pub fn has_done(&self, step: Step) -> bool {
        self.workflow.as_ref().is_some_and(|w| w.done.contains(&step))
    }

    /// What a token is minted for: the one-shot URL that the node fetches its config from, or the claim of the agent
    /// that places it.
    pub fn minted_for(&self) -> Option<&str> {
        match self.target().and_then(|t| t.by_url.as_ref()) {
            Some(_) => self.config_url.as_ref().map(|url| url.hash.as_str()),
            None => self.claim.as_ref().map(|claim| claim.boot_hash.as_str()),
        }
    }

    pub fn tried(&self, act: Act) -> Option<Tried> {
        self.workflow.as_ref()?.tried.get(&act).copied()
    }

    /// An operating system's own installer does what the agent would do.
    pub fn hands_over(&self) -> bool {
        self.target().is_some_and(|t| t.netboot.is_some())
    }

    /// A disk step may be touching a disk right now (I10).
    pub fn disk_step_is_live(&self) -> bool {
        let spent = self.licence.as_ref().is_some_and(|l| l.spent.is_some());
        let step = match self.phase {
            // Another program has the disk, and tells nothing.
            Phase::Netbooting => return spent,
            Phase::Installing if self.hands_over() => Step::HandOver,
            Phase::Installing => Step::WriteImage,
            Phase::Wiping => Step::Wipe,
            _ => return false,
        };
        spent && !self.has_done(step)
    }

    /// The invariants that one record can show. Asserted in release builds before each save; a breach stops the
    /// process rather than the truth.
    pub fn breach(&self) -> Option<&'static str> {
        let licence_allowed = matches!(
            self.phase,
            Phase::Booting
                | Phase::Inspected
                | Phase::Installing
                | Phase::Wiping
                | Phase::Powering
                | Phase::Netbooting
                | Phase::Placed
        );
        if self.licence.is_some() && !licence_allowed {
            return Some("I1: a licence outside a running workflow");
        }
        if self.licence.as_ref().is_some_and(|l| l.generation != self.generation) {
            return Some("I1: a licence of another generation");
        }
        let token_allowed = matches!(self.phase, Phase::Installing | Phase::Placed | Phase::Rebooting);
        if self.token.is_some() && !token_allowed {
            return Some("I4: a live token outside its workflow");
        }
        if let Some(url) = &self.config_url
            && url.generation != self.generation
        {
            return Some("I4: a config's URL of another generation");
        }
        let by_url = self.target().is_some_and(|t| t.by_url.is_some());
        if by_url
            && let Some(token) = &self.token
            && self.config_url.as_ref().is_none_or(|u| u.hash != token.boot_hash || u.fetched.is_empty())
        {
            return Some("I4: a token that nobody has fetched by its URL");
        }
        if self.phase == Phase::Netbooting
            && self.licence.as_ref().is_none_or(|licence| licence.spent.is_none())
        {
            return Some("I3: another installer has the disk without a spent licence");
        }
        if let Some(claim) = &self.claim
            && self.boot.as_ref().is_none_or(|b| b.hash != claim.boot_hash)
        {
            return Some("I5: a claim without its live boot id");
        }
        if self.phase == Phase::Ready && (self.boot.is_some() || self.claim.is_some()) {
            return Some("I2: a Ready machine with a live boot id");
        }
        if self.is_busy() && self.workflow.is_none() {
            return Some("I12: busy without a workflow");
        }
        None
    }
}
