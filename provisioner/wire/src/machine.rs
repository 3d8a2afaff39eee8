//! A machine as the API, the CLI and the pages show it.

use crate::{Generation, Mac, MachineName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a machine stands, in one word; the name in the API, the CLI, logs and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Heard on the network, not declared by anyone; waits for approval.
    Discovered,
    /// Refused by an operator; boots its own disk, never anything of ours.
    Rejected,
    /// Declared; no workflow has given it an operating system.
    Available,
    Assigned,
    Powering,
    Booting,
    Inspected,
    Wiping,
    Installing,
    Placed,
    /// Boots its operating system's own kernel from the network, which installs itself.
    Netbooting,
    Rebooting,
    PoweringOff,
    Ready,
    Failed,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Discovered => "discovered",
            Self::Rejected => "rejected",
            Self::Available => "available",
            Self::Assigned => "assigned",
            Self::Powering => "powering",
            Self::Booting => "booting",
            Self::Inspected => "inspected",
            Self::Wiping => "wiping",
            Self::Installing => "installing",
            Self::Placed => "placed",
            Self::Netbooting => "netbooting",
            Self::Rebooting => "rebooting",
            Self::PoweringOff => "powering-off",
            Self::Ready => "ready",
            Self::Failed => "failed",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WorkflowKind {
    Provision,
    Wipe,
    Inspect,
}

impl std::fmt::Display for WorkflowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Provision => "provision",
            Self::Wipe => "wipe",
            Self::Inspect => "inspect",
        })
    }
}

/// One machine, without any secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MachineView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: MachineName,
    pub phase: Phase,
    /// Why it is there or what it waits for, for a person.
    pub reason: String,
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub generation: Generation,
    pub workflow: Option<WorkflowKind>,
    pub profile: Option<String>,
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub macs: Vec<Mac>,
    pub uuid: Option<uuid::Uuid>,
    /// Whether the firmware enforced Secure Boot when the agent last ran there; absent where it cannot tell, or BIOS.
    pub secure_boot: Option<bool>,
    pub bmc: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Bytes done and total of the running step.
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<u64>>))]
    pub progress: Option<(u64, u64)>,
    /// How far the image is that an assigned machine waits for: `image debian: fetching, 34 %, 12 MB/s, about 3 min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Epoch milliseconds of the last change.
    pub changed_at_ms: i64,
}
