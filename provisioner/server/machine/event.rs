//! What happened to a machine. The edges append these; [`super::lifecycle::on`] says what each changes.

use super::{
    Time,
    state::{Act, Leaving, Owed, Target},
};
use provisioner_wire::{
    Generation,
    machine::Phase,
    order::{LicenceId, Outcome, Step},
    report::{DiskIdentity, HardwareReport},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    // An operator's intents.
    Declared {
        bmc: bool,
    },
    Provision {
        workflow: Uuid,
        profile: String,
    },
    Release {
        workflow: Uuid,
    },
    /// [`Event::Release`], and how its node leaves its cluster.
    ReleaseBy {
        workflow: Uuid,
        how: Leaving,
    },
    Inspect {
        workflow: Uuid,
    },
    Retry {
        workflow: Uuid,
    },
    Cancel,
    /// The running workflow goes on although another DHCP server is heard.
    DespiteRogue,
    Approve,
    Reject,

    /// Something of the machine was heard or sent; changes nothing, stands in the timeline.
    Heard {
        what: String,
    },
    /// A boot script with this boot id was made for the machine.
    ScriptServed {
        boot_hash: String,
        expires: Time,
    },
    Claimed {
        boot_hash: String,
        public_key: String,
        report: Box<HardwareReport>,
    },
    /// The agent asks to spend its licence on these disks.
    SpendLicence {
        boot_hash: String,
        generation: Generation,
        licence: LicenceId,
        disks: Vec<DiskIdentity>,
    },
    /// The agent says that the image is on the medium; this question was drawn for it.
    Challenged {
        boot_hash: String,
        generation: Generation,
        licence: LicenceId,
        nonce: String,
        expected: String,
    },
    /// The agent's answer to the question.
    ReadBack {
        boot_hash: String,
        generation: Generation,
        proof: String,
    },
    /// A script with the operating system's own kernel was made, and a one-shot URL of this hash stands in it.
    NetbootServed {
        url_hash: String,
        expires: Time,
    },
    /// A one-shot URL of this hash was given to the agent that holds the claim, to be placed.
    ConfigUrlMade {
        boot_hash: String,
        generation: Generation,
        url_hash: String,
        expires: Time,
    },
    /// Somebody who knows the URL asks for `file`; `fetch` is this request's own random name.
    ConfigAsked {
        url_hash: String,
        generation: Generation,
        file: String,
        fetch: String,
    },
    /// An issuer is about to be asked for the claim's token.
    Minting {
        generation: Generation,
        owed: Owed,
    },
    /// The issuer did not answer; it is asked again.
    IssuerDown {
        generation: Generation,
        reason: String,
    },
    /// A config was rendered for the claim, or for the URL, with a token of this hash.
    ConfigRendered {
        boot_hash: String,
        generation: Generation,
        token_hash: String,
        token_expires: Time,
        /// SHA-256 of the rendered files.
        config_hash: String,
    },
    /// The config could not be rendered, or its token not be minted.
    ConfigRefused {
        boot_hash: String,
        generation: Generation,
        reason: String,
    },
    StepEnded {
        boot_hash: String,
        generation: Generation,
        step: Step,
        outcome: Outcome,
    },
    /// The agent's program runs and reaches the server; the edge records one now and then while it does a step.
    AgentHeard {
        boot_hash: String,
        generation: Generation,
    },
    /// The node's first boot presented a token of this hash.
    PhonedHome {
        token_hash: String,
    },

    // What the engine records of its own acts.
    /// It waits for another DHCP server to be silent.
    Held {
        generation: Generation,
        reason: String,
    },
    /// The server has started, and listens again: silence before this is not the agent's.
    Listening,
    /// Recorded before the act.
    Tried {
        act: Act,
        generation: Generation,
    },
    Acted {
        act: Act,
        generation: Generation,
        result: ActResult,
    },
    /// The phase's deadline has passed.
    DeadlinePassed {
        phase: Phase,
        since: Time,
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum ActResult {
    /// The target is frozen.
    Preflighted { target: Box<Target> },
    /// The report fits the declaration, and these disks were chosen. `licence` is the id of the licence to write.
    DisksChosen { licence: LicenceId, disks: Vec<DiskIdentity> },
    /// The BMC has done it, and it was seen to be done.
    Done,
    /// Tokens minted for these claims are gone from their issuers.
    Revoked { minted_for: Vec<String> },
    /// The node is up. `missing`: labels and taints that it should have joined with.
    IsReady { how: String, missing: Vec<String> },
    /// May pass: tried again, paced and counted.
    Failed { reason: String },
    /// Will not pass by itself.
    Refused { reason: String },
}

impl Event {
    /// What must stand in the trail as an alarm although the event was accepted.
    pub fn alarm(&self) -> Option<String> {
        match self {
            Self::Acted { result: ActResult::IsReady { missing, .. }, .. } if !missing.is_empty() => {
                Some(format!("the node joined without {}", missing.join(", ")))
            }
            _ => None,
        }
    }

    /// One word for the timeline, the API and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Declared { .. } => "declared",
            Self::Provision { .. } => "provision",
            Self::Release { .. } => "release",
            Self::ReleaseBy { .. } => "release",
            Self::Minting { .. } => "minting",
            Self::IssuerDown { .. } => "issuer-down",
            Self::Inspect { .. } => "inspect",
            Self::Retry { .. } => "retry",
            Self::Cancel => "cancel",
            Self::DespiteRogue => "despite-rogue",
            Self::Held { .. } => "held",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Heard { .. } => "heard",
            Self::ScriptServed { .. } => "script-served",
            Self::Claimed { .. } => "claimed",
            Self::SpendLicence { .. } => "spend-licence",
            Self::Challenged { .. } => "challenged",
            Self::ReadBack { .. } => "read-back",
            Self::NetbootServed { .. } => "netboot-served",
            Self::ConfigUrlMade { .. } => "config-url-made",
            Self::ConfigAsked { .. } => "config-asked",
            Self::ConfigRendered { .. } => "config-rendered",
            Self::ConfigRefused { .. } => "config-refused",
            Self::StepEnded { .. } => "step-ended",
            Self::AgentHeard { .. } => "agent-heard",
            Self::Listening => "listening",
            Self::PhonedHome { .. } => "phoned-home",
            Self::Tried { .. } => "tried",
            Self::Acted { .. } => "acted",
            Self::DeadlinePassed { .. } => "deadline-passed",
        }
    }
}

/// What folding an event came to. Kept beside the event; the edges answer from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    Accepted,
    Refused(Refusal),
}

/// Why an event changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Said about an older generation or a dead boot id: late, harmless.
    Stale,
    /// Does not fit the phase the machine is in.
    NotNow,
    /// Contradicts what is known: somebody may be lying. Always an alarm in the trail.
    Alarm,
}
