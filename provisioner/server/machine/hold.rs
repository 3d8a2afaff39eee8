//! What waits while another DHCP server is heard: a machine that boots from the network could be given that server's
//! boot file, so nothing that leads to a wipe is begun unless a person says so.

use super::{Act, Machine, Time, wants::Want};
use provisioner_wire::machine::WorkflowKind;
use std::time::Duration;

/// How long a workflow waits for the network to be safe.
pub const HELD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Between two records of a hold. Shorter than every deadline of a phase that can be held.
pub const HELD_PACE: Duration = Duration::from_secs(60);

/// A DHCP server that is not ours and was heard lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its address.
    pub server: String,
    /// It holds workflows back until then, unless it is heard again.
    pub until: Time,
}

/// What becomes of a want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Nothing holds it back.
    Free,
    /// Say that it waits, and why; the phase's time begins anew.
    Begin { reason: String },
    /// It is said already.
    Wait { until: Time },
    /// It has waited too long.
    Expire { reason: String },
}

/// Whether this want could be held back at all, so that the store need not be asked for most.
pub fn can_hold(machine: &Machine, want: &Want) -> bool {
    let workflow = machine.workflow.as_ref();
    let destroys = matches!(machine.kind(), Some(WorkflowKind::Provision | WorkflowKind::Wipe));
    let is_held = workflow.is_some_and(|w| w.held.is_some());
    let attended = workflow.is_some_and(|w| w.despite_rogue);
    destroys
        && !attended
        && match want {
            // Power leads to a boot from the network, the choice of disks to a licence.
            Want::Do(act) => matches!(act, Act::NetworkBoot | Act::ChooseDisks),
            // A deadline that passed while nobody looked at a held machine.
            Want::Expire { .. } => is_held,
            Want::Wait { .. } => false,
        }
}

/// What becomes of `want`, which [`can_hold`].
pub fn hold(machine: &Machine, want: &Want, foreign: Option<&Foreign>, now: Time) -> Hold {
    let Some(foreign) = foreign.filter(|f| f.until > now && can_hold(machine, want)) else {
        return Hold::Free;
    };
    let held = machine.workflow.as_ref().and_then(|w| w.held);
    let reason = reason(foreign);
    if held.is_some_and(|since| now.since(since) >= HELD_MAX) {
        return Hold::Expire { reason: format!("waited for {} h: {reason}", HELD_MAX.as_secs() / 3600) };
    }
    let next = machine.since + HELD_PACE;
    if held.is_some() && machine.reason == reason && now < next {
        return Hold::Wait { until: next.min(foreign.until) };
    }
    Hold::Begin { reason }
}

fn reason(foreign: &Foreign) -> String {
    format!(
        "another DHCP server is on the network ({}): no disk is wiped until it is silent, or is allowed, or somebody \
         says --despite-rogue",
        foreign.server
    )
}
